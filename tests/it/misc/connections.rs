//! Client connections that carry more than one session, or more than one request at a time: items 98 and 99.

use std::collections::BTreeSet;

use e2e_tests::client::{Ack, Connection, Head};
use e2e_tests::data::Content;
use e2e_tests::farm::Farm;

use crate::packets::{Packet, Servers, TARGET, close, create, fragment, ping, session_of};

/// Item 98.
#[test]
fn one_client_connection_carries_packets_of_sessions_on_several_backends() {
    let servers = Servers::with(3, |farm| farm.without_host_ids());
    let sessions: Vec<(String, String, usize)> = (0..6)
        .map(|number| {
            let target = format!("/in/{number}.bin");
            let (id, owner) = servers.open(&target);
            (target, id, owner)
        })
        .collect();
    let owners: BTreeSet<_> = sessions.iter().map(|(.., owner)| owner).collect();
    assert_eq!(owners.len(), 3);
    let mut client = servers.connect();
    let mut expect = |packet: &Packet, owner: usize| {
        let before = servers.counts();
        let answer = client.exchange(&packet.bytes()).expect("the connection stays");
        assert_eq!((answer.status, servers.only_one_since(&before)), (200, owner), "{packet:?}");
        assert!(!answer.closes(), "{}", answer.head);
    };
    for range in ["bytes 0-2/6", "bytes 3-5/6"] {
        for (target, id, owner) in &sessions {
            expect(&fragment(target, id, range, b"abc"), *owner);
        }
    }
    for (target, id, owner) in sessions.iter().rev() {
        expect(&ping(target).with("BITS-Session-Id", id), *owner);
        expect(&close(target, id), *owner);
    }
}

/// Item 98.
#[test]
fn files_on_several_backends_arrive_over_one_client_connection() {
    let farm = Farm::of_stubs(3).without_host_ids().start();
    let contents: Vec<_> = (0..6).map(|seed| Content::seeded(seed, 9_000 + seed)).collect();
    let path = |number: usize| format!("/in/{number}.bin");
    let sessions: Vec<String> = (0..contents.len())
        .map(|number| {
            let packet = create(&path(number)).bytes();
            session_of(&e2e_tests::client::exchange(farm.entrance(), &packet).expect("an answer"))
        })
        .collect();
    let mut client = Connection::open(farm.entrance()).expect("a connection");
    for first in (0..9_000).step_by(3_000) {
        for (number, (content, id)) in contents.iter().zip(&sessions).enumerate() {
            let end = if first == 6_000 { content.len() } else { first + 3_000 };
            let mut body = vec![0; (end - first) as usize];
            content.read_at(first, &mut body);
            let range = format!("bytes {first}-{}/{}", end - 1, content.len());
            let packet = fragment(&path(number), id, &range, &body);
            let answer = client.exchange(&packet.bytes()).expect("an answer");
            assert_eq!(Ack::read(&answer).received, Some(end), "{}", answer.head);
        }
    }
    for (number, id) in sessions.iter().enumerate() {
        let answer = client.exchange(&close(&path(number), id).bytes()).expect("an answer");
        assert_eq!(answer.status, 200);
    }
    let used: BTreeSet<_> = contents
        .iter()
        .enumerate()
        .map(|(n, content)| farm.expect_stored(&path(n), content))
        .collect();
    assert_eq!(used.len(), 3, "{used:?}");
    farm.expect_healthy();
}

/// Item 99.
#[test]
fn pipelined_requests_are_answered_in_order() {
    let servers = Servers::with(2, |farm| farm.without_host_ids());
    let (one, first) = servers.open(TARGET);
    let (two, second) = servers.open(TARGET);
    assert_ne!(first, second);
    let packets = [
        fragment(TARGET, &one, "bytes 0-2/100", b"abc"),
        fragment(TARGET, &two, "bytes 0-19/100", &[b'x'; 20]),
        fragment(TARGET, &one, "bytes 3-9/100", b"defghij"),
        ping(TARGET),
        close(TARGET, "stranger"),
        fragment(TARGET, &two, "bytes 20-20/100", b"y"),
    ];
    let bytes: Vec<u8> = packets.iter().flat_map(Packet::bytes).collect();
    // (status, offset) of each answer.
    let expected = [
        (200, Some(3)),
        (200, Some(20)),
        (200, Some(10)),
        (200, None),
        (500, None),
        (200, Some(21)),
    ];
    let mut client = servers.connect();
    client.send(&bytes).expect("the packets are taken");
    for (number, expected) in expected.into_iter().enumerate() {
        let answer = match client.read_answer() {
            Ok(answer) => answer,
            Err(error) => panic!("{error} for packet {number}"),
        };
        assert_eq!((answer.status, Ack::read(&answer).received), expected, "{number}");
    }
    assert!(!client.is_readable());
    // Each backend got its own, in the order in which they were sent, and bodies were not mixed up.
    let bodies = |backend: usize| -> Vec<Vec<u8>> {
        let requests = servers.backends[backend].requests().into_iter();
        requests.filter(|r| r.packet_type() == "fragment").map(|r| r.body).collect()
    };
    assert_eq!(bodies(first), [b"abc".to_vec(), b"defghij".to_vec()]);
    assert_eq!(bodies(second), [vec![b'x'; 20], b"y".to_vec()]);
}

/// Item 99.
#[test]
fn nothing_that_was_pipelined_behind_a_refusal_is_taken_for_a_request() {
    let servers = Servers::with(1, |farm| farm.without_host_ids());
    let (id, _) = servers.open(TARGET);
    let hidden = Head::bits("/in/hidden.bin")
        .field("Host", "up.test")
        .field("BITS-Packet-Type", "Ping")
        .field("Content-Length", 0)
        .to_bytes();
    // A body that looks like a packet stays a body, however the request in front of it is answered.
    let length = hidden.len();
    let range = format!("bytes 0-{}/999", length - 1);
    for packet in [
        fragment(TARGET, &id, &range, &hidden),
        fragment(TARGET, "stranger", &range, &hidden),
        fragment(TARGET, &id, "bytes 0-0/999", &hidden),
        fragment(TARGET, &id, "nonsense", &hidden),
    ] {
        let mut client = servers.connect();
        client.send(&[packet.bytes(), ping(TARGET).bytes()].concat()).expect("they are taken");
        let first = client.read_answer().expect("an answer");
        // The Ping behind it is answered, or the connection has ended.
        match client.read_answer() {
            Ok(second) => assert_eq!(second.status, 200, "{}", second.head),
            Err(_) => assert!(first.closes(), "{}", first.head),
        }
    }
    let targets: Vec<_> =
        servers.backends[0].requests().iter().map(|r| r.target().to_owned()).collect();
    assert!(targets.iter().all(|target| target == TARGET), "{targets:?}");
}
