//! Where a reader of events has come to.

use std::fmt;
use std::str::FromStr;

use gateway_core::session::Timestamp;

/// Behind a cursor of another process, as much of the time before it is told again: its last events
/// may have come late.
const OVERLAP: u64 = 10 * 60 * 1000;

/// A place in the ring of one process, and the time when it was that.
///
/// # Shape
/// `PROCESS-PLACE-TIME`, hexadecimal. Callers give back what they got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventCursor {
    process: u64,
    arrival: u64,
    at: Timestamp,
}

impl EventCursor {
    pub fn new(process: u64, arrival: u64, at: Timestamp) -> Self {
        Self { process, arrival, at }
    }

    /// The place in the ring of a process.
    ///
    /// # Errors
    /// It is of another one. Events since then are the ones to be looked at.
    pub(super) fn of(self, process: u64) -> Result<u64, Timestamp> {
        match self.process == process {
            true => Ok(self.arrival),
            false => Err(Timestamp(self.at.0.saturating_sub(OVERLAP))),
        }
    }
}

impl fmt::Display for EventCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{:x}-{:x}", self.process, self.arrival, self.at.0)
    }
}

impl FromStr for EventCursor {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.split('-').map(|part| {
            let digits = part.bytes().all(|digit| digit.is_ascii_hexdigit());
            u64::from_str_radix(part, 16).ok().filter(|_| digits)
        });
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(Some(process)), Some(Some(arrival)), Some(Some(at)), None) => {
                Ok(Self { process, arrival, at: Timestamp(at) })
            }
            _ => Err("not the `next` of an earlier page"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_was_written() {
        for cursor in [
            EventCursor::new(0, 0, Timestamp(0)),
            EventCursor::new(u64::MAX, 7, Timestamp(1_800_000_000_000)),
        ] {
            assert_eq!(cursor.to_string().parse(), Ok(cursor));
        }
        for other in ["", "1", "1-2", "1-2-3-4", "1-2-", "+1-2-3", "1-2-x", "1--3"] {
            assert!(other.parse::<EventCursor>().is_err(), "{other}");
        }
    }
}
