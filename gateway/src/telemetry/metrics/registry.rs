//! Every metric by name, with its help text: the one place to look when a name is asked for.
//!
//! `docs/metrics.md` is generated from this table, and a collector can only be made from a row of
//! it, so nothing is exported that is not described.

use prometheus::core::Collector;
use prometheus::{
    GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry,
};

/// How a metric moves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram(&'static [f64]),
}

/// One metric: what `docs/metrics.md` says about it.
#[derive(Debug, Clone, Copy)]
pub struct Description {
    pub name: &'static str,
    pub kind: Kind,
    pub labels: &'static [&'static str],
    /// Base unit, or what is counted.
    pub unit: &'static str,
    /// Says when it moves.
    pub help: &'static str,
}

/// Seconds from the head of a request to the last byte of its answer. A Fragment on a slow line
/// takes minutes, hence the long tail.
const REQUEST_SECONDS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0,
];
/// Coarser, because this one exists once per backend and 200 backends share 10,000 series: at once,
/// or only after an application has thought.
const ANSWER_SECONDS: &[f64] = &[0.1, 10.0];
/// 4 KiB to 64 MiB in steps of 4: Windows sends 5 KiB at least and 13 MiB at most on a LAN.
const FRAGMENT_BYTES: &[f64] =
    &[4096.0, 16384.0, 65536.0, 262144.0, 1048576.0, 4194304.0, 16777216.0, 67108864.0];
/// A second to 14 days, the time after which IIS forgets a session.
const SESSION_SECONDS: &[f64] =
    &[1.0, 10.0, 60.0, 300.0, 1800.0, 3600.0, 21600.0, 86400.0, 259200.0, 604800.0, 1209600.0];
/// 64 KiB to 128 GiB in steps of 8.
const SESSION_BYTES: &[f64] = &[
    65536.0,
    524288.0,
    4194304.0,
    33554432.0,
    268435456.0,
    2147483648.0,
    17179869184.0,
    137438953472.0,
];

/// A tenth of a millisecond, a write to a fast disk, to a second, a disk in trouble.
const STORE_SECONDS: &[f64] = &[0.0001, 0.0005, 0.001, 0.005, 0.025, 0.1, 0.5, 1.0];

macro_rules! table {
    ($($id:ident = $name:literal, $kind:expr, [$($label:literal),*], $unit:literal, $help:literal;)*) => {
        $(pub const $id: Description = Description {
            name: $name, kind: $kind, labels: &[$($label),*], unit: $unit, help: $help,
        };)*
        /// In the order of the documentation.
        pub const ALL: &[Description] = &[$($id),*];
    };
}

use Kind::{Counter, Gauge, Histogram};

#[rustfmt::skip]
table! {
    REQUESTS = "bitsgw_requests_total", Counter, ["listener", "packet_type", "code"], "requests",
        "Finished requests, by the status that the client was sent.";
    CARRIED = "bitsgw_carried_requests_total", Counter, ["carrier", "packet_type"], "requests",
        "Finished requests, by what carried them: the gateway's own relay, which has all packets and all requests of logins, or Pingora's proxy, which has plain HTTP.";
    REQUEST_DURATION = "bitsgw_request_duration_seconds", Histogram(REQUEST_SECONDS), ["packet_type"], "seconds",
        "Time from the head of a request to the last byte of its answer.";
    REQUESTS_IN_FLIGHT = "bitsgw_requests_in_flight", Gauge, ["listener"], "requests",
        "Requests that are being served now.";
    REJECTED = "bitsgw_rejected_requests_total", Counter, ["reason"], "requests",
        "Requests that the gateway answered or cut off by itself instead of passing on an answer.";
    RECEIVED_BYTES = "bitsgw_received_bytes_total", Counter, ["listener"], "bytes",
        "Bytes of request bodies read from clients, counted as they come.";
    SENT_BYTES = "bitsgw_sent_bytes_total", Counter, ["listener"], "bytes",
        "Bytes of answer bodies sent to clients, counted when a request ends.";
    CONNECTIONS = "bitsgw_connections", Gauge, ["listener"], "connections",
        "Client connections that are open now.";
    CONNECTIONS_LIMIT = "bitsgw_connections_limit", Gauge, [], "connections",
        "Client connections that are let in at most: `limits.connections`, or what the limit on open files allows.";
    BOUND_CONNECTIONS = "bitsgw_bound_connections", Gauge, [], "connections",
        "Connections to backends that belong to one client connection each, because of an NTLM or Negotiate login or by configuration.";
    CONNECTIONS_TOTAL = "bitsgw_connections_total", Counter, ["listener"], "connections",
        "Client connections accepted.";
    FRAGMENT_SIZE = "bitsgw_fragment_size_bytes", Histogram(FRAGMENT_BYTES), ["listener"], "bytes",
        "Size that the Content-Range of a Fragment announced.";
    SESSIONS = "bitsgw_sessions", Gauge, ["backend", "state"], "sessions",
        "Pinned upload sessions; active means progress within the last 5 minutes.";
    SESSIONS_WAITING_FALLBACK = "bitsgw_sessions_waiting_fallback", Gauge, ["backend"], "sessions",
        "Sessions of a backend that is down: their clients wait for it, and those that were given a host id fall back to the first name after `affinity.fallback_timeout`.";
    SESSIONS_LIMIT = "bitsgw_sessions_limit", Gauge, [], "sessions",
        "Sessions that the session table takes at most.";
    SESSIONS_CREATED = "bitsgw_sessions_created_total", Counter, ["backend"], "sessions",
        "Sessions pinned to a backend.";
    SESSION_ID_CONFLICTS = "bitsgw_session_id_conflicts_total", Counter, [], "sessions",
        "New sessions to which a backend gave the id of another live or recent session; each got an id of the gateway's own.";
    SESSIONS_ENDED = "bitsgw_sessions_ended_total", Counter, ["backend", "reason"], "sessions",
        "Sessions whose pin was removed; those that made room in a full table (evicted) are counted for no backend.";
    SESSION_DURATION = "bitsgw_session_duration_seconds", Histogram(SESSION_SECONDS), ["reason"], "seconds",
        "Time from the creation of a session to its end.";
    SESSION_SIZE = "bitsgw_session_size_bytes", Histogram(SESSION_BYTES), ["reason"], "bytes",
        "Size of the uploaded file when its session ended; 0 if no Fragment was seen.";
    FAILOVERS = "bitsgw_failovers_total", Counter, ["backend", "reason"], "requests",
        "Requests that left this backend behind and went to another.";
    AFFINITY_LOOKUPS = "bitsgw_affinity_lookups_total", Counter, ["source", "result"], "lookups",
        "Questions where a packet belongs: asked of the session table (memory), of the host name in the request (host_id), or of the backends (ask).";
    ASKS = "bitsgw_asks_total", Counter, ["result"], "questions",
        "Questions for a lost session: sent to a backend, or not asked because too many were waiting (limited).";
    LOST_CLOSES = "bitsgw_lost_closes_total", Counter, ["result"], "packets",
        "Close-Sessions of sessions that their backend did not know: whether it had delivered the file, and what the client was told.";
    REFUSED_CREATES = "bitsgw_refused_creates_total", Counter, ["result"], "requests",
        "Create-Sessions that a backend refused: another one was asked (moved), or the client received the refusal (final).";
    BARRED_FOLDERS = "bitsgw_barred_folders", Gauge, ["reason"], "folders",
        "Folders of backends that get no new sessions but a trial now and then: Create-Sessions are refused there (refuses) or not answered (silent), the disk is full (full), or the Pings of probes fail (ping). `bits-gateway backends list` and the log name them.";
    ORPHAN_SESSIONS = "bitsgw_orphan_sessions_total", Counter, ["result"], "sessions",
        "Sessions that a backend opened and no client can have heard of, whose file is too large, or that gave way in a full table: cancelled there, or why not.";
    PROTOCOL_ERRORS = "bitsgw_protocol_errors_total", Counter, ["backend", "error"], "answers",
        "Answers of a backend that refused a packet with an error of the upload protocol.";
    BACKEND_REQUESTS = "bitsgw_backend_requests_total", Counter, ["backend", "code"], "requests",
        "Requests sent to a backend, by the class of its answer.";
    BACKEND_REQUESTS_IN_FLIGHT = "bitsgw_backend_requests_in_flight", Gauge, ["backend"], "requests",
        "Requests that a backend is serving now.";
    BACKEND_RESPONSE_DURATION = "bitsgw_backend_response_duration_seconds", Histogram(ANSWER_SECONDS), ["backend"], "seconds",
        "Time from the last byte of a request to the first byte of the backend's answer.";
    BACKEND_UPLOAD_BYTES = "bitsgw_backend_upload_bytes_total", Counter, ["backend"], "bytes",
        "Bytes of request bodies forwarded to a backend; those of packets are counted as they go, of plain HTTP when a request ends.";
    BACKEND_STATE = "bitsgw_backend_state", Gauge, ["backend", "state"], "boolean",
        "1 for the state that a backend is in, 0 for the others; maintenance covers an operator's maintenance and lost.";
    BACKEND_UP = "bitsgw_backend_up", Gauge, ["backend"], "boolean",
        "1 while a backend can take requests, 0 while it is down.";
    HEALTH_CHECKS = "bitsgw_backend_health_checks_total", Counter, ["backend", "result"], "probes",
        "Probes of a backend that have passed or failed.";
    HEALTH_CHECK_DURATION = "bitsgw_backend_health_check_duration_seconds", Gauge, ["backend"], "seconds",
        "How long the last probe of a backend took.";
    BACKEND_WEIGHT = "bitsgw_backend_weight", Gauge, ["backend"], "ratio",
        "Share of new sessions relative to the other backends.";
    CONNECTION_ATTEMPTS = "bitsgw_backend_connection_attempts_total", Counter, ["backend"], "connections",
        "New connections tried to a backend, successful or not.";
    CONNECTION_REUSES = "bitsgw_backend_connection_reuses_total", Counter, ["backend"], "connections",
        "Requests that went out on a connection kept from an earlier one.";
    CONNECTION_ERRORS = "bitsgw_backend_connection_errors_total", Counter, ["backend", "reason"], "connections",
        "Connections to a backend that could not be made.";
    BACKEND_CONNECTIONS = "bitsgw_backend_connections", Gauge, ["backend"], "connections",
        "Connections to a backend that carry a request, are being made or belong to one client; one that is idle makes room for those. Only there with `limits.backend_connections`.";
    TLS_HANDSHAKE_FAILURES = "bitsgw_tls_handshake_errors_total", Counter, ["reason"], "connections",
        "TLS handshakes with clients that came to nothing.";
    CERTIFICATE_EXPIRY = "bitsgw_tls_certificate_expiry_timestamp_seconds", Gauge, ["name"], "seconds",
        "When the first certificate of a file expires, in Unix time; the name is the file.";
    CERTIFICATES_USABLE = "bitsgw_tls_certificates_usable", Gauge, [], "boolean",
        "0 while new certificate files cannot be used, so that what they held before is served and the next start may fail; else 1.";
    STORE_UP = "bitsgw_store_up", Gauge, ["store"], "boolean",
        "0 while the session store takes no writes, so that new uploads are refused or would not survive a restart; else 1, also while that store is not in use.";
    STORE_OPERATIONS = "bitsgw_store_operations_total", Counter, ["store", "operation", "result"], "operations",
        "Writes to the session store; put is a pin or an admin state, delete the end of a session or the expiry of tombstones.";
    STORE_OPERATION_DURATION = "bitsgw_store_operation_duration_seconds", Histogram(STORE_SECONDS), ["store", "operation"], "seconds",
        "Time from the request for an operation to its durable end, the wait for others included.";
    STORE_SIZE = "bitsgw_store_size_bytes", Gauge, [], "bytes",
        "Bytes that the files of the session store take.";
    STORE_LOG_SIZE = "bitsgw_store_log_size_bytes", Gauge, [], "bytes",
        "Bytes of the log of the session store; more than 4.3 million while a program that reads the store keeps the log from being begun anew.";
    STORE_RENEWALS = "bitsgw_store_renewals_total", Counter, [], "copies",
        "Times that the session store went on in a copy because a program that read it did not end.";
    STORE_LAST_COMMIT = "bitsgw_store_last_commit_timestamp_seconds", Gauge, [], "seconds",
        "When something was last written durably, by the wall clock; 0 if nothing was.";
    DRAINING = "bitsgw_draining", Gauge, [], "boolean",
        "1 while the process takes no new work because it is about to stop.";
    CONFIG_LAST_RELOAD_SUCCESSFUL = "bitsgw_config_last_reload_successful", Gauge, [], "boolean",
        "1 if the last attempt to load the configuration succeeded; 0 means that the file differs from what is in force.";
    CONFIG_LAST_RELOAD_SUCCESS = "bitsgw_config_last_reload_success_timestamp_seconds", Gauge, [], "seconds",
        "When the configuration in force was loaded, in seconds since 1970.";
    CONFIG_RELOADS = "bitsgw_config_reloads_total", Counter, ["result"], "reloads",
        "Attempts to load the configuration again.";
    CONFIG_HASH = "bitsgw_config_hash", Gauge, [], "hash",
        "48 bits of a hash of the configuration in force, to see whether gateways run the same.";
    ADMIN_ACTIONS = "bitsgw_admin_actions_total", Counter, ["action", "result"], "requests",
        "What was asked of the admin listener, and what came of it.";
    LOG_MESSAGES = "bitsgw_log_messages_total", Counter, ["level"], "messages",
        "Messages of the operational log.";
    LOG_DROPPED = "bitsgw_log_messages_dropped_total", Counter, ["log"], "messages",
        "Lines lost: the log could not be written, or not as fast as it was filled, or a library had too much to say.";
    BUILD_INFO = "bitsgw_build_info", Gauge, ["version", "revision", "rustc"], "info",
        "Always 1; the labels say what is running.";
}

/// What the process collector of the prometheus crate adds. Kept here for the documentation.
#[rustfmt::skip]
pub const PROCESS: &[Description] = &[
    process("process_cpu_seconds_total", Counter, "seconds", "Total user and system CPU time spent in seconds."),
    process("process_open_fds", Gauge, "descriptors", "Number of open file descriptors."),
    process("process_max_fds", Gauge, "descriptors", "Maximum number of open file descriptors."),
    process("process_virtual_memory_bytes", Gauge, "bytes", "Virtual memory size in bytes."),
    process("process_resident_memory_bytes", Gauge, "bytes", "Resident memory size in bytes."),
    process("process_start_time_seconds", Gauge, "seconds", "Start time of the process since unix epoch in seconds."),
    process("process_threads", Gauge, "threads", "Number of OS threads in the process."),
];

const fn process(
    name: &'static str,
    kind: Kind,
    unit: &'static str,
    help: &'static str,
) -> Description {
    Description { name, kind, labels: &[], unit, help }
}

impl Description {
    fn opts(&self) -> Opts {
        Opts::new(self.name, self.help)
    }

    /// A counter family of this description, exported by `registry`.
    pub(super) fn counter(&self, registry: &Registry) -> IntCounterVec {
        debug_assert_eq!(self.kind, Counter);
        register(registry, IntCounterVec::new(self.opts(), self.labels))
    }

    pub(super) fn gauge(&self, registry: &Registry) -> IntGaugeVec {
        debug_assert_eq!(self.kind, Gauge);
        register(registry, IntGaugeVec::new(self.opts(), self.labels))
    }

    /// The same for what is no whole number.
    pub(super) fn float_gauge(&self, registry: &Registry) -> GaugeVec {
        debug_assert_eq!(self.kind, Gauge);
        register(registry, GaugeVec::new(self.opts(), self.labels))
    }

    pub(super) fn histogram(&self, registry: &Registry) -> HistogramVec {
        let Histogram(buckets) = self.kind else {
            unreachable!("{} is described as no histogram", self.name)
        };
        let opts = HistogramOpts::from(self.opts()).buckets(buckets.to_vec());
        register(registry, HistogramVec::new(opts, self.labels))
    }
}

fn register<C: Collector + Clone + 'static>(registry: &Registry, made: prometheus::Result<C>) -> C {
    let collector = made.expect("names, labels and buckets of the table are legal");
    registry.register(Box::new(collector.clone())).expect("names of the table are unique");
    collector
}
