//! A changed configuration, put in force.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;

use arc_swap::ArcSwap;
use gateway_core::protocol::host::key_of;

use super::start::level;
use crate::app::descriptors::Descriptors;
use crate::config::reload::{Reloader, Source};
use crate::config::{Config, Loaded, RawPath};
use crate::farm::backend_registry::BackendRegistry;
use crate::guard::GuardLimits;
use crate::process::notify_systemd::Notifier;
use crate::relay::upstream::Servers;
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::events::Events;
use crate::telemetry::log;
use crate::telemetry::metrics::Metrics;
use crate::tls::certificates::Certificates;

/// Limits of the guard, for the next connection.
pub(super) type Limits = Arc<ArcSwap<GuardLimits>>;

/// What is changed by another configuration, beside the farm.
pub(super) struct Subjects {
    pub limits: Limits,
    pub descriptors: Descriptors,
    pub servers: Arc<Servers>,
    pub access: AccessLog,
}

pub(super) fn limits(config: &Config) -> GuardLimits {
    GuardLimits {
        per_address: config.limits.connections_per_address,
        trusted: config.http.trusted_proxies.clone(),
        access: config.listeners.iter().map(|listener| listener.access.clone()).collect(),
        handshake: config.timeouts.handshake,
        head: config.limits.head,
        head_timeout: config.timeouts.client_head,
        idle: config.timeouts.client_idle,
        drain_bytes: config.limits.drain_bytes,
        body_memory: config.limits.body_memory,
        method_override: config.http.method_override,
        hosts: hosts(config).map(Arc::new),
        escape_path: config.http.raw_path == RawPath::Escape,
    }
}

/// The names that requests may be for, where the configuration lists them: those of the URLs, and
/// those that clients were told.
fn hosts(config: &Config) -> Option<HashSet<String>> {
    let mut hosts: HashSet<String> = config.http.hosts.iter().cloned().collect();
    if hosts.is_empty() {
        return None;
    }
    let told = config.backends.iter().filter_map(|backend| backend.alias.as_deref());
    hosts
        .extend(config.affinity.gateway_name.as_deref().into_iter().chain(told).filter_map(key_of));
    Some(hosts)
}

/// The way to another configuration. What can fail comes first, and what comes after it cannot.
pub(super) fn reloader(
    source: Source,
    loaded: Loaded,
    (metrics, events): (Arc<Metrics>, Events),
    notifier: Notifier,
    backend_registry: BackendRegistry,
    subjects: Subjects,
    certificates: Certificates,
) -> io::Result<Reloader> {
    let apply = move |_: &Config, new: &Config, _: &[_]| {
        backend_registry.apply(new).map_err(|error| error.to_string())?;
        // The limit on open files may be another by now, and so is what probes need.
        subjects.descriptors.share_out(new);
        subjects.servers.set_ceiling(new.limits.backend_connections);
        subjects.limits.store(Arc::new(limits(new)));
        subjects.access.keep(new.log.access_filter);
        log::set_level(level(new));
        Ok(())
    };
    let reread = Box::new(move || certificates.reload());
    Reloader::new(source, loaded, Some(metrics), events, notifier, Box::new(apply), reread)
}
