//! A connection without a listener, for tests.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::BytesMut;
use gateway_core::protocol::head::HeadLimits;
use gateway_core::session::Timestamp;
use gateway_core::session::limits::PerClient;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::TaskTracker;

use super::conn::Slot;
use super::handshake::Entered;
use super::{
    BodyShare, ClientSocket, Conn, ConnectionEvents, GuardLimits, GuardStream, Refusal,
    RejectedConnection, Room,
};
use crate::process::listening::Load;

#[derive(Default)]
pub struct Events(pub Mutex<Vec<String>>);

impl ConnectionEvents for Events {
    fn opened(&self, _: usize) {
        self.0.lock().unwrap().push("opened".into());
    }
    fn closed(&self, _: usize) {
        self.0.lock().unwrap().push("closed".into());
    }
    fn refused(&self, _: &Conn, refusal: &Refusal, _: &[u8]) {
        self.0.lock().unwrap().push(format!("refused: {}", refusal.error));
    }
    fn timed_out(&self) {
        self.0.lock().unwrap().push("timed out".into());
    }
    fn turned_away(&self, _: usize) {}
    fn connection_rejected(&self, rejected: RejectedConnection) {
        self.0.lock().unwrap().push(format!("connection_rejected: {rejected:?}"));
    }
}

pub const LIMITS: GuardLimits = GuardLimits {
    access: Vec::new(),
    per_address: PerClient::Unlimited,
    trusted: Vec::new(),
    handshake: Duration::from_secs(10),
    head: HeadLimits { head_bytes: 1024, line_bytes: 256, fields: 20 },
    head_timeout: Duration::from_secs(15),
    idle: Duration::from_secs(75),
    drain_bytes: 1024,
    body_memory: 1024 * 1024,
    method_override: false,
    hosts: None,
    escape_path: false,
};

/// A guard over that socket; some bytes have come with the header of a proxy.
pub fn over(socket: ClientSocket, ahead: &str, limits: GuardLimits) -> (GuardStream, Arc<Events>) {
    let events = Arc::new(Events::default());
    let (socket, ahead, conn) = enter(socket, ahead, None, &events);
    let guard =
        GuardStream::new(socket, ahead, Arc::new(conn), Arc::new(limits), BodyShare::default());
    (guard, events)
}

/// A connection from that address, which carries nothing.
pub fn conn_of(client: SocketAddr) -> Arc<Conn> {
    let (_, server) = tokio::io::duplex(1024);
    let socket = ClientSocket::pipe(server);
    Arc::new(enter(socket, "", Some(client), &Arc::default()).2)
}

fn enter(
    socket: ClientSocket,
    ahead: &str,
    client: Option<SocketAddr>,
    events: &Arc<Events>,
) -> (ClientSocket, BytesMut, Conn) {
    let permit = Arc::new(Room::of(1)).enter().unwrap();
    let slot = Slot::new(0, events.clone(), permit, TaskTracker::new().token(), Load::of_none());
    let ahead = BytesMut::from(ahead);
    let entered = Entered { socket, ahead, client, port: None, tls: None, counted: None };
    Conn::new(slot, entered, None)
}

/// A client by TCP and the guard over the other end, which has memory for bodies.
pub async fn tcp() -> (TcpStream, GuardStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (accepted, peer) = listener.accept().await.unwrap();
    let socket = ClientSocket::plain(accepted, peer, Timestamp::default());
    let limits = GuardLimits { body_memory: 64 * 1024 * 1024, ..LIMITS };
    (client, over(socket, "", limits).0)
}

/// Waits for a request.
pub async fn request(guard: &mut GuardStream) -> bool {
    poll_fn(|cx| guard.poll_request(cx)).await
}
