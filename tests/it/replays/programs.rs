//! Programs that speak the protocol by themselves: K3 (bits4j), K4 (the client of TransferVM), K9 (an uploader of photos
//! for the Mac).

use e2e_tests::client::{Answer, PacketType};
use e2e_tests::data::Content;
use e2e_tests::farm::StubFault;
use e2e_tests::raw_backend::{RawBackend, Reply, agree};
use serde_json::json;

use super::{Arrived, Replay, at_the_only_stub, farm};

/// Java, commons-httpclient: packet types in capitals.
const K3_PACKET: &str = "\
BITS_POST /upload/target.zip HTTP/1.1
BITS-Packet-Type: <TYPE>
<MORE>
User-Agent: Jakarta Commons-HttpClient/3.1
Host: up.test
Content-Length: <LENGTH>";

fn k3(kind: &str, more: &str, length: usize) -> String {
    let head = K3_PACKET.replace("<TYPE>", kind).replace("<LENGTH>", &length.to_string());
    match more {
        "" => head.replace("<MORE>\n", ""),
        more => head.replace("<MORE>", more),
    }
}

/// What bits4j makes of an answer.
#[derive(Debug, PartialEq, Eq)]
enum Bits4j {
    Fine,
    AuthenticationRequired,
    SessionNotFound,
    Error,
    NoBitsServer,
}

/// It wants an Ack on everything, takes a challenge without one for what it is, reads BITS-Error-Code before BITS-Error
/// and looks for a part of the text.
fn bits4j(answer: &Answer) -> Bits4j {
    let is_ack =
        answer.field("BITS-Packet-Type").is_some_and(|value| value.eq_ignore_ascii_case("Ack"));
    let challenged = answer.field("WWW-Authenticate").is_some();
    let code = answer.field("BITS-Error-Code").or_else(|| answer.field("BITS-Error"));
    match (is_ack, answer.status) {
        (false, 401 | 403) if challenged => Bits4j::AuthenticationRequired,
        (false, _) => Bits4j::NoBitsServer,
        (true, 200) => Bits4j::Fine,
        (true, _) if code.is_some_and(|code| code.contains("x8020001F")) => Bits4j::SessionNotFound,
        (true, _) => Bits4j::Error,
    }
}

#[test]
fn k3_bits4j_uploads_and_understands_every_answer() {
    // One server: a Create-Session that comes again is placed anew.
    let mut java = Replay::on(farm(1).start());
    let content = Content::seeded(3, 30_000);
    let file = content.to_vec();
    let create =
        k3("CREATE-SESSION", "BITS-Supported-Protocols: {7df0354d-249b-430f-820d-3d2a9bef4931}", 0);
    let challenge = StubFault::on(PacketType::CreateSession, "answer").with("status", 401).with(
        "headers",
        json!([["WWW-Authenticate", "Basic realm=\"up\""], ["Content-Type", "text/html"]]),
    );
    java.farm.stub(0).fault(challenge.with("body", "<p>who?</p>"));
    assert_eq!(bits4j(&java.send(&create, b"")), Bits4j::AuthenticationRequired);
    assert_eq!(bits4j(&java.open(&create)), Bits4j::Fine);
    let session = "BITS-Session-Id: <ID>";
    for (number, piece) in file.chunks(10_000).enumerate() {
        let first = number * 10_000;
        let range = format!("{session}\nContent-Range: bytes {first}-{}/30000", first + 9_999);
        assert_eq!(bits4j(&java.send(&k3("FRAGMENT", &range, 10_000), piece)), Bits4j::Fine);
        if number == 0 {
            let hole = format!("{session}\nContent-Range: bytes 20000-20002/30000");
            assert_eq!(bits4j(&java.send(&k3("FRAGMENT", &hole, 3), b"abc")), Bits4j::Error);
        }
    }
    assert_eq!(bits4j(&java.send(&k3("PING", "", 0), b"")), Bits4j::Fine);
    let close = k3("CLOSE-SESSION", session, 0);
    assert_eq!(bits4j(&java.send(&close, b"")), Bits4j::Fine);
    java.expect_arrived(&at_the_only_stub(&java.farm));
    java.farm.expect_stored("/upload/target.zip", &content);
    // A session that nobody knows: the gateway's own answer has the text that it looks for.
    java.id = "{00000000-0000-4000-8000-000000000000}".to_owned();
    assert_eq!(bits4j(&java.send(&close, b"")), Bits4j::SessionNotFound);
    assert_eq!(bits4j(&java.send(&k3("ACK", session, 0), b"")), Bits4j::Error);
}

/// Python's httplib adds no length to a method that it does not know. The protocols are in every packet.
const K4_PACKET: &str = "\
BITS_POST /transfervm/disk.vhd HTTP/1.1
Host: up.test
Accept-Encoding: identity
BITS-Packet-Type: <TYPE>
BITS-Supported-Protocols: {7df0354d-249b-430F-820D-3D2A9BEF4931}";

fn k4(kind: &str, more: &str) -> String {
    format!("{}\n{more}", K4_PACKET.replace("<TYPE>", kind))
}

/// It wants exactly 200 and takes any BITS-Error-Code for a failure.
#[track_caller]
fn expect_transfervm(answer: &Answer) {
    assert_eq!(answer.status, 200, "{}", answer.head);
    assert_eq!(answer.field("BITS-Error-Code"), None);
    assert_eq!(answer.field("BITS-Packet-Type"), Some("Ack"));
    assert!(!answer.closes(), "it has one connection for all: {}", answer.head);
}

#[test]
fn k4_the_client_of_transfervm_uploads_over_one_connection_without_lengths() {
    const PIECE: usize = 2 * 1024 * 1024;
    let mut python = Replay::on(farm(2).each_stub(&["--flavour", "transfervm"]).start());
    let content = Content::seeded(4, PIECE as u64 + 1000);
    let file = content.to_vec();
    expect_transfervm(&python.open(&k4("Create-Session", "Authorization: Basic dm06c2VjcmV0")));
    for (number, piece) in file.chunks(PIECE).enumerate() {
        let first = number * PIECE;
        let (last, total) = (first + piece.len() - 1, file.len());
        let more = format!(
            "BITS-Session-Id: <ID>\nContent-Range: bytes {first}-{last}/{total}\nContent-Length: {}",
            piece.len()
        );
        let answer = python.send(&k4("Fragment", &more), piece);
        expect_transfervm(&answer);
        assert_eq!(answer.field("BITS-Received-Content-Range"), Some(&*(last + 1).to_string()));
    }
    expect_transfervm(&python.send(&k4("Close-Session", "BITS-Session-Id: <ID>"), b""));
    python.expect_arrived(&at_the_only_stub(&python.farm));
    python.farm.expect_stored("/transfervm/disk.vhd", &content);
}

/// Objective-C, CFNetwork.
const K9_PACKET: &str = "\
BITS_POST /u/photos/IMG_0042.JPG?album=7 HTTP/1.1
Host: up.test
BITS-Packet-Type: <TYPE>
<MORE>
User-Agent: Uploader/1.2 CFNetwork/454.5 Darwin/10.0.0
Accept: */*
Accept-Language: en-us
Accept-Encoding: gzip, deflate
Content-Length: <LENGTH>
Connection: keep-alive";

fn k9(kind: &str, more: &str, length: usize) -> String {
    let head = K9_PACKET.replace("<TYPE>", kind).replace("<MORE>", more);
    head.replace("<LENGTH>", &length.to_string())
}

/// Its server compares the protocol byte for byte and writes the number of the photo into the body of the last answer.
#[test]
fn k9_a_photo_uploader_gets_its_number_from_the_body_of_the_close_answer() {
    const UPPER: &str = "{7DF0354D-249B-430F-820D-3D2A9BEF4931}";
    const PROTOCOL: &str = "BITS-Protocol: {7DF0354D-249B-430F-820D-3D2A9BEF4931}";
    let agree = agree();
    let photos = RawBackend::answering(move |request| match &*request.packet_type() {
        "create-session" if request.field("BITS-Supported-Protocols") == Some(UPPER) => {
            Reply::raw(&format!(
                "HTTP/1.1 200 OK\r\nBITS-Packet-Type: Ack\r\n{PROTOCOL}\r\nBITS-Session-Id: p-42\r\n\
                 Content-Length: 0\r\n\r\n"
            ))
        }
        "create-session" => Reply::ack("400 Bad Request", &[]),
        "close-session" => Reply::raw(
            "HTTP/1.1 200 OK\r\nBITS-Packet-Type: Ack\r\nContent-Type: text/plain\r\n\
             Content-Length: 10\r\n\r\n8123456789",
        ),
        _ => agree(request),
    });
    let mut uploader = Replay::on(farm(0).backend("up01", photos.address()).start());
    let offer = format!("BITS-Supported-Protocols: {UPPER}");
    let opened = uploader.open(&k9("Create-Session", &offer, 0));
    assert_eq!((opened.status, opened.field("BITS-Protocol")), (200, Some(UPPER)));
    let photo = Content::seeded(9, 300_000).to_vec();
    for (number, piece) in photo.chunks(100_000).enumerate() {
        let (first, last) = (number * 100_000, number * 100_000 + 99_999);
        let more = format!("BITS-Session-Id: <ID>\nContent-Range: bytes {first}-{last}/300000");
        let answer = uploader.send(&k9("Fragment", &more, piece.len()), piece);
        let next = (last + 1).to_string();
        assert_eq!(answer.field("BITS-Received-Content-Range"), Some(&*next));
    }
    let close = k9(
        "Close-Session",
        "BITS-Session-Id: <ID>\nX-Zenfolio-Title: Gr\u{fc}n\nX-Zenfolio-Keywords: a,b",
        0,
    );
    let closed = uploader.send(&close, b"");
    assert_eq!((closed.status, closed.body_text()), (200, "8123456789".to_owned()));
    uploader.expect_arrived(&photos.requests().iter().map(Arrived::at_raw).collect::<Vec<_>>());
}
