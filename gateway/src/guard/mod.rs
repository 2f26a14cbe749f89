//! What stands between a client's socket and Pingora.
//!
//! Every connection is wrapped in a [`GuardStream`]. It reads request heads by itself, under a
//! deadline and a size limit, and lets Pingora see only heads that pass the strict check; it
//! counts bodies, so that a second request is never mistaken for a body or the other way round;
//! and when a connection ends with bytes unread, it drains them, because a reset would destroy
//! the answer on its way to the client.
//!
//! What is absent: any knowledge of BITS beyond the form of a refusal, and any buffering of
//! bodies.

mod addresses;
mod bond;
mod conn;
mod linger;
mod refusal;
mod serve;
mod stream;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use gateway_core::protocol::head::HeadLimits;
use gateway_core::protocol::network::Network;
use http::HeaderValue;
use pingora::apps::{HttpServerApp, ServerApp};
use pingora::protocols::Stream;
use pingora::server::ShutdownWatch;
use tokio::sync::Semaphore;

use crate::supervisor::InFlight;

pub use addresses::Addresses;
pub use bond::Bond;
pub use conn::Conn;
pub use refusal::{Refusal, ack_bytes, plain_bytes};
pub use stream::GuardStream;

/// Limits of one connection.
#[derive(Debug, Clone, Copy)]
pub struct GuardLimits {
    pub head: HeadLimits,
    /// From the first byte of a head to its end.
    pub head_timeout: Duration,
    /// Between two requests.
    pub idle: Duration,
    /// How much is read and thrown away so that a client can read our last answer.
    pub drain_bytes: u64,
    /// `POST` with `X-Http-Method-Override: BITS_POST` is refused like a packet.
    pub method_override: bool,
}

/// What the rest of the gateway wants to know of connections.
pub trait ConnectionEvents: Send + Sync {
    fn opened(&self, listener: usize);
    fn closed(&self, listener: usize);
    fn refused(&self, conn: &Conn, refusal: &Refusal);
    /// A head took too long.
    fn timed_out(&self);
    /// The connection cap was reached.
    fn turned_away(&self, listener: usize);
    /// One client has as many connections as it may.
    fn crowded(&self, listener: usize);
}

/// The application that Pingora runs for one listener: guard first, then the proxy.
pub struct Guarded<A, E> {
    inner: Arc<A>,
    events: Arc<E>,
    listener: usize,
    limits: GuardLimits,
    /// The cap, shared by all listeners.
    room: Arc<Semaphore>,
    /// For the end of the process.
    open: InFlight,
    entrance: Entrance,
}

/// What is the same for all connections of a listener.
#[derive(Debug, Clone, Default)]
pub struct Entrance {
    pub addresses: Arc<Addresses>,
    /// Not counted: behind one of these are many clients.
    pub trusted: Arc<[Network]>,
    /// The port that clients connect to.
    pub port: Option<HeaderValue>,
}

impl<A, E> Guarded<A, E> {
    pub fn new(
        inner: Arc<A>,
        events: Arc<E>,
        listener: usize,
        limits: GuardLimits,
        room: Arc<Semaphore>,
        open: InFlight,
    ) -> Self {
        Self { inner, events, listener, limits, room, open, entrance: Entrance::default() }
    }

    pub fn at(self, entrance: Entrance) -> Self {
        Self { entrance, ..self }
    }
}

#[async_trait]
impl<A, E> ServerApp for Guarded<A, E>
where
    A: HttpServerApp + Send + Sync + 'static,
    E: ConnectionEvents + 'static,
{
    async fn process_new(
        self: &Arc<Self>,
        stream: Stream,
        shutdown: &ShutdownWatch,
    ) -> Option<Stream> {
        let Ok(permit) = Arc::clone(&self.room).try_acquire_owned() else {
            self.events.turned_away(self.listener);
            linger::turn_away(stream).await;
            return None;
        };
        let events: Arc<dyn ConnectionEvents> = self.events.clone();
        let open = self.open.enter();
        let client = peer(&stream);
        let mut conn = Conn::new(self.listener, client, events, permit, open);
        if conn.enter(&self.entrance).is_err() {
            self.events.crowded(self.listener);
            linger::turn_away(stream).await;
            return None;
        }
        let conn = Arc::new(conn);
        let guarded = Box::new(GuardStream::new(stream, conn, self.limits));
        serve::spawn(Arc::clone(&self.inner), guarded, shutdown.clone());
        None
    }

    async fn cleanup(&self) {
        self.inner.http_cleanup().await;
    }
}

fn peer(stream: &Stream) -> Option<std::net::SocketAddr> {
    let digest = stream.get_socket_digest()?;
    let mut peer = digest.peer_addr()?.as_inet().copied()?;
    // A listener on `[::]` has mapped addresses for its IPv4 clients.
    peer.set_ip(peer.ip().to_canonical());
    Some(peer)
}

#[cfg(test)]
mod tests;
