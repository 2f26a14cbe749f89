//! What Pingora keeps of one request on its way through.

use std::sync::Arc;

use gateway_core::fault::Fault;
use http::request;

use crate::exchange::arrival::Arrival;
use crate::exchange::report::{Report, ReportedHead, Reporter, Sent};
use crate::exchange::state::{Admitted, Answered, Attempt, Findings};

use super::early::Early;

pub struct Ctx {
    pub arrival: Arrival,
    pub admitted: Admitted,
    pub attempt: Attempt,
    pub answered: Answered,
    pub findings: Findings,
    pub early: Early,
    /// We answered in the backend's place after it had begun to.
    pub replaced: bool,
    /// What the client was sent so far.
    pub sent: Sent,
    /// The report that its end owes; `None` before there is a head, and once it was made.
    owed: Option<(Arc<Reporter>, ReportedHead)>,
}

impl Ctx {
    pub fn new(arrival: Arrival) -> Self {
        Self {
            arrival,
            admitted: Admitted::default(),
            attempt: Attempt::default(),
            answered: Answered::default(),
            findings: Findings::default(),
            early: Early::default(),
            replaced: false,
            sent: Sent::default(),
            owed: None,
        }
    }

    /// The answer that was seen goes to nobody, and there will be another.
    pub fn begin_anew(&mut self) {
        self.findings.fault = None;
        debug_assert!(self.answered.opened.is_none(), "a session is opened once");
        self.answered = Answered::default();
        self.attempt.begin_anew();
    }

    /// From now on the request owes one report, however it ends.
    pub fn owe_report(&mut self, reporter: &Arc<Reporter>, head: &request::Parts) {
        self.owed = Some((Arc::clone(reporter), ReportedHead::of(head)));
    }

    pub fn report(&mut self) {
        let Some((reporter, head)) = self.owed.take() else { return };
        reporter.tell(&Report {
            head: &head,
            arrival: &self.arrival,
            admitted: &self.admitted,
            attempt: &self.attempt,
            answered: &self.answered,
            findings: &self.findings,
            sent: self.sent,
        });
    }
}

/// A request that panics, or that the end of the process cuts off, has no other end than this.
impl Drop for Ctx {
    fn drop(&mut self) {
        if self.owed.is_some() && std::thread::panicking() {
            self.findings.fault = Some(Fault::Internal);
        }
        self.report();
    }
}
