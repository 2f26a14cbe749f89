//! The socket of a client, by its concrete type.
//!
//! Behind a boxed stream of Pingora's neither `try_io` nor anything else of a `TcpStream` can be had,
//! so the guard owns the socket and boxes itself for a request that Pingora serves.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use gateway_core::session::Timestamp;
use pingora::protocols::SocketDigest;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::prefixed::Prefixed;

/// A connection whose client has shown what it is.
pub struct ClientSocket {
    io: Io,
    /// The other end, which may be a proxy in front.
    peer: SocketAddr,
    accepted: Timestamp,
}

enum Io {
    Tcp(TcpStream),
    Tls(Box<TlsStream<Prefixed>>),
    #[cfg(test)]
    Pipe(tokio::io::DuplexStream),
}

impl ClientSocket {
    pub(super) fn plain(socket: TcpStream, peer: SocketAddr, accepted: Timestamp) -> Self {
        Self { io: Io::Tcp(socket), peer, accepted }
    }

    pub(super) fn secured(
        tls: Box<TlsStream<Prefixed>>,
        peer: SocketAddr,
        accepted: Timestamp,
    ) -> Self {
        Self { io: Io::Tls(tls), peer, accepted }
    }

    /// A pipe within the process.
    #[cfg(test)]
    pub fn pipe(pipe: tokio::io::DuplexStream) -> Self {
        let peer = ([127, 0, 0, 1], 1).into();
        Self { io: Io::Pipe(pipe), peer, accepted: Timestamp::default() }
    }

    /// The socket itself where its bytes are in the clear.
    pub fn tcp(&self) -> Option<&TcpStream> {
        match &self.io {
            Io::Tcp(socket) => Some(socket),
            _ => None,
        }
    }

    /// The address of the other end of the connection.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// When it was accepted, by the wall clock.
    pub(super) fn accepted(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.accepted.0)
    }

    /// What Pingora knows of the socket.
    pub(super) fn digest(&self) -> SocketDigest {
        let digest = SocketDigest::from_raw_fd(self.as_raw_fd());
        // The cell is empty: nobody else has the digest.
        let _ = digest.peer_addr.set(Some(self.peer.into()));
        digest
    }
}

impl AsRawFd for ClientSocket {
    fn as_raw_fd(&self) -> RawFd {
        match &self.io {
            Io::Tcp(socket) => socket.as_raw_fd(),
            Io::Tls(tls) => tls.get_ref().0.tcp().as_raw_fd(),
            #[cfg(test)]
            Io::Pipe(_) => -1,
        }
    }
}

impl AsyncRead for ClientSocket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.get_mut().io {
            Io::Tcp(socket) => Pin::new(socket).poll_read(cx, out),
            Io::Tls(tls) => match Pin::new(tls).poll_read(cx, out) {
                // The goodbye of TLS is missing. Nothing rests on it: heads and bodies of requests
                // say themselves where they end.
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    Poll::Ready(Ok(()))
                }
                polled => polled,
            },
            #[cfg(test)]
            Io::Pipe(pipe) => Pin::new(pipe).poll_read(cx, out),
        }
    }
}

impl AsyncWrite for ClientSocket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().io {
            Io::Tcp(socket) => Pin::new(socket).poll_write(cx, bytes),
            Io::Tls(tls) => Pin::new(tls).poll_write(cx, bytes),
            #[cfg(test)]
            Io::Pipe(pipe) => Pin::new(pipe).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().io {
            Io::Tcp(socket) => Pin::new(socket).poll_write_vectored(cx, pieces),
            Io::Tls(tls) => Pin::new(tls).poll_write_vectored(cx, pieces),
            #[cfg(test)]
            Io::Pipe(pipe) => Pin::new(pipe).poll_write_vectored(cx, pieces),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.io {
            Io::Tcp(socket) => socket.is_write_vectored(),
            Io::Tls(tls) => tls.is_write_vectored(),
            #[cfg(test)]
            Io::Pipe(pipe) => pipe.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().io {
            Io::Tcp(socket) => Pin::new(socket).poll_flush(cx),
            Io::Tls(tls) => Pin::new(tls).poll_flush(cx),
            #[cfg(test)]
            Io::Pipe(pipe) => Pin::new(pipe).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().io {
            Io::Tcp(socket) => Pin::new(socket).poll_shutdown(cx),
            Io::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
            #[cfg(test)]
            Io::Pipe(pipe) => Pin::new(pipe).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
    use tokio_rustls::{TlsAcceptor, TlsConnector, client};

    use super::*;
    use crate::tls::provider;

    /// Both ends of a connection by TLS.
    async fn secured() -> (client::TlsStream<TcpStream>, ClientSocket) {
        let signed = rcgen::generate_simple_self_signed(["up.test".to_owned()]).unwrap();
        let certificate = signed.cert.der().clone();
        let key = signed.signing_key.serialize_der().try_into().unwrap();
        let server = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key)
            .unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(certificate).unwrap();
        let client = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let tcp = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (accepted, peer) = listener.accept().await.unwrap();
        let name = "up.test".try_into().unwrap();
        let (client, server) = tokio::join!(
            TlsConnector::from(Arc::new(client)).connect(name, tcp),
            TlsAcceptor::from(Arc::new(server)).accept(Prefixed::new(accepted)),
        );
        let tls = Box::new(server.unwrap());
        (client.unwrap(), ClientSocket::secured(tls, peer, Timestamp(0)))
    }

    #[tokio::test]
    async fn a_client_that_ends_tls_without_a_goodbye_has_ended_its_stream() {
        let (mut client, mut socket) = secured().await;
        client.write_all(b"all of it").await.unwrap();
        client.flush().await.unwrap();
        let (mut tcp, _) = client.into_inner();
        tcp.shutdown().await.unwrap();
        let mut text = String::new();
        socket.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "all of it");
    }

    #[tokio::test]
    async fn the_socket_below_tls_is_not_for_bytes_in_the_clear() {
        let (client, mut socket) = secured().await;
        assert!(socket.tcp().is_none());
        assert_eq!(socket.peer(), client.get_ref().0.local_addr().unwrap());
        socket.write_all(b"answer").await.unwrap();
        socket.shutdown().await.unwrap();
        let mut text = String::new();
        let mut client = client;
        client.read_to_string(&mut text).await.expect("it says goodbye");
        assert_eq!(text, "answer");
    }

    #[tokio::test]
    async fn a_socket_in_the_clear_can_be_had_as_it_is() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (accepted, peer) = listener.accept().await.unwrap();
        let socket = ClientSocket::plain(accepted, peer, Timestamp(1500));
        assert_eq!(socket.tcp().unwrap().peer_addr().unwrap(), client.local_addr().unwrap());
        assert_eq!(socket.tcp().unwrap().as_raw_fd(), socket.as_raw_fd());
        assert_eq!(socket.peer(), client.local_addr().unwrap());
        assert_eq!(socket.accepted(), UNIX_EPOCH + Duration::from_millis(1500));
        assert!(socket.is_write_vectored());
    }
}
