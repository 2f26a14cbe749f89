//! A mistake of ours ends one request.

use std::collections::HashMap;

use e2e_tests::client::{WireError, exchange};
use e2e_tests::data::Content;
use e2e_tests::farm::{Farm, ORIGIN};

use crate::packets::{TARGET, create, fragment, ping, session_of};

/// Every place in the life of a packet in which a debug build panics on demand.
const OF_PACKETS: [&str; 7] = ["arrive", "admit", "connect", "send", "body", "reply", "finish"];

/// The same for a request that is none.
const OF_OTHERS: [&str; 8] = [
    "early_request_filter",
    "request_filter",
    "upstream_peer",
    "upstream_request_filter",
    "request_body_filter",
    "upstream_response_filter",
    "response_filter",
    "logging",
];

/// In these the request has been answered.
const LAST: [&str; 2] = ["finish", "logging"];

fn plain(place: &str) -> Vec<u8> {
    format!(
        "POST /app HTTP/1.1\r\nHost: {ORIGIN}\r\nX-Panic: {place}\r\nUser-Agent: {place}\r\n\
         Content-Length: 3\r\n\r\nabc"
    )
    .into_bytes()
}

/// Threat: T19.
#[test]
fn t19_a_panic_anywhere_ends_that_request_only() {
    let farm = Farm::of_stubs(1).env("BITS_GATEWAY_PANICS", "1").start();
    let opened = exchange(farm.entrance(), &create(TARGET).bytes()).expect("an answer");
    let id = session_of(&opened);
    let packet = |place| {
        let packet = fragment(TARGET, &id, "bytes 0-2/9", b"abc").with("X-Panic", place);
        packet.with("User-Agent", place).bytes()
    };
    let packets = OF_PACKETS.map(|place| (place, packet(place)));
    let others = OF_OTHERS.map(|place| (place, plain(place)));
    let mut answered = HashMap::new();
    for (number, (place, request)) in packets.into_iter().chain(others).enumerate() {
        match exchange(farm.entrance(), &request) {
            Err(WireError::Closed | WireError::Broken { .. } | WireError::Truncated { .. }) => {}
            Ok(answer) => {
                assert!(LAST.contains(&place), "{place}: {}", answer.head);
                answered.insert(place, u64::from(answer.status));
            }
            Err(error) => panic!("{place}: {error}"),
        }
        e2e_tests::wait::until(&format!("{place} has panicked"), || {
            farm.gateway().log().matches("a thread panicked").count() == number + 1
        });
        // Others go on, and so does the session whose request it was.
        let path = format!("/in/{number}.bin");
        let content = Content::seeded(number as u64, 100_000);
        farm.client().upload(&farm.url(&path), &content).expect_smooth();
        farm.expect_stored(&path, &content);
        let again = fragment(TARGET, &id, "bytes 0-2/9", b"abc");
        let answer = exchange(farm.entrance(), &again.bytes()).expect("an answer");
        assert!([200, 416].contains(&answer.status), "{place}: {}", answer.head);
    }
    for place in OF_PACKETS.into_iter().chain(OF_OTHERS) {
        let log = || farm.gateway().access_log();
        let lines = || log().iter().filter(|line| line["user_agent"] == place).count();
        e2e_tests::wait::until(&format!("{place} is in the log"), || lines() > 0);
        assert_eq!(lines(), 1, "one line tells of a request, however it ends: {place}");
        let line = log().into_iter().find(|line| line["user_agent"] == place).expect("a line");
        assert_eq!(line["fault"], "internal", "{line}");
        assert_eq!(line["status"].as_u64(), answered.get(place).copied(), "{line}");
    }
    assert!(farm.gateway().is_running());
    e2e_tests::wait::until("nothing is left of them", || {
        ["bitsgw_requests_in_flight", "bitsgw_connections"]
            .iter()
            .all(|name| farm.metric(name, &[]) == 0.0)
    });
    assert!(farm.gateway().terminate().success(), "the drain waits for nobody");
}

/// The failpoints are for this module alone.
///
/// Threat: T19.
#[test]
fn t19_nobody_can_ask_for_a_panic_where_it_is_not_allowed() {
    let farm = Farm::of_stubs(1).start();
    for place in OF_PACKETS {
        let answer = exchange(farm.entrance(), &ping(TARGET).with("X-Panic", place).bytes());
        assert_eq!(answer.expect("an answer").status, 200, "{place} at {ORIGIN}");
    }
    for place in OF_OTHERS {
        exchange(farm.entrance(), &plain(place)).expect("an answer");
    }
    farm.expect_healthy();
}
