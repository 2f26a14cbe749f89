//! The configuration: one TOML file, corrected by the environment, as a value that cannot be wrong.
//!
//! [`load()`] either returns a [`Config`] or everything that is the matter with the file, at once.
//! Each key stands once, in the file of its section: the field, its reading, its bounds and default,
//! whether a reload takes it over, and its row in schema, documentation and dump. Reading order:
//! `timeouts`, [`keys`], [`sections`], [`kind`], [`mod@file`], [`mod@env`], [`check`].

mod access;
mod address;
mod admin;
mod affinity;
mod backends;
pub mod check;
pub mod diff;
pub mod draft;
pub mod dump;
pub mod env;
pub mod example;
mod failover;
pub mod file;
mod foreign;
pub mod health;
mod http;
pub mod keys;
pub mod kind;
mod limits;
mod listeners;
mod lists;
pub mod load;
mod log;
pub mod markdown;
pub mod names;
mod ops;
pub mod part;
mod placement;
mod process;
pub mod reload;
pub mod report;
mod resolve;
pub mod schema;
mod section;
pub mod sections;
mod sessions;
mod store;
pub mod suggest;
mod syntax;
mod timeouts;
pub mod tls;
pub mod token;
pub mod value;
pub mod watch_config;
pub mod without_file;

pub use gateway_core::protocol::access::{Access, Denial};
pub use gateway_core::protocol::passage::ForwardedMode;
pub use gateway_core::routing::{Failover, Then};

pub use crate::telemetry::access_log::AccessFilter;

pub use address::BackendAddress;
pub use admin::{Admin, SOCKET_PATH_LIMIT, SocketMode};
pub use affinity::{Affinity, HostIdMode};
pub use backends::{BackendConfig, BackendConnections};
pub use health::{HealthConfig, ProbeConfig, ProbeKind};
pub use http::{Http, RawPath, ReplyUrl, RequestId, UpstreamHost};
pub use limits::Limits;
pub use listeners::Listener;
pub use load::{LoadError, Loaded, load, load_to_run, parse, text_to_run};
pub use log::{AccessLogPlace, Level, Log, LogFormat};
pub use ops::Ops;
pub use part::{Part, load_part};
pub use placement::{HashKey, PlacementConfig};
pub use process::{Process, UpgradeSocket};
pub use resolve::Config;
pub use sessions::{Bind, Sessions};
pub use store::{SqliteStore, Store, StoreKind};
pub use syntax::{host_port, show_duration, show_size};
pub use timeouts::Timeouts;
pub use tls::{ClientAuth, ProxyProtocol};

#[cfg(test)]
mod tests;
