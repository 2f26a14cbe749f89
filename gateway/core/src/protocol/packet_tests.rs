//! Packets, read from heads.

use super::*;

fn head_of(method: &str, fields: &[(&str, &str)]) -> RequestHead {
    let fields = fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
    RequestHead::of(method.as_bytes(), b"/in/a.bin", fields).expect("a head")
}

fn head(fields: &[(&str, &str)]) -> RequestHead {
    head_of("BITS_POST", fields)
}

#[track_caller]
fn check(fields: &[(&str, &str)], expected: Result<PacketType, PacketError>) {
    let head = head(fields);
    let packet = read_request(&head, ChunkedMode::Refuse).map(|packet| packet.packet_type());
    assert_eq!(packet, expected, "{fields:?}");
}

const CREATE: (&str, &str) = ("BITS-Packet-Type", "Create-Session");
const FRAGMENT: (&str, &str) = ("BITS-Packet-Type", "Fragment");
const CLOSE: (&str, &str) = ("BITS-Packet-Type", "Close-Session");
const ID: (&str, &str) = ("BITS-Session-Id", "{3F9C1E52-7B0D-4E7A-9C44-0D5B6A1E8F21}");
const PROTOCOLS: (&str, &str) = ("BITS-Supported-Protocols", headers::UPLOAD_PROTOCOL);

#[track_caller]
fn hides(method: &str, fields: &[(&str, &str)], expected: Option<Hidden>) {
    let head = head_of(method, fields);
    assert!(!is_packet(&head, false));
    assert_eq!(hidden_packet(&head), expected, "{method} {fields:?}");
}

#[test]
fn a_packet_under_another_method_is_found() {
    let by = |allowable| Some(Hidden::Override { allowable });
    let post = "X-HTTP-Method-Override";
    hides("POST", &[(post, "BITS_POST")], by(true));
    hides("POST", &[(post, "bits_post")], by(true));
    hides("POST", &[("x-http-method-override", " Bits_Post ")], by(true));
    // What the key does not let pass.
    for method in ["GET", "PUT", "DELETE", "post", "X"] {
        hides(method, &[(post, "BITS_POST")], by(false));
    }
    for list in ["PUT, BITS_POST", "BITS_POST,PUT", "\"BITS_POST\"", "a;bits_post", "\tBITS_POST x"]
    {
        hides("POST", &[(post, list)], by(false));
    }
    for name in ["X-Method-Override", "X-HTTP-Method"] {
        hides("POST", &[(name, "BITS_POST")], by(false));
        hides("POST", &[(name, "PUT"), (name, "x, bits_POST")], by(false));
    }
    for method in ["bits_post", "Bits_Post", "BITS_post"] {
        hides(method, &[], Some(Hidden::LetterCase));
    }
    for method in ["GET", "POST", "PUT", "BITS-POST", "BITS_POST_"] {
        hides(method, &[("BITS-Packet-Type", "Ping")], Some(Hidden::PacketType));
        hides(method, &[("bits-packet-type", "")], Some(Hidden::PacketType));
    }
}

#[test]
fn an_ordinary_request_hides_nothing() {
    for method in ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PROPFIND", "BITS_POSTS"] {
        hides(method, &[], None);
        hides(method, &[("X-HTTP-Method-Override", "PUT")], None);
        hides(method, &[("X-Method-Override", "BITS_POSTED, MY_BITS_POST")], None);
        hides(method, &[("BITS-Session-Id", "{x}"), ("X-Note", "BITS_POST")], None);
    }
}

#[test]
fn packet_types_compare_without_case_and_outer_spaces() {
    for spelling in ["create-session", "CREATE-SESSION", "CreatE-SEssION", " Create-Session\t"] {
        check(&[("bits-PACKET-type", spelling), PROTOCOLS], Ok(PacketType::CreateSession));
    }
    check(&[("BITS-Packet-Type", "Ping")], Ok(PacketType::Ping));
    check(&[("BITS-Packet-Type", "Ping"), ID], Ok(PacketType::Ping));
}

#[test]
fn unknown_types_are_refused() {
    check(&[], Err(PacketError::NoType));
    check(&[("BITS-Packet-Type", "")], Err(PacketError::UnknownType));
    check(&[("BITS-Packet-Type", "Ack")], Err(PacketError::UnknownType));
    check(&[("BITS-Packet-Type", "Create Session")], Err(PacketError::UnknownType));
    check(
        &[CREATE, ("BITS-Packet-Type", "Ping")],
        Err(PacketError::Repeated(Repeated(&headers::PACKET_TYPE))),
    );
}

#[test]
fn sessions_are_demanded_where_the_protocol_does() {
    for kind in ["Fragment", "Close-Session", "Cancel-Session"] {
        check(&[("BITS-Packet-Type", kind)], Err(PacketError::NoSession));
    }
    check(&[CLOSE, ID], Ok(PacketType::CloseSession));
    check(&[CLOSE, ("BITS-Session-Id", "a b")], Err(PacketError::BadSession));
    check(&[CLOSE, ID, ID], Err(PacketError::Repeated(Repeated(&headers::SESSION_ID))));
}

#[test]
fn empty_packets_have_no_body() {
    check(&[CLOSE, ID, ("Content-Length", "0")], Ok(PacketType::CloseSession));
    check(&[CLOSE, ID, ("Content-Length", "1")], Err(PacketError::BodyNotAllowed));
    check(&[CREATE, PROTOCOLS, ("Content-Length", "5")], Err(PacketError::BodyNotAllowed));
    check(&[CLOSE, ID, ("Transfer-Encoding", "chunked")], Err(PacketError::LengthRequired));
}

#[test]
fn the_known_protocol_is_found_anywhere_in_the_list() {
    let other = "{00000000-0000-0000-0000-000000000001}";
    let hundred = format!("{}{}", format!("{other} ").repeat(99), headers::UPLOAD_PROTOCOL);
    for list in [
        format!("{other} {}", headers::UPLOAD_PROTOCOL),
        format!("{},{other}", headers::UPLOAD_PROTOCOL),
        format!("{other}, {}", headers::UPLOAD_PROTOCOL.to_uppercase()),
        hundred,
    ] {
        let create = [CREATE, ("BITS-Supported-Protocols", list.as_str())];
        check(&create, Ok(PacketType::CreateSession));
    }
    check(&[CREATE], Err(PacketError::NoProtocols));
    check(&[CREATE, ("BITS-Supported-Protocols", other)], Err(PacketError::NoCommonProtocol));
}

#[test]
fn a_fragment_is_as_long_as_its_range() {
    let fragment = |range: &'static str, length: &'static str| {
        [FRAGMENT, ID, ("Content-Range", range), ("Content-Length", length)]
    };
    check(&fragment("bytes 0-9/10", "10"), Ok(PacketType::Fragment));
    check(&fragment("bytes 0-0/0", "0"), Ok(PacketType::Fragment));
    check(&fragment("bytes 0-9/10", "9"), Err(PacketError::LengthMismatch));
    check(&fragment("bytes 0-9/10", "1e1"), Err(PacketError::BadLength));
    check(&fragment("bytes 9-0/10", "10"), Err(RangeError::Reversed.into()));
    check(&[FRAGMENT, ID, ("Content-Length", "1")], Err(PacketError::NoRange));
    check(&[FRAGMENT, ID, ("Content-Range", "bytes 0-9/10")], Err(PacketError::LengthRequired));
}

#[test]
fn packets_in_chunks_pass_only_where_they_are_allowed() {
    use ChunkedMode::{Forward, Length, Refuse};
    let close = ("BITS-Packet-Type", "Close-Session");
    let cancel = ("BITS-Packet-Type", "Cancel-Session");
    let range = |range| vec![FRAGMENT, ID, ("Content-Range", range)];
    // By mode: the length with which it goes on; 411 where there is none.
    for (fields, forwarded, with_length) in [
        (range("bytes 0-9/10"), Some(None), Some(Some(10))),
        (range("bytes 0-0/0"), Some(None), Some(Some(0))),
        (vec![("BITS-Packet-Type", "Ping")], None, Some(Some(0))),
        (vec![CREATE, PROTOCOLS], None, Some(Some(0))),
        (vec![close, ID], None, Some(Some(0))),
        (vec![cancel, ID], None, Some(Some(0))),
    ] {
        let fields = [&fields[..], &[("Transfer-Encoding", "chunked")]].concat();
        let read = |mode: ChunkedMode| {
            let packet = read_request(&head(&fields), mode);
            let refused = |error| assert_eq!(error, PacketError::LengthRequired, "{fields:?}");
            packet.map(|packet| mode.length_of(&packet)).map_err(refused).ok()
        };
        assert_eq!([read(Refuse), read(Forward), read(Length)], [None, forwarded, with_length]);
    }
}

#[test]
fn protocol_values_end_at_4096_bytes() {
    let edge = format!("{}{}", " ".repeat(4096 - 38), headers::UPLOAD_PROTOCOL);
    check(&[CREATE, ("BITS-Supported-Protocols", &edge)], Ok(PacketType::CreateSession));
    let long = "x".repeat(4097);
    check(&[CREATE, PROTOCOLS, ("BITS-Other", &long)], Err(PacketError::OtherValueTooLong));
    check(
        &[CREATE, PROTOCOLS, ("Content-Name", &long)],
        Err(PacketError::ValueTooLong { field: &headers::CONTENT_NAME }),
    );
    check(&[CREATE, PROTOCOLS, ("X-Other", &long)], Ok(PacketType::CreateSession));
}

#[test]
fn post_with_an_override_is_a_packet_only_when_enabled() {
    let overridden = [("X-HTTP-Method-Override", "bits_post")];
    assert!(is_packet(&head_of("POST", &overridden), true));
    assert!(!is_packet(&head_of("POST", &overridden), false));
    assert!(!is_packet(&head_of("PUT", &overridden), true));
}
