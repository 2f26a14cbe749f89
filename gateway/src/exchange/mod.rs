//! The handling of a request, independent of the library that carries its bytes.
//!
//! A request passes through states, each of which holds what is known by then: it arrives
//! ([`arrival`]), is admitted, is tried at a backend, and is answered ([`state`]). When it is over,
//! however it ends, one [`report`] tells of it.
//!
//! What is absent: every type of the library that carries bytes.

pub mod arrival;
pub mod bandwidth;
pub mod creating;
pub mod deliveries;
pub mod forwarding;
pub mod login;
pub mod outages;
pub mod report;
pub mod state;
pub mod turns;
