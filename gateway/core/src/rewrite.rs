//! Edits to an answer, so that the client stays on the gateway.

use http::{HeaderValue, Version};

use crate::farm::Announce;
use crate::protocol::headers::{self, Field, UPLOAD_PROTOCOL};
use crate::protocol::passage::Edit;
use crate::protocol::{Ack, Fields, RequestPacket, SessionId};

/// What the client is to see of a session in place of what its backend wrote.
#[derive(Debug, Clone, Copy)]
pub struct Identity<'a> {
    /// The id shown to the client, where it is not the backend's.
    pub public_id: Option<&'a HeaderValue>,
    /// The Host-Id pair for a new session.
    pub announce: Option<&'a Announce>,
}

/// The edits for an answer to `packet`. Most answers need none, and none costs no allocation.
///
/// A backend's own Host-Id pair never passes, nor a `Location`: clients would leave the gateway. Errors and plain
/// HTTP answers keep all the rest; an Ack gets what an Ack must have and this one left out.
///
/// # Source
/// MC-BUP 2.2.3.2 (Create-Session Ack), 2.2.3 to 2.2.11 (every Ack).
pub fn edits(
    packet: &RequestPacket,
    ack: &Ack<'_>,
    fields: &impl Fields,
    identity: Identity<'_>,
) -> Vec<Edit> {
    let mut edits = Vec::new();
    let has = |field: &'static Field| fields.has(field);
    for field in [&headers::HOST_ID, &headers::HOST_ID_FALLBACK_TIMEOUT, &headers::LOCATION] {
        if has(field) {
            edits.push(Edit::Drop(field.name.clone()));
        }
    }
    if let Some(id) = identity.public_id
        && (ack.session_id.is_some() || is_opening(packet, ack))
    {
        edits.push(Edit::Set(&headers::SESSION_ID, id.clone()));
    }
    if identity.public_id.is_none()
        && let (Some(own), Some(said)) = (packet.session(), ack.session_id.as_deref())
        && own.as_str() != said
        && SessionId::parse(said).is_none_or(|said| said.key() != own.key())
    {
        // An Ack speaks of the session of its packet. Another one's id is a secret of others.
        let own = HeaderValue::from_str(own.as_str()).ok();
        edits.extend(own.map(|own| Edit::Set(&headers::SESSION_ID, own)));
    }
    let misspelt = fields.values(&headers::RECEIVED_CONTENT_RANGE_MISSPELT).next();
    if let Some(offset) = misspelt
        && !has(&headers::RECEIVED_CONTENT_RANGE)
    {
        let offset = HeaderValue::from_bytes(offset).ok();
        edits.extend(offset.map(|offset| Edit::Set(&headers::RECEIVED_CONTENT_RANGE, offset)));
    }
    if ack.is_success() && !ack.is_ack {
        edits.push(Edit::Set(&headers::PACKET_TYPE, HeaderValue::from_static("Ack")));
    }
    if is_opening(packet, ack) {
        if let Some(announce) = identity.announce {
            edits.push(Edit::Set(&headers::HOST_ID, announce.host_id.clone()));
            let timeout = announce.fallback_timeout.clone();
            edits.push(Edit::Set(&headers::HOST_ID_FALLBACK_TIMEOUT, timeout));
        }
        for (field, value) in
            [(&headers::PROTOCOL, UPLOAD_PROTOCOL), (&headers::ACCEPT_ENCODING, "identity")]
        {
            if !has(field) {
                edits.push(Edit::Set(field, HeaderValue::from_static(value)));
            }
        }
    }
    edits
}

fn is_opening(packet: &RequestPacket, ack: &Ack<'_>) -> bool {
    matches!(packet, RequestPacket::CreateSession) && ack.is_success()
}

/// How the body of an answer goes on to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AckBody {
    /// As the backend frames it.
    Keep,
    /// The answer gets `Content-Length: 0`. The body is read to its end, which is marked, and
    /// dropped.
    Drain,
    /// The answer gets `Content-Length: 0`. Nothing marks the end of the body, so the connection to
    /// the backend is given up.
    Cut,
    /// The body goes on and the end of the connection ends it: no Ack is ever chunked.
    UntilClose,
}

/// The body of a success is dropped, but for that of a Close. Its client has the Ack with the last
/// byte of the head: a body that breaks off later cannot take it back. An error page passes if its
/// end is marked, or if its server ends it by closing, as it says. One that is neither would never
/// end.
///
/// # Source
/// MC-BUP 2.2.3 to 2.2.11: every Ack has `Content-Length: 0`. A Close of Zenfolio's servers has a
/// body that its clients read.
pub fn ack_body(
    packet: &RequestPacket,
    ack: &Ack<'_>,
    version: Version,
    fields: &impl Fields,
) -> AckBody {
    let chunked = fields.has(&headers::TRANSFER_ENCODING);
    let length = fields.values(&headers::CONTENT_LENGTH).next();
    let marked = chunked || length.is_some();
    let closes = version < Version::HTTP_11
        || fields.values(&headers::CONNECTION).next().is_some_and(|value| value == b"close");
    let close_packet = matches!(packet, RequestPacket::CloseSession { .. });
    if close_packet && ack.is_success() && (chunked || (!marked && closes)) {
        return AckBody::UntilClose;
    }
    let is_zero = |length: &[u8]| length.split(|&b| b == b',').all(|one| one.trim_ascii() == b"0");
    let empty = !chunked && length.is_some_and(is_zero);
    let unread = ack.is_success() && !close_packet && !empty;
    let endless = !marked && (ack.is_protocol() || (ack.status.as_u16() >= 400 && !closes));
    match marked {
        true if unread || (chunked && ack.is_protocol()) => AckBody::Drain,
        false if unread || endless => AckBody::Cut,
        _ => AckBody::Keep,
    }
}

#[cfg(test)]
#[path = "rewrite_tests.rs"]
mod tests;
