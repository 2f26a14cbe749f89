//! Requests that go over a connection of their client's own.
//!
//! With NTLM and Negotiate a server believes the TCP connection. So from the first such challenge
//! or credentials on, a client has connections of its own at the backends: made for it, used by
//! nobody else, and closed with its own. That one is closed with them as well, and never goes on
//! over a second one, or half a login would be continued where it did not begin, and a request that
//! was meant to come from somebody would come from nobody.
//!
//! A connection from a proxy carries many clients. Each that a trusted proxy names has connections
//! of its own, from its first such credentials on. A client that is not named has none: its
//! credentials go over a connection that is used once, and it is offered no such login.
//!
//! What is absent: any look into the tokens.

use std::os::fd::{BorrowedFd, RawFd};
use std::sync::{Arc, Weak};

use gateway_core::farm::BackendId;
use gateway_core::fault::Fault;
use gateway_core::protocol::login::{self, Challenge, Left};
use gateway_core::protocol::speaker::Speaker;
use http::{StatusCode, Version, header};
use pingora::http::ResponseHeader;
use pingora::prelude::HttpPeer;
use pingora::proxy::Session;
use pingora::upstreams::peer::{Tracer, Tracing};
use pingora::{Error, ErrorType, Result};

use super::errors::REFUSED_ANSWER;
use super::upstream::use_once;
use super::{Ctx, Gateway};
use crate::exchange::forwarding::Forwarding;
use crate::exchange::login::Login;
use crate::guard::{Bond, Conn};

/// The client's connection ends without an answer: what it had logged in to is gone.
pub const LOGIN_LOST: ErrorType = ErrorType::Custom("the connection of a login is gone");

/// Tells a client connection of the end of a connection that one of its clients owns.
#[derive(Clone)]
struct Tie(Weak<Conn>, Weak<Bond>);

impl std::fmt::Debug for Tie {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Tie").finish_non_exhaustive()
    }
}

impl Tracing for Tie {
    fn on_connected(&self) {}

    fn on_disconnected(&self) {
        if let (Some(conn), Some(bond)) = (self.0.upgrade(), self.1.upgrade()) {
            conn.lost(&bond);
        }
    }

    fn boxed_clone(&self) -> Box<dyn Tracing> {
        Box::new(self.clone())
    }
}

impl Gateway {
    /// Has the request go over its client's own connection, where it must.
    pub(super) fn keep_apart(
        &self,
        downstream: &Session,
        ctx: &mut Ctx,
        peer: &mut HttpPeer,
    ) -> Result<()> {
        let (Some(conn), Some(backend)) = (&ctx.arrival.conn, ctx.admitted.backend) else {
            return Ok(());
        };
        let credentials = downstream.req_header().headers.get(header::AUTHORIZATION);
        let logs_in = credentials.is_some_and(|value| login::binds(value.as_bytes()));
        if logs_in && ctx.admitted.login.speaker == Speaker::Unnamed {
            ctx.admitted.login.once = true;
            use_once(peer, ctx);
            return Ok(());
        }
        let needed = logs_in || ctx.arrival.farm.is_per_client(backend);
        if ctx.admitted.login.bond.is_none() && needed {
            ctx.admitted.login.bond = Some(conn.bind(ctx.admitted.login.speaker));
        }
        let Some(bond) = &ctx.admitted.login.bond else { return Ok(()) };
        let elsewhere = bond.pending().is_some_and(|pending| pending != backend);
        if conn.is_ending() || bond.is_lost() || (logs_in && elsewhere) {
            return Err(lost(ctx));
        }
        if bond.has(backend) {
            ctx.admitted.login.permit = None;
        } else {
            let Ok(permit) = Arc::clone(&self.bound).try_acquire_owned() else {
                ctx.findings.fault = Some(Fault::LoginsFull);
                return Err(Error::new(ErrorType::ConnectNoRoute));
            };
            ctx.admitted.login.permit = Some(permit);
        }
        ctx.admitted.login.bound = true;
        peer.group_key = bond.key;
        peer.options.idle_timeout = Some(ctx.arrival.farm.config.timeouts.backend_idle);
        let tie = Tie(Arc::downgrade(conn), Arc::downgrade(bond));
        peer.options.tracer = Some(Tracer(Box::new(tie)));
        Ok(())
    }

    /// A connection for the request is there.
    pub(super) fn bind_connected(
        &self,
        backend: BackendId,
        reused: bool,
        fd: RawFd,
        ctx: &mut Ctx,
    ) -> Result<()> {
        if !ctx.admitted.login.bound || reused {
            return Ok(());
        }
        let Login { bond, permit, .. } = &mut ctx.admitted.login;
        let taken = bond.as_ref().zip(permit.take()).is_some_and(|(bond, permit)| {
            let counted = self.reporter.metrics.bound_connection();
            // SAFETY: Pingora owns the connection and keeps it open for the length of this call;
            // the descriptor is duplicated before the call returns.
            let socket = unsafe { BorrowedFd::borrow_raw(fd) };
            bond.take(backend, socket, permit, counted)
        });
        if taken { Ok(()) } else { Err(lost(ctx)) }
    }

    /// What the answer says of the login.
    pub(super) fn note_challenge(&self, response: &ResponseHeader, ctx: &mut Ctx) {
        let Some(conn) = &ctx.arrival.conn else { return };
        let challenges = response.headers.get_all(header::WWW_AUTHENTICATE).iter();
        let challenge = challenges.map(|value| login::challenge(value.as_bytes())).max();
        let binds = challenge.is_some_and(|challenge| challenge != Challenge::Other);
        // Of the clients of a proxy, only those that do log in are told apart.
        if binds && ctx.admitted.login.speaker == Speaker::Peer {
            conn.bind(Speaker::Peer);
        }
        let Some(bond) = ctx.admitted.login.bond.as_ref().filter(|_| ctx.admitted.login.bound)
        else {
            return;
        };
        let goes_on =
            challenge == Some(Challenge::Token) && response.status == StatusCode::UNAUTHORIZED;
        bond.set_pending(ctx.admitted.backend.filter(|_| goes_on));
        // A proxy goes on with the requests of its other clients.
        let alone = !matches!(ctx.admitted.login.speaker, Speaker::Named(..));
        ctx.admitted.login.ends = alone && closes(response);
    }

    /// Offers a client that is not known no login that would count for others too.
    pub(super) fn refuse_login(&self, response: &mut ResponseHeader, ctx: &mut Ctx) -> Result<()> {
        let unnamed = ctx.admitted.login.speaker == Speaker::Unnamed;
        let Some(conn) = ctx.arrival.conn.as_ref().filter(|_| unnamed) else { return Ok(()) };
        if response.status != StatusCode::UNAUTHORIZED {
            return Ok(());
        }
        let left = login::without_bound(&response.headers);
        let challenges = match left {
            Left::All => return Ok(()),
            Left::Some(challenges) => challenges,
            Left::Nothing => Vec::new(),
        };
        self.reporter.note_shared_login(conn, &Forwarding::of(&ctx.arrival.farm.config.http));
        if challenges.is_empty() {
            ctx.findings.fault = Some(Fault::LoginShared);
            return Err(Error::new(REFUSED_ANSWER));
        }
        response.remove_header(&header::WWW_AUTHENTICATE);
        for challenge in challenges {
            response.append_header(header::WWW_AUTHENTICATE, challenge)?;
        }
        Ok(())
    }
}

/// Whether the backend's connection ends with its answer.
fn closes(response: &ResponseHeader) -> bool {
    let says = |word: &str| {
        let values = response.headers.get_all(header::CONNECTION).iter();
        let words = values.filter_map(|value| value.to_str().ok()).flat_map(|v| v.split(','));
        words.into_iter().any(|found| found.trim().eq_ignore_ascii_case(word))
    };
    says("close") || (response.version < Version::HTTP_11 && !says("keep-alive"))
}

fn lost(ctx: &mut Ctx) -> Box<Error> {
    ctx.findings.fault = Some(Fault::LoginLost);
    Error::new(LOGIN_LOST)
}
