//! Sessions that ended with an Ack of Close or Cancel that we saw, or by an operator.
//!
//! A client whose last Ack got lost sends the packet again. Without this memory it would hear
//! "session not found" and upload the whole file once more. And a session that an operator ended
//! must not come back by the alias that its client remembers.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use dashmap::DashMap;
use gateway_core::protocol::SessionKey;
use gateway_core::routing::Lookup;
use gateway_core::session::expiry::is_expired;
use gateway_core::session::{TargetHash, Timestamp};

use crate::store::{EndKind, Tombstone, text_of};

/// The store counts in such steps.
const AGED_EVERY: Duration = Duration::from_secs(60);

pub(super) struct Tombs {
    tombs: DashMap<SessionKey, Tomb>,
    /// Beyond it nothing more is remembered: the worst that follows is one upload sent twice.
    limit: AtomicU64,
    keep_ms: AtomicU64,
    /// Up to then, by the steady clock, the store has counted.
    aged_ms: AtomicU64,
    /// There has been one.
    any: AtomicBool,
}

struct Tomb {
    /// `None` for a session that an operator ended.
    target: Option<TargetHash>,
    ended: Timestamp,
    /// By the steady clock: when it ended, or was read from the disk.
    steady: Duration,
}

impl Tombs {
    pub(super) fn new(limit: u64, keep: Duration) -> Self {
        let tombs = Self {
            tombs: DashMap::new(),
            limit: AtomicU64::default(),
            keep_ms: AtomicU64::default(),
            aged_ms: AtomicU64::default(),
            any: AtomicBool::default(),
        };
        tombs.set_limits(limit, keep);
        tombs
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
        let kept =
            self.are_kept() && (self.tombs.len() as u64) < self.limit.load(Ordering::Relaxed);
        if kept {
            self.tombs.insert(key, Tomb { target, ended, steady });
        }
        kept
    }

    pub(super) fn find(&self, key: &SessionKey) -> Lookup {
        match self.tombs.get(key) {
            Some(tomb) => tomb.target.map_or(Lookup::Forgotten, Lookup::Ended),
            None => Lookup::Unknown,
        }
    }

    pub(super) fn has(&self, key: &SessionKey) -> bool {
        self.tombs.contains_key(key)
    }

    /// As they are stored. Which backend it was is not kept.
    pub(super) fn each(&self, visit: &mut dyn FnMut(Tombstone)) {
        for tomb in self.tombs.iter() {
            let (kind, target, status) = match tomb.target {
                Some(target) => (EndKind::Close, target, 200),
                None => (EndKind::Forgotten, TargetHash(0), 500),
            };
            let (id, backend, ended) = (text_of(tomb.key()), String::new(), tomb.ended);
            visit(Tombstone { id, kind, backend, target, status, ended });
        }
    }

    /// Forgets those that are too old by both clocks.
    pub(super) fn sweep(&self, now: Timestamp, steady: Duration) {
        let keep = self.keep();
        self.tombs.retain(|_, tomb| {
            !is_expired(now.since(tomb.ended), steady.saturating_sub(tomb.steady), keep)
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
