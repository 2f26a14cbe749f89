//! POST with a method override, as clients of OneDrive send it: item 96.

use e2e_tests::client::{AckRules, Answer, Head, PacketType, exchange};
use e2e_tests::farm::Farm;
use e2e_tests::wait;

use crate::packets::{Packet, Servers, TARGET, close, create, fragment, session_of};

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

/// Behind the gateway such a request would be a packet without a pin and without a limit.
///
/// Item 96.
/// Threat: T5.
#[test]
fn a_packet_under_another_method_never_passes() {
    for enabled in [false, true] {
        let servers = Servers::with(1, |farm| match enabled {
            true => farm.set("http.method_override", "true"),
            false => farm,
        });
        let bare = |method: &str| {
            Head::new(method, TARGET).field("Host", "up.test").field("Content-Length", 0)
        };
        let mut hidden = vec![
            bare("PUT").field("X-HTTP-Method-Override", "BITS_POST"),
            bare("GET").field("X-HTTP-Method-Override", "bits_post"),
            bare("POST").field("X-HTTP-Method-Override", "PUT, BITS_POST"),
            bare("POST").field("X-HTTP-Method-Override", "BITS_POST,PUT"),
            bare("POST").field("X-Method-Override", "BITS_POST"),
            bare("POST").field("X-Method-Override", "a").field("X-Method-Override", "bits_Post"),
            bare("POST").field("X-HTTP-Method", "x BITS_POST"),
            bare("POST").field("X_Method_Override", "BITS_POST"),
            bare("bits_post").field("BITS-Packet-Type", "Ping"),
            bare("Bits_Post"),
            bare("GET").field("BITS-Packet-Type", "Ping"),
            bare("POST").field("bits-packet-type", "Create-Session"),
            bare("PUT").field("BITS-Packet-Type", ""),
        ];
        if !enabled {
            hidden.push(bare("POST").field("X-HTTP-Method-Override", "BITS_POST"));
            hidden.push(bare("POST").field("X-HTTP-Method-Override", "bits_post"));
        }
        for head in hidden {
            let bytes = head.to_bytes();
            let answer = servers.ask_bytes(&bytes);
            let sent = String::from_utf8_lossy(&bytes);
            assert_eq!(answer.status, 400, "{sent}: {}", answer.head);
            assert_eq!(answer.field("BITS-Packet-Type"), None, "{}", answer.head);
        }
        assert_eq!(servers.backends[0].requests().len(), 0, "no byte of them has passed");
        // Their neighbours do.
        let ordinary = [
            bare("POST").field("X-HTTP-Method-Override", "PUT"),
            bare("PUT").field("X-Method-Override", "BITS_POSTS"),
            bare("GET").field("BITS-Session-Id", "{x}"),
            bare("BITS-POST"),
        ];
        for head in &ordinary {
            assert_eq!(servers.ask_bytes(&head.to_bytes()).status, 200);
        }
        assert_eq!(servers.backends[0].requests().len(), ordinary.len());
        servers.farm.gateway().expect_logged("a packet under another method");
        let log = servers.farm.gateway().log();
        let lines = log.lines().filter(|line| line.contains("a packet under another method"));
        assert_eq!(lines.count(), 1, "any client can provoke it: {log}");
    }
}

/// Item 96.
#[test]
fn the_log_names_the_key_that_makes_a_packet_of_it() {
    let servers = Servers::with(1, |farm| farm);
    let bytes = posted(&create(TARGET), "X-Http-Method-Override", "BITS_POST");
    assert_eq!(servers.ask_bytes(&bytes).status, 400);
    servers.farm.gateway().expect_logged("http.method_override = true");
    let line = wait::some("a line", || servers.farm.gateway().access_log().pop());
    assert_eq!((&line["status"], &line["fault"]), (&400.into(), &"bad_request".into()));
    assert_eq!(servers.backends[0].requests().len(), 0);
}

#[test]
fn only_the_methods_of_the_list_pass_beside_packets() {
    let servers = Servers::with(1, |farm| farm.set("http.methods", "[\"GET\", \"HEAD\"]"));
    let ask = |method: &str| {
        let head = Head::new(method, "/page").field("Host", "up.test").field("Content-Length", 0);
        servers.ask_bytes(&head.to_bytes())
    };
    assert_eq!(ask("GET").status, 200);
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PROPFIND", "get", "X"] {
        let answer = ask(method);
        assert_eq!((answer.status, answer.field("Allow")), (405, Some("GET, HEAD")), "{method}");
        assert_eq!(answer.field("BITS-Packet-Type"), None);
    }
    assert_eq!(servers.backends[0].requests().len(), 1);
    // Packets are not of the list.
    session_of(&servers.ask_bytes(&create(TARGET).bytes()));
    wait::until("the access log says why", || {
        let log = servers.farm.gateway().access_log();
        log.iter().any(|line| line["fault"] == "method_not_served")
    });
}
