//! How often each backend may be asked.

use std::time::Duration;

use crate::farm::BackendId;

/// A token bucket per backend, kept as the time at which it will be full again (the generic cell
/// rate algorithm): a number per backend, whatever comes.
///
/// In any stretch of time a backend is asked at most `burst` times and once more for each
/// `interval` in it.
#[derive(Debug, Clone)]
pub struct Pace {
    interval: Duration,
    /// What may be taken ahead of time.
    ahead: Duration,
    /// By id.
    full_at: Vec<Duration>,
}

impl Pace {
    /// `rate` questions a second, and as many at once.
    pub fn new(rate: u32) -> Self {
        let rate = rate.max(1);
        let interval = Duration::from_secs(1) / rate;
        Self { interval, ahead: interval * (rate - 1), full_at: Vec::new() }
    }

    /// Takes one question to each of the backends. Returns how long to wait before they are asked;
    /// `None`, and nothing is taken, if that would be longer than `patience`.
    pub fn take(
        &mut self,
        backends: &[BackendId],
        now: Duration,
        patience: Duration,
    ) -> Option<Duration> {
        let slots = backends.iter().map(|backend| backend.0 as usize + 1).max().unwrap_or(0);
        if self.full_at.len() < slots {
            self.full_at.resize(slots, Duration::ZERO);
        }
        let earliest = |backend: &BackendId| {
            self.full_at.get(backend.0 as usize).map_or(now, |at| at.saturating_sub(self.ahead))
        };
        let start = backends.iter().map(earliest).max().unwrap_or(now).max(now);
        let wait = start - now;
        if wait > patience {
            return None;
        }
        for backend in backends {
            if let Some(at) = self.full_at.get_mut(backend.0 as usize) {
                *at = (*at).max(start) + self.interval;
            }
        }
        Some(wait)
    }
}
