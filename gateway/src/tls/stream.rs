//! A connection to a backend of our own making, with TLS or without, as Pingora wants its streams.

use std::io;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl,
    TimingDigest, UniqueID, UniqueIDType,
};
use pingora::upstreams::peer::Tracer;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client;

use super::connector::OwnPlace;

/// What is read at once from a backend.
///
/// Pingora passes a body on in the pieces in which it was read, as soon as they are there: up to nine of
/// them wait for a client that takes them slowly, which is half a mebibyte of its own 64 KiB.
const PIECE: usize = 16 * 1024;

/// For the alert that says goodbye, which a peer that has stopped reading would hold up.
const GOODBYE: Duration = Duration::from_secs(1);

/// A connection that our own connector made, with TLS or without. `T` is what its bytes in the clear
/// are read from.
pub struct ToBackend<T> {
    over: T,
    digest: Arc<SocketDigest>,
    /// Dropped last: what counts the connection, and its place.
    _counted: (Traced, Option<OwnPlace>),
}

impl<T> ToBackend<T> {
    pub fn new(over: T, digest: SocketDigest, counted: (Traced, Option<OwnPlace>)) -> Self {
        Self { over, digest: Arc::new(digest), _counted: counted }
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

/// Hazard: an answer without a length ends with its connection, and anybody on the way can end that.
/// Without the goodbye of TLS it is broken off, not whole (RFC 9112 section 9.8), so that end is an
/// error here.
impl<T: OverTcp> AsyncRead for ToBackend<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if out.remaining() <= PIECE {
            return Pin::new(&mut self.over).poll_read(cx, out);
        }
        let mut piece = ReadBuf::new(out.initialize_unfilled_to(PIECE));
        let read = Pin::new(&mut self.over).poll_read(cx, &mut piece);
        let count = piece.filled().len();
        out.advance(count);
        read
    }
}

impl<T: OverTcp> AsyncWrite for ToBackend<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.over).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.over).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.over.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.over).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.over).poll_shutdown(cx)
    }
}

#[async_trait]
impl<T: OverTcp> Shutdown for ToBackend<T> {
    async fn shutdown(&mut self) {
        // Whether the server heard it changes nothing.
        let _ = tokio::time::timeout(GOODBYE, self.over.shutdown()).await;
    }
}

/// The pool keeps connections by this.
impl<T: OverTcp> UniqueID for ToBackend<T> {
    fn id(&self) -> UniqueIDType {
        self.over.tcp().as_raw_fd()
    }
}

impl<T: OverTcp> Ssl for ToBackend<T> {}

impl<T: OverTcp> GetTimingDigest for ToBackend<T> {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        vec![]
    }
}

impl<T: OverTcp> GetProxyDigest for ToBackend<T> {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        None
    }
}

impl<T: OverTcp> GetSocketDigest for ToBackend<T> {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        Some(Arc::clone(&self.digest))
    }
}

impl<T: OverTcp> Peek for ToBackend<T> {}

impl<T> std::fmt::Debug for ToBackend<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ToBackend").finish_non_exhaustive()
    }
}
