//! Packets in chunks that go on with a length, for servers that take no chunks: `limits.chunked = "length"`.

use e2e_tests::client::{AckRules, Connection, Head, PacketType};
use e2e_tests::data::Content;
use e2e_tests::farm::{Farm, FarmBuilder};
use e2e_tests::raw_backend::RawBackend;

use crate::bench::{Bench, TARGET, cancel, close, create, fragment_head, packet, ping};

fn with_length(farm: FarmBuilder) -> FarmBuilder {
    farm.set("limits.chunked", "\"length\"")
}

/// A Fragment that says that it has 10 bytes, with these bytes as its body.
fn ten(id: &str, body: &str) -> Vec<u8> {
    let head = fragment_head(id, 10).field("Transfer-Encoding", "chunked");
    head.with_body(body.as_bytes())
}

/// In pieces of uneven sizes, with extensions and a trailer.
fn chunked(head: &Head, body: &[u8]) -> Vec<u8> {
    let mut bytes = head.clone().field("Transfer-Encoding", "chunked").to_bytes();
    let mut rest = body;
    for size in (1..).map(|n| n * 777) {
        let (piece, left) = rest.split_at(size.min(rest.len()));
        if piece.is_empty() {
            bytes.extend(b"0;last\r\nX-Sum: 7\r\n\r\n");
            break;
        }
        bytes.extend(format!("{:x};piece=\"{size}\"\r\n", piece.len()).bytes());
        bytes.extend(piece);
        bytes.extend(b"\r\n");
        rest = left;
    }
    bytes
}

#[test]
fn a_file_in_chunks_is_stored_by_a_server_that_takes_none() {
    // The server is one that takes no chunks.
    let plain = Farm::of_stubs(1).set("limits.chunked", "\"forward\"").start();
    let to_plain = |bytes: &[u8]| {
        e2e_tests::client::exchange(plain.entrance(), bytes).expect("the gateway answers")
    };
    let opened = to_plain(&create().to_bytes());
    let id = opened.field("BITS-Session-Id").expect("an id").to_owned();
    assert_ne!(to_plain(&ten(&id, "a\r\n0123456789\r\n0\r\n\r\n")).status, 200);
    for length in [1, 300_001] {
        let farm = with_length(Farm::of_stubs(1)).start();
        let send = |bytes: &[u8]| {
            e2e_tests::client::exchange(farm.entrance(), bytes).expect("the gateway answers")
        };
        let content = Content::seeded(length, length);
        let bytes = content.to_vec();
        let opened = send(&create().to_bytes());
        let id = opened.field("BITS-Session-Id").expect("an id").to_owned();
        let answer = send(&chunked(&fragment_head(&id, bytes.len()), &bytes));
        assert_eq!(answer.status, 200, "of {length}: {}", answer.head);
        assert_eq!(send(&close(&id).to_bytes()).status, 200);
        farm.expect_stored(TARGET, &content);
    }
}

#[test]
fn what_a_server_gets_has_the_length_of_its_range_and_no_trailers() {
    let bench = Bench::with(RawBackend::agreeable(), with_length);
    let id = bench.session();
    let content: Vec<u8> = (0..70_000_u32).flat_map(u32::to_le_bytes).collect();
    let (request, answer) = bench.passes(&chunked(&fragment_head(&id, content.len()), &content));
    assert_eq!(request.field("Content-Length"), Some("280000"), "{}", request.head);
    assert_eq!(request.field("Transfer-Encoding"), None, "{}", request.head);
    assert!(request.body == content, "the body arrived as it was sent");
    assert_eq!(answer.field("BITS-Received-Content-Range"), Some("280000"));
    assert!(answer.closes(), "nothing may follow a body in chunks");
}

/// Chunks that are not as long as their range says, as they come together.
const WRONG: [(&str, &str); 5] = [
    ("short", "9\r\n012345678\r\n0\r\n\r\n"),
    ("empty", "0\r\n\r\n"),
    ("long", "b\r\n0123456789a\r\n0\r\n\r\n"),
    ("long in two", "a\r\n0123456789\r\n1\r\na\r\n0\r\n\r\n"),
    ("malformed end", "a\r\n0123456789\r\nx\r\n"),
];

#[test]
fn a_body_of_another_length_is_refused_and_its_server_sees_the_connection_break() {
    let bench = Bench::with(RawBackend::agreeable(), with_length);
    for (name, body) in WRONG {
        let id = bench.session();
        let answer = bench.exchange(&ten(&id, body));
        assert_eq!(answer.status, 400, "{name}: {}", answer.head);
        AckRules::own_answer().expect(PacketType::Fragment, &answer);
        // What went before that was noticed is less than the whole, and the session goes on.
        for recorded in bench.backend.connections() {
            let text = String::from_utf8_lossy(&recorded.bytes).into_owned();
            assert!(!text.contains("0123456789"), "{name}: {text}");
        }
        bench.passes(&ten(&id, "a\r\nabcdefghij\r\n0\r\n\r\n"));
    }
}

/// What came before its client went wrong, or went, has gone to the server, but for the last byte.
#[test]
fn the_last_byte_waits_for_the_end_of_the_chunks() {
    for (name, rest) in [
        ("long", Some("1\r\na\r\n0\r\n\r\n")),
        ("malformed", Some("x\r\n")),
        ("half a trailer", Some("0\r\nX-Sum")),
        ("gone", None),
    ] {
        let bench = Bench::with(RawBackend::agreeable(), with_length);
        let id = bench.session();
        let mut client = bench.connect();
        client.send(&ten(&id, "a\r\n0123456789\r\n")).expect("sent");
        let recorded = || bench.backend.connections().into_iter().next_back().expect("one");
        let text = || String::from_utf8_lossy(&recorded().bytes).into_owned();
        e2e_tests::wait::until("all but the last byte are there", || text().ends_with("012345678"));
        if let Some(rest) = rest {
            client.send(rest.as_bytes()).expect("sent");
        }
        if ["long", "malformed"].contains(&name) {
            let answer = client.read_answer().expect("an answer");
            assert_eq!(answer.status, 400, "{name}: {}", answer.head);
        }
        drop(client);
        let number = bench.backend.connections().len() - 1;
        let ended = bench.backend.ended(number);
        assert!(ended.reset, "{name}: the end was clean");
        assert!(text().ends_with("012345678"), "{name}: {}", text());
        bench.passes(&ten(&id, "a\r\nabcdefghij\r\n0\r\n\r\n"));
    }
}

#[test]
fn a_whole_body_goes_on_with_the_end_of_its_chunks() {
    let bench = Bench::with(RawBackend::agreeable(), with_length);
    let id = bench.session();
    let mut client: Connection = bench.connect();
    client.send(&ten(&id, "4\r\n0123\r\n6\r\n456789\r\n")).expect("sent");
    let text = || {
        let all = bench.backend.connections();
        String::from_utf8_lossy(&all.last().expect("one").bytes).into_owned()
    };
    e2e_tests::wait::until("all but the last byte are there", || text().ends_with("012345678"));
    client.send(b"0\r\nX-Sum: 7\r\n\r\n").expect("sent");
    let answer = client.read_answer().expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.head);
    assert!(text().ends_with("0123456789"), "{}", text());
}

#[test]
fn an_empty_body_in_chunks_counts_as_none() {
    let bench = Bench::with(RawBackend::agreeable(), with_length);
    let in_chunks = |head: Head, body: &str| {
        let text = String::from_utf8(head.to_bytes()).expect("ASCII");
        let head = text.replace("Content-Length: 0", "Transfer-Encoding: chunked");
        assert!(head.contains("chunked"));
        [head, body.to_owned()].concat().into_bytes()
    };
    let id = bench.session();
    for (kind, head) in [
        (PacketType::CreateSession, create()),
        (PacketType::Ping, ping()),
        (PacketType::CancelSession, cancel(&bench.session())),
        (PacketType::CloseSession, close(&id)),
    ] {
        for body in ["1\r\nx\r\n0\r\n\r\n", "1\r\nx\r\n", "x\r\n\r\n"] {
            bench.refuses(kind, &in_chunks(head.clone(), body));
        }
        for body in ["0\r\n\r\n", "000;a=b\r\nX-Sum: 7\r\n\r\n"] {
            if kind == PacketType::CancelSession || kind == PacketType::CloseSession {
                // The first ends the session.
                if body.starts_with("000") {
                    continue;
                }
            }
            let (request, answer) = bench.passes(&in_chunks(head.clone(), body));
            assert_eq!(request.field("Content-Length"), Some("0"), "{}", request.head);
            assert_eq!(request.field("Transfer-Encoding"), None, "{}", request.head);
            assert!(answer.closes(), "{}", answer.head);
        }
    }
    // Half of one: nothing reaches the server until its end has come.
    let heard = bench.heard();
    let mut client = bench.connect();
    client
        .send(&in_chunks(packet(PacketType::Ping).field("Content-Length", 0), "0\r\nX-S"))
        .expect("sent");
    let waits = || bench.farm.metric("bitsgw_requests_in_flight", &[]) == 1.0;
    e2e_tests::wait::until("its end is awaited", waits);
    assert_eq!(bench.heard(), heard);
    client.send(b"um: 7\r\n\r\n").expect("sent");
    assert_eq!(client.read_answer().expect("an answer").status, 200);
}
