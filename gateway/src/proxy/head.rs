//! What the head of a request says of its host and body, once the guard has let it pass.

use gateway_core::protocol::host::Host;
use http::header;
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
