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
    pub outcome: Findings,
    pub early: Early,
    /// We answered in the backend's place after it had begun to.
    pub replaced: bool,
    /// To be told of when it is over; `None` before there is a head, and once it was told.
    untold: Option<(Arc<Reporter>, ReportedHead)>,
}

impl Ctx {
    pub fn new(arrival: Arrival) -> Self {
        Self {
            arrival,
            admitted: Admitted::default(),
            attempt: Attempt::default(),
            answered: Answered::default(),
            outcome: Findings::default(),
            early: Early::default(),
            replaced: false,
            untold: None,
        }
    }

    /// The answer that was seen goes to nobody, and there will be another.
    pub fn begin_anew(&mut self) {
        self.outcome.fault = None;
        self.answered = Answered::default();
        self.attempt.begin_anew();
    }

    /// From now on one report tells of the request, however it ends.
    pub fn will_be_told(&mut self, reporter: &Arc<Reporter>, head: &request::Parts) {
        self.untold = Some((Arc::clone(reporter), ReportedHead::of(head)));
    }

    pub fn tell(&mut self, sent: Sent) {
        let Some((reporter, head)) = self.untold.take() else { return };
        reporter.tell(&Report {
            head: &head,
            arrival: &self.arrival,
            admitted: &self.admitted,
            attempt: &self.attempt,
            answered: &self.answered,
            findings: &self.outcome,
            sent,
        });
    }
}

/// A request that panics, or that the end of the process cuts off, has no other end than this.
impl Drop for Ctx {
    fn drop(&mut self) {
        if self.untold.is_some() && std::thread::panicking() {
            self.outcome.fault = Some(Fault::Internal);
        }
        self.tell(Sent::default());
    }
}
