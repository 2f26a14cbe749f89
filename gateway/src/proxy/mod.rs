//! The carrier of plain HTTP: Pingora's phases.
//!
//! Nothing is decided here: each phase asks [`crate::exchange`] and does what it says, in the words of
//! Pingora.
//!
//! What is absent: packets, and connections that belong to one client. [`crate::relay`] carries those,
//! and what is asked of the exchange here has no answer for them.

mod answer;
mod early;
pub mod errors;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::FutureExt;
use gateway_core::fault::Fault;
use gateway_core::protocol::answer::AnswerHead;
use gateway_core::protocol::framing::{fits, is_framed_once};
use gateway_core::protocol::head::{HeadLimits, RequestHead};
use gateway_core::protocol::headers;
use http::{StatusCode, header};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::prelude::HttpPeer;
use pingora::protocols::Digest;
use pingora::proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};
use pingora::{Error, ErrorType, Result};

use crate::base::clock;
use crate::base::failpoint;
use crate::exchange::head::expects_continue;
use crate::exchange::report::Sent;
use crate::exchange::{Exchange, Gateway};
use crate::farm::pool;
use crate::guard::GuardStream;
use crate::relay::upstream::Servers;
use crate::telemetry::metrics::Carrier;
use crate::tls::TakePlace;

use answer::apply_to_request;
use early::Early;

/// More tries than any rule, or the longest hold at a second each, ever makes: the end that Pingora
/// demands.
pub const TRIES: usize = 512;

/// The application that Pingora runs.
pub struct Proxy {
    gateway: Arc<Gateway>,
    servers: Arc<Servers>,
}

/// Gives the connections of plain HTTP their places among all those to a backend.
pub fn take_place(servers: Arc<Servers>) -> TakePlace {
    Arc::new(move |backend, deadline| {
        let servers = Arc::clone(&servers);
        async move {
            let place = servers.place_elsewhere(backend, deadline).await?;
            Some(Box::new(place) as Box<dyn Send + Sync>)
        }
        .boxed()
    })
}

/// What Pingora keeps of one request on its way through.
pub struct Ctx {
    exchange: Exchange,
    /// The head of the request as it came.
    head: Arc<RequestHead>,
    early: Early,
}

impl Proxy {
    pub fn new(gateway: Arc<Gateway>, servers: Arc<Servers>) -> Self {
        Self { gateway, servers }
    }

    /// The answer is the last one on its connection if the process is about to end: the next
    /// request belongs to another.
    fn close_if_draining(&self, downstream: &mut Session) {
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
        let exchange = self.gateway.expect(Carrier::Proxy);
        Ctx { exchange, head: Arc::default(), early: Early::default() }
    }

    async fn early_request_filter(&self, downstream: &mut Session, ctx: &mut Ctx) -> Result<()> {
        let stream = downstream.stream().and_then(|io| io.as_any().downcast_ref::<GuardStream>());
        let conn = stream.map(|guard| Arc::clone(guard.conn()));
        ctx.head = Arc::new(read_head(downstream.req_header())?);
        self.gateway.arrive(conn, &ctx.head, &mut ctx.exchange);
        failpoint::hit("early_request_filter", &ctx.head);
        let timeouts = &ctx.exchange.arrival.farm.config.timeouts;
        // The guard keeps this time and that of the answer, see `base::deadline`.
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
        if let Some(page) = self.gateway.page_for(&ctx.head, &ctx.exchange) {
            self.write(downstream, page).await?;
            return Ok(true);
        }
        match self.gateway.admit_plain(&ctx.head, &mut ctx.exchange) {
            Ok(()) => {
                if expects_continue(&ctx.head) {
                    // The body is wanted now, so the client need not wait for a backend's 100. If
                    // the client has gone, reading its body fails.
                    let _ = downstream.as_downstream_mut().write_continue_response().await;
                }
                Ok(false)
            }
            Err(fault) => {
                ctx.exchange.findings.fault = Some(fault);
                if ctx.exchange.ends_unanswered() {
                    return Err(ended());
                }
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
        let next = self.gateway.next_backend(&ctx.head, &mut ctx.exchange).await;
        let backend = next.map_err(|_| Error::new(ErrorType::ConnectNoRoute))?;
        let peer = ctx.exchange.arrival.farm.peer(backend).cloned();
        let mut peer = peer.ok_or_else(|| Error::new(ErrorType::ConnectNoRoute))?;
        // The guard looks at the client for as long as the answer is awaited, and keeps the time.
        peer.options.read_timeout = None;
        pool::spare(&mut peer);
        if self.servers.has_ceiling() {
            // A packet that waits could not have it.
            peer.options.idle_timeout = Some(Duration::ZERO);
        }
        pool::keep_to_thread(&mut peer);
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
        self.gateway.connected(reused, &mut ctx.exchange).map_err(|_| ended())
    }

    async fn upstream_request_filter(
        &self,
        _downstream: &mut Session,
        request: &mut RequestHeader,
        ctx: &mut Ctx,
    ) -> Result<()> {
        failpoint::hit("upstream_request_filter", &ctx.head);
        // Pingora has taken a Transfer-Encoding off by now and puts its own on later.
        let edits = self.gateway.onward(&ctx.head, &ctx.exchange);
        apply_to_request(edits.map_err(|_| Error::new(ErrorType::InternalError))?, request)?;
        match self.gateway.request_id(&ctx.exchange) {
            Some(id) => request.insert_header(headers::REQUEST_ID.wire, id.to_string()),
            None => Ok(()),
        }
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
        self.gateway.body_came(bytes, end, &mut ctx.exchange).await.map_err(|_| ended())
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
        let challenges = self.gateway.refuse_login(&answer, &mut ctx.exchange).map_err(refused)?;
        if let Some(challenges) = challenges {
            response.remove_header(&header::WWW_AUTHENTICATE);
            for challenge in challenges {
                response.append_header(header::WWW_AUTHENTICATE, challenge)?;
            }
        }
        self.gateway.note_challenge(&answer, &mut ctx.exchange);
        Ok(())
    }

    fn upstream_response_body_filter(
        &self,
        _downstream: &mut Session,
        _body: &mut Option<Bytes>,
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
        Ok(None)
    }

    async fn response_filter(
        &self,
        downstream: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut Ctx,
    ) -> Result<()> {
        failpoint::hit("response_filter", &ctx.head);
        let conn = ctx.exchange.arrival.conn.as_ref();
        answer::finish_head(downstream, response, conn.is_some_and(|conn| conn.is_http10()))?;
        if conn.is_some_and(|conn| conn.is_half_closed()) {
            downstream.set_keepalive(None);
        }
        self.close_if_draining(downstream);
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

    /// A server may have begun to work on what it was sent: there is no second try.
    fn error_while_proxy(
        &self,
        _peer: &HttpPeer,
        _downstream: &mut Session,
        mut error: Box<Error>,
        _ctx: &mut Ctx,
        _reused: bool,
    ) -> Box<Error> {
        error.set_retry(false);
        error
    }

    async fn fail_to_proxy(
        &self,
        downstream: &mut Session,
        error: &Error,
        ctx: &mut Ctx,
    ) -> FailToProxy {
        let silent = FailToProxy { error_code: 0, can_reuse_downstream: false };
        if final_status(downstream).is_some() {
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
        ctx.exchange.sent = Sent {
            status: final_status(downstream).map(|status| status.as_u16()),
            bytes: downstream.body_bytes_sent() as u64,
            bytes_forwarded: downstream.upstream_body_bytes_sent().unwrap_or(0) as u64,
            ended: None,
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
