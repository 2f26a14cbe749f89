//! The server side of one upload: its states, and what a fragment means in each of them.
//!
//! MC-BUP 3.2.1.4 names the states STATE_INIT, STATE_RECEIVE_FRAGMENTS, STATE_NOTIFY, STATE_COMPLETE and STATE_CANCEL.
//! A session in STATE_INIT has no record yet, one in STATE_CANCEL none any more, so that three are left to be kept.

use serde::{Deserialize, Serialize};

use crate::flavour::Overlap;
use crate::packet::Range;
use crate::refusal::Refusal;

/// Where a session stands.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// STATE_RECEIVE_FRAGMENTS: bytes are missing, or nobody knows yet how many there are.
    ReceiveFragments,
    /// STATE_NOTIFY: every byte is here; the server application, if any, is to be told.
    Notify,
    /// STATE_COMPLETE: Close-Session came and the file is on its way to its destination. A repeated Close that finds
    /// no part file in this state knows that the move was done.
    Complete,
}

/// What is kept of a session.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub struct Record {
    pub id: String,
    /// Path of the request target, still percent-encoded; every packet of the session must name it.
    pub target: String,
    pub state: State,
    /// Size of the file, known from the first fragment on.
    pub total: Option<u64>,
    /// First byte still wanted: what BITS-Received-Content-Range says.
    pub next: u64,
    /// Unix milliseconds.
    pub created_ms: u64,
    /// Unix milliseconds of the last packet that moved the upload on; the session timeout counts from here.
    pub progress_ms: u64,
    /// NotifyCache: the server application was told and accepted.
    pub notified: bool,
    pub reply_url: Option<String>,
    /// The server application asked for the file at its destination as well.
    pub copy_to_destination: bool,
}

/// Limits that a fragment is held against.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    pub max_upload_size: Option<u64>,
    pub max_fragment_size: Option<u64>,
    pub overlap: Overlap,
    /// A server application wants to hear of complete uploads.
    pub notifies: bool,
}

/// What to do with a fragment.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Throw `skip` bytes of the body away and write the rest at `at`.
    Write { skip: u64, at: u64 },
    /// Everything is here already: tell the server application (again), then answer.
    Notify,
    /// Everything was here and told: repeat the last Ack.
    Repeat,
}

impl Record {
    pub fn new(id: String, target: String, now: u64) -> Self {
        Self {
            id,
            target,
            state: State::ReceiveFragments,
            total: None,
            next: 0,
            created_ms: now,
            progress_ms: now,
            notified: false,
            reply_url: None,
            copy_to_destination: false,
        }
    }

    pub fn is_expired(&self, timeout_ms: u64, now: u64) -> bool {
        now.saturating_sub(self.progress_ms) > timeout_ms
    }

    /// True when Close-Session must throw the upload away: there are no partial files. An upload whose size nobody
    /// named is an empty file.
    pub fn is_partial(&self) -> bool {
        self.state == State::ReceiveFragments && self.total.is_some()
    }

    /// Takes note of the size of the file; true when it is news. Done before a fragment is judged, because an upload
    /// whose first fragment was refused or cut off must not pass for an empty file on Close.
    pub fn learn_total(&mut self, range: Range) -> bool {
        let news = self.total.is_none();
        self.total.get_or_insert(range.total);
        news
    }

    /// Holds a fragment against what is here, MC-BUP 2.2.6 and 3.2.5.2.6.
    pub fn judge(&self, range: Range, rules: Rules) -> Result<Verdict, Refusal> {
        if self.total.is_some_and(|total| total != range.total) {
            return Err(Refusal::InvalidArgument("the file size changed"));
        }
        if rules.max_upload_size.is_some_and(|max| range.total > max) {
            return Err(Refusal::TooLarge);
        }
        if rules.max_fragment_size.is_some_and(|max| range.length > max) {
            return Err(Refusal::FragmentTooLarge);
        }
        if rules.overlap == Overlap::AnyOrder {
            return Ok(Verdict::Write { skip: 0, at: range.first });
        }
        let out_of_step = Refusal::OutOfStep { next: self.next };
        if range.first > self.next {
            return Err(out_of_step);
        }
        if self.state != State::ReceiveFragments && rules.notifies {
            return Ok(if self.notified { Verdict::Repeat } else { Verdict::Notify });
        }
        let old = (self.next - range.first).min(range.length);
        let refused = match rules.overlap {
            Overlap::Refuse => range.first < self.next,
            Overlap::RefuseOld => old == range.length && range.length > 0,
            Overlap::TakeNew | Overlap::Overwrite | Overlap::AnyOrder => false,
        };
        if refused {
            return Err(out_of_step);
        }
        let skip = if rules.overlap == Overlap::Overwrite { 0 } else { old };
        Ok(Verdict::Write { skip, at: range.first + skip })
    }

    /// The record after `range` was stored. The next offset never goes back.
    pub fn after(&self, range: Range, now: u64) -> Self {
        let mut record = self.clone();
        record.total = Some(range.total);
        record.next = self.next.max(range.first + range.length);
        record.progress_ms = now;
        if record.next == range.total {
            record.state = State::Notify;
        }
        record
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules = Rules {
        max_upload_size: None,
        max_fragment_size: None,
        overlap: Overlap::TakeNew,
        notifies: false,
    };

    fn range(first: u64, length: u64, total: u64) -> Range {
        Range { first, length, total }
    }

    /// A session of a file of 100 bytes that has `next` of them.
    fn at(next: u64) -> Record {
        let new = Record::new("id".to_owned(), "/x".to_owned(), 0);
        if next == 0 { new } else { new.after(range(0, next, 100), 5) }
    }

    fn write(skip: u64, at: u64) -> Result<Verdict, Refusal> {
        Ok(Verdict::Write { skip, at })
    }

    #[track_caller]
    fn check(next: u64, range: Range, rules: Rules, expected: Result<Verdict, Refusal>) {
        assert_eq!(at(next).judge(range, rules), expected);
    }

    #[test]
    fn fragments_in_order_are_written() {
        check(0, range(0, 10, 100), RULES, write(0, 0));
        check(10, range(10, 90, 100), RULES, write(0, 10));
    }

    #[test]
    fn a_hole_is_out_of_step() {
        check(10, range(11, 10, 100), RULES, Err(Refusal::OutOfStep { next: 10 }));
        check(0, range(1, 10, 100), RULES, Err(Refusal::OutOfStep { next: 0 }));
    }

    #[test]
    fn of_an_overlap_the_new_part_is_written() {
        check(10, range(5, 10, 100), RULES, write(5, 10));
        check(10, range(0, 10, 100), RULES, write(10, 10));
        check(10, range(0, 5, 100), RULES, write(5, 5));
    }

    #[test]
    fn strict_servers_refuse_an_overlap() {
        let strict = Rules { overlap: Overlap::Refuse, ..RULES };
        let refused = || Err(Refusal::OutOfStep { next: 10 });
        check(10, range(5, 10, 100), strict, refused());
        check(10, range(0, 10, 100), strict, refused());
        check(10, range(10, 10, 100), strict, write(0, 10));
        let old = Rules { overlap: Overlap::RefuseOld, ..RULES };
        check(10, range(5, 10, 100), old, write(5, 10));
        check(10, range(0, 10, 100), old, refused());
    }

    #[test]
    fn a_server_that_overwrites_writes_the_old_part_too() {
        let rules = Rules { overlap: Overlap::Overwrite, ..RULES };
        check(10, range(5, 10, 100), rules, write(0, 5));
        check(100, range(99, 1, 100), rules, write(0, 99));
        check(10, range(11, 10, 100), rules, Err(Refusal::OutOfStep { next: 10 }));
    }

    #[test]
    fn the_size_of_the_file_is_fixed_by_the_first_fragment() {
        let changed = Refusal::InvalidArgument("the file size changed");
        check(10, range(10, 10, 101), RULES, Err(changed));
    }

    #[test]
    fn sizes_are_limited() {
        let limited = Rules { max_upload_size: Some(100), max_fragment_size: Some(50), ..RULES };
        check(0, range(0, 10, 101), limited, Err(Refusal::TooLarge));
        check(0, range(0, 51, 100), limited, Err(Refusal::FragmentTooLarge));
        check(0, range(0, 50, 100), limited, write(0, 0));
    }

    #[test]
    fn a_repeated_final_fragment_tells_the_application_once_it_failed() {
        let rules = Rules { notifies: true, overlap: Overlap::Refuse, ..RULES };
        check(100, range(90, 10, 100), rules, Ok(Verdict::Notify));
        let mut told = at(100);
        told.notified = true;
        assert_eq!(told.judge(range(90, 10, 100), rules), Ok(Verdict::Repeat));
    }

    #[test]
    fn the_next_offset_never_goes_back() {
        let record = at(50);
        assert_eq!(record.after(range(0, 10, 100), 9).next, 50);
        assert_eq!(record.after(range(40, 20, 100), 9).next, 60);
    }

    #[test]
    fn an_upload_is_partial_until_its_last_byte() {
        assert!(!at(0).is_partial());
        assert!(at(50).is_partial());
        assert!(!at(100).is_partial());
        let empty = at(0).after(range(0, 0, 0), 9);
        assert_eq!(empty.state, State::Notify);
    }

    #[test]
    fn an_upload_whose_first_fragment_failed_is_not_an_empty_file() {
        let mut record = at(0);
        assert!(record.learn_total(range(0, 10, 100)));
        assert!(!record.learn_total(range(0, 10, 101)));
        assert!(record.is_partial());
        assert_eq!(record.total, Some(100));
    }

    #[test]
    fn progress_renews_the_lifetime() {
        assert!(!at(0).is_expired(1000, 1000));
        assert!(at(0).is_expired(1000, 1001));
        assert!(!at(10).is_expired(1000, 1005));
    }
}
