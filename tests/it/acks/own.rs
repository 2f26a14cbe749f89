//! Answers that the gateway makes by itself: items 30, 31 and 34 to 37.

use std::net::SocketAddr;
use std::sync::OnceLock;

use e2e_tests::client::{Answer, Framing, Head, PacketType};
use e2e_tests::farm::ORIGIN;
use e2e_tests::ports::Port;
use e2e_tests::raw_backend::{RawBackend, Reply, agree};

use crate::bench::{Bench, cancel, close, create, fragment, fragment_head, packet, ping, untyped};

/// One answer of the gateway's own.
struct Own {
    what: &'static str,
    answer: Answer,
    /// What the fault table says.
    status: u16,
    hresult: Option<&'static str>,
}

const INVALID: Option<&str> = Some("0x80070057");
const NOT_FOUND: Option<&str> = Some("0x8020001F");

/// An answer for every row of the fault table that a client can provoke, asked for once per run.
fn own_answers() -> &'static [Own] {
    static ANSWERS: OnceLock<Vec<Own>> = OnceLock::new();
    ANSWERS.get_or_init(provoke)
}

fn provoke() -> Vec<Own> {
    // Reserved and never listened at.
    let nobody = Port::reserve();
    let bench = fickle(nobody.address());
    let at = |target: &str, host: &str, kind: PacketType| {
        Head::bits(target).field("Host", host).field("BITS-Packet-Type", kind.title())
    };
    let create_at = |target: &str| {
        at(target, "up01.up.test", PacketType::CreateSession)
            .field("BITS-Supported-Protocols", e2e_tests::client::packet::PROTOCOL)
            .field("Content-Length", 0)
            .to_bytes()
    };
    let fragment_at = |target: &str| {
        let opened = bench.exchange(&create_at(target));
        at(target, ORIGIN, PacketType::Fragment)
            .field("BITS-Session-Id", opened.field("BITS-Session-Id").expect("an id"))
            .field("Content-Range", "bytes 0-2/3")
            .field("Content-Length", 3)
            .with_body(b"abc")
    };
    let twice = close("{x}").field("BITS-Session-Id", "{y}");
    let down = at("/in/a.bin", "up02.up.test", PacketType::Ping).field("Content-Length", 0);
    let cases: [(&str, Vec<u8>, u16, Option<&str>); 12] = [
        ("no packet type", untyped().field("Content-Length", 0).to_bytes(), 400, INVALID),
        ("a head that breaks HTTP", twice.to_bytes(), 400, INVALID),
        ("no length", fragment_head("{x}", 3).to_bytes(), 411, INVALID),
        ("a large fragment", fragment("{x}", &[b'x'; 20_001]), 413, None),
        ("fragment of nobody", fragment("{x}", b"abc"), 500, NOT_FOUND),
        ("close of nobody", close("{x}").to_bytes(), 500, NOT_FOUND),
        ("cancel of nobody", cancel("{x}").to_bytes(), 500, NOT_FOUND),
        ("backend down", down.to_bytes(), 503, None),
        ("backend hangs up", fragment_at("/hangs-up"), 502, None),
        ("backend talks nonsense", fragment_at("/nonsense"), 502, None),
        ("backend opens a session without an id", create_at("/no-id"), 502, None),
        ("backend is silent", fragment_at("/silent"), 504, None),
    ];
    let ask = |(what, bytes, status, hresult): (&'static str, Vec<u8>, u16, _)| {
        let answer = bench.exchange(&bytes);
        assert_eq!(answer.status, status, "{what}: {}", answer.head);
        Own { what, answer, status, hresult }
    };
    cases.into_iter().map(ask).collect()
}

/// `up01` fails as the target says, `up02` is not there.
fn fickle(nobody: SocketAddr) -> Bench {
    let agree = agree();
    let backend =
        RawBackend::answering(move |request| match (request.target(), &*request.packet_type()) {
            ("/hangs-up", "fragment") => Reply::SendAndClose(Vec::new()),
            ("/nonsense", "fragment") => Reply::raw("220 mail.test ESMTP\r\n\r\n"),
            ("/no-id", _) => Reply::ack("200 OK", &[]),
            ("/silent", "fragment") => Reply::Wait,
            _ => agree(request),
        });
    Bench::with(backend, |farm| {
        farm.backend("up02", nobody)
            .set("limits.fragment", "20_000")
            .set("timeouts.client_body", "\"500ms\"")
            .set("timeouts.answer", "\"1s\"")
            .set("timeouts.answer_long", "\"1s\"")
    })
}

/// Item 30.
#[test]
fn every_answer_of_the_gateway_to_a_packet_is_an_ack() {
    for Own { what, answer, status, .. } in own_answers() {
        assert_eq!(answer.field("BITS-Packet-Type"), Some("Ack"), "{what}");
        assert_eq!((answer.minor_version, answer.status), (1, *status), "{what}");
    }
    // To anything else it is not: no header of the protocol at all.
    // Held, or another program may listen there.
    let nobody = Port::reserve();
    let bench = fickle(nobody.address());
    let plain = Head::new("GET", "/x").field("Host", "up02.up.test");
    let answer = bench.exchange(&plain.to_bytes());
    assert_eq!(answer.status, 503);
    assert!(!answer.head.contains("BITS"), "{}", answer.head);
}

/// Item 31.
#[test]
fn every_answer_of_the_gateway_has_content_length_0() {
    for Own { what, answer, .. } in own_answers() {
        assert_eq!(answer.fields_named("Content-Length").collect::<Vec<_>>(), ["0"], "{what}");
        assert_eq!(answer.framing, Framing::ContentLength, "{what}");
        assert_eq!(answer.field("Content-Type"), None, "{what}");
    }
}

/// Item 34.
#[test]
fn an_ack_of_success_says_nothing_of_errors() {
    // As curt as a backend can be, so that all the rest is the gateway's work.
    let curt = RawBackend::answering(|request| match &*request.packet_type() {
        "create-session" => Reply::raw("HTTP/1.1 200 OK\r\nBITS-Session-Id: x\r\n\r\n"),
        "fragment" => Reply::raw("HTTP/1.1 200 OK\r\nBITS-Received-Content-Range: 3\r\n\r\n"),
        _ => Reply::raw("HTTP/1.1 200 OK\r\nBITS-Packet-Type: ack\r\n\r\n"),
    });
    for bench in [Bench::start(), Bench::with(curt, |farm| farm)] {
        let opened = bench.exchange(&create().to_bytes());
        let id = opened.field("BITS-Session-Id").expect("an id").to_owned();
        let rest = [ping().to_bytes(), fragment(&id, b"abc"), close(&id).to_bytes()];
        let rest = rest.iter().map(|bytes| bench.exchange(bytes));
        for answer in std::iter::once(opened).chain(rest) {
            assert_eq!(answer.status, 200, "{}", answer.head);
            let packet_type = answer.field("BITS-Packet-Type").unwrap_or_default();
            assert!(packet_type.eq_ignore_ascii_case("Ack"), "{}", answer.head);
            assert!(!answer.head.contains("BITS-Error"), "{}", answer.head);
        }
    }
}

/// Item 35.
#[test]
fn an_error_code_comes_under_both_names_and_with_its_context_or_not_at_all() {
    for Own { what, answer, hresult, .. } in own_answers() {
        let error = answer.fields_named("BITS-Error").collect::<Vec<_>>();
        let code = answer.fields_named("BITS-Error-Code").collect::<Vec<_>>();
        let context = answer.fields_named("BITS-Error-Context").count();
        match hresult {
            Some(value) => {
                assert_eq!((error, code, context), (vec![*value], vec![*value], 1), "{what}");
            }
            None => assert_eq!((error, code, context), (vec![], vec![], 0), "{what}"),
        }
    }
    let coded = own_answers().iter().filter(|own| own.hresult.is_some()).count();
    assert!(coded > 0 && coded < own_answers().len(), "both kinds were there");
}

/// Item 36.
#[test]
fn an_error_code_is_0x_and_eight_upper_case_digits() {
    let coded: Vec<_> = own_answers().iter().filter(|own| own.hresult.is_some()).collect();
    assert!(!coded.is_empty());
    for Own { what, answer, .. } in coded {
        for name in ["BITS-Error", "BITS-Error-Code"] {
            let value = answer.field(name).unwrap_or_default();
            let digits = value.strip_prefix("0x").unwrap_or_default();
            let upper = |byte: u8| byte.is_ascii_digit() || (b'A'..=b'F').contains(&byte);
            assert!(digits.len() == 8 && digits.bytes().all(upper), "{what}: {name}: {value:?}");
        }
    }
}

/// Item 37.
#[test]
fn the_context_of_the_gateways_errors_is_that_of_the_server_itself() {
    let contexts: Vec<_> = own_answers()
        .iter()
        .filter_map(|own| own.answer.field("BITS-Error-Context").map(|value| (own.what, value)))
        .collect();
    assert!(!contexts.is_empty());
    for (what, context) in contexts {
        assert_eq!(context, "0x5", "{what}");
    }
}

/// Item 14.
#[test]
fn an_error_echoes_the_session_id_of_its_packet() {
    let nobody = Port::reserve();
    let bench = fickle(nobody.address());
    for id in ["{x}", "-4902601953962343072", "/in/a%20b.bin"] {
        let answer = bench.exchange(&close(id).to_bytes());
        assert_eq!((answer.status, answer.field("BITS-Session-Id")), (500, Some(id)));
    }
    let none = bench.exchange(&packet(PacketType::CloseSession).to_bytes());
    assert_eq!((none.status, none.field("BITS-Session-Id")), (400, None));
}
