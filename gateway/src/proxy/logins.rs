//! Requests that go over a connection of their client's own.
//!
//! With NTLM and Negotiate a server believes the TCP connection. So from the first such challenge
//! or credentials on, a client connection has connections of its own at the backends: made for it,
//! used by nobody else, and closed with it. It is closed with them as well, and never goes on over
//! a second one, or half a login would be continued where it did not begin, and a request that was
//! meant to come from somebody would come from nobody.
//!
//! What is absent: any look into the tokens.

use std::os::fd::{BorrowedFd, RawFd};
use std::sync::{Arc, Weak};

use gateway_core::farm::BackendId;
use gateway_core::fault::Fault;
use gateway_core::protocol::login::{self, Challenge};
use http::{StatusCode, Version, header};
use pingora::http::ResponseHeader;
use pingora::prelude::HttpPeer;
use pingora::proxy::Session;
use pingora::upstreams::peer::{Tracer, Tracing};
use pingora::{Error, ErrorType, Result};
use tokio::sync::OwnedSemaphorePermit;

use super::{Ctx, Gateway};
use crate::guard::Conn;

/// The client's connection ends without an answer: what it had logged in to is gone.
pub const LOGIN_LOST: ErrorType = ErrorType::Custom("the connection of a login is gone");

/// Pool keys of bound connections; all others are below.
const BOUND_KEYS: u64 = 1 << 63;

/// What is known of one request in this respect.
#[derive(Default)]
pub struct Login {
    /// It goes over a connection of its client's own.
    pub bound: bool,
    /// The backend's connection ends with the answer, so the client's has to.
    pub ends: bool,
    /// The right to one more such connection, until there is one.
    permit: Option<OwnedSemaphorePermit>,
}

/// Tells a client connection of the end of a connection it owns.
#[derive(Debug, Clone)]
struct Tie(Weak<Conn>);

impl Tracing for Tie {
    fn on_connected(&self) {}

    fn on_disconnected(&self) {
        if let Some(conn) = self.0.upgrade() {
            conn.end();
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
        let (Some(conn), Some(backend)) = (&ctx.conn, ctx.backend) else { return Ok(()) };
        let credentials = downstream.req_header().headers.get(header::AUTHORIZATION);
        let logs_in = credentials.is_some_and(|value| login::binds(value.as_bytes()));
        if !logs_in && conn.bond().is_none() && !ctx.farm.is_per_client(backend) {
            return Ok(());
        }
        let bond = conn.bind();
        let elsewhere = bond.pending().is_some_and(|pending| pending != backend);
        if conn.is_ending() || (logs_in && elsewhere) {
            return Err(lost(ctx));
        }
        if bond.has(backend) {
            ctx.login.permit = None;
        } else {
            let Ok(permit) = Arc::clone(&self.bound).try_acquire_owned() else {
                ctx.fault = Some(Fault::LoginsFull);
                return Err(Error::new(ErrorType::ConnectNoRoute));
            };
            ctx.login.permit = Some(permit);
        }
        ctx.login.bound = true;
        peer.group_key = BOUND_KEYS | conn.id;
        peer.options.idle_timeout = Some(ctx.farm.config.timeouts.backend_idle);
        peer.options.tracer = Some(Tracer(Box::new(Tie(Arc::downgrade(conn)))));
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
        if !ctx.login.bound || reused {
            return Ok(());
        }
        let bond = ctx.conn.as_ref().and_then(|conn| conn.bond());
        let taken = bond.zip(ctx.login.permit.take()).is_some_and(|(bond, permit)| {
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
        let Some(conn) = &ctx.conn else { return };
        let challenges = response.headers.get_all(header::WWW_AUTHENTICATE).iter();
        let challenge = challenges.map(|value| login::challenge(value.as_bytes())).max();
        if challenge.is_some_and(|challenge| challenge != Challenge::Other) {
            conn.bind();
        }
        if !ctx.login.bound {
            return;
        }
        let goes_on =
            challenge == Some(Challenge::Token) && response.status == StatusCode::UNAUTHORIZED;
        if let Some(bond) = conn.bond() {
            bond.set_pending(ctx.backend.filter(|_| goes_on));
        }
        ctx.login.ends = closes(response);
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
    ctx.fault = Some(Fault::LoginLost);
    Error::new(LOGIN_LOST)
}
