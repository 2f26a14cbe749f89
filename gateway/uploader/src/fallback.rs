//! Which host packets go to: the one that the server named, or the one of the URL.
//!
//! Pure: `now` is an argument, by a clock that never jumps.

use std::time::Duration;

/// `BITS-Host-Id` and the clock that ends it (MC-BUP 3.1.2.3, 3.1.5.1.7, 3.1.6.3).
///
/// The clock starts with the first error while a host id is in use and is stopped by the Ack of a
/// Fragment. When it runs out, packets go to the host of the URL again, with the same session.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Affinity {
    named: Option<Named>,
    running: Option<Running>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Named {
    host: String,
    /// `None`: the server named no timeout, and then the client never goes back.
    timeout: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Running {
    since: Duration,
    /// What had run in an earlier process.
    before: Duration,
}

/// The value that means "never", and the default (MC-BUP 3.1.2.3).
pub const NEVER: u64 = 0xFFFF_FFFF;

impl Affinity {
    /// Takes over what an Ack of Create-Session said.
    pub fn name(host: String, timeout_s: Option<u64>) -> Self {
        let timeout = timeout_s.filter(|&s| s < NEVER).map(Duration::from_secs);
        Self { named: Some(Named { host, timeout }), running: None }
    }

    /// The same after a restart of this program, in which the clock had run for `before`.
    pub fn resume(mut self, before: Option<Duration>, now: Duration) -> Self {
        self.running = before.map(|before| Running { since: now, before });
        self
    }

    pub fn host(&self) -> Option<&str> {
        self.named.as_ref().map(|named| named.host.as_str())
    }

    pub fn timeout_s(&self) -> Option<u64> {
        self.named.as_ref()?.timeout.map(|timeout| timeout.as_secs())
    }

    /// How long the clock has run, if it does.
    pub fn running_for(&self, now: Duration) -> Option<Duration> {
        self.running.map(|r| now.saturating_sub(r.since) + r.before)
    }

    /// Any error but session-not-found, a login challenge or 413.
    pub fn error(&mut self, now: Duration) {
        if self.named.is_some() && self.running.is_none() {
            self.running = Some(Running { since: now, before: Duration::ZERO });
        }
    }

    /// An Ack of a Fragment, 200 or 416.
    pub fn acknowledged(&mut self) {
        self.running = None;
    }

    /// How long until packets go to the host of the URL again, if nothing is acknowledged before.
    pub fn time_left(&self, now: Duration) -> Option<Duration> {
        let timeout = self.named.as_ref()?.timeout?;
        Some(timeout.saturating_sub(self.running_for(now)?))
    }

    /// Forgets the host when its time is over and returns its name, once.
    pub fn expire(&mut self, now: Duration) -> Option<String> {
        let elapsed = self.running_for(now)?;
        let over = self.named.as_ref()?.timeout.is_some_and(|timeout| elapsed >= timeout);
        if !over {
            return None;
        }
        self.running = None;
        self.named.take().map(|named| named.host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn named(timeout_s: Option<u64>) -> Affinity {
        Affinity::name("n1.up.test".to_owned(), timeout_s)
    }

    #[test]
    fn the_clock_starts_with_the_first_error_and_keeps_running() {
        let mut affinity = named(Some(10));
        assert_eq!(affinity.expire(100 * SECOND), None);
        affinity.error(100 * SECOND);
        affinity.error(105 * SECOND);
        assert_eq!(affinity.time_left(106 * SECOND), Some(4 * SECOND));
        assert_eq!(affinity.expire(109 * SECOND), None);
        assert_eq!(affinity.expire(110 * SECOND).as_deref(), Some("n1.up.test"));
        assert_eq!(affinity.host(), None);
        assert_eq!(affinity.expire(999 * SECOND), None);
    }

    #[test]
    fn an_ack_of_a_fragment_stops_the_clock() {
        let mut affinity = named(Some(10));
        affinity.error(SECOND);
        affinity.acknowledged();
        assert_eq!(affinity.expire(99 * SECOND), None);
        affinity.error(99 * SECOND);
        assert_eq!(affinity.expire(108 * SECOND), None);
        assert!(affinity.expire(109 * SECOND).is_some());
    }

    #[test]
    fn without_a_timeout_there_is_no_way_back() {
        for timeout in [None, Some(NEVER)] {
            let mut affinity = named(timeout);
            affinity.error(Duration::ZERO);
            assert_eq!(affinity.time_left(SECOND), None);
            assert_eq!(affinity.expire(Duration::MAX), None);
        }
    }

    #[test]
    fn what_ran_before_counts() {
        let mut affinity = named(Some(10)).resume(Some(8 * SECOND), 50 * SECOND);
        assert_eq!(affinity.expire(51 * SECOND), None);
        assert!(affinity.expire(52 * SECOND).is_some());
    }
}
