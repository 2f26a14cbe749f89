//! How long the servers keep idle connections, as it was observed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use gateway_core::farm::BackendId;
use gateway_core::protocol::keep_alive::{is_for_age, is_refuted};

use crate::base::by_id::ById;

/// For each server the shortest idle life of a connection that it closed, shared by all threads.
///
/// In milliseconds, plus one; 0 where none was seen.
#[derive(Debug, Default)]
pub struct IdleLives(ById<AtomicU64>);

impl IdleLives {
    /// A server has closed a connection that was idle for so long, at least.
    pub fn ended(&self, backend: BackendId, idle: Duration) {
        if !is_for_age(idle) {
            return;
        }
        let seen = millis(idle) + 1;
        let shorter = |now: u64| (now == 0 || now > seen).then_some(seen);
        let _ = self.0.at(backend).fetch_update(Ordering::Relaxed, Ordering::Relaxed, shorter);
    }

    /// A connection is open that has been idle for so long.
    pub fn still_open(&self, backend: BackendId, idle: Duration) {
        let Some(life) = self.0.get(backend) else { return };
        let now = life.load(Ordering::Relaxed);
        if now != 0 && is_refuted(Duration::from_millis(now - 1), idle) {
            // Fails if another thread has seen something since. That counts.
            let _ = life.compare_exchange(now, 0, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    pub fn observed(&self, backend: BackendId) -> Option<Duration> {
        let life = self.0.get(backend)?.load(Ordering::Relaxed);
        life.checked_sub(1).map(Duration::from_millis)
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).min(u64::MAX - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shortest_life_counts_until_a_connection_lives_longer() {
        let lives = IdleLives::default();
        let (id, other, s) = (BackendId(0), BackendId(1), Duration::from_secs);
        lives.still_open(id, s(1000));
        assert_eq!(lives.observed(id), None);
        for (seen, expected) in [(5, 5), (7, 5), (3, 3), (3, 3)] {
            lives.ended(id, s(seen));
            assert_eq!(lives.observed(id), Some(s(expected)), "{seen}");
        }
        lives.still_open(id, s(5));
        assert_eq!(lives.observed(id), Some(s(3)), "two looks may be between them");
        lives.still_open(id, s(6));
        assert_eq!(lives.observed(id), None);
        lives.ended(id, s(9));
        assert_eq!(lives.observed(id), Some(s(9)));
        assert_eq!(lives.observed(other), None);
        lives.ended(other, Duration::ZERO);
        assert_eq!(lives.observed(other), None, "it was not closed for its age");
        lives.ended(id, Duration::MAX);
        assert_eq!(lives.observed(id), Some(s(9)));
    }
}
