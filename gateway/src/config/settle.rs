//! From a checked draft to the configuration.

use std::num::NonZeroUsize;

use gateway_core::protocol::host::key_of;
use gateway_core::session::limits::PerClient;

use super::access;
use super::defaults;
use super::draft::{Broken, Draft, Table};
use super::health;
use super::http;
use super::kind::Value;
use super::limits;
use super::names::Named;
use super::tls;
use super::{
    AccessLog, Admin, Affinity, BackendConfig, Config, Failover, HostIdMode, Listener, Log, Ops,
    PlacementConfig, Process, Sessions, SqliteStore, Store, StoreKind, Timeouts, UpgradeSocket,
};

/// What `BITS-Host-Id` names: as given, or else by whether backends have names to announce.
pub fn host_id_mode(draft: &Draft) -> Result<HostIdMode, Broken> {
    let affinity = draft.once("affinity");
    if let Some(mode) = affinity.find("host_id")? {
        return Ok(mode);
    }
    let named = affinity.is_given("host_id_domain")
        || draft.all("backends").any(|table| table.is_given("host_id"));
    Ok(if named { HostIdMode::Backend } else { HostIdMode::None })
}

/// The name that stands for a backend.
pub fn alias(affinity: &Table, backend: &Table) -> Result<Option<String>, Broken> {
    if let Some(host_id) = backend.find::<String>("host_id")? {
        return Ok(Some(host_id));
    }
    match affinity.find::<String>("host_id_domain")? {
        None => Ok(None),
        Some(domain) => Ok(Some(format!("{}.{domain}", backend.get::<String>("name")?))),
    }
}

/// Fixes the values that depend on others, so that a dump shows what counts.
pub fn settle(draft: &mut Draft) -> Result<(), Broken> {
    let mode = host_id_mode(draft)?;
    if !draft.once("affinity").is_given("host_id") {
        draft.once_mut("affinity").settle("host_id", Value::Word(mode.name()));
    }
    let affinity = draft.once("affinity").clone();
    for backend in draft.all_mut("backends") {
        if let Some(alias) = alias(&affinity, backend)?
            && !backend.is_given("host_id")
        {
            backend.settle("host_id", Value::Text(alias.into()));
        }
    }
    health::settle(draft)?;
    tls::settle(draft);
    if !draft.once("process").is_given("threads") {
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        draft.once_mut("process").settle("threads", Value::Integer(cores.min(1024) as u64));
    }
    Ok(())
}

/// Reads the configuration off a draft in which everything is settled.
pub fn build(draft: &Draft) -> Result<Config, Broken> {
    Ok(Config {
        listeners: draft.all("listeners").map(listener).collect::<Result<_, Broken>>()?,
        affinity: affinity(draft.once("affinity"))?,
        sessions: sessions(draft.once("sessions"))?,
        store: store(draft.once("store"))?,
        placement: placement(draft.once("placement"))?,
        failover: failover(draft.once("failover"))?,
        backends: draft.all("backends").map(backend).collect::<Result<_, Broken>>()?,
        health: health::build(draft.once("health"))?,
        http: http::build(draft.once("http"))?,
        limits: limits::build(draft.once("limits"))?,
        timeouts: timeouts(draft.once("timeouts"))?,
        ops: ops(draft.once("ops"))?,
        admin: admin(draft.once("admin"))?,
        log: log(draft.once("log"))?,
        process: process(draft.once("process"))?,
    })
}

fn listener(table: &Table) -> Result<Listener, Broken> {
    Ok(Listener {
        name: table.name.clone(),
        address: table.get("address")?,
        tls: tls::build_listener(table)?,
        proxy_protocol: tls::build_proxy_protocol(table)?,
        access: access::build(table)?,
    })
}

fn affinity(table: &Table) -> Result<Affinity, Broken> {
    Ok(Affinity {
        host_id: table.get("host_id")?,
        gateway_name: table.find("gateway_name")?,
        fallback_timeout: table.get("fallback_timeout")?,
    })
}

fn sessions(table: &Table) -> Result<Sessions, Broken> {
    Ok(Sessions {
        id: table.get("id")?,
        idle_timeout: table.get("idle_timeout")?,
        tombstone: table.get("tombstone")?,
        limit: table.get("limit")?,
        limit_per_client: per_client(table, "limit_per_client", defaults::SESSIONS_PER_CLIENT)?,
        bind: table.get("bind")?,
        unknown: table.get("unknown")?,
        ask_rate: table.get("ask_rate")?,
        ask_patience: table.get("ask_patience")?,
        shared_farm: table.get("shared_farm")?,
        lost_close: table.get("lost_close")?,
        lost_close_after: table.get("lost_close_after")?,
    })
}

pub(super) fn store(table: &Table) -> Result<Store, Broken> {
    Ok(match table.get("kind")? {
        StoreKind::Memory => Store::Memory,
        StoreKind::Sqlite => Store::Sqlite(SqliteStore {
            path: table.get("path")?,
            sync: table.get("sync")?,
            on_error: table.get("on_error")?,
            slow: table.get("slow")?,
            names: table.get("names")?,
            names_keep: table.get("names_keep")?,
        }),
    })
}

fn failover(table: &Table) -> Result<Failover, Broken> {
    Ok(Failover {
        hold: table.get("hold")?,
        restart_after: table.get("restart_after")?,
        reassign_after: table.get("reassign_after")?,
        then: table.get("then")?,
    })
}

fn placement(table: &Table) -> Result<PlacementConfig, Broken> {
    Ok(PlacementConfig { policy: table.get("policy")?, hash_key: table.get("hash_key")? })
}

fn backend(table: &Table) -> Result<BackendConfig, Broken> {
    Ok(BackendConfig {
        name: table.get("name")?,
        address: table.get("address")?,
        weight: table.get("weight")?,
        alias: table.find("host_id")?,
        public_name: table.find("public_name")?,
        tls: tls::build_backend(table)?,
        connections: table.get("connections")?,
        health: health::build_own(table)?,
    })
}

fn timeouts(table: &Table) -> Result<Timeouts, Broken> {
    Ok(Timeouts {
        handshake: table.get("handshake")?,
        client_head: table.get("client_head")?,
        client_body: table.get("client_body")?,
        client_idle: table.get("client_idle")?,
        client_write: table.get("client_write")?,
        connect: table.get("connect")?,
        answer_long: table.get("answer_long")?,
        answer: table.get("answer")?,
        ask: table.get("ask")?,
        backend_write: table.get("backend_write")?,
        backend_idle: table.get("backend_idle")?,
        shutdown: table.get("shutdown")?,
        shutdown_delay: table.get("shutdown_delay")?,
    })
}

pub(super) fn ops(table: &Table) -> Result<Ops, Broken> {
    Ok(Ops { address: unless_off(table, "address")?, public: table.get("public")? })
}

pub(super) fn admin(table: &Table) -> Result<Admin, Broken> {
    Ok(Admin {
        socket: table.find("socket")?,
        socket_mode: table.get("socket_mode")?,
        address: unless_off(table, "address")?,
        tls: tls::build_admin(table)?,
        hosts: table.get::<Vec<String>>("hosts")?.iter().filter_map(|host| key_of(host)).collect(),
        token_file: table.find("token_file")?,
        viewer_token_file: table.find("viewer_token_file")?,
    })
}

fn log(table: &Table) -> Result<Log, Broken> {
    let access = match table.value("access")? {
        Some(Value::Word("stdout")) => AccessLog::Stdout,
        Some(Value::Path(path)) => AccessLog::File(path.clone()),
        _ => AccessLog::Off,
    };
    Ok(Log {
        level: table.get("level")?,
        format: table.get("format")?,
        access,
        access_filter: table.get("access_filter")?,
    })
}

fn process(table: &Table) -> Result<Process, Broken> {
    let upgrade_socket = match table.value("upgrade_socket")? {
        Some(Value::Path(path)) => UpgradeSocket::Path(path.clone()),
        Some(Value::Word("off")) => UpgradeSocket::Off,
        _ => UpgradeSocket::Auto,
    };
    let threads = table.get("threads")?;
    Ok(Process { threads, upgrade_socket, watch_config: table.get("watch_config")? })
}

/// What an operator has set counts always, and 0 is no limit.
pub(super) fn per_client(
    table: &Table,
    key: &str,
    default: PerClient,
) -> Result<PerClient, Broken> {
    Ok(match table.find::<u64>(key)? {
        None => default,
        Some(0) => PerClient::Unlimited,
        Some(most) => PerClient::Most(most),
    })
}

/// `None` where the word "off" stands.
pub(super) fn unless_off<T: super::kind::FromValue>(
    table: &Table,
    key: &str,
) -> Result<Option<T>, Broken> {
    match table.value(key)? {
        Some(Value::Word(_)) | None => Ok(None),
        Some(_) => table.find(key),
    }
}
