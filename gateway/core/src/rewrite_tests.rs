//! What an answer looks like after the edits.

use http::response;

use super::*;
use crate::protocol::{ContentRange, SessionId, read_ack};

const CREATE: RequestPacket = RequestPacket::CreateSession;

fn close() -> RequestPacket {
    RequestPacket::CloseSession { session: SessionId::parse("{x}").unwrap() }
}

fn fragment() -> RequestPacket {
    let session = SessionId::parse("{x}").unwrap();
    RequestPacket::Fragment { session, range: ContentRange::parse("bytes 0-4/10").unwrap() }
}

fn head(status: u16, fields: &[(&str, &str)]) -> response::Parts {
    let mut answer = http::Response::builder().status(status);
    for (name, value) in fields {
        answer = answer.header(*name, *value);
    }
    answer.body(()).expect("legal head").into_parts().0
}

fn announce() -> Announce {
    Announce {
        host_id: HeaderValue::from_static("up01.example.net"),
        fallback_timeout: HeaderValue::from_static("900"),
    }
}

fn rewrite(packet: &RequestPacket, head: &mut response::Parts, identity: Identity<'_>) {
    let edits = edits(packet, &read_ack(head.status, &head.headers), &head.headers, identity);
    for edit in edits {
        edit.apply_to(&mut head.headers);
    }
}

fn sorted(head: &response::Parts) -> Vec<(String, String)> {
    let fields = head.headers.iter();
    let mut fields: Vec<_> = fields
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into()))
        .collect();
    fields.sort();
    fields
}

/// The answer is the expected one after one rewriting, and after two.
#[track_caller]
fn check(
    packet: &RequestPacket,
    identity: Identity<'_>,
    status: u16,
    answer: &[(&str, &str)],
    expected: &[(&str, &str)],
) {
    let (mut head, expected) = (self::head(status, answer), sorted(&self::head(status, expected)));
    for times in ["once", "twice"] {
        rewrite(packet, &mut head, identity);
        assert_eq!(sorted(&head), expected, "rewritten {times}");
    }
    assert_eq!(head.status, status, "the backend's status stays");
}

const NOBODY: Identity<'static> = Identity { public_id: None, announce: None };
const ACK: (&str, &str) = ("BITS-Packet-Type", "Ack");
const ID: (&str, &str) = ("BITS-Session-Id", "{backend}");
const PROTOCOL: (&str, &str) = ("BITS-Protocol", UPLOAD_PROTOCOL);
const ENCODING: (&str, &str) = ("Accept-Encoding", "identity");
const OURS: [(&str, &str); 2] =
    [("BITS-Host-Id", "up01.example.net"), ("BITS-Host-Id-Fallback-Timeout", "900")];

#[test]
fn a_create_ack_gets_what_it_must_have_and_the_backend_left_out() {
    let complete = [ACK, ID, PROTOCOL, ENCODING];
    for status in [200, 201] {
        check(&CREATE, NOBODY, status, &complete, &complete);
        check(&CREATE, NOBODY, status, &[ACK, ID], &complete);
        check(&CREATE, NOBODY, status, &[ID], &complete);
    }
}

#[test]
fn what_the_backend_wrote_in_a_create_ack_stays() {
    let vendor = [
        ("bits-packet-type", "ACK"),
        ID,
        ("BITS-Protocol", "{7DF0354D-249B-430F-820D-3D2A9BEF4931}"),
        ("Accept-encoding", "gzip"),
        ("X-Resource-Id", "abc"),
        ("Pragma", "no-cache"),
    ];
    check(&CREATE, NOBODY, 201, &vendor, &vendor);
}

#[test]
fn the_host_id_pair_of_the_gateway_takes_the_place_of_the_backends() {
    let announce = announce();
    let ours = Identity { announce: Some(&announce), ..NOBODY };
    let complete = [ACK, ID, PROTOCOL, ENCODING];
    let announced = [&complete[..], &OURS].concat();
    let theirs = [("BITS-Host-Id", "IIS7"), ("BITS-Host-Id-Fallback-Timeout", "86400")];
    for pair in [&[][..], &theirs[..1], &theirs[1..], &theirs] {
        let answer = [&complete, pair].concat();
        check(&CREATE, ours, 200, &answer, &announced);
        check(&CREATE, NOBODY, 200, &answer, &complete);
    }
}

#[test]
fn a_host_id_is_told_on_success_of_a_create_only() {
    let announce = announce();
    let id = HeaderValue::from_static("{x}");
    let identity = Identity { announce: Some(&announce), public_id: Some(&id) };
    let theirs = [("BITS-Host-Id", "IIS7"), ("BITS-Host-Id-Fallback-Timeout", "86400")];
    for status in [302, 400, 401, 403, 404, 409, 500, 503] {
        let answer = [&[ACK][..], &theirs].concat();
        check(&CREATE, identity, status, &answer, &[ACK]);
        check(&CREATE, identity, status, &theirs, &[]);
    }
    // A page of another program, and Acks of other packets.
    check(&CREATE, identity, 200, &theirs, &[]);
    check(&fragment(), identity, 200, &[ACK, theirs[0], theirs[1]], &[ACK]);
    check(&close(), identity, 200, &[ACK, theirs[0]], &[ACK]);
}

#[test]
fn no_answer_to_a_packet_leads_elsewhere() {
    let away = ("Location", "http://elsewhere.test/");
    let close = close();
    for packet in [&CREATE, &fragment(), &close] {
        check(packet, NOBODY, 401, &[away, ("X-Vendor", "1")], &[("X-Vendor", "1")]);
        check(packet, NOBODY, 404, &[ACK, away], &[ACK]);
    }
    check(&close, NOBODY, 201, &[ACK, away], &[ACK]);
}

#[test]
fn the_public_id_stands_where_the_backends_stood() {
    let id = HeaderValue::from_static("{public}");
    let minted = Identity { public_id: Some(&id), ..NOBODY };
    let public = ("BITS-Session-Id", "{public}");
    check(&CREATE, minted, 200, &[ACK, ID], &[ACK, public, PROTOCOL, ENCODING]);
    check(&fragment(), minted, 200, &[ACK, ID], &[ACK, public]);
    // IIS names no session outside the Create Ack, and that stays so.
    check(&fragment(), minted, 200, &[ACK], &[ACK]);
    check(&close(), minted, 400, &[ACK, ID], &[ACK, public]);
    check(&CREATE, minted, 500, &[ACK], &[ACK]);
}

#[test]
fn an_ack_speaks_of_the_session_of_its_packet() {
    let own = ("BITS-Session-Id", "{x}");
    check(&fragment(), NOBODY, 200, &[ACK, own], &[ACK, own]);
    check(&fragment(), NOBODY, 200, &[ACK], &[ACK]);
    check(&fragment(), NOBODY, 200, &[ACK, ID], &[ACK, own]);
    check(&close(), NOBODY, 500, &[ACK, ("BITS-Session-Id", "no id")], &[ACK, own]);
}

#[test]
fn a_misspelt_offset_is_said_again_in_the_right_spelling() {
    let wrong = ("BITS-Recieved-Content-Range", "7");
    let right = ("BITS-Received-Content-Range", "7");
    check(&fragment(), NOBODY, 416, &[ACK, wrong], &[ACK, wrong, right]);
    let other = ("BITS-Received-Content-Range", "9");
    check(&fragment(), NOBODY, 416, &[ACK, wrong, other], &[ACK, wrong, other]);
    check(&fragment(), NOBODY, 416, &[ACK], &[ACK]);
}

#[test]
fn the_ack_header_is_added_to_successes_of_the_protocol_only() {
    let offset = ("BITS-Received-Content-Range", "5");
    check(&fragment(), NOBODY, 200, &[offset], &[offset, ACK]);
    check(&fragment(), NOBODY, 416, &[offset], &[offset]);
    let error = [("BITS-Error-Code", "0x1"), ("BITS-Error-Context", "0x7")];
    check(&fragment(), NOBODY, 500, &error, &error);
    for status in [200, 401, 404, 500] {
        let page = [("Content-Type", "text/html"), ("WWW-Authenticate", "NTLM")];
        for packet in [&CREATE, &fragment(), &close()] {
            check(packet, NOBODY, status, &page, &page);
        }
    }
}

#[track_caller]
fn check_body(packet: &RequestPacket, status: u16, fields: &[(&str, &str)], expected: AckBody) {
    let head = head(status, fields);
    let body = ack_body(packet, &read_ack(head.status, &head.headers), head.version, &head.headers);
    assert_eq!(body, expected, "{packet:?} {status} {fields:?}");
}

const EMPTY: (&str, &str) = ("Content-Length", "0");
const NINE: (&str, &str) = ("Content-Length", "9");
const CHUNKED: (&str, &str) = ("Transfer-Encoding", "chunked");
const CLOSES: (&str, &str) = ("Connection", "close");

#[test]
fn the_body_of_a_success_is_dropped_whatever_its_framing() {
    let session = || SessionId::parse("{x}").unwrap();
    let offset = ("BITS-Received-Content-Range", "5");
    for (packet, fields) in [
        (CREATE, &[ACK, ID][..]),
        (CREATE, &[ID]),
        (RequestPacket::Ping { session: None }, &[ACK]),
        (fragment(), &[ACK, offset]),
        (fragment(), &[offset]),
        (RequestPacket::CancelSession { session: session() }, &[ACK]),
    ] {
        let with = |more: &[(&'static str, &'static str)]| [fields, more].concat();
        for status in [200, 201] {
            check_body(&packet, status, &with(&[EMPTY]), AckBody::Keep);
            check_body(&packet, status, &with(&[NINE]), AckBody::Drain);
            check_body(&packet, status, &with(&[CHUNKED]), AckBody::Drain);
            check_body(&packet, status, &with(&[]), AckBody::Cut);
            check_body(&packet, status, &with(&[CLOSES]), AckBody::Cut);
        }
        check_body(&packet, 404, &with(&[NINE]), AckBody::Keep);
        check_body(
            &packet,
            404,
            &with(&[CLOSES]),
            if fields.contains(&ACK) || fields.contains(&offset) {
                AckBody::Cut
            } else {
                AckBody::Keep
            },
        );
    }
}

#[test]
fn the_body_of_a_close_ends_where_it_says() {
    check_body(&close(), 200, &[ACK, EMPTY], AckBody::Keep);
    check_body(&close(), 200, &[ACK, NINE], AckBody::Keep);
    check_body(&close(), 200, &[ACK, CHUNKED], AckBody::UntilClose);
    check_body(&close(), 200, &[ACK, CLOSES], AckBody::UntilClose);
    check_body(&close(), 200, &[ACK], AckBody::Cut);
}

#[test]
fn an_error_page_keeps_its_body_if_it_ends() {
    for packet in [&CREATE, &fragment(), &close()] {
        check_body(packet, 500, &[ACK, EMPTY], AckBody::Keep);
        check_body(packet, 500, &[("BITS-Error-Code", "0x1")], AckBody::Cut);
        check_body(packet, 500, &[ACK, CHUNKED], AckBody::Drain);
        check_body(packet, 404, &[CHUNKED], AckBody::Keep);
        check_body(packet, 401, &[("WWW-Authenticate", "NTLM"), NINE], AckBody::Keep);
        check_body(packet, 404, &[CLOSES], AckBody::Keep);
        check_body(packet, 200, &[], AckBody::Keep);
        // Nothing marks its end.
        check_body(packet, 500, &[("Content-Type", "text/html")], AckBody::Cut);
    }
}
