// placeholder shapes until the real module is merged
use gateway_core::protocol::head::HeadLimits;
use gateway_core::routing::{Placement, UnknownSession};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    pub listeners: Vec<Listener>,
    pub affinity: Affinity,
    pub sessions: Sessions,
    pub placement: PlacementConfig,
    pub backends: Vec<BackendConfig>,
    pub http: Http,
    pub limits: Limits,
    pub timeouts: Timeouts,
    pub ops: Ops,
    pub log: Log,
    pub process: Process,
}
#[derive(Debug, Clone, PartialEq)]
pub struct Listener {
    pub name: String,
    pub address: SocketAddr,
}
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum HostIdMode {
    Backend,
    Gateway,
    Direct,
    None,
}
#[derive(Debug, Clone, PartialEq)]
pub struct Affinity {
    pub host_id: HostIdMode,
    pub gateway_name: Option<String>,
    pub fallback_timeout: Duration,
}
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum SessionIdMode {
    Backend,
    Minted,
}
#[derive(Debug, Clone, PartialEq)]
pub struct Sessions {
    pub id: SessionIdMode,
    pub idle_timeout: Duration,
    pub limit: u64,
    pub unknown: UnknownSession,
}
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum HashKey {
    Target,
    Client,
}
#[derive(Debug, Clone, PartialEq)]
pub struct PlacementConfig {
    pub policy: Placement,
    pub hash_key: HashKey,
}
#[derive(Debug, Clone, PartialEq)]
pub struct BackendAddress {
    pub host: String,
    pub port: u16,
}
#[derive(Debug, Clone, PartialEq)]
pub struct BackendConfig {
    pub name: String,
    pub address: BackendAddress,
    pub weight: u32,
    pub alias: Option<String>,
    pub public_name: Option<String>,
}
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum UpstreamHost {
    Origin,
    Preserve,
    Backend,
}
#[derive(Debug, Clone, PartialEq)]
pub struct Http {
    pub hosts: Vec<String>,
    pub origin: Option<String>,
    pub upstream_host: UpstreamHost,
    pub method_override: bool,
}
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ChunkedMode {
    Refuse,
    Forward,
}
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    pub head: HeadLimits,
    pub connections: usize,
    pub chunked: ChunkedMode,
    pub fragment: Option<u64>,
    pub drain_bytes: u64,
}
#[derive(Debug, Clone, PartialEq)]
pub struct Timeouts {
    pub client_head: Duration,
    pub client_body: Duration,
    pub client_idle: Duration,
    pub connect: Duration,
    pub answer_long: Duration,
    pub answer: Duration,
    pub backend_write: Duration,
    pub backend_idle: Duration,
    pub client_write: Duration,
    pub shutdown: Duration,
    pub shutdown_delay: Duration,
}
#[derive(Debug, Clone, PartialEq)]
pub struct Ops {
    pub address: Option<SocketAddr>,
}
#[derive(Debug, Clone, PartialEq)]
pub enum AccessLog {
    Stdout,
    Off,
    File(PathBuf),
}
#[derive(Debug, Clone, PartialEq)]
pub struct Log {
    pub access: AccessLog,
}
#[derive(Debug, Clone, PartialEq)]
pub struct Process {
    pub threads: usize,
}
