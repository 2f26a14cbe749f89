//! Passing the listening sockets from a running process to its successor.
//!
//! Both sides keep them open: while a successor loads, the predecessor goes on accepting, and a
//! connection in the kernel's queue belongs to whoever accepts it first. Nothing is refused at any
//! moment, and a successor that dies on the way leaves everything as it was.
//!
//! ```text
//! successor                         predecessor
//!    | --- ask {version} ---------------> |  answers on its upgrade socket all its life
//!    | <-- socket {listener} + descriptor |  one message for each listener
//!    | <-- socket + descriptor ---------- |  the upgrade socket itself: its path stays as it is
//!    | <-- elder + descriptor ----------- |  for each older process that is still draining
//!    | <-- sent + descriptor ------------ |  of the lock on the store, which both share from here on
//!    |  (loads, starts to accept)         |  serves
//!    | --- ready -----------------------> |
//!    | <-- yours ------------------------ |  drains from here on
//!    | <-- end of stream ---------------- |  has gone
//! ```

mod channel;
mod claim;
mod handover_socket;
mod offer;

pub use claim::{OldGone, TakeOverError};
pub use handover_socket::HandoverSocketError;

/// What has become of a process that is about to take over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handover {
    /// It gets the sockets and will load its state next.
    Asked,
    /// It has ended before it took over.
    Ended,
    /// It has taken over, and this process drains.
    Done,
}

pub(super) use claim::{Predecessor, claim};
pub(super) use handover_socket::HandoverSocket;
pub(super) use offer::{MakeLock, Offer, Successor};
