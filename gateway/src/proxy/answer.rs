//! Writing the gateway's own answers.

use gateway_core::fault::Fault;
use gateway_core::protocol::headers;
use gateway_core::protocol::packet::session_of;
use http::HeaderValue;
use pingora::Result;
use pingora::http::{RequestHeader, ResponseHeader};

/// The Ack for a fault. It echoes the session id, if the request had one.
///
/// # Source
/// The fault table; MC-BUP 2.2.3 to 2.2.11 for what every Ack carries.
pub fn ack(fault: Fault, request: &RequestHeader) -> Result<ResponseHeader> {
    let row = fault.row();
    let mut answer = ResponseHeader::build(row.status, Some(8))?;
    answer.insert_header(headers::PACKET_TYPE.wire, "Ack")?;
    if let Some(session) = session_of(&request.headers) {
        answer.insert_header(headers::SESSION_ID.wire, session.as_str())?;
    }
    if let Some(code) = row.hresult {
        // Both names, because the two official texts disagree.
        let code = HeaderValue::try_from(code.to_string()).ok();
        if let Some(code) = code {
            answer.insert_header(headers::ERROR.wire, code.clone())?;
            answer.insert_header(headers::ERROR_CODE.wire, code)?;
            answer.insert_header(headers::ERROR_CONTEXT.wire, "0x5")?;
        }
    }
    answer.insert_header(headers::CONTENT_LENGTH.wire, "0")?;
    Ok(answer)
}

/// The answer to a request that is no packet: the status of the fault and nothing of BITS.
pub fn plain(fault: Fault) -> Result<ResponseHeader> {
    let status = match fault {
        // "Start over" means nothing outside the protocol.
        Fault::UnknownSession | Fault::BackendRemoved => http::StatusCode::SERVICE_UNAVAILABLE,
        other => other.row().status,
    };
    let mut answer = ResponseHeader::build(status, Some(4))?;
    answer.insert_header(headers::CONTENT_LENGTH.wire, "0")?;
    Ok(answer)
}
