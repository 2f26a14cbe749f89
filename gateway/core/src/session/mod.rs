//! Upload sessions: the record of one, and what its packets do to it.

pub mod expiry;
pub mod limits;
pub mod lost_close;
pub mod observe;
pub mod pin;

pub use observe::{Effects, EndReason, Observed, Opened, observe};
pub use pin::{Pin, Progress, Subject, TargetHash, Timestamp, fnv1a};
