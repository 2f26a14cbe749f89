//! A connection of our own making, with TLS or without, as Pingora wants its streams.

use std::io;
use std::marker::PhantomData;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, Stream,
    TimingDigest, UniqueID, UniqueIDType,
};
use pingora::upstreams::peer::Tracer;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::{client, server};

/// What is read at once from a backend.
///
/// Pingora passes a body on in the pieces in which it was read, as soon as they are there: up to nine of
/// them wait for a client that takes them slowly, which is half a mebibyte of its own 64 KiB.
const PIECE: usize = 16 * 1024;

/// For the alert that says goodbye, which a peer that has stopped reading would hold up.
const GOODBYE: Duration = Duration::from_secs(1);

/// Bytes in the clear on this side, TLS on the other. `T` is what it goes over.
pub struct SecureStream<T, S> {
    tls: T,
    /// What Pingora asks of sockets.
    facts: S,
}

/// From a client, over what Pingora accepted.
pub type FromClient = SecureStream<server::TlsStream<Stream>, ()>;

/// What can be said of a TLS stream from the one below it.
pub trait Facts: Unpin + Send + Sync + 'static {
    type Tls: AsyncRead + AsyncWrite + Unpin + Send + Sync + 'static;

    /// Whether a peer that closes without a goodbye has said all that it had to say.
    const GOODBYE_IS_OPTIONAL: bool;
    /// No read returns more.
    const MOST: usize = usize::MAX;

    fn id(&self, tls: &Self::Tls) -> UniqueIDType;
    fn socket(&self, tls: &Self::Tls) -> Option<Arc<SocketDigest>>;
    fn timing(&self, tls: &Self::Tls) -> Vec<Option<TimingDigest>>;
}

impl Facts for () {
    type Tls = server::TlsStream<Stream>;

    /// Nothing rests on the difference: heads and bodies of requests say themselves where they end.
    const GOODBYE_IS_OPTIONAL: bool = true;

    fn id(&self, tls: &Self::Tls) -> UniqueIDType {
        tls.get_ref().0.id()
    }

    fn socket(&self, tls: &Self::Tls) -> Option<Arc<SocketDigest>> {
        tls.get_ref().0.get_socket_digest()
    }

    fn timing(&self, tls: &Self::Tls) -> Vec<Option<TimingDigest>> {
        tls.get_ref().0.get_timing_digest()
    }
}

/// Of a connection that our own connector made. `T` is what its bytes in the clear are read from.
pub struct ToBackend<T> {
    digest: Arc<SocketDigest>,
    _traced: Traced,
    _over: PhantomData<fn() -> T>,
}

impl<T> ToBackend<T> {
    pub fn new(digest: SocketDigest, traced: Traced) -> Self {
        Self { digest: Arc::new(digest), _traced: traced, _over: PhantomData }
    }
}

/// Tells whoever wants to know of the beginning and the end of a connection, as Pingora does for
/// those that it makes itself.
pub struct Traced(Option<Tracer>);

impl Traced {
    pub fn new(tracer: Option<Tracer>) -> Self {
        if let Some(tracer) = &tracer {
            tracer.0.on_connected();
        }
        Self(tracer)
    }
}

impl Drop for Traced {
    fn drop(&mut self) {
        if let Some(tracer) = &self.0 {
            tracer.0.on_disconnected();
        }
    }
}

/// What a connection to a backend goes over.
pub trait OverTcp: AsyncRead + AsyncWrite + Unpin + Send + Sync + 'static {
    fn tcp(&self) -> &TcpStream;
}

impl OverTcp for TcpStream {
    fn tcp(&self) -> &TcpStream {
        self
    }
}

impl OverTcp for client::TlsStream<TcpStream> {
    fn tcp(&self) -> &TcpStream {
        self.get_ref().0
    }
}

impl<T: OverTcp> Facts for ToBackend<T> {
    type Tls = T;
    const MOST: usize = PIECE;

    /// Hazard: an answer without a length ends with its connection, and anybody on the way can end
    /// that. Without the goodbye it is broken off, not whole (RFC 9112 section 9.8).
    const GOODBYE_IS_OPTIONAL: bool = false;

    /// The pool keeps connections by this.
    fn id(&self, over: &T) -> UniqueIDType {
        over.tcp().as_raw_fd()
    }

    fn socket(&self, _: &T) -> Option<Arc<SocketDigest>> {
        Some(Arc::clone(&self.digest))
    }

    fn timing(&self, _: &T) -> Vec<Option<TimingDigest>> {
        vec![]
    }
}

impl<S: Facts> SecureStream<S::Tls, S> {
    pub fn new(tls: S::Tls, facts: S) -> Self {
        Self { tls, facts }
    }
}

impl<S: Facts> AsyncRead for SecureStream<S::Tls, S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = if out.remaining() > S::MOST {
            let mut piece = ReadBuf::new(out.initialize_unfilled_to(S::MOST));
            let read = Pin::new(&mut self.tls).poll_read(cx, &mut piece);
            let count = piece.filled().len();
            out.advance(count);
            read
        } else {
            Pin::new(&mut self.tls).poll_read(cx, out)
        };
        match ready!(read) {
            Err(error)
                if S::GOODBYE_IS_OPTIONAL && error.kind() == io::ErrorKind::UnexpectedEof =>
            {
                Poll::Ready(Ok(()))
            }
            result => Poll::Ready(result),
        }
    }
}

impl<S: Facts> AsyncWrite for SecureStream<S::Tls, S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tls).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tls).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.tls.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_shutdown(cx)
    }
}

#[async_trait]
impl<S: Facts> Shutdown for SecureStream<S::Tls, S> {
    async fn shutdown(&mut self) {
        // Whether the peer heard it changes nothing.
        let _ = tokio::time::timeout(GOODBYE, self.tls.shutdown()).await;
    }
}

impl<S: Facts> UniqueID for SecureStream<S::Tls, S> {
    fn id(&self) -> UniqueIDType {
        self.facts.id(&self.tls)
    }
}

impl<S: Facts> Ssl for SecureStream<S::Tls, S> {}

impl<S: Facts> GetTimingDigest for SecureStream<S::Tls, S> {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        self.facts.timing(&self.tls)
    }
}

impl<S: Facts> GetProxyDigest for SecureStream<S::Tls, S> {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        None
    }
}

impl<S: Facts> GetSocketDigest for SecureStream<S::Tls, S> {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.facts.socket(&self.tls)
    }
}

impl<S: Facts> Peek for SecureStream<S::Tls, S> {}

impl<T, S> std::fmt::Debug for SecureStream<T, S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SecureStream").finish_non_exhaustive()
    }
}
