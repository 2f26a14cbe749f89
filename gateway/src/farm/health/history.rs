//! What a backend went through since the process began, for people.

use std::time::Duration;

use gateway_core::session::Timestamp;

/// The end of a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastProbe {
    pub at: Timestamp,
    pub took: Duration,
    pub passed: bool,
}

/// How it fared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct History {
    pub last_probe: Option<LastProbe>,
    /// How long it was down, all in all; the outage that lasts included.
    pub down: Duration,
}

/// The same, as it is kept.
#[derive(Debug, Default)]
pub(super) struct Past {
    last_probe: Option<LastProbe>,
    /// Of the outages that are over.
    down: Duration,
    /// On a steady clock.
    down_since: Option<Duration>,
}

impl Past {
    pub fn probed(&mut self, probe: LastProbe) {
        self.last_probe = Some(probe);
    }

    /// It is up or down from `now` on, on a steady clock.
    pub fn turned(&mut self, up: bool, now: Duration) {
        match (up, self.down_since) {
            (true, Some(since)) => {
                self.down += now.saturating_sub(since);
                self.down_since = None;
            }
            (false, None) => self.down_since = Some(now),
            _ => {}
        }
    }

    pub fn history(&self, now: Duration) -> History {
        let lasting = self.down_since.map_or(Duration::ZERO, |since| now.saturating_sub(since));
        History { last_probe: self.last_probe, down: self.down + lasting }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outages_add_up_also_the_one_that_lasts() {
        let seconds = Duration::from_secs;
        let mut past = Past::default();
        past.turned(true, seconds(5));
        assert_eq!(past.history(seconds(50)).down, Duration::ZERO);
        past.turned(false, seconds(100));
        past.turned(false, seconds(105));
        assert_eq!(past.history(seconds(110)).down, seconds(10));
        past.turned(true, seconds(120));
        assert_eq!(past.history(seconds(500)).down, seconds(20));
        past.turned(false, seconds(600));
        assert_eq!(past.history(seconds(601)).down, seconds(21));
    }
}
