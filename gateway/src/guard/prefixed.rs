//! A socket some bytes of which were read too early.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, BufReader, ReadBuf};
use tokio::net::TcpStream;

use super::proxy_protocol::{self, HeaderError, ProxyHeader};

/// Room for what comes first: the header of a proxy, and a ClientHello or the head of a request
/// behind it.
const ROOM: usize = 2048;

/// A connection that has not shown what it is. What was looked at is read again.
pub(super) struct Prefixed {
    tcp: TcpStream,
    prefix: BytesMut,
}

impl Prefixed {
    pub fn new(tcp: TcpStream) -> Self {
        Self { tcp, prefix: BytesMut::new() }
    }

    pub fn tcp(&self) -> &TcpStream {
        &self.tcp
    }

    /// The socket, and what is to be read before anything comes from it.
    pub fn into_parts(self) -> (TcpStream, BytesMut) {
        (self.tcp, self.prefix)
    }

    /// Reads the header of the PROXY protocol off. What is no header is left to be read.
    pub async fn proxy_header(&mut self) -> Result<ProxyHeader, HeaderError> {
        let mut reader = BufReader::with_capacity(ROOM, &mut self.tcp);
        let header = proxy_protocol::read(&mut reader).await?;
        if let ProxyHeader::NotAHeader(bytes) = &header {
            self.prefix.extend_from_slice(bytes);
        }
        self.prefix.extend_from_slice(reader.buffer());
        Ok(header)
    }

    /// The first byte that is to be read, once there is one; `None` at the end of the stream.
    pub async fn first_byte(&mut self) -> io::Result<Option<u8>> {
        if self.prefix.is_empty() {
            self.prefix.reserve(ROOM);
            self.tcp.read_buf(&mut self.prefix).await?;
        }
        Ok(self.prefix.first().copied())
    }
}

impl AsyncRead for Prefixed {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.prefix.is_empty() {
            return Pin::new(&mut this.tcp).poll_read(cx, out);
        }
        let count = this.prefix.len().min(out.remaining());
        out.put_slice(&this.prefix[..count]);
        this.prefix.advance(count);
        if this.prefix.is_empty() {
            // Its room is not held for the life of the connection.
            this.prefix = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Prefixed {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().tcp).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().tcp).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tcp).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tcp).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (TcpStream, Prefixed) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (socket, _) = listener.accept().await.unwrap();
        (client, Prefixed::new(socket))
    }

    async fn rest(mut socket: Prefixed) -> String {
        let mut text = String::new();
        socket.read_to_string(&mut text).await.unwrap();
        text
    }

    #[tokio::test]
    async fn what_comes_with_a_header_is_read_behind_it() {
        let (mut client, mut socket) = pair().await;
        client.write_all(b"PROXY TCP4 192.0.2.7 10.0.0.1 443 80\r\nGET / HTTP/1.1").await.unwrap();
        let header = socket.proxy_header().await.unwrap();
        assert_eq!(header, ProxyHeader::For("192.0.2.7:443".parse().unwrap(), 80));
        assert_eq!(socket.first_byte().await.unwrap(), Some(b'G'));
        client.write_all(b"\r\n").await.unwrap();
        drop(client);
        assert_eq!(rest(socket).await, "GET / HTTP/1.1\r\n");
    }

    #[tokio::test]
    async fn what_is_no_header_is_read_again() {
        for text in ["GET / HTTP/1.1\r\n", "\r\n\r\n\0\r\nQUIX", "PROXY"] {
            let (mut client, mut socket) = pair().await;
            client.write_all(text.as_bytes()).await.unwrap();
            client.shutdown().await.unwrap();
            match socket.proxy_header().await {
                Ok(ProxyHeader::NotAHeader(_)) => assert_eq!(rest(socket).await, text),
                other => assert!(matches!(other, Err(HeaderError::Cut(_))), "{text:?}: {other:?}"),
            }
        }
    }

    #[tokio::test]
    async fn a_look_takes_nothing_away() {
        let (mut client, mut socket) = pair().await;
        client.write_all(b"ab").await.unwrap();
        assert_eq!(socket.first_byte().await.unwrap(), Some(b'a'));
        assert_eq!(socket.first_byte().await.unwrap(), Some(b'a'));
        let mut one = [0];
        socket.read_exact(&mut one).await.unwrap();
        assert_eq!(&one, b"a");
        drop(client);
        assert_eq!(rest(socket).await, "b");
        let (client, mut socket) = pair().await;
        drop(client);
        assert_eq!(socket.first_byte().await.unwrap(), None);
    }

    #[tokio::test]
    async fn what_was_looked_at_is_part_of_the_parts() {
        let (mut client, mut socket) = pair().await;
        client.write_all(b"abc").await.unwrap();
        socket.first_byte().await.unwrap();
        let (tcp, prefix) = socket.into_parts();
        assert_eq!(&prefix[..], b"abc");
        assert_eq!(tcp.peer_addr().unwrap(), client.local_addr().unwrap());
    }
}
