//! What comes back: Acks of the gateway's own, and answers of backends on their way through.
//!
//! Items 30 to 43 of the conformance checklist: [`own`] 30, 31 and 34 to 37, [`passed`] 30, 32, 33 and 38 to 40,
//! [`framing`] 41 to 43; and [`bodies`] that an Ack should not have.

mod bodies;
mod framing;
mod own;
mod passed;
