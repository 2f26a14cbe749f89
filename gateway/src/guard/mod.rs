//! What stands between a client's socket and Pingora.
//!
//! First comes the [`Handshake`]: the header of a proxy in front and the TLS handshake, where the listener
//! has them, under a deadline of their own. Then every connection is wrapped in a [`GuardStream`]. It
//! reads request heads by itself, under a deadline and a size limit, and lets Pingora see only
//! heads that pass the strict check; it counts bodies, so that a second request is never mistaken for a body or the other way round;
//! and when a connection ends with bytes unread, it drains them, because a reset would destroy
//! the answer on its way to the client.
//!
//! What is absent: any knowledge of BITS beyond the form of a refusal, and any buffering of
//! bodies.

mod addresses;
mod body_memory;
mod body_part;
mod bound_connections;
mod conn;
mod digests;
mod handshake;
mod held;
mod last_head;
mod linger;
mod prefixed;
pub mod proxy_protocol;
mod refusal;
mod relayed;
#[cfg(test)]
pub mod rig;
mod room;
mod serve;
mod socket;
mod stall;
mod stream;
mod tls;

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use gateway_core::protocol::access::{Access, Denial};
use gateway_core::protocol::head::{HeadLimits, HeadPolicy};
use gateway_core::protocol::network::Network;
use gateway_core::session::limits::PerClient;
use http::HeaderValue;
use pingora::apps::HttpServerApp;
use pingora::server::ShutdownWatch;
use tokio_util::task::TaskTracker;

use crate::base::clock;
use crate::process::listening::{Accepted, Handler};
use crate::process::supervisor::Shutdown;
use crate::telemetry::metrics::HandshakeFailure;

pub use addresses::Addresses;
use addresses::{Counted, Full};
pub use body_memory::BodyMemory;
use body_memory::BodyShare;
pub use bound_connections::{BoundConnections, Held};
pub use conn::Conn;
use conn::Slot;
use handshake::Caller;
pub use handshake::{Handshake, handshakes};
pub use last_head::Reading;
pub use refusal::{Refusal, ack_bytes, plain_bytes};
pub use room::Room;
pub use serve::Carrier;
pub use socket::ClientSocket;
pub use stream::{AHEAD, GuardStream};
pub use tls::TlsInfo;

/// Limits of a connection, from its beginning to its end.
#[derive(Debug, Clone)]
pub struct GuardLimits {
    /// Connections that one client may have.
    pub per_address: PerClient,
    /// Not counted: behind one of these are many clients.
    pub trusted: Vec<Network>,
    /// By listener; one that is not there serves everybody.
    pub access: Vec<Access>,
    /// For everything before the first request.
    pub handshake: Duration,
    pub head: HeadLimits,
    /// From the first byte of a head to its end.
    pub head_timeout: Duration,
    /// Between two requests.
    pub idle: Duration,
    /// How much is read and thrown away so that a client can read our last answer.
    pub drain_bytes: u64,
    /// What the bodies of all requests may take of memory.
    pub body_memory: u64,
    /// `POST` with `X-Http-Method-Override: BITS_POST` is refused like a packet.
    pub method_override: bool,
    /// The names that requests may be for; `None` is any.
    pub hosts: Option<Arc<HashSet<String>>>,
    /// Bytes beyond ASCII in a path are escaped, not refused.
    pub escape_path: bool,
}

impl GuardLimits {
    fn trusts(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|proxy| proxy.contains(address))
    }

    /// Whether a connection may go on to its first head. For whom a trusted proxy speaks is known
    /// there, and a client that is to hear of its denial hears it there.
    fn judge(&self, listener: usize, client: IpAddr) -> Result<(), RejectedConnection> {
        let Some(access) = self.access.get(listener) else { return Ok(()) };
        let enters = access.denial == Denial::Forbidden;
        if enters || access.admits(client) || self.trusts(client) {
            return Ok(());
        }
        Err(RejectedConnection::Denied(client))
    }

    fn policy(&self) -> HeadPolicy<'_> {
        HeadPolicy { hosts: self.hosts.as_deref(), escape_path: self.escape_path }
    }
}

/// What the rest of the gateway wants to know of connections.
pub trait ConnectionEvents: Send + Sync {
    fn opened(&self, listener: usize);
    fn closed(&self, listener: usize);
    /// `head` is what came of the head, legal or not.
    fn refused(&self, conn: &Conn, refusal: &Refusal, head: &[u8]);
    /// A head took too long.
    fn timed_out(&self);
    /// The connection cap was reached.
    fn turned_away(&self, listener: usize);
    /// The connection ended before it could carry a request.
    fn connection_rejected(&self, rejected: RejectedConnection);
}

/// Why a connection could carry no request, whatever it was to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RejectedConnection {
    /// It ended without a byte, as the checks of balancers do.
    Silent,
    /// Something else than TLS came to a listener that speaks it.
    PlainOnTls,
    TlsOnPlain,
    /// The header of the PROXY protocol was missing, wrong or late.
    ProxyProtocol,
    /// Its client has as many connections as it may.
    Crowded,
    /// The listener does not serve its client.
    Denied(IpAddr),
    Handshake(HandshakeFailure),
}

/// What serves the connections of one listener: guard first, then the proxy.
pub struct Guarded<A, E> {
    inner: Arc<A>,
    events: Arc<E>,
    listener: usize,
    handshake: Handshake,
    /// For the next connection.
    limits: Arc<ArcSwap<GuardLimits>>,
    /// For the end of the process.
    open: TaskTracker,
    context: ListenerContext,
    carrier: Option<Arc<dyn Carrier>>,
}

/// What is the same for all connections of a listener.
#[derive(Debug, Clone, Default)]
pub struct ListenerContext {
    /// The cap, shared by all listeners.
    pub room: Arc<Room>,
    pub addresses: Arc<Addresses>,
    /// Shared by all listeners, too.
    pub bodies: Arc<BodyMemory>,
    /// The port that clients connect to, where no proxy in front says another.
    pub port: Option<HeaderValue>,
    /// When it is said, connections that wait for a request are closed.
    pub shutdown_state: Shutdown,
}

impl ListenerContext {
    /// A place among the connections of a client.
    fn count(&self, client: SocketAddr, limits: &GuardLimits) -> Result<Option<Counted>, Full> {
        let (client, room) = (client.ip(), &self.room);
        let counted = Some(client).filter(|address| !limits.trusts(*address));
        let entered = self.addresses.enter(counted, limits.per_address, room);
        entered.inspect_err(|Full { held }| {
            self.addresses.warned.warn(|| {
                tracing::warn!(
                    %client, connections = held, all = room.taken() - 1, limit = room.limit(),
                    "a client has as many connections as `limits.connections_per_address` allows"
                );
            });
        })
    }
}

impl<A, E> Guarded<A, E> {
    pub fn new(
        inner: Arc<A>,
        events: Arc<E>,
        listener: usize,
        handshake: Handshake,
        limits: Arc<ArcSwap<GuardLimits>>,
        open: TaskTracker,
    ) -> Self {
        let context = ListenerContext::default();
        Self { inner, events, listener, handshake, limits, open, context, carrier: None }
    }

    pub fn at(self, context: ListenerContext) -> Self {
        Self { context, ..self }
    }

    /// What is the carrier's is not served by Pingora.
    pub fn with(self, carrier: Arc<dyn Carrier>) -> Self {
        Self { carrier: Some(carrier), ..self }
    }
}

impl<A, E> Handler for Guarded<A, E>
where
    A: HttpServerApp + Send + Sync + 'static,
    E: ConnectionEvents + 'static,
{
    async fn serve(self: Arc<Self>, connection: Accepted, shutdown: ShutdownWatch) {
        let Accepted { socket, peer, load } = connection;
        let caller = Caller::new(socket, peer, clock::now());
        let Some(permit) = self.context.room.enter() else {
            self.events.turned_away(self.listener);
            if self.handshake.is_plain() {
                linger::turn_away(caller.socket).await;
            }
            return;
        };
        let events: Arc<dyn ConnectionEvents> = self.events.clone();
        let open = self.open.token();
        let limits = self.limits.load_full();
        let slot = Slot::new(self.listener, events, permit, open, load);
        let Some(entered) = self.handshake.enter(caller, &slot, &self.context, &limits).await
        else {
            return;
        };
        let port = self.context.port.clone();
        let (socket, ahead, conn) = Conn::new(slot, entered, port);
        let bodies = BodyShare::of(Arc::clone(&self.context.bodies));
        let guarded = GuardStream::new(socket, ahead, Arc::new(conn), limits, bodies);
        let shutdown_state = self.context.shutdown_state.clone();
        let carrier = self.carrier.clone();
        serve::spawn(Arc::clone(&self.inner), Box::new(guarded), shutdown, shutdown_state, carrier);
    }

    async fn cleanup(&self) {
        self.inner.http_cleanup().await;
    }
}

#[cfg(test)]
mod tests;
