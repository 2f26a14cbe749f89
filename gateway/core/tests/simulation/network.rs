//! What is around a gateway: its configuration, its clients' connections, its servers, time.

use gateway_core::farm::{AdminState, BackendId};
use gateway_core::session::Timestamp;
use gateway_core::session::lost_close::FileHead;
use http::response;

use crate::rng::Rng;
use crate::server::Request;

/// What the operator has configured and switched.
#[derive(Debug, Clone, Copy)]
pub struct Slot {
    pub configured: bool,
    pub admin: AdminState,
    pub weight: u32,
}

/// What the network made of a try to reach a server.
pub enum Fate {
    Unreachable,
    /// The connection broke; whether it came from the pool is the server's to abuse.
    Broken {
        reused: bool,
    },
    Answered(response::Parts),
    /// Nothing came in time.
    Silent,
}

/// What is behind the gateway.
pub trait Network {
    fn send(&mut self, backend: BackendId, request: &Request, rng: &mut Rng) -> Fate;

    /// The answer to a HEAD of the destination; `None` if there is none.
    fn look(&mut self, backend: BackendId, request: &Request, rng: &mut Rng) -> Option<FileHead>;

    /// Whether a backend that is away comes back while a request is held.
    fn comes_back(&mut self, backend: BackendId, rng: &mut Rng) -> bool;
}

/// The time by the clock on the wall, and by one that never jumps.
#[derive(Debug, Clone, Copy)]
pub struct Time {
    pub wall: Timestamp,
    pub steady: u64,
}

/// A client's connection, as the gateway remembers it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Connection {
    pub gateway: usize,
    pub backend: Option<BackendId>,
}
