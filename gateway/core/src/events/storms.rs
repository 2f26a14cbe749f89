//! Many events of one cause become one.
//!
//! The rule: of one cause, [`BURST`] events in [`INTERVAL`] are told one by one; what comes beyond
//! is counted, and told as one event when the interval is over. As long as an interval had such a
//! rest, none is told one by one in the next. So a cause makes 10 events in its first minute and one
//! in each after that, however long the storm lasts.
//!
//! A cause is a kind, a name and a backend. There are only so many of them: kinds and names are
//! fixed, and backends come from the configuration.

use std::borrow::Cow;
use std::collections::HashMap;
use std::time::Duration;

use super::{Event, Kind};

/// Events of one cause that are told one by one.
pub const BURST: u64 = 10;

/// For how long events of one cause are counted together.
pub const INTERVAL: Duration = Duration::from_secs(60);

type Cause = (Kind, Cow<'static, str>, Option<String>);

/// The causes of which something was told lately.
#[derive(Debug, Default)]
pub struct Storms(HashMap<Cause, Storm>);

#[derive(Debug)]
struct Storm {
    begun: Duration,
    /// May still be told one by one.
    left: u64,
    /// What was not told, and the last of it.
    rest: u64,
    last: Option<Event>,
}

impl Storms {
    /// The event if it is to be told now; otherwise it is counted. `now` is of a clock that never
    /// jumps.
    pub fn offer(&mut self, event: Event, now: Duration) -> Option<Event> {
        let cause = (event.kind, event.name.clone(), event.backend.clone());
        let storm =
            self.0.entry(cause).or_insert(Storm { begun: now, left: BURST, rest: 0, last: None });
        if storm.left > 0 {
            storm.left -= 1;
            return Some(event);
        }
        storm.rest += event.count;
        storm.last = Some(event);
        None
    }

    /// What has to be told of intervals that are over.
    pub fn due(&mut self, now: Duration) -> Vec<Event> {
        self.end(|storm| now.saturating_sub(storm.begun) >= INTERVAL, now)
    }

    /// What was not told yet, of all intervals: nobody will ask later.
    pub fn all(&mut self, now: Duration) -> Vec<Event> {
        self.end(|_| true, now)
    }

    fn end(&mut self, is_over: impl Fn(&Storm) -> bool, now: Duration) -> Vec<Event> {
        let mut told = Vec::new();
        self.0.retain(|_, storm| {
            if !is_over(storm) {
                return true;
            }
            let Some(last) = storm.last.take() else { return false };
            told.push(summed(last, storm.rest));
            *storm = Storm { begun: now, left: 0, rest: 0, last: None };
            true
        });
        told.sort_unstable_by_key(Event::order);
        told
    }
}

/// The last one, standing for so many.
fn summed(last: Event, count: u64) -> Event {
    let backend = last.backend.as_ref().map(|name| format!(" of {name}")).unwrap_or_default();
    let message = format!(
        "{count} more events \"{} {}\"{backend} within a minute, the last: {}",
        last.kind.label(),
        last.name,
        last.message
    );
    let message = super::on_one_line(message);
    let session = if count > 1 { None } else { last.session };
    Event { count, message, session, ..last }
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    fn lost(backend: &str) -> Event {
        Event::new(Kind::Session, "lost", Level::Warning, "it is lost").backend(backend)
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Offers so many at once and counts those that are told.
    fn offer(storms: &mut Storms, event: &Event, count: u64, now: u64) -> usize {
        (0..count).filter_map(|_| storms.offer(event.clone(), seconds(now))).count()
    }

    fn due(storms: &mut Storms, now: u64) -> Vec<u64> {
        storms.due(seconds(now)).iter().map(|event| event.count).collect()
    }

    #[test]
    fn a_storm_is_told_as_its_beginning_and_sums() {
        let mut storms = Storms::default();
        assert_eq!(offer(&mut storms, &lost("up01"), 1_000, 5), 10);
        assert_eq!(due(&mut storms, 64), [0; 0], "the minute is not over");
        assert_eq!(due(&mut storms, 65), [990]);
        // It goes on: nothing is told one by one.
        assert_eq!(offer(&mut storms, &lost("up01"), 3, 66), 0);
        assert_eq!(due(&mut storms, 125), [3]);
        // A minute of silence, and it is over.
        assert_eq!(due(&mut storms, 185), [0; 0]);
        assert_eq!(offer(&mut storms, &lost("up01"), 2, 186), 2);
    }

    #[test]
    fn what_is_seldom_is_told_as_it_comes() {
        let mut storms = Storms::default();
        for minute in 0..20 {
            assert_eq!(offer(&mut storms, &lost("up01"), 10, minute * 60), 10);
            assert_eq!(due(&mut storms, minute * 60 + 60), [0; 0]);
        }
        assert!(storms.0.is_empty());
    }

    #[test]
    fn another_cause_is_another_storm() {
        let mut storms = Storms::default();
        assert_eq!(offer(&mut storms, &lost("up01"), 20, 0), 10);
        assert_eq!(offer(&mut storms, &lost("up02"), 5, 0), 5);
        let other = Event::new(Kind::Session, "expired", Level::Info, "").backend("up01");
        assert_eq!(offer(&mut storms, &other, 5, 0), 5);
    }

    #[test]
    fn a_sum_says_how_many_and_names_no_single_session() {
        let mut storms = Storms::default();
        let event = lost("up01").session("@0123456789abcdef");
        offer(&mut storms, &event, 12, 0);
        let [sum] = &storms.all(seconds(1))[..] else { panic!("one cause, one sum") };
        assert_eq!((sum.count, &sum.session), (2, &None));
        let said = "2 more events \"session lost\" of up01 within a minute, the last: it is lost";
        assert_eq!(sum.message, said);
        assert_eq!(sum.backend.as_deref(), Some("up01"));
        assert!(storms.all(seconds(1)).is_empty(), "told once");
    }
}
