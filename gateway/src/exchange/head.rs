//! What the head of a request says of its target, host and body, once the guard has let it pass.

use gateway_core::protocol::host::Host;
use http::{header, request};

/// The target as it stands in the request line.
pub fn target_of(head: &request::Parts) -> &[u8] {
    head.uri.path_and_query().map_or(b"", |target| target.as_str().as_bytes())
}

pub fn host_of(head: &request::Parts) -> Option<Host<'_>> {
    head.headers.get(header::HOST)?.to_str().ok().and_then(Host::parse)
}

pub fn expects_continue(head: &request::Parts) -> bool {
    head.headers.contains_key(header::EXPECT)
}

pub fn is_chunked(head: &request::Parts) -> bool {
    head.headers.contains_key(header::TRANSFER_ENCODING)
}

/// Bytes of the body that is announced; 0 where it is chunked.
pub fn body_length(head: &request::Parts) -> u64 {
    let length = head.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    length.and_then(|digits| digits.parse().ok()).unwrap_or(0)
}
