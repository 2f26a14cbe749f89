use std::path::PathBuf;

use gateway_core::protocol::HResult;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::super::rig::*;
use super::super::state::Exchange;
use super::*;
use crate::telemetry::log_writer::{Destination, FlushGuard};

/// A rig whose access log is a file.
struct Logged {
    rig: Rig,
    file: PathBuf,
    flush: FlushGuard,
    _dir: TempDir,
}

fn logged() -> Logged {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("access.log");
    let counters = crate::telemetry::metrics::LogCounters::detached();
    let (log, flush) = AccessLog::open(Destination::File(file.clone()), counters).unwrap();
    Logged { rig: Rig::logging_to("", log), file, flush, _dir: dir }
}

impl Logged {
    /// The lines that were written, once nothing more can come.
    fn lines(self) -> Vec<Value> {
        drop(self.rig);
        drop(self.flush);
        let text = std::fs::read_to_string(&self.file).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// All requests that were counted, whatever they were.
fn counted(rig: &Rig) -> u64 {
    let text = rig.metrics.encode();
    let series = text.lines().filter_map(|line| line.strip_prefix("bitsgw_requests_total{"));
    series.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}

async fn one(change: impl FnOnce(&mut Exchange)) -> (Value, String) {
    let logged = logged();
    logged.rig.pin(ID, UP01, 100).await;
    let head = fragment(ID, "100-199/10000");
    let mut exchange = logged.rig.admitted(&head).await;
    change(&mut exchange);
    drop(exchange);
    let text = logged.rig.metrics.encode();
    let [line] = &logged.lines()[..] else { panic!("one line") };
    (line.clone(), text)
}

#[track_caller]
fn check_counts(text: &str, series: &str) {
    assert!(text.lines().any(|line| line == series), "{series} is not in\n{text}");
}

#[tokio::test]
async fn a_request_that_was_served_tells_all_that_is_known() {
    let (line, text) = one(|exchange| {
        exchange.tries.count = 3;
        exchange.tries.reused = true;
        exchange.attempt.bytes_in = 100;
        exchange.answered.backend_status = Some(200);
        exchange.sent = Sent { status: Some(200), bytes_forwarded: 100, ..Sent::default() };
    })
    .await;
    for (field, value) in [
        ("packet", json!("fragment")),
        ("method", json!("BITS_POST")),
        ("path", json!("/in/report.cab")),
        ("client", json!("192.0.2.7")),
        ("backend", json!("up01")),
        ("pin_source", json!("pin")),
        ("status", json!(200)),
        ("retries", json!(2)),
        ("bytes_in", json!(100)),
        ("carrier", json!("relay")),
    ] {
        assert_eq!(line[field], value, "{field} of {line}");
    }
    assert!(line.get("fault").is_none() && line.get("bits_error").is_none(), "{line}");
    let requests = "bitsgw_requests_total{code=\"200\",listener=\"public\"";
    assert!(text.lines().any(|line| line.starts_with(requests) && line.ends_with(" 1")), "{text}");
}

#[tokio::test]
async fn a_fault_is_told_with_its_error_code() {
    let (line, text) = one(|exchange| {
        exchange.findings.fault = Some(Fault::UnknownSession);
        exchange.sent.status = Some(500);
    })
    .await;
    assert_eq!(line["fault"], json!(Fault::UnknownSession.label()));
    assert_eq!(line["bits_error"], json!("0x8020001F"));
    check_counts(&text, r#"bitsgw_rejected_requests_total{reason="unknown_session"} 1"#);
}

#[tokio::test]
async fn the_error_code_of_a_server_counts_before_ours() {
    let (line, _) = one(|exchange| {
        exchange.answered.backend_error = Some(HResult(0x8007_0005));
        exchange.findings.fault = Some(Fault::UnknownSession);
    })
    .await;
    assert_eq!(line["bits_error"], json!("0x80070005"));
}

#[tokio::test]
async fn a_session_of_another_client_is_counted_as_such() {
    let (_, text) = one(|exchange| {
        exchange.findings.fault = Some(Fault::UnknownSession);
        exchange.findings.foreign = true;
    })
    .await;
    check_counts(&text, r#"bitsgw_rejected_requests_total{reason="foreign_session"} 1"#);
    check_counts(&text, r#"bitsgw_rejected_requests_total{reason="unknown_session"} 0"#);
}

#[tokio::test]
async fn a_backend_counts_only_where_a_connection_came_about() {
    let counts = |text: &str| {
        let of_up01 = text
            .lines()
            .filter(|line| line.starts_with("bitsgw_backend_requests_total{backend=\"up01\""));
        of_up01.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum::<u64>()
    };
    let (line, text) = one(|_| {}).await;
    assert_eq!((counts(&text), line.get("conn_reused")), (0, None));
    let logged = logged();
    logged.rig.pin(ID, UP01, 100).await;
    let head = fragment(ID, "100-199/10000");
    let mut exchange = logged.rig.admitted(&head).await;
    logged.rig.gateway.connected(true, &mut exchange).unwrap();
    drop(exchange);
    assert_eq!(counts(&logged.rig.metrics.encode()), 1);
    assert_eq!(logged.lines()[0]["conn_reused"], json!(true));
}

#[tokio::test]
async fn a_client_that_was_gone_has_no_status() {
    let (line, text) = one(|_| {}).await;
    assert!(line.get("status").is_none(), "{line}");
    let requests = "bitsgw_requests_total{code=\"none\"";
    assert!(text.lines().any(|line| line.starts_with(requests) && line.ends_with(" 1")), "{text}");
}

#[tokio::test]
async fn a_packet_that_could_not_be_read_is_of_no_known_kind() {
    let logged = logged();
    let broken = head("BITS_POST", TARGET, &[("BITS-Packet-Type", "Sing")]);
    let mut exchange = logged.rig.arrive(&broken);
    assert!(logged.rig.gateway.admit(&broken, &mut exchange).await.is_err());
    drop(exchange);
    drop(logged.rig.arrive(&get("/")));
    let kinds: Vec<_> = logged.lines().iter().map(|line| line["packet"].clone()).collect();
    assert_eq!(kinds, [json!("unknown"), json!("other")]);
}

#[tokio::test]
async fn each_request_is_told_of_once() {
    let logged = logged();
    let head = create();
    let mut exchange = logged.rig.admitted(&head).await;
    exchange.sent.status = Some(200);
    logged.rig.gateway.finish(&head, &mut exchange).await;
    assert_eq!(counted(&logged.rig), 1);
    exchange.report();
    drop(exchange);
    assert_eq!(counted(&logged.rig), 1);
    assert_eq!(logged.lines().len(), 1);
}

#[tokio::test]
async fn a_request_that_is_given_up_in_the_middle_is_told_of() {
    let logged = logged();
    logged.rig.pin(ID, UP01, 100).await;
    logged.rig.take_down(UP01);
    let head = fragment(ID, "100-199/10000");
    let mut exchange = logged.rig.arrive(&head);
    {
        let mut held = std::pin::pin!(logged.rig.gateway.admit(&head, &mut exchange));
        assert!(futures_util::poll!(&mut held).is_pending());
    }
    drop(exchange);
    assert_eq!(counted(&logged.rig), 1);
    let lines = logged.lines();
    // What was known of it by then.
    assert_eq!((lines.len(), &lines[0]["packet"]), (1, &json!("fragment")));
    assert!(lines[0]["session"].is_string());
}

#[tokio::test]
async fn a_request_that_panics_is_told_of_as_our_fault() {
    let logged = logged();
    let exchange = logged.rig.admitted(&create()).await;
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
        let _exchange = exchange;
        std::panic::resume_unwind(Box::new("on purpose"));
    }));
    assert!(panicked.is_err());
    assert_eq!(counted(&logged.rig), 1);
    let lines = logged.lines();
    assert_eq!((lines.len(), &lines[0]["fault"]), (1, &json!(Fault::Internal.label())));
}

#[tokio::test]
async fn what_was_never_a_request_is_not_told_of() {
    let logged = logged();
    drop(logged.rig.gateway.expect(crate::telemetry::metrics::Carrier::Relay));
    assert_eq!(counted(&logged.rig), 0);
    assert_eq!(logged.lines().len(), 0);
}

#[tokio::test]
async fn requests_have_ids_of_their_own() {
    let logged = logged();
    for _ in 0..3 {
        drop(logged.rig.arrive(&get("/")));
    }
    let lines = logged.lines();
    let ids: std::collections::BTreeSet<_> =
        lines.iter().map(|line| line["request_id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), 3);
}

#[tokio::test]
async fn an_end_of_a_session_is_told_of_with_its_request() {
    let logged = logged();
    logged.rig.pin(ID, UP01, 10_000).await;
    let head = cancel(ID);
    let mut exchange = logged.rig.admitted(&head).await;
    let acked = answer((200, &[ACK]));
    logged.rig.gateway.learn(&head, &acked, &mut exchange).await.unwrap();
    drop(exchange);
    let lines = logged.lines();
    let [ended, request] = &lines[..] else { panic!("{lines:?}") };
    assert_eq!(ended["request_id"], request["request_id"]);
    assert_eq!((&ended["reason"], &ended["backend"]), (&json!("cancelled"), &json!("up01")));
}

/// What is counted of a client at `address`, where the proxies of `trusted` are ours.
fn counted_client(
    trusted: &str,
    address: Option<[u8; 4]>,
) -> Option<gateway_core::protocol::client::ClientKey> {
    let rig = Rig::with(&format!("[http]\ntrusted_proxies = [{trusted}]"));
    let mut exchange = rig.arrive(&get("/"));
    exchange.arrival.client = address.map(Into::into);
    exchange.arrival.counted_client()
}

#[test]
fn a_client_counts_unless_it_is_a_proxy_of_ours_that_names_nobody() {
    assert!(counted_client("", Some([192, 0, 2, 1])).is_some());
    assert_eq!(counted_client("\"192.0.2.0/24\"", Some([192, 0, 2, 1])), None);
    assert!(counted_client("\"192.0.2.0/24\"", Some([198, 51, 100, 1])).is_some());
    assert_eq!(counted_client("", None), None);
}
