//! A rate that many share: who may send so many bytes has to wait for how long?

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const SECOND: u128 = 1_000_000_000;

/// What may go at once after a pause, in time.
const BURST: u64 = 250_000_000;

/// A token bucket, kept as the moment at which all that was let go is paid for.
///
/// Whoever asks gets the place behind those who asked before. Uploads that ask for equal pieces, one
/// at a time, and wait before they ask for the next, so get the same.
#[derive(Debug, Default)]
pub struct RateLimiter {
    /// Nanoseconds of the steady clock.
    paid: AtomicU64,
}

impl RateLimiter {
    /// Takes the next place for so many bytes. They may go after the time returned. `rate` is in
    /// bytes a second, and may be another each time; 0 counts as 1.
    pub fn take(&self, bytes: usize, rate: u64, now: Duration) -> Duration {
        let now = nanoseconds(now);
        let cost = bytes as u128 * SECOND / u128::from(rate.max(1));
        let cost = u64::try_from(cost).unwrap_or(u64::MAX);
        let start = |paid: u64| paid.max(now.saturating_sub(BURST));
        let next = |paid| Some(start(paid).saturating_add(cost));
        let paid = match self.paid.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next) {
            Ok(paid) | Err(paid) => paid,
        };
        Duration::from_nanos(start(paid).saturating_sub(now))
    }

    /// Whether something that was let go is not paid for yet. Who forgets such a pace gives its
    /// owner more than the rate.
    pub fn is_owing(&self, now: Duration) -> bool {
        self.paid.load(Ordering::Relaxed) > nanoseconds(now)
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: usize = 1024;

    /// Uploads that take turns as they are due; returns what each sent within `time`.
    fn share(rate: u64, pieces: &[usize], time: Duration) -> Vec<usize> {
        let pace = RateLimiter::default();
        let mut due: Vec<_> =
            pieces.iter().map(|&piece| pace.take(piece, rate, Duration::ZERO)).collect();
        let mut sent = vec![0; pieces.len()];
        loop {
            let next = (0..due.len()).min_by_key(|&upload| due[upload]).unwrap();
            let now = due[next];
            if now >= time {
                return sent;
            }
            sent[next] += pieces[next];
            due[next] = now + pace.take(pieces[next], rate, now);
        }
    }

    #[test]
    fn a_rate_is_kept() {
        for (rate, piece) in [(1024 * 1024, 64 * KIB), (64 * 1024, 64 * KIB), (1_000_000, 100)] {
            let sent = share(rate, &[piece], Duration::from_secs(20))[0] as f64;
            let ideal = rate as f64 * 20.0;
            assert!((sent - ideal).abs() <= ideal * 0.02 + piece as f64, "{sent} of {ideal}");
        }
    }

    #[test]
    fn uploads_share_evenly() {
        let sent = share(1024 * 1024, &[64 * KIB; 10], Duration::from_secs(60));
        let (least, most) = (sent.iter().min().unwrap(), sent.iter().max().unwrap());
        assert!(most - least <= 64 * KIB, "{sent:?}");
    }

    #[test]
    fn who_sends_little_waits_for_one_piece_of_each_other_at_most() {
        let pace = RateLimiter::default();
        let now = Duration::from_secs(10);
        for _ in 0..16 {
            pace.take(64 * KIB, 1024 * 1024, now);
        }
        let wait = pace.take(10, 1024 * 1024, now);
        assert!(wait <= Duration::from_secs(1), "{wait:?}");
    }

    #[test]
    fn a_pause_earns_a_quarter_of_a_second_and_no_more() {
        let pace = RateLimiter::default();
        let now = Duration::from_secs(3600);
        assert_eq!(pace.take(250, 1000, now), Duration::ZERO);
        assert_eq!(pace.take(1000, 1000, now), Duration::ZERO);
        assert_eq!(pace.take(1, 1000, now), Duration::from_secs(1));
        assert!(pace.is_owing(now) && !pace.is_owing(now + Duration::from_millis(1001)));
    }

    #[test]
    fn no_number_overflows() {
        for (rate, bytes) in [(0, usize::MAX), (u64::MAX, usize::MAX), (1, 1)] {
            let pace = RateLimiter::default();
            pace.take(bytes, rate, Duration::MAX);
            pace.take(bytes, rate, Duration::ZERO);
        }
    }
}
