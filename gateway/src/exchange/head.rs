//! What the head of a request says of its host and body, once the guard has let it pass.

use gateway_core::protocol::head::RequestHead;
use gateway_core::protocol::host::Host;
use gateway_core::protocol::range::number;
use gateway_core::protocol::{Fields, headers};

pub fn host_of(head: &RequestHead) -> Option<Host<'_>> {
    head.first(&headers::HOST).and_then(Host::parse)
}

pub fn expects_continue(head: &RequestHead) -> bool {
    head.has(&headers::EXPECT)
}

pub fn is_chunked(head: &RequestHead) -> bool {
    head.has(&headers::TRANSFER_ENCODING)
}

/// Bytes of the body that is announced; 0 where it is chunked.
pub fn body_length(head: &RequestHead) -> u64 {
    head.first(&headers::CONTENT_LENGTH).and_then(|digits| number(digits).ok()).unwrap_or(0)
}
