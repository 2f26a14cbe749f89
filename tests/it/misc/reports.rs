//! One line in the access log for each request, however it ends.

use e2e_tests::client::{Connection, exchange};
use e2e_tests::farm::{Farm, ORIGIN, Signal};
use e2e_tests::wait;

use crate::packets::{TARGET, create, fragment, ping, session_of};

#[test]
fn a_request_that_the_end_of_the_process_cuts_off_is_told_once() {
    let farm = Farm::of_stubs(1).set("timeouts.shutdown", "\"1s\"").start();
    let mut connection = Connection::open(farm.entrance()).expect("a connection");
    let opened = connection.exchange(&create(TARGET).bytes()).expect("an answer");
    let packet = fragment(TARGET, &session_of(&opened), "bytes 0-9/20", b"0123456789");
    let bytes = packet.with("User-Agent", "cut-off").bytes();
    connection.send(&bytes[..bytes.len() - 5]).expect("sent");
    wait::until("its body is awaited", || farm.metric("bitsgw_requests_in_flight", &[]) == 1.0);
    farm.gateway().signal(Signal::TERM);
    let _ = farm.gateway().wait_ended();
    let log = farm.gateway().access_log();
    let lines: Vec<_> = log.iter().filter(|line| line["user_agent"] == "cut-off").collect();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!(lines[0]["packet"], "fragment");
    assert!(lines[0].get("status").is_none(), "{}", lines[0]);
}

/// What carries a request stands in its line, and every farm checks at its end that no packet went over
/// the proxy.
#[test]
fn packets_go_over_the_relay_and_plain_requests_over_the_proxy() {
    let farm = Farm::of_stubs(1).set("http.method_override", "true").start();
    let plain = |method: &str, more: &str| {
        format!("{method} /x HTTP/1.1\r\nHost: {ORIGIN}\r\n{more}Content-Length: 0\r\n\r\n")
    };
    let overridden = "X-HTTP-Method-Override: BITS_POST\r\nBITS-Packet-Type: Ping\r\n";
    let cases = [
        ("ping", ping(TARGET).bytes(), "relay"),
        ("nonsense", plain("BITS_POST", "BITS-Packet-Type: X\r\n").into_bytes(), "relay"),
        ("override", plain("POST", overridden).into_bytes(), "relay"),
        ("get", plain("GET", "").into_bytes(), "proxy"),
        ("post", plain("POST", "").into_bytes(), "proxy"),
        ("ntlm", plain("GET", "Authorization: NTLM eA==\r\n").into_bytes(), "relay"),
        ("basic", plain("GET", "Authorization: Basic eDp5\r\n").into_bytes(), "proxy"),
    ];
    for (name, request, _) in &cases {
        let end = request.len() - 2;
        let request = [&request[..end], format!("User-Agent: {name}\r\n\r\n").as_bytes()].concat();
        exchange(farm.entrance(), &request).expect("an answer");
    }
    for (name, _, carrier) in cases {
        let line = wait::some(&format!("{name} is in the log"), || {
            farm.gateway().access_log().into_iter().find(|line| line["user_agent"] == name)
        });
        assert_eq!(line["carrier"], carrier, "{line}");
    }
    let carried = |carrier, packet| {
        farm.metric(
            "bitsgw_carried_requests_total",
            &[("carrier", carrier), ("packet_type", packet)],
        )
    };
    assert_eq!(carried("relay", "ping"), 2.0);
    assert_eq!(carried("relay", "unknown"), 1.0);
    assert_eq!(carried("relay", "other"), 1.0);
    assert_eq!(carried("proxy", "other"), 3.0);
    assert!(farm.gateway().packets_on_proxy().is_empty());
}
