//! The families of [`super::registry`], and the handles taken from them once.

use std::marker::PhantomData;

use gateway_core::farm::Sign;
use gateway_core::session::EndReason;
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Registry,
};

use super::labels::{
    AdminAction, AdminResult, AskResult, BackendState, Carrier, CheckResult, ConnectError,
    FailoverReason, HandshakeFailure, Label, LogLevel, LogName, LookupResult, LookupSource,
    LostCloseResult, OrphanResult, PacketLabel, ProtocolError, RefusedCreate, Rejection,
    ReloadResult, SessionState, StatusClass, StatusLabel, StoreKind, StoreOperation, StoreResult,
};
use super::registry;
use crate::base::build_info::{REVISION, RUSTC, VERSION};

/// One `T` for each value of `L`.
#[derive(Debug)]
pub(super) struct ByLabel<L, T>(Box<[T]>, PhantomData<fn(L)>);

impl<L: Label, T> ByLabel<L, T> {
    fn new(make: impl Fn(&'static str) -> T) -> Self {
        Self(L::ALL.iter().map(|value| make(value.label())).collect(), PhantomData)
    }

    pub fn of(&self, label: L) -> &T {
        // Made of every value of `L` in order, and a test holds `index` to that order.
        &self.0[label.index()]
    }
}

pub(super) struct ListenerMetrics {
    pub requests: ByLabel<PacketLabel, ByLabel<StatusLabel, IntCounter>>,
    pub in_flight: IntGauge,
    pub received_bytes: IntCounter,
    pub sent_bytes: IntCounter,
    pub connections: IntGauge,
    pub connections_total: IntCounter,
    pub fragment_bytes: Histogram,
}

pub(super) struct BackendMetrics {
    pub sessions: ByLabel<SessionState, IntGauge>,
    pub sessions_created: IntCounter,
    pub sessions_ended: ByLabel<EndReason, IntCounter>,
    pub failovers: ByLabel<FailoverReason, IntCounter>,
    pub protocol_errors: ByLabel<ProtocolError, IntCounter>,
    pub requests: ByLabel<StatusClass, IntCounter>,
    pub in_flight: IntGauge,
    pub response_seconds: Histogram,
    pub upload_bytes: IntCounter,
    pub weight: IntGauge,
    pub attempts: IntCounter,
    pub reuses: IntCounter,
    pub connect_errors: ByLabel<ConnectError, IntCounter>,
    name: String,
    states: ByLabel<BackendState, IntGauge>,
    pub waiting: IntGauge,
    pub checks: ByLabel<CheckResult, IntCounter>,
    pub check_seconds: Gauge,
}

impl BackendMetrics {
    pub fn set_state(&self, state: BackendState) {
        for &each in BackendState::ALL {
            self.states.of(each).set((each == state).into());
        }
    }
}

pub(super) struct GatewayMetrics {
    pub carried: ByLabel<Carrier, ByLabel<PacketLabel, IntCounter>>,
    pub request_seconds: ByLabel<PacketLabel, Histogram>,
    pub rejected: ByLabel<Rejection, IntCounter>,
    pub lookups: ByLabel<LookupSource, ByLabel<LookupResult, IntCounter>>,
    pub asks: ByLabel<AskResult, IntCounter>,
    pub lost_closes: ByLabel<LostCloseResult, IntCounter>,
    pub refused_creates: ByLabel<RefusedCreate, IntCounter>,
    pub barred_folders: ByLabel<Sign, IntGauge>,
    pub orphans: ByLabel<OrphanResult, IntCounter>,
    pub session_seconds: ByLabel<EndReason, Histogram>,
    pub session_bytes: ByLabel<EndReason, Histogram>,
    pub sessions_limit: IntGauge,
    pub handshake_failures: ByLabel<HandshakeFailure, IntCounter>,
    /// By the file of the certificate.
    pub certificate_expiry: IntGaugeVec,
    pub certificates_usable: IntGauge,
    pub draining: IntGauge,
    pub connections_limit: IntGauge,
    pub bound_connections: IntGauge,
    pub session_id_conflicts: IntCounter,
    pub config_good: IntGauge,
    pub config_loaded: IntGauge,
    pub config_hash: IntGauge,
    pub reloads: ByLabel<ReloadResult, IntCounter>,
    pub store_size: IntGauge,
    pub store_log_size: IntGauge,
    pub store_renewals: IntCounter,
    pub store_last_commit: IntGauge,
    pub stores: ByLabel<StoreKind, StoreMetrics>,
    pub admin_actions: ByLabel<AdminAction, ByLabel<AdminResult, IntCounter>>,
}

pub(super) struct StoreMetrics {
    pub up: IntGauge,
    pub operations: ByLabel<StoreOperation, ByLabel<StoreResult, IntCounter>>,
    pub seconds: ByLabel<StoreOperation, Histogram>,
}

#[derive(Debug)]
pub(super) struct LogMetrics {
    pub messages: ByLabel<LogLevel, IntCounter>,
    pub dropped: ByLabel<LogName, IntCounter>,
}

/// All families of one registry, to take handles from.
pub(super) struct Families {
    requests: IntCounterVec,
    carried: IntCounterVec,
    request_duration: HistogramVec,
    requests_in_flight: IntGaugeVec,
    rejected: IntCounterVec,
    received_bytes: IntCounterVec,
    sent_bytes: IntCounterVec,
    connections: IntGaugeVec,
    connections_total: IntCounterVec,
    fragment_size: HistogramVec,
    sessions: IntGaugeVec,
    sessions_waiting: IntGaugeVec,
    sessions_limit: IntGaugeVec,
    sessions_created: IntCounterVec,
    sessions_ended: IntCounterVec,
    session_duration: HistogramVec,
    session_size: HistogramVec,
    failovers: IntCounterVec,
    lookups: IntCounterVec,
    asks: IntCounterVec,
    lost_closes: IntCounterVec,
    refused_creates: IntCounterVec,
    barred_folders: IntGaugeVec,
    orphans: IntCounterVec,
    protocol_errors: IntCounterVec,
    backend_requests: IntCounterVec,
    backend_in_flight: IntGaugeVec,
    backend_response: HistogramVec,
    backend_upload: IntCounterVec,
    backend_state: IntGaugeVec,
    backend_up: IntGaugeVec,
    health_checks: IntCounterVec,
    health_check_duration: GaugeVec,
    backend_weight: IntGaugeVec,
    attempts: IntCounterVec,
    reuses: IntCounterVec,
    connect_errors: IntCounterVec,
    connections_to: IntGaugeVec,
    handshake_failures: IntCounterVec,
    certificate_expiry: IntGaugeVec,
    certificates_usable: IntGaugeVec,
    draining: IntGaugeVec,
    connections_limit: IntGaugeVec,
    bound_connections: IntGaugeVec,
    session_id_conflicts: IntCounterVec,
    config_good: IntGaugeVec,
    config_loaded: IntGaugeVec,
    config_hash: IntGaugeVec,
    reloads: IntCounterVec,
    store_up: IntGaugeVec,
    store_operations: IntCounterVec,
    store_duration: HistogramVec,
    store_size: IntGaugeVec,
    store_log_size: IntGaugeVec,
    store_renewals: IntCounterVec,
    store_last_commit: IntGaugeVec,
    admin_actions: IntCounterVec,
    log_messages: IntCounterVec,
    log_dropped: IntCounterVec,
}

impl Families {
    pub fn new(registry: &Registry) -> Self {
        let build = registry::BUILD_INFO.gauge(registry);
        build.with_label_values(&[VERSION, REVISION, RUSTC]).set(1);
        Self {
            requests: registry::REQUESTS.counter(registry),
            carried: registry::CARRIED.counter(registry),
            request_duration: registry::REQUEST_DURATION.histogram(registry),
            requests_in_flight: registry::REQUESTS_IN_FLIGHT.gauge(registry),
            rejected: registry::REJECTED.counter(registry),
            received_bytes: registry::RECEIVED_BYTES.counter(registry),
            sent_bytes: registry::SENT_BYTES.counter(registry),
            connections: registry::CONNECTIONS.gauge(registry),
            connections_total: registry::CONNECTIONS_TOTAL.counter(registry),
            fragment_size: registry::FRAGMENT_SIZE.histogram(registry),
            sessions: registry::SESSIONS.gauge(registry),
            sessions_waiting: registry::SESSIONS_WAITING_FALLBACK.gauge(registry),
            sessions_limit: registry::SESSIONS_LIMIT.gauge(registry),
            sessions_created: registry::SESSIONS_CREATED.counter(registry),
            sessions_ended: registry::SESSIONS_ENDED.counter(registry),
            session_duration: registry::SESSION_DURATION.histogram(registry),
            session_size: registry::SESSION_SIZE.histogram(registry),
            failovers: registry::FAILOVERS.counter(registry),
            lookups: registry::AFFINITY_LOOKUPS.counter(registry),
            asks: registry::ASKS.counter(registry),
            lost_closes: registry::LOST_CLOSES.counter(registry),
            refused_creates: registry::REFUSED_CREATES.counter(registry),
            barred_folders: registry::BARRED_FOLDERS.gauge(registry),
            orphans: registry::ORPHAN_SESSIONS.counter(registry),
            protocol_errors: registry::PROTOCOL_ERRORS.counter(registry),
            backend_requests: registry::BACKEND_REQUESTS.counter(registry),
            backend_in_flight: registry::BACKEND_REQUESTS_IN_FLIGHT.gauge(registry),
            backend_response: registry::BACKEND_RESPONSE_DURATION.histogram(registry),
            backend_upload: registry::BACKEND_UPLOAD_BYTES.counter(registry),
            backend_state: registry::BACKEND_STATE.gauge(registry),
            backend_up: registry::BACKEND_UP.gauge(registry),
            health_checks: registry::HEALTH_CHECKS.counter(registry),
            health_check_duration: registry::HEALTH_CHECK_DURATION.float_gauge(registry),
            backend_weight: registry::BACKEND_WEIGHT.gauge(registry),
            attempts: registry::CONNECTION_ATTEMPTS.counter(registry),
            reuses: registry::CONNECTION_REUSES.counter(registry),
            connect_errors: registry::CONNECTION_ERRORS.counter(registry),
            connections_to: registry::BACKEND_CONNECTIONS.gauge(registry),
            handshake_failures: registry::TLS_HANDSHAKE_FAILURES.counter(registry),
            certificate_expiry: registry::CERTIFICATE_EXPIRY.gauge(registry),
            certificates_usable: registry::CERTIFICATES_USABLE.gauge(registry),
            connections_limit: registry::CONNECTIONS_LIMIT.gauge(registry),
            bound_connections: registry::BOUND_CONNECTIONS.gauge(registry),
            session_id_conflicts: registry::SESSION_ID_CONFLICTS.counter(registry),
            draining: registry::DRAINING.gauge(registry),
            config_good: registry::CONFIG_LAST_RELOAD_SUCCESSFUL.gauge(registry),
            config_loaded: registry::CONFIG_LAST_RELOAD_SUCCESS.gauge(registry),
            config_hash: registry::CONFIG_HASH.gauge(registry),
            reloads: registry::CONFIG_RELOADS.counter(registry),
            store_up: registry::STORE_UP.gauge(registry),
            store_operations: registry::STORE_OPERATIONS.counter(registry),
            store_duration: registry::STORE_OPERATION_DURATION.histogram(registry),
            store_size: registry::STORE_SIZE.gauge(registry),
            store_log_size: registry::STORE_LOG_SIZE.gauge(registry),
            store_renewals: registry::STORE_RENEWALS.counter(registry),
            store_last_commit: registry::STORE_LAST_COMMIT.gauge(registry),
            admin_actions: registry::ADMIN_ACTIONS.counter(registry),
            log_messages: registry::LOG_MESSAGES.counter(registry),
            log_dropped: registry::LOG_DROPPED.counter(registry),
        }
    }

    pub fn listener(&self, name: &str) -> ListenerMetrics {
        ListenerMetrics {
            requests: ByLabel::new(|packet| {
                ByLabel::new(|code| self.requests.with_label_values(&[name, packet, code]))
            }),
            in_flight: self.requests_in_flight.with_label_values(&[name]),
            received_bytes: self.received_bytes.with_label_values(&[name]),
            sent_bytes: self.sent_bytes.with_label_values(&[name]),
            connections: self.connections.with_label_values(&[name]),
            connections_total: self.connections_total.with_label_values(&[name]),
            fragment_bytes: self.fragment_size.with_label_values(&[name]),
        }
    }

    pub fn backend_up(&self, name: &str) -> IntGauge {
        self.backend_up.with_label_values(&[name])
    }

    pub fn backend(&self, name: &str, weight: u32, state: BackendState) -> BackendMetrics {
        let metrics = BackendMetrics {
            sessions: ByLabel::new(|state| self.sessions.with_label_values(&[name, state])),
            sessions_created: self.sessions_created.with_label_values(&[name]),
            sessions_ended: ByLabel::new(|why| {
                // That a table is full is no backend's doing, and a series for each would be many.
                let name = if why == EndReason::Evicted.label() { "" } else { name };
                self.sessions_ended.with_label_values(&[name, why])
            }),
            failovers: ByLabel::new(|why| self.failovers.with_label_values(&[name, why])),
            protocol_errors: ByLabel::new(|error| {
                self.protocol_errors.with_label_values(&[name, error])
            }),
            requests: ByLabel::new(|code| self.backend_requests.with_label_values(&[name, code])),
            in_flight: self.backend_in_flight.with_label_values(&[name]),
            response_seconds: self.backend_response.with_label_values(&[name]),
            upload_bytes: self.backend_upload.with_label_values(&[name]),
            weight: self.backend_weight.with_label_values(&[name]),
            attempts: self.attempts.with_label_values(&[name]),
            reuses: self.reuses.with_label_values(&[name]),
            connect_errors: ByLabel::new(|why| self.connect_errors.with_label_values(&[name, why])),
            name: name.to_owned(),
            states: ByLabel::new(|state| self.backend_state.with_label_values(&[name, state])),
            waiting: self.sessions_waiting.with_label_values(&[name]),
            checks: ByLabel::new(|how| self.health_checks.with_label_values(&[name, how])),
            check_seconds: self.health_check_duration.with_label_values(&[name]),
        };
        metrics.weight.set(weight.into());
        metrics.set_state(state);
        metrics
    }

    /// How many connections to a backend are used, where somebody counts them.
    pub fn connections_to(&self, backend: &BackendMetrics, count: Option<usize>) {
        let name = [backend.name.as_str()];
        match count {
            Some(count) => {
                let count = i64::try_from(count).unwrap_or(i64::MAX);
                self.connections_to.with_label_values(&name).set(count);
            }
            // An error says that there was none.
            None => _ = self.connections_to.remove_label_values(&name),
        }
    }

    /// Deletes the series of a backend. Handles that are still around count on, and nobody sees it.
    pub fn remove_backend(&self, name: &str) {
        // An error says that there is no such series.
        for each in [&self.sessions_created, &self.backend_upload, &self.attempts, &self.reuses] {
            let _ = each.remove_label_values(&[name]);
        }
        let up = [&self.backend_up, &self.connections_to, &self.sessions_waiting];
        for each in up.into_iter().chain([&self.backend_in_flight, &self.backend_weight]) {
            let _ = each.remove_label_values(&[name]);
        }
        let _ = self.backend_response.remove_label_values(&[name]);
        let _ = self.health_check_duration.remove_label_values(&[name]);
        fn all<L: Label>(mut remove: impl FnMut(&'static str)) {
            L::ALL.iter().for_each(|value| remove(value.label()));
        }
        let remove =
            |family: &IntCounterVec, value| drop(family.remove_label_values(&[name, value]));
        all::<EndReason>(|value| remove(&self.sessions_ended, value));
        all::<FailoverReason>(|value| remove(&self.failovers, value));
        all::<ProtocolError>(|value| remove(&self.protocol_errors, value));
        all::<StatusClass>(|value| remove(&self.backend_requests, value));
        all::<ConnectError>(|value| remove(&self.connect_errors, value));
        all::<CheckResult>(|value| remove(&self.health_checks, value));
        let remove = |family: &IntGaugeVec, value| drop(family.remove_label_values(&[name, value]));
        all::<SessionState>(|value| remove(&self.sessions, value));
        all::<BackendState>(|value| remove(&self.backend_state, value));
    }

    pub fn gateway(&self) -> GatewayMetrics {
        // No backend's, so it is there before any of them.
        self.sessions_ended.with_label_values(&["", EndReason::Evicted.label()]);
        GatewayMetrics {
            carried: ByLabel::new(|carrier| {
                ByLabel::new(|packet| self.carried.with_label_values(&[carrier, packet]))
            }),
            request_seconds: ByLabel::new(|packet| {
                self.request_duration.with_label_values(&[packet])
            }),
            rejected: ByLabel::new(|why| self.rejected.with_label_values(&[why])),
            lookups: ByLabel::new(|source| {
                ByLabel::new(|result| self.lookups.with_label_values(&[source, result]))
            }),
            asks: ByLabel::new(|result| self.asks.with_label_values(&[result])),
            lost_closes: ByLabel::new(|result| self.lost_closes.with_label_values(&[result])),
            refused_creates: ByLabel::new(|result| {
                self.refused_creates.with_label_values(&[result])
            }),
            barred_folders: ByLabel::new(|why| self.barred_folders.with_label_values(&[why])),
            orphans: ByLabel::new(|result| self.orphans.with_label_values(&[result])),
            session_seconds: ByLabel::new(|why| self.session_duration.with_label_values(&[why])),
            session_bytes: ByLabel::new(|why| self.session_size.with_label_values(&[why])),
            sessions_limit: self.sessions_limit.with_label_values::<&str>(&[]),
            handshake_failures: ByLabel::new(|why| {
                self.handshake_failures.with_label_values(&[why])
            }),
            certificate_expiry: self.certificate_expiry.clone(),
            certificates_usable: self.certificates_usable.with_label_values::<&str>(&[]),
            connections_limit: self.connections_limit.with_label_values::<&str>(&[]),
            bound_connections: self.bound_connections.with_label_values::<&str>(&[]),
            session_id_conflicts: self.session_id_conflicts.with_label_values::<&str>(&[]),
            draining: self.draining.with_label_values::<&str>(&[]),
            config_good: self.config_good.with_label_values::<&str>(&[]),
            config_loaded: self.config_loaded.with_label_values::<&str>(&[]),
            config_hash: self.config_hash.with_label_values::<&str>(&[]),
            reloads: ByLabel::new(|result| self.reloads.with_label_values(&[result])),
            store_size: self.store_size.with_label_values::<&str>(&[]),
            store_log_size: self.store_log_size.with_label_values::<&str>(&[]),
            store_renewals: self.store_renewals.with_label_values::<&str>(&[]),
            store_last_commit: self.store_last_commit.with_label_values::<&str>(&[]),
            stores: ByLabel::new(|store| self.store(store)),
            admin_actions: ByLabel::new(|action| {
                ByLabel::new(|result| self.admin_actions.with_label_values(&[action, result]))
            }),
        }
    }

    fn store(&self, store: &str) -> StoreMetrics {
        let metrics = StoreMetrics {
            up: self.store_up.with_label_values(&[store]),
            operations: ByLabel::new(|operation| {
                ByLabel::new(|result| {
                    self.store_operations.with_label_values(&[store, operation, result])
                })
            }),
            seconds: ByLabel::new(|operation| {
                self.store_duration.with_label_values(&[store, operation])
            }),
        };
        metrics.up.set(1);
        metrics
    }

    pub fn logs(&self) -> LogMetrics {
        LogMetrics {
            messages: ByLabel::new(|level| self.log_messages.with_label_values(&[level])),
            dropped: ByLabel::new(|log| self.log_dropped.with_label_values(&[log])),
        }
    }
}
