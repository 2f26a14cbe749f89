//! The carrier of packets.
//!
//! What is absent: every type of Pingora, which carries plain HTTP.

pub mod upstream;
