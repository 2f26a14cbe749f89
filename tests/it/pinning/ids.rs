//! What a session id may look like, and who sees which: items 45 to 47.

use e2e_tests::client::{Ack, FragmentSizes, PacketType};
use e2e_tests::data::Content;
use e2e_tests::farm::Farm;
use e2e_tests::raw_backend::{RawBackend, Reply, Request, agree};

use crate::packets::{
    Packet, Servers, TARGET, cancel, close, create, created, fragment, session_of,
};

/// A server whose sessions all have that id, and which repeats the id of a packet in its Ack, as most servers do.
fn always(id: &str) -> RawBackend {
    let id = id.to_owned();
    let agree = agree();
    RawBackend::answering(move |request| match &*request.packet_type() {
        "create-session" => created(&id),
        _ => echoing(request, agree(request)),
    })
}

fn echoing(request: &Request, reply: Reply) -> Reply {
    match (reply, request.field("BITS-Session-Id")) {
        (Reply::Send(bytes), Some(id)) => {
            let text = String::from_utf8_lossy(&bytes);
            let echo = format!("BITS-Packet-Type: Ack\r\nBITS-Session-Id: {id}\r\n");
            Reply::raw(&text.replacen("BITS-Packet-Type: Ack\r\n", &echo, 1))
        }
        (reply, _) => reply,
    }
}

fn packets(id: &str) -> [Packet; 2] {
    [fragment(TARGET, id, "bytes 0-2/3", b"abc"), close(TARGET, id)]
}

/// Item 45.
#[test]
fn ids_are_opaque() {
    let long = format!("/in/{}", "x%20".repeat(24));
    assert_eq!(long.len(), 100);
    for id in [
        "{3F9C1E52-7B0D-4E7A-9C44-0D5B6A1E8F21}",
        "{3f9c1e52-7b0d-4e7a-9c44-0d5b6a1e8f21}",
        "3f9c1e52-7b0d-4e7a-9c44-0d5b6a1e8f21",
        "3f9c1e527b0d4e7a9c440d5b6a1e8f21",
        "{3F9c1E52-7b0D",
        "-4902601953962343072",
        "0",
        "/in/report.bin",
        "/in/%7Bx%7d?a=b&c;d,e\"f\\g",
        &long,
    ] {
        let servers = Servers::of(vec![RawBackend::agreeable(), always(id)], |farm| {
            // The other server gets the first session, so that a gateway that always asked the first would be seen.
            farm.without_host_ids()
        });
        servers.open(TARGET);
        let (shown, owner) = servers.open(TARGET);
        assert_eq!((&*shown, owner), (id, 1));
        for packet in packets(id) {
            let (backend, request, answer) = servers.passes(&packet);
            assert_eq!(backend, 1, "{id}");
            assert_eq!(request.field("BITS-Session-Id"), Some(id));
            assert_eq!(answer.field("BITS-Session-Id"), Some(id));
        }
    }
}

/// Item 45.
#[test]
fn ids_that_differ_in_case_alone_are_two_sessions_unless_they_are_guids() {
    let ids = ["/in/a.bin", "/in/A.bin"];
    let servers = Servers::of(ids.map(always).into(), |farm| farm.without_host_ids());
    for (number, id) in ids.into_iter().enumerate() {
        assert_eq!(servers.open(TARGET), (id.to_owned(), number));
    }
    for (number, id) in ids.into_iter().enumerate() {
        assert_eq!(servers.passes(&packets(id)[0]).0, number);
    }
    // Some servers lower-case what they repeat, and then a client may send that.
    let guid = "{3F9C1E52-7B0D-4E7A-9C44-0D5B6A1E8F21}";
    let servers = Servers::of(vec![always(guid)], |farm| farm.without_host_ids());
    servers.open(TARGET);
    for id in [guid.to_lowercase(), guid.trim_matches(['{', '}']).to_owned()] {
        let (_, request, _) = servers.passes(&packets(&id)[0]);
        assert_eq!(request.field("BITS-Session-Id"), Some(&*id), "sent on byte for byte");
    }
}

/// Item 46.
#[test]
fn the_client_gets_exactly_the_id_that_it_has_to_send() {
    for flavour in ["iis", "transfervm", "gobits", "simplebits-py3", "path-id"] {
        for id in ["backend", "minted"] {
            let farm = Farm::of_stubs(2)
                .each_stub(&["--flavour", flavour])
                .set("sessions.id", &format!("\"{id}\""))
                .without_host_ids()
                .start();
            let content = Content::seeded(1, 30_000);
            let client = farm.client().with(|o| {
                o.fragments = FragmentSizes::Fixed(10_000);
            });
            let report = client.upload(&farm.url(TARGET), &content);
            report.expect_smooth();
            let owner = farm.expect_stored(TARGET, &content);
            farm.expect_healthy();
            let seen = farm.stub_named(&owner).requests();
            let close = seen.last().and_then(|seen| seen.field("BITS-Session-Id"));
            let close = close.expect("a Close-Session names its session");
            // The public id and the backend's are the same in one mode and never in the other.
            assert_eq!(close == report.sessions[0], id == "backend", "{flavour}, {id}");
        }
    }
}

/// Item 46.
#[test]
fn a_minted_id_is_translated_both_ways() {
    let servers = Servers::of(vec![always("s-1"), always("s-2")], |farm| {
        farm.without_host_ids().set("sessions.id", "\"minted\"")
    });
    let (first, _) = servers.open(TARGET);
    let (second, _) = servers.open(TARGET);
    assert_ne!(first, second, "each session has an id of its own");
    for (id, theirs) in [(&first, "s-1"), (&second, "s-2")] {
        expect_minted(id);
        for packet in packets(id) {
            let (_, request, answer) = servers.passes(&packet);
            assert_eq!(request.field("BITS-Session-Id"), Some(theirs));
            assert_eq!(answer.field("BITS-Session-Id"), Some(&**id));
        }
    }
    // The backend's own id is no key for anybody.
    let answer = servers.stays(&cancel(TARGET, "s-1"));
    crate::packets::expect_not_found(PacketType::CancelSession, &answer);
}

/// Item 46.
#[test]
fn an_id_that_the_protocol_forbids_is_replaced() {
    for id in ["two words", &"x".repeat(101)] {
        expect_replaced(id);
    }
}

/// Item 46.
#[test]
fn an_id_with_bytes_beyond_ascii_is_replaced() {
    expect_replaced("caf\u{e9}");
}

#[track_caller]
fn expect_replaced(id: &str) {
    let servers = Servers::of(vec![always(id)], |farm| farm.without_host_ids());
    let (shown, _) = servers.open(TARGET);
    expect_minted(&shown);
    let (_, request, answer) = servers.passes(&packets(&shown)[0]);
    assert_eq!(request.field("BITS-Session-Id"), Some(id));
    assert_eq!(answer.field("BITS-Session-Id"), Some(&*shown));
}

/// Item 47.
#[test]
fn two_backends_with_one_id_do_not_mix_sessions() {
    let guid = "{3F9C1E52-7B0D-4E7A-9C44-0D5B6A1E8F21}";
    let lower = guid.to_lowercase();
    for (first, second) in [("7", "7"), (guid, guid), (guid, &*lower)] {
        let backends = vec![always(first), always(second)];
        let servers = Servers::of(backends, |farm| farm.without_host_ids());
        let (one, owner) = servers.open(TARGET);
        assert_eq!((&*one, owner), (first, 0));
        let (two, owner) = servers.open(TARGET);
        assert_eq!(owner, 1);
        expect_minted(&two);
        for (id, owner, theirs) in [(&one, 0, first), (&two, 1, second), (&one, 0, first)] {
            let (backend, request, answer) = servers.passes(&packets(id)[0]);
            assert_eq!(backend, owner);
            assert_eq!(request.field("BITS-Session-Id"), Some(theirs));
            assert_eq!(answer.field("BITS-Session-Id"), Some(&**id));
        }
        // The end of one is not the end of the other.
        assert_eq!(servers.passes(&close(TARGET, &one)).0, 0);
        assert_eq!(servers.passes(&close(TARGET, &two)).0, 1);
    }
}

/// Item 47.
#[test]
fn an_id_is_free_again_once_the_end_of_its_session_is_forgotten() {
    let servers = Servers::of(vec![always("7")], |farm| {
        farm.without_host_ids().set("sessions.tombstone", "\"0s\"")
    });
    for _ in 0..3 {
        let (id, _) = servers.open(TARGET);
        assert_eq!(id, "7");
        servers.passes(&close(TARGET, &id));
    }
    let answer = servers.ask(&create(TARGET));
    assert_eq!(Ack::read(&answer).session, Some(session_of(&answer)));
}

/// `{` GUID of version 4 in upper case `}`.
#[track_caller]
fn expect_minted(id: &str) {
    let shape: String = id
        .chars()
        .map(|c| if c.is_ascii_digit() || ('A'..='F').contains(&c) { 'X' } else { c })
        .collect();
    assert_eq!(shape, "{XXXXXXXX-XXXX-XXXX-XXXX-XXXXXXXXXXXX}", "{id}");
    assert_eq!(&id[15..16], "4", "{id}");
}
