//! Texts that some sessions have and a million of them must not.

use std::sync::atomic::{AtomicU64, Ordering};

/// What keeping one costs besides its bytes.
const OVERHEAD: u64 = 64;

/// How many bytes of such texts there may be.
#[derive(Debug)]
pub(super) struct TextBudget {
    used: AtomicU64,
    most: u64,
}

impl TextBudget {
    pub(super) fn new(most: u64) -> Self {
        Self { used: AtomicU64::new(0), most }
    }

    /// False if there is no room for one more.
    pub(super) fn take(&self, text: &[u8]) -> bool {
        let cost = Self::cost(text);
        let more = |bytes: u64| (bytes + cost <= self.most).then_some(bytes + cost);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    pub(super) fn give(&self, text: &[u8]) {
        self.used.fetch_sub(Self::cost(text), Ordering::Relaxed);
    }

    #[cfg(test)]
    pub(super) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    pub(super) fn cost(text: &[u8]) -> u64 {
        text.len() as u64 + OVERHEAD
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_back_makes_room_for_the_next_one() {
        let budget = TextBudget::new(2 * (OVERHEAD + 3));
        assert!(budget.take(b"abc") && budget.take(b"abc"));
        assert!(!budget.take(b""));
        budget.give(b"abc");
        assert!(!budget.take(b"abcd") && budget.take(b"abc"));
    }
}
