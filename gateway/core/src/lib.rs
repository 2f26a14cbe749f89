//! The rules of bits-gateway, without any I/O.
//!
//! Two functions are the product. [`routing::decide()`] answers *where does this packet go?* and
//! [`session::observe()`] answers *what did this Ack teach us?* Everything else here feeds them
//! ([`protocol`], [`farm`], [`session`]) or turns what they say into bytes ([`fault`],
//! [`rewrite`]).
//!
//! What is absent on purpose: a clock, a socket, a file, a thread, a source of chance. Time and
//! chance are arguments, so that every rule can be tested by a table and every run replayed from
//! its seed.
//!
//! Reading order: [`protocol::packet`], [`protocol::ack`], [`fault`], [`routing`], [`session`],
//! [`rewrite`].

pub mod events;
pub mod farm;
pub mod fault;
pub mod protocol;
pub mod rate_limiter;
pub mod reply_url;
pub mod rewrite;
pub mod routing;
pub mod session;
