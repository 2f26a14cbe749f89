//! What Pingora keeps of one request on its way through.

use crate::exchange::arrival::Arrival;
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
        }
    }

    /// The answer that was seen goes to nobody, and there will be another.
    pub fn begin_anew(&mut self) {
        self.outcome.fault = None;
        self.answered = Answered::default();
        self.attempt.begin_anew();
    }
}
