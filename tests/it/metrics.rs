//! The numbers after real uploads, and the form in which they are served.
//!
//! Items 59 and 97 of the conformance checklist are tested elsewhere; here the counters have to say what happened.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use e2e_tests::client::{FragmentSizes, exchange};
use e2e_tests::data::Content;
use e2e_tests::farm::{Farm, StubFault};
use e2e_tests::{clock, wait};

use crate::packets::{Servers, TARGET, cancel, close, fragment, ping};

const SIZE: u64 = 250_000;

/// Requests are counted when they have ended, which is a moment after their client has the answer.
#[track_caller]
fn counts(farm: &Farm, name: &str, labels: &[(&str, &str)], expected: f64) {
    let mut found = f64::NAN;
    let end = clock::now() + wait::DEADLINE;
    while clock::now() < end && found != expected {
        found = farm.metric(name, labels);
        std::thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(found, expected, "{name} {labels:?}");
}

#[test]
fn the_counters_say_what_happened_to_an_upload() {
    let farm = Farm::of_stubs(2).start();
    let content = Content::seeded(1, SIZE);
    // Three fragments.
    let client = farm.client().with(|o| o.fragments = FragmentSizes::Fixed(100_000));
    client.upload(&farm.url("/in/a.bin"), &content).expect_smooth();
    let backend = farm.expect_stored("/in/a.bin", &content);
    let other = if backend == "up01" { "up02" } else { "up01" };
    let backend = &*backend;
    let requests = "bitsgw_requests_total";
    for (packet, expected) in [
        ("create_session", 1.0),
        ("ping", 1.0),
        ("fragment", 3.0),
        ("close_session", 1.0),
        ("cancel_session", 0.0),
    ] {
        counts(&farm, requests, &[("packet_type", packet), ("listener", "public")], expected);
        counts(&farm, requests, &[("packet_type", packet), ("code", "200")], expected);
    }
    counts(&farm, "bitsgw_request_duration_seconds_count", &[], 6.0);
    counts(&farm, "bitsgw_requests_in_flight", &[], 0.0);
    counts(&farm, "bitsgw_rejected_requests_total", &[], 0.0);
    counts(&farm, "bitsgw_received_bytes_total", &[], SIZE as f64);
    counts(&farm, "bitsgw_backend_upload_bytes_total", &[("backend", backend)], SIZE as f64);
    counts(&farm, "bitsgw_backend_upload_bytes_total", &[("backend", other)], 0.0);
    counts(&farm, "bitsgw_fragment_size_bytes_count", &[], 3.0);
    counts(&farm, "bitsgw_fragment_size_bytes_sum", &[], SIZE as f64);
    counts(&farm, "bitsgw_sessions_created_total", &[("backend", backend)], 1.0);
    counts(&farm, "bitsgw_sessions_created_total", &[("backend", other)], 0.0);
    counts(
        &farm,
        "bitsgw_sessions_ended_total",
        &[("backend", backend), ("reason", "closed")],
        1.0,
    );
    counts(&farm, "bitsgw_sessions_ended_total", &[], 1.0);
    counts(&farm, "bitsgw_session_size_bytes_sum", &[("reason", "closed")], SIZE as f64);
    counts(&farm, "bitsgw_session_duration_seconds_count", &[("reason", "closed")], 1.0);
    counts(&farm, "bitsgw_sessions", &[], 0.0);
    // Three fragments and a close named a session; the ping named none.
    counts(&farm, "bitsgw_affinity_lookups_total", &[("source", "memory"), ("result", "hit")], 4.0);
    counts(&farm, "bitsgw_affinity_lookups_total", &[("result", "miss")], 0.0);
    counts(&farm, "bitsgw_backend_requests_total", &[("backend", backend), ("code", "2xx")], 6.0);
    counts(&farm, "bitsgw_backend_requests_total", &[], 6.0);
    counts(&farm, "bitsgw_backend_requests_in_flight", &[], 0.0);
    counts(&farm, "bitsgw_backend_response_duration_seconds_count", &[("backend", backend)], 6.0);
    let attempts = farm.metric("bitsgw_backend_connection_attempts_total", &[("backend", backend)]);
    let reuses = farm.metric("bitsgw_backend_connection_reuses_total", &[("backend", backend)]);
    assert_eq!(attempts + reuses, 6.0, "{attempts} new and {reuses} kept connections");
    assert_eq!(attempts, farm.stub_named(backend).stats().connections as f64);
    counts(&farm, "bitsgw_connections_total", &[], 2.0);
    counts(&farm, "bitsgw_connections", &[], 0.0);
    let lines = farm.gateway().access_log();
    let ended =
        lines.iter().find(|line| line["event"] == "upload_end").expect("a line for the upload");
    assert_eq!(
        (&ended["bytes"], &ended["total"], &ended["reason"]),
        (&SIZE.into(), &SIZE.into(), &"closed".into())
    );
    assert_eq!(ended["backend"], backend);
    assert_eq!(lines.iter().filter(|line| line["event"] == "request").count(), 6);
}

#[test]
fn sessions_are_counted_by_how_they_end_and_while_they_live() {
    let farm = Farm::of_stubs(1).start();
    let content = Content::seeded(1, 30_000);
    let client = farm.client().with(|o| o.fragments = FragmentSizes::Fixed(10_000));
    let mut cancelled = client.begin(&farm.url("/in/a.bin"), &content);
    let mut lost = client.begin(&farm.url("/in/b.bin"), &content);
    for upload in [&mut cancelled, &mut lost] {
        assert!(upload.run_until(|upload| upload.position() >= 10_000));
    }
    counts(&farm, "bitsgw_sessions", &[("backend", "up01"), ("state", "active")], 2.0);
    cancelled.cancel();
    let ended = "bitsgw_sessions_ended_total";
    counts(&farm, ended, &[("reason", "cancelled")], 1.0);
    farm.stub(0).fault(StubFault::on_any("lose_sessions"));
    // The first packet may still be served; then the session is gone, and the client starts over.
    let report = lost.run();
    report.expect_complete();
    assert_eq!(report.restarts, 1, "{report}");
    counts(&farm, ended, &[("reason", "lost")], 1.0);
    counts(&farm, ended, &[("reason", "closed")], 1.0);
    counts(&farm, "bitsgw_sessions_created_total", &[], 3.0);
    counts(&farm, "bitsgw_sessions", &[], 0.0);
    let not_found = [("backend", "up01"), ("error", "session_not_found")];
    counts(&farm, "bitsgw_protocol_errors_total", &not_found, 1.0);
    farm.expect_healthy();
}

#[test]
fn refusals_misses_and_failures_are_counted_under_their_reasons() {
    let servers = Servers::with(1, |farm| farm.set("limits.fragment", "\"10B\""));
    let (id, _) = servers.open(TARGET);
    let rejected = "bitsgw_rejected_requests_total";
    let ask = |bytes: &[u8]| exchange(servers.farm.entrance(), bytes).expect("an answer").status;
    assert_eq!(ask(&close(TARGET, "{nobody}").bytes()), 500);
    assert_eq!(ask(&fragment(TARGET, &id, "bytes 0-10/20", &[1; 11]).bytes()), 413);
    assert_eq!(ask(&fragment(TARGET, &id, "bytes 9-0/20", b"").bytes()), 400);
    assert_eq!(ask(b"GET / HTTP/2.0\r\n\r\n"), 400);
    assert_eq!(ask(b"TRACE / HTTP/1.1\r\nHost: up.test\r\n\r\n"), 501);
    assert_eq!(ask(&ping(TARGET).with("X", &"y".repeat(90_000)).bytes()), 400);
    let chunked = fragment(TARGET, &id, "bytes 0-4/20", b"").head();
    let chunked = String::from_utf8(chunked.to_bytes()).expect("ASCII");
    let chunked = chunked.replace("Content-Length: 0", "Transfer-Encoding: chunked") + "0\r\n\r\n";
    assert_eq!(ask(chunked.as_bytes()), 411);
    for (reason, expected) in [
        ("unknown_session", 1.0),
        ("fragment_too_large", 1.0),
        ("bad_request", 2.0),
        ("method", 1.0),
        ("header_limit", 1.0),
        ("length_required", 1.0),
        ("backend_failed", 0.0),
    ] {
        counts(&servers.farm, rejected, &[("reason", reason)], expected);
    }
    counts(
        &servers.farm,
        "bitsgw_requests_total",
        &[("code", "501"), ("packet_type", "other")],
        1.0,
    );
    let lookups = "bitsgw_affinity_lookups_total";
    counts(&servers.farm, lookups, &[("source", "memory"), ("result", "miss")], 1.0);
    counts(&servers.farm, lookups, &[("source", "host_id"), ("result", "miss")], 1.0);
    // Known by its alias only.
    servers.passes(&cancel(TARGET, "{elsewhere}").at("up01.up.test"));
    counts(&servers.farm, lookups, &[("source", "host_id"), ("result", "hit")], 1.0);
    counts(&servers.farm, lookups, &[("source", "memory"), ("result", "miss")], 2.0);
    assert_eq!(servers.farm.gateway().metrics().iter().filter(|s| s.value < 0.0).count(), 0);
}

#[test]
fn a_backend_that_cannot_be_reached_is_counted_and_left_behind() {
    let farm = Farm::of_stubs(2).start();
    farm.stub(0).refuse(true);
    let content = Content::seeded(1, 10_000);
    for n in 0..4 {
        farm.client().upload(&farm.url(&format!("/in/{n}.bin")), &content).expect_smooth();
    }
    let refused = [("backend", "up01"), ("reason", "refused")];
    wait::until("the refusals are counted", || {
        farm.metric("bitsgw_backend_connection_errors_total", &refused) >= 1.0
    });
    assert!(
        farm.metric("bitsgw_failovers_total", &[("backend", "up01"), ("reason", "connect")]) >= 1.0
    );
    counts(&farm, "bitsgw_sessions_created_total", &[("backend", "up02")], 4.0);
    counts(&farm, "bitsgw_failovers_total", &[("backend", "up02")], 0.0);
}

#[test]
fn promtool_finds_nothing_to_complain_about_in_the_scrape_of_the_process() {
    let farm = Farm::of_stubs(2).start();
    farm.client().upload(&farm.url("/in/a.bin"), &Content::seeded(1, 20_000)).expect_smooth();
    let answer = farm.gateway().ops("/metrics");
    let kind = answer.field("Content-Type").expect("a type").to_owned();
    assert!(kind.starts_with("text/plain; version=0.0.4"), "{kind}");
    let check = |scrape: &str| {
        let mut promtool = Command::new("promtool")
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("promtool is installed (Debian package prometheus)");
        let mut stdin = promtool.stdin.take().expect("piped");
        stdin.write_all(scrape.as_bytes()).expect("promtool reads");
        drop(stdin);
        let output = promtool.wait_with_output().expect("promtool ends");
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&said).into_owned())
    };
    let scrape = answer.body_text();
    assert_eq!(check(&scrape), (true, String::new()));
    // It does complain where there is something.
    let (clean, said) = check(&scrape.replace("bitsgw_requests_total", "bitsgw_requests"));
    assert!(!clean && said.contains("bitsgw_requests"), "{said}");
}

/// Item 97.
#[test]
fn no_client_makes_a_new_series() {
    let servers = Servers::start(1);
    servers.open(TARGET);
    servers.passes(&ping(TARGET));
    let series = || servers.farm.gateway().metrics().len();
    let before = series();
    for n in 0..200 {
        let odd = format!("{TARGET}/{n}?{n}");
        let host = format!("host{n}.test");
        servers.ask(&ping(&odd).at(&host).with("User-Agent", &format!("agent {n}")));
        servers.ask(&close(&odd, &format!("{{id-{n}}}")));
        let method =
            format!("M{n} {odd} HTTP/1.1\r\nHost: {host}\r\nBITS-Packet-Type: T{n}\r\n\r\n");
        servers.ask_bytes(method.as_bytes());
    }
    assert_eq!(series(), before);
}
