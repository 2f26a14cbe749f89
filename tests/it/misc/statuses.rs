//! Statuses that the gateway gives of its own accord: items 87 and 88.

use e2e_tests::client::{AckRules, Connection, Head, PacketType, WireError, exchange};
use e2e_tests::farm::Farm;
use e2e_tests::ports::Port;
use e2e_tests::raw_backend::{RawBackend, Reply, agree};
use e2e_tests::wait;

use crate::packets::{Servers, TARGET, close, create, expect_not_now, fragment, of_session, ping};

/// The rows of the fault table.
const OURS: [u16; 7] = [400, 411, 413, 500, 502, 503, 504];

/// Requests by which many servers are led to a redirect, 404, 405, 414, 417, 426, 431, 501 or 505.
fn temptations() -> Vec<(&'static str, Vec<u8>)> {
    let text = |head: &str| head.replace('\n', "\r\n").into_bytes();
    let with = |fields: &str| {
        text(&format!(
            "BITS_POST /in/a.bin HTTP/1.1\nHost: up.test\nBITS-Packet-Type: Ping\n{fields}\n"
        ))
    };
    let many: String = (0..400).map(|n| format!("X-{n}: y\n")).collect();
    let target = |target: &str, version: &str| {
        text(&format!(
            "BITS_POST {target} {version}\nHost: up.test\nBITS-Packet-Type: Ping\nContent-Length: 0\n\n"
        ))
    };
    vec![
        (
            "an unknown type",
            text("BITS_POST / HTTP/1.1\nHost: up.test\nBITS-Packet-Type: X\nContent-Length: 0\n\n"),
        ),
        ("no type", text("BITS_POST /in/a.bin HTTP/1.1\nHost: up.test\nContent-Length: 0\n\n")),
        (
            "no host",
            text("BITS_POST /in/a.bin HTTP/1.1\nBITS-Packet-Type: Ping\nContent-Length: 0\n\n"),
        ),
        ("two hosts", with("Host: up.test\nContent-Length: 0\n")),
        ("a long target", target(&format!("/{}", "x".repeat(20_000)), "HTTP/1.1")),
        ("the target of OPTIONS", target("*", "HTTP/1.1")),
        ("the target of CONNECT", target("up.test:80", "HTTP/1.1")),
        ("a target without a slash", target("in/a.bin", "HTTP/1.1")),
        ("another scheme", target("ftp://up.test/in/a.bin", "HTTP/1.1")),
        ("an old version", target("/in/a.bin", "HTTP/1.0")),
        ("a later version", target("/in/a.bin", "HTTP/2.0")),
        ("a version that is none", target("/in/a.bin", "HTTP/1.7")),
        ("many fields", with(&format!("{many}Content-Length: 0\n"))),
        ("a long field", with(&format!("X-Long: {}\nContent-Length: 0\n", "y".repeat(60_000)))),
        ("an unknown expectation", with("Expect: 200-ok\nContent-Length: 0\n")),
        ("an upgrade", with("Connection: Upgrade\nUpgrade: websocket\nContent-Length: 0\n")),
        ("an unknown coding", with("Transfer-Encoding: gzip\n")),
        (
            "a chunked body",
            with("Transfer-Encoding: chunked\n").into_iter().chain(*b"0\r\n\r\n").collect(),
        ),
        ("two framings", with("Transfer-Encoding: chunked\nContent-Length: 5\n")),
        ("two lengths", with("Content-Length: 0\nContent-Length: 0\n")),
        ("a length that is none", with("Content-Length: many\n")),
        ("a folded field", with("X-Folded: a\n b\nContent-Length: 0\n")),
        ("a space before the colon", with("X-Space : a\nContent-Length: 0\n")),
        ("a body in a Ping", [with("Content-Length: 3\n"), b"abc".to_vec()].concat()),
    ]
}

/// Item 87.
#[test]
fn no_bits_packet_gets_a_status_outside_the_fault_table_from_the_gateway() {
    let servers = Servers::with(1, |farm| farm.without_host_ids());
    for (what, bytes) in temptations() {
        let before = servers.counts();
        let answer = servers.ask_bytes(&bytes);
        if servers.counts() != before {
            // Not refused: it is the backend's business, which said yes.
            assert_eq!(answer.status, 200, "{what}: {}", answer.head);
            continue;
        }
        assert!(OURS.contains(&answer.status), "{what}: {}", answer.head);
        AckRules::own_answer().expect(PacketType::Ping, &answer);
    }
    for packet in of_session("/nowhere/at/all", "stranger") {
        assert_eq!(servers.stays(&packet).status, 500);
    }
}

/// Item 87.
#[test]
fn troubles_with_backends_have_statuses_of_the_fault_table() {
    let broken: [&'static [u8]; 6] = [
        b"",
        b"HTTP/1.1 ",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nBITS-Packet-Type: Ack\r\nContent-Length: many\r\n\r\n",
    ];
    for bytes in broken {
        let agree = agree();
        let backend = RawBackend::answering(move |request| match request.target() {
            "/in/broken.bin" => Reply::SendAndClose(bytes.to_vec()),
            _ => agree(request),
        });
        let servers = Servers::of(vec![backend], |farm| farm);
        let at_alias = fragment("/in/broken.bin", "x", "bytes 0-2/3", b"abc").at("up01.up.test");
        for packet in [create("/in/broken.bin"), ping("/in/broken.bin"), at_alias] {
            let what = String::from_utf8_lossy(bytes);
            let answer = servers.ask(&packet);
            assert!(OURS.contains(&answer.status), "{what:?}: {}", answer.head);
            expect_not_now(&[502, 503, 504], packet.kind, &answer);
        }
    }
    let nobody = Port::reserve();
    let farm = Farm::of_stubs(0).backend("up01", nobody.address()).start();
    for packet in [create(TARGET), ping(TARGET), close(TARGET, "x").at("up01.up.test")] {
        let answer = exchange(farm.entrance(), &packet.bytes()).expect("an answer");
        expect_not_now(&[503], packet.kind, &answer);
    }
}

/// Item 87.
#[test]
fn a_backends_own_status_is_not_the_gateways_and_passes() {
    for status in [404, 405, 429, 501, 505] {
        let backend = RawBackend::answering(move |_| {
            Reply::raw(&format!("HTTP/1.1 {status} Its own\r\nContent-Length: 2\r\n\r\nno"))
        });
        let servers = Servers::of(vec![backend], |farm| farm);
        let answer = servers.ask(&create(TARGET));
        assert_eq!((answer.status, &*answer.body), (status, &b"no"[..]));
    }
}

/// Item 88.
#[test]
fn refusals_by_policy_are_503_or_413() {
    let servers =
        Servers::with(1, |farm| farm.set("sessions.limit", "1").set("limits.fragment", "\"1KiB\""));
    let (id, _) = servers.open(TARGET);
    expect_not_now(&[503], PacketType::CreateSession, &servers.stays(&create(TARGET)));
    let range = "bytes 0-1024/9000";
    let answer = servers.stays(&fragment(TARGET, &id, range, &[7; 1025]));
    expect_not_now(&[413], PacketType::Fragment, &answer);
    servers.passes(&fragment(TARGET, &id, "bytes 0-1023/9000", &[7; 1024]));
}

/// Item 88.
#[test]
fn connections_over_the_limit_hear_503_until_others_have_gone() {
    let servers = Servers::with(1, |farm| {
        farm.set("limits.connections", "3").set("limits.connections_per_address", "0").plain()
    });
    let mut held: Vec<Connection> = (0..3).map(|_| servers.connect()).collect();
    for connection in &mut held {
        assert_eq!(connection.exchange(&ping(TARGET).bytes()).expect("an answer").status, 200);
    }
    for _ in 0..3 {
        let answer = servers.stays(&ping(TARGET));
        expect_not_now(&[503], PacketType::Ping, &answer);
        assert!(answer.closes(), "{}", answer.head);
    }
    held.pop();
    wait::until("there is room again", || {
        match exchange(servers.farm.entrance(), &ping(TARGET).bytes()) {
            Ok(answer) => answer.status == 200,
            // Turned away before the request was sent.
            Err(WireError::Send { .. } | WireError::Broken { .. } | WireError::Closed) => false,
            Err(error) => panic!("{error}"),
        }
    });
    for connection in &mut held {
        assert_eq!(connection.exchange(&ping(TARGET).bytes()).expect("an answer").status, 200);
    }
    // Requests that are no packets are turned away too.
    held.push(servers.connect());
    held[2].exchange(&ping(TARGET).bytes()).expect("an answer");
    let get = Head::new("GET", "/in/a.bin").field("Host", "up.test").to_bytes();
    assert_eq!(servers.ask_bytes(&get).status, 503);
}
