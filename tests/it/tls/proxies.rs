//! The PROXY protocol: whose address counts.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use e2e_tests::client::Connection;
use e2e_tests::farm::{Farm, FarmBuilder, Tls};
use e2e_tests::wait;

use crate::packets::{TARGET, ping};

const V1: &[u8] = b"PROXY TCP4 192.0.2.7 10.0.0.1 50000 80\r\n";

/// Version 2 for 192.0.2.8, with a field of three bytes behind the addresses.
fn v2() -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x12".to_vec();
    header.extend([192, 0, 2, 8, 10, 0, 0, 1, 0xc3, 0x50, 0, 80]);
    header.extend([4, 0, 3, 1, 2, 3]);
    header
}

fn trusting(networks: &str) -> FarmBuilder {
    Farm::of_stubs(1)
        .tls(Tls::Off)
        .set("listeners.public.proxy_protocol.trusted", networks)
        .set("timeouts.handshake", "\"500ms\"")
}

fn rejected(farm: &Farm) -> f64 {
    farm.metric("bitsgw_rejected_requests_total", &[("reason", "proxy_protocol")])
}

/// Who the last request came from, as the backend and the log see it.
#[track_caller]
fn came_from(farm: &Farm, expected: &str) {
    let seen = farm.stub(0).requests();
    assert_eq!(seen.last().unwrap().field("X-Forwarded-For"), Some(expected));
    wait::until("the log has it", || {
        farm.gateway().access_log().last().is_some_and(|line| line["client"] == expected)
    });
}

fn through(farm: &Farm, header: &[u8]) -> Option<u16> {
    let mut connection = Connection::open_plain(farm.entrance()).unwrap();
    let answer = connection.exchange(&[header, &ping(TARGET).bytes()].concat());
    answer.ok().map(|answer| answer.status)
}

#[test]
fn the_address_in_the_header_is_the_clients() {
    let farm = trusting("[\"127.0.0.0/8\"]").start();
    assert_eq!(through(&farm, V1), Some(200));
    came_from(&farm, "192.0.2.7");
    assert_eq!(through(&farm, &v2()), Some(200));
    came_from(&farm, "192.0.2.8");
    assert_eq!(through(&farm, b"PROXY TCP6 2001:db8::7 ::1 1 2\r\n"), Some(200));
    came_from(&farm, "2001:db8::7");
    // A health check of the proxy speaks for itself.
    assert_eq!(through(&farm, b"PROXY UNKNOWN\r\n"), Some(200));
    came_from(&farm, "127.0.0.1");
    assert_eq!(through(&farm, b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00"), Some(200));
    came_from(&farm, "127.0.0.1");
    assert_eq!(rejected(&farm), 0.0);
}

#[test]
fn a_trusted_source_without_a_header_is_refused() {
    let farm = trusting("[\"127.0.0.1\"]").start();
    assert_eq!(through(&farm, b""), None);
    wait::until("it is counted", || rejected(&farm) == 1.0);
    assert_eq!(farm.stub(0).stats().connections, 0);
}

#[test]
fn a_header_may_be_left_out_where_the_operator_says_so() {
    let farm = trusting("[\"127.0.0.1\"]")
        .set("listeners.public.proxy_protocol.required", "false")
        .start();
    assert_eq!(through(&farm, b""), Some(200));
    came_from(&farm, "127.0.0.1");
    assert_eq!(through(&farm, V1), Some(200));
    came_from(&farm, "192.0.2.7");
}

#[test]
fn nobody_else_is_believed() {
    let farm = trusting("[\"192.0.2.0/24\", \"::1\"]").start();
    for header in [V1, &v2()] {
        assert_eq!(through(&farm, header), Some(400), "a header is no request");
    }
    assert_eq!(farm.stub(0).stats().connections, 0);
    assert_eq!(through(&farm, b""), Some(200), "and a client needs none");
    came_from(&farm, "127.0.0.1");
}

#[test]
fn a_broken_or_a_slow_header_ends_the_connection() {
    let farm = trusting("[\"127.0.0.1\"]").start();
    let broken: [&[u8]; 6] = [
        b"PROXY TCP4 192.0.2.7 10.0.0.1 50000\r\n",
        b"PROXY TCP4 192.0.2.777 10.0.0.1 50000 80\r\n",
        b"PROXY TCP4 192.0.2.7 10.0.0.1 50000 80 and a very long rest of the line that goes on beyond every limit\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x31\x11\x00\x0c",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x04\x01\x02\x03\x04",
    ];
    for header in broken {
        assert_eq!(through(&farm, header), None, "{}", header.escape_ascii());
    }
    let mut slow = Connection::open_plain(farm.entrance()).unwrap();
    slow.send(&V1[..20]).unwrap();
    assert_eq!(slow.read_to_end().expect("it ends"), b"");
    wait::until("all are counted", || rejected(&farm) == broken.len() as f64 + 1.0);
    assert_eq!(farm.stub(0).stats().connections, 0);
    assert_eq!(through(&farm, V1), Some(200));
}

#[test]
fn the_header_comes_before_the_handshake() {
    use std::io::Write;
    let farm = trusting("[\"127.0.0.1\"]").tls(Tls::Front).start();
    for (header, client) in [(V1.to_vec(), "192.0.2.7"), (v2(), "192.0.2.8")] {
        let mut tcp = std::net::TcpStream::connect(farm.entrance()).unwrap();
        tcp.write_all(&header).unwrap();
        let session = Tls::Front.client().handshake(tcp).expect("a handshake behind the header");
        let mut connection = Connection::over(session);
        assert_eq!(connection.exchange(&ping(TARGET).bytes()).unwrap().status, 200);
        came_from(&farm, client);
    }
    assert!(Connection::open(farm.entrance()).is_err(), "without the header there is no handshake");
    wait::until("it is counted", || rejected(&farm) == 1.0);
}

#[test]
fn connections_are_counted_for_the_address_in_the_header_and_before_a_handshake() {
    for tls in [Tls::Off, Tls::Front] {
        let farm = trusting("[\"127.0.0.0/8\"]")
            .tls(tls)
            .set("limits.connections_per_address", "1")
            .set("timeouts.handshake", "\"1m\"")
            .start();
        let crowded = || {
            farm.metric("bitsgw_rejected_requests_total", &[("reason", "address_limit")]) as usize
        };
        let enter = |header: &[u8]| {
            let mut stream = TcpStream::connect(farm.entrance()).unwrap();
            stream.write_all(header).unwrap();
            stream
        };
        let connected = || farm.metric("bitsgw_connections", &[]);
        let first = enter(V1);
        let _other = enter(&v2());
        let second = enter(V1);
        wait::until("one is too much", || crowded() == 1);
        wait::until("the other two are there", || connected() == 2.0);
        // Whose header came first is the scheduler's to say.
        let ended = wait::some("one is closed", || {
            [&first, &second].into_iter().find_map(|mut stream| {
                stream.set_nonblocking(true).unwrap();
                let mut answer = Vec::new();
                let ended = stream.read_to_end(&mut answer);
                (!is_open(&ended)).then_some(answer)
            })
        });
        assert_eq!(ended.is_empty(), tls.is_on(), "{tls:?}");
    }
}

fn is_open(read: &io::Result<usize>) -> bool {
    matches!(read, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}

#[test]
fn the_port_in_the_header_is_the_one_that_the_client_connected_to() {
    let farm = trusting("[\"127.0.0.0/8\"]").set("http.forwarded", "\"x-forwarded\"").start();
    let v2_port = [&v2()[..26], &[0x01, 0xbb], &v2()[28..]].concat();
    let own = farm.entrance().port().to_string();
    for (header, port) in [
        (V1, "80"),
        (b"PROXY TCP6 2001:db8::7 ::1 1 8443\r\n", "8443"),
        (&v2_port, "443"),
        (b"PROXY UNKNOWN\r\n", &own),
    ] {
        assert_eq!(through(&farm, header), Some(200));
        let seen = farm.stub(0).requests();
        assert_eq!(seen.last().unwrap().field("X-Forwarded-Port"), Some(port));
    }
}
