//! bits-gateway: the shell around the rules in `gateway-core`.
//!
//! The library exists so that the parts can be tested; its interface is the binary's.

pub mod access_log;
pub mod admin;
pub mod allocator;
pub mod app;
pub mod backend_client;
pub mod backend_ids;
pub mod build_info;
pub mod by_id;
pub mod cli;
pub mod clock;
pub mod commands;
pub mod config;
pub mod demo;
pub mod descriptors;
pub mod durable;
pub mod entrance;
pub mod exchange;
pub mod exit;
pub mod farm;
pub mod guard;
pub mod health;
pub mod instance;
pub mod listening;
pub mod log_writer;
pub mod metrics;
pub mod notify_systemd;
pub mod open_file;
pub mod operator;
pub mod ops;
pub mod patience;
pub mod pool;
pub mod proxy;
pub mod ready_file;
pub mod relay;
pub mod reload;
pub mod roster;
pub mod sessions;
pub mod store;
pub mod supervisor;
pub mod telemetry;
pub mod tls;
pub mod upload;
pub mod warned;
pub mod watch_config;
