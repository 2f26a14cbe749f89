//! Handshakes that do not come to an end, that come to a bad one, and what is no handshake.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use e2e_tests::client::{Connection, exchange};
use e2e_tests::farm::{Farm, FarmBuilder, Tls};
use e2e_tests::wait;

use crate::packets::{TARGET, ping};

fn secure() -> FarmBuilder {
    Farm::of_stubs(1).tls(Tls::Front)
}

fn failures(farm: &Farm, reason: &str) -> f64 {
    farm.metric("bitsgw_tls_handshake_errors_total", &[("reason", reason)])
}

fn rejected(farm: &Farm, reason: &str) -> f64 {
    farm.metric("bitsgw_rejected_requests_total", &[("reason", reason)])
}

/// The first bytes of a ClientHello, and no more.
const HALF_A_HELLO: &[u8] = &[0x16, 3, 1, 1, 0, 1, 0, 0, 252, 3, 3];

/// Threat: T8.
#[test]
fn a_handshake_that_stalls_is_ended_by_its_own_deadline() {
    let farm = secure().set("timeouts.handshake", "\"300ms\"").start();
    let mut silent = TcpStream::connect(farm.entrance()).unwrap();
    let mut stalled = TcpStream::connect(farm.entrance()).unwrap();
    stalled.write_all(HALF_A_HELLO).unwrap();
    for stream in [&mut silent, &mut stalled] {
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let mut rest = Vec::new();
        // An end or a reset, but not the end of our patience.
        let ended = stream.read_to_end(&mut rest).map_err(|error| error.kind());
        assert!(!matches!(ended, Err(ErrorKind::WouldBlock | ErrorKind::TimedOut)), "{ended:?}");
        assert!(rest.is_empty(), "{rest:?}");
    }
    wait::until("both are counted", || failures(&farm, "timeout") == 2.0);
    assert_eq!(farm.metric("bitsgw_connections", &[]), 0.0);
}

/// Threat: T8.
#[test]
fn half_handshakes_count_against_the_cap() {
    let farm =
        secure().set("limits.connections", "3").set("limits.connections_per_address", "0").start();
    let held: Vec<_> = (0..3)
        .map(|_| {
            let mut stream = TcpStream::connect(farm.entrance()).unwrap();
            stream.write_all(HALF_A_HELLO).unwrap();
            stream
        })
        .collect();
    wait::until("they count", || farm.metric("bitsgw_connections", &[]) == 3.0);
    assert!(Connection::open(farm.entrance()).is_err(), "there is no room for a fourth");
    assert!(rejected(&farm, "connection_limit") >= 1.0);
    drop(held);
    wait::until("there is room again", || Connection::open(farm.entrance()).is_ok());
    wait::until("the client went away", || failures(&farm, "closed") == 3.0);
}

#[test]
fn plain_http_on_a_tls_listener_hears_that_it_is_a_mistake() {
    let farm = secure().start();
    let mut plain = Connection::open_plain(farm.entrance()).unwrap();
    let answer = plain.exchange(&ping(TARGET).bytes()).expect("an answer in the clear");
    assert_eq!(answer.status, 400);
    assert_eq!(answer.field("BITS-Packet-Type"), Some("Ack"));
    let mut plain = Connection::open_plain(farm.entrance()).unwrap();
    let answer = plain.exchange(b"GET / HTTP/1.1\r\nHost: up.test\r\n\r\n").unwrap();
    assert_eq!((answer.status, answer.field("BITS-Packet-Type")), (400, None));
    // What can be no request is not waited for.
    let mut noise = Connection::open_plain(farm.entrance()).unwrap();
    assert_eq!(noise.exchange(b"\x15\x03\x01\0\x02\x01\0").expect("an answer").status, 400);
    wait::until("all are counted", || rejected(&farm, "plain_on_tls") == 3.0);
    assert_eq!(farm.stub(0).stats().connections, 0);
}

#[test]
fn tls_on_a_plain_listener_is_counted_and_closed() {
    let farm = Farm::of_stubs(1).plain().start();
    let secure = Tls::Front.client();
    assert!(Connection::open_secure(farm.entrance(), &secure).is_err());
    wait::until("it is counted", || rejected(&farm, "tls_on_plain") == 1.0);
    let answer = exchange(farm.entrance(), &ping(TARGET).bytes()).unwrap();
    assert_eq!(answer.status, 200, "others are served");
}

/// Threat: T15.
#[test]
fn only_http_1_is_agreed_on() {
    let farm = secure().start();
    let client = Tls::Front.client();
    let offering = |protocols: &[&[u8]]| {
        let protocols = protocols.iter().map(|p| p.to_vec()).collect();
        client.clone().with(|config| config.alpn_protocols = protocols)
    };
    for (offer, agreed) in [
        (offering(&[]), None),
        (offering(&[b"http/1.1"]), Some(&b"http/1.1"[..])),
        (offering(&[b"h2", b"http/1.1"]), Some(b"http/1.1")),
    ] {
        let mut connection = Connection::open_secure(farm.entrance(), &offer).unwrap();
        assert_eq!(connection.session().unwrap().connection().alpn_protocol(), agreed);
        assert_eq!(connection.exchange(&ping(TARGET).bytes()).unwrap().status, 200);
    }
    let refused = Connection::open_secure(farm.entrance(), &offering(&[b"h2"]));
    assert!(refused.is_err(), "HTTP/2 alone is not spoken here");
    wait::until("it is counted", || failures(&farm, "incompatible") == 1.0);
}

/// Threat: T15.
#[test]
fn both_versions_are_spoken_and_sessions_are_resumed() {
    use rustls::version::{TLS12, TLS13};
    let farm = secure().start();
    for version in [&TLS12, &TLS13] {
        let client = Tls::Front.client().only(version);
        let kinds: Vec<_> = (0..2)
            .map(|_| {
                let mut connection = Connection::open_secure(farm.entrance(), &client).unwrap();
                assert_eq!(connection.exchange(&ping(TARGET).bytes()).unwrap().status, 200);
                let session = connection.session().unwrap().connection();
                assert_eq!(session.protocol_version(), Some(version.version));
                session.handshake_kind().unwrap()
            })
            .collect();
        use rustls::HandshakeKind::{Full, Resumed};
        assert_eq!(kinds, [Full, Resumed], "{version:?}");
    }
}

#[test]
fn the_access_log_has_the_version() {
    for (tls, expected) in [(Tls::Front, Some("TLSv1.3")), (Tls::Off, None)] {
        let farm = Farm::of_stubs(1).tls(tls).start();
        exchange(farm.entrance(), &ping(TARGET).bytes()).expect("an answer");
        let line = wait::some("its line", || farm.gateway().access_log().pop());
        assert_eq!(line["tls_version"].as_str(), expected, "{line}");
    }
}

#[test]
fn a_stop_does_not_wait_for_half_a_handshake() {
    let farm = secure().start();
    let mut stalled = TcpStream::connect(farm.entrance()).unwrap();
    stalled.write_all(HALF_A_HELLO).unwrap();
    wait::until("it counts", || farm.metric("bitsgw_connections", &[]) == 1.0);
    let status = farm.gateway().terminate();
    assert!(status.success(), "{status}");
}
