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
use gateway_core::session::TargetHash;

pub(super) struct Tombs {
    tombs: DashMap<SessionKey, Tomb>,
    /// Beyond it nothing more is remembered: the worst that follows is one upload sent twice.
    limit: AtomicU64,
    keep_ms: AtomicU64,
}

struct Tomb {
    /// `None` for a session that an operator ended.
    target: Option<TargetHash>,
    /// By the steady clock.
    ended: Duration,
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

    pub(super) fn insert(&self, key: SessionKey, target: Option<TargetHash>, steady: Duration) {
        if !self.keep().is_zero() && (self.tombs.len() as u64) < self.limit.load(Ordering::Relaxed)
        {
            self.tombs.insert(key, Tomb { target, ended: steady });
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

    pub(super) fn sweep(&self, steady: Duration) {
        let keep = self.keep();
        self.tombs.retain(|_, tomb| steady.saturating_sub(tomb.ended) < keep);
    }
}
