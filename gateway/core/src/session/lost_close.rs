//! What "session not found" to a Close-Session means.
//!
//! Hazard: a server that has delivered the file and forgotten the session says the same as one that
//! has lost the session with all its bytes. The first happens whenever a server, its connection or
//! the gateway dies between the server's work and our record of it. A client that starts over then
//! delivers its file twice; one that is told "done" in the second case loses it.
//!
//! So the file itself is asked for, with a HEAD of the destination. What the answer proves is for
//! [`judge`]; what follows, for [`conclude`].

use std::time::Duration;

use http::StatusCode;

use super::pin::{Progress, Timestamp};
use crate::protocol::ContentRange;

/// `Date` and `Last-Modified` are whole seconds, and a server may round either way.
const ROUNDING_MS: i128 = 2_000;

/// What an operator wants done with such a Close.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LostClose {
    /// Only what is proved to be there is acknowledged.
    Verify,
    /// What had arrived counts as delivered.
    Ack,
    /// The client starts over.
    Restart,
}

/// What is to be done at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    Acknowledge,
    StartOver(Why),
    /// A file of that size at the destination proves that the session was closed.
    Look {
        total: u64,
    },
}

/// Why a client starts over without a look at its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// Bytes are known to be missing, or the size of the file is not known, so nothing could prove
    /// that it was delivered. Where no proof is asked for: not all of it is known to have arrived.
    Incomplete,
    Policy,
}

/// The size of a file that ends with this Fragment, or with the next one if that is no longer. It is
/// recorded before the Fragment is passed on: the Ack of the last one does not wait for a record, so
/// the gateway may die between the two.
pub fn ending(range: &ContentRange) -> Option<u64> {
    let ends = !range.is_empty() && range.total() - range.end() <= range.len();
    ends.then_some(range.total())
}

/// What to do when a backend answers "session not found" to a Close. `progress` is that of its
/// session.
///
/// A client sends a Close only after its server has acknowledged the whole file. So the file may have
/// been delivered where the gateway knows only that the end was passed on: the gateway looks for it,
/// and does not take it for delivered otherwise.
pub fn next(policy: LostClose, progress: Progress) -> Next {
    let known = progress.complete().is_some();
    match (policy, progress.perhaps_complete()) {
        (LostClose::Verify, Some(total)) => Next::Look { total },
        (LostClose::Ack, Some(_)) if known => Next::Acknowledge,
        (LostClose::Restart, Some(_)) if known => Next::StartOver(Why::Policy),
        _ => Next::StartOver(Why::Incomplete),
    }
}

/// The answer to a HEAD of the destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileHead {
    pub status: StatusCode,
    /// `Content-Length`; `None` where it is missing or not that of the file itself.
    pub length: Option<u64>,
    /// `Last-Modified`, by the server's clock.
    pub modified: Option<Timestamp>,
    /// `Date`, by the server's clock.
    pub date: Option<Timestamp>,
}

/// What is known of the session whose file it should be, by the gateway's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expected {
    pub total: u64,
    /// When the session was opened.
    pub created: Timestamp,
    /// When the HEAD was sent and when its answer was there: the server wrote `Date` between.
    pub asked: Timestamp,
    pub answered: Timestamp,
}

/// What the destination proves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evidence {
    /// The file is there, and is not older than the session.
    Delivered,
    /// Nothing is there, or another file.
    NotDelivered,
    Unclear,
}

/// Reads the evidence off the answer.
///
/// The two clocks may differ by any amount: `Date` tells how far the server's is from ours, within
/// the time that the answer took. What falls within that uncertainty is unclear.
pub fn judge(file: &FileHead, expected: &Expected) -> Evidence {
    match file.status {
        StatusCode::OK => {}
        StatusCode::NOT_FOUND | StatusCode::GONE => return Evidence::NotDelivered,
        _ => return Evidence::Unclear,
    }
    match file.length {
        Some(length) if length == expected.total => {}
        Some(_) => return Evidence::NotDelivered,
        None => return Evidence::Unclear,
    }
    let (Some(modified), Some(date)) = (file.modified, file.date) else {
        return Evidence::Unclear;
    };
    // The session's beginning by the server's clock, if `Date` was written at that time of ours.
    let begun = |ours: Timestamp| {
        i128::from(expected.created.0) + i128::from(date.0) - i128::from(ours.0) - ROUNDING_MS
    };
    let (one, other) = (begun(expected.asked), begun(expected.answered));
    let modified = i128::from(modified.0);
    if modified >= one.max(other) {
        Evidence::Delivered
    } else if modified < one.min(other) {
        Evidence::NotDelivered
    } else {
        Evidence::Unclear
    }
}

/// What the client is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conclusion {
    Acknowledge,
    StartOver,
    /// The client starts over although its file may be there: it has waited long enough.
    GiveUp,
    /// Not now: the client comes again, and its file is looked for again.
    Wait,
}

/// `doubt` is how long ago a Close of the session was first unclear, and `patience` how long that
/// may last.
pub fn conclude(evidence: Evidence, doubt: Duration, patience: Duration) -> Conclusion {
    match evidence {
        Evidence::Delivered => Conclusion::Acknowledge,
        Evidence::NotDelivered => Conclusion::StartOver,
        Evidence::Unclear if doubt >= patience => Conclusion::GiveUp,
        Evidence::Unclear => Conclusion::Wait,
    }
}

#[cfg(test)]
#[path = "lost_close_tests.rs"]
mod tests;
