//! Room for so many connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A count with a limit that may change while the process runs.
#[derive(Debug, Default)]
pub struct Room {
    taken: AtomicUsize,
    limit: AtomicUsize,
}

/// The place of one connection, until it is dropped.
#[derive(Debug)]
pub struct Permit(Arc<Room>);

impl Room {
    pub fn of(limit: usize) -> Self {
        Self { taken: AtomicUsize::new(0), limit: AtomicUsize::new(limit) }
    }

    /// Counts from now on. Who is in beyond a lower limit stays.
    pub fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    pub fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    /// `None` if it is full.
    pub fn enter(self: &Arc<Self>) -> Option<Permit> {
        let limit = self.limit();
        let one_more = |taken: usize| (taken < limit).then_some(taken + 1);
        let entered = self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        entered.ok().map(|_| Permit(Arc::clone(self)))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lower_limit_sends_nobody_away_and_lets_nobody_in() {
        let room = Arc::new(Room::of(2));
        let mut inside: Vec<_> = (0..3).filter_map(|_| room.enter()).collect();
        assert_eq!((inside.len(), room.taken()), (2, 2));
        room.set_limit(1);
        inside.pop();
        assert!(room.enter().is_none());
        inside.pop();
        assert!(room.enter().is_some());
        assert_eq!(room.taken(), 0);
    }
}
