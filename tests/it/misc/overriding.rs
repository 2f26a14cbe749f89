//! POST with a method override, as clients of OneDrive send it: item 96.

use e2e_tests::client::{AckRules, Answer, Head, PacketType, exchange};
use e2e_tests::farm::Farm;
use e2e_tests::raw_backend::{RawBackend, Reply, agree};

use crate::packets::{Packet, Servers, TARGET, close, create, fragment, ping, session_of};

/// The packet as a POST; `name: value` is the override.
fn posted(packet: &Packet, name: &str, value: &str) -> Vec<u8> {
    packet.clone().by("POST").with(name, value).bytes()
}

/// Item 96.
#[test]
fn a_post_with_the_override_is_a_packet_where_that_is_enabled() {
    let farm = Farm::of_stubs(2)
        .each_stub(&["--flavour", "onedrive"])
        .set("http.method_override", "true")
        .start();
    let ask = |packet: &Packet| -> Answer {
        let bytes = posted(packet, "X-Http-Method-Override", "BITS_POST");
        exchange(farm.entrance(), &bytes).expect("an answer")
    };
    let created = ask(&create(TARGET));
    assert_eq!(created.status, 201);
    let ack = AckRules::farm().expect(PacketType::CreateSession, &created);
    assert!(ack.host_id.is_some(), "{}", created.head);
    let id = session_of(&created);
    assert_eq!(ask(&fragment(TARGET, &id, "bytes 0-2/6", b"abc")).status, 200);
    assert_eq!(ask(&fragment(TARGET, &id, "bytes 3-5/6", b"def")).status, 200);
    let closed = ask(&close(TARGET, &id));
    assert_eq!((closed.status, closed.field("X-Resource-Id").is_some()), (200, true));
    farm.expect_stored(TARGET, &e2e_tests::data::Content::bytes(*b"abcdef"));
    farm.expect_healthy();
    // The gateway judges it like any packet.
    let refused = ask(&fragment(TARGET, "stranger", "bytes 0-9/6", b"abc"));
    assert_eq!(refused.status, 400);
    AckRules::own_answer().expect(PacketType::Fragment, &refused);
}

/// Item 96.
#[test]
fn the_override_is_read_in_any_case_and_reaches_the_backend() {
    let servers = Servers::with(1, |farm| farm.set("http.method_override", "true"));
    for (name, value) in [
        ("X-Http-Method-Override", "BITS_POST"),
        ("x-http-method-override", "bits_post"),
        ("X-HTTP-Method-Override", "Bits_Post"),
    ] {
        let answer = servers.ask_bytes(&posted(&create(TARGET), name, value));
        session_of(&answer);
        assert!(answer.field("BITS-Host-Id").is_some(), "{}", answer.head);
        let request = servers.last_request(0);
        assert_eq!(request.method(), "POST");
        assert_eq!(request.field("X-Http-Method-Override"), Some(value));
    }
    // Another method, or none, makes no packet of it.
    for value in ["PUT", "BITS_GET", ""] {
        let answer = servers.ask_bytes(&posted(&create(TARGET), "X-Http-Method-Override", value));
        assert_eq!(answer.field("BITS-Host-Id"), None, "{}", answer.head);
    }
}

/// Item 96.
#[test]
fn a_post_with_the_override_is_an_ordinary_post_where_that_is_not_enabled() {
    let agree = agree();
    // A server that takes the override: nothing but the gateway can make a difference.
    let backend = RawBackend::answering(move |request| match request.target() {
        "/page" => Reply::raw("HTTP/1.1 405 No\r\nAllow: GET\r\nContent-Length: 3\r\n\r\nno!"),
        _ => agree(request),
    });
    let servers = Servers::of(vec![backend], |farm| farm);
    let over = |packet: &Packet| posted(packet, "X-Http-Method-Override", "BITS_POST");
    let answer = servers.ask_bytes(&over(&create(TARGET)));
    assert_eq!(answer.status, 200);
    assert_eq!(answer.field("BITS-Host-Id"), None, "{}", answer.head);
    assert_eq!(servers.farm.metric("bitsgw_sessions", &[]), 0.0);
    // What would be a fault of a packet is none of a POST.
    let bad = fragment(TARGET, "stranger", "bytes 0-9/6", b"abc");
    assert_eq!(servers.ask_bytes(&over(&bad)).status, 200);
    assert_eq!(servers.last_request(0).body, b"abc");
    let answer = servers.ask_bytes(&over(&ping("/page")));
    assert_eq!((answer.status, &*answer.body_text()), (405, "no!"));
    assert_eq!(answer.field("BITS-Packet-Type"), None);
    // A plain POST is the same in both modes.
    let post = Head::new("POST", "/page").field("Host", "up.test").field("Content-Length", 2);
    assert_eq!(servers.ask_bytes(&post.with_body(b"hi")).status, 405);
}
