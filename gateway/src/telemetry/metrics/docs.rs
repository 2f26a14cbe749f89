//! Writes `docs/metrics.md` from the table of metrics.

use std::fmt::Write;

use gateway_core::farm::Sign;
use gateway_core::session::EndReason;

use super::labels::{self, Label};
use super::registry::{ALL, Description, Kind, PROCESS};

const HEAD: &str = "\
# Metrics

<!-- Generated from gateway/src/telemetry/metrics/registry.rs: \
`UPDATE_DOCS=1 cargo test -p bits-gateway --test metrics` writes this file anew. -->

The ops listener serves these at `/metrics` in the text format of Prometheus.
Every series exists from the start, at 0, so that a rate sees the first event too, but those with the label `backend`.
`bitsgw_backend_up` is there for each backend from the start.
The others of a backend are made, all at 0, when it gets its first request, session or connection, when a probe of it fails, \
or when an operator changes its state or weight, and leave with it; `bitsgw_backend_connections` only while `limits.backend_connections` is set.
So a probe that passes is counted once the backend has its series.
Label values come from the configuration (`listener`, `backend`) or from the closed sets below, \
never from a request: no client can make a new series.
A gateway with 2 listeners and 200 backends has fewer than 10,000 series when all are used, and one with 2,000 backends fewer than 3,000 before there is traffic.

";

const AFTER_LABELS: &str = "
A status of `bitsgw_requests_total` that is not listed counts under its class, so that \
`code=~\"5..\"` finds every server error in both metrics that have the label.
`code=\"none\"` means that the connection ended before an answer.
Requests that a client connection was cut off for (`head_timeout`, `connection_limit`, \
`address_limit`, `plain_on_tls`, `tls_on_plain`, `proxy_protocol`) appear in \
`bitsgw_rejected_requests_total` only.

Besides these, the process itself is described by:

";

/// The text of `docs/metrics.md`.
pub fn markdown() -> String {
    let mut page = HEAD.to_owned();
    table(&mut page, ALL);
    page.push_str("\n## Buckets\n\n| Histogram | Upper bounds |\n|---|---|\n");
    for metric in ALL {
        if let Kind::Histogram(bounds) = metric.kind {
            let bounds: Vec<_> = bounds.iter().map(f64::to_string).collect();
            writeln!(page, "| `{}` | {} |", metric.name, bounds.join(" ")).expect(STRING);
        }
    }
    page.push_str("\n## Labels\n\n| Metric | Label | Values |\n|---|---|---|\n");
    for (metric, label, values) in closed_sets() {
        writeln!(page, "| `{metric}` | `{label}` | {} |", values.join(", ")).expect(STRING);
    }
    page.push_str(AFTER_LABELS);
    table(&mut page, PROCESS);
    page
}

const STRING: &str = "a String takes everything";

fn table(page: &mut String, metrics: &[Description]) {
    page.push_str("| Name | Type | Labels | Unit | Meaning |\n|---|---|---|---|---|\n");
    for metric in metrics {
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram(_) => "histogram",
        };
        let labels: Vec<_> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        let labels = if labels.is_empty() { "-".to_owned() } else { labels.join(", ") };
        let Description { name, unit, help, .. } = metric;
        writeln!(page, "| `{name}` | {kind} | {labels} | {unit} | {help} |").expect(STRING);
    }
}

fn closed_sets() -> Vec<(&'static str, &'static str, Vec<&'static str>)> {
    use super::registry as name;
    vec![
        (name::REQUESTS.name, "packet_type", values::<labels::PacketLabel>()),
        (name::REQUESTS.name, "code", values::<labels::StatusLabel>()),
        (name::CARRIED.name, "carrier", values::<labels::Carrier>()),
        (name::CARRIED.name, "packet_type", values::<labels::PacketLabel>()),
        (name::REQUEST_DURATION.name, "packet_type", values::<labels::PacketLabel>()),
        (name::REJECTED.name, "reason", values::<labels::Rejection>()),
        (name::TLS_HANDSHAKE_FAILURES.name, "reason", values::<labels::HandshakeFailure>()),
        (name::SESSIONS.name, "state", values::<labels::SessionState>()),
        (name::SESSIONS_ENDED.name, "reason", values::<EndReason>()),
        (name::SESSION_DURATION.name, "reason", values::<EndReason>()),
        (name::SESSION_SIZE.name, "reason", values::<EndReason>()),
        (name::FAILOVERS.name, "reason", values::<labels::FailoverReason>()),
        (name::REFUSED_CREATES.name, "result", values::<labels::RefusedCreate>()),
        (name::BARRED_FOLDERS.name, "reason", values::<Sign>()),
        (name::AFFINITY_LOOKUPS.name, "source", values::<labels::LookupSource>()),
        (name::AFFINITY_LOOKUPS.name, "result", values::<labels::LookupResult>()),
        (name::PROTOCOL_ERRORS.name, "error", values::<labels::ProtocolError>()),
        (name::BACKEND_REQUESTS.name, "code", values::<labels::StatusClass>()),
        (name::HEALTH_CHECKS.name, "result", values::<labels::CheckResult>()),
        (name::BACKEND_STATE.name, "state", values::<labels::BackendState>()),
        (name::CONNECTION_ERRORS.name, "reason", values::<labels::ConnectError>()),
        (name::CONFIG_RELOADS.name, "result", values::<labels::ReloadResult>()),
        (name::STORE_UP.name, "store", values::<labels::StoreKind>()),
        (name::STORE_OPERATIONS.name, "operation", values::<labels::StoreOperation>()),
        (name::STORE_OPERATIONS.name, "result", values::<labels::StoreResult>()),
        (name::ADMIN_ACTIONS.name, "action", values::<labels::AdminAction>()),
        (name::ADMIN_ACTIONS.name, "result", values::<labels::AdminResult>()),
        (name::LOG_MESSAGES.name, "level", values::<labels::LogLevel>()),
        (name::LOG_DROPPED.name, "log", values::<labels::LogName>()),
    ]
}

fn values<L: Label>() -> Vec<&'static str> {
    L::ALL.iter().map(|value| value.label()).collect()
}
