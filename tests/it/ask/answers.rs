//! Servers that answer a question strangely, and what the question looks like to them.

use std::sync::atomic::{AtomicBool, Ordering};

use e2e_tests::client::packet::PROTOCOL;
use e2e_tests::raw_backend::{RawBackend, Reply, Request};

use crate::packets::{
    Servers, TARGET, cancel, close, create, created, expect_not_found, expect_not_now, fragment,
    of_session, session_of,
};

pub const ID: &str = "{3F9C1E52-7B0D-4E7A-9C44-0D5B6A1E8F21}";

pub fn not_found() -> Reply {
    Reply::ack("500 Internal Server Error", &[("BITS-Error", "0x8020001F")])
}

pub fn wants(next: &str) -> Reply {
    Reply::ack("416 Range", &[("BITS-Received-Content-Range", next)])
}

pub fn is_question(request: &Request) -> bool {
    request.field("User-Agent").is_some_and(|agent| agent.starts_with("bits-gateway/"))
}

/// A server that answers questions so, and says yes to everything else.
fn server(question: impl Fn() -> Reply + Send + Sync + 'static) -> RawBackend {
    let agree = e2e_tests::raw_backend::agree();
    RawBackend::answering(move |request| {
        if is_question(request) && request.packet_type() == "fragment" {
            question()
        } else {
            agree(request)
        }
    })
}

pub fn asked(backends: Vec<RawBackend>) -> Servers {
    asked_with(backends, "\"1h\"")
}

fn asked_with(backends: Vec<RawBackend>, patience: &str) -> Servers {
    Servers::of(backends, |farm| {
        farm.without_host_ids()
            .set("sessions.unknown", "\"ask\"")
            .set("failover.hold", "\"0s\"")
            .set("sessions.ask_patience", patience)
            .set("timeouts.ask", "\"500ms\"")
    })
}

#[test]
fn a_question_is_a_fragment_that_no_server_can_take() {
    let servers = asked(vec![server(not_found)]);
    let sized = fragment(TARGET, ID, "bytes 3-5/9", b"abc")
        .with("Authorization", "Basic eDp5")
        .with("Content-Name", "a.bin")
        .with("BITS-Original-Request-URL", "http://elsewhere/");
    expect_not_found(sized.kind, &servers.ask(&sized));
    let question = servers.last_request(0);
    assert_eq!(question.request_line(), format!("BITS_POST {TARGET} HTTP/1.1"));
    assert_eq!(question.packet_type(), "fragment");
    for (name, value) in [
        ("BITS-Session-Id", ID),
        ("Content-Range", "bytes 10-10/11"),
        ("Content-Length", "1"),
        ("Host", "up.test"),
        ("Authorization", "Basic eDp5"),
        ("X-Forwarded-For", "127.0.0.1"),
    ] {
        assert_eq!(question.field(name), Some(value), "{}", question.head);
    }
    for name in ["BITS-Original-Request-URL", "Expect", "Transfer-Encoding"] {
        assert_eq!(question.field(name), None, "{}", question.head);
    }
    assert_eq!(question.body.len(), 1);
    for packet in [close(TARGET, "{1}"), cancel(TARGET, "{2}")] {
        expect_not_found(packet.kind, &servers.ask(&packet));
        let question = servers.last_request(0);
        let largest = "bytes 1844674407370954-1844674407370954/1844674407370955";
        assert_eq!(question.field("Content-Range"), Some(largest));
    }
    // A login that belongs to a connection stays there.
    let bound = close(TARGET, "{3}").with("Authorization", "NTLM TlRMTVNTUAAB");
    servers.ask(&bound);
    assert_eq!(servers.last_request(0).field("Authorization"), None);
}

#[test]
fn the_packet_goes_to_the_one_that_claims_its_session_and_stays_there() {
    let refuses = || Reply::ack("400 Bad Request", &[("BITS-Error", "0x80070057")]);
    for owner in [server(|| wants("7")), server(refuses)] {
        let servers = asked(vec![server(not_found), owner, server(not_found)]);
        for packet in of_session(TARGET, ID) {
            let answer = servers.ask(&packet);
            assert_eq!(answer.status, 200, "{}", answer.head);
        }
        let counts = servers.counts();
        // A question each; and three packets for the owner, of which the second ends the session.
        assert_eq!((counts[0], counts[1], counts[2]), (1, 3, 1), "the third is a repeated end");
    }
}

#[test]
fn a_limit_that_was_lowered_ends_no_upload_that_was_lost_and_found() {
    let (agree, lost) = (e2e_tests::raw_backend::agree(), AtomicBool::new(false));
    let owner = RawBackend::answering(move |request| match &*request.packet_type() {
        _ if is_question(request) => wants("3"),
        // No Ack tells the gateway the size of the file.
        "fragment" if !lost.swap(true, Ordering::SeqCst) => Reply::SendAndClose(Vec::new()),
        _ => agree(request),
    });
    let servers = Servers::of(vec![owner], |farm| {
        farm.without_host_ids()
            .set("sessions.unknown", "\"ask\"")
            .set("limits.upload", "\"100KiB\"")
    });
    let next = fragment(TARGET, ID, "bytes 3-5/200000", b"def");
    assert_eq!(servers.ask(&next).status, 502);
    assert_eq!(servers.ask(&next).status, 200);
}

#[test]
fn what_is_not_clear_is_never_told_as_not_found() {
    type Answer = fn() -> Reply;
    let strange: [Answer; 9] = [
        || Reply::ack("401 Unauthorized", &[("WWW-Authenticate", "NTLM")]),
        || Reply::raw("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"),
        || Reply::raw("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"),
        || Reply::raw("HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n"),
        || Reply::raw("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n"),
        || Reply::raw("this is no HTTP at all\r\n\r\n"),
        || Reply::SendAndClose(Vec::new()),
        || Reply::SendAndReset(Vec::new()),
        || Reply::Hang,
    ];
    for (number, strange) in strange.into_iter().enumerate() {
        // Whatever the other one says.
        let other: Answer = if number % 2 == 0 { not_found } else { || wants("7") };
        let servers = asked(vec![server(other), server(strange)]);
        for packet in of_session(TARGET, ID) {
            expect_not_now(&[503], packet.kind, &servers.ask(&packet));
        }
        let packets = servers.backends.iter().flat_map(RawBackend::requests);
        let passed: Vec<_> = packets.filter(|packet| !is_question(packet)).collect();
        assert!(passed.is_empty(), "{passed:?}");
    }
}

/// A server that stores what no client sent.
#[test]
fn a_session_whose_file_may_have_the_byte_of_a_question_is_never_completed() {
    let took = || Reply::ack("200 OK", &[("BITS-Received-Content-Range", "9")]);
    let next = fragment(TARGET, ID, "bytes 3-5/9", b"def");
    for first in of_session(TARGET, ID).into_iter().chain([next.clone()]) {
        let servers = asked(vec![server(not_found), server(took)]);
        expect_not_found(first.kind, &servers.ask(&first));
        for packet in of_session(TARGET, ID).into_iter().chain([next.clone()]) {
            expect_not_found(packet.kind, &servers.stays(&packet));
        }
        servers.farm.gateway().expect_logged("a server took the byte that was asked with");
    }
    // One that takes anything harms nobody who is served elsewhere.
    let servers = asked(vec![server(|| wants("3")), server(took)]);
    expect_not_now(&[503], next.kind, &servers.ask(&next));
}

#[test]
fn two_that_claim_one_session_get_nothing_of_it() {
    let servers = asked(vec![server(|| wants("7")), server(|| wants("7")), server(not_found)]);
    for packet in of_session(TARGET, ID) {
        expect_not_now(&[503], packet.kind, &servers.ask(&packet));
    }
    let requests = servers.backends.iter().flat_map(RawBackend::requests);
    assert!(requests.into_iter().all(|request| is_question(&request)));
}

#[test]
fn a_server_that_never_speaks_clearly_is_given_up() {
    let nonsense = || Reply::raw("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n");
    let servers = asked_with(vec![server(nonsense), server(|| wants("7"))], "\"0s\"");
    let packet = fragment(TARGET, ID, "bytes 0-2/9", b"abc");
    assert_eq!(servers.ask(&packet).status, 200);
    let servers = asked_with(vec![server(nonsense), server(not_found)], "\"0s\"");
    expect_not_found(packet.kind, &servers.ask(&packet));
}

/// A server that gives out one id to everybody, and then has a session without a byte. Before that
/// it answers questions so.
fn giving_out_one_id(question: impl Fn() -> Reply + Send + Sync + 'static) -> RawBackend {
    let (opened, agree) = (AtomicBool::new(false), e2e_tests::raw_backend::agree());
    RawBackend::answering(move |request| match &*request.packet_type() {
        "create-session" => {
            opened.store(true, Ordering::Relaxed);
            created(ID)
        }
        "fragment" if !is_question(request) => agree(request),
        "fragment" if opened.load(Ordering::Relaxed) => wants("0"),
        "fragment" => question(),
        _ => agree(request),
    })
}

fn minted(question: fn() -> Reply) -> Servers {
    let backends = (0..2).map(|_| giving_out_one_id(question)).collect();
    Servers::of(backends, |farm| {
        farm.without_host_ids()
            .set("sessions.unknown", "\"ask\"")
            .set("sessions.id", "\"minted\"")
            .set("failover.hold", "\"0s\"")
    })
}

/// Threat: T1.
#[test]
fn t1_a_server_is_not_asked_for_what_is_a_session_of_another_client_there() {
    let servers = minted(not_found);
    let (id, owner) = servers.open(TARGET);
    assert_ne!(id, ID);
    for packet in of_session(TARGET, ID) {
        expect_not_found(packet.kind, &servers.ask(&packet));
        assert_eq!(servers.last_request(owner).packet_type(), "create-session", "{packet:?}");
    }
    let (served_by, request, _) = servers.passes(&fragment(TARGET, &id, "bytes 0-2/9", b"abc"));
    assert_eq!((served_by, request.field("BITS-Session-Id")), (owner, Some(ID)));
}

#[test]
fn what_another_client_has_is_no_second_claim() {
    let servers = minted(|| wants("7"));
    let (id, owner) = servers.open(TARGET);
    let answer = servers.ask(&fragment(TARGET, ID, "bytes 7-8/9", b"hi"));
    assert_eq!(answer.status, 200, "{}", answer.head);
    assert_eq!(servers.last_request(1 - owner).field("Content-Range"), Some("bytes 7-8/9"));
    let (served_by, ..) = servers.passes(&fragment(TARGET, &id, "bytes 0-2/9", b"abc"));
    assert_eq!(served_by, owner);
}

/// Its server has forgotten the older one.
#[test]
fn the_older_session_of_an_id_costs_the_newer_one_nothing() {
    let servers = asked(vec![giving_out_one_id(not_found)]);
    let [older, newer] = [(); 2].map(|()| session_of(&servers.ask(&create(TARGET))));
    assert_eq!(older, ID);
    assert_ne!(newer, ID);
    let packet = fragment(TARGET, &older, "bytes 0-2/9", b"abc");
    expect_not_found(packet.kind, &servers.ask(&packet));
    servers.passes(&fragment(TARGET, &newer, "bytes 0-2/9", b"abc"));
    let cancels = |request: &Request| request.packet_type() == "cancel-session";
    assert!(!servers.backends[0].requests().iter().any(cancels));
}

#[test]
fn nobody_is_asked_for_a_ping_or_a_new_session() {
    let servers = asked(vec![server(not_found)]);
    let ping = crate::packets::ping(TARGET).with("BITS-Session-Id", ID);
    assert_eq!(servers.ask(&ping).status, 200);
    servers.open(TARGET);
    let create = create(TARGET);
    assert!(create.bytes().windows(PROTOCOL.len()).any(|part| part == PROTOCOL.as_bytes()));
    assert!(!servers.backends[0].requests().iter().any(is_question));
}
