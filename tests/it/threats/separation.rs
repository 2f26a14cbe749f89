//! What operators see is nowhere on the listeners for clients.

use e2e_tests::client::exchange;
use e2e_tests::farm::{Farm, ORIGIN};
use e2e_tests::raw_backend::{RawBackend, Reply};

use crate::packets::Servers;

/// Everything that the other listeners serve, and what is often found beside it.
const PATHS: [&str; 15] = [
    "/metrics",
    "/health",
    "/healthz",
    "/livez",
    "/readyz",
    "/version",
    "/status",
    "/v1/status",
    "/v1/sessions",
    "/v1/backends",
    "/api/v1/sessions",
    "/admin",
    "/debug/pprof/",
    "/config",
    "/reload",
];

/// Threat: T12.
#[test]
fn t12_paths_of_operators_are_ordinary_paths_on_the_public_port() {
    let servers = Servers::of(
        vec![RawBackend::answering(|request| {
            Reply::ack("200 OK", &[("X-Backend", request.target())])
        })],
        |farm| farm.set("admin.socket", "\"{{tmp}}/admin.sock\""),
    );
    for path in PATHS {
        for method in ["GET", "POST", "DELETE", "PUT"] {
            let request =
                format!("{method} {path} HTTP/1.1\r\nHost: {ORIGIN}\r\nContent-Length: 0\r\n\r\n");
            let answer = servers.ask_bytes(request.as_bytes());
            assert_eq!(answer.field("X-Backend"), Some(path), "{method}: {}", answer.head);
        }
    }
}

/// Threat: T12.
#[test]
fn t12_without_configuration_there_is_no_admin_listener_and_ops_changes_nothing() {
    let farm = Farm::of_stubs(1).start();
    let ops = farm.gateway().listener("ops");
    assert!(ops.ip().is_loopback());
    for path in PATHS {
        for method in ["POST", "PUT", "DELETE", "PATCH", "BITS_POST"] {
            let request =
                format!("{method} {path} HTTP/1.1\r\nHost: {ops}\r\nContent-Length: 0\r\n\r\n");
            let answer = exchange(ops, request.as_bytes()).expect("an answer");
            assert!((400..=405).contains(&answer.status), "{method} {path}: {}", answer.head);
        }
    }
    // Nor is it a way to a backend.
    let upload = format!(
        "BITS_POST /in/a.bin HTTP/1.1\r\nHost: {ORIGIN}\r\nBITS-Packet-Type: Ping\r\nContent-Length: 0\r\n\r\n"
    );
    let answer = exchange(ops, upload.as_bytes()).expect("an answer");
    assert!((400..=405).contains(&answer.status), "{}", answer.head);
    assert_eq!(farm.stub(0).stats().connections, 0);
}
