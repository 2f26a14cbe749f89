//! Clients that speak HTTP/1.0: proxies of old, and the checks of balancers.

use e2e_tests::client::{Ack, Answer, Connection, exchange};
use e2e_tests::data::Content;
use e2e_tests::farm::{Farm, ORIGIN};
use e2e_tests::raw_backend::{RawBackend, Reply, agree};

use super::rig::{ALLOWED, Refusal, Rig, expect_end, read};
use crate::packets::{close, create, fragment, session_of};

/// The same bytes under the older version.
fn old(bytes: Vec<u8>) -> Vec<u8> {
    let at = bytes.windows(8).position(|window| window == b"HTTP/1.1").expect("a request line");
    [&bytes[..at], b"HTTP/1.0", &bytes[at + 8..]].concat()
}

#[test]
fn an_upload_ends_with_one_connection_for_each_packet() {
    let farm = Farm::of_stubs(2).without_host_ids().start();
    let content = Content::seeded(10, 10_000);
    let target = "/in/old.bin";
    let ask = |bytes: Vec<u8>| -> Answer {
        let mut client = Connection::open(farm.entrance()).expect("a connection");
        let answer = client.exchange(&old(bytes)).expect("an answer");
        assert_eq!((answer.status, answer.closes()), (200, true), "{}", answer.head);
        expect_end(&mut client, "an answer to HTTP/1.0");
        answer
    };
    let id = session_of(&ask(create(target).with("Connection", "keep-alive").bytes()));
    for first in [0, 5_000] {
        let mut body = vec![0; 5_000];
        content.read_at(first, &mut body);
        let range = format!("bytes {first}-{}/10000", first + 4_999);
        // It cannot mean this, and must not get a 100.
        let packet = fragment(target, &id, &range, &body).with("Expect", "100-continue");
        let answer = ask(packet.bytes());
        assert_eq!(Ack::read(&answer).received, Some(first + 5_000), "{}", answer.head);
        assert!(answer.interim.is_empty(), "{}", answer.head);
    }
    ask(close(target, &id).bytes());
    farm.expect_stored(target, &content);
    farm.expect_healthy();
}

#[test]
fn a_host_and_a_length_are_what_such_a_packet_needs() {
    let rig = Rig::start();
    let packet = |lines: &str| format!("BITS_POST {ALLOWED} HTTP/1.0\r\n{lines}\r\n\r\n");
    rig.passes(&packet(&format!("Host: {ORIGIN}\r\nBITS-Packet-Type: Ping")));
    rig.passes(&packet(&format!("Host: {ORIGIN}\r\nBITS-Packet-Type: Ping\r\nContent-Length: 0")));
    let bare = "BITS_POST /forbidden HTTP/1.0\r\nBITS-Packet-Type: Ping\r\n\r\n";
    rig.refuses(Refusal::Ack(400), bare);
    let chunked = format!(
        "BITS_POST /forbidden HTTP/1.0\r\nHost: {ORIGIN}\r\nBITS-Packet-Type: Ping\r\n\
        Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    );
    rig.refuses(Refusal::Ack(400), &chunked);
    // No request follows one of HTTP/1.0.
    let mut client = rig.connect();
    let ping =
        packet(&format!("Host: {ORIGIN}\r\nConnection: keep-alive\r\nBITS-Packet-Type: Ping"));
    client.send(format!("{ping}{}", bare.replace("1.0", "1.1")).as_bytes()).expect("sent");
    assert!(read(&mut client, &ping).closes());
    expect_end(&mut client, &ping);
}

#[test]
fn an_answer_without_a_length_ends_with_the_connection_and_has_no_chunks() {
    let backend = RawBackend::answering(|request| match request.method() {
        "GET" => Reply::Send(
            b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
            5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"
                .to_vec(),
        ),
        _ => agree()(request),
    });
    let rig = Rig::of(backend, |farm| farm);
    let request = format!("GET {ALLOWED} HTTP/1.0\r\nHost: {ORIGIN}\r\n\r\n");
    let mut client = rig.connect();
    client.send(request.as_bytes()).expect("sent");
    let bytes = client.read_to_end().expect("the connection ends");
    let text = String::from_utf8(bytes).expect("text");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert_eq!(body, "hello world");
    assert!(!head.to_ascii_lowercase().contains("transfer-encoding"), "{head}");
}

/// HAProxy asks `OPTIONS / HTTP/1.0` without a Host by default.
#[test]
fn a_check_of_a_balancer_is_answered() {
    let rig = Rig::start();
    for method in ["GET", "HEAD", "OPTIONS"] {
        let mut client = rig.connect();
        client.send(format!("{method} {ALLOWED} HTTP/1.0\r\n\r\n").as_bytes()).expect("sent");
        let answer = client.read_answer_to_head().expect("an answer");
        assert_eq!((answer.status, answer.closes()), (200, true), "{}", answer.head);
    }
    for version in ["1.0", "1.1"] {
        let request = format!("OPTIONS * HTTP/{version}\r\nHost: {ORIGIN}\r\n\r\n");
        let heard = rig.heard();
        let answer = exchange(rig.farm.entrance(), request.as_bytes()).expect("an answer");
        assert_eq!((answer.status, answer.field("Content-Length")), (200, Some("0")));
        assert_eq!(rig.heard(), heard, "the gateway answers for itself");
    }
    rig.refuses(Refusal::Plain(400), "GET /forbidden HTTP/1.1\r\n\r\n");
    rig.refuses(Refusal::Plain(400), "POST /forbidden HTTP/1.0\r\nContent-Length: 0\r\n\r\n");
    // Where names are configured, a request has to have one of them.
    let named = Rig::with(|farm| farm.set("http.hosts", &format!("[\"{ORIGIN}\"]")));
    let answer = exchange(named.farm.entrance(), b"GET /forbidden HTTP/1.0\r\n\r\n").unwrap();
    assert_eq!(answer.status, 400, "{}", answer.head);
    assert_eq!(named.heard(), 0);
    named.upload_works("a check without a name");
}

#[test]
fn a_target_that_names_another_host_counts_where_both_are_ours() {
    let rig = Rig::with(|farm| {
        farm.set("http.hosts", &format!("[\"{ORIGIN}\", \"other.test\"]"))
            .set("http.upstream_host", "\"preserve\"")
    });
    let ping = |target: &str, host: &str| {
        format!("BITS_POST {target} HTTP/1.1\r\nHost: {host}\r\nBITS-Packet-Type: Ping\r\n\r\n")
    };
    rig.passes(&ping(&format!("http://OTHER.test{ALLOWED}"), ORIGIN));
    let requests = rig.backend.requests();
    let request = requests.last().expect("it passed");
    assert_eq!((request.target(), request.field("Host")), (ALLOWED, Some("OTHER.test")));
    rig.refuses(Refusal::Ack(400), &ping("http://evil.test/forbidden", ORIGIN));
    rig.refuses(Refusal::Ack(400), &ping(&format!("http://{ORIGIN}/forbidden"), "evil.test"));
    // One host in two spellings.
    for (authority, host) in [(":80", ""), ("", ":80"), (":", ""), ("", ":")] {
        rig.passes(&ping(
            &format!("http://{ORIGIN}{authority}{ALLOWED}"),
            &format!("{ORIGIN}{host}"),
        ));
    }
}

#[test]
fn a_path_beyond_ascii_is_escaped_where_that_is_configured() {
    let raw = |target: &str| {
        format!(
            "BITS_POST {target}\u{c3}\u{a9}.bin HTTP/1.1\r\nHost: {ORIGIN}\r\nBITS-Packet-Type: Ping\r\n\r\n"
        )
    };
    Rig::start().refuses(Refusal::Ack(400), &raw("/forbidden"));
    let rig = Rig::with(|farm| farm.set("http.raw_path", "\"escape\""));
    rig.passes(&raw(ALLOWED));
    let requests = rig.backend.requests();
    assert_eq!(requests.last().expect("it passed").target(), format!("{ALLOWED}%C3%A9.bin"));
    let latin1 = raw("/forbidden").replace("\u{c3}\u{a9}", "\u{e9}");
    rig.refuses(Refusal::Ack(400), &latin1);
}
