//! How a try at a backend can fail, whatever carries its bytes.

use gateway_core::fault::Fault;

use crate::metrics::ConnectError;

/// No connection to a backend came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectFailure {
    pub error: ConnectError,
    /// It failed at the backend, not for want of descriptors or ports here: running out of those
    /// must not take the farm down.
    pub by_backend: bool,
    /// The backend showed a certificate that is not to be trusted. No wait makes it better, and it
    /// is nothing that a client should be told to wait for.
    pub distrust: bool,
}

/// A connection ended, or was given up, before its request was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExchangeFailure {
    /// The connection had served a request before.
    pub reused: bool,
    /// It died before a byte of an answer came. A backend that only takes its time, or has begun to
    /// answer, has the packet and may be working on it.
    pub died_silently: bool,
    /// Head and body can be sent once more: all of them are still at hand.
    pub replayable: bool,
    /// What its client is told, if nobody finds a better answer; `None` where the client has gone.
    pub fault: Option<Fault>,
}
