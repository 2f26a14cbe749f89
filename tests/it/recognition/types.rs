//! Methods, packet types and session ids of requests: items 1 to 11.

use e2e_tests::client::{FragmentSizes, Head, PacketType, Spelling};
use e2e_tests::data::Content;
use e2e_tests::farm::{Farm, ORIGIN};
use e2e_tests::raw_backend::{RawBackend, Reply};

use crate::bench::{
    Bench, TARGET, cancel, close, create, fragment, fragment_head, packet, ping, untyped,
};

const WITH_SESSION: [PacketType; 3] =
    [PacketType::Fragment, PacketType::CloseSession, PacketType::CancelSession];

/// Item 1.
#[test]
fn the_method_bits_post_is_forwarded_unchanged_with_every_packet() {
    let bench = Bench::start();
    let id = bench.session();
    for bytes in [
        create().to_bytes(),
        ping().to_bytes(),
        fragment(&id, b"abc"),
        close(&id).to_bytes(),
        cancel(&bench.session()).to_bytes(),
    ] {
        let (request, _) = bench.passes(&bytes);
        assert_eq!(request.request_line(), "BITS_POST /in/a.bin HTTP/1.1");
    }
    // Methods are case-sensitive, and not every server knows: this one is no packet here, and must not be one behind.
    let other = Head::new("Bits_Post", TARGET).field("Host", ORIGIN).field("Content-Length", 0);
    let before = bench.heard();
    assert_eq!(bench.exchange(&other.to_bytes()).status, 400);
    assert_eq!(bench.heard(), before);
}

/// Item 2.
#[test]
fn packets_are_answered_with_http_1_1_by_a_backend_of_http_1_0_too() {
    let answer = |request: &e2e_tests::raw_backend::Request| {
        let fields = match &*request.packet_type() {
            "create-session" => {
                "BITS-Protocol: {7df0354d-249b-430f-820d-3d2a9bef4931}\r\nBITS-Session-Id: {x}\r\n"
            }
            "fragment" => "BITS-Received-Content-Range: 3\r\n",
            _ => "",
        };
        let text = format!(
            "HTTP/1.0 200 OK\r\nBITS-Packet-Type: Ack\r\n{fields}Content-Length: 0\r\n\r\n"
        );
        match Reply::raw(&text) {
            // What most servers of that version do.
            Reply::Send(bytes) if request.target() == TARGET => Reply::SendAndClose(bytes),
            keep => keep,
        }
    };
    let bench = Bench::with(RawBackend::answering(answer), |farm| farm);
    let mut client = bench.connect();
    for bytes in [
        create().to_bytes(),
        ping().to_bytes(),
        fragment("{x}", b"abc"),
        close("{x}").to_bytes(),
        Head::bits("/kept")
            .field("Host", ORIGIN)
            .field("BITS-Packet-Type", "Ping")
            .field("Content-Length", 0)
            .to_bytes(),
    ] {
        let answer = client.exchange(&bytes).expect("the client's connection stays");
        assert_eq!((answer.status, answer.minor_version), (200, 1), "{}", answer.head);
        assert!(!answer.closes(), "{}", answer.head);
    }
    // Errors of such a backend, and its pages, too.
    let page = RawBackend::answering(|_| {
        Reply::SendAndClose(b"HTTP/1.0 404 Not Found\r\nContent-Type: text/html\r\n\r\nno".to_vec())
    });
    let bench = Bench::with(page, |farm| farm);
    let answer = bench.exchange(&create().to_bytes());
    assert_eq!((answer.status, answer.minor_version, &answer.body[..]), (404, 1, &b"no"[..]));
}

/// Item 3.
#[test]
fn packet_types_are_the_same_in_every_case() {
    let farm = Farm::of_stubs(2).start();
    let content = Content::seeded(3, 30_000);
    for spelling in [Spelling::Lower, Spelling::Upper, Spelling::Title, Spelling::Mixed] {
        let client = farm.client().with(|o| {
            o.fragments = FragmentSizes::Fixed(10_000);
            o.spelling = spelling;
        });
        let path = format!("/in/{spelling:?}.bin");
        client.upload(&farm.url(&path), &content).expect_smooth();
        farm.expect_stored(&path, &content);
    }
    let bench = Bench::start();
    for spelled in ["create-session", "CREATE-SESSION", "Create-Session", "CreatE-SEssION"] {
        let head = untyped()
            .field("BITS-Packet-Type", spelled)
            .field("BITS-Supported-Protocols", "{7df0354d-249b-430f-820d-3d2a9bef4931}")
            .field("Content-Length", 0);
        let (request, answer) = bench.passes(&head.to_bytes());
        // The backend gets the client's spelling; the Ack gets what only that of a Create-Session has.
        assert_eq!(request.field("BITS-Packet-Type"), Some(spelled));
        assert_eq!(answer.field("BITS-Host-Id"), Some("up01.up.test"));
    }
}

/// Item 4.
#[test]
fn header_names_are_the_same_in_every_case() {
    // A minted id reaches the backend only if the gateway has read the names on the way there and back.
    let lower = RawBackend::answering(|request| match &*request.packet_type() {
        "create-session" => Reply::raw(
            "HTTP/1.1 200 OK\r\nbits-packet-TYPE: ack\r\nbits-session-id: s-1\r\ncontent-length: 0\r\n\r\n",
        ),
        _ => Reply::ack("200 OK", &[("BITS-Received-Content-Range", "3")]),
    });
    let bench = Bench::with(lower, |farm| farm.set("sessions.id", "\"minted\""));
    let spell: [fn(&str) -> String; 3] =
        [str::to_ascii_lowercase, str::to_ascii_uppercase, |name| {
            let flip = |(at, c): (usize, char)| match at % 2 {
                0 => c.to_ascii_lowercase(),
                _ => c.to_ascii_uppercase(),
            };
            name.chars().enumerate().map(flip).collect()
        }];
    for spell in spell {
        let head = |kind: PacketType| {
            Head::bits(TARGET)
                .field(&spell("Host"), ORIGIN)
                .field(&spell("BITS-Packet-Type"), kind.title())
        };
        let create = head(PacketType::CreateSession)
            .field(&spell("BITS-Supported-Protocols"), e2e_tests::client::packet::PROTOCOL)
            .field(&spell("Content-Length"), 0);
        let (_, answer) = bench.passes(&create.to_bytes());
        let id = answer.field("BITS-Session-Id").expect("an id").to_owned();
        assert_ne!(id, "s-1");
        let name = spell("BITS-Session-Id");
        let fragment = head(PacketType::Fragment)
            .field(&name, &id)
            .field(&spell("Content-Range"), "bytes 0-2/3")
            .field(&spell("Content-Length"), 3);
        let (request, _) = bench.passes(&fragment.with_body(b"abc"));
        assert_eq!(
            (request.field("BITS-Session-Id"), &request.body[..]),
            (Some("s-1"), &b"abc"[..])
        );
        let close =
            head(PacketType::CloseSession).field(&name, &id).field(&spell("Content-Length"), 0);
        assert_eq!(bench.passes(&close.to_bytes()).0.field("BITS-Session-Id"), Some("s-1"));
    }
}

/// Item 5.
#[test]
fn white_space_around_the_packet_type_means_nothing() {
    let bench = Bench::start();
    for line in [
        "BITS-Packet-Type:Ping",
        "BITS-Packet-Type:   Ping",
        "BITS-Packet-Type: Ping   ",
        "BITS-Packet-Type:\tPing\t ",
    ] {
        let (request, _) =
            bench.passes(&untyped().line(line).field("Content-Length", 0).to_bytes());
        assert_eq!(request.field("BITS-Packet-Type"), Some("Ping"), "{line:?}");
    }
    let inside = untyped().field("BITS-Packet-Type", "Pi ng").field("Content-Length", 0);
    bench.refuses(PacketType::Ping, &inside.to_bytes());
}

/// Items 6, 7, 8.
#[test]
fn a_packet_without_a_known_type_is_refused() {
    let bench = Bench::start();
    // Complete in every other respect.
    let rest = |head: Head| {
        head.field("BITS-Supported-Protocols", e2e_tests::client::packet::PROTOCOL)
            .field("BITS-Session-Id", "{x}")
            .field("Content-Range", "bytes 0-2/3")
            .field("Content-Length", 3)
            .with_body(b"abc")
    };
    let missing = bench.refuses(PacketType::Fragment, &rest(untyped()));
    assert_eq!(missing.field("BITS-Session-Id"), Some("{x}"));
    for unknown in ["", "Fragments", "Close_Session", "Create Session", "Ping, Ping", "Ack", "ACK"]
    {
        let answer = bench
            .refuses(PacketType::Fragment, &rest(untyped().field("BITS-Packet-Type", unknown)));
        assert_eq!(answer.field("BITS-Session-Id"), Some("{x}"), "{unknown:?}");
    }
    // As an Ack looks, should one ever be sent as a request.
    let ack = untyped().field("BITS-Packet-Type", "Ack").field("Content-Length", 0);
    bench.refuses(PacketType::Ping, &ack.to_bytes());
    bench.passes(&ping().to_bytes());
}

/// Item 9.
#[test]
fn packets_of_a_session_without_an_id_are_refused() {
    let bench = Bench::start();
    let complete = |kind: PacketType, id: Option<&str>| {
        let mut head = packet(kind);
        if let Some(id) = id {
            head = head.field("BITS-Session-Id", id);
        }
        if kind == PacketType::Fragment {
            return head
                .field("Content-Range", "bytes 0-2/3")
                .field("Content-Length", 3)
                .with_body(b"abc");
        }
        head.field("Content-Length", 0).to_bytes()
    };
    for kind in WITH_SESSION {
        for id in [None, Some(""), Some("  "), Some("a b")] {
            let answer = bench.refuses(kind, &complete(kind, id));
            assert_eq!(answer.field("BITS-Session-Id"), None, "{kind:?} {id:?}");
        }
        bench.passes(&complete(kind, Some(&bench.session())));
    }
}

/// Item 10.
#[test]
fn a_ping_needs_no_session_id() {
    let bench = Bench::start();
    let (request, answer) = bench.passes(&ping().to_bytes());
    assert_eq!(request.packet_type(), "ping");
    assert_eq!(answer.field("BITS-Session-Id"), None);
}

/// Item 11.
#[test]
fn a_ping_with_a_session_id_reaches_the_backend_of_its_session() {
    let farm = Farm::of_stubs(2).without_host_ids().start();
    let exchange = |bytes: &[u8]| {
        e2e_tests::client::exchange(farm.entrance(), bytes).expect("the gateway answers")
    };
    let ids: Vec<String> = (0..2)
        .map(|_| {
            let answer = exchange(&create().to_bytes());
            answer.field("BITS-Session-Id").expect("an id").to_owned()
        })
        .collect();
    for id in &ids {
        // More often than there are backends, so that no turn-taking gets it right by chance.
        for _ in 0..3 {
            let ping =
                packet(PacketType::Ping).field("BITS-Session-Id", id).field("Content-Length", 0);
            assert_eq!(exchange(&ping.to_bytes()).status, 200);
        }
        let pings = farm.stubs().iter().map(|stub| {
            let seen = stub.requests();
            let creator = seen.iter().any(|request| request.packet_type() == "create-session");
            assert!(creator, "round-robin gave one session to each backend");
            seen.iter().filter(|request| request.field("BITS-Session-Id") == Some(id)).count()
        });
        let mut pings: Vec<_> = pings.collect();
        pings.sort_unstable();
        assert_eq!(pings, [0, 3]);
    }
    farm.expect_healthy();
    // An id that nobody knows is no reason to refuse a Ping.
    let stranger = packet(PacketType::Ping)
        .field("BITS-Session-Id", "{00000000-0000-4000-8000-000000000000}")
        .field("Content-Length", 0);
    assert_eq!(exchange(&stranger.to_bytes()).status, 200);
    let foreign: u64 = farm.stubs().iter().map(|stub| stub.stats().foreign).sum();
    assert_eq!(foreign, 1, "a stub notices a Ping of somebody else's session");
    // A fragment of that id is refused, so the pings above proved something about their ids.
    let foreign = fragment_head("{00000000-0000-4000-8000-000000000000}", 3)
        .field("Content-Length", 3)
        .with_body(b"abc");
    assert_eq!(exchange(&foreign).status, 500);
}
