//! The real binary, from its command line to its exit code.

mod admin_config;
mod commands;
mod environment;
mod files;
mod generated;
mod log;
mod mistakes;
mod support;
mod tls;
mod warnings;
mod wrong;
