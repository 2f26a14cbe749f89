//! bits-gateway: the shell around the rules in `gateway-core`.
//!
//! The library exists so that the parts can be tested; its interface is the binary's.

pub mod admin;
pub mod app;
pub mod base;
pub mod cli;
pub mod config;
pub mod exchange;
pub mod farm;
pub mod guard;
pub mod process;
pub mod proxy;
pub mod relay;
pub mod sessions;
pub mod telemetry;
pub mod tls;
