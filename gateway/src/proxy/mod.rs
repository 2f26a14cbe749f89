//! The proxy: Pingora's phases, each a short method that asks the core and obeys.
//!
//! No rule of BITS is decided here. `admit` turns a request into a decision, `upstream` carries
//! the decision out, `answers` learns from what the backend says, and this file maps them to the
//! phases.

mod admit;
mod answer;
mod answers;
mod ask;
mod creates;
mod ctx;
mod early;
pub mod errors;
mod evidence;
mod failover;
mod failpoint;
mod head;
mod hosts;
mod logins;
mod lost_close;
mod orphans;
mod ownership;
mod reply_url;
mod report;
mod room;
mod upstream;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::Bytes;
use gateway_core::fault::Fault;
use gateway_core::protocol::framing::{fits, is_framed_once};
use http::{StatusCode, header};
use parking_lot::Mutex;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::prelude::HttpPeer;
use pingora::protocols::Digest;
use pingora::proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};
use pingora::{Error, ErrorType, Result};
use tokio::sync::Semaphore;

use crate::clock;
use crate::farm::Farm;
use crate::guard::GuardStream;
use crate::health::FarmHealth;
use crate::sessions::Sessions;
use crate::supervisor::{Farewell, InFlight};

use crate::exchange::arrival::Arrival;
use crate::exchange::bandwidth::Bandwidth;
use crate::exchange::deliveries::Deliveries;
use crate::exchange::forwarding::Forwarding;
use crate::exchange::login::Login;
use crate::exchange::outages::Outages;
use crate::exchange::report::{Reporter, Sent};
use crate::exchange::turns::Turns;
use admit::Admission;
use ask::{Asks, Messenger};
pub use ctx::Ctx;
use lost_close::UnclearCloses;
pub use orphans::OrphanCanceller;
use orphans::Orphans;
use room::Room;

/// Everything a request may need.
pub struct Gateway {
    farm: Arc<ArcSwap<Farm>>,
    health: FarmHealth,
    pub(crate) sessions: Arc<Sessions>,
    reporter: Arc<Reporter>,
    running: InFlight,
    farewell: Farewell,
    turns: Arc<Turns>,
    outages: Outages,
    /// Room for connections that belong to one client each.
    bound: Arc<Semaphore>,
    bandwidth: Bandwidth,
    room: Room,
    asks: Asks,
    unclear_closes: Arc<UnclearCloses>,
    deliveries: Deliveries,
    orphans: Orphans,
    /// When it began, by the steady clock.
    begun: Duration,
    requests: AtomicU64,
    /// Placements of new sessions. A counter of its own, or round-robin would skip backends with
    /// every packet that has nothing to place.
    creates: AtomicU64,
    /// Held while a Create is placed and counted.
    placing: Mutex<()>,
}

impl Gateway {
    /// The gateway, and the task that cancels what it leaves behind.
    pub fn new(
        farm: Arc<ArcSwap<Farm>>,
        health: FarmHealth,
        sessions: Arc<Sessions>,
        reporter: Reporter,
        running: InFlight,
        farewell: Farewell,
        bound_connections: usize,
    ) -> (Self, OrphanCanceller) {
        let turns = Arc::new(Turns::default());
        let outages = Outages::default();
        let requests = AtomicU64::new(0);
        let creates = AtomicU64::new(0);
        let config = Arc::clone(&farm.load().config);
        let bound = Arc::new(Semaphore::new(bound_connections));
        let messenger = Arc::new(Messenger::new(config.timeouts.ask));
        let asks = Asks::new(config.sessions.ask_rate, Arc::clone(&messenger));
        let unclear_closes = Arc::<UnclearCloses>::default();
        let unclear = Arc::clone(&unclear_closes);
        sessions.tell_of_ends(move |key| unclear.forget(key));
        let metrics = Arc::clone(&reporter.metrics);
        sessions.tell_of_evictions(move |ended| {
            let age = clock::now().since(ended.pin.created);
            let total = ended.progress.total;
            metrics.session_ended(ended.pin.backend, ended.reason, age, total);
        });
        let (orphans, canceller) = OrphanCanceller::new(
            messenger,
            Arc::clone(&farm),
            health.clone(),
            Arc::clone(&sessions),
            reporter.clone(),
        );
        let reporter = Arc::new(reporter);
        let gateway = Self {
            farm,
            health,
            sessions,
            reporter,
            running,
            farewell,
            turns,
            outages,
            bound,
            bandwidth: Bandwidth::default(),
            room: Room::default(),
            asks,
            unclear_closes,
            deliveries: Deliveries::default(),
            orphans,
            begun: clock::steady(),
            requests,
            creates,
            placing: Mutex::default(),
        };
        (gateway, canceller)
    }
}

impl Gateway {
    /// The answer is the last one on its connection if the process is about to end: the next
    /// request belongs to another.
    fn take_leave(&self, downstream: &mut Session) {
        if downstream.is_process_shutting_down() || self.farewell.is_leaving() {
            downstream.set_keepalive(None);
        }
    }
}

/// The status that the client was sent. Our 100 Continue is no answer, though Pingora counts it.
fn final_status(downstream: &Session) -> Option<StatusCode> {
    let written = downstream.response_written()?.status;
    (!written.is_informational()).then_some(written)
}

/// Each 1xx starts the wait for the answer anew, so there is an end to them.
const MAX_INTERIM: u8 = 100;

/// More tries than any rule above, or the longest hold at a second each, ever makes: the end that
/// Pingora demands.
pub const TRIES: usize = 512;

#[async_trait]
impl ProxyHttp for Gateway {
    type CTX = Ctx;

    fn new_ctx(&self) -> Ctx {
        let id = self.requests.fetch_add(1, Ordering::Relaxed);
        let mut arrival = Arrival::new(self.farm.load_full(), id, clock::now(), clock::steady());
        arrival.running = Some(self.running.enter());
        Ctx::new(arrival)
    }

    async fn early_request_filter(&self, downstream: &mut Session, ctx: &mut Ctx) -> Result<()> {
        ctx.owe_report(&self.reporter, downstream.req_header());
        failpoint::hit("early_request_filter", &downstream.req_header().headers);
        let timeouts = &ctx.arrival.farm.config.timeouts;
        let stream = downstream.stream().and_then(|io| io.as_any().downcast_ref::<GuardStream>());
        ctx.arrival.conn = stream.map(|guard| Arc::clone(guard.conn()));
        let headers = &downstream.req_header().headers;
        if let Some(conn) = &ctx.arrival.conn {
            let speaker;
            (ctx.arrival.client, speaker) =
                Forwarding::of(&ctx.arrival.farm.config.http).client(conn, headers);
            ctx.admitted.login = Login::of(conn, speaker);
        }
        let listener = ctx.arrival.conn.as_ref().map_or(0, |conn| conn.listener);
        ctx.arrival.request = Some(self.reporter.metrics.request(listener));
        // The guard keeps this time and that of the answer, see `patience`.
        downstream.set_read_timeout(None);
        if let Some(conn) = &ctx.arrival.conn {
            conn.wait_for_body(timeouts.client_body);
        }
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
        failpoint::hit("request_filter", &downstream.req_header().headers);
        if downstream.req_header().raw_path() == b"*" {
            self.answer_options(downstream).await?;
            return Ok(true);
        }
        match self.admit(downstream, ctx).await {
            Ok(Admission::Goes) => Ok(false),
            Ok(Admission::Joined(answer)) => {
                self.answer_again(downstream, ctx, &answer).await?;
                Ok(true)
            }
            Err(fault) => {
                ctx.findings.fault = Some(fault);
                self.answer(downstream, ctx, fault).await?;
                Ok(true)
            }
        }
    }

    async fn upstream_peer(
        &self,
        downstream: &mut Session,
        ctx: &mut Ctx,
    ) -> Result<Box<HttpPeer>> {
        failpoint::hit("upstream_peer", &downstream.req_header().headers);
        self.peer(downstream, ctx).await
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
        self.connected(reused, fd, ctx)
    }

    async fn upstream_request_filter(
        &self,
        downstream: &mut Session,
        request: &mut RequestHeader,
        ctx: &mut Ctx,
    ) -> Result<()> {
        failpoint::hit("upstream_request_filter", &downstream.req_header().headers);
        self.prepare_request(request, ctx)
    }

    async fn request_body_filter(
        &self,
        downstream: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        ctx: &mut Ctx,
    ) -> Result<()> {
        failpoint::hit("request_body_filter", &downstream.req_header().headers);
        ctx.attempt.bytes_in += body.as_ref().map_or(0, |bytes| bytes.len() as u64);
        if ctx.admitted.range.is_some_and(|range| {
            ctx.attempt.bytes_in > range.len() || (end && ctx.attempt.bytes_in < range.len())
        }) {
            // Only a chunked body can differ from its range; the backend must not take it for
            // whole.
            ctx.findings.fault = Some(Fault::BadRequest);
            return Err(Error::new(ErrorType::InvalidHTTPHeader));
        }
        let bytes = body.as_ref().map_or(0, Bytes::len);
        let Arrival { farm, conn, .. } = &ctx.arrival;
        let pace = &mut ctx.admitted.pace;
        self.bandwidth.wait(bytes, end, pace, &farm.config.limits, conn.as_deref()).await;
        if end {
            self.came_whole(ctx)?;
            let now = clock::steady();
            ctx.attempt.body_done = Some(now);
            if let Some(conn) =
                ctx.arrival.conn.as_ref().filter(|_| ctx.answered.first_byte.is_none())
            {
                conn.expect_answer(now + ctx.attempt.patience);
            }
            self.unwatch(ctx);
        }
        Ok(())
    }

    async fn upstream_response_filter(
        &self,
        downstream: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut Ctx,
    ) -> Result<()> {
        failpoint::hit("upstream_response_filter", &downstream.req_header().headers);
        ctx.attempt.answer_began = true;
        if response.status == StatusCode::SWITCHING_PROTOCOLS || !is_framed_once(response) {
            // Nobody asked for the first: an upgrade never reaches a backend.
            ctx.findings.fault = Some(Fault::BackendAnswer);
            return Err(Error::new(errors::REFUSED_ANSWER));
        }
        if !fits(response, &ctx.arrival.farm.config.limits.head) {
            ctx.findings.fault = Some(Fault::BackendAnswer);
            return Err(Error::new(errors::REFUSED_ANSWER));
        }
        if response.status.is_informational() {
            ctx.attempt.interim += 1;
            if ctx.attempt.interim > MAX_INTERIM {
                ctx.findings.fault = Some(Fault::BackendAnswer);
                return Err(Error::new(errors::REFUSED_ANSWER));
            }
            return Ok(());
        }
        let now = clock::steady();
        ctx.answered.first_byte = Some(now);
        if let Some(conn) = &ctx.arrival.conn {
            conn.expect_answer(now + ctx.attempt.patience);
        }
        early::note(downstream, response, ctx);
        ctx.answered.backend_status = Some(response.status.as_u16());
        self.unwatch(ctx);
        self.refuse_login(response, ctx)?;
        self.note_challenge(response, ctx);
        self.learn(downstream, response, ctx).await
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
        if let Some(conn) = &ctx.arrival.conn {
            if end {
                conn.answer_is_here();
            } else {
                conn.expect_answer(clock::steady() + ctx.attempt.patience);
            }
        }
        if ctx.answered.drop_body {
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
        failpoint::hit("response_filter", &downstream.req_header().headers);
        answers::finish_head(downstream, response, ctx)?;
        if ctx.arrival.conn.as_ref().is_some_and(|conn| conn.is_half_closed()) {
            downstream.set_keepalive(None);
        }
        self.take_leave(downstream);
        ctx.sent.status = Some(response.status.as_u16());
        Ok(())
    }

    fn fail_to_connect(
        &self,
        _downstream: &mut Session,
        _peer: &HttpPeer,
        ctx: &mut Ctx,
        error: Box<Error>,
    ) -> Box<Error> {
        self.connect_failed(ctx, error)
    }

    fn error_while_proxy(
        &self,
        _peer: &HttpPeer,
        downstream: &mut Session,
        error: Box<Error>,
        ctx: &mut Ctx,
        reused: bool,
    ) -> Box<Error> {
        self.exchange_failed(downstream, error, ctx, reused)
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
        if *error.etype() == logins::LOGIN_LOST && !ctx.admitted.login.is_behind_proxy() {
            return silent;
        }
        let malformed =
            ctx.arrival.conn.as_ref().is_some_and(|conn| conn.malformed_body().is_some());
        let overdue = ctx.arrival.conn.as_ref().is_some_and(|conn| conn.is_answer_overdue());
        let stalled = ctx.arrival.conn.as_ref().is_some_and(|conn| conn.has_stalled());
        let fault = ctx
            .findings
            .fault
            .or(malformed.then_some(Fault::BadRequest))
            .or(overdue.then_some(Fault::BackendTimeout))
            .or(stalled.then_some(Fault::ClientStalled))
            .or_else(|| errors::fault(error));
        let Some(fault) = fault else { return silent };
        ctx.findings.fault = Some(fault);
        ctx.admitted.place = None;
        self.note_silence(ctx, fault);
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
        failpoint::hit("logging", &downstream.req_header().headers);
        ctx.early.over();
        ctx.sent = Sent {
            status: final_status(downstream).map(|status| status.as_u16()),
            bytes: downstream.body_bytes_sent() as u64,
            bytes_forwarded: downstream.upstream_body_bytes_sent().unwrap_or(0) as u64,
        };
        ctx.report();
        self.end_undelivered(downstream, ctx).await;
        self.bandwidth.settle(&mut ctx.admitted.pace, &ctx.arrival.farm.config.limits);
        // The session's next request may come on another connection as soon as this one is over.
        ctx.admitted.turn = None;
        if let Some(conn) = &ctx.arrival.conn {
            conn.request_done();
        }
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
