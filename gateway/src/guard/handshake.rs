//! What a connection has to show before its first request: the header of a proxy in front, and a
//! TLS handshake.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::BytesMut;
use gateway_core::protocol::head::{HeadError, end_of_head, is_hopeless};
use gateway_core::session::Timestamp;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use super::addresses::Counted;
use super::conn::Slot;
use super::prefixed::Prefixed;
use super::proxy_protocol::{HeaderError, ProxyHeader};
use super::refusal::Refusal;
use super::socket::ClientSocket;
use super::tls::{self, TlsInfo};
use super::{GuardLimits, ListenerContext, RejectedConnection, linger};
use crate::base::deadline::within;
use crate::config::{Listener, ProxyProtocol};
use crate::telemetry::metrics::HandshakeFailure;
use crate::tls::ListenerTls;
use crate::tls::certificates::LoadedCertificates;

/// Enough of a rejected request to see what it is.
const SHOWN_BYTES: usize = 1024;

/// What a connection passes before its first request: the PROXY protocol and TLS.
#[derive(Clone, Default)]
pub struct Handshake {
    tls: Option<Arc<ListenerTls>>,
    proxy: Option<ProxyProtocol>,
}

/// A connection that was accepted.
pub(super) struct Caller {
    pub socket: Prefixed,
    pub peer: SocketAddr,
    pub accepted: Timestamp,
}

impl Caller {
    pub fn new(socket: TcpStream, peer: SocketAddr, accepted: Timestamp) -> Self {
        Self { socket: Prefixed::new(socket), peer, accepted }
    }

    fn plain(self, client: SocketAddr, port: Option<u16>, counted: Option<Counted>) -> Entered {
        let (socket, ahead) = self.socket.into_parts();
        Entered {
            socket: ClientSocket::plain(socket, self.peer, self.accepted),
            ahead,
            client: Some(client),
            port,
            tls: None,
            counted,
        }
    }
}

/// A connection that may carry requests.
pub(super) struct Entered {
    pub socket: ClientSocket,
    /// The beginning of the first request, as far as it was read with the header of a proxy.
    pub ahead: BytesMut,
    pub client: Option<SocketAddr>,
    /// The port that the client connected to, where a proxy in front has said it.
    pub port: Option<u16>,
    pub tls: Option<TlsInfo>,
    pub counted: Option<Counted>,
}

impl Handshake {
    pub fn new(tls: Option<Arc<ListenerTls>>, proxy: Option<ProxyProtocol>) -> Self {
        Self { tls, proxy }
    }

    /// Whether the first bytes of an answer can be written without a handshake.
    pub(super) fn is_plain(&self) -> bool {
        self.tls.is_none()
    }

    /// `None` for a connection that has ended, which has been reported.
    pub(super) async fn enter(
        &self,
        caller: Caller,
        slot: &Slot,
        context: &ListenerContext,
        limits: &GuardLimits,
    ) -> Option<Entered> {
        // A listener on `[::]` has mapped addresses for its IPv4 clients.
        let peer = SocketAddr::new(caller.peer.ip().to_canonical(), caller.peer.port());
        let listener = slot.listener;
        if self.tls.is_none() && self.proxy.is_none() {
            let counted = match limits.judge(listener, peer.ip()) {
                Ok(()) => self.count(caller, peer, context, limits).await,
                Err(denied) => Err(denied),
            };
            return match counted {
                Ok((caller, counted)) => Some(caller.plain(peer, None, counted)),
                Err(rejected) => {
                    slot.events.connection_rejected(rejected);
                    None
                }
            };
        }
        // In a box of its own: what a handshake needs is not held for the life of a connection.
        let entered =
            Box::pin(within(limits.handshake, self.pass(caller, peer, listener, context, limits)));
        let rejected = tokio::select! {
            entered = entered => match entered {
                Ok(Ok(entered)) => return Some(entered),
                Ok(Err(rejected)) => rejected,
                Err(_) if self.tls.is_some() => RejectedConnection::Handshake(HandshakeFailure::Timeout),
                Err(_) => RejectedConnection::ProxyProtocol,
            },
            // Nobody waits for a handshake at the end of the process.
            () = context.shutdown_state.closes_idle() => RejectedConnection::Handshake(HandshakeFailure::Closed),
        };
        slot.events.connection_rejected(rejected);
        None
    }

    async fn pass(
        &self,
        mut caller: Caller,
        peer: SocketAddr,
        listener: usize,
        context: &ListenerContext,
        limits: &GuardLimits,
    ) -> Result<Entered, RejectedConnection> {
        let (mut client, mut port, mut judged) = (peer, None, true);
        let trusts = |proxy: &&ProxyProtocol| {
            proxy.trusted.iter().any(|network| network.contains(peer.ip()))
        };
        if let Some(proxy) = self.proxy.as_ref().filter(trusts) {
            match caller.socket.proxy_header().await {
                Ok(ProxyHeader::For(address, to)) => (client, port) = (address, Some(to)),
                // It looks whether we are there. What it asks for in its own name is judged then.
                Ok(ProxyHeader::Local) => judged = false,
                Ok(ProxyHeader::NotAHeader(_)) if !proxy.required => {}
                Err(HeaderError::Silent) => return Err(RejectedConnection::Silent),
                Ok(ProxyHeader::NotAHeader(_)) | Err(_) => {
                    return Err(RejectedConnection::ProxyProtocol);
                }
            }
        }
        // Before the handshake, which costs the most, and as soon as it is known who comes.
        if judged {
            limits.judge(listener, client.ip())?;
        }
        let (mut caller, counted) = self.count(caller, client, context, limits).await?;
        let Some(tls) = &self.tls else {
            return Ok(caller.plain(client, port, counted));
        };
        let Ok(Some(first)) = caller.socket.first_byte().await else {
            return Err(RejectedConnection::Silent);
        };
        if !tls::is_hello(&[first]) {
            refuse_plain(caller.socket).await;
            return Err(RejectedConnection::PlainOnTls);
        }
        let Caller { socket, peer, accepted } = caller;
        match tls::accept(socket, tls).await {
            Ok((tls, info)) => Ok(Entered {
                socket: ClientSocket::secured(tls, peer, accepted),
                ahead: BytesMut::new(),
                client: Some(client),
                port,
                tls: Some(info),
                counted,
            }),
            Err(failure) => Err(RejectedConnection::Handshake(failure)),
        }
    }

    /// Finds the connection a place among those of its client.
    async fn count(
        &self,
        caller: Caller,
        client: SocketAddr,
        context: &ListenerContext,
        limits: &GuardLimits,
    ) -> Result<(Caller, Option<Counted>), RejectedConnection> {
        if let Ok(counted) = context.count(client, limits) {
            return Ok((caller, counted));
        }
        if self.is_plain() {
            linger::turn_away(caller.socket).await;
        }
        Err(RejectedConnection::Crowded)
    }
}

/// Says to somebody who speaks plain HTTP to a TLS listener that this is a mistake, and to a BITS
/// client in the words of its protocol.
async fn refuse_plain(mut stream: Prefixed) {
    let mut head = Vec::with_capacity(SHOWN_BYTES);
    while end_of_head(&head, 0).is_none() && !is_hopeless(&head, 0) && head.len() < SHOWN_BYTES {
        match stream.read_buf(&mut head).await {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
    }
    let (_, answer) = Refusal::answer(&head, HeadError::Line, false);
    linger::say_and_drain(stream, &answer).await;
}

/// The handshakes in the order of the listeners.
pub fn handshakes(listeners: &[Listener], loaded: &[LoadedCertificates]) -> Vec<Handshake> {
    let handshake = |(listener, loaded): (&Listener, &LoadedCertificates)| {
        let tls = loaded.as_ref().map(|(tls, _)| Arc::clone(tls));
        Handshake::new(tls, listener.proxy_protocol.clone())
    };
    listeners.iter().zip(loaded).map(handshake).collect()
}
