//! A TLS connection as Pingora wants its streams.

use std::io;
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

/// Of a connection that our own connector made.
pub struct ToBackend {
    pub digest: Arc<SocketDigest>,
    pub _traced: Traced,
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

impl Facts for ToBackend {
    type Tls = client::TlsStream<TcpStream>;

    /// Hazard: an answer without a length ends with its connection, and anybody on the way can end
    /// that. Without the goodbye it is broken off, not whole (RFC 9112 section 9.8).
    const GOODBYE_IS_OPTIONAL: bool = false;

    /// The pool keeps connections by this.
    fn id(&self, tls: &Self::Tls) -> UniqueIDType {
        tls.get_ref().0.as_raw_fd()
    }

    fn socket(&self, _: &Self::Tls) -> Option<Arc<SocketDigest>> {
        Some(Arc::clone(&self.digest))
    }

    fn timing(&self, _: &Self::Tls) -> Vec<Option<TimingDigest>> {
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
        match ready!(Pin::new(&mut self.tls).poll_read(cx, out)) {
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
