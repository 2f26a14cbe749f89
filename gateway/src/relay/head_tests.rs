use gateway_core::protocol::answer::read_answer;
use gateway_core::protocol::head::HeadLimits;
use gateway_core::protocol::headers;

use super::*;

const LIMITS: HeadLimits = HeadLimits { line_bytes: 8192, head_bytes: 65536, fields: 100 };

const CREATE: &str = "BITS_POST /in/a.bin?x=%20 HTTP/1.1\r\nHost: alias.test\r\nuser-AGENT: x\r\n\
                      BITS-Packet-Type:Create-Session\r\nX-Empty:\r\nContent-Length: 0\r\n\r\n";

fn set(field: &'static Field, value: &'static str) -> Edit {
    Edit::Set(field, HeaderValue::from_static(value))
}

fn edited(edits: impl IntoIterator<Item = Edit>) -> Edited {
    let mut all = Edited::default();
    edits.into_iter().for_each(|edit| all.add(edit));
    all
}

fn read(head: &str) -> RequestHead {
    RequestHead::read(head.into()).expect("a head")
}

#[test]
fn a_request_goes_on_in_its_own_spelling() {
    let mut out = Vec::new();
    let edits = edited([
        set(&headers::HOST, "up.test"),
        Edit::Drop(HeaderName::from_static("x-empty")),
        Edit::Append(&headers::CDN_LOOP, HeaderValue::from_static("g")),
    ]);
    write_request(&read(CREATE), None, &edits, &mut out);
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "BITS_POST /in/a.bin?x=%20 HTTP/1.1\r\nHost: up.test\r\nuser-AGENT: x\r\n\
         BITS-Packet-Type:Create-Session\r\nContent-Length: 0\r\nCDN-Loop: g\r\n\r\n"
    );
}

#[test]
fn a_server_sees_http_1_1_and_the_spelling_of_the_target_that_it_knows() {
    let mut out = Vec::new();
    let head = "BITS_POST /IN/a.bin HTTP/1.0\r\nHost: x\r\n\r\n";
    write_request(&read(head), Some("/in/a.bin"), &Edited::default(), &mut out);
    assert_eq!(out, b"BITS_POST /in/a.bin HTTP/1.1\r\nHost: x\r\n\r\n");
}

#[test]
fn edits_count_in_their_order() {
    let name = || headers::SESSION_ID.name.clone();
    for (edits, expected) in [
        (vec![Edit::Drop(name()), set(&headers::SESSION_ID, "{y}")], "BITS-Session-Id: {y}\r\n"),
        (vec![set(&headers::SESSION_ID, "{y}"), Edit::Drop(name())], ""),
        (
            vec![set(&headers::SESSION_ID, "{y}"), set(&headers::SESSION_ID, "{z}")],
            "BITS-Session-Id: {z}\r\n",
        ),
        (vec![], "bits-session-id: {x}\r\n"),
    ] {
        let mut out = Vec::new();
        let head = "X / HTTP/1.1\r\nbits-session-id: {x}\r\n\r\n";
        write_request(&read(head), None, &edited(edits), &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), format!("X / HTTP/1.1\r\n{expected}\r\n"));
    }
}

#[track_caller]
fn answered(raw: &str, edits: impl IntoIterator<Item = Edit>, expected: &str) {
    let raw = format!("{raw}\r\n\r\n");
    let answer = read_answer(raw.as_bytes(), &LIMITS).unwrap().unwrap();
    let mut out = Vec::new();
    write_answer(&answer.head, answer.head.length, &mut edited(edits), &mut out);
    assert_eq!(String::from_utf8(out).unwrap(), expected);
}

#[test]
fn an_answer_is_written_anew_and_says_nothing_of_the_connection() {
    answered(
        "HTTP/1.0 200 Fine\r\nconnection: close\r\nBits-Packet-TYPE : Ack\r\nX:  a \r\ncontent-length: 5",
        [set(&headers::SESSION_ID, "{x}")],
        "HTTP/1.1 200 Fine\r\nBits-Packet-TYPE: Ack\r\nX: a\r\nBITS-Session-Id: {x}\r\n\
         Content-Length: 5\r\n",
    );
    answered("HTTP/1.1 404", [], "HTTP/1.1 404 Not Found\r\n");
    answered("HTTP/1.1 200 OK\nX: a", [], "HTTP/1.1 200 OK\r\nX: a\r\n");
}

#[test]
fn one_length_is_written_of_equal_ones() {
    answered(
        "HTTP/1.1 200 OK\r\nContent-Length: 05, 5\r\nContent-Length: 5",
        [set(&headers::CONTENT_LENGTH, "5")],
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n",
    );
}

#[test]
fn a_folded_field_is_written_as_one_line() {
    answered(
        "HTTP/1.1 200 OK\r\nX: a\r\n b\r\nBITS-Packet-Type: Ack",
        [set(&headers::SESSION_ID, "{x}")],
        "HTTP/1.1 200 OK\r\nX: a b\r\nBITS-Packet-Type: Ack\r\nBITS-Session-Id: {x}\r\n",
    );
}
