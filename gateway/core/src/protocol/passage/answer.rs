//! From a server to a client.

use http::{HeaderName, HeaderValue, StatusCode, header};

use super::{Edit, remove};
use crate::protocol::headers::{self, Field, Id};
use crate::protocol::{Fields, fields};

/// What the one who gets an answer can do with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recipient {
    /// It has sent a packet: what its Ack says of hosts is our own by now.
    pub packet: bool,
    /// It reads chunks.
    pub chunks: bool,
}

/// For the connection to the server alone, whether or not `Connection` names them.
static HOP_BY_HOP: [&Field; 3] =
    [&headers::KEEP_ALIVE, &headers::PROXY_CONNECTION, &headers::UPGRADE];

/// Words of `Connection` that take no field off: what is for the connection itself, what frames the
/// answer, and what tells a client that a login counts for the connection, as it does here
/// (RFC 4559 section 4.2).
const NOT_NOMINATED: [&str; 6] =
    ["close", "keep-alive", "connection", "content-length", "transfer-encoding", "proxy-support"];

/// Whether a client is told the length of an answer. One that believed in that of a 204 would wait for
/// content.
///
/// # Source
/// RFC 9110 section 8.6.
pub fn may_say_length(status: StatusCode) -> bool {
    status != StatusCode::NO_CONTENT
}

/// The edits that make an answer one of the gateway's own connection. Most answers need none, and
/// none costs no allocation.
///
/// # Source
/// RFC 9110 sections 7.6.1 and 8.6; RFC 9112 section 7.1.
pub fn answer(status: StatusCode, fields: &impl Fields, to: Recipient) -> Vec<Edit> {
    let mut edits = Vec::new();
    let mut lengths = fields.values(&headers::CONTENT_LENGTH);
    if !may_say_length(status) {
        edits.extend(lengths.next().map(|_| Edit::Drop(header::CONTENT_LENGTH)));
    } else if let (Some(length), Some(_)) = (lengths.next(), lengths.next()) {
        // Equal lengths said twice are one length; unequal ones have been refused.
        let length = HeaderValue::from_bytes(length).ok();
        edits.extend(length.map(|length| Edit::Set(&headers::CONTENT_LENGTH, length)));
    }
    for word in fields.values(&headers::CONNECTION).filter_map(fields::text) {
        for name in word.split(',').map(str::trim).filter(|word| is_nominated(word)) {
            standing(fields, name).for_each(|(id, name)| remove(id, name, &mut edits));
        }
    }
    for field in HOP_BY_HOP {
        edits.extend(fields.has(field).then(|| Edit::Drop(field.name.clone())));
    }
    if !to.packet {
        for field in [&headers::HOST_ID, &headers::HOST_ID_FALLBACK_TIMEOUT] {
            edits.extend(fields.has(field).then(|| Edit::Drop(field.name.clone())));
        }
    }
    if !to.chunks && fields.has(&headers::TRANSFER_ENCODING) {
        edits.push(Edit::Drop(header::TRANSFER_ENCODING));
    }
    edits
}

/// Whether a word of `Connection` is the name of a field for this connection only. A field that frames
/// the answer, or that belongs to the BITS protocol, is never removed.
fn is_nominated(word: &str) -> bool {
    let kept = NOT_NOMINATED.iter().any(|kept| word.eq_ignore_ascii_case(kept));
    let protocol = word.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("bits-"));
    !kept && !protocol && HeaderName::try_from(word).is_ok()
}

/// The fields whose names compare equal to `name`.
fn standing<'f>(fields: &'f impl Fields, name: &'f str) -> impl Iterator<Item = (Id, &'f [u8])> {
    let names = fields.all().map(|(id, name, _)| (id, name));
    names.filter(move |(_, other)| other.eq_ignore_ascii_case(name.as_bytes()))
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    const PACKET: Recipient = Recipient { packet: true, chunks: true };

    fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let pairs = fields.iter().map(|(name, value)| {
            (HeaderName::try_from(*name).unwrap(), HeaderValue::from_static(value))
        });
        pairs.collect::<Vec<_>>().into_iter().fold(HeaderMap::new(), |mut map, (name, value)| {
            map.append(name, value);
            map
        })
    }

    /// What is left of the fields, as `name: value`.
    #[track_caller]
    fn check(
        status: u16,
        to: Recipient,
        fields: &[(&'static str, &'static str)],
        expected: &[&str],
    ) {
        let (status, mut map) = (StatusCode::from_u16(status).unwrap(), map(fields));
        for edit in answer(status, &map, to) {
            edit.apply_to(&mut map);
        }
        let mut left: Vec<_> =
            map.iter().map(|(n, v)| format!("{n}: {}", v.to_str().unwrap())).collect();
        left.sort();
        assert_eq!(left, expected, "{fields:?}");
        assert!(answer(status, &map, to).is_empty() || status == 204, "twice is once");
    }

    #[test]
    fn what_connection_names_ends_here() {
        check(
            200,
            PACKET,
            &[("Connection", "close, X-Own ,x-none"), ("X-Own", "1"), ("X-Own", "2"), ("A", "b")],
            &["a: b", "connection: close, X-Own ,x-none"],
        );
        check(200, PACKET, &[("Keep-Alive", "timeout=5"), ("Upgrade", "h2c")], &[]);
        check(200, PACKET, &[("Proxy-Connection", "x"), ("Via", "1.1 x")], &["via: 1.1 x"]);
    }

    #[test]
    fn what_frames_an_answer_or_speaks_for_the_protocol_stays_whoever_names_it() {
        for name in [
            "Content-Length",
            "Transfer-Encoding",
            "Proxy-Support",
            "BITS-Session-Id",
            "bits-packet-type",
        ] {
            let fields = [("Connection", name), (name, "7")];
            let mut map = map(&fields);
            for edit in answer(StatusCode::OK, &map, PACKET) {
                edit.apply_to(&mut map);
            }
            assert_eq!(map.len(), 2, "{name}");
        }
    }

    #[test]
    fn a_length_is_said_once_and_not_of_nothing() {
        let length = ("Content-Length", "5");
        check(200, PACKET, &[length, length], &["content-length: 5"]);
        check(304, PACKET, &[length], &["content-length: 5"]);
        check(204, PACKET, &[length, length], &[]);
        check(204, PACKET, &[("A", "b")], &["a: b"]);
    }

    #[test]
    fn a_page_leads_nowhere_and_an_old_client_gets_no_chunks() {
        let host = [("BITS-Host-Id", "evil"), ("BITS-Host-Id-Fallback-Timeout", "1")];
        check(200, Recipient { packet: false, ..PACKET }, &host, &[]);
        check(200, PACKET, &host, &["bits-host-id-fallback-timeout: 1", "bits-host-id: evil"]);
        let chunked = [("Transfer-Encoding", "chunked")];
        check(200, Recipient { chunks: false, ..PACKET }, &chunked, &[]);
        check(200, PACKET, &chunked, &["transfer-encoding: chunked"]);
    }

    #[test]
    fn an_ordinary_ack_needs_no_edit() {
        let ack = map(&[
            ("BITS-Packet-Type", "Ack"),
            ("BITS-Session-Id", "{x}"),
            ("Content-Length", "0"),
            ("Server", "Microsoft-IIS/10.0"),
            ("Connection", "keep-alive"),
        ]);
        let edits = answer(StatusCode::OK, &ack, PACKET);
        assert_eq!(edits.capacity(), 0, "{edits:?}");
    }
}
