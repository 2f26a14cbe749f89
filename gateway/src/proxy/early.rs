//! Answers that come before their request has been sent as a whole.
//!
//! Pingora sends the rest of the body and keeps the connection. A server that has not read the body
//! as one takes it for its next request, and the answer to that would be heard by the client that
//! uses the connection next; so no client does.

use std::net::Shutdown;
use std::os::fd::{BorrowedFd, RawFd};

use http::{Method, StatusCode, header};
use pingora::http::ResponseHeader;
use pingora::proxy::Session;

use super::Ctx;
use crate::exchange::Exchange;

/// The connection to the backend, and whether its answer came early.
#[derive(Debug, Default)]
pub struct Early {
    upstream: Option<RawFd>,
    answered: bool,
}

impl Early {
    /// For as long as a request uses this connection.
    pub fn connected(&mut self, upstream: RawFd) {
        *self = Self { upstream: Some(upstream), answered: false };
    }

    /// The answer is read to its end.
    pub fn answer_ended(&mut self) {
        let Some(upstream) = self.upstream.take().filter(|_| self.answered) else { return };
        // SAFETY: Pingora keeps the connection open while it passes an answer through the filters of
        // its request, which is where this is called from, and the borrow does not outlive the call.
        let upstream = unsafe { BorrowedFd::borrow_raw(upstream) };
        // The rest of the body still goes out. The pool finds the connection at its end when it is
        // given back, and drops it. Failing means that the connection is gone already.
        let _ = socket2::SockRef::from(&upstream).shutdown(Shutdown::Read);
    }
}

/// Looks at the head of a backend's answer as it came.
pub fn note(downstream: &Session, response: &ResponseHeader, ctx: &mut Ctx) {
    let Exchange { arrival, attempt, .. } = &ctx.exchange;
    if !arrival.has_body || attempt.body_done.is_some() {
        return;
    }
    ctx.early.answered = true;
    let empty = response.headers.get(header::CONTENT_LENGTH).is_some_and(|length| length == "0")
        || matches!(response.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
        || downstream.req_header().method == Method::HEAD;
    if empty {
        ctx.early.answer_ended();
    }
}
