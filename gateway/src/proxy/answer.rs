//! Writing the gateway's own answers.

use gateway_core::fault::{Fault, ack_headers};
use gateway_core::protocol::headers;
use gateway_core::protocol::packet::session_of;
use http::Method;
use pingora::Result;
use pingora::http::{RequestHeader, ResponseHeader};

/// The Ack for a fault. It echoes the session id, if the request had one.
///
/// # Source
/// The fault table; MC-BUP 2.2.3 to 2.2.11 for what every Ack carries.
pub fn ack(fault: Fault, request: &RequestHeader) -> Result<ResponseHeader> {
    let mut answer = ResponseHeader::build(fault.row().status, Some(8))?;
    let session = session_of(&request.headers);
    for (field, value) in ack_headers(fault, session.as_ref()) {
        answer.insert_header(field.wire, value)?;
    }
    Ok(answer)
}

/// The answer to a request that is no packet: the status of the fault and nothing of BITS.
/// `methods` are those that are served.
pub fn plain(fault: Fault, methods: &[Method]) -> Result<ResponseHeader> {
    let status = match fault {
        // "Start over" means nothing outside the protocol.
        Fault::UnknownSession | Fault::BackendRemoved => http::StatusCode::SERVICE_UNAVAILABLE,
        Fault::MethodNotServed => http::StatusCode::METHOD_NOT_ALLOWED,
        other => other.row().status,
    };
    let mut answer = ResponseHeader::build(status, Some(4))?;
    if let Some(seconds) = fault.retry_after().filter(|_| fault.row().status == status) {
        answer.insert_header(headers::RETRY_AFTER.wire, seconds)?;
    }
    if fault == Fault::MethodNotServed {
        let allowed: Vec<&str> = methods.iter().map(Method::as_str).collect();
        answer.insert_header("Allow", allowed.join(", "))?;
    }
    answer.insert_header(headers::CONTENT_LENGTH.wire, "0")?;
    Ok(answer)
}
