//! Where a packet goes.

pub mod decide;
pub mod failover;
pub mod ownership;
pub mod placement;
pub mod recovery;
pub mod refusal;
pub mod retry;

pub use decide::{
    Decision, Evidence, Holder, Lookup, Policy, UnknownSession, Why, decide, decide_plain, reassign,
};
pub use failover::{Absence, Failover, Step, Then};
pub use placement::{Loads, Outstanding, Placement};
pub use refusal::{Refusal, Refusers};
pub use retry::{Failure, may_retry};
