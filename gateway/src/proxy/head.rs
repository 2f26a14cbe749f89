//! What the head of a request says of its host and body, once the guard has let it pass.

use gateway_core::protocol::host::Host;
use gateway_core::protocol::passage::Edit;
use http::header;
use pingora::Result;
use pingora::http::RequestHeader;
use pingora::proxy::Session;

pub(super) fn host_of(head: &http::request::Parts) -> Option<Host<'_>> {
    head.headers.get(header::HOST)?.to_str().ok().and_then(Host::parse)
}

pub(super) fn expects_continue(downstream: &Session) -> bool {
    downstream.req_header().headers.contains_key(header::EXPECT)
}

pub(super) fn is_chunked(head: &http::request::Parts) -> bool {
    head.headers.contains_key(header::TRANSFER_ENCODING)
}

pub(super) fn body_length(head: &http::request::Parts) -> u64 {
    let length = head.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    length.and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

/// Applies edits to the head of a request.
pub(super) fn apply(edits: Vec<Edit>, request: &mut RequestHeader) -> Result<()> {
    for edit in edits {
        match edit {
            Edit::Remove(name) => _ = request.remove_header(&name),
            Edit::Set(field, value) => request.insert_header(field.wire, value)?,
            Edit::Append(field, value) => _ = request.append_header(field.wire, value)?,
        }
    }
    Ok(())
}
