//! Backends that speak of what is not theirs: threat T11.

use e2e_tests::farm::ORIGIN;
use e2e_tests::raw_backend::{RawBackend, Reply, Request};

use crate::packets::{Servers, TARGET, created, fragment, of_session, ping, server, session_of};

/// Answers what the test says where `X-Say` stands, and honestly elsewhere.
fn saying(reply: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Servers {
    let honest = server(0);
    let backend = RawBackend::answering(move |request| match request.field("X-Say") {
        Some(_) => reply(request),
        None => honest(request),
    });
    Servers::of(vec![backend], |farm| farm)
}

/// Threat: T11.
#[test]
fn an_ack_does_not_tell_a_client_of_another_session() {
    let other = "{FFFFFFFF-0000-4000-8000-000000000001}";
    let servers = saying(move |_| {
        let fields = [("BITS-Session-Id", other), ("BITS-Received-Content-Range", "3")];
        Reply::ack("200 OK", &fields)
    });
    let (id, _) = servers.open(TARGET);
    for packet in of_session(TARGET, &id) {
        let answer = servers.ask(&packet.with("X-Say", "1"));
        assert!(!answer.head.contains("FFFFFFFF"), "{}", answer.head);
        assert_eq!(answer.field("BITS-Session-Id"), Some(&*id), "{}", answer.head);
    }
}

/// The older session keeps its pin, and the newer one gets an id of the gateway's own.
///
/// Threat: T11.
#[test]
fn an_id_that_another_backend_owns_is_not_pinned_again() {
    let same = "{00000000-0000-4000-8000-00000000000A}";
    let honest = [server(0), server(1)];
    let backends = honest.map(|honest| {
        RawBackend::answering(move |request| match &*request.packet_type() {
            "create-session" => created(same),
            _ => honest(request),
        })
    });
    let servers = Servers::of(backends.into(), |farm| farm.without_host_ids());
    let (first, owner) = servers.open("/in/first.bin");
    let (second, other) = servers.open("/in/second.bin");
    assert_eq!((&*first, owner != other), (same, true));
    assert_ne!(second, same);
    for (target, id, backend) in
        [("/in/first.bin", &first, owner), ("/in/second.bin", &second, other)]
    {
        let (heard, request, _) = servers.passes(&fragment(target, id, "bytes 0-2/9", b"abc"));
        assert_eq!((heard, request.field("BITS-Session-Id")), (backend, Some(same)));
    }
    assert_eq!(servers.farm.metric("bitsgw_session_id_conflicts_total", &[]), 1.0);
}

#[test]
fn a_head_larger_than_a_client_may_send_becomes_502() {
    let servers = saying(|request| {
        let fields = match request.field("X-Say") {
            Some("long") => format!("X: {}\r\n", "y".repeat(90_000)),
            Some("many") => "X: y\r\n".repeat(150),
            _ => format!("X: {}\r\n", "y".repeat(20_000)),
        };
        Reply::raw(&format!(
            "HTTP/1.1 200 OK\r\nBITS-Packet-Type: Ack\r\n{fields}Content-Length: 0\r\n\r\n"
        ))
    });
    for say in ["long", "many"] {
        let answer = servers.ask(&ping(TARGET).with("X-Say", say));
        assert_eq!(answer.status, 502, "{say}");
        let get = format!("GET {TARGET} HTTP/1.1\r\nHost: {ORIGIN}\r\nX-Say: {say}\r\n\r\n");
        assert_eq!(servers.ask_bytes(get.as_bytes()).status, 502, "{say}");
    }
    assert_eq!(servers.ask(&ping(TARGET).with("X-Say", "large")).status, 200);
    let (id, _) = servers.open("/in/after.bin");
    assert!(!id.is_empty());
    assert_eq!(session_of(&servers.ask(&crate::packets::create("/in/more.bin"))).len(), id.len());
}

/// Clients would leave the gateway for it, whatever they asked.
///
/// Threat: T11.
#[test]
fn no_answer_sends_a_client_to_another_host() {
    let servers = saying(|_| {
        Reply::raw(
            "HTTP/1.1 200 OK\r\nBITS-Host-Id: evil.test\r\nBITS-Host-Id: worse.test\r\n\
            BITS-Host-Id-Fallback-Timeout: 1\r\nContent-Length: 0\r\n\r\n",
        )
    });
    let (id, _) = servers.open(TARGET);
    let mut requests: Vec<_> =
        of_session(TARGET, &id).into_iter().map(|p| p.with("X-Say", "1").bytes()).collect();
    requests.push(ping(TARGET).with("X-Say", "1").bytes());
    for method in ["GET", "HEAD", "POST"] {
        let head = format!(
            "{method} {TARGET} HTTP/1.1\r\nHost: {ORIGIN}\r\nX-Say: 1\r\nContent-Length: 0\r\n\r\n"
        );
        requests.push(head.into_bytes());
    }
    for request in requests {
        let answer = servers.ask_bytes(&request);
        assert_eq!(answer.status, 200, "{}", answer.head);
        assert_eq!(answer.fields_named("BITS-Host-Id").count(), 0, "{}", answer.head);
        assert_eq!(answer.field("BITS-Host-Id-Fallback-Timeout"), None, "{}", answer.head);
    }
}

/// RFC 9110 section 7.6.1; what frames an answer, or the protocol lives by, nobody takes off. Nor
/// what says that a login counts for the connection, since here it does (RFC 4559 section 4.2).
#[test]
fn fields_for_the_next_hop_end_here() {
    let servers = saying(|_| {
        Reply::raw(
            "HTTP/1.1 200 OK\r\nConnection: X-Hop, keep-alive,bits-packet-type\r\nConnection: Content-Length, (x), Proxy-Support\r\n\
            Proxy-Support: Session-Based-Authentication\r\nX-Hop: 1\r\nX-Other: 2\r\nBITS-Packet-Type: Ack\r\nContent-Length: 2\r\n\r\nhi",
        )
    });
    let get = format!("GET {TARGET} HTTP/1.1\r\nHost: {ORIGIN}\r\nX-Say: 1\r\n\r\n");
    // The body of an Ack is dropped.
    for (request, body) in [(get.into_bytes(), "hi"), (ping(TARGET).with("X-Say", "1").bytes(), "")]
    {
        let answer = servers.ask_bytes(&request);
        assert_eq!((answer.status, &*answer.body_text()), (200, body), "{}", answer.head);
        let names = ["X-Hop", "X-Other", "BITS-Packet-Type", "Proxy-Support"];
        let fields = names.map(|name| answer.field(name));
        let support = Some("Session-Based-Authentication");
        assert_eq!(fields, [None, Some("2"), Some("Ack"), support], "{}", answer.head);
    }
}

/// RFC 9110 section 8.6: a client that believed it would wait for a body.
#[test]
fn no_content_has_no_length() {
    let servers = saying(|_| Reply::raw("HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n"));
    let get = format!("GET {TARGET} HTTP/1.1\r\nHost: {ORIGIN}\r\nX-Say: 1\r\n\r\n");
    for request in [get.into_bytes(), ping(TARGET).with("X-Say", "1").bytes()] {
        let mut client = servers.connect();
        for _ in 0..2 {
            let answer = client.exchange(&request).expect("an answer");
            assert_eq!((answer.status, answer.field("Content-Length")), (204, None));
        }
    }
}
