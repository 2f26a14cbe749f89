//! What the document says of a proxy beside its configuration: what becomes of a packet without one of its lines, and
//! how long the proxy waits. Waits of minutes are made a second for that.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use e2e_tests::client::{Connection, WireError, exchange};
use e2e_tests::farm::{Farm, ORIGIN};
use e2e_tests::raw_backend::{RawBackend, Reply, Request, agree};
use e2e_tests::wait;

use super::front::Front;
use crate::packets::{Packet, TARGET, close, create, fragment, ping};

/// Changes of a block: lines, and what stands in their place.
type Changes<'c> = &'c [(&'c str, &'c str)];

/// A server that a proxy takes for a gateway, whatever it asks.
fn answering(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> RawBackend {
    RawBackend::answering(move |request| match request.method() {
        "OPTIONS" | "GET" => Reply::SendAndClose(
            b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_vec(),
        ),
        _ => answer(request),
    })
}

fn agreeable() -> RawBackend {
    answering(agree())
}

#[track_caller]
fn front(name: &str, changes: Changes<'_>, server: &RawBackend) -> Front {
    Front::changed(name, name, changes, server.address(), server.address())
}

fn packets(server: &RawBackend) -> usize {
    server.requests().iter().filter(|request| request.method() == "BITS_POST").count()
}

/// A Fragment of so many bytes.
fn of_bytes(count: usize) -> Packet {
    let range = format!("bytes 0-{}/{count}", count - 1);
    fragment(TARGET, "{x}", &range, &vec![b'x'; count])
}

/// The status of an answer; `None` if the connection ends without one.
fn status(answer: Result<e2e_tests::client::Answer, WireError>) -> Option<u16> {
    answer.ok().map(|answer| answer.status)
}

/// What is said to a field of so many bytes.
#[track_caller]
pub fn says_to_a_large_field(name: &str, changes: Changes<'_>, bytes: usize) -> Option<u16> {
    let server = agreeable();
    let front = front(name, changes, &server);
    let ticket = format!("Negotiate {}", "A".repeat(bytes));
    status(exchange(front.address(), &create(TARGET).with("Authorization", &ticket).bytes()))
}

/// What is said to a client that stops in the middle of a body.
#[track_caller]
pub fn says_to_a_pause(name: &str, changes: Changes<'_>) -> Option<u16> {
    let server = agreeable();
    let front = front(name, changes, &server);
    let bytes = of_bytes(100_000).bytes();
    let mut client = Connection::open(front.address()).expect("a connection");
    client.send(&bytes[..bytes.len() - 50_000]).expect("it is taken");
    status(client.read_answer())
}

/// What a client is told while the gateway says nothing.
#[track_caller]
pub fn says_to_silence(name: &str, changes: Changes<'_>) -> Option<u16> {
    let agree = agree();
    let server = answering(move |request| match request.packet_type().as_str() {
        "create-session" => Reply::Wait,
        _ => agree(request),
    });
    let front = front(name, changes, &server);
    let answer = exchange(front.address(), &create(TARGET).bytes());
    assert!(packets(&server) > 0, "the gateway has it");
    status(answer)
}

/// What is said to a Fragment of so many bytes.
#[track_caller]
pub fn says_to_a_body(name: &str, changes: Changes<'_>, bytes: usize) -> Option<u16> {
    let server = agreeable();
    let front = front(name, changes, &server);
    let mut client = Connection::open(front.address()).expect("a connection");
    // A proxy that ends the connection before it has read all fails the sending; the answer tells more.
    let _ = client.send(&of_bytes(bytes).bytes());
    status(client.read_answer())
}

/// How often a packet comes to a first server that ends the connection, and to a second one; and the status that its
/// client gets. `late`: the body comes when the first server has the head.
#[track_caller]
fn sent_again(packet: &Packet, late: bool, change: (&str, &str)) -> (usize, usize, Option<u16>) {
    let broken = RawBackend::answering(|_| Reply::SendAndClose(Vec::new()));
    let good = RawBackend::agreeable();
    let two = format!("server {};\n    keepalive 32;", good.address());
    let changes = [("keepalive 32;", &*two), change];
    let front = front("nginx-pool", &changes, &broken);
    let bytes = packet.bytes();
    let head = bytes.windows(4).position(|end| end == b"\r\n\r\n").expect("a head") + 4;
    let mut client = Connection::open(front.address()).expect("a connection");
    if late {
        client.send(&bytes[..head]).expect("it is taken");
        wait::until("the first server has the head", || !broken.requests().is_empty());
        client.send(&bytes[head..]).expect("it is taken");
    } else {
        client.send(&bytes).expect("it is taken");
    }
    let answer = status(client.read_answer());
    (broken.requests().len(), good.requests().len(), answer)
}

#[test]
fn nginx_sends_a_packet_again_that_it_still_has() {
    let small = fragment(TARGET, "{x}", "bytes 0-2/9", b"abc");
    let large = of_bytes(1_000_000);
    let off = ("        proxy_request_buffering off;\n", "");
    let never = ("proxy_read_timeout", "proxy_next_upstream off;\n        proxy_read_timeout");
    for packet in [create(TARGET), ping(TARGET), close(TARGET, "{x}"), small.clone()] {
        assert_eq!(sent_again(&packet, false, ("", "")), (1, 1, Some(200)), "{packet:?}");
        assert_eq!(sent_again(&packet, false, never), (1, 0, Some(502)), "{packet:?}");
    }
    // What it has passed on while it came, it has no more.
    assert_eq!(sent_again(&small, true, ("", "")), (1, 0, Some(502)));
    assert_eq!(sent_again(&large, false, ("", "")), (1, 0, Some(502)));
    assert_eq!(sent_again(&large, false, off), (1, 1, Some(200)), "from its disk");
}

/// Also where there is one gateway only.
#[test]
fn nginx_sends_a_packet_again_where_a_kept_connection_ends() {
    let number = AtomicUsize::new(0);
    let agree = agree();
    let gateway = answering(move |request| match number.fetch_add(1, Ordering::SeqCst) {
        1 => Reply::SendAndClose(Vec::new()),
        _ => agree(request),
    });
    let front = front("nginx-pool", &[], &gateway);
    for asked in [1, 3] {
        let answer = exchange(front.address(), &create(TARGET).bytes());
        assert_eq!((status(answer), packets(&gateway)), (Some(200), asked));
    }
}

#[test]
fn nginx_and_haproxy_have_limits_of_their_own() {
    let size = ("    client_max_body_size 0;\n", "");
    assert_eq!(says_to_a_body("nginx-pool", &[size], 1024 * 1024), Some(200));
    assert_eq!(says_to_a_body("nginx-pool", &[size], 1024 * 1024 + 1), Some(413));
    let head = ("    large_client_header_buffers 4 96k;\n", "");
    assert_eq!(says_to_a_large_field("nginx-pool", &[head], 16_384), Some(400));
    let head = ("tune.bufsize 98304", "");
    assert_eq!(says_to_a_large_field("haproxy-http", &[head], 16_384), Some(400));
}

#[test]
fn nginx_and_haproxy_wait_for_clients_and_for_the_gateway() {
    let body = ("client_body_timeout 130s", "client_body_timeout 1s");
    assert_eq!(says_to_a_pause("nginx-pool", &[body]), None);
    let answer = ("proxy_read_timeout 320s", "proxy_read_timeout 1s");
    assert_eq!(says_to_silence("nginx-pool", &[answer]), Some(504));
    let body = ("timeout client 130s", "timeout client 1s");
    assert_eq!(says_to_a_pause("haproxy-http", &[body]), None);
    let answer = ("timeout server 320s", "timeout server 1s");
    assert_eq!(says_to_silence("haproxy-http", &[answer]), Some(504));
}

/// The method is unknown to Varnish then.
pub fn varnish_makes_a_tunnel_of_a_connection_that_it_is_not_told_to_pass() {
    let none = ("sub vcl_recv {\n    return (pass);\n}\n", "");
    let farm = Farm::of_stubs(1).plain().start();
    let entrance = farm.entrance();
    let varnish = Front::changed("varnish", "varnish", &[none], entrance, entrance);
    let mut client = Connection::open(varnish.address()).expect("a connection");
    let answer = client.exchange(&ping(TARGET).bytes()).expect("an answer");
    assert_eq!((answer.status, answer.closes()), (200, true), "{}", answer.head);
    assert_eq!(answer.field("Via"), None, "it only passes bytes on");
    let seen = farm.stub(0).requests();
    let seen = seen.iter().rfind(|seen| seen.field("Host") == Some(ORIGIN));
    assert!(seen.is_some());
    // So long a tunnel may be silent, whatever waits there are else.
    let silent = ("-p timeout_idle=130", "-p timeout_idle=130 -p pipe_timeout=1");
    assert_eq!(says_to_silence("varnish", &[none, silent]), None);
}

/// It is away first, and the answers to its probes are counted from then on.
pub fn varnish_uses_a_gateway_again_after_three_good_probes() {
    let (probes, well) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(true)));
    let (counted, healthy) = (probes.clone(), well.clone());
    let agree = agree();
    let gateway = RawBackend::answering(move |request| {
        let status = match (request.method(), healthy.load(Ordering::SeqCst)) {
            ("OPTIONS", false) => "503 Service Unavailable",
            ("OPTIONS", true) => {
                counted.fetch_add(1, Ordering::SeqCst);
                "200 OK"
            }
            _ => return agree(request),
        };
        let head = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        Reply::SendAndClose(head.into_bytes())
    });
    let quick = (".probe = {\n", ".probe = {\n        .interval = 200ms;\n");
    let varnish = front("varnish", &[quick], &gateway);
    let passes =
        || exchange(varnish.address(), &ping(TARGET).bytes()).is_ok_and(|a| a.status == 200);
    assert!(passes());
    well.store(false, Ordering::SeqCst);
    wait::until("Varnish has seen that it is away", || !passes());
    probes.store(0, Ordering::SeqCst);
    well.store(true, Ordering::SeqCst);
    wait::until("Varnish uses it again", passes);
    assert!(probes.load(Ordering::SeqCst) >= 3, "{probes:?} good probes");
}
