//! Bodies and their framing: items 12 to 14 and 25 to 29.

use e2e_tests::client::{Answer, Connection, Head, PacketType, WireError};
use e2e_tests::data;
use e2e_tests::farm::{Farm, ORIGIN};
use e2e_tests::raw_backend::RawBackend;

use crate::bench::{
    Bench, TARGET, cancel, close, create, fragment, fragment_head, packet, ping, untyped,
};

/// Items 12, 13, 14.
#[test]
fn packets_that_have_no_body_are_refused_with_one() {
    let bench = Bench::start();
    let id = bench.session();
    let with_body = |kind: PacketType| {
        let mut head =
            packet(kind).field("BITS-Supported-Protocols", e2e_tests::client::packet::PROTOCOL);
        if matches!(kind, PacketType::CloseSession | PacketType::CancelSession) {
            head = head.field("BITS-Session-Id", &id);
        }
        head.field("Content-Length", 5).with_body(b"hello")
    };
    bench.refuses(PacketType::CreateSession, &with_body(PacketType::CreateSession));
    bench.refuses(PacketType::Ping, &with_body(PacketType::Ping));
    for kind in [PacketType::CloseSession, PacketType::CancelSession] {
        let answer = bench.refuses(kind, &with_body(kind));
        assert_eq!(answer.field("BITS-Session-Id"), Some(&*id));
    }
    // The body of a refused packet is not taken for the next request, and the session goes on.
    let mut client = bench.connect();
    let smuggled = ping().to_bytes();
    let head = packet(PacketType::Ping).field("Content-Length", smuggled.len());
    let answer = client.exchange(&head.with_body(&smuggled)).expect("an answer");
    assert_eq!(answer.status, 400);
    match answer.closes() {
        true => assert_eq!(client.read_to_end().expect("the end"), b""),
        false => {
            let next = client.exchange(&fragment(&id, b"abc")).expect("an answer");
            assert_eq!(next.field("BITS-Received-Content-Range"), Some("3"), "{}", next.head);
        }
    }
    bench.passes(&close(&id).to_bytes());
    let heard: Vec<_> = bench.backend.requests().iter().map(|r| r.packet_type()).collect();
    assert!(!heard.contains(&"ping".to_owned()), "{heard:?}");
}

/// Item 25.
#[test]
fn a_fragment_without_a_length_is_refused() {
    let bench = Bench::start();
    let id = bench.session();
    let head = fragment_head(&id, 3);
    let answer = bench.refuses_with(&[411, 400], PacketType::Fragment, &head.to_bytes());
    assert_eq!(answer.field("BITS-Session-Id"), Some(&*id));
    bench.passes(&head.field("Content-Length", 3).with_body(b"abc"));
}

/// Item 26.
#[test]
fn packets_without_a_body_need_no_content_length() {
    let bench = Bench::start();
    let id = bench.session();
    let bare = |kind: PacketType| packet(kind).field("BITS-Session-Id", &id).to_bytes();
    let create = untyped()
        .field("BITS-Packet-Type", "Create-Session")
        .field("BITS-Supported-Protocols", e2e_tests::client::packet::PROTOCOL)
        .to_bytes();
    for bytes in [
        create,
        packet(PacketType::Ping).to_bytes(),
        bare(PacketType::CloseSession),
        packet(PacketType::CancelSession).field("BITS-Session-Id", bench.session()).to_bytes(),
    ] {
        let (request, _) = bench.passes(&bytes);
        // IIS demands it.
        assert_eq!(request.field("Content-Length"), Some("0"), "{}", request.head);
    }
    let farm = Farm::of_stubs(1).start();
    let bytes = packet(PacketType::Ping).to_bytes();
    let ask = |address| e2e_tests::client::exchange(address, &bytes).expect("an answer").status;
    assert_eq!((ask(farm.entrance()), ask(farm.stub(0).address())), (200, 400));
}

/// Item 27.
#[test]
fn content_length_beside_transfer_encoding_is_refused_and_ends_the_connection() {
    let bench = Bench::start();
    let id = bench.session();
    let head = || fragment_head(&id, 3);
    let both = [
        head().field("Content-Length", 3).field("Transfer-Encoding", "chunked"),
        head().field("Transfer-Encoding", "chunked").field("Content-Length", 3),
        head().field("Transfer-Encoding", "identity").field("Content-Length", 3),
    ];
    for head in both {
        let heard = bench.heard();
        let mut client = bench.connect();
        // Whoever reads one of the two lengths finds a second request behind the body.
        let hidden = Head::bits("/hidden").field("Host", ORIGIN).field("BITS-Packet-Type", "Ping");
        let body = [&b"3\r\nabc\r\n0\r\n\r\n"[..], &hidden.field("Content-Length", 0).to_bytes()];
        let answer = client.exchange(&head.with_body(&body.concat())).expect("an answer");
        assert_eq!((answer.status, answer.closes()), (400, true), "{}", answer.head);
        assert_eq!(answer.field("BITS-Error"), Some("0x80070057"));
        assert_eq!(client.read_to_end().expect("the end"), b"");
        assert_eq!(bench.heard(), heard, "the backend heard of it");
    }
}

/// Item 27.
#[test]
fn requests_behind_a_chunked_one_are_checked_as_strictly_as_the_first() {
    // Each is refused as the first of a connection; what hides behind a chunked body is no better.
    let bench = Bench::start();
    for hostile in [
        "GET /hidden HTTP/1.1\nHost: up.test\n\n",
        "GET /hidden HTTP/1.0\r\nHost: up.test\r\n\r\n",
        "TRACE /hidden HTTP/1.1\r\nHost: up.test\r\n\r\n",
        "GET /hidden HTTP/1.1\r\nHost: up.test\r\nConnection: Authorization\r\nAuthorization: x\r\n\r\n",
        "POST /hidden HTTP/1.1\r\nHost: up.test\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "BITS_POST /hidden HTTP/1.1\r\nHost: up.test\r\nBITS-Packet-Type: Ping\r\nBITS_Session_Id: x\r\n\r\n",
    ] {
        let mut client = bench.connect();
        let plain = Head::new("POST", "/form").field("Host", ORIGIN);
        let answer = client.exchange(&chunked(&plain, b"a=b")).expect("an ordinary request passes");
        assert_eq!(answer.status, 200, "{}", answer.head);
        let heard = bench.heard();
        // The gateway may have ended the connection, or may do so now.
        if client.send(hostile.as_bytes()).is_ok()
            && let Ok(answer) = client.read_answer()
        {
            assert!(answer.status >= 400, "{hostile:?} was answered {}", answer.head);
        }
        assert_eq!(bench.heard(), heard, "the backend heard of {hostile:?}");
    }
}

/// Item 28.
#[test]
fn chunked_fragments_are_refused_or_forwarded_intact_as_configured() {
    let content: Vec<u8> = (0..70_000_u32).flat_map(u32::to_le_bytes).collect();
    let strict = Bench::start();
    let id = strict.session();
    let refused = chunked(&fragment_head(&id, content.len()), &content);
    strict.refuses_with(&[411], PacketType::Fragment, &refused);

    let lenient =
        Bench::with(RawBackend::agreeable(), |farm| farm.set("limits.chunked", "\"forward\""));
    let id = lenient.session();
    let forwarded = chunked(&fragment_head(&id, content.len()), &content);
    let (request, answer) = lenient.passes(&forwarded);
    assert_eq!(request.field("Content-Length"), None, "{}", request.head);
    assert_eq!(request.field("Transfer-Encoding"), Some("chunked"));
    assert!(dechunked(&request.body) == content, "the body arrived as it was sent");
    assert_eq!(answer.field("BITS-Received-Content-Range"), Some("280000"));

    // And a server that takes such fragments stores the right bytes.
    let farm = Farm::of_stubs(1)
        .each_stub(&["--flavour", "onedrive"])
        .set("limits.chunked", "\"forward\"")
        .start();
    let send = |bytes: &[u8]| {
        e2e_tests::client::exchange(farm.entrance(), bytes).expect("the gateway answers")
    };
    let opened = send(&create().to_bytes());
    let id = opened.field("BITS-Session-Id").expect("an id").to_owned();
    assert_eq!(send(&chunked(&fragment_head(&id, content.len()), &content)).status, 200);
    assert_eq!(send(&close(&id).to_bytes()).status, 200);
    let stored = farm.stored(TARGET);
    assert_eq!(stored[0].sha256, data::sha256(&content));
}

/// In pieces of uneven sizes, with an extension that nobody has to understand.
fn chunked(head: &Head, body: &[u8]) -> Vec<u8> {
    let mut bytes = head.clone().field("Transfer-Encoding", "chunked").to_bytes();
    let mut rest = body;
    for size in (1..).map(|n| n * 777) {
        let (piece, left) = rest.split_at(size.min(rest.len()));
        bytes.extend(format!("{:x}\r\n", piece.len()).bytes());
        bytes.extend(piece);
        bytes.extend(b"\r\n");
        if piece.is_empty() {
            break;
        }
        rest = left;
    }
    bytes
}

fn dechunked(mut body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let end = body.windows(2).position(|pair| pair == b"\r\n").expect("a chunk size line");
        let size = std::str::from_utf8(&body[..end]).expect("a size is ASCII");
        let size = usize::from_str_radix(size.split(';').next().unwrap_or_default(), 16);
        let size = size.expect("a size is hexadecimal");
        if size == 0 {
            return bytes;
        }
        bytes.extend(&body[end + 2..end + 2 + size]);
        body = &body[end + 2 + size + 2..];
    }
}

/// Item 29.
#[test]
fn expect_100_continue_is_met_without_waiting_for_the_backend() {
    // The backend reads head and body as one and never says 100 by itself.
    let bench = Bench::start();
    let id = bench.session();
    let expecting = |id: &str| {
        fragment_head(id, 3).field("Content-Length", 3).field("Expect", "100-continue").to_bytes()
    };
    let mut client = bench.connect();
    for _ in 0..2 {
        client.send(&expecting(&id)).expect("the head is sent");
        assert_eq!(client.read_interim().expect("an interim answer"), 100);
        let answer = client.exchange(b"abc").expect("a final answer");
        assert_eq!((answer.status, answer.closes()), (200, false), "{}", answer.head);
    }
    // Clients that do not wait, and packets without a body, get along as well.
    let eager = [expecting(&id), b"abc".to_vec()].concat();
    assert_eq!(client.exchange(&eager).expect("a final answer").status, 200);
    let ping = ping().field("Expect", "100-Continue").to_bytes();
    assert_eq!(client.exchange(&ping).expect("a final answer").status, 200);
    for request in bench.backend.requests() {
        assert_eq!(request.field("Expect"), None, "the gateway has met it already");
    }
    // Without a use for the body the final answer comes instead, and nothing waits for the body.
    let heard = bench.heard();
    let answer = final_answer_without_body(&bench, &expecting("{nobody}"));
    assert_eq!((answer.status, answer.field("BITS-Error")), (500, Some("0x8020001F")));
    assert_eq!(bench.heard(), heard);
    assert_eq!(bench.passes(&cancel(&id).to_bytes()).1.status, 200);
}

#[track_caller]
fn final_answer_without_body(bench: &Bench, head: &[u8]) -> Answer {
    let mut client: Connection = bench.connect();
    let answer: Result<Answer, WireError> = client.exchange(head);
    let answer = answer.expect("a final answer");
    assert_eq!(answer.interim, [0_u16; 0], "100 would ask for a body that nobody wants");
    answer
}
