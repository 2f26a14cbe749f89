//! From a client to a server.

use std::sync::LazyLock;

use http::HeaderValue;

use super::forwarding::{ForwardedMode, Sender, forwarding};
use super::{Edit, remove};
use crate::protocol::head::is_for_the_next_hop;
use crate::protocol::headers::{self, Id, KNOWN};
use crate::protocol::trace_context::TraceParent;
use crate::protocol::{Fields, reserved};

/// What a request says to its server, beside and in place of what its client says.
#[derive(Debug, Clone)]
pub struct Onward<'a> {
    /// Which fields tell of the client.
    pub forwarded: ForwardedMode,
    /// Who sends it; `None` where that is not known.
    pub sender: Option<Sender<'a>>,
    /// The Host for the server, where it is not the client's.
    pub host: Option<&'a HeaderValue>,
    /// By this the gateway knows the request when it comes back.
    pub loop_entry: Option<&'a HeaderValue>,
    /// What it adds to `Via`.
    pub via: Option<Via>,
    /// The id by which the server knows the session, where the client has another.
    pub session: Option<HeaderValue>,
    /// The length that it says in place of none, or of chunks.
    pub length: Option<u64>,
    /// Its carrier writes `X-Request-Id`, so that of its client ends here.
    pub own_id: bool,
}

/// What the gateway says of itself in `Via`: the version in which it has received the request.
///
/// # Source
/// RFC 9110 section 7.6.3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    Http10,
    Http11,
}

impl Via {
    fn value(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Http10 => "1.0 bits-gateway",
            Self::Http11 => "1.1 bits-gateway",
        })
    }
}

/// The edits that make a client's request one for its server.
///
/// What only servers and proxies say does not pass from a client. `Expect` has been answered here.
///
/// # Source
/// MC-BUP 2.2.2 to 2.2.10 for the length; RFC 9110 sections 7.6.1 and 10.1.1.
pub fn request(fields: &impl Fields, onward: Onward<'_>) -> Vec<Edit> {
    // Most get a field of the client and one by which loops are seen, and lose two.
    let mut edits = Vec::with_capacity(4);
    let is_id = |id, name: &[u8]| id == Id::REQUEST_ID || id == Id::OTHER && is_like_id(name);
    let dropped = fields
        .all()
        .filter(|(id, name, _)| is_dropped(*id, name) || onward.own_id && is_id(*id, name));
    dropped.for_each(|(id, name, _)| remove(id, name, &mut edits));
    if TraceParent::of(fields) == TraceParent::Malformed {
        edits.extend(
            [&headers::TRACEPARENT, &headers::TRACESTATE].map(|f| Edit::Drop(f.name.clone())),
        );
    }
    if let Some(sender) = &onward.sender {
        forwarding(fields, onward.forwarded, sender, &mut edits);
    }
    edits.extend(onward.host.map(|host| Edit::Set(&headers::HOST, host.clone())));
    edits.extend(onward.loop_entry.map(|entry| Edit::Append(&headers::CDN_LOOP, entry.clone())));
    edits.extend(onward.via.map(|via| Edit::Append(&headers::VIA, via.value())));
    edits.extend(onward.session.map(|id| Edit::Set(&headers::SESSION_ID, id)));
    if let Some(length) = onward.length.filter(|_| !fields.has(&headers::CONTENT_LENGTH)) {
        if fields.has(&headers::TRANSFER_ENCODING) {
            edits.push(Edit::Drop(headers::TRANSFER_ENCODING.name.clone()));
        }
        let length = match length {
            0 => HeaderValue::from_static("0"),
            length => HeaderValue::from(length),
        };
        edits.push(Edit::Set(&headers::CONTENT_LENGTH, length));
    }
    edits
}

/// Whether some servers read the name of a field as `X-Request-Id`.
fn is_like_id(name: &[u8]) -> bool {
    let wire = headers::REQUEST_ID.wire.as_bytes();
    let alike = |(&byte, &known): (&u8, &u8)| {
        byte.eq_ignore_ascii_case(&known) || (byte, known) == (b'_', b'-')
    };
    name.len() == wire.len() && name.iter().zip(wire).all(alike)
}

/// Whether a field ends at the gateway: what only servers and proxies say, and what is for the
/// connection to the gateway alone. `Transfer-Encoding` frames the body, so it belongs to who carries
/// that.
fn is_dropped(id: Id, name: &[u8]) -> bool {
    /// A bit for each field that has a number.
    static DROPPED: LazyLock<u64> = LazyLock::new(|| {
        let dropped = KNOWN.iter().filter(|field| is_dropped_name(field.id, field.name.as_ref()));
        dropped.fold(0, |bits, field| bits | field.id.bit())
    });
    if id == Id::OTHER { is_dropped_name(id, name) } else { *DROPPED & id.bit() != 0 }
}

fn is_dropped_name(id: Id, name: &[u8]) -> bool {
    let for_the_gateway =
        matches!(id, Id::EXPECT | Id::PROXY_AUTHENTICATE | Id::PROXY_AUTHORIZATION | Id::TRAILER);
    is_for_the_next_hop(id)
        || for_the_gateway
        || reserved::is_server_field(id, name)
        || reserved::is_proxy_field(id, name)
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderName};

    use super::*;

    const PLAIN: Onward<'static> = Onward {
        forwarded: ForwardedMode::Off,
        sender: None,
        host: None,
        loop_entry: None,
        via: None,
        session: None,
        length: None,
        own_id: false,
    };

    #[track_caller]
    fn check(fields: &[(&'static str, &'static str)], onward: Onward<'_>, expected: &[&str]) {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(HeaderName::try_from(*name).unwrap(), HeaderValue::from_static(value));
        }
        for edit in request(&map, onward) {
            edit.apply_to(&mut map);
        }
        let mut left: Vec<_> =
            map.iter().map(|(n, v)| format!("{n}: {}", v.to_str().unwrap())).collect();
        left.sort();
        assert_eq!(left, expected, "{fields:?}");
    }

    #[test]
    fn what_a_client_may_not_say_ends_here() {
        check(
            &[
                ("BITS-Error", "0x1"),
                ("BITS-Host-Id", "x"),
                ("X-Forwarded-For", "192.0.2.1"),
                ("X-Forwarded-For", "192.0.2.2"),
                ("X_Real_IP", "192.0.2.1"),
                ("Expect", "100-continue"),
                ("BITS-Session-Id", "{x}"),
                ("Content-Name", "a.bin"),
                ("Via", "1.1 x"),
                ("Connection", "close"),
                ("Keep-Alive", "5"),
                ("Proxy-Authorization", "Basic eDp5"),
                ("Proxy-Connection", "close"),
                ("TE", "trailers"),
                ("Trailer", "X"),
                ("Upgrade", "h2c"),
                ("HTTP2-Settings", "x"),
            ],
            PLAIN,
            &["bits-session-id: {x}", "content-name: a.bin", "via: 1.1 x"],
        );
    }

    #[test]
    fn what_the_gateway_says_stands_in_place_of_what_the_client_said() {
        let (host, entry) =
            (HeaderValue::from_static("up.test"), HeaderValue::from_static("g;id=2"));
        let onward = Onward {
            host: Some(&host),
            loop_entry: Some(&entry),
            session: Some(HeaderValue::from_static("{y}")),
            length: Some(0),
            ..PLAIN
        };
        check(
            &[("Host", "alias.test"), ("BITS-Session-Id", "{x}"), ("CDN-Loop", "g;id=1")],
            onward.clone(),
            &[
                "bits-session-id: {y}",
                "cdn-loop: g;id=1",
                "cdn-loop: g;id=2",
                "content-length: 0",
                "host: up.test",
            ],
        );
        let onward = Onward { length: Some(10), ..PLAIN };
        let chunks = [("Transfer-Encoding", "chunked"), ("Host", "a")];
        check(&chunks, onward.clone(), &["content-length: 10", "host: a"]);
        check(&chunks, PLAIN, &["host: a", "transfer-encoding: chunked"]);
        check(&[("Content-Length", "0"), ("Host", "a")], onward, &["content-length: 0", "host: a"]);
        check(&[("Host", "a")], PLAIN, &["host: a"]);
    }

    #[test]
    fn via_is_added_to_that_of_others() {
        for (via, told) in
            [(Via::Http10, "via: 1.0 bits-gateway"), (Via::Http11, "via: 1.1 bits-gateway")]
        {
            let onward = Onward { via: Some(via), ..PLAIN };
            check(&[("Host", "a")], onward.clone(), &["host: a", told]);
            let fields = [("Host", "a"), ("Via", "1.1 varnish")];
            check(&fields, onward, &["host: a", told, "via: 1.1 varnish"]);
        }
    }

    #[test]
    fn the_id_of_a_client_ends_where_the_gateway_has_its_own() {
        let fields =
            [("Host", "a"), ("X-Request-Id", "1"), ("x_request-ID", "2"), ("X-Request-Idx", "3")];
        let passed = ["host: a", "x-request-id: 1", "x-request-idx: 3", "x_request-id: 2"];
        check(&fields, PLAIN, &passed);
        let onward = Onward { own_id: true, ..PLAIN };
        check(&fields, onward, &["host: a", "x-request-idx: 3"]);
    }

    #[test]
    fn a_trace_passes_and_what_is_none_does_not() {
        const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let state = "tracestate: a=1";
        let trace = format!("traceparent: {TRACE}");
        check(&[("traceparent", TRACE), ("tracestate", "a=1")], PLAIN, &[&trace, state]);
        check(&[("traceparent", "x"), ("tracestate", "a=1"), ("A", "b")], PLAIN, &["a: b"]);
        check(&[("tracestate", "a=1")], PLAIN, &[state]);
    }
}
