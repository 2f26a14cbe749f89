//! The gateway's own answers.

use gateway_core::fault::{Fault, ack_headers};
use gateway_core::protocol::head::RequestHead;
use gateway_core::protocol::headers;
use gateway_core::protocol::packet::session_of;
use http::{HeaderValue, Method, StatusCode};

use super::Exchange;
use super::head::{body_length, expects_continue, is_chunked};
use crate::process::readiness::Phase;

/// An answer without a body, as it is written.
#[derive(Debug)]
pub struct OwnAnswer {
    pub status: StatusCode,
    /// Names as they stand on the wire.
    pub fields: Vec<(&'static str, HeaderValue)>,
    /// No request can follow it on its connection.
    pub last: bool,
}

/// The answer for a fault. Whatever the client still sends of its body is drained after it, on
/// this connection where that is quick, else while the connection closes.
///
/// # Source
/// The fault table; MC-BUP 2.2.3 to 2.2.11 for what every Ack carries.
pub fn answer_for(fault: Fault, head: &RequestHead, exchange: &Exchange) -> OwnAnswer {
    let config = &exchange.arrival.farm.config;
    let (status, fields) = match exchange.arrival.is_packet {
        true => ack(fault, head),
        false => plain(fault, &config.http.methods),
    };
    // A body that waits for a 100 which will not come cannot be drained.
    let endless = expects_continue(head) || is_chunked(head);
    let too_long = body_length(head) > config.limits.drain_bytes;
    // What follows is a body of unknown length, not a request.
    let unframed = fault == Fault::LengthRequired;
    if let Some(conn) = exchange.arrival.conn.as_ref().filter(|_| unframed) {
        conn.body_follows();
    }
    // Nothing that the client could ask for on this connection is served.
    let denied = fault == Fault::AccessDenied;
    OwnAnswer { status, fields, last: endless || too_long || unframed || denied }
}

/// What is asked of this server itself, mostly to see whether it lives: `OPTIONS *` (RFC 9110 section
/// 9.3.7), and the pages of the ops listener for balancers where they are `public`. Whom the listener
/// serves does not count: a balancer asks in its own name.
pub fn page_for(head: &RequestHead, public: bool, phase: Phase) -> Option<OwnAnswer> {
    let ready = match head.target() {
        b"*" => true,
        b"/livez" | b"/readyz" if !public || !is_probe(head) => return None,
        b"/livez" => true,
        b"/readyz" => phase == Phase::Ready,
        _ => return None,
    };
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let fields = vec![(headers::CONTENT_LENGTH.wire, HeaderValue::from_static("0"))];
    Some(OwnAnswer { status, fields, last: false })
}

/// HAProxy asks by OPTIONS where nothing else is configured. Without a body, which would be read as
/// the next request.
fn is_probe(head: &RequestHead) -> bool {
    let methods = [Method::GET, Method::HEAD, Method::OPTIONS];
    let named = methods.iter().any(|method| method.as_str().as_bytes() == head.method());
    named && body_length(head) == 0 && !is_chunked(head)
}

type Head = (StatusCode, Vec<(&'static str, HeaderValue)>);

/// It echoes the session id, if the request had one.
fn ack(fault: Fault, request: &RequestHead) -> Head {
    let session = session_of(request);
    let fields = ack_headers(fault, session.as_ref());
    (fault.row().status, fields.map(|(field, value)| (field.wire, value)).collect())
}

/// For a request that is no packet: the status of the fault and nothing of BITS. `methods` are those
/// that are served.
fn plain(fault: Fault, methods: &[Method]) -> Head {
    let status = match fault {
        // "Start over" means nothing outside the protocol.
        Fault::UnknownSession | Fault::BackendRemoved => StatusCode::SERVICE_UNAVAILABLE,
        Fault::MethodNotServed => StatusCode::METHOD_NOT_ALLOWED,
        other => other.row().status,
    };
    let mut fields = Vec::with_capacity(3);
    if let Some(seconds) = fault.retry_after().filter(|_| fault.row().status == status) {
        fields.push((headers::RETRY_AFTER.wire, HeaderValue::from_static(seconds)));
    }
    if fault == Fault::MethodNotServed {
        let allowed: Vec<&str> = methods.iter().map(Method::as_str).collect();
        fields.extend(HeaderValue::try_from(allowed.join(", ")).ok().map(|all| ("Allow", all)));
    }
    fields.push((headers::CONTENT_LENGTH.wire, HeaderValue::from_static("0")));
    (status, fields)
}

#[cfg(test)]
#[path = "own_answer_tests.rs"]
mod tests;
