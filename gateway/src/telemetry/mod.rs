//! What the gateway tells of itself: logs, metrics, events, and whether anything is the matter.
//!
//! `log` is the operational log, `access_log` has a line for each request, `metrics` are the numbers,
//! `events` what happened lately, `problems` the judgement over the facts.

pub mod access_log;
pub mod events;
pub mod journal;
pub mod log;
pub mod log_writer;
pub mod metrics;
pub mod problems;
pub mod warned;
