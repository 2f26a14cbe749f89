//! What a connection has to show before its first request: the header of a proxy in front, and a
//! TLS handshake.

use std::net::SocketAddr;
use std::sync::Arc;

use gateway_core::protocol::head::{HeadError, end_of_head, is_hopeless};
use pingora::protocols::Stream;
use pingora::protocols::l4;
use tokio::io::AsyncReadExt;

use super::addresses::Counted;
use super::conn::Slot;
use super::proxy_protocol::{self, HeaderError, Spoken};
use super::refusal::Refusal;
use super::tls::{self, TlsInfo};
use super::{Entrance, GuardLimits, Stray, linger};
use crate::config::ProxyProtocol;
use crate::metrics::HandshakeFailure;
use crate::patience::within;
use crate::tls::ListenerTls;

/// Enough of a stray request to see what it is.
const LOOK: usize = 1024;

/// How a listener is entered.
#[derive(Clone, Default)]
pub struct Door {
    tls: Option<Arc<ListenerTls>>,
    proxy: Option<ProxyProtocol>,
}

/// A connection that may carry requests.
pub(super) struct Entered {
    pub stream: Stream,
    pub client: Option<SocketAddr>,
    /// The port that the client connected to, where a proxy in front has said it.
    pub port: Option<u16>,
    pub tls: Option<TlsInfo>,
    pub counted: Option<Counted>,
}

impl Door {
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
        stream: Stream,
        slot: &Slot,
        entrance: &Entrance,
        limits: &GuardLimits,
    ) -> Option<Entered> {
        let client = peer(&stream);
        if self.tls.is_none() && self.proxy.is_none() {
            return match self.count(stream, client, entrance, limits).await {
                Ok((stream, counted)) => {
                    Some(Entered { stream, client, port: None, tls: None, counted })
                }
                Err(stray) => {
                    slot.events.strayed(stray);
                    None
                }
            };
        }
        // In a box of its own: what a handshake needs is not held for the life of a connection.
        let entered =
            Box::pin(within(limits.handshake, self.pass(stream, client, entrance, limits)));
        let stray = tokio::select! {
            entered = entered => match entered {
                Ok(Ok(entered)) => return Some(entered),
                Ok(Err(stray)) => stray,
                Err(_) if self.tls.is_some() => Stray::Handshake(HandshakeFailure::Timeout),
                Err(_) => Stray::ProxyProtocol,
            },
            // Nobody waits for a handshake at the end of the process.
            () = entrance.farewell.said() => Stray::Handshake(HandshakeFailure::Closed),
        };
        slot.events.strayed(stray);
        None
    }

    async fn pass(
        &self,
        mut stream: Stream,
        peer: Option<SocketAddr>,
        entrance: &Entrance,
        limits: &GuardLimits,
    ) -> Result<Entered, Stray> {
        let (mut client, mut port) = (peer, None);
        let trusting = self.proxy.as_ref().filter(|proxy| {
            peer.is_some_and(|peer| proxy.trusted.iter().any(|net| net.contains(peer.ip())))
        });
        if let Some(proxy) = trusting {
            match proxy_protocol::read(&mut stream).await {
                Ok(Spoken::For(address, to)) => (client, port) = (Some(address), Some(to)),
                Ok(Spoken::ForItself) => {}
                Ok(Spoken::Nothing(bytes)) if !proxy.required => {
                    stream = rewind(stream, &bytes)?;
                }
                Err(HeaderError::Silent) => return Err(Stray::Silent),
                Ok(Spoken::Nothing(_)) | Err(_) => return Err(Stray::ProxyProtocol),
            }
        }
        // Before the handshake, which costs the most, and as soon as it is known who comes.
        let (mut stream, counted) = self.count(stream, client, entrance, limits).await?;
        let Some(tls) = &self.tls else {
            return Ok(Entered { stream, client, port, tls: None, counted });
        };
        let mut first = [0];
        if stream.try_peek(&mut first).await.is_err() {
            return Err(Stray::Silent);
        }
        if !tls::is_hello(&first) {
            refuse_plain(stream).await;
            return Err(Stray::PlainOnTls);
        }
        match tls::accept(stream, tls).await {
            Ok((stream, info)) => Ok(Entered { stream, client, port, tls: Some(info), counted }),
            Err(failure) => Err(Stray::Handshake(failure)),
        }
    }

    /// Finds the connection a place among those of its client.
    async fn count(
        &self,
        stream: Stream,
        client: Option<SocketAddr>,
        entrance: &Entrance,
        limits: &GuardLimits,
    ) -> Result<(Stream, Option<Counted>), Stray> {
        if let Ok(counted) = entrance.count(client, limits) {
            return Ok((stream, counted));
        }
        if self.is_plain() {
            linger::turn_away(stream).await;
        }
        Err(Stray::Crowded)
    }
}

/// Puts back what was read too early.
fn rewind(stream: Stream, bytes: &[u8]) -> Result<Stream, Stray> {
    // What Pingora accepts is always of this type.
    let stream = stream.into_any().downcast::<l4::stream::Stream>();
    let mut stream = stream.map_err(|_| Stray::Handshake(HandshakeFailure::Other))?;
    stream.rewind(bytes);
    Ok(stream)
}

/// Says to somebody who speaks plain HTTP to a TLS listener that this is a mistake, and to a BITS
/// client in the words of its protocol.
async fn refuse_plain(mut stream: Stream) {
    let mut head = Vec::with_capacity(LOOK);
    while end_of_head(&head, 0).is_none() && !is_hopeless(&head, 0) && head.len() < LOOK {
        match stream.read_buf(&mut head).await {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
    }
    let (_, answer) = Refusal::answer(&head, HeadError::Line, false);
    linger::say_and_drain(stream, &answer).await;
}

fn peer(stream: &Stream) -> Option<SocketAddr> {
    let digest = stream.get_socket_digest()?;
    let mut peer = digest.peer_addr()?.as_inet().copied()?;
    // A listener on `[::]` has mapped addresses for its IPv4 clients.
    peer.set_ip(peer.ip().to_canonical());
    Some(peer)
}
