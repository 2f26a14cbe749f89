//! A warning that is worth one line and not a thousand.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::base::clock;

const HOUR: u64 = 60 * 60;

/// Says something at most once an hour.
#[derive(Debug, Default)]
pub struct Hourly {
    /// Seconds of the steady clock when it may be said again.
    next: AtomicU64,
}

impl Hourly {
    pub fn warn(&self, say: impl FnOnce()) {
        let now = clock::steady().as_secs();
        let due = |next: u64| (now >= next).then_some(now + HOUR);
        if self.next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, due).is_ok() {
            say();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_again_at_once_is_said_once() {
        let (hourly, mut said) = (Hourly::default(), 0);
        for _ in 0..10 {
            hourly.warn(|| said += 1);
        }
        assert_eq!(said, 1);
    }
}
