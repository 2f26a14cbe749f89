//! Metrics that a stranger cannot make grow.

use std::collections::BTreeSet;

use e2e_tests::client::{Connection, exchange};
use e2e_tests::data::Chance;
use e2e_tests::farm::{Farm, ORIGIN};
use e2e_tests::raw_backend::RawBackend;

use crate::packets::ping;

fn series(farm: &Farm) -> BTreeSet<String> {
    let answer = farm.gateway().ops("/metrics");
    assert_eq!(answer.status, 200);
    let name = |line: &str| line.rsplit_once(' ').map_or(line, |(name, _)| name).to_owned();
    answer.body_text().lines().filter(|line| !line.starts_with('#')).map(name).collect()
}

fn hostile(chance: &mut Chance, number: u32) -> String {
    let value = format!("h{number}-{:x}", chance.next_u64());
    let kinds = ["Ping", "Create-Session", "Fragment", "Close-Session"];
    let kind = chance.pick(&kinds);
    match chance.between(0, 6) {
        0 => format!("{value} / HTTP/1.1\r\nHost: {ORIGIN}\r\n\r\n"),
        1 => format!(
            "GET /{value}?{value} HTTP/1.1\r\nHost: {value}.{ORIGIN}\r\nUser-Agent: {value}\r\n\r\n"
        ),
        2 => format!(
            "BITS_POST /{value} HTTP/1.1\r\nHost: {ORIGIN}\r\nBITS-Packet-Type: {value}\r\nContent-Length: 0\r\n\r\n"
        ),
        3 => format!(
            "BITS_POST /{value} HTTP/1.1\r\nHost: {ORIGIN}\r\nBITS-Packet-Type: {kind}\r\nBITS-Session-Id: {value}\r\n\
            Content-Length: 0\r\n\r\n"
        ),
        4 => format!(
            "BITS_POST /{value} HTTP/1.1\r\nHost: {value}\r\n{value}: {value}\r\nBITS-Packet-Type: Ping\r\n\r\n"
        ),
        5 => format!(
            "GET /{value} HTTP/1.1\r\nHost: {ORIGIN}\r\nAuthorization: Basic {value}\r\nX-Forwarded-For: {value}\r\n\r\n"
        ),
        _ => format!("GET /{value} HTTP/1.1\r\nHost: {value} {value}\r\n\r\n"),
    }
}

/// Threat: T13.
#[test]
fn t13_no_series_appears_for_20_000_hostile_values() {
    let backend = RawBackend::agreeable();
    let farm = Farm::of_stubs(0).backend("up01", backend.address()).start();
    let seed = e2e_tests::data::seed("hostile values");
    // A backend has its series once it is used.
    let used = exchange(farm.entrance(), &ping("/").bytes()).expect("an answer");
    assert_eq!(used.status, 200, "{}", used.head);
    let before = series(&farm);
    std::thread::scope(|scope| {
        for worker in 0..8 {
            let entrance = farm.entrance();
            scope.spawn(move || {
                let mut chance = Chance::new(seed).fork(worker);
                let mut client = Connection::open(entrance).expect("it accepts");
                for number in 0..2_500 {
                    let request = hostile(&mut chance, number);
                    let closed = match client.exchange(request.as_bytes()) {
                        Ok(answer) => answer.closes(),
                        Err(error) => panic!("{error} to {request:?}"),
                    };
                    if closed {
                        client = Connection::open(entrance).expect("it accepts");
                    }
                }
            });
        }
    });
    let after = series(&farm);
    let new: Vec<_> = after.difference(&before).collect();
    assert!(new.is_empty(), "{new:?}");
    assert!(!after.iter().any(|name| name.contains("h1-")), "a value became a label");
    farm.expect_healthy();
}
