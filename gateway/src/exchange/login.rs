//! A request of a client that logs in to a connection.

use std::sync::Arc;

use gateway_core::protocol::speaker::Speaker;
use tokio::sync::OwnedSemaphorePermit;

use crate::guard::{BoundConnections, Conn};

/// Whose the request is, and over which connections it may go.
pub struct Login {
    /// Who sends it.
    pub speaker: Speaker,
    /// What its client has at the backends.
    pub bound_connections: Option<Arc<BoundConnections>>,
    /// It goes over a connection of its client's own.
    pub bound: bool,
    /// It logs in over a connection that serves no other request.
    pub once: bool,
    /// The backend's connection ends with the answer, so the client's has to.
    pub ends: bool,
    /// The right to one more such connection, until there is one.
    pub permit: Option<OwnedSemaphorePermit>,
}

impl Default for Login {
    fn default() -> Self {
        let speaker = Speaker::Unnamed;
        Self {
            speaker,
            bound_connections: None,
            bound: false,
            once: false,
            ends: false,
            permit: None,
        }
    }
}

impl Login {
    pub fn of(conn: &Conn, speaker: Speaker) -> Self {
        Self { speaker, bound_connections: conn.bound_connections(speaker), ..Self::default() }
    }

    /// Whether a proxy would hear what is meant for its client alone: the end of the connection.
    pub fn is_behind_proxy(&self) -> bool {
        self.speaker != Speaker::Peer
    }
}
