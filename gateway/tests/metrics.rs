//! The ops listener over a real socket, and the names that it serves.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bits_gateway::admin::ops::{self, State};
use bits_gateway::process::readiness::Readiness;
use bits_gateway::sessions::store::Store;
use bits_gateway::telemetry::metrics::registry::{ALL, Description, Kind, PROCESS};
use bits_gateway::telemetry::metrics::{
    AdminAction, AdminResult, BackendState, ConnectError, FailoverReason, HandshakeFailure,
    LogLevel, LogName, Metrics, Outcome, PacketLabel, ProtocolError, Rejection, StoreOperation,
    StoreResult, docs,
};
use bits_gateway::telemetry::problems::{Judge, Level, Problem, Verdict};
use gateway_core::farm::BackendId;
use gateway_core::fault::Fault;
use gateway_core::protocol::ContentRange;
use gateway_core::session::{EndReason, Timestamp};
use tokio_util::sync::CancellationToken;

/// Longer than anything on loopback takes, shorter than anybody's patience.
const DEADLINE: Duration = Duration::from_secs(30);

struct Ops {
    address: SocketAddr,
    metrics: Arc<Metrics>,
    readiness: Readiness,
    stop: CancellationToken,
    thread: Option<thread::JoinHandle<()>>,
}

impl Ops {
    fn start() -> Self {
        let metrics = Metrics::new(&["public".to_owned()], &[(BackendId(0), "up01".to_owned(), 1)]);
        let readiness = Readiness::default();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let state = State {
            metrics: Arc::clone(&metrics),
            readiness: readiness.clone(),
            store: Store::memory(),
            judge: Judge::new(|| Verdict {
                status: Level::Critical,
                problems: vec![Problem {
                    level: Level::Critical,
                    code: "no_backend",
                    message: "none of 3 backends takes new uploads".to_owned(),
                }],
                backends: 3,
                eligible: 0,
                sessions: 7,
            }),
        };
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(ops::serve(listener, state, stopped)).unwrap();
        });
        Self { address, metrics, readiness, stop, thread: Some(thread) }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream
    }

    /// Head and body of the answer.
    fn ask(&self, method: &str, target: &str) -> (String, String) {
        let mut stream = self.connect();
        write!(stream, "{method} {target} HTTP/1.1\r\nHost: ops\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").expect("a whole head");
        (head.to_lowercase(), body.to_owned())
    }

    #[track_caller]
    fn check(&self, method: &str, target: &str, status: u16, body: &str) {
        let (head, sent) = self.ask(method, target);
        assert!(head.starts_with(&format!("http/1.1 {status} ")), "{head}");
        assert_eq!(sent, body);
    }
}

impl Drop for Ops {
    fn drop(&mut self) {
        self.stop.cancel();
        self.thread.take().unwrap().join().unwrap();
    }
}

fn record_one_of_everything(metrics: &Metrics) {
    let up01 = BackendId(0);
    let mut outcome = Outcome::new(0, PacketLabel::Fragment);
    outcome.status = 503;
    outcome.fault = Some(Fault::BackendDown);
    outcome.backend = Some(up01);
    outcome.backend_status = Some(416);
    outcome.protocol_error = Some(ProtocolError::Range);
    outcome.pin_found = Some(true);
    outcome.alias_found = Some(false);
    outcome.range = Some(ContentRange::new(0, 9, 10).unwrap());
    outcome.bytes_in = 10;
    outcome.bytes_out = 10;
    outcome.bytes_forwarded = 10;
    outcome.total = Duration::from_millis(5);
    outcome.backend_wait = Some(Duration::from_millis(1));
    metrics.record(&outcome);
    drop((metrics.request(0), metrics.backend_connected(up01, true)));
    metrics.connection_opened(0);
    metrics.connection_closed(0);
    metrics.rejected(Rejection::HeadTimeout);
    metrics.session_created(up01);
    metrics.session_ended(up01, EndReason::Closed, Duration::from_secs(9), 10);
    metrics.failover(up01, FailoverReason::Connect);
    drop(metrics.backend_connected(up01, true));
    metrics.connect_error(up01, ConnectError::Timeout);
    metrics.set_backend_state(up01, BackendState::Drain);
    metrics.set_backend_weight(up01, 2);
    metrics.set_backend_up(up01, false);
    metrics.health_check(up01, true, Duration::from_millis(2));
    metrics.handshake_failed(HandshakeFailure::Timeout);
    metrics.set_certificate_expiries(&[("./cert.pem".to_owned(), 2_000_000_000)]);
    metrics.set_certificates_usable(false);
    metrics.set_sessions_limit(1000);
    metrics.count_sessions_with(Box::new(|| vec![(BackendId(0), 1, 2)]));
    metrics.set_store_up(true);
    metrics.store_operation(StoreOperation::Put, StoreResult::Timeout, Duration::from_secs(1));
    metrics.set_store_size(4096);
    metrics.store_committed(Timestamp(1_700_000_000_000));
    metrics.admin_action(AdminAction::Reload, AdminResult::Ok);
    metrics.logs().message(LogLevel::Warn);
    metrics.logs().dropped(LogName::Access, 1);
}

/// Names of the families in a scrape.
fn names(scrape: &str) -> BTreeSet<&str> {
    let types = scrape.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    types.map(|line| line.split(' ').next().unwrap()).collect()
}

#[test]
fn promtool_finds_nothing_to_object_to() {
    let ops = Ops::start();
    record_one_of_everything(&ops.metrics);
    let (head, scrape) = ops.ask("GET", "/metrics");
    assert!(head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"), "{head}");
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool runs; it is in the Debian package `prometheus`");
    promtool.stdin.take().unwrap().write_all(scrape.as_bytes()).unwrap();
    let verdict = promtool.wait_with_output().unwrap();
    let said = [verdict.stdout, verdict.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(verdict.status.success(), "{said}");
    assert_eq!(said, "");
}

#[test]
fn the_rules_for_prometheus_ask_for_metrics_that_there_are() {
    let rules = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/prometheus/rules.yml");
    let text = std::fs::read_to_string(rules).unwrap();
    // What stands behind a colon is the name of a recording rule.
    let names = text.split(|c: char| !c.is_alphanumeric() && !"_:".contains(c));
    let names: BTreeSet<_> = names.filter(|name| name.starts_with("bitsgw_")).collect();
    assert!(names.len() > 15, "{names:?}");
    for name in names {
        let parts = ["_bucket", "_sum", "_count"];
        let whole = parts.iter().find_map(|part| name.strip_suffix(part));
        let is_known = |name: &str| ALL.iter().any(|each| each.name == name);
        assert!(is_known(name) || whole.is_some_and(is_known), "{name}");
    }
    let verdict = Command::new("promtool").args(["check", "rules", rules]).output();
    let verdict = verdict.expect("promtool runs; it is in the Debian package `prometheus`");
    assert!(verdict.status.success(), "{}", String::from_utf8_lossy(&verdict.stderr));
}

#[test]
fn what_is_served_is_what_is_described() {
    let ops = Ops::start();
    record_one_of_everything(&ops.metrics);
    ops.metrics.count_connections_with(Box::new(|_| Some(1)));
    let (_, scrape) = ops.ask("GET", "/metrics");
    let described: BTreeSet<_> = ALL.iter().chain(PROCESS).map(|metric| metric.name).collect();
    assert_eq!(names(&scrape), described);
    for Description { name, kind, help, .. } in ALL.iter().chain(PROCESS) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram(_) => "histogram",
        };
        assert!(scrape.contains(&format!("# TYPE {name} {kind}\n")), "{name} is no {kind}");
        assert!(scrape.contains(&format!("# HELP {name} {help}\n")), "{name}: {help}");
    }
}

#[test]
fn the_ends_of_certificates_are_there_in_every_scrape() {
    let metrics = Metrics::new(&[], &[]);
    let end = |name: &str, at: i64| (name.to_owned(), at);
    let shown = |name: &str| {
        metrics.encode().contains(&format!("expiry_timestamp_seconds{{name=\"{name}\"}}"))
    };
    metrics.set_certificate_expiries(&[end("stays", 1), end("goes", 1)]);
    assert!(shown("stays") && shown("goes"));
    std::thread::scope(|scope| {
        let setting = scope.spawn(|| {
            (0..20_000).for_each(|at| metrics.set_certificate_expiries(&[end("stays", at)]));
        });
        while !setting.is_finished() {
            assert!(shown("stays"));
        }
    });
    assert!(!shown("goes"));
}

#[test]
fn everything_is_there_before_anything_happens() {
    let ops = Ops::start();
    // Certificates are known when they are read, which is before anything else.
    ops.metrics.set_certificate_expiries(&[("./cert.pem".to_owned(), 1)]);
    // And those of a backend are there once it has a session.
    ops.metrics.session_created(BackendId(0));
    let (_, fresh) = ops.ask("GET", "/metrics");
    record_one_of_everything(&ops.metrics);
    let (_, used) = ops.ask("GET", "/metrics");
    let series = |scrape: &str| -> Vec<String> {
        let lines = scrape.lines().filter(|line| !line.starts_with('#'));
        lines.map(|line| line.rsplit_once(' ').unwrap().0.to_owned()).collect()
    };
    assert_eq!(series(&fresh), series(&used));
}

#[test]
fn the_page_about_metrics_is_up_to_date() {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md"));
    let generated = docs::markdown();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &generated).unwrap();
    }
    let page = std::fs::read_to_string(&path).unwrap_or_default();
    let hint = "docs/metrics.md is old: UPDATE_DOCS=1 cargo test -p bits-gateway --test metrics";
    assert!(page == generated, "{hint}");
    for name in
        names(&Metrics::new(&["l".to_owned()], &[(BackendId(0), "b".to_owned(), 1)]).encode())
    {
        assert!(page.contains(&format!("| `{name}` |")), "{name} is not described");
    }
}

#[test]
fn readiness_follows_the_life_of_the_process() {
    let ops = Ops::start();
    ops.check("GET", "/livez", 200, "ok\n");
    ops.check("GET", "/readyz", 503, "starting\n");
    ops.check(
        "GET",
        "/readyz?verbose",
        503,
        "[-] started failed\n[+] not-draining ok\n[+] store ok (does not count)\nstarting\n",
    );
    ops.readiness.ready();
    ops.check("GET", "/readyz", 200, "ready\n");
    ops.check(
        "GET",
        "/readyz?verbose=1",
        200,
        "[+] started ok\n[+] not-draining ok\n[+] store ok (does not count)\nready\n",
    );
    assert!(ops.ask("GET", "/metrics").1.contains("\nbitsgw_draining 0\n"));
    ops.readiness.drain();
    ops.readiness.ready();
    ops.check("GET", "/readyz", 503, "draining\n");
    ops.check(
        "GET",
        "/readyz?verbose",
        503,
        "[+] started ok\n[-] not-draining failed\n[+] store ok (does not count)\ndraining\n",
    );
    ops.check("GET", "/livez", 200, "ok\n");
    assert!(ops.ask("GET", "/metrics").1.contains("\nbitsgw_draining 1\n"));
}

#[test]
fn the_version_is_json() {
    let (head, body) = Ops::start().ask("GET", "/version");
    assert!(head.contains("content-type: application/json"), "{head}");
    let version: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(version["name"], "bits-gateway");
    assert_eq!(version["version"], env!("CARGO_PKG_VERSION"));
    assert!(version["rustc"].as_str().unwrap().starts_with("rustc 1."), "{version}");
}

/// Who kills what does not answer 200 must not kill for a full disk.
#[test]
fn health_is_told_with_200_whatever_it_is() {
    let (head, body) = Ops::start().ask("GET", "/health");
    assert!(head.starts_with("http/1.1 200 "), "{head}");
    assert!(head.contains("content-type: application/json"), "{head}");
    let health: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(health["status"], "critical");
    assert_eq!(health["problems"][0]["code"], "no_backend");
    assert_eq!((&health["eligible"], &health["sessions"]), (&0.into(), &7.into()));
}

#[test]
fn heads_are_answered_like_gets_without_the_body() {
    let ops = Ops::start();
    for target in ["/metrics", "/livez", "/readyz", "/health", "/version"] {
        let (head, body) = ops.ask("HEAD", target);
        assert_eq!(body, "", "{target}");
        assert!(head.contains("content-length: ") && !head.contains("content-length: 0"), "{head}");
    }
}

#[test]
fn balancers_may_ask_by_options() {
    let ops = Ops::start();
    let ask = |target: &str| {
        let (head, body) = ops.ask("OPTIONS", target);
        assert_eq!(body, "");
        assert!(head.contains("\r\nallow: get, head, options"), "{head}");
        head.lines().next().unwrap().to_owned()
    };
    assert_eq!(ask("/livez"), "http/1.1 200 ok");
    assert_eq!(ask("/readyz"), "http/1.1 503 service unavailable");
    ops.readiness.ready();
    assert_eq!(ask("/readyz"), "http/1.1 200 ok");
    ops.readiness.drain();
    assert_eq!(ask("/readyz"), "http/1.1 503 service unavailable");
    let (head, _) = ops.ask("POST", "/readyz");
    assert!(head.starts_with("http/1.1 405 "), "{head}");
}

#[test]
fn nothing_else_is_served() {
    let ops = Ops::start();
    for target in ["/", "/metrics/", "/Metrics", "/admin", "//livez", "/livez/..", "/debug/pprof"] {
        ops.check("GET", target, 404, "not found\n");
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "BITS_POST", "TRACE"] {
        let (head, _) = ops.ask(method, "/metrics");
        assert!(ops.ask(method, "/health").0.starts_with("http/1.1 405 "), "{method}");
        assert!(head.starts_with("http/1.1 405 "), "{method}: {head}");
        assert!(head.contains("allow: get, head"), "{head}");
    }
}

#[test]
fn a_head_without_measure_is_refused() {
    let ops = Ops::start();
    let mut stream = ops.connect();
    write!(stream, "GET /livez HTTP/1.1\r\nHost: ops\r\n").unwrap();
    let field = format!("X-Filler: {}\r\n", "x".repeat(1000));
    // The other side may close in the middle of this.
    for _ in 0..100 {
        if stream.write_all(field.as_bytes()).is_err() {
            break;
        }
    }
    let _ = stream.write_all(b"\r\n");
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    ops.check("GET", "/livez", 200, "ok\n");
}

#[test]
fn clients_that_say_nothing_are_limited_in_number_and_time() {
    let ops = Ops::start();
    let mut silent: Vec<_> = (0..ops::CONNECTIONS).map(|_| ops.connect()).collect();
    // Accepted in order, so this one finds the table full and is closed without an answer.
    assert_eq!(ops.connect().read_to_end(&mut Vec::new()).unwrap_or(0), 0);
    // All of them are let go in the end, and then there is room again.
    for stream in &mut silent {
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
    }
    ops.check("GET", "/livez", 200, "ok\n");
}

#[test]
fn the_listener_ends_when_it_is_told_to() {
    let ops = Ops::start();
    let address = ops.address;
    drop(ops);
    assert!(TcpStream::connect(address).is_err());
}
