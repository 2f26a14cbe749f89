//! State of one client connection, shared by its stream and its requests.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use futures_util::task::AtomicWaker;
use gateway_core::farm::BackendId;
use gateway_core::protocol::chunked::ChunkError;
use gateway_core::protocol::speaker::Speaker;
use http::HeaderValue;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::process::listening::Load;

use super::ConnectionEvents;
use super::addresses::Counted;
use super::bound_connections::{BoundConnections, ClientBonds};
use super::handshake::Entered;
use super::room::Permit;
use super::socket::ClientSocket;
use super::tls::TlsInfo;

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// The room that a connection takes, from the moment it is accepted: its handshake counts too.
pub(super) struct Slot {
    pub listener: usize,
    pub events: Arc<dyn ConnectionEvents>,
    _permit: Permit,
    /// The process does not end before the connection has, lingering included.
    _open: TaskTrackerToken,
    /// The thread that serves it counts it.
    _load: Load,
}

impl Slot {
    pub fn new(
        listener: usize,
        events: Arc<dyn ConnectionEvents>,
        permit: Permit,
        open: TaskTrackerToken,
        load: Load,
    ) -> Self {
        events.opened(listener);
        Self { listener, events, _permit: permit, _open: open, _load: load }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.events.closed(self.listener);
    }
}

pub struct Conn {
    /// Unique for the life of the process.
    pub id: u64,
    pub listener: usize,
    /// Of the client, as the proxy in front says if one may say so.
    pub client: Option<SocketAddr>,
    pub tls: Option<TlsInfo>,
    pub(super) events: Arc<dyn ConnectionEvents>,
    /// Requests handed to the proxy so far.
    requests: AtomicU64,
    /// The request that was handed over and is not finished; 0 between requests.
    current: AtomicU64,
    /// The request that was killed. A later one on the same connection, perhaps of another
    /// session, is not touched.
    killed: AtomicU64,
    pub(super) body_follows: AtomicBool,
    /// The body of its last request broke a rule.
    malformed_body: OnceLock<ChunkError>,
    /// How long the current request waits for a byte of its body, in milliseconds; 0 for ever.
    body_patience: AtomicU64,
    /// A byte of the body was not there in time. No request follows.
    stalled: AtomicBool,
    /// Milliseconds of the steady clock by which the answer to the current request has a whole
    /// head, or its next part; 0 for no such time.
    answer_due: AtomicU64,
    /// The head of the answer was not there in time. No request follows.
    overdue: AtomicBool,
    /// The client has ended its half.
    half_closed: AtomicBool,
    /// Bytes were handed to the kernel since the request began.
    answered: AtomicBool,
    /// The client of the current request speaks HTTP/1.0.
    http10: AtomicBool,
    pub(super) waker: AtomicWaker,
    /// The client's address, for the header that tells backends of it.
    pub forwarded_for: Option<HeaderValue>,
    /// The port that the client connected to.
    pub port: Option<HeaderValue>,
    _counted: Option<Counted>,
    /// Backend last used, plus one; 0 for none.
    backend: AtomicU32,
    /// There once a client on the connection has connections of its own at the backends.
    bound: OnceLock<Box<ClientBonds>>,
    /// A request on it has come from a proxy, so there may be many clients.
    shared: AtomicBool,
    /// No further request is read.
    ending: AtomicBool,
    _slot: Slot,
}

impl Conn {
    /// A connection that may carry requests; `port` is that of the listener.
    pub(super) fn new(
        slot: Slot,
        entered: Entered,
        port: Option<HeaderValue>,
    ) -> (ClientSocket, BytesMut, Self) {
        let Entered { socket, ahead, client, port: said, tls, counted } = entered;
        let port = said.map(HeaderValue::from).or(port);
        let conn = Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            listener: slot.listener,
            client,
            tls,
            events: Arc::clone(&slot.events),
            requests: AtomicU64::new(0),
            current: AtomicU64::new(0),
            killed: AtomicU64::new(0),
            body_follows: AtomicBool::new(false),
            malformed_body: OnceLock::new(),
            body_patience: AtomicU64::new(0),
            stalled: AtomicBool::new(false),
            answer_due: AtomicU64::new(0),
            overdue: AtomicBool::new(false),
            half_closed: AtomicBool::new(false),
            forwarded_for: client.and_then(|addr| addr.ip().to_string().try_into().ok()),
            answered: AtomicBool::new(false),
            http10: AtomicBool::new(false),
            waker: AtomicWaker::new(),
            port,
            _counted: counted,
            backend: AtomicU32::new(0),
            bound: OnceLock::new(),
            shared: AtomicBool::new(false),
            ending: AtomicBool::new(false),
            _slot: slot,
        };
        (socket, ahead, conn)
    }

    /// The scheme of the client's URL.
    pub fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    pub fn tls_version(&self) -> Option<&'static str> {
        self.tls.as_ref().map(|tls| tls.version)
    }

    /// The request that was handed over is finished; the next head may follow.
    pub fn request_done(&self) {
        self.current.store(0, Ordering::Release);
    }

    pub(super) fn request_started(&self, http10: bool) {
        self.answered.store(false, Ordering::Relaxed);
        self.answer_is_here();
        self.http10.store(http10, Ordering::Relaxed);
        let number = self.requests.fetch_add(1, Ordering::Relaxed) + 1;
        self.current.store(number, Ordering::Release);
    }

    /// Whether the client of the current request speaks HTTP/1.0: it knows neither chunks nor 1xx
    /// answers.
    pub fn is_http10(&self) -> bool {
        self.http10.load(Ordering::Relaxed)
    }

    /// Whether the client may have seen a byte of an answer to the current request.
    pub fn has_answered(&self) -> bool {
        self.answered.load(Ordering::Relaxed)
    }

    pub(super) fn wrote(&self) {
        self.answered.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_busy(&self) -> bool {
        self.current_request() != 0
    }

    /// Names the request being served, for [`Conn::kill`].
    pub fn current_request(&self) -> u64 {
        self.current.load(Ordering::Acquire)
    }

    /// Ends the connection at its next read or write, as if the client had reset it, if it still
    /// serves that request.
    pub fn kill(&self, request: u64) {
        self.killed.store(request, Ordering::Release);
        self.waker.wake();
    }

    pub fn is_killed(&self) -> bool {
        let current = self.current_request();
        current != 0 && current == self.killed.load(Ordering::Acquire)
    }

    /// Whether its last request was killed, finished or not.
    pub(super) fn was_killed(&self) -> bool {
        let killed = self.killed.load(Ordering::Acquire);
        killed != 0 && killed == self.requests.load(Ordering::Relaxed)
    }

    /// The client is sending a body that will not be read as one, so the connection must be
    /// drained before it closes.
    pub fn body_follows(&self) {
        self.body_follows.store(true, Ordering::Release);
    }

    /// No request follows on such a connection, so this is never taken back.
    pub(super) fn body_is_malformed(&self, error: ChunkError) {
        let _ = self.malformed_body.set(error);
    }

    /// Why reading failed, if that is because the body is none.
    pub fn malformed_body(&self) -> Option<ChunkError> {
        self.malformed_body.get().copied()
    }

    /// How long the current request, and those that follow, wait for the next byte of a body.
    pub fn wait_for_body(&self, patience: Duration) {
        let millis = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX);
        self.body_patience.store(millis.max(1), Ordering::Relaxed);
    }

    pub(super) fn body_patience(&self) -> Option<Duration> {
        let millis = self.body_patience.load(Ordering::Relaxed);
        (millis != 0).then(|| Duration::from_millis(millis))
    }

    pub(super) fn body_is_overdue(&self) {
        self.stalled.store(true, Ordering::Relaxed);
    }

    /// Whether reading failed because the body did not go on.
    pub fn has_stalled(&self) -> bool {
        self.stalled.load(Ordering::Relaxed)
    }

    /// The answer's head is to be whole by then, by the steady clock, or its next part is to be
    /// there. Until that is said of the request there is no such time, and none after
    /// [`Self::answer_is_here`].
    pub fn expect_answer(&self, by: Duration) {
        let millis = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        self.answer_due.store(millis.max(1), Ordering::Relaxed);
    }

    pub fn answer_is_here(&self) {
        self.answer_due.store(0, Ordering::Relaxed);
    }

    pub(super) fn answer_due(&self) -> Option<Duration> {
        let due = self.answer_due.load(Ordering::Relaxed);
        (due != 0).then(|| Duration::from_millis(due))
    }

    pub(super) fn answer_is_overdue(&self) {
        self.overdue.store(true, Ordering::Relaxed);
    }

    /// Whether reading failed because the answer did not come.
    pub fn is_answer_overdue(&self) -> bool {
        self.overdue.load(Ordering::Relaxed)
    }

    pub(super) fn closed_its_half(&self) {
        self.half_closed.store(true, Ordering::Relaxed);
    }

    /// Whether no request can follow, because the client sends nothing any more.
    pub fn is_half_closed(&self) -> bool {
        self.half_closed.load(Ordering::Relaxed)
    }

    /// Whether any request on the connection has come from a proxy.
    pub fn is_shared(&self) -> bool {
        self.shared.load(Ordering::Relaxed)
    }

    /// The next request is one of several clients'. Who was taken for the only one has nothing to
    /// say here any more, and of those that were named nobody has unless the other end is `trusted`.
    pub fn share(&self, trusted: bool) {
        self.shared.store(true, Ordering::Relaxed);
        if let Some(bound) = self.bound.get() {
            bound.keep(|speaker| match speaker {
                Speaker::Peer => false,
                Speaker::Named(..) => trusted,
                // No login is on it.
                Speaker::Unnamed => true,
            });
        }
    }

    /// From now on this client has connections of its own at the backends.
    pub fn bind(&self, speaker: Speaker) -> Arc<BoundConnections> {
        self.bound.get_or_init(Box::default).bind(speaker)
    }

    /// Whether a client on it has, or may get, connections of its own at the backends.
    pub fn has_bound_connections(&self) -> bool {
        self.bound.get().is_some()
    }

    pub fn bound_connections(&self, speaker: Speaker) -> Option<Arc<BoundConnections>> {
        self.bound.get()?.of(speaker)
    }

    /// Ends what has to end with connections to backends that have ended meanwhile.
    pub(super) fn look_at_bound_connections(&self, cx: &mut Context<'_>) {
        let Some(bound) = self.bound.get() else { return };
        while let Poll::Ready(bound_connections) = bound.poll_ended(cx) {
            self.lost(&bound_connections);
            if self.is_ending() {
                return;
            }
        }
    }

    /// A connection to a backend has ended that belongs to a client of this one.
    pub fn lost(&self, bound_connections: &Arc<BoundConnections>) {
        if self.bound.get().is_some_and(|bound| !bound.lost(bound_connections)) {
            self.end();
        }
    }

    /// No request follows.
    pub(super) fn end_bound_connections(&self) {
        if let Some(bound) = self.bound.get() {
            bound.end();
        }
    }

    /// Ends the connection as soon as it serves no request.
    pub fn end(&self) {
        self.ending.store(true, Ordering::Release);
        self.waker.wake();
    }

    pub fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Acquire)
    }

    /// The backend that this connection used last.
    pub fn backend(&self) -> Option<BackendId> {
        self.backend.load(Ordering::Relaxed).checked_sub(1).map(BackendId)
    }

    pub fn used_backend(&self, backend: BackendId) {
        self.backend.store(backend.0 + 1, Ordering::Relaxed);
    }
}

impl std::fmt::Debug for Conn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Conn").field("id", &self.id).field("client", &self.client).finish()
    }
}
