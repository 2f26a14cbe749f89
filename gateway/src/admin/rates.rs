//! How fast bytes go to each backend, by looking at how many went there now and then.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use gateway_core::farm::BackendId;

/// A rate over less than this would jump.
const LEAST: Duration = Duration::from_secs(1);

/// Looks that are kept; the oldest is where a rate begins.
const LOOKS: usize = 2;

/// What was seen of every backend.
#[derive(Debug, Default)]
pub struct Rates(HashMap<BackendId, VecDeque<(Duration, u64)>>);

impl Rates {
    /// Notes how many bytes have gone to each backend at `now`, on a steady clock; others are
    /// forgotten.
    pub fn look(&mut self, now: Duration, bytes: impl IntoIterator<Item = (BackendId, u64)>) {
        let mut before = std::mem::take(&mut self.0);
        for (backend, bytes) in bytes {
            let mut looks = before.remove(&backend).unwrap_or_default();
            if looks.len() == LOOKS {
                looks.pop_front();
            }
            looks.push_back((now, bytes));
            self.0.insert(backend, looks);
        }
    }

    /// Bytes a second up to `now`; `None` until that can be said.
    pub fn rate(&self, backend: BackendId, now: Duration, bytes: u64) -> Option<u64> {
        let (at, before) = *self.0.get(&backend)?.front()?;
        let over = now.saturating_sub(at);
        // Counters that went back belong to another backend of the same name.
        let went = bytes.checked_sub(before)?;
        (over >= LEAST).then(|| (went as f64 / over.as_secs_f64()) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UP01: BackendId = BackendId(0);

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_rate_is_that_of_the_last_two_looks_and_since() {
        let mut rates = Rates::default();
        assert_eq!(rates.rate(UP01, seconds(5), 100), None);
        rates.look(seconds(10), [(UP01, 100)]);
        assert_eq!(rates.rate(UP01, seconds(10), 100), None, "too early to tell");
        assert_eq!(rates.rate(UP01, seconds(15), 600), Some(100));
        rates.look(seconds(20), [(UP01, 1100)]);
        rates.look(seconds(30), [(UP01, 1100)]);
        assert_eq!(rates.rate(UP01, seconds(35), 1100), Some(0));
        assert_eq!(rates.rate(UP01, seconds(40), 7), None, "another backend");
        rates.look(seconds(40), []);
        assert_eq!(rates.rate(UP01, seconds(50), 1100), None, "it has left");
    }
}
