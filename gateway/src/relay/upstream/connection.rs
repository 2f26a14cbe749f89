//! One open connection, by what is under way on it.

use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use gateway_core::protocol::keep_alive::{Announced, KeepAlive, usable_for};
use tokio::time::Instant;

use super::places::Place;
use super::socket::ServerSocket;
use crate::base::clock;
use crate::farm::Endpoint;
use crate::farm::pool::Share;

/// How long a connection stays with its client after a packet: a client sends the next Fragment at
/// once, or has something else to do.
pub const HOLD: Duration = Duration::from_secs(1);

/// A packet that must not go twice goes over a connection that was used so recently, or a new one.
pub const FRESH: Duration = Duration::from_secs(1);

/// Before a connection that has been idle for longer is used, the kernel is asked.
const TRUSTED: Duration = Duration::from_secs(1);

/// A connection with a request on it, from its first byte to the last of its answer.
///
/// Dropped, it is reset: a server must never take half a body for all of it.
#[derive(Debug)]
pub struct Connection(Box<Open>);

/// A connection between two requests. Dropped, it is closed cleanly.
#[derive(Debug)]
pub struct IdleConnection {
    open: Box<Open>,
    /// When the last answer ended.
    last_used: Instant,
    /// When it was last known to be open.
    seen_open: Instant,
}

/// What comes of the wish to use an idle connection.
#[derive(Debug)]
pub(super) enum Reuse {
    Ready(Connection),
    /// Too old, or made to another endpoint. It may do for another packet.
    Unfit(IdleConnection),
    /// Its server has closed it. The place is free.
    Ended(Place),
}

/// The parts are dropped in this order: the place is free once the connection is closed.
#[derive(Debug)]
struct Open {
    line: Line,
    endpoint: Arc<Endpoint>,
    announced: Announced,
    share: Share,
    place: Place,
}

/// A socket that ends as the server has to see it.
#[derive(Debug)]
struct Line {
    socket: ServerSocket,
    /// A request or its answer is not over.
    busy: bool,
}

impl Drop for Line {
    fn drop(&mut self) {
        if self.busy { self.socket.reset() } else { self.socket.goodbye() }
    }
}

impl Connection {
    /// A new one, for its first request.
    pub(super) fn new(
        socket: ServerSocket,
        endpoint: Arc<Endpoint>,
        share: Share,
        place: Place,
    ) -> Self {
        let line = Line { socket, busy: true };
        Self(Box::new(Open { line, endpoint, announced: Announced::default(), share, place }))
    }

    pub fn socket(&mut self) -> &mut ServerSocket {
        &mut self.0.line.socket
    }

    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.0.endpoint
    }

    /// Whether it has carried another request before: its server may have closed it just then.
    pub fn is_reused(&self) -> bool {
        self.0.announced.answers() > 0
    }

    /// The answer has come in full, and did not say that the connection ends. `None` if its
    /// `Keep-Alive` did: then it is closed.
    pub fn answered(mut self, said: KeepAlive, now: Instant) -> Option<IdleConnection> {
        self.0.line.busy = false;
        self.0.announced.learn(said);
        (!self.0.announced.is_used_up()).then_some(IdleConnection {
            open: self.0,
            last_used: now,
            seen_open: now,
        })
    }

    /// Closes it cleanly: request and answer are over, and no other follows.
    pub fn close(mut self) {
        self.0.line.busy = false;
    }
}

impl IdleConnection {
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.open.endpoint
    }

    /// When the last answer ended.
    pub fn last_used(&self) -> Instant {
        self.last_used
    }

    /// Whether it has been with its client for long enough.
    pub fn is_due(&self, now: Instant) -> bool {
        self.idle(now) >= HOLD
    }

    /// Ready once the server has closed it, or said something that nobody asked for. Then it is to be
    /// dropped.
    pub fn poll_ended(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        ready!(self.open.line.socket.poll_news(cx));
        self.seen_open = clock::stopwatch();
        self.note_end();
        Poll::Ready(())
    }

    /// Has it carry another request, if it can.
    ///
    /// `repeatable` says that a packet may go again where this one turns out to be dead.
    pub(super) fn reuse(mut self, endpoint: &Endpoint, repeatable: bool, now: Instant) -> Reuse {
        if !self.is_usable(endpoint, repeatable, now) {
            return Reuse::Unfit(self);
        }
        let trusted = self.idle(now) < TRUSTED;
        let socket = &mut self.open.line.socket;
        if !socket.is_quiet() || !(trusted || socket.is_quiet_in_kernel()) {
            self.note_end();
            return Reuse::Ended(self.into_place());
        }
        self.open.line.busy = true;
        Reuse::Ready(Connection(self.open))
    }

    /// Whether it leads there, and its age allows it.
    pub(super) fn is_usable(&self, endpoint: &Endpoint, repeatable: bool, now: Instant) -> bool {
        if !self.open.endpoint.is_same_as(endpoint) {
            return false;
        }
        let idle = self.idle(now);
        let observed = self.open.place.servers().lives.observed(endpoint.backend);
        let announced = self.open.announced.timeout();
        (repeatable || idle < FRESH)
            && idle < usable_for(announced, observed, endpoint.idle_timeout)
    }

    /// One look: whether it is to be kept. `endpoint` is where its backend is by now.
    pub(super) fn look(&mut self, endpoint: Option<&Endpoint>, now: Instant) -> bool {
        let Some(endpoint) = endpoint.filter(|now| self.open.endpoint.is_same_as(now)) else {
            return false;
        };
        if !self.open.line.socket.is_quiet() {
            self.note_end();
            return false;
        }
        let (idle, lives) = (self.idle(now), &self.open.place.servers().lives);
        self.seen_open = now;
        lives.still_open(endpoint.backend, idle);
        // What was observed does not count here: the server is about to close it, or it proves that
        // the observation is not true any more.
        idle < usable_for(self.open.announced.timeout(), None, endpoint.idle_timeout)
    }

    /// Closes it, and keeps its place.
    pub(super) fn into_place(self) -> Place {
        let Open { line, share, place, .. } = *self.open;
        drop((line, share));
        place
    }

    fn idle(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.last_used)
    }

    /// The server has closed it since it was last seen open.
    fn note_end(&self) {
        let idle = self.idle(self.seen_open);
        self.open.place.servers().lives.ended(self.open.endpoint.backend, idle);
    }
}

#[cfg(test)]
impl IdleConnection {
    pub(super) fn socket(&mut self) -> &mut ServerSocket {
        &mut self.open.line.socket
    }
}

#[cfg(test)]
#[path = "connection_tests.rs"]
mod tests;
