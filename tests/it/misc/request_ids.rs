//! By what a request is found in the logs of all that it passed: `X-Request-Id`, and the trace of W3C.

use e2e_tests::client::Head;
use e2e_tests::wait;
use serde_json::Value;

use crate::packets::{Packet, Servers, TARGET, fragment, ping};

const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn get() -> Vec<u8> {
    Head::new("GET", "/a.bin").field("Host", "up.test").to_bytes()
}

/// The line of the last request.
#[track_caller]
fn logged(servers: &Servers, count: usize) -> Value {
    wait::until("it is logged", || servers.farm.gateway().access_log().len() == count);
    servers.farm.gateway().access_log().pop().expect("a line")
}

#[test]
fn a_server_finds_a_request_by_the_id_in_the_access_log() {
    let servers = Servers::start(1);
    let own = ping(TARGET).with("X-Request-Id", "of-the-client").with("x_request_id", "too");
    let mut ids = Vec::new();
    for (number, request) in [ping(TARGET).bytes(), own.bytes(), get()].iter().enumerate() {
        servers.ask_bytes(request);
        let seen = servers.last_request(0);
        let id = seen.field("X-Request-Id").expect("an id").to_owned();
        assert_eq!(logged(&servers, number + 1)["request_id"], *id);
        assert!(
            !seen.head.contains("of-the-client") && !seen.head.contains("too"),
            "{}",
            seen.head
        );
        ids.push(id);
    }
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 3, "{ids:?}");
}

#[test]
fn where_that_is_configured_the_id_of_the_client_passes() {
    let servers = Servers::with(1, |farm| farm.set("http.request_id", "\"pass\""));
    let id = |packet: &Packet| {
        servers.ask(packet);
        servers.last_request(0).field("X-Request-Id").map(str::to_owned)
    };
    assert_eq!(id(&ping(TARGET)), None);
    assert_eq!(id(&ping(TARGET).with("X-Request-Id", "a b")).as_deref(), Some("a b"));
    servers.farm.gateway().configure(|settings| settings.unset("http.request_id"));
    assert!(servers.farm.gateway().reload());
    assert_ne!(id(&ping(TARGET).with("X-Request-Id", "a b")).as_deref(), Some("a b"));
}

#[test]
fn a_trace_passes_and_is_logged_and_what_is_none_is_dropped() {
    let servers = Servers::start(1);
    let traced = |trace: &str| {
        let packet = ping(TARGET).with("traceparent", trace).with("tracestate", "rojo=1");
        servers.ask(&packet);
        let seen = servers.last_request(0);
        ["traceparent", "tracestate"].map(|name| seen.field(name).map(str::to_owned))
    };
    assert_eq!(traced(TRACE), [Some(TRACE.to_owned()), Some("rojo=1".to_owned())]);
    assert_eq!(logged(&servers, 1)["traceparent"], TRACE);
    for (count, bad) in (2..).zip(["", "x", &TRACE.to_uppercase(), &TRACE.replace("01", "zz")]) {
        assert_eq!(traced(bad), [None, None], "{bad:?}");
        assert_eq!(logged(&servers, count)["traceparent"], Value::Null);
    }
}

/// A terabyte in small Fragments is a million lines that say nothing.
#[test]
fn fragments_that_went_well_may_be_left_out_of_the_access_log() {
    let filter = "log.access_filter";
    let skipping = "\"skip-successful-fragments\"";
    let servers = Servers::with(1, |farm| farm.set(filter, skipping));
    let (id, _) = servers.open(TARGET);
    // Over one connection, where a request is told of before the next one is read.
    let mut connection = servers.connect();
    let mut send = |packet: Packet, status: u16| {
        let answer = connection.exchange(&packet.bytes()).expect("an answer");
        assert_eq!(answer.status, status, "{}", answer.head);
    };
    let configure = |value: &str| {
        servers.farm.gateway().configure(|settings| settings.set(filter, value));
        assert!(servers.farm.gateway().reload());
    };
    let logged = |expected: &[&str]| {
        let lines = || servers.farm.gateway().access_log();
        let pings = expected.iter().filter(|packet| **packet == "ping").count();
        wait::until("the last ping is logged", || {
            lines().iter().filter(|line| line["packet"] == "ping").count() == pings
        });
        let lines = lines();
        let packets: Vec<_> = lines.iter().filter_map(|line| line["packet"].as_str()).collect();
        assert_eq!(packets, expected);
    };
    let part = |range: &str| fragment(TARGET, &id, range, b"abc");
    send(part("bytes 0-2/12"), 200);
    send(fragment(TARGET, "{unknown}", "bytes 0-2/12", b"abc"), 500);
    send(ping(TARGET), 200);
    logged(&["create_session", "fragment", "ping"]);
    configure("\"all\"");
    send(part("bytes 3-5/12"), 200);
    send(ping(TARGET), 200);
    logged(&["create_session", "fragment", "ping", "fragment", "ping"]);
    configure(skipping);
    send(part("bytes 6-8/12"), 200);
    send(ping(TARGET), 200);
    logged(&["create_session", "fragment", "ping", "fragment", "ping", "ping"]);
    // Whatever is logged, all are counted.
    let counted = [("packet_type", "fragment"), ("code", "200")];
    assert_eq!(servers.farm.metric("bitsgw_requests_total", &counted), 3.0);
}
