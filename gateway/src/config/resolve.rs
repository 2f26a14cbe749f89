//! From a checked draft to the configuration.

use std::num::NonZeroUsize;

use gateway_core::routing::{Failover, Policy};

use super::affinity::{self, HostIdMode};
use super::draft::{Broken, Draft, SectionValues};
use super::kind::Value;
use super::names::Named;
use super::{
    admin, backends, failover, health, http, limits, listeners, log, ops, placement, process,
    sessions, store, timeouts, tls,
};

/// A configuration that was checked in full; there is no other kind.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// At least one, each on its own address, sorted as in the file.
    pub listeners: Vec<listeners::Listener>,
    pub affinity: affinity::Affinity,
    pub sessions: sessions::Sessions,
    pub store: store::Store,
    pub placement: placement::PlacementConfig,
    pub failover: Failover,
    /// At least one, with distinct names and aliases, in the order of the file.
    pub backends: Vec<backends::BackendConfig>,
    pub health: health::HealthConfig,
    pub http: http::Http,
    pub limits: limits::Limits,
    pub timeouts: timeouts::Timeouts,
    pub ops: ops::Ops,
    pub admin: admin::Admin,
    pub log: log::Log,
    pub process: process::Process,
}

impl Config {
    /// What the core needs to know to decide.
    pub fn policy(&self) -> Policy {
        Policy { placement: self.placement.policy, unknown: self.sessions.unknown }
    }
}

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
pub fn alias(affinity: &SectionValues, backend: &SectionValues) -> Result<Option<String>, Broken> {
    if let Some(host_id) = backend.find::<String>("host_id")? {
        return Ok(Some(host_id));
    }
    match affinity.find::<String>("host_id_domain")? {
        None => Ok(None),
        Some(domain) => Ok(Some(format!("{}.{domain}", backend.get::<String>("name")?))),
    }
}

/// Fixes the values that depend on others, so that a dump shows what counts.
pub fn resolve_defaults(draft: &mut Draft) -> Result<(), Broken> {
    let mode = host_id_mode(draft)?;
    if !draft.once("affinity").is_given("host_id") {
        draft.once_mut("affinity").resolve("host_id", Value::Word(mode.name()));
    }
    let affinity = draft.once("affinity").clone();
    for backend in draft.all_mut("backends") {
        if let Some(alias) = alias(&affinity, backend)?
            && !backend.is_given("host_id")
        {
            backend.resolve("host_id", Value::Text(alias.into()));
        }
    }
    health::resolve_defaults(draft)?;
    tls::resolve_defaults(draft);
    if !draft.once("process").is_given("threads") {
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        draft.once_mut("process").resolve("threads", Value::Integer(cores.min(1024) as u64));
    }
    Ok(())
}

/// Reads the configuration off a draft in which everything is settled.
pub fn build(draft: &Draft) -> Result<Config, Broken> {
    Ok(Config {
        listeners: draft.all("listeners").map(listeners::build).collect::<Result<_, Broken>>()?,
        affinity: affinity::build(draft.once("affinity"))?,
        sessions: sessions::build(draft.once("sessions"))?,
        store: store::build(draft.once("store"))?,
        placement: placement::build(draft.once("placement"))?,
        failover: failover::build(draft.once("failover"))?,
        backends: draft.all("backends").map(backends::build).collect::<Result<_, Broken>>()?,
        health: health::build(draft.once("health"))?,
        http: http::build(draft.once("http"))?,
        limits: limits::build(draft.once("limits"))?,
        timeouts: timeouts::build(draft.once("timeouts"))?,
        ops: ops::build(draft.once("ops"))?,
        admin: admin::build(draft.once("admin"))?,
        log: log::build(draft.once("log"))?,
        process: process::build(draft.once("process"))?,
    })
}
