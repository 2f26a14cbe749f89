//! What the gateway counts. Nothing outside this module knows the prometheus crate.
//!
//! Every series exists from the start, at 0, so that a rate sees the first event too, but those of
//! `backends`; handles are resolved then and lie in arrays indexed by enum. Counting is a few
//! atomic additions: no label lookup, no allocation, no lock.

mod backends;
pub mod docs;
mod families;
pub mod labels;
mod outcome;
pub mod registry;
mod rejection;

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use gateway_core::farm::{BackendId, Sign};
use gateway_core::session::{EndReason, Timestamp};
use prometheus::core::Collector;
use prometheus::{IntGauge, Registry, TextEncoder};

use backends::{Backends, Counters};
use families::{Families, GatewayMetrics, ListenerMetrics};
use labels::StatusClass;
pub use labels::{
    AdminAction, AdminResult, AskResult, BackendState, Carrier, CheckResult, ConnectError,
    FailoverReason, HandshakeFailure, LogLevel, LogName, LostCloseResult, OrphanResult,
    PacketLabel, ProtocolError, RefusedCreate, Rejection, ReloadResult, SessionState, StoreKind,
    StoreOperation, StoreResult,
};
pub use outcome::Outcome;

/// `Content-Type` of [`Metrics::encode`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Tells, at scrape time, how many sessions each backend holds: backend, active, idle.
pub type SessionCounts = Box<dyn Fn() -> Vec<(BackendId, u64, u64)> + Send + Sync>;

/// Counters of one backend that people are shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BackendTotals {
    /// Bytes of bodies that were sent to it.
    pub uploaded: u64,
    /// Connections that could not be made, and answers of 5xx.
    pub errors: u64,
}

/// Tells, at scrape time, how many connections to a backend are used; `None` without a ceiling for them.
pub type ConnectionCounts = Box<dyn Fn(BackendId) -> Option<usize> + Send + Sync>;

pub struct Metrics {
    registry: Registry,
    listeners: Box<[ListenerMetrics]>,
    backends: Backends,
    families: Families,
    gateway: GatewayMetrics,
    logs: LogCounters,
    sessions: OnceLock<SessionCounts>,
    connections: OnceLock<ConnectionCounts>,
}

impl Metrics {
    /// `listeners` are names in the order in which [`Outcome::listener`] counts them; a backend
    /// is its id, its name and its weight.
    pub fn new(listeners: &[String], backends: &[(BackendId, String, u32)]) -> Arc<Self> {
        let registry = Registry::new();
        let families = Families::new(&registry);
        #[cfg(target_os = "linux")]
        registry
            .register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))
            .expect("no other collector has its names");
        let metrics = Self {
            listeners: listeners.iter().map(|name| families.listener(name)).collect(),
            backends: Backends::default(),
            gateway: families.gateway(),
            logs: LogCounters(Arc::new(families.logs())),
            sessions: OnceLock::new(),
            connections: OnceLock::new(),
            families,
            registry,
        };
        for (id, name, weight) in backends {
            metrics.add_backend(*id, name, *weight);
        }
        metrics.set_certificates_usable(true);
        Arc::new(metrics)
    }

    /// Counts for a backend from now on. One that is counted for already gets the weight.
    pub fn add_backend(&self, id: BackendId, name: &str, weight: u32) {
        self.backends.add(&self.families, id, name, weight);
    }

    /// Deletes every series of a backend.
    pub fn remove_backend(&self, id: BackendId) {
        self.backends.remove(&self.families, id);
    }

    /// Requests that are with a backend now.
    pub fn backend_in_flight(&self, id: BackendId) -> u64 {
        let running = self.backends.find(id).map_or(0, |metrics| metrics.in_flight.get());
        u64::try_from(running).unwrap_or(0)
    }

    /// What has come of a backend since it is counted for.
    pub fn backend_totals(&self, id: BackendId) -> BackendTotals {
        let Some(metrics) = self.backends.find(id) else { return BackendTotals::default() };
        let refused: u64 =
            ConnectError::ALL.iter().map(|&reason| metrics.connect_errors.of(reason).get()).sum();
        BackendTotals {
            uploaded: metrics.upload_bytes.get(),
            errors: refused + metrics.requests.of(StatusClass::ServerError).get(),
        }
    }

    /// Counts a request; to be called once for each, when it has ended.
    pub fn record(&self, outcome: &Outcome) {
        outcome::record(self, outcome);
    }

    /// Bytes of a request's body have come, and more follow.
    pub fn received(&self, listener: usize, bytes: u64) {
        if let Some(metrics) = self.listeners.get(listener) {
            metrics.received_bytes.inc_by(bytes);
        }
    }

    /// Bytes of a request's body have gone to a backend, and more follow.
    pub fn uploaded(&self, backend: BackendId, bytes: u64) {
        if let Some(metrics) = self.backend(backend) {
            metrics.upload_bytes.inc_by(bytes);
        }
    }

    /// A client connection was accepted.
    pub fn connection_opened(&self, listener: usize) {
        if let Some(metrics) = self.listeners.get(listener) {
            metrics.connections_total.inc();
            metrics.connections.inc();
        }
    }

    pub fn connection_closed(&self, listener: usize) {
        if let Some(metrics) = self.listeners.get(listener) {
            metrics.connections.dec();
        }
    }

    /// A request came in. It counts as in flight until the guard is dropped.
    pub fn request(&self, listener: usize) -> Gauged {
        Gauged::new(self.listeners.get(listener).map(|metrics| &metrics.in_flight))
    }

    /// A connection to a backend belongs to one client connection, until the guard is dropped.
    pub fn bound_connection(&self) -> Gauged {
        Gauged::new(Some(&self.gateway.bound_connections))
    }

    /// A client was cut off before there was a request that [`Self::record`] could count.
    pub fn rejected(&self, reason: Rejection) {
        self.gateway.rejected.of(reason).inc();
    }

    pub fn session_created(&self, backend: BackendId) {
        if let Some(metrics) = self.backend(backend) {
            metrics.sessions_created.inc();
        }
    }

    /// A backend gave a new session the id of another.
    pub fn session_id_conflict(&self) {
        self.gateway.session_id_conflicts.inc();
    }

    /// `size` is that of the uploaded file in bytes, as far as it was known.
    pub fn session_ended(&self, backend: BackendId, why: EndReason, age: Duration, size: u64) {
        if let Some(metrics) = self.backend(backend) {
            metrics.sessions_ended.of(why).inc();
        }
        self.gateway.session_seconds.of(why).observe(age.as_secs_f64());
        self.gateway.session_bytes.of(why).observe(size as f64);
    }

    /// A request left `backend` behind and goes to another.
    pub fn failover(&self, backend: BackendId, reason: FailoverReason) {
        if let Some(metrics) = self.backend(backend) {
            metrics.failovers.of(reason).inc();
        }
    }

    pub fn asked(&self, result: AskResult) {
        self.gateway.asks.of(result).inc();
    }

    pub fn lost_close(&self, result: LostCloseResult) {
        self.gateway.lost_closes.of(result).inc();
    }

    pub fn refused_create(&self, result: RefusedCreate) {
        self.gateway.refused_creates.of(result).inc();
    }

    /// So many folders of backends get no new sessions for that reason.
    pub fn set_barred_folders(&self, why: Sign, folders: usize) {
        self.gateway.barred_folders.of(why).set(i64::try_from(folders).unwrap_or(i64::MAX));
    }

    pub fn orphan(&self, result: OrphanResult) {
        self.gateway.orphans.of(result).inc();
    }

    /// A connection to a backend is there, for one request.
    ///
    /// It counts as in flight there until the guard is dropped.
    pub fn backend_connected(&self, backend: BackendId, reused: bool) -> Gauged {
        let metrics = self.backend(backend);
        if let Some(metrics) = &metrics {
            if reused { metrics.reuses.inc() } else { metrics.attempts.inc() }
        }
        Gauged::new(metrics.as_ref().map(|metrics| &metrics.in_flight))
    }

    /// A new connection to a backend could not be made.
    pub fn connect_error(&self, backend: BackendId, reason: ConnectError) {
        if let Some(metrics) = self.backend(backend) {
            metrics.attempts.inc();
            metrics.connect_errors.of(reason).inc();
        }
    }

    /// A probe of a backend has ended, after `took`. That one has passed is nothing to tell of.
    pub fn health_check(&self, backend: BackendId, passed: bool, took: Duration) {
        let counters = if passed { self.backends.find(backend) } else { self.backend(backend) };
        let Some(metrics) = counters else { return };
        let result = if passed { CheckResult::Success } else { CheckResult::Failure };
        metrics.checks.of(result).inc();
        metrics.check_seconds.set(took.as_secs_f64());
    }

    pub fn set_backend_up(&self, backend: BackendId, up: bool) {
        self.backends.set_up(&self.families, backend, up);
    }

    pub fn set_backend_state(&self, backend: BackendId, state: BackendState) {
        self.backends.set_state(&self.families, backend, state);
    }

    pub fn set_backend_weight(&self, backend: BackendId, weight: u32) {
        self.backends.set_weight(&self.families, backend, weight);
    }

    pub fn set_connections_limit(&self, limit: usize) {
        self.gateway.connections_limit.set(i64::try_from(limit).unwrap_or(i64::MAX));
    }

    pub fn set_sessions_limit(&self, limit: u64) {
        self.gateway.sessions_limit.set(i64::try_from(limit).unwrap_or(i64::MAX));
    }

    /// A TLS handshake with a client came to nothing.
    pub fn handshake_failed(&self, reason: HandshakeFailure) {
        self.gateway.handshake_failures.of(reason).inc();
    }

    /// When certificates expire, in Unix time, by their files. Others are shown no more.
    pub fn set_certificate_expiries(&self, ends: &[(String, i64)]) {
        let gauge = &self.gateway.certificate_expiry;
        for (name, at) in ends {
            gauge.with_label_values(&[name]).set(*at);
        }
        // Never all at once: a scrape in between would see none.
        for family in gauge.collect() {
            for label in family.get_metric().iter().flat_map(|metric| metric.get_label()) {
                if !ends.iter().any(|(name, _)| name == label.value()) {
                    let _ = gauge.remove_label_values(&[label.value()]);
                }
            }
        }
    }

    /// Whether all certificate files can be used as they are now.
    pub fn set_certificates_usable(&self, usable: bool) {
        self.gateway.certificates_usable.set(usable.into());
    }

    pub fn set_draining(&self, draining: bool) {
        self.gateway.draining.set(draining.into());
    }

    /// A configuration is in force since `seconds` after 1970. The first is not a reload.
    pub fn config_loaded(&self, hash: u64, seconds: u64) {
        self.gateway.config_good.set(1);
        self.gateway.config_loaded.set(i64::try_from(seconds).unwrap_or(i64::MAX));
        self.gateway.config_hash.set(i64::try_from(hash).unwrap_or(i64::MAX));
    }

    /// An attempt to load the configuration again has ended.
    pub fn config_reloaded(&self, good: bool) {
        self.gateway.config_good.set(good.into());
        let result = if good { ReloadResult::Success } else { ReloadResult::Failure };
        self.gateway.reloads.of(result).inc();
    }

    /// The SQLite store takes writes, or not.
    pub fn set_store_up(&self, up: bool) {
        self.gateway.stores.of(StoreKind::Sqlite).up.set(up.into());
    }

    /// The SQLite store has ended an operation, or somebody gave up waiting for it.
    pub fn store_operation(&self, operation: StoreOperation, result: StoreResult, took: Duration) {
        let store = self.gateway.stores.of(StoreKind::Sqlite);
        store.operations.of(operation).of(result).inc();
        store.seconds.of(operation).observe(took.as_secs_f64());
    }

    pub fn set_store_size(&self, bytes: u64) {
        self.gateway.store_size.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    pub fn set_store_log_size(&self, bytes: u64) {
        self.gateway.store_log_size.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// The store goes on in a copy, since a reader did not end.
    pub fn store_renewed(&self) {
        self.gateway.store_renewals.inc();
    }

    pub fn store_committed(&self, now: Timestamp) {
        self.gateway.store_last_commit.set(i64::try_from(now.0 / 1000).unwrap_or(i64::MAX));
    }

    /// Somebody asked the admin listener for something.
    pub fn admin_action(&self, action: AdminAction, result: AdminResult) {
        self.gateway.admin_actions.of(action).of(result).inc();
    }

    /// Where `bitsgw_sessions` comes from; asked at every scrape. The first caller wins.
    pub fn count_sessions_with(&self, counts: SessionCounts) {
        // A second table would be a second gateway in this process, with metrics of its own.
        let _ = self.sessions.set(counts);
    }

    /// Where `bitsgw_backend_connections` comes from; asked at every scrape. The first caller wins.
    pub fn count_connections_with(&self, counts: ConnectionCounts) {
        let _ = self.connections.set(counts);
    }

    /// For the writers of the logs.
    pub fn logs(&self) -> LogCounters {
        self.logs.clone()
    }

    /// Everything, in the text format of Prometheus; see [`CONTENT_TYPE`].
    pub fn encode(&self) -> String {
        self.fill_sessions();
        self.fill_connections();
        TextEncoder::new()
            .encode_to_string(&self.registry.gather())
            .expect("gathered families have a name and at least one series")
    }

    fn fill_sessions(&self) {
        let Some(counts) = self.sessions.get() else { return };
        let counts = counts();
        for (id, ..) in counts.iter().filter(|(_, active, idle)| active + idle > 0) {
            // Sessions of a process before this one.
            let _ = self.backend(*id);
        }
        let gauge = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        for (id, metrics) in self.backends.told() {
            let mine = counts.iter().find(|(other, ..)| *other == id);
            let (active, idle) = mine.map_or((0, 0), |&(_, active, idle)| (active, idle));
            metrics.sessions.of(SessionState::Active).set(gauge(active));
            metrics.sessions.of(SessionState::Idle).set(gauge(idle));
            let waiting = if self.backends.is_up(id) { 0 } else { active + idle };
            metrics.waiting.set(gauge(waiting));
        }
    }

    fn fill_connections(&self) {
        let Some(counts) = self.connections.get() else { return };
        for (id, metrics) in self.backends.told() {
            self.families.connections_to(&metrics, counts(id));
        }
    }

    fn backend(&self, id: BackendId) -> Option<Counters> {
        self.backends.of(&self.families, id)
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// Adds one to a gauge for as long as it lives, so that a request that panics is not counted as
/// running for ever.
#[must_use = "dropping it says that the thing has ended"]
#[derive(Debug)]
pub struct Gauged(Option<IntGauge>);

impl Gauged {
    fn new(gauge: Option<&IntGauge>) -> Self {
        if let Some(gauge) = gauge {
            gauge.inc();
        }
        Self(gauge.cloned())
    }
}

impl Drop for Gauged {
    fn drop(&mut self) {
        if let Some(gauge) = &self.0 {
            gauge.dec();
        }
    }
}

/// Counts messages and losses of the logs.
#[derive(Debug, Clone)]
pub struct LogCounters(Arc<families::LogMetrics>);

impl LogCounters {
    /// Counters that nobody scrapes, for commands that serve nothing.
    pub fn detached() -> Self {
        let families = Families::new(&Registry::new());
        Self(Arc::new(families.logs()))
    }

    pub fn message(&self, level: LogLevel) {
        self.0.messages.of(level).inc();
    }

    pub fn dropped(&self, log: LogName, lines: u64) {
        self.0.dropped.of(log).inc_by(lines);
    }

    /// Lines lost so far.
    pub fn lost(&self, log: LogName) -> u64 {
        self.0.dropped.of(log).get()
    }
}

#[cfg(test)]
mod tests;
