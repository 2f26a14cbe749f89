//! How often each backend may be asked, and by each client.

use std::collections::HashMap;
use std::time::Duration;

use crate::farm::BackendId;
use crate::protocol::client::ClientKey;

/// A token bucket per backend, kept as the time at which it will be full again (the generic cell
/// rate algorithm): a number per backend, whatever comes.
///
/// In any stretch of time a backend is asked at most `burst` times and once more for each
/// `interval` in it.
#[derive(Debug, Clone)]
pub struct QuestionLimiter {
    interval: Duration,
    /// What may be taken ahead of time.
    ahead: Duration,
    /// By id.
    full_at: Vec<Duration>,
}

impl QuestionLimiter {
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

/// Clients that are remembered at once, at some 50 bytes each.
const CLIENTS: usize = 16_384;

/// Once there is no more room, those who have paid are looked for so often: a walk for each
/// question of a crowd would cost more than the question.
const TIDY_EVERY: Duration = Duration::from_millis(100);

/// How much each client may have asked: a tenth of what is asked of each backend, and as much at
/// once. Whoever makes ids up takes that from the clients of lost sessions, and no more.
///
/// A client is remembered until what it had is paid for. Those for whom there is no room share one
/// measure.
#[derive(Debug, Clone)]
pub struct ClientLimiter {
    interval: Duration,
    ahead: Duration,
    /// When each may have its whole tenth at once again.
    full_at: HashMap<ClientKey, Duration>,
    others_full_at: Duration,
    /// From so many on, those who have paid are looked for.
    tidy_at: usize,
    /// But not before, where there is no more room.
    tidy_after: Duration,
}

impl ClientLimiter {
    /// `rate` is that of each backend.
    pub fn new(rate: u32) -> Self {
        let tenth = rate.div_ceil(10).max(1);
        let interval = Duration::from_secs(1) / tenth;
        Self {
            interval,
            ahead: interval * (tenth - 1),
            full_at: HashMap::new(),
            others_full_at: Duration::ZERO,
            tidy_at: CLIENTS / 16,
            tidy_after: Duration::ZERO,
        }
    }

    /// Takes one question. Returns how long to wait before it is asked; `None`, and nothing is
    /// taken, if that would be longer than `patience`.
    pub fn take(
        &mut self,
        client: ClientKey,
        now: Duration,
        patience: Duration,
    ) -> Option<Duration> {
        let count = self.full_at.len();
        if count >= self.tidy_at && (count < CLIENTS || now >= self.tidy_after) {
            self.full_at.retain(|_, full_at| *full_at > now);
            self.tidy_at = (self.full_at.len() * 2).clamp(CLIENTS / 16, CLIENTS);
            self.tidy_after = now + TIDY_EVERY;
        }
        let full_at = if self.full_at.len() < CLIENTS || self.full_at.contains_key(&client) {
            self.full_at.entry(client).or_default()
        } else {
            &mut self.others_full_at
        };
        let start = full_at.saturating_sub(self.ahead).max(now);
        let wait = start - now;
        if wait > patience {
            return None;
        }
        *full_at = (*full_at).max(start) + self.interval;
        Some(wait)
    }

    pub fn len(&self) -> usize {
        self.full_at.len()
    }

    pub fn is_empty(&self) -> bool {
        self.full_at.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn client(number: u32) -> ClientKey {
        ClientKey::of(IpAddr::from(number.to_be_bytes()))
    }

    fn millis(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn one_client_gets_a_tenth_whatever_it_asks_and_another_gets_its_own() {
        let mut pace = ClientLimiter::new(100);
        let mut asked = 0;
        // 310 a second for ten seconds.
        for number in 0..3100u64 {
            let now = Duration::from_secs(100) + Duration::from_micros(number * 1_000_000 / 310);
            asked += u32::from(pace.take(client(1), now, Duration::ZERO).is_some());
        }
        assert!((100..=111).contains(&asked), "{asked}");
        let now = Duration::from_secs(110);
        for _ in 0..10 {
            assert_eq!(pace.take(client(2), now, Duration::ZERO), Some(Duration::ZERO));
        }
        assert_eq!(pace.take(client(2), now, Duration::ZERO), None);
    }

    #[test]
    fn a_client_waits_its_turn_and_what_is_refused_costs_nothing() {
        let mut pace = ClientLimiter::new(20);
        let now = Duration::from_secs(5);
        let waits: Vec<_> = (0..6).map(|_| pace.take(client(1), now, millis(1000))).collect();
        let wait = |milliseconds| Some(millis(milliseconds));
        assert_eq!(waits, [wait(0), wait(0), wait(500), wait(1000), None, None]);
        assert_eq!(pace.take(client(1), now + millis(500), millis(1000)), wait(1000));
    }

    #[test]
    fn even_the_lowest_rate_lets_every_client_ask() {
        let mut pace = ClientLimiter::new(1);
        assert_eq!(pace.take(client(1), Duration::ZERO, Duration::ZERO), Some(Duration::ZERO));
        assert_eq!(pace.take(client(2), Duration::ZERO, Duration::ZERO), Some(Duration::ZERO));
    }

    #[test]
    fn no_number_of_clients_takes_more_memory_than_there_is() {
        let mut pace = ClientLimiter::new(100);
        for number in 0..100_000 {
            pace.take(client(number), Duration::from_secs(1), Duration::ZERO);
            assert!(pace.len() <= CLIENTS);
        }
        // Those without a place of their own share one, and are not shut out for good.
        assert_eq!(pace.take(client(100_001), millis(1050), Duration::ZERO), None);
        let later = Duration::from_secs(3);
        assert_eq!(pace.take(client(100_001), later, Duration::ZERO), Some(Duration::ZERO));
        assert!(pace.len() < 10, "{}", pace.len());
    }

    #[test]
    fn a_crowd_gets_room_a_moment_after_others_have_paid() {
        // Each question is paid for after 10 ms.
        let mut pace = ClientLimiter::new(1000);
        let now = Duration::from_secs(1);
        for number in 0..=CLIENTS as u32 {
            pace.take(client(number), now, Duration::ZERO);
        }
        let newcomer = client(u32::MAX);
        pace.take(newcomer, now + TIDY_EVERY - millis(1), Duration::ZERO);
        assert_eq!(pace.len(), CLIENTS);
        pace.take(newcomer, now + TIDY_EVERY, Duration::ZERO);
        assert_eq!(pace.len(), 1);
    }
}
