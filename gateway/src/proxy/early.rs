//! Answers whose end is not the end of their exchange.
//!
//! An answer may come before its request has been sent as a whole. Pingora sends the rest of the
//! body and keeps the connection. A server that has not read the body as one takes it for its next
//! request, and the answer to that would be heard by whoever uses the connection next; so nobody
//! does.
//!
//! And an answer may have a body that the client does not get. The client has all that it gets with
//! the head, but Pingora takes its next request only when the body has ended, so the body gets a
//! moment for that and no more.

use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode, header};
use parking_lot::Mutex;
use pingora::http::ResponseHeader;
use pingora::proxy::Session;

use super::Ctx;
use crate::exchange::Exchange;

/// The connection to the backend, and whether its answer came early.
#[derive(Debug, Default)]
pub struct Early {
    upstream: Option<RawFd>,
    answered: bool,
    rest: Option<Rest>,
}

/// A second handle on a connection, until its exchange is over.
#[derive(Debug)]
struct Rest(Arc<Mutex<Option<OwnedFd>>>);

impl Drop for Rest {
    fn drop(&mut self) {
        self.0.lock().take();
    }
}

impl Early {
    /// For as long as a request uses this connection.
    pub fn connected(&mut self, upstream: RawFd) {
        *self = Self { upstream: Some(upstream), answered: false, rest: None };
    }

    /// The answer is read to its end.
    pub fn answer_ended(&mut self) {
        let Some(upstream) = self.upstream.take().filter(|_| self.answered) else { return };
        // The rest of the body still goes out. The pool finds the connection at its end when it is
        // given back, and drops it.
        hear_no_more(&borrow(upstream));
    }

    /// The body of the answer is not wanted: what has not come of it after `patience` is not
    /// waited for, and the connection serves nobody else. To be called when the request has been
    /// sent as a whole.
    pub fn drop_rest(&mut self, patience: Duration) {
        let Some(upstream) = self.upstream else { return };
        if patience.is_zero() {
            return hear_no_more(&borrow(upstream));
        }
        let Ok(second) = borrow(upstream).try_clone_to_owned() else {
            // For want of descriptors.
            return hear_no_more(&borrow(upstream));
        };
        let socket = Arc::new(Mutex::new(Some(second)));
        self.rest = Some(Rest(Arc::clone(&socket)));
        tokio::spawn(async move {
            tokio::time::sleep(patience).await;
            if let Some(upstream) = socket.lock().as_ref() {
                hear_no_more(upstream);
            }
        });
    }

    /// The exchange is over, and the connection may serve another request.
    pub fn over(&mut self) {
        self.rest = None;
    }
}

fn borrow<'a>(upstream: RawFd) -> BorrowedFd<'a> {
    // SAFETY: Pingora keeps the connection open while it passes an answer through the filters of
    // its request, which is where this is called from, and no borrow outlives such a call.
    unsafe { BorrowedFd::borrow_raw(upstream) }
}

/// What has arrived can still be read, and then comes the end. Failing means that the connection is
/// gone already.
fn hear_no_more(upstream: &impl AsFd) {
    let _ = socket2::SockRef::from(upstream).shutdown(Shutdown::Read);
}

/// Looks at the head of a backend's answer as it came.
pub fn note(downstream: &Session, response: &ResponseHeader, ctx: &mut Ctx) {
    // A connection that is its client's alone serves nobody else, and may be in mid-login.
    let Exchange { arrival, admitted, attempt, .. } = &ctx.exchange;
    if !arrival.has_body || attempt.body_done.is_some() || admitted.login.bound {
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
