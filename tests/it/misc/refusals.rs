//! What an operator reads of requests that were refused before they were any.

use std::net::TcpStream;

use e2e_tests::client::exchange;
use e2e_tests::farm::{Farm, Signal, Tls};
use e2e_tests::temp::TempDir;
use e2e_tests::wait;
use serde_json::Value;

use crate::packets::ping;

/// The line of the access log about a request for that path.
#[track_caller]
fn line_of(farm: &Farm, path: &str) -> Value {
    let of = |line: &Value| line["path"] == path;
    wait::until(&format!("{path} is in the access log"), || {
        farm.gateway().access_log().iter().any(of)
    });
    farm.gateway().access_log().into_iter().find(of).expect("it was there")
}

#[test]
fn a_refused_head_is_logged_with_what_was_read_of_it_and_its_rule() {
    let farm = Farm::of_stubs(1).plain().start();
    for (number, (lines, rule)) in [
        ("Host: up.test\r\nConnection: Host\r\n", "connection"),
        ("Host: up.test\r\nContent-Length: 1\r\nContent-Length: 1\r\n", "repeated_field"),
        ("Host: up.test\r\nX : y\r\n", "field"),
        ("Host: up.test\r\nTransfer-Encoding: gzip\r\n", "transfer_encoding"),
    ]
    .into_iter()
    .enumerate()
    {
        let path = format!("/in/{number}.bin");
        let request = format!("BITS_POST {path}?secret=1 HTTP/1.1\r\n{lines}\r\n");
        let answer = exchange(farm.entrance(), request.as_bytes()).expect("an answer");
        assert_eq!(answer.status, 400);
        let line = line_of(&farm, &path);
        assert_eq!(line["rule"], rule, "{line}");
        assert_eq!((&line["method"], &line["host"]), (&"BITS_POST".into(), &"up.test".into()));
        assert_eq!((&line["client"], &line["status"]), (&"127.0.0.1".into(), &400.into()));
        assert!(!line.to_string().contains("secret"), "{line}");
    }
    // The first of them is in the operational log; the others would fill it.
    farm.gateway().expect_logged("a packet was refused and its client gives the upload up");
    let log = farm.gateway().log();
    let lines: Vec<_> = log.lines().filter(|line| line.contains("a packet was refused")).collect();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("\"rule\":\"connection\"") && lines[0].contains("127.0.0.1"));
}

#[test]
fn the_key_that_would_let_a_packet_pass_is_named() {
    for (request, key) in [
        (format!("BITS_POST /{} HTTP/1.1\r\n\r\n", "x".repeat(9_000)), "limits.line"),
        (format!("BITS_POST /a HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(101)), "limits.fields"),
        ("BITS_POST /\u{e9} HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), "http.raw_path"),
        ("BITS_POST http://a/ HTTP/1.1\r\nHost: b\r\n\r\n".to_owned(), "http.hosts"),
    ] {
        let farm = Farm::of_stubs(1).plain().start();
        let answer = exchange(farm.entrance(), request.as_bytes()).expect("an answer");
        assert_eq!(answer.status, 400, "{}", answer.head);
        farm.gateway().expect_logged("a packet was refused");
        let log = farm.gateway().log();
        let line = log.lines().find(|line| line.contains("a packet was refused")).expect("a line");
        assert!(line.contains(key), "{line}");
    }
}

#[test]
fn a_host_that_is_not_configured_has_a_reason_of_its_own() {
    let farm = Farm::of_stubs(1).plain().set("http.hosts", "[\"up.test\"]").start();
    let answer = exchange(farm.entrance(), &ping("/in/a.bin").at("other.test").bytes());
    assert_eq!(answer.expect("an answer").status, 400);
    assert_eq!(line_of(&farm, "/in/a.bin")["fault"], "unknown_host");
    farm.gateway().expect_logged("is not in http.hosts");
    assert!(farm.gateway().log().contains("\"host\":\"other.test\""));
    assert_eq!(farm.metric("bitsgw_rejected_requests_total", &[("reason", "unknown_host")]), 1.0);
}

/// Tools that rotate logs send SIGHUP, or SIGUSR1.
#[test]
fn an_access_log_that_was_moved_away_is_opened_anew() {
    let folder = TempDir::new("access-log");
    let path = folder.path().join("access.log");
    let quoted = format!("{:?}", path.to_str().expect("a path in UTF-8"));
    let farm = Farm::of_stubs(1).plain().set("log.access", &quoted).start();
    let count = |path: &std::path::Path| {
        std::fs::read_to_string(path).map_or(0, |text| text.lines().count())
    };
    let send = |number: usize| {
        for _ in 0..number {
            let answer = exchange(farm.entrance(), &ping("/in/a.bin").bytes()).expect("an answer");
            assert_eq!(answer.status, 200);
        }
    };
    send(3);
    for (turn, signal) in [Signal::HUP, Signal::USR1].into_iter().enumerate() {
        let lines = if turn == 0 { 3 } else { 5 };
        wait::until("all is written", || count(&path) == lines);
        let moved = folder.path().join(format!("access.{turn}"));
        std::fs::rename(&path, &moved).expect("it can be moved");
        farm.gateway().signal(signal);
        wait::until("there is a new file", || path.exists());
        send(5);
        wait::until("the new file has them", || count(&path) == 5);
        assert_eq!(count(&moved), lines);
    }
}

/// Balancers open a connection and close it.
#[test]
fn a_connection_without_a_byte_is_no_rejection() {
    let tls = Farm::of_stubs(1).tls(Tls::Front).start();
    let proxied = Farm::of_stubs(1)
        .plain()
        .set("listeners.public.proxy_protocol.trusted", "[\"127.0.0.1/32\"]")
        .start();
    let plain = Farm::of_stubs(1).plain().start();
    for farm in [&tls, &proxied, &plain] {
        for _ in 0..3 {
            drop(TcpStream::connect(farm.entrance()).expect("a connection"));
        }
        wait::until("they are over", || farm.metric("bitsgw_connections", &[]) == 0.0);
        let samples = farm.gateway().metrics();
        let failed = samples.iter().filter(|sample| {
            let counts = ["bitsgw_rejected_requests_total", "bitsgw_tls_handshake_errors_total"];
            counts.contains(&&*sample.name) && sample.value > 0.0
        });
        assert_eq!(failed.count(), 0);
    }
}

/// Windows allows Kerberos tickets of 48,000 bytes.
#[test]
fn the_largest_ticket_of_windows_passes() {
    let servers = crate::packets::Servers::start(1);
    for length in [40_000, 64_000] {
        let ticket = format!("Negotiate {}", "A".repeat(length));
        let answer = servers.ask(&ping("/in/a.bin").with("Authorization", &ticket));
        assert_eq!(answer.status, 200, "{}", answer.head);
        assert_eq!(servers.last_request(0).field("Authorization"), Some(&*ticket));
    }
}
