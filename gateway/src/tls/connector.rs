//! Connections to backends, for Pingora's pool.
//!
//! Pingora's own rustls connector makes a new client configuration for every connection to a peer
//! with its own authority or certificate, and loses the sessions that could be resumed; and it loads
//! the system's authorities at the start, with a panic if it cannot. Its own stream without TLS has a
//! read buffer of 64 KiB, and returns as much at once, several of which wait for a client that reads
//! slowly. So peers are given a protocol of their own, for which Pingora asks this connector. What it
//! returns is a stream, on which Pingora speaks HTTP/1.1 and which it keeps in its pool like any other.

use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::{Arc, OnceLock, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use gateway_core::farm::BackendId;
use parking_lot::Mutex;
use pingora::connectors::http::custom;
use pingora::protocols::l4::ext::set_tcp_keepalive;
use pingora::protocols::l4::socket::SocketAddr;
use pingora::protocols::tls::CustomALPN;
use pingora::protocols::{ALPN, SocketDigest, Stream};
use pingora::proxy::{HttpProxy, ProxyHttp, ProxyServiceBuilder};
use pingora::server::configuration::ServerConf;
use pingora::upstreams::peer::{HttpPeer, Peer};
use pingora::{Error, ErrorType, OkOrErr, OrErr, Result};
use rustix::io::Errno;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::client::{BackendTls, is_distrust};
use super::stream::{ToBackend, Traced};
use crate::base::clock;

/// Goes over no wire: it marks a peer as one of this connector's.
const PROTOCOL: &[u8] = b"bits-gateway";

/// A peer can carry text to the connector, and nothing else of ours; so the text is a number that
/// stands for the rest.
static KNOWN: OnceLock<Mutex<Vec<Weak<BackendTls>>>> = OnceLock::new();

/// As many connections to the backend are open as may be, and none became free in time.
pub const NO_PLACE: ErrorType = ErrorType::Custom("no place for a connection");

/// Takes a place among the connections to a backend, until the deadline: kept until what is returned is
/// dropped.
pub type TakePlace =
    Arc<dyn Fn(BackendId, Instant) -> BoxFuture<'static, Option<OwnPlace>> + Send + Sync>;

/// Says that a connection is open.
pub type OwnPlace = Box<dyn Send + Sync>;

/// Turns a peer into one that this connector connects to.
pub fn own(peer: &mut HttpPeer) {
    peer.options.alpn = ALPN::Custom(CustomALPN::new(PROTOCOL.to_vec()));
}

/// The same, by TLS.
pub fn secure(peer: &mut HttpPeer, tls: &Arc<BackendTls>) {
    own(peer);
    let mut known = KNOWN.get_or_init(Mutex::default).lock();
    known.retain(|other| other.strong_count() > 0);
    if !known.iter().any(|other| std::ptr::eq(other.as_ptr(), Arc::as_ptr(tls))) {
        known.push(Arc::downgrade(tls));
    }
    peer.sni = format!("{}/{}", peer.sni, tls.id);
}

/// A peer of that backend. What stands in place of a name is part of the pool's key: a connection serves
/// only requests for which it would have been made alike.
pub fn peer(backend: BackendId, address: std::net::SocketAddr, tls: bool) -> HttpPeer {
    HttpPeer::new(address, tls, backend.0.to_string())
}

fn backend_of(peer: &impl Peer) -> Option<BackendId> {
    peer.sni().split('/').next()?.parse().ok().map(BackendId)
}

fn find(peer: &impl Peer) -> Option<Arc<BackendTls>> {
    let id: u64 = peer.sni().split('/').nth(1)?.parse().ok()?;
    let known = KNOWN.get()?.lock();
    known.iter().filter_map(Weak::upgrade).find(|tls| tls.id == id)
}

/// The proxy with this connector in it.
pub fn proxy<P>(conf: &Arc<ServerConf>, inner: P, places: TakePlace) -> HttpProxy<P, Connector>
where
    P: ProxyHttp + Send + Sync + 'static,
    P::CTX: Send + Sync + 'static,
{
    let nobody = Arc::new(|_, _, _: &_| {
        let nothing: BoxFuture<'static, Option<Stream>> = Box::pin(std::future::ready(None));
        nothing
    });
    let service =
        ProxyServiceBuilder::new(conf, inner).custom(Connector(Some(places)), nobody).build();
    let mut service = ManuallyDrop::new(service);
    let proxy = service.app_logic_mut().expect("a service that was not started has it");
    // SAFETY: the service is never used nor dropped again, so this is the one owner of the proxy. Its
    // name and its empty list of listeners are lost, once in the life of the process.
    unsafe { std::ptr::read(proxy) }
}

/// Connects to backends whose peers are its [`own`]. Without somebody to ask for places its connections
/// are not counted.
pub struct Connector(pub Option<TakePlace>);

#[async_trait]
impl custom::Connector for Connector {
    type Session = ();

    async fn get_http_session<P: Peer + Send + Sync + 'static>(
        &self,
        peer: &P,
    ) -> Result<(custom::Connection<()>, bool)> {
        let stream = connect(peer, self.0.as_ref()).await.map_err(Error::into_up)?;
        Ok((custom::Connection::Stream(stream), false))
    }

    fn reused_http_session<'this, 'peer, 'both, P>(
        &'this self,
        _: &'peer P,
    ) -> BoxFuture<'both, Option<()>>
    where
        P: Peer + Send + Sync + 'static,
        'this: 'both,
        'peer: 'both,
    {
        // Asked for each request, and boxed without an allocation, since there is nothing in it.
        Box::pin(PoolOfPingora)
    }

    async fn release_http_session<P: Peer + Send + Sync + 'static>(
        &self,
        (): (),
        _: &P,
        _: Option<Duration>,
    ) {
    }
}

/// Where the connections are that may be used again.
struct PoolOfPingora;

impl Future for PoolOfPingora {
    type Output = Option<()>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(None)
    }
}

async fn connect(peer: &(impl Peer + 'static), places: Option<&TakePlace>) -> Result<Stream> {
    let tls = match peer.tls() {
        true => Some(find(peer).or_err(ErrorType::InternalError, "no TLS settings for this peer")?),
        false => None,
    };
    let limit = peer.total_connection_timeout();
    let limit = limit.or_err(ErrorType::InternalError, "no time limit for this peer")?;
    let place = match (places, backend_of(peer)) {
        (Some(take), Some(backend)) => match take(backend, clock::stopwatch() + limit).await {
            None => return Error::e_explain(NO_PLACE, "none became free in time"),
            place => place,
        },
        _ => None,
    };
    let deadline = clock::stopwatch() + limit;
    let SocketAddr::Inet(address) = peer.address() else {
        return Error::e_explain(ErrorType::InternalError, "backends are reached by TCP");
    };
    let connected = timeout_at(deadline, TcpStream::connect(address)).await;
    let connected = connected.or_err(ErrorType::ConnectTimedout, "no TCP connection in time")?;
    let stream = connected.map_err(tcp_error)?;
    stream.set_nodelay(true).or_err(ErrorType::InternalError, "TCP_NODELAY")?;
    if let Some(keepalive) = peer.tcp_keepalive() {
        set_tcp_keepalive(&stream, keepalive)?;
    }
    let traced = Traced::new(peer.get_tracer());
    let digest = SocketDigest::from_raw_fd(stream.as_raw_fd());
    let _ = digest.peer_addr.set(Some(peer.address().clone()));
    let Some(tls) = tls else {
        return Ok(Box::new(ToBackend::new(stream, digest, (traced, place))));
    };
    let secured = tls.connect(stream, deadline).await.map_err(|error| {
        let kind = match error.kind() {
            io::ErrorKind::TimedOut => ErrorType::ConnectTimedout,
            _ if is_distrust(&error) => ErrorType::InvalidCert,
            _ => ErrorType::TLSHandshakeFailure,
        };
        Error::because(kind, "TLS to a backend", error)
    })?;
    Ok(Box::new(ToBackend::new(secured, digest, (traced, place))))
}

/// In Pingora's words, by which faults of the backend are told from our own.
fn tcp_error(error: io::Error) -> Box<Error> {
    let kind = match Errno::from_io_error(&error) {
        Some(Errno::CONNREFUSED) => ErrorType::ConnectRefused,
        Some(Errno::TIMEDOUT) => ErrorType::ConnectTimedout,
        Some(Errno::NETUNREACH | Errno::HOSTUNREACH) => ErrorType::ConnectNoRoute,
        Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM | Errno::ADDRNOTAVAIL) => {
            ErrorType::InternalError
        }
        _ => ErrorType::ConnectError,
    };
    Error::because(kind, "TCP to a backend", error)
}

/// Whether a connection failed at the backend, not for want of descriptors or ports here: running
/// out of those must not take the farm down.
pub fn is_backends_fault(error: &Error) -> bool {
    use ErrorType as T;
    matches!(
        error.etype(),
        T::ConnectRefused
            | T::ConnectTimedout
            | T::ConnectNoRoute
            | T::ConnectError
            | T::TLSHandshakeFailure
            | T::InvalidCert
    )
}
