//! Connections to servers.
//!
//! `socket` carries bytes, `connect` makes connections.

pub mod connect;
#[cfg(test)]
mod rig;
pub mod socket;

pub use connect::{ConnectFailure, connect};
pub use socket::ServerSocket;
