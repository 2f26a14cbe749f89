//! Connections to servers.
//!
//! A thread has one [`Pool`]. A packet takes a [`Connection`] from it, and what is left after the answer
//! is an [`IdleConnection`]. That stays with its client for up to a second ([`HOLD`]), and then waits in the
//! pool of its thread for anybody. [`Servers`] is what the threads share.
//!
//! `socket` carries bytes, `connect` makes connections, `connection` knows what is under way on one,
//! `pool` keeps those that are idle, `lives` has seen for how long the servers keep them, `places`
//! counts them against a ceiling.
//!
//! What is absent: connections that belong to one client because of a login. Their owner keeps them.

pub mod connect;
mod connection;
mod lives;
mod places;
mod pool;
#[cfg(test)]
pub mod rig;
mod servers;
pub mod socket;

pub use connect::{Unconnected, connect};
pub use connection::{Connection, FRESH, HOLD, IdleConnection};
pub use places::Place;
pub use pool::Pool;
pub use servers::{Connections, Servers};
pub use socket::ServerSocket;
