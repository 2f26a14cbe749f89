//! Certificates that are about to end.

use std::collections::HashMap;

use gateway_core::events::{Ending, Event, Kind, Level, ending};
use gateway_core::session::Timestamp;

use super::Events;
use crate::telemetry::problems::Certificate;

const DAY: i64 = 24 * 60 * 60;

/// What was said of each certificate file.
#[derive(Debug, Default)]
pub struct Expiries(HashMap<String, Ending>);

impl Expiries {
    /// Tells what has come nearer to its end since the last look.
    pub fn look(&mut self, certificates: &[Certificate], now: Timestamp, events: &Events) {
        self.0.retain(|path, _| certificates.iter().any(|one| one.path == *path));
        for Certificate { path, ends } in certificates {
            let left = ends.saturating_sub_unsigned(now.0 / 1000);
            let near = ending(left);
            let before = self.0.insert(path.clone(), near).unwrap_or(Ending::Far);
            if near > before {
                say(path, near, left, events);
            }
        }
    }
}

fn say(path: &str, near: Ending, left: i64, events: &Events) {
    let certificate = |name, level, message: String| {
        events.tell(Event::new(Kind::Certificate, name, level, message));
    };
    if near == Ending::Over {
        tracing::error!(certificate = path, "a certificate has ended: peers refuse it");
        let message = format!("the certificate {path} has ended");
        return certificate("ended", Level::Error, message);
    }
    let days = left / DAY;
    tracing::warn!(certificate = path, days, "a certificate ends soon");
    let when = match days {
        0 => "within a day".to_owned(),
        1 => "in 1 day".to_owned(),
        days => format!("in {days} days"),
    };
    certificate("ending", Level::Warning, format!("the certificate {path} ends {when}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_step_towards_the_end_is_told_once() {
        let (events, mut expiries) = (Events::default(), Expiries::default());
        let mut look = |days: i64| {
            let ends = 100 * DAY + days * DAY;
            let certificates = [Certificate { path: "a.pem".to_owned(), ends }];
            expiries.look(&certificates, Timestamp(100 * DAY as u64 * 1000), &events);
            let told = events.all();
            told.last().map(|event| event.message.clone()).unwrap_or_default()
        };
        assert_eq!(look(30), "");
        assert_eq!(look(13), "the certificate a.pem ends in 13 days");
        assert_eq!(look(12), "the certificate a.pem ends in 13 days", "told once");
        assert_eq!(look(5), "the certificate a.pem ends in 5 days");
        assert_eq!(look(0), "the certificate a.pem ends within a day");
        assert_eq!(look(-1), "the certificate a.pem has ended");
        // It was renewed, and comes to its end again.
        assert_eq!(look(90), "the certificate a.pem has ended");
        assert_eq!(look(1), "the certificate a.pem ends in 1 day");
    }
}
