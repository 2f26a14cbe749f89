//! Sessions that ended with an Ack of Close or Cancel that we saw, or by an operator.
//!
//! A client whose last Ack got lost sends the packet again. Without this memory it would hear
//! "session not found" and upload the whole file once more. And a session that an operator ended
//! must not come back by the alias that its client remembers.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dashmap::DashMap;
use gateway_core::protocol::SessionKey;
use gateway_core::routing::Lookup;
use gateway_core::session::expiry::is_expired;
use gateway_core::session::{TargetHash, Timestamp};

pub(super) struct Tombs {
    tombs: DashMap<SessionKey, Tomb>,
    /// Beyond it nothing more is remembered: the worst that follows is one upload sent twice.
    limit: AtomicU64,
    keep_ms: AtomicU64,
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

    pub(super) fn insert(
        &self,
        key: SessionKey,
        target: Option<TargetHash>,
        ended: Timestamp,
        steady: Duration,
    ) {
        if self.are_kept() && (self.tombs.len() as u64) < self.limit.load(Ordering::Relaxed) {
            self.tombs.insert(key, Tomb { target, ended, steady });
        }
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

    /// True if some went: those that are too old by both clocks.
    pub(super) fn sweep(&self, now: Timestamp, steady: Duration) -> bool {
        let (before, keep) = (self.tombs.len(), self.keep());
        self.tombs.retain(|_, tomb| {
            !is_expired(now.since(tomb.ended), steady.saturating_sub(tomb.steady), keep)
        });
        self.tombs.len() < before
    }

    /// What ended before that is of no use on the disk. By the wall clock alone, because no other
    /// survives a restart; hence twice the time, or a gateway that is restarted every day would
    /// never get rid of anything.
    pub(super) fn worthless(&self, now: Timestamp) -> Timestamp {
        let keep = self.keep_ms.load(Ordering::Relaxed);
        Timestamp(now.0.saturating_sub(keep.saturating_mul(2)))
    }
}
