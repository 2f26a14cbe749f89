//! Where a message ends: Content-Length, Transfer-Encoding, and everything that makes two readers disagree.

use e2e_tests::client::AckRules;
use e2e_tests::client::PacketType;
use e2e_tests::farm::ORIGIN;

use super::rig::{ALLOWED, FORBIDDEN, Refusal, Rig, expect_end, read};

/// A fragment whose framing is `lines`, and behind it what a reader of the other length takes for a request.
fn fragment(lines: &str) -> String {
    format!(
        "BITS_POST {FORBIDDEN} HTTP/1.1\r\nHost: {ORIGIN}\r\nBITS-Packet-Type: Fragment\r\n\
        BITS-Session-Id: {{00000000-0000-4000-8000-000000000000}}\r\nContent-Range: bytes 0-4/9\r\n{lines}\r\n\r\n\
        5\r\nhello\r\n0\r\n\r\nGET /forbidden HTTP/1.1\r\nHost: {ORIGIN}\r\n\r\n"
    )
}

fn post(lines: &str) -> String {
    fragment(lines).replacen("BITS_POST", "POST", 1)
}

#[test]
fn a_content_length_is_one_field_of_plain_digits() {
    let rig = Rig::start();
    for value in [
        "",
        "+5",
        "-5",
        "-0",
        "5,5",
        "5, 5",
        "5 5",
        "5;",
        "0x5",
        "5h",
        "1e1",
        "5.0",
        "\u{b2}",
        "00000000000000000005",
        "18446744073709551616",
        "99999999999999999999",
        "5\t5",
        "\"5\"",
        "NaN",
        "5_0",
    ] {
        rig.refuses(Refusal::Ack(400), &fragment(&format!("Content-Length: {value}")));
        rig.refuses(Refusal::Plain(400), &post(&format!("Content-Length: {value}")));
    }
    for lines in [
        "Content-Length: 5\r\nContent-Length: 5",
        "Content-Length: 5\r\nContent-Length: 15",
        "Content-Length: 0\r\ncontent-length: 5",
        "Content-Length: 5\r\nContent-Length:",
        "Content-Length: 5\r\nContent_Length: 15",
        "Content_Length: 5",
    ] {
        rig.refuses(Refusal::Ack(400), &fragment(lines));
        rig.refuses(Refusal::Plain(400), &post(lines));
    }
}

/// Item 27.
#[test]
fn a_transfer_encoding_other_than_chunked_alone_is_refused() {
    let rig = Rig::start();
    for value in [
        "",
        "identity",
        "gzip",
        "gzip, chunked",
        "chunked, gzip",
        "chunked, chunked",
        "chunked,",
        ", chunked",
        "chunked;q=1",
        "xchunked",
        "chunkedx",
        "\"chunked\"",
        "chunked\u{b}",
        "\u{b}chunked",
        "chunk\0ed",
        "ch\u{fc}nked",
        "chunked identity",
        "cow, chunked",
    ] {
        rig.refuses(Refusal::Ack(400), &fragment(&format!("Transfer-Encoding: {value}")));
        rig.refuses(Refusal::Plain(400), &post(&format!("Transfer-Encoding: {value}")));
    }
    for lines in [
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding:\r\n chunked",
        "Transfer_Encoding: chunked",
        "Transfer-Encoding\r\n: chunked",
    ] {
        rig.refuses(Refusal::Ack(400), &fragment(lines));
        rig.refuses(Refusal::Plain(400), &post(lines));
    }
}

/// Item 27.
///
/// Threat: T3.
#[test]
fn t3_both_lengths_at_once_are_refused_in_every_spelling() {
    let rig = Rig::start();
    for encoding in
        ["Transfer-Encoding: chunked", "transfer-ENCODING:chunked", "Transfer-Encoding: Chunked"]
    {
        for length in ["Content-Length: 5", "content-length:0", "Content-Length: 15"] {
            for lines in [format!("{encoding}\r\n{length}"), format!("{length}\r\n{encoding}")] {
                rig.refuses(Refusal::Ack(400), &fragment(&lines));
                rig.refuses(Refusal::Plain(400), &post(&lines));
            }
        }
    }
}

/// Items 28, 87.
#[test]
fn a_chunked_packet_is_answered_411_and_nothing_behind_it_is_read_as_a_request() {
    let rig = Rig::start();
    for kind in PACKETS {
        for coding in ["chunked", "Chunked", "CHUNKED"] {
            let input =
                fragment(&format!("Transfer-Encoding: {coding}")).replace("Fragment", kind.title());
            let input = match kind {
                PacketType::CreateSession => input.replace("Content-Range: bytes 0-4/9", PROTOCOLS),
                _ => input,
            };
            rig.refuses(Refusal::Ack(411), &input);
        }
    }
}

const PROTOCOLS: &str = "BITS-Supported-Protocols: {7df0354d-249b-430f-820d-3d2a9bef4931}";

const PACKETS: [PacketType; 5] = [
    PacketType::Ping,
    PacketType::CreateSession,
    PacketType::Fragment,
    PacketType::CloseSession,
    PacketType::CancelSession,
];

#[test]
fn a_malformed_chunked_body_ends_both_connections() {
    let rig = Rig::with(|farm| farm.set("limits.chunked", "\"forward\""));
    for body in [
        "5\nhello\n0\n\n",
        "g\r\nhello\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello!\r\n0\r\n\r\n",
        "\r\n\r\n",
        "\r\nhello\r\n0\r\n\r\n",
        "5 \r\nhello\r\n0\r\n\r\n",
        " 5\r\nhello\r\n0\r\n\r\n",
        "5\t\r\nhello\r\n0\r\n\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        "5;x\ny\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\r\n0\r\nX : y\r\n\r\n",
        "5\r\nhello\r\n0\r\n folded\r\n\r\n",
        "fffffffffffffffff\r\nhello\r\n0\r\n\r\n",
    ] {
        let head = format!(
            "POST {ALLOWED} HTTP/1.1\r\nHost: {ORIGIN}\r\nTransfer-Encoding: chunked\r\n\r\n"
        );
        let hidden = format!("GET {FORBIDDEN} HTTP/1.1\r\nHost: {ORIGIN}\r\n\r\n");
        let mut client = rig.connect();
        client.send(format!("{head}{body}{hidden}").as_bytes()).expect("the input is sent");
        client.finish().expect("a half close");
        let got = client.read_to_end().expect("the connection ends");
        let got = String::from_utf8_lossy(&got);
        let refused = got.starts_with("HTTP/1.1 400 Bad Request\r\n");
        assert!(refused && got.matches("HTTP/1.1 ").count() <= 1, "{body:?} was answered {got}");
        for request in rig.backend.requests() {
            assert!(
                !request.complete || !request.target().contains("forbidden"),
                "{body:?}: {}",
                request.head
            );
            let chunked = request.field("Transfer-Encoding").is_some();
            assert!(
                !chunked || !request.complete,
                "{body:?} was read as a whole: {:?}",
                request.body
            );
        }
        rig.upload_works(body);
    }
    // What is left of the chunked heads is no message of a fixed length; they were judged above.
    rig.judged();
}

#[test]
fn nothing_behind_a_chunked_body_is_read_as_a_request() {
    let rig = Rig::with(|farm| farm.set("limits.chunked", "\"forward\""));
    let hidden = format!("GET {FORBIDDEN} HTTP/1.1\r\nHost: {ORIGIN}\r\n\r\n");
    let head =
        format!("POST {ALLOWED} HTTP/1.1\r\nHost: {ORIGIN}\r\nTransfer-Encoding: chunked\r\n\r\n");
    for end in ["0\r\n\r\n", "0;x=y\r\nX: y\r\n\r\n"] {
        let mut client = rig.connect();
        client.send(format!("{head}5\r\nhello\r\n{end}{hidden}").as_bytes()).expect("sent");
        let answer = read(&mut client, end);
        assert_eq!((answer.status, answer.closes()), (200, true), "{}", answer.head);
        expect_end(&mut client, end);
        rig.upload_works(end);
        // Nor is a request that comes after the answer.
        let mut client = rig.connect();
        let answer =
            client.exchange(format!("{head}5\r\nhello\r\n{end}").as_bytes()).expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.head);
        let _ = client.send(hidden.as_bytes());
        expect_end(&mut client, end);
        rig.upload_works(end);
    }
    assert!(rig.backend.requests().iter().all(|r| r.target() != FORBIDDEN));
    rig.judged();
}

/// Item 25.
#[test]
fn a_fragment_without_any_length_is_refused_and_bytes_behind_it_are_no_request() {
    let rig = Rig::start();
    let input = fragment("X-No: length");
    let heard = rig.heard();
    let mut client = rig.connect();
    client.send(input.as_bytes()).expect("the input is sent");
    let answer = read(&mut client, &input);
    AckRules::own_answer().expect(PacketType::Fragment, &answer);
    assert!([400, 411].contains(&answer.status), "{}", answer.head);
    if !answer.closes() {
        // Without a length there is no body: what follows is read as a head, and is none.
        let second = read(&mut client, &input);
        assert_eq!(second.status, 400, "{}", second.head);
    }
    expect_end(&mut client, &input);
    assert_eq!(rig.heard(), heard);
    rig.upload_works(&input);
}
