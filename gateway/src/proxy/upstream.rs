//! Carrying out a decision: a connection to the backend and the request that goes over it.

use std::future::pending;
use std::os::fd::{BorrowedFd, RawFd};
use std::time::Duration;

use gateway_core::fault::Fault;
use gateway_core::protocol::passage::{self, Onward};
use gateway_core::protocol::{PacketType, latin1};
use gateway_core::routing::failover::{MAX_TRIES, ends_or_moves, try_another};
use gateway_core::routing::retry::MAX_REPEATS;
use gateway_core::routing::{Failure, Lookup, Step, Why, may_retry};
use gateway_core::session::EndReason;
use http::HeaderValue;
use pingora::http::RequestHeader;
use pingora::prelude::HttpPeer;
use pingora::proxy::Session;
use pingora::{Error, ErrorType, Result};

use super::failover::Went;
use super::head::{apply, host_of};
use super::{Ctx, Gateway, errors};
use crate::clock;
use crate::exchange::forwarding::Forwarding;
use crate::pool;

/// First pool key that the pools of [`crate::farm`] do not use.
const OWN_KEYS: u64 = 2;

/// A body beyond this may get stuck between us and the backend.
const MAY_STICK: u64 = 64 * 1024;

/// Whether only one backend may have the request. A Create is not bound to the alias that its
/// client still remembers.
fn is_owned(ctx: &Ctx) -> bool {
    let named =
        matches!(ctx.admitted.why, Some(Why::Pin | Why::Alias | Why::Asked | Why::Delivered));
    named && ctx.admitted.kind != Some(PacketType::CreateSession)
}

/// Has a request go over a new connection that serves no other.
pub(super) fn use_once(peer: &mut HttpPeer, ctx: &Ctx) {
    // A key of its own finds nothing pooled, and nobody finds what it leaves.
    peer.group_key = ctx.arrival.id.wrapping_add(OWN_KEYS);
    peer.options.idle_timeout = Some(Duration::ZERO);
}

impl Gateway {
    pub(super) async fn peer(&self, downstream: &Session, ctx: &mut Ctx) -> Result<Box<HttpPeer>> {
        if ctx.attempt.attempts > 0 && !ctx.admitted.creating.is_chosen() {
            self.choose_again(downstream, ctx).await?;
        }
        ctx.attempt.begin();
        let peer = ctx
            .admitted
            .backend
            .and_then(|backend| ctx.arrival.farm.peer(backend, ctx.admitted.repeatable));
        let Some(mut peer) = peer.cloned() else {
            // Its name has no address any more.
            ctx.findings.fault =
                Some(if is_owned(ctx) { Fault::BackendDown } else { Fault::NoBackend });
            return Err(Error::new(ErrorType::ConnectNoRoute));
        };
        // A Fragment and a Close may be answered by an application behind the server.
        let by_application =
            matches!(ctx.admitted.kind, Some(PacketType::Fragment | PacketType::CloseSession));
        let long = ctx.arrival.has_body || by_application;
        let timeouts = &ctx.arrival.farm.config.timeouts;
        ctx.attempt.patience = if long { timeouts.answer_long } else { timeouts.answer };
        // The guard looks at the client for as long as the answer is awaited, and keeps the time.
        peer.options.read_timeout = None;
        if let Some(conn) = &ctx.arrival.conn {
            conn.answer_is_here();
        }
        pool::spare(&mut peer);
        if ctx.attempt.avoid_pool {
            use_once(&mut peer, ctx);
        }
        self.keep_apart(downstream, ctx, &mut peer)?;
        Ok(Box::new(peer))
    }

    /// What no backend owns may go elsewhere; a packet with an owner waits for it a moment.
    async fn choose_again(&self, downstream: &Session, ctx: &mut Ctx) -> Result<()> {
        let not_chosen = |fault, ctx: &mut Ctx| {
            ctx.findings.fault = Some(fault);
            Error::new(ErrorType::ConnectNoRoute)
        };
        if let (Some(step), Some(owner)) = (ctx.attempt.step.take(), ctx.admitted.backend) {
            let again = self.carry_out(step, owner, pending(), downstream, ctx).await;
            if again.map_err(|fault| not_chosen(fault, ctx))? == Went::Elsewhere {
                return Ok(());
            }
        }
        if is_owned(ctx) {
            // Its name may lead to another address by now.
            ctx.arrival.farm = self.farm.load_full();
            return Ok(());
        }
        let alias = self.alias_of(downstream.req_header(), ctx).unwrap_or_default();
        let decided = match ctx.admitted.packet.clone() {
            // It had an owner that was given up; the one chosen in its place refuses too.
            Some(_) if ends_or_moves(ctx.admitted.kind, ctx.admitted.key.is_some()) => {
                self.decide_again(ctx)
            }
            Some(packet) => self.decide(&packet, &Lookup::NotAsked, ctx, alias),
            None => self.decide_plain(None, None, ctx, alias),
        };
        decided.map_err(|fault| match fault {
            Fault::NoBackend => not_chosen(ctx.attempt.distrust.when_none_is_left(), ctx),
            fault => not_chosen(fault, ctx),
        })
    }

    pub(super) fn connect_failed(&self, ctx: &mut Ctx, mut error: Box<Error>) -> Box<Error> {
        let owned = is_owned(ctx);
        if self.try_next_address(ctx, &error) {
            error.set_retry(true);
            return error;
        }
        if let Some(backend) = ctx.admitted.backend.filter(|_| errors::is_backends_fault(&error)) {
            self.health.connect_failed(backend);
        }
        ctx.attempt.avoid.extend(ctx.admitted.backend.filter(|_| !owned));
        let distrust = errors::is_distrust(&error);
        ctx.attempt.distrust.note(distrust);
        let again = match ctx.admitted.backend.filter(|_| owned) {
            Some(owner) => {
                let refuses = self.refuses(owner, distrust, ctx);
                match ctx.arrival.farm.config.failover.step(refuses, &self.held(ctx)) {
                    Step::Later(fault) => Err(fault),
                    step => {
                        ctx.attempt.step = Some(step);
                        Ok(())
                    }
                }
            }
            None => try_another(ctx.attempt.attempts, ctx.attempt.distrust),
        };
        if let Some(backend) = ctx.admitted.backend {
            self.note_connect_error(backend, &error, again.is_ok() && !owned);
        }
        if let Err(fault) = again {
            ctx.findings.fault.get_or_insert(fault);
        }
        error.set_retry(again.is_ok());
        error
    }

    /// Has a Create go on at the next address of its backend's name, where no upload can lie at the
    /// one that cannot be reached.
    fn try_next_address(&self, ctx: &mut Ctx, error: &Error) -> bool {
        let tries = ctx.admitted.kind == Some(PacketType::CreateSession)
            && ctx.attempt.attempts < MAX_TRIES;
        let Some(backend) =
            ctx.admitted.backend.filter(|_| tries && errors::is_backends_fault(error))
        else {
            return false;
        };
        let next =
            ctx.arrival.farm.address(backend).is_some_and(|at| self.health.try_next(backend, at));
        if next {
            self.note_connect_error(backend, error, false);
            ctx.arrival.farm = self.farm.load_full();
        }
        next
    }

    /// An exchange with a backend has failed. Says by the error whether there is another one.
    pub(super) fn exchange_failed(
        &self,
        downstream: &Session,
        mut error: Box<Error>,
        ctx: &mut Ctx,
        reused: bool,
    ) -> Box<Error> {
        let failure = Failure {
            reused,
            answered: ctx.attempt.answer_began || !errors::died_silently(&error),
            body_whole: !downstream.as_ref().retry_buffer_truncated(),
        };
        let retry = may_retry(ctx.admitted.repeatable, failure)
            && ctx.attempt.attempts < MAX_REPEATS
            && !ctx.admitted.login.bound;
        if self.outlives(downstream, &error, ctx) {
            error.set_retry(true);
            return error;
        }
        // The connection was dead, not the backend: the next try need not wait, but it must not
        // find the next dead connection in the pool.
        ctx.attempt.step = None;
        ctx.attempt.avoid_pool = retry;
        error.set_retry(retry);
        error
    }

    /// Ends the pin to a backend that was given up.
    pub(super) async fn release(&self, downstream: &Session, ctx: &Ctx) {
        let Some(key) = &ctx.admitted.key else { return };
        if let Some(ended) = self.sessions.unpin(key, EndReason::Lost, clock::steady()).await {
            self.reporter.ended(&ended, Some((&ctx.arrival, downstream.req_header().raw_path())));
        }
    }

    /// A body that has gone, of a request that is being answered, is not stuck; and soon the
    /// connection may serve somebody else.
    pub(super) fn unwatch(&self, ctx: &Ctx) {
        let sent = ctx.attempt.body_done.is_some() || !ctx.arrival.has_body;
        if let Some(turn) =
            ctx.admitted.turn.as_ref().filter(|_| sent && ctx.answered.first_byte.is_some())
        {
            turn.unwatch_upstream();
        }
    }

    pub(super) fn connected(&self, reused: bool, fd: RawFd, ctx: &mut Ctx) -> Result<()> {
        ctx.attempt.reused = reused;
        ctx.early.connected(fd);
        if let Some(backend) = ctx.admitted.backend {
            self.bind_connected(backend, reused, fd, ctx)?;
            if let Some(conn) = &ctx.arrival.conn {
                conn.used_backend(backend);
            }
            if let Some(bond) =
                ctx.admitted.login.bond.as_ref().filter(|_| ctx.admitted.login.bound)
            {
                bond.used_backend(backend);
            }
            self.outages.over(backend);
            if !reused {
                self.health.connected(backend);
            }
            self.note_connected(backend, ctx);
        }
        let Some(turn) = &ctx.admitted.turn else { return Ok(()) };
        if ctx.admitted.range.is_some_and(|range| range.len() > MAY_STICK) {
            // SAFETY: Pingora owns the connection and keeps it open for the length of this call;
            // the descriptor is duplicated before the call returns.
            let upstream = unsafe { BorrowedFd::borrow_raw(fd) };
            turn.watch_upstream(upstream);
        }
        if turn.is_cancelled() {
            ctx.findings.fault = Some(Fault::Superseded);
            return Err(Error::new(ErrorType::ConnectionClosed));
        }
        Ok(())
    }

    /// What the backend sees differs from what the client sent only here.
    pub(super) fn prepare_request(&self, request: &mut RequestHeader, ctx: &Ctx) -> Result<()> {
        let backend = ctx.admitted.backend.ok_or_else(|| Error::new(ErrorType::InternalError))?;
        if let Some(spelling) = &ctx.admitted.spelling {
            request.set_raw_path(spelling.as_bytes())?;
        }
        let forwarding = Forwarding::of(&ctx.arrival.farm.config.http);
        let host = match host_of(request) {
            Some(host) => ctx.arrival.farm.upstream_host(backend, &host),
            None => ctx.arrival.farm.authority(backend),
        };
        let session = match &ctx.admitted.backend_session {
            Some(id) => {
                let id = latin1::encode(id).and_then(|id| HeaderValue::from_bytes(&id).ok());
                Some(id.ok_or_else(|| Error::new(ErrorType::InternalError))?)
            }
            None => None,
        };
        let onward = Onward {
            forwarded: ctx.arrival.farm.config.http.forwarded,
            sender: ctx.arrival.conn.as_deref().map(|conn| forwarding.sender(conn)),
            host,
            loop_entry: ctx.arrival.farm.loop_entry(backend),
            session,
            // Pingora has taken a Transfer-Encoding off by now and puts its own on later.
            empty_packet: ctx.arrival.is_packet && !ctx.arrival.has_body,
        };
        let edits = passage::request(&request.headers, onward);
        apply(edits, request)
    }
}
