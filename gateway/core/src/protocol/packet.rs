//! The five packets a client sends (MC-BUP 2.2.2 to 2.2.10).

use super::field::{Repeated, trim};
use super::fields::Fields;
use super::head::RequestHead;
use super::headers::{self, Field};
use super::ids::SessionId;
use super::range::{self, ContentRange, RangeError};

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

    fn parse(value: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| value.eq_ignore_ascii_case(kind.wire().as_bytes()))
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

/// What becomes of a packet with `Transfer-Encoding: chunked`, as python-onedrive sends Fragments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChunkedMode {
    Refuse,
    /// A Fragment goes on in chunks.
    Forward,
    /// A Fragment goes on with the length of its range. In another packet there is nothing in the
    /// chunks, and it goes on without them.
    Length,
}

impl ChunkedMode {
    /// The length with which a packet goes on that came in chunks, if it does not go on in chunks.
    pub fn length_of(self, packet: &RequestPacket) -> Option<u64> {
        (self == Self::Length).then(|| packet.range().map_or(0, |range| range.len()))
    }
}

/// Reads the packet in a request for which [`is_packet`] holds.
///
/// MC-BUP demands a length; `chunked` says what becomes of a packet that came without one.
///
/// # Source
/// MC-BUP 2.2.1.2 and 3.2.5.2 for what is refused.
pub fn read_request(
    fields: &impl Fields,
    chunked: ChunkedMode,
) -> Result<RequestPacket, PacketError> {
    check_value_lengths(fields)?;
    let kind = fields.single(&headers::PACKET_TYPE)?.ok_or(PacketError::NoType)?;
    let kind = PacketType::parse(trim(kind)).ok_or(PacketError::UnknownType)?;
    let body = read_body(fields)?;
    let session = read_session(fields)?;
    if kind == PacketType::Fragment {
        let session = session.ok_or(PacketError::NoSession)?;
        let range = read_range(fields)?;
        match body {
            Body::Length(len) if len == range.len() => {}
            Body::Length(_) => return Err(PacketError::LengthMismatch),
            Body::Chunked if chunked != ChunkedMode::Refuse => {}
            Body::Chunked | Body::None => return Err(PacketError::LengthRequired),
        }
        return Ok(RequestPacket::Fragment { session, range });
    }
    match body {
        Body::None | Body::Length(0) => {}
        // Its carrier sees to it that nothing is in the chunks.
        Body::Chunked if chunked == ChunkedMode::Length => {}
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

/// Reads the packet in a request whose head repeats that of `before`, which had a length
/// ([`RequestHead::repeat`]): it is the same packet but for its numbers.
pub fn read_again(
    before: RequestPacket,
    fields: &impl Fields,
) -> Result<RequestPacket, PacketError> {
    match (before, read_body(fields)?) {
        (RequestPacket::Fragment { session, .. }, Body::Length(length)) => {
            let range = read_range(fields)?;
            let fits = length == range.len();
            fits.then_some(RequestPacket::Fragment { session, range })
                .ok_or(PacketError::LengthMismatch)
        }
        (RequestPacket::Fragment { .. }, _) => Err(PacketError::LengthRequired),
        (packet, Body::None | Body::Length(0)) => Ok(packet),
        _ => Err(PacketError::BodyNotAllowed),
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
    range::number(digits).map(Body::Length).map_err(|_| PacketError::BadLength)
}

fn read_session(fields: &impl Fields) -> Result<Option<SessionId>, PacketError> {
    let Some(value) = fields.single(&headers::SESSION_ID)? else { return Ok(None) };
    SessionId::parse(trim(value)).map(Some).ok_or(PacketError::BadSession)
}

fn read_range(fields: &impl Fields) -> Result<ContentRange, PacketError> {
    let value = fields.single(&headers::CONTENT_RANGE)?.ok_or(PacketError::NoRange)?;
    Ok(ContentRange::parse(trim(value))?)
}

/// The list is split on spaces and commas; MC-BUP and the Win32 pages disagree on which.
fn check_protocols(fields: &impl Fields) -> Result<(), PacketError> {
    let list = fields.single(&headers::SUPPORTED_PROTOCOLS)?.ok_or(PacketError::NoProtocols)?;
    let mut offered = list.split(|byte| matches!(byte, b' ' | b',' | b'\t'));
    let upload = headers::UPLOAD_PROTOCOL.as_bytes();
    let known = offered.any(|id| id.eq_ignore_ascii_case(upload));
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
#[path = "packet_tests.rs"]
mod tests;
