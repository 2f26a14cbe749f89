//! Creates that are under way count, and a connection says nothing about whose it is.

use e2e_tests::client::{Connection, PacketType, exchange};
use e2e_tests::farm::{Farm, StubFault};
use e2e_tests::ports::Port;

use super::{counts, open, spread};
use crate::packets::{TARGET, create, fragment, of_session, ping, session_of};

fn sessions(farm: &Farm) -> Vec<u64> {
    farm.stubs().iter().map(|stub| stub.stats().sessions).collect()
}

/// Sends the Creates all at once, each on a connection of its own; every one opens a session.
fn burst(farm: &Farm, count: usize) {
    let open = |number: usize| {
        let mut connection = Connection::open(farm.entrance()).expect("a connection");
        connection.send(&create(&format!("/in/burst{number}.bin")).bytes()).expect("sent");
        connection
    };
    let mut all: Vec<_> = (0..count).map(open).collect();
    for connection in &mut all {
        session_of(&connection.read_answer().expect("an answer"));
    }
}

#[test]
fn a_burst_spreads_by_what_is_under_way() {
    for policy in ["least-sessions", "least-bytes-left", "hash"] {
        let farm = Farm::of_stubs(3).set("placement.policy", &format!("\"{policy}\"")).start();
        for number in 0..29 {
            open(&farm, &format!("/in/{number}.bin"));
        }
        let before = sessions(&farm);
        // No server answers before all of them have been asked.
        for stub in farm.stubs() {
            let slow = StubFault::on(PacketType::CreateSession, "delay").with("ms", 1000);
            stub.fault(slow.times(90));
        }
        burst(&farm, 90);
        let after = sessions(&farm);
        let more: Vec<_> =
            after.iter().zip(&before).map(|(after, before)| after - before).collect();
        assert_eq!(more.iter().sum::<u64>(), 90);
        match policy {
            // 1.25 times its share, at most.
            "hash" => assert!(after.iter().all(|&count| count <= 51), "{after:?}"),
            _ => assert!(more.iter().all(|count| (28..=32).contains(count)), "{policy}: {more:?}"),
        }
    }
}

#[test]
fn a_create_that_is_answered_counts_once() {
    let farm = Farm::of_stubs(2).set("placement.policy", "\"least-sessions\"").start();
    assert_eq!(spread(&farm, 40), counts(&[("up01", 20), ("up02", 20)]));
    // One that came to nothing does not count at all.
    for stub in farm.stubs() {
        let refusal = StubFault::on(PacketType::CreateSession, "answer").with("status", 409);
        stub.fault(refusal.times(10));
    }
    for _ in 0..20 {
        let answer = exchange(farm.entrance(), &create(TARGET).bytes()).expect("an answer");
        assert_eq!(answer.status, 409, "{}", answer.head);
    }
    assert_eq!(spread(&farm, 10), counts(&[("up01", 5), ("up02", 5)]));
}

#[test]
fn creates_over_the_connection_of_a_pooling_proxy_spread() {
    for policy in ["least-sessions", "round-robin"] {
        let farm = Farm::of_stubs(3).set("placement.policy", &format!("\"{policy}\"")).start();
        let mut connection = Connection::open(farm.entrance()).expect("a connection");
        for number in 0..300 {
            let target = format!("/in/{number}.bin");
            let id = session_of(&connection.exchange(&create(&target).bytes()).expect("an answer"));
            let packet = fragment(&target, &id, "bytes 0-2/9", b"abc");
            assert_eq!(connection.exchange(&packet.bytes()).expect("an answer").status, 200);
            if number % 3 == 0 {
                let answer = connection.exchange(&ping(&target).bytes()).expect("an answer");
                assert_eq!(answer.status, 200, "{}", answer.head);
            }
        }
        let sessions = sessions(&farm);
        assert!(sessions.iter().all(|count| (98..=102).contains(count)), "{policy}: {sessions:?}");
        farm.expect_healthy();
    }
}

#[test]
fn a_503_for_want_of_a_server_says_when_to_come_back() {
    let nobody = Port::reserve();
    let farm = Farm::of_stubs(0)
        .backend("up01", nobody.address())
        .set("failover.hold", "\"200ms\"")
        .start();
    let alias = "up01.up.test";
    let mut packets = vec![create(TARGET), ping(TARGET), create(TARGET).at(alias)];
    packets.extend(of_session(TARGET, "x").map(|packet| packet.at(alias)));
    for packet in packets {
        let answer = exchange(farm.entrance(), &packet.bytes()).expect("an answer");
        assert_eq!(answer.status, 503, "{}", answer.head);
        assert_eq!(answer.field("Retry-After"), Some("30"), "{}", answer.head);
    }
    let page = b"GET /in/a.bin HTTP/1.1\r\nHost: up.test\r\n\r\n";
    let answer = exchange(farm.entrance(), page).expect("an answer");
    assert_eq!((answer.status, answer.field("Retry-After")), (503, Some("30")), "{}", answer.head);
}
