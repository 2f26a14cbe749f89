//! What becomes of a request, whoever carries it.
//!
//! What is absent: every type of the library that carries bytes.

pub mod bandwidth;
pub mod deliveries;
pub mod forwarding;
pub mod outages;
pub mod turns;
