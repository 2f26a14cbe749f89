//! A BITS upload client that follows the state machine of the Windows client, as MC-BUP and the Win32 pages tell it.
//!
//! Blocking sockets and threads, an HTTP/1.1 client of its own with exact control of the bytes sent, and no code of the
//! product. From the bottom up: [`wire`] (bytes and framing), [`packet`] (request heads), [`ack`] (what an answer says
//! and whether it may say so), `verdict` (what it means), `transport` (one packet there and its answer back), [`machine`]
//! (what to do next), [`options`] and [`report`].

pub mod ack;
mod answer;
pub mod machine;
pub mod options;
pub mod packet;
pub mod report;
pub mod resolver;
pub mod secure;
mod transport;
mod verdict;
pub mod wire;

pub use ack::{Ack, AckRules};
pub use machine::{Client, Upload};
pub use options::{
    AfterRestart, CloseNotFound, Connections, Credentials, FragmentSizes, Options, Respond,
    Spelling,
};
pub use packet::{Head, PacketType, Url};
pub use report::{End, Event, Fatal, Report};
pub use resolver::Resolver;
pub use secure::Secure;
pub use wire::{Answer, Connection, Framing, Timeouts, WireError, exchange};
