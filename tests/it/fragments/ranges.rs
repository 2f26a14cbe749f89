//! What a range may say, and whose answers about it these are: items 71 to 75.

use e2e_tests::client::ack::INVALID_ARGUMENT;
use e2e_tests::client::{AckRules, Answer, Connection, Event, FragmentSizes, PacketType, exchange};
use e2e_tests::data::Content;
use e2e_tests::farm::{Farm, StubFault};
use e2e_tests::ports::Port;
use e2e_tests::raw_backend::{RawBackend, Reply, agree};
use serde_json::json;

use crate::packets::{
    Servers, TARGET, close, create, expect_not_found, expect_not_now, fragment, session_of,
};

/// Item 71.
#[test]
fn a_fragment_with_a_bad_range_is_answered_invalid_argument() {
    let servers = Servers::start(1);
    let (id, _) = servers.open(TARGET);
    let body = b"0123456789";
    for range in [
        // Syntax.
        "bytes",
        "bytes 0-9",
        "bytes=0-9/20",
        "bytes 0/20",
        "bytes */20",
        "bytes 0-*/20",
        "bytes 0-9/*",
        "bytes -10/20",
        "bytes 0-9/20/20",
        "bytes 0-9/20, 10-19/20",
        "bytes 0x0-0x9/0x14",
        "bytes +0-9/20",
        "bytes 0 - 9/20",
        "octets 0-9/20",
        "0-9/20",
        "bytes 0-18446744073709551616/18446744073709551617",
        // L < F.
        "bytes 9-0/20",
        // L >= T.
        "bytes 0-9/9",
        "bytes 10-19/19",
        // The length of the body is another.
        "bytes 0-8/20",
        "bytes 0-10/20",
        "bytes 0-0/20",
    ] {
        expect_invalid(&servers.stays(&fragment(TARGET, &id, range, body)), range);
    }
    let none = fragment(TARGET, &id, "bytes 0-9/20", body).bytes();
    let none = String::from_utf8_lossy(&none).replace("Content-Range", "X-Content-Range");
    let before = servers.counts();
    expect_invalid(&servers.ask_bytes(none.as_bytes()), "no range");
    assert_eq!(servers.counts(), before);
    // The session has not suffered, and in what is legal case and zeros do not matter.
    for range in ["bytes 0-9/20", "Bytes 0-9/20", "BYTES 00-09/020"] {
        let (_, request, _) = servers.passes(&fragment(TARGET, &id, range, body));
        assert_eq!(request.field("Content-Range"), Some(range), "sent on as it came");
    }
}

#[track_caller]
fn expect_invalid(answer: &Answer, range: &str) {
    let ack = AckRules::own_answer().expect(PacketType::Fragment, answer);
    let said = (answer.status, ack.hresult, ack.context);
    assert_eq!(said, (400, Some(INVALID_ARGUMENT), Some(5)), "{range:?}: {}", answer.head);
}

/// A server that says `head` to every Fragment.
fn saying(head: &'static str) -> Servers {
    let agree = agree();
    let backend = RawBackend::answering(move |request| match &*request.packet_type() {
        "fragment" => Reply::raw(head),
        _ => agree(request),
    });
    Servers::of(vec![backend], |farm| farm)
}

/// Item 72.
#[test]
fn a_416_of_a_backend_passes_unchanged() {
    for next in ["0", "5120", "4294967296", "18446744073709551615"] {
        let head = format!(
            "HTTP/1.1 416 Requested Range Not Satisfiable\r\nPragma: no-cache\r\n\
             BITS-Packet-Type: Ack\r\nBITS-Received-Content-Range: {next}\r\nContent-Length: 0\r\n\r\n"
        );
        let servers = saying(head.leak());
        let (id, _) = servers.open(TARGET);
        let answer = servers.ask(&fragment(TARGET, &id, "bytes 3-5/18446744073709551615", b"def"));
        let said = (answer.status, &*answer.reason, answer.field("BITS-Received-Content-Range"));
        assert_eq!(said, (416, "Requested Range Not Satisfiable", Some(next)));
        let error = answer.fields.iter().any(|(name, _)| name.starts_with("BITS-Error"));
        assert!(!error, "{}", answer.head);
        AckRules::farm().expect(PacketType::Fragment, &answer);
    }
}

/// Item 72.
#[test]
fn a_client_out_of_step_finds_back_by_416() {
    let farm = Farm::of_stubs(2).each_stub(&["--strict-ranges"]).start();
    let content = Content::seeded(1, 50_000);
    let client = farm.client().with(|o| o.fragments = FragmentSizes::Fixed(10_000));
    for stub in farm.stubs() {
        stub.fault(StubFault::on(PacketType::Fragment, "apply_then_close").skip(2));
    }
    let report = client.upload(&farm.url(TARGET), &content);
    report.expect_complete();
    assert_eq!((report.resyncs, report.restarts), (1, 0), "{report}");
    farm.expect_stored(TARGET, &content);
}

/// Item 73.
#[test]
fn the_gateway_never_makes_up_a_416_or_an_offset() {
    let offers_none = |answer: &Answer| {
        assert_ne!(answer.status, 416, "{}", answer.head);
        assert_eq!(answer.field("BITS-Received-Content-Range"), None, "{}", answer.head);
    };
    // A session that nobody knows, one on another path, ranges that are none.
    let servers = Servers::with(1, |farm| farm.without_host_ids());
    let (id, _) = servers.open(TARGET);
    for (target, id, range) in [
        (TARGET, "stranger", "bytes 0-2/9"),
        ("/in/b.bin", &*id, "bytes 0-2/9"),
        (TARGET, &id, "bytes 0-8/9"),
        (TARGET, &id, "bytes 5-2/9"),
        (TARGET, &id, "bytes 9-11/9"),
    ] {
        offers_none(&servers.stays(&fragment(target, id, range, b"abc")));
    }
    // A fragment that was accepted before, whatever comes after: the gateway knows the offset and keeps it to itself.
    servers.passes(&fragment(TARGET, &id, "bytes 0-2/9", b"abc"));
    offers_none(&servers.stays(&fragment(TARGET, &id, "bytes 0-9/9", b"abc")));

    // Backends that say no offset, or end in the middle.
    for said in [
        "HTTP/1.1 200 OK\r\nBITS-Packet-Type: Ack\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 500 X\r\nBITS-Packet-Type: Ack\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 413 X\r\nBITS-Packet-Type: Ack\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 404 X\r\nContent-Length: 0\r\n\r\n",
    ] {
        let servers = saying(said);
        let (id, _) = servers.open(TARGET);
        let answer = servers.ask(&fragment(TARGET, &id, "bytes 0-2/3", b"abc"));
        assert!(said.contains(&format!(" {} ", answer.status)), "{}", answer.head);
        offers_none(&answer);
    }
    let agree = agree();
    let dying = RawBackend::answering(move |request| match &*request.packet_type() {
        "fragment" => Reply::SendAndReset(b"HTTP/1.1 416 X\r\nBITS-Received".to_vec()),
        _ => agree(request),
    });
    let servers = Servers::of(vec![dying], |farm| farm);
    let (id, _) = servers.open(TARGET);
    let answer = servers.ask(&fragment(TARGET, &id, "bytes 0-2/3", b"abc"));
    expect_not_now(&[502, 503], PacketType::Fragment, &answer);
    offers_none(&answer);

    // Nobody there.
    let nobody = Port::reserve();
    let farm = Farm::of_stubs(0).backend("up01", nobody.address()).start();
    let packet = fragment(TARGET, "stranger", "bytes 0-2/9", b"abc").at("up01.up.test");
    let answer = exchange(farm.entrance(), &packet.bytes()).expect("an answer");
    expect_not_now(&[503], PacketType::Fragment, &answer);
    offers_none(&answer);
}

/// Item 74.
#[test]
fn a_413_of_a_backend_passes_unchanged() {
    let servers = saying(
        "HTTP/1.1 413 Too Much\r\nBITS-Packet-Type: Ack\r\nX-Most: 5120\r\nContent-Length: 0\r\n\r\n",
    );
    let (id, _) = servers.open(TARGET);
    let answer = servers.ask(&fragment(TARGET, &id, "bytes 0-2/9", b"abc"));
    assert_eq!((answer.status, answer.field("X-Most")), (413, Some("5120")));
    // The session goes on with a smaller one.
    let packet = fragment(TARGET, &id, "bytes 0-0/9", b"a");
    assert_eq!(servers.ask(&packet).status, 413);
    assert_eq!(servers.counts(), [3]);
}

/// Item 74.
#[test]
fn a_client_shrinks_its_fragments_after_a_413_and_arrives() {
    let limits: [(&[&str], &str); 2] =
        [(&["--max-fragment-size", "6000"], "\"off\""), (&[], "\"6000B\"")];
    for (stub, gateway) in limits {
        let farm = Farm::of_stubs(2).each_stub(stub).set("limits.fragment", gateway).start();
        let content = Content::seeded(1, 3_000_000);
        let client = farm.client().with(|o| o.fragments = FragmentSizes::Whole);
        let report = client.upload(&farm.url(TARGET), &content);
        report.expect_complete();
        assert_eq!((report.retries, report.restarts), (0, 0), "{report}");
        let shrunk = report.events.iter().any(|event| matches!(event, Event::Shrunk { .. }));
        assert!(shrunk, "{report}");
        farm.expect_stored(TARGET, &content);
    }
}

/// Item 74.
#[test]
fn a_413_given_before_the_body_was_read_reaches_the_client_behind_its_body() {
    let farm = Farm::of_stubs(1).start();
    let headers = json!([["BITS-Packet-Type", "Ack"], ["Content-Length", "0"], ["X-Most", "5120"]]);
    let body = vec![7; 13 << 20];
    let range = format!("bytes 0-{}/{}", body.len() - 1, body.len());
    for closes in [false, true] {
        let mut headers = headers.clone();
        if closes {
            headers.as_array_mut().expect("a list").push(json!(["Connection", "close"]));
        }
        let fault = StubFault::on(PacketType::Fragment, "early_answer")
            .with("status", 413)
            .with("headers", headers)
            .with("body", "");
        farm.stub(0).fault(fault);
        let mut client = Connection::open(farm.entrance()).expect("a connection");
        let id = session_of(&client.exchange(&create(TARGET).bytes()).expect("an answer"));
        // Nothing breaks while the client sends, or it would never read the status.
        client.send(&fragment(TARGET, &id, &range, &body).bytes()).expect("the body is taken");
        let answer = client.read_answer().expect("an answer");
        assert_eq!((answer.status, answer.field("X-Most")), (413, Some("5120")), "{closes}");
        // The same session goes on with less.
        let packet = fragment(TARGET, &id, "bytes 0-9/100", &body[..10]);
        let next = exchange(farm.entrance(), &packet.bytes()).expect("an answer");
        assert_eq!(next.status, 200, "{}", next.head);
    }
}

/// Item 75.
#[test]
fn repeated_overlapping_and_disordered_fragments_reach_the_backend_unchanged() {
    let servers = Servers::start(2);
    let (id, owner) = servers.open(TARGET);
    let file = b"0123456789abcdefghij";
    for (first, last) in [
        (0, 4),
        // Again.
        (0, 4),
        // Over the end of what is there.
        (3, 9),
        // Within.
        (1, 2),
        // A hole, then what is missing, then the end before all of it.
        (15, 19),
        (10, 14),
        (19, 19),
        // The whole, after its end was seen.
        (0, 19),
    ] {
        let (range, body) = (format!("bytes {first}-{last}/20"), &file[first..=last]);
        let (backend, request, answer) = servers.passes(&fragment(TARGET, &id, &range, body));
        assert_eq!(backend, owner);
        assert_eq!((request.field("Content-Range"), &*request.body), (Some(&*range), body));
        let next = (last + 1).to_string();
        assert_eq!(answer.field("BITS-Received-Content-Range"), Some(&*next));
    }
    servers.passes(&close(TARGET, &id));
}

/// Item 71.
///
/// Threat: T10.
#[test]
fn the_total_of_a_session_is_constant() {
    let servers = Servers::start(2);
    let (id, _) = servers.open(TARGET);
    let body = b"0123456789";
    // Not known before a backend has acknowledged it.
    servers.passes(&fragment(TARGET, &id, "bytes 0-9/40", body));
    for range in
        ["bytes 10-19/41", "bytes 10-19/39", "bytes 10-19/20", "bytes 10-19/18446744073709551615"]
    {
        expect_invalid(&servers.stays(&fragment(TARGET, &id, range, body)), range);
    }
    expect_invalid(&servers.stays(&fragment(TARGET, &id, "bytes 0-0/0", b"")), "an empty file");
    servers.passes(&fragment(TARGET, &id, "bytes 10-19/40", body));
    // A session that begins anew may have another.
    servers.passes(&close(TARGET, &id));
    let (id, _) = servers.open(TARGET);
    servers.passes(&fragment(TARGET, &id, "bytes 0-9/41", body));
    // Nobody learns of it who does not know the destination.
    let elsewhere = servers.ask(&fragment("/in/other.bin", &id, "bytes 0-9/42", body));
    expect_not_found(PacketType::Fragment, &elsewhere);
}

#[test]
fn the_total_is_told_again_after_a_restart() {
    let servers = Servers::start(1);
    let (id, _) = servers.open(TARGET);
    servers.passes(&fragment(TARGET, &id, "bytes 0-2/9", b"abc"));
    servers.farm.gateway().restart();
    servers.passes(&fragment(TARGET, &id, "bytes 3-5/9", b"def"));
    let other = servers.stays(&fragment(TARGET, &id, "bytes 6-8/10", b"ghi"));
    expect_invalid(&other, "another total");
}
