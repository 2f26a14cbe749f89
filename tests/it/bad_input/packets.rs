//! Heads that are legal HTTP and break a rule of the upload protocol: refused with an Ack, on a connection that goes on.

use e2e_tests::client::packet::PROTOCOL;
use e2e_tests::farm::ORIGIN;

use super::rig::{FORBIDDEN, Refusal, Rig};

const KEPT: Refusal = Refusal::AckAndKeep(400);

const ID: &str = "BITS-Session-Id: {3F9C1E52-7B0D-4E7A-9C44-0D5B6A1E8F21}\r\n";

/// A packet of that type (any text) with these lines, each with its CR LF, and a body of the right length.
fn packet(kind: &str, lines: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "BITS_POST {FORBIDDEN} HTTP/1.1\r\nHost: {ORIGIN}\r\nBITS-Packet-Type: {kind}\r\n{lines}\
        Content-Length: {length}\r\n\r\n{body}"
    )
}

fn fragment(range: &str, body: &str) -> String {
    packet("Fragment", &format!("{ID}Content-Range: {range}\r\n"), body)
}

/// Items 7, 8.
/// Fault: client sends what is no packet.
#[test]
fn a_packet_is_of_one_of_the_five_types() {
    let rig = Rig::start();
    for kind in [
        "",
        "Ack",
        "ACK",
        "Create",
        "Create Session",
        "Create_Session",
        "CreateSession",
        "Create-Session;x",
        "Ping, Ping",
        "Ping Ping",
        "\"Ping\"",
        "P\u{ed}ng",
        "Fragments",
        "Get-Session",
        "0",
        "Ping/1",
        "Close-Session Cancel-Session",
    ] {
        rig.refuses(KEPT, &packet(kind, ID, ""));
    }
    rig.refuses(KEPT, &packet("Ping", "", "").replace("BITS-Packet-Type", "BITS-Package-Type"));
}

/// Items 9, 45.
#[test]
fn a_session_id_is_1_to_100_visible_characters() {
    let rig = Rig::start();
    let range = "Content-Range: bytes 0-4/9\r\n";
    for id in [
        "",
        " ",
        "a b",
        "a\tb",
        "\u{e9}",
        "a\u{80}",
        &"x".repeat(101),
        &"x".repeat(4096),
        "{3F9C1E52 7B0D}",
    ] {
        let line = format!("BITS-Session-Id: {id}\r\n");
        rig.refuses(KEPT, &packet("Fragment", &format!("{line}{range}"), "hello"));
        rig.refuses(KEPT, &packet("Close-Session", &line, ""));
        rig.refuses(KEPT, &packet("Cancel-Session", &line, ""));
    }
    rig.refuses(KEPT, &packet("Fragment", range, "hello"));
    rig.refuses(KEPT, &packet("Close-Session", "", ""));
    rig.refuses(KEPT, &packet("Cancel-Session", "", ""));
    // The edge: of 100 characters it is an id, though one that nobody knows.
    let edge = format!("BITS-Session-Id: {}\r\n", "x".repeat(100));
    let mut client = rig.connect();
    let answer = client.exchange(packet("Close-Session", &edge, "").as_bytes()).expect("an answer");
    assert_eq!((answer.status, answer.field("BITS-Error")), (500, Some("0x8020001F")));
}

/// Item 71.
///
/// Threat: T10.
#[test]
fn t10_a_content_range_is_strict() {
    let rig = Rig::start();
    for range in [
        "",
        "bytes",
        "bytes ",
        "bytes 0-4",
        "bytes 0/9",
        "bytes */9",
        "bytes 0-4/*",
        "bytes=0-4/9",
        "bytes  0-4/9",
        "bytes 0 -4/9",
        "bytes 0- 4/9",
        "bytes 0-4 /9",
        "bytes 0-4/ 9",
        "bytes +0-4/9",
        "bytes -0-4/9",
        "bytes 0--4/9",
        "bytes 0x0-4/9",
        "bytes 0-4/9,bytes 0-4/9",
        "bytes 0-4/9, 5-8/9",
        "octets 0-4/9",
        "0-4/9",
        "bytes 0-4/9;x",
        "bytes\t0-4/9",
        "bytes 0-4\\9",
        "bytes 4-0/9",
        "bytes 5-4/9",
        "bytes 0-9/9",
        "bytes 9-9/9",
        "bytes 0-4/4",
        "bytes 0-4/0",
        "bytes 0-000000000000000000004/9",
        "bytes 0-4/18446744073709551616",
        "bytes 18446744073709551616-18446744073709551620/18446744073709551621",
        "bytes 0-18446744073709551615/18446744073709551615",
        "bytes \u{b2}-4/9",
        "bytes 0-4/9 bytes 0-4/9",
        "bytes 0-4/9/9",
        "bytes 00000000000000000000000000000000000000000000000-4/99999999999999999999",
    ] {
        rig.refuses(KEPT, &fragment(range, "hello"));
    }
    let without = packet("Fragment", ID, "hello");
    rig.refuses(KEPT, &without);
}

/// Item 71.
///
/// Threat: T10.
#[test]
fn a_fragment_is_as_long_as_its_range() {
    let rig = Rig::start();
    for (range, body) in [
        ("bytes 0-4/9", "hell"),
        ("bytes 0-4/9", "hello!"),
        ("bytes 0-4/9", ""),
        ("bytes 0-0/9", ""),
        ("bytes 0-0/0", "x"),
        ("bytes 0-4/0", ""),
        ("bytes 4-8/9", "hell"),
    ] {
        rig.refuses(KEPT, &fragment(range, body));
    }
    // Of a range that is no honest length nothing is waited for.
    let most = "bytes 0-18446744073709551613/18446744073709551615";
    rig.refuses(KEPT, &fragment(most, "hello"));
    // A length so large that the body cannot be read to its end.
    let huge = fragment("bytes 0-4/9", "hello")
        .replace("Content-Length: 5", "Content-Length: 9999999999999999999");
    rig.refuses(Refusal::Ack(400), &huge);
}

/// Items 12, 13, 14.
#[test]
fn a_body_where_none_belongs_is_not_read_as_a_request() {
    let rig = Rig::start();
    let hidden = packet("Close-Session", ID, "");
    let protocols = format!("BITS-Supported-Protocols: {PROTOCOL}\r\n");
    for (kind, lines) in [
        ("Ping", ""),
        ("Create-Session", &protocols),
        ("Close-Session", ID),
        ("Cancel-Session", ID),
    ] {
        rig.refuses(KEPT, &packet(kind, lines, &hidden));
        rig.refuses(KEPT, &packet(kind, lines, "x"));
    }
}

/// Items 15, 16.
#[test]
fn create_session_offers_the_upload_protocol() {
    let rig = Rig::start();
    for value in [
        "",
        "{00000000-0000-0000-0000-000000000000}",
        "7df0354d-249b-430f-820d-3d2a9bef4931",
        "{7df0354d-249b-430f-820d-3d2a9bef4931",
        "{7df0354d-249b-430f-820d-3d2a9bef4932}",
        "x{7df0354d-249b-430f-820d-3d2a9bef4931}",
        "{7df0354d-249b-430f-820d-3d2a9bef4931};q=0",
        "{7df0354d\u{ad}249b-430f-820d-3d2a9bef4931}",
    ] {
        rig.refuses(
            KEPT,
            &packet("Create-Session", &format!("BITS-Supported-Protocols: {value}\r\n"), ""),
        );
    }
    rig.refuses(KEPT, &packet("Create-Session", "", ""));
}
