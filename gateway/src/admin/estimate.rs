//! When a drain will be over, judged by how fast what is left becomes less.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use gateway_core::farm::BackendId;

/// Long enough to span the pauses that Windows clients make, short enough to notice a change.
pub const WINDOW: Duration = Duration::from_secs(5 * 60);

/// Less than this says nothing about the rest.
const LEAST: Duration = Duration::from_secs(5);

/// Closer looks add nothing.
const GAP: Duration = Duration::from_secs(1);

/// What was seen of every backend that is being drained.
#[derive(Debug, Default)]
pub struct Estimates(HashMap<BackendId, Backlog>);

#[derive(Debug, Default)]
struct Backlog {
    seen: VecDeque<Seen>,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    at: Duration,
    bytes_left: u64,
    /// Bytes that have gone from what was left, since the first look. What is left may also grow:
    /// the size of an upload is known with its first Fragment only, and is what its client says: a
    /// few of them are more than 64 bits hold.
    done: u128,
}

/// How fast it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Estimate {
    pub bytes_per_second: u64,
    /// Over how long this was measured.
    pub over: Duration,
    /// `None` while nothing moves.
    pub time_left: Option<Duration>,
}

impl Estimates {
    /// Notes what is left at `now`, on a steady clock, and says how fast it goes; `None` until that
    /// can be said.
    pub fn note(&mut self, backend: BackendId, now: Duration, bytes_left: u64) -> Option<Estimate> {
        self.0.entry(backend).or_default().note(now, bytes_left)
    }

    /// Forgets every backend that is not being drained any more.
    pub fn retain(&mut self, draining: impl Fn(BackendId) -> bool) {
        self.0.retain(|backend, _| draining(*backend));
    }
}

impl Backlog {
    fn note(&mut self, now: Duration, bytes_left: u64) -> Option<Estimate> {
        let mut done = 0;
        if let Some(last) = self.seen.back() {
            done = last.done + u128::from(last.bytes_left.saturating_sub(bytes_left));
            // The newest look is replaced until it is far enough from the one before it.
            let before = self.seen.len().checked_sub(2).map(|at| self.seen[at].at);
            if before.is_some_and(|before| now.saturating_sub(before) < GAP) {
                self.seen.pop_back();
            }
        }
        self.seen.push_back(Seen { at: now, bytes_left, done });
        while self.seen.len() > 2 && now.saturating_sub(self.seen[1].at) >= WINDOW {
            self.seen.pop_front();
        }
        self.pace(now, bytes_left)
    }

    fn pace(&self, now: Duration, bytes_left: u64) -> Option<Estimate> {
        let (first, last) = (self.seen.front()?, self.seen.back()?);
        let over = now.saturating_sub(first.at);
        if over < LEAST {
            return None;
        }
        let done = last.done - first.done;
        let rate = done as f64 / over.as_secs_f64();
        let time_left = match (bytes_left, done) {
            (0, _) => Some(Duration::ZERO),
            (_, 0) => None,
            // What would take longer than any upload may is no estimate.
            _ => Duration::try_from_secs_f64((bytes_left as f64 / rate).ceil()).ok(),
        };
        Some(Estimate { bytes_per_second: rate as u64, over, time_left })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UP01: BackendId = BackendId(0);

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn pace(rate: u64, over: u64, left: Option<u64>) -> Option<Estimate> {
        let time_left = left.map(seconds);
        Some(Estimate { bytes_per_second: rate, over: seconds(over), time_left })
    }

    #[test]
    fn a_steady_fall_is_drawn_on() {
        let mut estimates = Estimates::default();
        assert_eq!(estimates.note(UP01, seconds(100), 1000), None);
        assert_eq!(estimates.note(UP01, seconds(102), 980), None, "too early to tell");
        assert_eq!(estimates.note(UP01, seconds(110), 900), pace(10, 10, Some(90)));
        assert_eq!(estimates.note(UP01, seconds(200), 0), pace(10, 100, Some(0)));
    }

    #[test]
    fn only_the_last_minutes_count() {
        let mut estimates = Estimates::default();
        for minute in 0..20 {
            estimates.note(UP01, seconds(minute * 60), 1_000_000 - minute * 6000);
        }
        let slower = |minute: u64| 886_000 - (minute - 19) * 60;
        let mut last = None;
        for minute in 20..=24 {
            last = estimates.note(UP01, seconds(minute * 60), slower(minute));
        }
        let left = slower(24);
        assert_eq!(last, pace(1, 300, Some(left)));
    }

    #[test]
    fn standstill_has_no_end_in_sight() {
        let mut estimates = Estimates::default();
        estimates.note(UP01, seconds(0), 500);
        assert_eq!(estimates.note(UP01, seconds(60), 500), pace(0, 60, None));
    }

    #[test]
    fn what_is_added_does_not_hide_what_is_done() {
        let mut estimates = Estimates::default();
        estimates.note(UP01, seconds(0), 100);
        estimates.note(UP01, seconds(5), 50);
        estimates.note(UP01, seconds(6), 1050);
        assert_eq!(estimates.note(UP01, seconds(10), 1000), pace(10, 10, Some(100)));
    }

    #[test]
    fn uploads_that_claim_any_size_end_nothing() {
        let mut estimates = Estimates::default();
        for minute in 0..6 {
            let left = if minute % 2 == 0 { u64::MAX } else { 0 };
            estimates.note(UP01, seconds(minute * 60), left);
        }
        let last = estimates.note(UP01, seconds(360), 0).expect("a pace");
        assert!(last.bytes_per_second > u64::MAX / 360, "{last:?}");
    }

    #[test]
    fn many_looks_a_second_are_kept_as_one() {
        let mut estimates = Estimates::default();
        for tick in 0..1000u64 {
            estimates.note(UP01, Duration::from_millis(tick * 10), 100_000 - tick * 10);
        }
        assert!(estimates.0[&UP01].seen.len() < 15, "{}", estimates.0[&UP01].seen.len());
        assert_eq!(estimates.note(UP01, seconds(10), 90_000), pace(1000, 10, Some(90)));
    }

    #[test]
    fn another_drain_begins_anew() {
        let mut estimates = Estimates::default();
        estimates.note(UP01, seconds(0), 1000);
        estimates.note(UP01, seconds(60), 400);
        estimates.retain(|_| false);
        assert_eq!(estimates.note(UP01, seconds(120), 900), None);
    }
}
