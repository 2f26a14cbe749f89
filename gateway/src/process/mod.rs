//! The process: its life, the threads that carry traffic, and what it tells the system around it.

pub mod exit;
pub mod listening;
pub mod notify_systemd;
pub mod readiness;
pub mod ready_file;
pub mod supervisor;
