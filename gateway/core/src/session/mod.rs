//! Upload sessions: the record of one, and what its packets do to it.

pub mod delivered;
pub mod expiry;
pub mod limits;
pub mod live;
pub mod lost_close;
pub mod observe;
pub mod opening;
pub mod pin;
pub mod target;

pub use observe::{Effects, EndReason, Observed, Opened, observe};
pub use pin::{Pin, Progress, Subject, Timestamp, fnv1a};
pub use target::{Binding, Target, TargetHash};
