//! Writing the gateway's own answers.

use gateway_core::fault::{Fault, ack_headers};
use gateway_core::protocol::headers;
use gateway_core::protocol::packet::session_of;
use http::{Method, StatusCode};
use pingora::Result;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::proxy::Session;

use super::Gateway;

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

impl Gateway {
    /// `OPTIONS *` asks for this server itself, mostly to see whether it lives (RFC 9110 section
    /// 9.3.7).
    pub(super) async fn answer_options(&self, downstream: &mut Session) -> Result<()> {
        let mut response = ResponseHeader::build(StatusCode::OK, Some(1))?;
        response.insert_header(headers::CONTENT_LENGTH.wire, "0")?;
        self.take_leave(downstream);
        downstream.write_response_header(Box::new(response), true).await
    }
}
