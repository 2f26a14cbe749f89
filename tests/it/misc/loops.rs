//! A backend whose address leads back to the gateway: one request must not become thousands.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use e2e_tests::client::{Head, exchange};
use e2e_tests::farm::Farm;
use e2e_tests::raw_backend::RawBackend;

use crate::packets::{Servers, create, expect_not_now, ping, server};

/// Passes connections on to an address that is told later.
struct Relay {
    address: SocketAddr,
    to: Arc<OnceLock<SocketAddr>>,
    connections: Arc<AtomicUsize>,
}

impl Relay {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
        let address = listener.local_addr().expect("a bound socket has an address");
        let (to, connections) = (Arc::<OnceLock<SocketAddr>>::default(), Arc::default());
        let relay = Self { address, to: Arc::clone(&to), connections: Arc::clone(&connections) };
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                connections.fetch_add(1, Ordering::Relaxed);
                let Some(server) = to.get().and_then(|to| TcpStream::connect(to).ok()) else {
                    continue;
                };
                pipe(&client, &server);
                pipe(&server, &client);
            }
        });
        relay
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

fn pipe(from: &TcpStream, to: &TcpStream) {
    let (mut from, mut to) =
        (from.try_clone().expect("a handle"), to.try_clone().expect("a handle"));
    std::thread::spawn(move || {
        let _ = io::copy(&mut from, &mut to);
        let _ = to.shutdown(std::net::Shutdown::Write);
    });
}

/// The packet is answered "not now", over few connections, and the log names the backend.
#[track_caller]
fn ends(farm: &Farm, relay: &Relay) {
    for packet in [ping("/in/a.bin"), create("/in/a.bin")] {
        let before = relay.connections();
        let answer = exchange(farm.entrance(), &packet.bytes()).expect("an answer");
        expect_not_now(&[503], packet.kind, &answer);
        let more = relay.connections() - before;
        assert!(more <= 2, "{more} connections for one request");
    }
    let request = b"GET /in/a.bin HTTP/1.1\r\nHost: up.test\r\n\r\n";
    assert_eq!(exchange(farm.entrance(), request).expect("an answer").status, 503);
    farm.gateway().expect_logged("a request came back to this gateway");
    let log = farm.gateway().log();
    let line = log.lines().find(|line| line.contains("came back")).expect("it was found");
    assert!(line.contains("\"backend\":\"up01\""), "{line}");
    let count = log.lines().filter(|line| line.contains("came back")).count();
    assert_eq!(count, 1, "one line and not one for each request");
    assert!(farm.metric("bitsgw_rejected_requests_total", &[("reason", "loop")]) >= 3.0);
}

#[test]
fn a_request_that_comes_back_is_ended() {
    let relay = Relay::start();
    let farm = Farm::of_stubs(0).backend("up01", relay.address).plain().start();
    relay.to.set(farm.entrance()).expect("told once");
    ends(&farm, &relay);
    farm.expect_healthy();
}

#[test]
fn a_request_that_comes_back_through_another_gateway_is_ended() {
    let relay = Relay::start();
    let second = Farm::of_stubs(0).backend("back", relay.address).plain().start();
    let first = Farm::of_stubs(0).backend("up01", second.entrance()).plain().start();
    relay.to.set(first.entrance()).expect("told once");
    ends(&first, &relay);
    first.expect_healthy();
    second.expect_healthy();
}

/// What a client writes in the field neither ends its request nor hides a loop.
#[test]
fn entries_of_others_pass() {
    let servers = Servers::start(1);
    for value in ["cloudflare", "bits-gateway", "bits-gateway;id=0.0", "a, b;c=\"d\""] {
        let answer = servers.ask(&ping("/in/a.bin").with("CDN-Loop", value));
        assert_eq!(answer.status, 200, "{value}: {}", answer.head);
        let head = servers.last_request(0).head.to_ascii_lowercase();
        assert!(head.contains(&format!("cdn-loop: {value}\r\n")), "{head}");
        assert_eq!(head.matches("bits-gateway;id=").count(), 1 + value.matches("way;id").count());
    }
}

/// `http.via` governs `Via` alone: loops are seen without it.
#[test]
fn via_is_added_where_that_is_asked_for() {
    for (key, http10, others, expected) in [
        ("false", false, "1.0 squid", "via: 1.0 squid\r\n"),
        ("true", false, "1.0 squid", "via: 1.0 squid\r\nvia: 1.1 bits-gateway\r\n"),
        ("true", true, "1.0 squid", "via: 1.0 squid\r\nvia: 1.0 bits-gateway\r\n"),
    ] {
        let servers =
            Servers::of(vec![RawBackend::answering(server(0))], |farm| farm.set("http.via", key));
        let packet = ping("/in/a.bin").with("Via", others);
        let plain = Head::new("GET", "/in/a.bin").field("Host", "alias.test").field("Via", others);
        for bytes in [packet.bytes(), plain.with_body(b"")] {
            let mut bytes = String::from_utf8(bytes).expect("ASCII");
            if http10 {
                bytes = bytes.replacen("HTTP/1.1", "HTTP/1.0", 1);
            }
            exchange(servers.farm.entrance(), bytes.as_bytes()).expect("an answer");
            let head = servers.last_request(0).head.to_ascii_lowercase();
            let via: String =
                head.split_inclusive("\r\n").filter(|line| line.starts_with("via:")).collect();
            assert_eq!(via, expected, "{bytes}");
            assert!(head.contains("\r\ncdn-loop: bits-gateway;id="), "{head}");
        }
    }
}
