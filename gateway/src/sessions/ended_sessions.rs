//! Sessions that ended with an Ack of Close or Cancel that we saw, or by an operator.
//!
//! A client whose last Ack got lost sends the packet again. Without this memory it would hear
//! "session not found" and upload the whole file once more. And a session that an operator ended
//! must not come back by the alias that its client remembers.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use gateway_core::protocol::SessionKey;
use gateway_core::routing::Lookup;
use gateway_core::session::expiry::is_expired;
use gateway_core::session::{TargetHash, Timestamp};

use super::lists::{Entry, Lists};
use crate::sessions::store::{EndKind, Tombstone, text_of};

/// The store counts in such steps.
const AGED_EVERY: Duration = Duration::from_secs(60);

pub(super) struct EndedSessions {
    ended_sessions: Lists<EndedSession>,
    /// Beyond it nothing more is remembered: the worst that follows is one upload sent twice.
    limit: AtomicU64,
    keep_ms: AtomicU64,
    /// Up to then, by the steady clock, the store has counted.
    aged_ms: AtomicU64,
    /// There has been one.
    any: AtomicBool,
}

/// In [`EndedSession::steady`]: an operator ended it, so its target is of no account. The bit would be the
/// clock's after 68 years.
const FORGOTTEN: u32 = 1 << 31;

/// Its times are whole seconds. That of the wall clock is rounded up, and both clocks have to agree: so
/// it is not forgotten early, and no session that it ended counts as a later one.
struct EndedSession {
    key: SessionKey,
    target: TargetHash,
    /// Seconds of the wall clock, which end in the year 2106.
    ended: u32,
    /// Seconds of the steady clock: when it ended, or was read from the disk; with [`FORGOTTEN`] in it.
    steady: u32,
}

const _: () = assert!(size_of::<EndedSession>() == 32);

impl EndedSession {
    /// Without a target, a session that an operator ended.
    fn new(
        key: SessionKey,
        target: Option<TargetHash>,
        ended: Timestamp,
        steady: Duration,
    ) -> Self {
        let ended = u32::try_from(ended.0.div_ceil(1000)).unwrap_or(u32::MAX);
        let seconds = u32::try_from(steady.as_secs()).unwrap_or(u32::MAX) & !FORGOTTEN;
        let mark = if target.is_none() { FORGOTTEN } else { 0 };
        Self { key, target: target.unwrap_or_default(), ended, steady: seconds | mark }
    }

    fn target(&self) -> Option<TargetHash> {
        (self.steady & FORGOTTEN == 0).then_some(self.target)
    }

    fn ended(&self) -> Timestamp {
        Timestamp(u64::from(self.ended) * 1000)
    }

    fn steady(&self) -> Duration {
        Duration::from_secs((self.steady & !FORGOTTEN).into())
    }
}

impl Entry for EndedSession {
    fn key(&self) -> &SessionKey {
        &self.key
    }
}

impl EndedSessions {
    pub(super) fn new(limit: u64, keep: Duration) -> Self {
        let ended_sessions = Self {
            ended_sessions: Lists::default(),
            limit: AtomicU64::default(),
            keep_ms: AtomicU64::default(),
            aged_ms: AtomicU64::default(),
            any: AtomicBool::default(),
        };
        ended_sessions.set_limits(limit, keep);
        ended_sessions
    }

    pub(super) fn set_limits(&self, limit: u64, keep: Duration) {
        self.limit.store(limit, Ordering::Relaxed);
        let keep = u64::try_from(keep.as_millis()).unwrap_or(u64::MAX);
        self.keep_ms.store(keep, Ordering::Relaxed);
    }

    fn keep(&self) -> Duration {
        Duration::from_millis(self.keep_ms.load(Ordering::Relaxed))
    }

    /// Whether ends are remembered at all.
    pub(super) fn are_kept(&self) -> bool {
        !self.keep().is_zero()
    }

    /// Whether there is room for it.
    pub(super) fn insert(
        &self,
        key: SessionKey,
        target: Option<TargetHash>,
        ended: Timestamp,
        steady: Duration,
    ) -> bool {
        self.any.store(true, Ordering::Relaxed);
        let kept = self.are_kept()
            && (self.ended_sessions.len() as u64) < self.limit.load(Ordering::Relaxed);
        if kept {
            self.ended_sessions.put(EndedSession::new(key, target, ended, steady));
        }
        kept
    }

    pub(super) fn find(&self, key: &SessionKey) -> Lookup {
        self.ended_sessions.find(key, |found| match found.first() {
            Some(session_end) => session_end.target().map_or(Lookup::Forgotten, Lookup::Ended),
            None => Lookup::Unknown,
        })
    }

    pub(super) fn has(&self, key: &SessionKey) -> bool {
        self.ended_sessions.find(key, |found| !found.is_empty())
    }

    /// As they are stored. Which backend it was is not kept.
    pub(super) fn each(&self, visit: &mut dyn FnMut(Tombstone)) {
        self.ended_sessions.each(|session_end| {
            let (kind, target, status) = match session_end.target() {
                Some(target) => (EndKind::Close, target, 200),
                None => (EndKind::Forgotten, TargetHash(0), 500),
            };
            let (id, backend, ended) =
                (text_of(&session_end.key), String::new(), session_end.ended());
            visit(Tombstone { id, kind, backend, target, status, ended });
        });
    }

    /// Forgets those that are too old by both clocks.
    pub(super) fn sweep_expired(&self, now: Timestamp, steady: Duration) {
        let keep = self.keep();
        self.ended_sessions.retain(|session_end| {
            !is_expired(
                now.since(session_end.ended()),
                steady.saturating_sub(session_end.steady()),
                keep,
            )
        });
    }

    /// For how long the process has run since this was asked for last, and for how long tombstones
    /// are kept. `None` if it is not worth a write yet, or there are none.
    pub(super) fn aged(&self, steady: Duration) -> Option<(Duration, Duration)> {
        let keep = self.keep();
        let now = u64::try_from(steady.as_millis()).unwrap_or(u64::MAX);
        let ran = Duration::from_millis(now.saturating_sub(self.aged_ms.load(Ordering::Relaxed)));
        if !self.any.load(Ordering::Relaxed) || ran < AGED_EVERY.min(keep / 4) {
            return None;
        }
        self.aged_ms.store(now, Ordering::Relaxed);
        Some((ran, keep))
    }
}

#[cfg(test)]
mod tests {
    use gateway_core::protocol::SessionId;

    use super::*;

    fn key(id: &str) -> SessionKey {
        SessionId::parse(id).expect("a legal id").key().clone()
    }

    #[test]
    fn an_end_is_remembered_for_no_less_than_its_time() {
        let ended_sessions = EndedSessions::new(10, Duration::from_secs(60));
        let milliseconds = Duration::from_millis;
        let find = || ended_sessions.find(&key("a"));
        assert!(ended_sessions.insert(key("a"), None, Timestamp(1), milliseconds(10_001)));
        // The last one counts.
        assert!(ended_sessions.insert(
            key("a"),
            Some(TargetHash(7)),
            Timestamp(1_001),
            milliseconds(10_001)
        ));
        for (wall, steady) in [(61_001, 71_001), (62_001, 69_999)] {
            ended_sessions.sweep_expired(Timestamp(wall), milliseconds(steady));
            assert_eq!(find(), Lookup::Ended(TargetHash(7)));
        }
        ended_sessions.sweep_expired(Timestamp(62_001), milliseconds(71_001));
        assert_eq!(find(), Lookup::Unknown);
    }

    #[test]
    fn an_end_is_stored_as_it_was_to_the_second() {
        let ended_sessions = EndedSessions::new(3, Duration::from_secs(60));
        for (id, target, ended) in
            [("a", Some(TargetHash(7)), 1_800_000_000_001), ("b", None, u64::MAX), ("c", None, 0)]
        {
            assert!(ended_sessions.insert(key(id), target, Timestamp(ended), Duration::MAX));
        }
        assert!(
            !ended_sessions.insert(key("d"), None, Timestamp(0), Duration::ZERO),
            "there is no room"
        );
        let mut all = Vec::new();
        ended_sessions.each(&mut |session_end| {
            all.push((session_end.id, session_end.kind, session_end.target.0, session_end.ended.0))
        });
        all.sort_by(|one, other| one.0.cmp(&other.0));
        let latest = u64::from(u32::MAX) * 1000;
        let expected = [
            ("a".to_owned(), EndKind::Close, 7, 1_800_000_001_000),
            ("b".to_owned(), EndKind::Forgotten, 0, latest),
            ("c".to_owned(), EndKind::Forgotten, 0, 0),
        ];
        assert_eq!(all, expected);
        assert!(ended_sessions.has(&key("b")) && !ended_sessions.has(&key("d")));
        assert_eq!(ended_sessions.find(&key("b")), Lookup::Forgotten);
    }
}
