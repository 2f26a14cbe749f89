//! The five packets a client sends (MC-BUP 2.2.2 to 2.2.10).

use super::field::Repeated;
use super::fields::{Fields, text};
use super::head::RequestHead;
use super::headers::{self, Field};
use super::ids::SessionId;
use super::range::{ContentRange, RangeError};

/// Which of the five packets; also the closed set of metric labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PacketType {
    CreateSession,
    Ping,
    Fragment,
    CloseSession,
    CancelSession,
}

impl PacketType {
    pub const ALL: [Self; 5] =
        [Self::CreateSession, Self::Ping, Self::Fragment, Self::CloseSession, Self::CancelSession];

    /// The value of `BITS-Packet-Type`, as Windows spells it.
    pub fn wire(self) -> &'static str {
        match self {
            Self::CreateSession => "Create-Session",
            Self::Ping => "Ping",
            Self::Fragment => "Fragment",
            Self::CloseSession => "Close-Session",
            Self::CancelSession => "Cancel-Session",
        }
    }

    /// The name in metrics and logs.
    pub fn label(self) -> &'static str {
        match self {
            Self::CreateSession => "create_session",
            Self::Ping => "ping",
            Self::Fragment => "fragment",
            Self::CloseSession => "close_session",
            Self::CancelSession => "cancel_session",
        }
    }

    fn parse(value: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| value.eq_ignore_ascii_case(kind.wire()))
    }
}

/// A packet that obeys the rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequestPacket {
    CreateSession,
    /// Carries no session id on the wire, though MC-BUP 2.2.1.2 says that it should.
    Ping {
        session: Option<SessionId>,
    },
    Fragment {
        session: SessionId,
        range: ContentRange,
    },
    CloseSession {
        session: SessionId,
    },
    CancelSession {
        session: SessionId,
    },
}

impl RequestPacket {
    pub fn packet_type(&self) -> PacketType {
        match self {
            Self::CreateSession => PacketType::CreateSession,
            Self::Ping { .. } => PacketType::Ping,
            Self::Fragment { .. } => PacketType::Fragment,
            Self::CloseSession { .. } => PacketType::CloseSession,
            Self::CancelSession { .. } => PacketType::CancelSession,
        }
    }

    pub fn session(&self) -> Option<&SessionId> {
        match self {
            Self::CreateSession => None,
            Self::Ping { session } => session.as_ref(),
            Self::Fragment { session, .. }
            | Self::CloseSession { session }
            | Self::CancelSession { session } => Some(session),
        }
    }

    pub fn range(&self) -> Option<ContentRange> {
        match self {
            Self::Fragment { range, .. } => Some(*range),
            _ => None,
        }
    }
}

/// What a client did wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PacketError {
    #[error("BITS-Packet-Type is missing")]
    NoType,
    #[error("BITS-Packet-Type is none of the five packets")]
    UnknownType,
    #[error("BITS-Session-Id is missing")]
    NoSession,
    #[error("BITS-Session-Id is not 1 to 100 visible ASCII characters")]
    BadSession,
    #[error("BITS-Supported-Protocols is missing")]
    NoProtocols,
    #[error("BITS-Supported-Protocols does not offer the upload protocol")]
    NoCommonProtocol,
    #[error("a packet of this type has no body")]
    BodyNotAllowed,
    #[error("{} is longer than {limit} bytes", .field.wire, limit = headers::VALUE_LIMIT)]
    ValueTooLong { field: &'static Field },
    #[error("a BITS header is longer than {limit} bytes", limit = headers::VALUE_LIMIT)]
    OtherValueTooLong,
    #[error("{0}")]
    Repeated(#[from] Repeated),
    #[error("Content-Length is missing")]
    LengthRequired,
    #[error("Content-Length is not a number of bytes")]
    BadLength,
    #[error("Content-Range is missing")]
    NoRange,
    #[error("{0}")]
    Range(#[from] RangeError),
    #[error("Content-Length is not the length of Content-Range")]
    LengthMismatch,
}

/// Whether a request is a packet, or ordinary HTTP.
///
/// `method_override` lets `POST` with `X-Http-Method-Override: BITS_POST` count, as OneDrive's
/// clients sent it.
pub fn is_packet(head: &RequestHead, method_override: bool) -> bool {
    if head.method() == headers::BITS_POST.as_bytes() {
        return true;
    }
    method_override
        && head.method() == b"POST"
        && head
            .text(&headers::METHOD_OVERRIDE)
            .is_some_and(|value| value.eq_ignore_ascii_case(headers::BITS_POST))
}

/// How a request for which [`is_packet`] does not hold could still be a packet for the server behind
/// the gateway: one without a pin, and without a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Hidden {
    #[error("a field overrides the method with BITS_POST")]
    Override {
        /// It is what `http.method_override` makes a packet.
        allowable: bool,
    },
    #[error("the method is BITS_POST but for the case of its letters")]
    LetterCase,
    #[error("it has a BITS-Packet-Type")]
    PacketType,
}

/// Looks for a packet in a request that is none here. Such a request must not pass.
///
/// # Source
/// The fields are those of OneDrive (`X-HTTP-Method-Override`) and of frameworks behind which a
/// server may run: Microsoft's WebAPI and OData (`X-HTTP-Method`), Express and Rack
/// (`X-Method-Override`). Some take the first word of a list, some the last.
pub fn hidden_packet(head: &RequestHead) -> Option<Hidden> {
    let is_packet = |method: &[u8]| method.eq_ignore_ascii_case(headers::BITS_POST.as_bytes());
    let names_it = |field: &&'static Field| {
        let mut values = head.values(field);
        // Not a character of a method: a comma, a space, a quotation mark.
        let apart = |byte: &u8| !(byte.is_ascii_alphanumeric() || *byte == b'_');
        values.any(|value| value.split(apart).any(is_packet))
    };
    if headers::METHOD_OVERRIDES.iter().any(names_it) {
        let allowable = self::is_packet(head, true);
        return Some(Hidden::Override { allowable });
    }
    if is_packet(head.method()) {
        return Some(Hidden::LetterCase);
    }
    head.has(&headers::PACKET_TYPE).then_some(Hidden::PacketType)
}

/// Reads the packet in a request for which [`is_packet`] holds.
///
/// `chunked` lets a Fragment come with `Transfer-Encoding` in place of a length, as
/// python-onedrive sends it; MC-BUP demands a length.
///
/// # Source
/// MC-BUP 2.2.1.2 and 3.2.5.2 for what is refused.
pub fn read_request(fields: &impl Fields, chunked: bool) -> Result<RequestPacket, PacketError> {
    check_value_lengths(fields)?;
    let kind = fields.single(&headers::PACKET_TYPE)?.ok_or(PacketError::NoType)?;
    let kind = text(kind).and_then(PacketType::parse);
    let kind = kind.ok_or(PacketError::UnknownType)?;
    let body = read_body(fields)?;
    let session = read_session(fields)?;
    if kind == PacketType::Fragment {
        let session = session.ok_or(PacketError::NoSession)?;
        let range = read_range(fields)?;
        match body {
            Body::Length(len) if len == range.len() => {}
            Body::Length(_) => return Err(PacketError::LengthMismatch),
            Body::Chunked if chunked => {}
            Body::Chunked | Body::None => return Err(PacketError::LengthRequired),
        }
        return Ok(RequestPacket::Fragment { session, range });
    }
    match body {
        Body::None | Body::Length(0) => {}
        Body::Length(_) => return Err(PacketError::BodyNotAllowed),
        Body::Chunked => return Err(PacketError::LengthRequired),
    }
    match kind {
        PacketType::CreateSession => {
            check_protocols(fields)?;
            Ok(RequestPacket::CreateSession)
        }
        PacketType::Ping => Ok(RequestPacket::Ping { session }),
        PacketType::CloseSession => {
            Ok(RequestPacket::CloseSession { session: session.ok_or(PacketError::NoSession)? })
        }
        PacketType::CancelSession | PacketType::Fragment => {
            Ok(RequestPacket::CancelSession { session: session.ok_or(PacketError::NoSession)? })
        }
    }
}

/// The session id of a request, when it has exactly one legal one: what an error Ack echoes.
pub fn session_of(fields: &impl Fields) -> Option<SessionId> {
    read_session(fields).ok().flatten()
}

enum Body {
    None,
    Length(u64),
    Chunked,
}

fn read_body(fields: &impl Fields) -> Result<Body, PacketError> {
    let length = fields.single(&headers::CONTENT_LENGTH)?;
    if fields.has(&headers::TRANSFER_ENCODING) {
        // A request with both never comes this far: the head check refuses it.
        return if length.is_some() { Err(PacketError::BadLength) } else { Ok(Body::Chunked) };
    }
    let Some(digits) = length else { return Ok(Body::None) };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(PacketError::BadLength);
    }
    let digits = text(digits).ok_or(PacketError::BadLength)?;
    digits.parse().map(Body::Length).map_err(|_| PacketError::BadLength)
}

fn read_session(fields: &impl Fields) -> Result<Option<SessionId>, PacketError> {
    let Some(value) = fields.single(&headers::SESSION_ID)? else { return Ok(None) };
    text(value).and_then(SessionId::parse).map(Some).ok_or(PacketError::BadSession)
}

fn read_range(fields: &impl Fields) -> Result<ContentRange, PacketError> {
    let value = fields.single(&headers::CONTENT_RANGE)?.ok_or(PacketError::NoRange)?;
    Ok(ContentRange::parse(text(value).ok_or(RangeError::Syntax)?)?)
}

/// The list is split on spaces and commas; MC-BUP and the Win32 pages disagree on which.
fn check_protocols(fields: &impl Fields) -> Result<(), PacketError> {
    let list = fields.single(&headers::SUPPORTED_PROTOCOLS)?.ok_or(PacketError::NoProtocols)?;
    let known = text(list).is_some_and(|list| {
        list.split([' ', ',', '\t']).any(|id| id.eq_ignore_ascii_case(headers::UPLOAD_PROTOCOL))
    });
    if known { Ok(()) } else { Err(PacketError::NoCommonProtocol) }
}

fn check_value_lengths(fields: &impl Fields) -> Result<(), PacketError> {
    for (id, name, _) in fields.all().filter(|(.., value)| value.len() > headers::VALUE_LIMIT) {
        for field in [&headers::CONTENT_RANGE, &headers::CONTENT_NAME] {
            if id == field.id {
                return Err(PacketError::ValueTooLong { field });
            }
        }
        if name.get(..5).is_some_and(|start| start.eq_ignore_ascii_case(b"bits-")) {
            return Err(PacketError::OtherValueTooLong);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
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
        let packet = read_request(&head, false).map(|packet| packet.packet_type());
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
        for list in
            ["PUT, BITS_POST", "BITS_POST,PUT", "\"BITS_POST\"", "a;bits_post", "\tBITS_POST x"]
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
        for method in ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PROPFIND", "BITS_POSTS"]
        {
            hides(method, &[], None);
            hides(method, &[("X-HTTP-Method-Override", "PUT")], None);
            hides(method, &[("X-Method-Override", "BITS_POSTED, MY_BITS_POST")], None);
            hides(method, &[("BITS-Session-Id", "{x}"), ("X-Note", "BITS_POST")], None);
        }
    }

    #[test]
    fn packet_types_compare_without_case_and_outer_spaces() {
        for spelling in ["create-session", "CREATE-SESSION", "CreatE-SEssION", " Create-Session\t"]
        {
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
    fn a_chunked_fragment_passes_only_where_it_is_allowed() {
        let head = head(&[
            FRAGMENT,
            ID,
            ("Content-Range", "bytes 0-9/10"),
            ("Transfer-Encoding", "chunked"),
        ]);
        assert_eq!(read_request(&head, false), Err(PacketError::LengthRequired));
        assert!(read_request(&head, true).is_ok());
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
}
