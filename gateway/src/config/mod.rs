//! The configuration: one TOML file, corrected by the environment, as a value that cannot be wrong.
//!
//! [`load()`] either returns a [`Config`] or everything that is the matter with the file, at once.
//! The words of the file stand in [`sections`], once: reading, schema, documentation and dump all
//! come from that table. Reading order: [`sections`], [`kind`], [`mod@file`], [`mod@env`], [`check`].

mod access;
mod affinity;
pub mod check;
pub mod defaults;
pub mod diff;
pub mod draft;
pub mod dump;
pub mod env;
pub mod example;
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
pub mod markdown;
pub mod names;
pub mod part;
mod process;
pub mod reload;
pub mod report;
pub mod schema;
pub mod sections;
mod settle;
mod store;
pub mod suggest;
mod syntax;
pub mod tls;
pub mod token;
mod waits;
pub mod watch_config;
pub mod without_file;

use std::ffi::OsStr;
use std::fmt;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gateway_core::protocol::ChunkedMode;
pub use gateway_core::protocol::access::{Access, Denial};
use gateway_core::protocol::head::HeadLimits;
use gateway_core::protocol::network::Network;
pub use gateway_core::protocol::passage::ForwardedMode;
pub use gateway_core::routing::{Failover, Then};
use gateway_core::routing::{Placement, Policy, UnknownSession};
use gateway_core::session::limits::PerClient;
use gateway_core::session::lost_close::LostClose;
use gateway_core::session::opening::IdPolicy;

use crate::sessions::names::NamesMode;
use crate::sessions::store::{OnError, SyncMode};
use crate::telemetry::access_log::AccessFilter;
use crate::tls::settings::{BackendTlsSettings, ListenerTlsSettings};

pub use health::{HealthConfig, ProbeConfig, ProbeKind};
pub use load::{LoadError, Loaded, load, load_to_run, parse, text_to_run};
pub use part::{Part, load_part};
pub use syntax::{host_port, show_duration, show_size};
pub use tls::{ClientAuth, ProxyProtocol};

/// A configuration that was checked in full; there is no other kind.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// At least one, each on its own address, sorted as in the file.
    pub listeners: Vec<Listener>,
    pub affinity: Affinity,
    pub sessions: Sessions,
    pub store: Store,
    pub placement: PlacementConfig,
    pub failover: Failover,
    /// At least one, with distinct names and aliases, in the order of the file.
    pub backends: Vec<BackendConfig>,
    pub health: HealthConfig,
    pub http: Http,
    pub limits: Limits,
    pub timeouts: Timeouts,
    pub ops: Ops,
    pub admin: Admin,
    pub log: Log,
    pub process: Process,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Listener {
    pub name: String,
    /// Port 0 means any free port.
    pub address: SocketAddr,
    pub tls: Option<ListenerTlsSettings>,
    pub proxy_protocol: Option<ProxyProtocol>,
    pub access: Access,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Affinity {
    pub host_id: HostIdMode,
    /// Always there in mode [`HostIdMode::Gateway`].
    pub gateway_name: Option<String>,
    /// Whole seconds, 1 to `u32::MAX`: what the header can say.
    pub fallback_timeout: Duration,
}

/// What `BITS-Host-Id` names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostIdMode {
    Backend,
    Gateway,
    Direct,
    None,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Sessions {
    pub id: IdPolicy,
    pub idle_timeout: Duration,
    /// How long an ended session is remembered.
    pub tombstone: Duration,
    pub limit: u64,
    pub limit_per_client: PerClient,
    pub bind: Bind,
    pub unknown: UnknownSession,
    /// Questions a second to each backend, at least 1.
    pub ask_rate: u32,
    /// How long a backend that is up may answer unclearly before it counts as one that has nothing.
    pub ask_patience: Duration,
    /// Other gateways with tables of their own serve the same backends.
    pub shared_farm: bool,
    pub lost_close: LostClose,
    /// How long it may be unclear whether a file was delivered.
    pub lost_close_after: Duration,
}

/// To what of its client a session is bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bind {
    None,
    Certificate,
}

/// What keeps sessions beyond the process.
#[derive(Debug, Clone, PartialEq)]
pub enum Store {
    /// Nothing does.
    Memory,
    Sqlite(SqliteStore),
}

#[derive(Debug, Clone, PartialEq)]
pub struct SqliteStore {
    /// A directory.
    pub path: PathBuf,
    pub sync: SyncMode,
    pub on_error: OnError,
    /// How long a commit may take before what can do without it does.
    pub slow: Duration,
    /// What is kept of paths and clients.
    pub names: NamesMode,
    pub names_keep: Duration,
}

/// The words for the variants of [`Store`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreKind {
    Sqlite,
    Memory,
}

#[derive(Debug, Clone, PartialEq)]
pub struct PlacementConfig {
    pub policy: Placement,
    pub hash_key: HashKey,
}

/// What [`Placement::Hash`] hashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HashKey {
    Target,
    Client,
}

#[derive(Debug, Clone, PartialEq)]
pub struct BackendConfig {
    pub name: String,
    pub address: BackendAddress,
    /// 1 to 1000.
    pub weight: u32,
    /// The name that stands for this backend, as written: what `BITS-Host-Id` announces in mode
    /// [`HostIdMode::Backend`], where every backend has one.
    pub alias: Option<String>,
    /// The backend's own name, as written; every backend has one in mode [`HostIdMode::Direct`].
    pub public_name: Option<String>,
    pub tls: Option<BackendTlsSettings>,
    pub connections: BackendConnections,
    pub health: ProbeConfig,
}

/// Whose the connections to a backend are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackendConnections {
    Shared,
    PerClient,
}

/// Where a backend listens: a name to resolve or an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackendAddress {
    /// As in a URL: an IPv6 address has its brackets.
    pub host: String,
    pub port: u16,
}

impl BackendAddress {
    /// As a `Host` field says it: without the port of the scheme.
    pub fn authority(&self, tls: bool) -> String {
        match (self.port, tls) {
            (80, false) | (443, true) => self.host.clone(),
            _ => self.to_string(),
        }
    }
}

impl fmt::Display for BackendAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Http {
    /// In the form of [`gateway_core::protocol::host::key_of`]; empty accepts any.
    pub hosts: Vec<String>,
    /// The first of the hosts as it is written in the file.
    pub origin: Option<String>,
    pub upstream_host: UpstreamHost,
    pub method_override: bool,
    /// Of requests that are no packets; empty lets any pass.
    pub methods: Vec<::http::Method>,
    pub raw_path: RawPath,
    pub reply_url: ReplyUrl,
    pub request_id: RequestId,
    pub forwarded: ForwardedMode,
    pub trusted_proxies: Vec<Network>,
    pub forwarded_host: bool,
}

/// What happens to a request whose path has bytes beyond ASCII, which no URL may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RawPath {
    Refuse,
    Escape,
}

/// What becomes of the URL of a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplyUrl {
    Pass,
    Rewrite,
}

/// The `X-Request-Id` that backends see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestId {
    Own,
    Pass,
}

/// The `Host` that backends see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpstreamHost {
    Origin,
    Preserve,
    Backend,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    pub head: HeadLimits,
    pub connections: usize,
    pub connections_per_address: PerClient,
    pub bound_connections: usize,
    /// To each backend, over all threads; 0 is no limit.
    pub backend_connections: usize,
    pub chunked: ChunkedMode,
    /// Bytes; a larger Fragment is answered 413. `None` is no limit.
    pub fragment: Option<u64>,
    /// Bytes of a whole file.
    pub upload: Option<u64>,
    /// Bytes a second.
    pub bandwidth: Option<u64>,
    /// Bytes a second.
    pub bandwidth_per_client: Option<u64>,
    /// How much of a refused body is read before the connection is closed.
    pub drain_bytes: u64,
    /// Bytes, over all connections.
    pub body_memory: u64,
}

/// Every one counts from the last progress, never from the start of a transfer.
#[derive(Debug, Clone, PartialEq)]
pub struct Timeouts {
    /// Everything before the first request: the header of a proxy, and a TLS handshake.
    pub handshake: Duration,
    /// First to last byte of a request head.
    pub client_head: Duration,
    pub client_body: Duration,
    /// Whole seconds, at least 1: pingora takes 0 for "never".
    pub client_idle: Duration,
    pub client_write: Duration,
    pub connect: Duration,
    /// Fragment and Close-Session. Longer than `client_body`.
    pub answer_long: Duration,
    /// Everything else.
    pub answer: Duration,
    /// A question of ours, from the connection to the head of the answer.
    pub ask: Duration,
    pub backend_write: Duration,
    pub backend_idle: Duration,
    /// How long requests under way may go on once the listeners are closed.
    pub shutdown: Duration,
    /// How long the gateway is unready before it closes the listeners.
    pub shutdown_delay: Duration,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Ops {
    pub address: Option<SocketAddr>,
    /// The listeners for clients answer `/livez` and `/readyz` too.
    pub public: bool,
}

/// The longest path of a socket. The kernel takes 107 bytes, and the socket begins its life under
/// another name beside its own, up to 7 bytes longer.
pub const SOCKET_PATH_LIMIT: usize = 100;

/// Without socket and address there is no such listener.
#[derive(Debug, Clone, PartialEq)]
pub struct Admin {
    /// At most [`SOCKET_PATH_LIMIT`] bytes.
    pub socket: Option<PathBuf>,
    pub socket_mode: SocketMode,
    /// Loopback, but with TLS.
    pub address: Option<SocketAddr>,
    pub tls: Option<ListenerTlsSettings>,
    /// In the form of [`gateway_core::protocol::host::key_of`].
    pub hosts: Vec<String>,
    /// Always there with `address`. What is in it has not been looked at; see
    /// [`check::files`].
    pub token_file: Option<PathBuf>,
    pub viewer_token_file: Option<PathBuf>,
}

/// Who may use the admin socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SocketMode {
    Owner,
    Group,
}

impl SocketMode {
    /// As `chmod` takes it.
    pub fn bits(self) -> u32 {
        match self {
            Self::Owner => 0o600,
            Self::Group => 0o660,
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Log {
    pub level: Level,
    pub format: LogFormat,
    pub access: AccessLog,
    pub access_filter: AccessFilter,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl From<Level> for tracing::Level {
    fn from(level: Level) -> Self {
        match level {
            Level::Error => Self::ERROR,
            Level::Warn => Self::WARN,
            Level::Info => Self::INFO,
            Level::Debug => Self::DEBUG,
            Level::Trace => Self::TRACE,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    Json,
    Text,
}

impl LogFormat {
    /// Where nothing is configured: a person at a terminal reads text.
    pub fn by_default() -> Self {
        if std::io::IsTerminal::is_terminal(&std::io::stderr()) { Self::Text } else { Self::Json }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub enum AccessLog {
    Stdout,
    Off,
    File(PathBuf),
}

#[derive(Debug, Clone, PartialEq)]
pub struct Process {
    pub threads: usize,
    pub upgrade_socket: UpgradeSocket,
    /// Whether a change of the file is a reload.
    pub watch_config: bool,
}

/// Where a successor asks for the listening sockets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UpgradeSocket {
    Auto,
    Off,
    Path(PathBuf),
}

impl UpgradeSocket {
    /// Whether nobody has said where it is to be.
    pub fn is_auto(&self) -> bool {
        *self == Self::Auto
    }

    /// `runtime` is `$RUNTIME_DIRECTORY`, in which systemd separates several by colons; `store` is
    /// the directory of the store.
    pub fn path(&self, runtime: Option<&OsStr>, store: Option<&Path>) -> Option<PathBuf> {
        match self {
            Self::Off => None,
            Self::Path(path) => Some(path.clone()),
            Self::Auto => {
                let first = |list: &OsStr| {
                    let list = list.as_bytes();
                    let end = list.iter().position(|&byte| byte == b':').unwrap_or(list.len());
                    PathBuf::from(OsStr::from_bytes(&list[..end]))
                };
                let runtime = runtime.filter(|list| !list.is_empty()).map(first);
                let directory = runtime.or_else(|| store.map(Path::to_path_buf))?;
                Some(directory.join("upgrade.sock"))
            }
        }
    }
}

impl Config {
    /// A configuration from the text of a file alone, as tests want it.
    ///
    /// # Errors
    /// The picture of every mistake.
    pub fn from_toml(text: &str) -> Result<Self, String> {
        match parse("config.toml", text, []) {
            Ok(loaded) => Ok(loaded.config),
            Err(report) => Err(report.render(false)),
        }
    }

    /// What the core needs to know to decide.
    pub fn policy(&self) -> Policy {
        Policy { placement: self.placement.policy, unknown: self.sessions.unknown }
    }
}

#[cfg(test)]
mod tests;
