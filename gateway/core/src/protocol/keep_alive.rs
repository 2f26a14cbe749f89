//! How long a server keeps a connection on which no request is under way.
//!
//! The hazard: a packet that is sent while its server closes the connection is lost, and some packets
//! must not be sent twice. So a connection is used only well before its server closes it. The server
//! announces that time in `Keep-Alive`; where it does not, the time is learned from the connections
//! that it closed.

use std::time::Duration;

use super::fields::{Fields, text};
use super::headers;

/// How often idle connections are looked at. What is observed of them is as coarse as that.
pub const SWEEP: Duration = Duration::from_secs(1);

/// The largest margin. It covers the way of a packet to its server, and the server's timer.
const MARGIN: Duration = Duration::from_secs(1);

/// Less the time between two looks, the shortest idle life that servers have.
const SHORTEST: Duration = Duration::from_secs(1);

/// What the `Keep-Alive` of one answer says.
///
/// # Shape
/// `Keep-Alive: timeout=5, max=100`. `timeout` is in seconds, `max` is a number of requests.
/// # Source
/// RFC 2068 section 19.7.1.1, draft-thomson-hybi-http-timeout-03 section 2.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KeepAlive {
    /// How long the server keeps the connection without a request.
    pub timeout: Option<Duration>,
    /// How many requests the server takes, see [`Announced`].
    pub max: Option<u32>,
}

impl KeepAlive {
    /// Reads the fields of an answer. What is no number says nothing; of two numbers the smaller
    /// counts.
    pub fn read(fields: &impl Fields) -> Self {
        let mut all = Self::default();
        let values = fields.values(&headers::KEEP_ALIVE).filter_map(text);
        for (name, value) in values.flat_map(|value| value.split(',')).filter_map(parameter) {
            if name.eq_ignore_ascii_case("timeout") {
                let timeout = Duration::from_secs(value);
                all.timeout = Some(all.timeout.map_or(timeout, |other| other.min(timeout)));
            } else if name.eq_ignore_ascii_case("max") {
                let value = u32::try_from(value).unwrap_or(u32::MAX);
                all.max = Some(all.max.map_or(value, |other| other.min(value)));
            }
        }
        all
    }
}

/// `name=123` or `name="123"`. A fraction or a unit behind the number is cut off.
fn parameter(text: &str) -> Option<(&str, u64)> {
    let (name, value) = text.split_once('=')?;
    let value = value.trim_start_matches([' ', '\t', '"']);
    let end = value.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(value.len());
    Some((name.trim_matches([' ', '\t']), value[..end].parse().ok()?))
}

/// What the answers on one connection have said of its end.
///
/// Servers mean two things by `max`: how many requests are left (Apache), or how many there are on
/// each connection (Node). The first `max` of a connection is obeyed as the number of all its
/// requests, which is right for both: a server that counts down takes one more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Announced {
    answers: u32,
    most: Option<u32>,
    timeout: Option<Duration>,
    last: bool,
}

impl Announced {
    /// One more answer has come.
    pub fn learn(&mut self, said: KeepAlive) {
        self.answers = self.answers.saturating_add(1);
        if let Some(max) = said.max {
            self.most.get_or_insert(max);
            self.last = max == 0;
        }
        self.timeout = said.timeout.or(self.timeout);
    }

    /// Answers that have come.
    pub fn answers(&self) -> u32 {
        self.answers
    }

    /// Whether the server takes no further request.
    pub fn is_used_up(&self) -> bool {
        self.last || self.most.is_some_and(|most| self.answers >= most)
    }

    /// What the last answer that named a time said.
    pub fn timeout(&self) -> Option<Duration> {
        self.timeout
    }
}

/// For how long after its last answer a connection may be used.
///
/// `announced` comes from the server, `observed` is the shortest idle life of its connections that
/// was seen, `configured` is `timeouts.backend_idle`. The smallest counts; the first two with a
/// margin of a quarter, and of one second at most.
pub fn usable_for(
    announced: Option<Duration>,
    observed: Option<Duration>,
    configured: Duration,
) -> Duration {
    let seen = [announced, observed].into_iter().flatten().map(less_margin);
    seen.fold(configured, Duration::min)
}

fn less_margin(life: Duration) -> Duration {
    life - (life / 4).min(MARGIN)
}

/// Whether a connection that its server closed after `idle` without a request may have been closed for
/// its age. No server is known that waits for less than 2 s (gunicorn); a server that restarts closes
/// the connections of a busy farm sooner.
pub fn is_for_age(idle: Duration) -> bool {
    idle >= SHORTEST
}

/// Whether a connection that is open after `open_for` without a request proves that its server did
/// not close another one after `observed` for its age.
///
/// A server that restarts closes connections of every age. Without this rule, what was observed then
/// would count for ever.
pub fn is_refuted(observed: Duration, open_for: Duration) -> bool {
    // A server may look at its connections now and then only, so lives differ.
    open_for > observed + (observed / 4).max(2 * SWEEP)
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};

    use super::*;

    fn read(values: &[&str]) -> KeepAlive {
        let mut fields = HeaderMap::new();
        for value in values {
            let value = HeaderValue::from_bytes(value.as_bytes()).expect("a legal value");
            fields.append(&headers::KEEP_ALIVE.name, value);
        }
        KeepAlive::read(&fields)
    }

    #[test]
    fn what_servers_write_is_read() {
        for (values, timeout, max) in [
            (&[][..], None, None),
            (&["timeout=5, max=100"], Some(5), Some(100)),
            (&["timeout=5"], Some(5), None),
            (&["max=100"], None, Some(100)),
            (&["max=100,timeout=5"], Some(5), Some(100)),
            (&["Timeout = 5 ,\tMAX = 7"], Some(5), Some(7)),
            (&["timeout=\"5\""], Some(5), None),
            (&["timeout=5.9"], Some(5), None),
            (&["timeout=5 max=100"], Some(5), None),
            (&["timeout=0, max=0"], Some(0), Some(0)),
            // The smaller of two.
            (&["timeout=9, timeout=4"], Some(4), None),
            (&["timeout=4", "timeout=9, max=3"], Some(4), Some(3)),
            // No numbers.
            (&["timeout=, max=-1"], None, None),
            (&["timeout=soon"], None, None),
            (&["300"], None, None),
            (&["timeout"], None, None),
            (&["timeouts=5, xmax=3"], None, None),
            (&["timeout=99999999999999999999"], None, None),
            (&["timeout=18446744073709551615"], Some(u64::MAX), None),
            (&["max=18446744073709551615"], None, Some(u32::MAX)),
            (&["\u{e9}timeout=5"], None, None),
        ] {
            let expected = KeepAlive { timeout: timeout.map(Duration::from_secs), max };
            assert_eq!(read(values), expected, "{values:?}");
        }
    }

    /// The `max` of one answer after the other; returns how many requests go over the connection.
    fn requests(maxima: impl IntoIterator<Item = Option<u32>>) -> u32 {
        let mut announced = Announced::default();
        for max in maxima {
            announced.learn(KeepAlive { timeout: None, max });
            if announced.is_used_up() {
                break;
            }
        }
        announced.answers()
    }

    #[test]
    fn no_connection_carries_more_requests_than_its_server_takes() {
        for (what, maxima, expected) in [
            ("counts down from 100", (0..=100).rev().map(Some).collect::<Vec<_>>(), 100),
            ("has 100 on each", vec![Some(100); 200], 100),
            ("has one on each", vec![Some(1); 5], 1),
            ("takes none", vec![Some(0)], 1),
            ("ends it at once", vec![Some(9), Some(8), Some(0), Some(9)], 3),
            ("says it now and then", vec![None, Some(3), None, None, None], 3),
            ("says it late", vec![None, None, None, Some(2), None], 4),
            ("says nothing", vec![None; 50], 50),
        ] {
            assert_eq!(requests(maxima), expected, "{what}");
        }
    }

    #[test]
    fn an_answer_that_names_no_time_leaves_the_one_that_was_named() {
        let mut announced = Announced::default();
        let said = |seconds: Option<u64>| KeepAlive {
            timeout: seconds.map(Duration::from_secs),
            max: None,
        };
        for (seconds, expected) in
            [(None, None), (Some(5), Some(5)), (None, Some(5)), (Some(60), Some(60))]
        {
            announced.learn(said(seconds));
            assert_eq!(announced.timeout(), expected.map(Duration::from_secs));
        }
    }

    #[test]
    fn a_connection_is_used_well_before_its_end() {
        let ms = Duration::from_millis;
        for (announced, observed, expected) in [
            (None, None, 90_000),
            // A quarter is left.
            (Some(0), None, 0),
            (Some(1000), None, 750),
            (Some(2000), None, 1500),
            // A second is left.
            (Some(5000), None, 4000),
            (Some(15_000), None, 14_000),
            (Some(90_500), None, 89_500),
            // The configuration counts.
            (Some(91_000), None, 90_000),
            (Some(600_000), None, 90_000),
            (Some(u64::MAX), None, 90_000),
            // What was observed, alone and beside what was announced.
            (None, Some(0), 0),
            (None, Some(2000), 1500),
            (None, Some(119_000), 90_000),
            (Some(5000), Some(2000), 1500),
            (Some(2000), Some(5000), 1500),
        ] {
            let life = usable_for(announced.map(ms), observed.map(ms), ms(90_000));
            assert_eq!(life, ms(expected), "{announced:?} {observed:?}");
        }
    }

    /// The server closes after `life`, by its own clock, which begins when it has sent the answer. A
    /// packet needs `way` to it, and so did the answer. Idle connections are looked at once a second.
    #[test]
    fn what_was_observed_of_one_connection_saves_the_next() {
        for life in (2000..130_000).step_by(250).map(Duration::from_millis) {
            for way in [0, 1, 20].map(Duration::from_millis) {
                // From the answer to the end, as both are seen here: each comes late by `way`.
                let end = life;
                for offset in (0..1000).step_by(50).map(Duration::from_millis) {
                    // The last look that found it open; the answer itself is one.
                    let looks = (end.saturating_sub(offset).as_millis() / SWEEP.as_millis()) as u32;
                    let seen = if end < offset { Duration::ZERO } else { offset + SWEEP * looks };
                    assert!(seen <= end && end - seen <= SWEEP && is_for_age(seen));
                    let usable = usable_for(None, Some(seen), Duration::MAX);
                    let arrives = way + usable + way;
                    assert!(arrives < life, "{life:?} {way:?} {offset:?}: {usable:?}");
                    assert!(!is_refuted(seen, end), "a server that keeps to its time is believed");
                }
            }
        }
    }

    #[test]
    fn the_end_of_a_connection_that_was_just_used_has_another_reason() {
        assert!(!is_for_age(Duration::ZERO) && !is_for_age(Duration::from_millis(999)));
        assert!(is_for_age(Duration::from_secs(1)));
    }

    #[test]
    fn an_observation_falls_when_a_connection_lives_longer() {
        let ms = Duration::from_millis;
        for (observed, open_for, expected) in [
            // Two looks may be between them.
            (0, 2000, false),
            (0, 2001, true),
            (1900, 3900, false),
            (1900, 4000, true),
            // Or a quarter, for servers whose timers are coarse.
            (120_000, 150_000, false),
            (120_000, 151_000, true),
        ] {
            assert_eq!(is_refuted(ms(observed), ms(open_for)), expected, "{observed} {open_for}");
        }
    }
}
