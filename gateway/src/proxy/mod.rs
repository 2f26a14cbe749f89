//! The carrier of plain HTTP and, today, of packets: Pingora's phases.
//!
//! Nothing is decided here: each phase asks [`crate::exchange`] and does what it says, in the words of
//! Pingora.

mod answer;
mod bound;
mod early;
pub mod errors;

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use gateway_core::fault::Fault;
use gateway_core::protocol::answer::AnswerHead;
use gateway_core::protocol::framing::{fits, is_framed_once};
use gateway_core::protocol::head::{HeadLimits, RequestHead};
use http::{StatusCode, header};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::prelude::HttpPeer;
use pingora::protocols::Digest;
use pingora::proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};
use pingora::{Error, ErrorType, Result};

use crate::clock;
use crate::exchange::failure::ExchangeFailure;
use crate::exchange::head::expects_continue;
use crate::exchange::own_answer::to_options;
use crate::exchange::report::Sent;
use crate::exchange::{Course, Exchange, Gateway, NotPassed, Way};
use crate::failpoint;
use crate::guard::GuardStream;
use crate::pool;

use answer::{GOES_ELSEWHERE, apply_to_request};
use early::Early;

/// More tries than any rule, or the longest hold at a second each, ever makes: the end that Pingora
/// demands.
pub const TRIES: usize = 512;

/// First pool key that the pools of [`crate::farm`] do not use.
const OWN_KEYS: u64 = 2;

/// The application that Pingora runs.
pub struct Proxy {
    gateway: Arc<Gateway>,
}

/// What Pingora keeps of one request on its way through.
pub struct Ctx {
    exchange: Exchange,
    /// The head of the request as it came.
    head: Arc<RequestHead>,
    early: Early,
    /// We answered in the backend's place after it had begun to.
    replaced: bool,
}

impl Proxy {
    pub fn new(gateway: Arc<Gateway>) -> Self {
        Self { gateway }
    }

    /// The answer is the last one on its connection if the process is about to end: the next
    /// request belongs to another.
    fn take_leave(&self, downstream: &mut Session) {
        if downstream.is_process_shutting_down() || self.gateway.is_leaving() {
            downstream.set_keepalive(None);
        }
    }
}

/// The head as its exchange reads it. The guard has checked it before Pingora saw it.
fn read_head(head: &RequestHeader) -> Result<RequestHead> {
    let fields = head.headers.iter();
    let fields = fields.map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()));
    let read = RequestHead::of(head.method.as_str().as_bytes(), head.raw_path(), fields);
    read.ok_or_else(|| Error::new(ErrorType::InvalidHTTPHeader))
}

/// The head of an answer as its exchange reads it. `None` if it says in two ways where the answer
/// ends, or is too large.
fn read_answer(head: &ResponseHeader, limits: &HeadLimits) -> Option<AnswerHead> {
    if !is_framed_once(head) || !fits(head, limits) {
        return None;
    }
    let fields = head.headers.iter();
    let fields = fields.map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()));
    AnswerHead::of(head.version, head.status, fields)
}

/// Has a request go over a new connection that serves no other.
fn use_once(peer: &mut HttpPeer, ctx: &Ctx) {
    // A key of its own finds nothing pooled, and nobody finds what it leaves.
    peer.group_key = ctx.exchange.arrival.id.wrapping_add(OWN_KEYS);
    peer.options.idle_timeout = Some(Duration::ZERO);
}

/// The status that the client was sent. Our 100 Continue is no answer, though Pingora counts it.
fn final_status(downstream: &Session) -> Option<StatusCode> {
    let written = downstream.response_written()?.status;
    (!written.is_informational()).then_some(written)
}

/// A request that ends for a reason that its exchange knows.
fn ended() -> Box<Error> {
    Error::new(ErrorType::ConnectionClosed)
}

#[async_trait]
impl ProxyHttp for Proxy {
    type CTX = Ctx;

    fn new_ctx(&self) -> Ctx {
        let exchange = self.gateway.expect();
        Ctx { exchange, head: Arc::default(), early: Early::default(), replaced: false }
    }

    async fn early_request_filter(&self, downstream: &mut Session, ctx: &mut Ctx) -> Result<()> {
        let stream = downstream.stream().and_then(|io| io.as_any().downcast_ref::<GuardStream>());
        let conn = stream.map(|guard| Arc::clone(guard.conn()));
        ctx.head = Arc::new(read_head(downstream.req_header())?);
        self.gateway.arrive(conn, &ctx.head, &mut ctx.exchange);
        failpoint::hit("early_request_filter", &ctx.head);
        let timeouts = &ctx.exchange.arrival.farm.config.timeouts;
        // The guard keeps this time and that of the answer, see `patience`.
        downstream.set_read_timeout(None);
        downstream.set_write_timeout(Some(timeouts.client_write));
        // An early answer must not cut the body off: the reset would destroy the answer.
        downstream.set_close_on_response_before_downstream_finish(false);
        // The gateway itself says 100 where a client waits for it; nobody asked for any other 1xx.
        downstream.as_downstream_mut().set_ignore_info_resp(true);
        // A client that closes its half has sent its request and waits; one that is dead is found
        // out by the next request of its session, or by its answer.
        downstream.set_abort_on_close(false);
        if downstream.req_header().headers.contains_key(header::TRANSFER_ENCODING) {
            // The guard lets no request follow a chunked one.
            downstream.set_keepalive(None);
        } else if downstream.get_keepalive().is_some() {
            downstream.set_keepalive(Some(timeouts.client_idle.as_secs().max(1)));
        }
        Ok(())
    }

    async fn request_filter(&self, downstream: &mut Session, ctx: &mut Ctx) -> Result<bool> {
        failpoint::hit("request_filter", &ctx.head);
        if downstream.req_header().raw_path() == b"*" {
            self.write(downstream, to_options()).await?;
            return Ok(true);
        }
        match self.gateway.admit(&ctx.head, &mut ctx.exchange).await {
            Ok(Course::Goes) => {
                if expects_continue(&ctx.head) {
                    // The body is wanted now, so the client need not wait for a backend's 100. If
                    // the client has gone, reading its body fails.
                    let _ = downstream.as_downstream_mut().write_continue_response().await;
                }
                Ok(false)
            }
            Ok(Course::Joined(answer)) => {
                self.answer_again(downstream, ctx, &answer).await?;
                Ok(true)
            }
            Err(fault) => {
                ctx.exchange.findings.fault = Some(fault);
                self.answer(downstream, ctx, fault).await?;
                Ok(true)
            }
        }
    }

    async fn upstream_peer(
        &self,
        _downstream: &mut Session,
        ctx: &mut Ctx,
    ) -> Result<Box<HttpPeer>> {
        failpoint::hit("upstream_peer", &ctx.head);
        let next = self.gateway.next_try(&ctx.head, &mut ctx.exchange).await;
        let (backend, way) = next.map_err(|_| Error::new(ErrorType::ConnectNoRoute))?;
        let repeatable = ctx.exchange.admitted.repeatable;
        let peer = ctx.exchange.arrival.farm.peer(backend, repeatable).cloned();
        let mut peer = peer.ok_or_else(|| Error::new(ErrorType::ConnectNoRoute))?;
        // The guard looks at the client for as long as the answer is awaited, and keeps the time.
        peer.options.read_timeout = None;
        pool::spare(&mut peer);
        pool::keep_to_thread(&mut peer);
        match way {
            Way::Shared => {}
            Way::Once => use_once(&mut peer, ctx),
            Way::Bound(bond) => bound::bind(&mut peer, &bond, &ctx.exchange),
        }
        Ok(Box::new(peer))
    }

    async fn connected_to_upstream(
        &self,
        _downstream: &mut Session,
        reused: bool,
        _peer: &HttpPeer,
        fd: std::os::fd::RawFd,
        _digest: Option<&Digest>,
        ctx: &mut Ctx,
    ) -> Result<()> {
        ctx.early.connected(fd);
        // SAFETY: Pingora owns the connection and keeps it open for the length of this call; the
        // descriptor is duplicated before the call returns.
        let socket = unsafe { BorrowedFd::borrow_raw(fd) };
        self.gateway.watch(socket, &ctx.exchange);
        self.gateway.connected(reused, socket, &mut ctx.exchange).map_err(|_| ended())
    }

    async fn upstream_request_filter(
        &self,
        _downstream: &mut Session,
        request: &mut RequestHeader,
        ctx: &mut Ctx,
    ) -> Result<()> {
        failpoint::hit("upstream_request_filter", &ctx.head);
        if let Some(spelling) = &ctx.exchange.admitted.spelling {
            request.set_raw_path(spelling.as_bytes())?;
        }
        // Pingora has taken a Transfer-Encoding off by now and puts its own on later.
        let edits = self.gateway.onward(&ctx.head, &ctx.exchange);
        apply_to_request(edits.map_err(|_| Error::new(ErrorType::InternalError))?, request)
    }

    async fn request_body_filter(
        &self,
        _downstream: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        ctx: &mut Ctx,
    ) -> Result<()> {
        failpoint::hit("request_body_filter", &ctx.head);
        let bytes = body.as_ref().map_or(0, Bytes::len);
        let came = self.gateway.body_came(bytes, end, &mut ctx.exchange).await;
        came.map_err(|fault| match fault {
            Fault::BadRequest => Error::new(ErrorType::InvalidHTTPHeader),
            _ => ended(),
        })
    }

    async fn upstream_response_filter(
        &self,
        downstream: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut Ctx,
    ) -> Result<()> {
        failpoint::hit("upstream_response_filter", &ctx.head);
        let refused = |_| Error::new(errors::REFUSED_ANSWER);
        let read = read_answer(response, &ctx.exchange.arrival.farm.config.limits.head);
        let Some(answer) = read else {
            ctx.exchange.attempt.answer_began = true;
            ctx.exchange.findings.fault = Some(Fault::BackendAnswer);
            return Err(refused(Fault::BackendAnswer));
        };
        if !self.gateway.answer_came(&answer, &mut ctx.exchange).map_err(refused)? {
            return Ok(());
        }
        early::note(downstream, response, ctx);
        ctx.exchange.answered.backend_status = Some(response.status.as_u16());
        self.gateway.unwatch(&ctx.exchange);
        let challenges = self.gateway.refuse_login(&answer, &mut ctx.exchange).map_err(refused)?;
        if let Some(challenges) = challenges {
            response.remove_header(&header::WWW_AUTHENTICATE);
            for challenge in challenges {
                response.append_header(header::WWW_AUTHENTICATE, challenge)?;
            }
        }
        self.gateway.note_challenge(&answer, &mut ctx.exchange);
        ctx.exchange.attempt.replayable = !downstream.as_ref().retry_buffer_truncated();
        let learned = self.gateway.learn(&ctx.head, &answer, &mut ctx.exchange);
        match learned.await {
            Ok(Some(learned)) => self.pass(downstream, (&answer, response), learned, ctx).await,
            Ok(None) => Ok(()),
            Err(NotPassed::Elsewhere) => Err(Error::new(GOES_ELSEWHERE)),
            Err(NotPassed::Refused) => Err(Error::new(errors::REFUSED_ANSWER)),
        }
    }

    fn upstream_response_body_filter(
        &self,
        _downstream: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        ctx: &mut Ctx,
    ) -> Result<Option<Duration>> {
        if end {
            ctx.early.answer_ended();
        }
        if let Some(conn) = &ctx.exchange.arrival.conn {
            if end {
                conn.answer_is_here();
            } else {
                conn.expect_answer(clock::steady() + ctx.exchange.attempt.patience);
            }
        }
        if ctx.exchange.answered.drop_body {
            *body = None;
        }
        Ok(None)
    }

    async fn response_filter(
        &self,
        downstream: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut Ctx,
    ) -> Result<()> {
        failpoint::hit("response_filter", &ctx.head);
        answer::finish_head(downstream, response, &ctx.exchange)?;
        if ctx.exchange.arrival.conn.as_ref().is_some_and(|conn| conn.is_half_closed()) {
            downstream.set_keepalive(None);
        }
        self.take_leave(downstream);
        ctx.exchange.sent.status = Some(response.status.as_u16());
        Ok(())
    }

    fn fail_to_connect(
        &self,
        _downstream: &mut Session,
        _peer: &HttpPeer,
        ctx: &mut Ctx,
        mut error: Box<Error>,
    ) -> Box<Error> {
        let failure = errors::connect_failure(&error);
        error.set_retry(self.gateway.connect_failed(failure, &mut ctx.exchange));
        error
    }

    fn error_while_proxy(
        &self,
        _peer: &HttpPeer,
        downstream: &mut Session,
        mut error: Box<Error>,
        ctx: &mut Ctx,
        reused: bool,
    ) -> Box<Error> {
        if *error.etype() == GOES_ELSEWHERE {
            error.set_retry(true);
            return error;
        }
        let failure = ExchangeFailure {
            reused,
            died_silently: errors::died_silently(&error),
            replayable: !downstream.as_ref().retry_buffer_truncated(),
            fault: errors::fault(&error),
        };
        let again = self.gateway.exchange_failed(&ctx.head, failure, &mut ctx.exchange);
        error.set_retry(again);
        error
    }

    async fn fail_to_proxy(
        &self,
        downstream: &mut Session,
        error: &Error,
        ctx: &mut Ctx,
    ) -> FailToProxy {
        let silent = FailToProxy { error_code: 0, can_reuse_downstream: false };
        if ctx.replaced || final_status(downstream).is_some() {
            return silent;
        }
        let seen = errors::fault(error);
        let Some(fault) = self.gateway.fault_of_failure(seen, &mut ctx.exchange) else {
            return silent;
        };
        // The connection ends here whatever we say, so say so.
        downstream.set_keepalive(None);
        match self.answer(downstream, ctx, fault).await {
            Ok(()) => {
                FailToProxy { error_code: fault.row().status.as_u16(), can_reuse_downstream: false }
            }
            Err(_) => silent,
        }
    }

    async fn logging(&self, downstream: &mut Session, _: Option<&Error>, ctx: &mut Ctx) {
        failpoint::hit("logging", &ctx.head);
        ctx.early.over();
        ctx.exchange.sent = Sent {
            status: final_status(downstream).map(|status| status.as_u16()),
            bytes: downstream.body_bytes_sent() as u64,
            bytes_forwarded: downstream.upstream_body_bytes_sent().unwrap_or(0) as u64,
        };
        self.gateway.finish(&ctx.head, &mut ctx.exchange).await;
    }

    /// One line per request says what happened; Pingora's own would say it again, with the
    /// request's untrusted text in it.
    fn suppress_error_log(&self, _: &Session, _: &Ctx, _: &Error) -> bool {
        true
    }

    fn suppress_proxy_warn_log(
        &self,
        _: &Session,
        _: &Ctx,
        _: &Error,
        _: ProxyWarnLogContext,
    ) -> bool {
        true
    }
}
