//! A connection to a server as a stream of bytes.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::FutureExt;
use rustix::net::{RecvFlags, recv};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::unconstrained;
use tokio_rustls::client::TlsStream;

/// Over TCP, in the clear or by TLS.
///
/// Dropped, it is closed without a word: the server sees a clean end of TCP, which inside a body looks
/// like the end of that. [`Self::reset`] and [`Self::goodbye`] say which of the two is meant.
#[derive(Debug)]
pub enum ServerSocket {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl ServerSocket {
    /// The socket below.
    pub fn tcp(&self) -> &TcpStream {
        match self {
            Self::Tcp(tcp) => tcp,
            Self::Tls(tls) => tls.get_ref().0,
        }
    }

    /// Whether what is written to the socket below is what the server reads.
    pub fn is_plain(&self) -> bool {
        matches!(self, Self::Tcp(_))
    }

    /// Has the server see a reset when the socket is closed, and throws away what it has not taken.
    pub fn reset(&self) {
        // Fails for no socket of TCP; and a clean end is all that could be done.
        let _ = self.tcp().set_zero_linger();
    }

    /// Has the server see a clean end when the socket is closed: by TLS it is told now. Waits for
    /// nothing, so a server whose buffer is full does not get to see it.
    pub fn goodbye(&mut self) {
        use tokio::io::AsyncWriteExt;
        if let Self::Tls(tls) = self {
            let _ = unconstrained(tls.shutdown()).now_or_never();
        }
    }

    /// Whether nothing has come from the server since the last read, its end included, as far as the
    /// runtime has been told. No system call where it has been told nothing.
    ///
    /// TLS messages that are no data, such as session tickets, count as nothing.
    pub fn is_quiet(&mut self) -> bool {
        match self {
            Self::Tcp(tcp) => !has_news(tcp),
            Self::Tls(tls) => {
                let (tcp, session) = tls.get_ref();
                session.wants_read() && (!has_news(tcp) || is_housekeeping(tls))
            }
        }
    }

    /// The same by asking the kernel. To be asked after [`Self::is_quiet`]: here every byte counts.
    pub fn is_quiet_in_kernel(&self) -> bool {
        matches!(peek(self.tcp()), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Ready once the server has ended the connection, or has said something that nobody asked for.
    pub fn poll_news(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match self.tcp().poll_read_ready(cx) {
                Poll::Pending => return Poll::Pending,
                // What was reported is looked at, and forgotten if it was nothing.
                Poll::Ready(Ok(())) if self.is_quiet() => {}
                Poll::Ready(_) => return Poll::Ready(()),
            }
        }
    }
}

/// Looks only if the runtime was told to. A report that turns out to be old is forgotten.
fn has_news(tcp: &TcpStream) -> bool {
    let looked = tcp.try_io(Interest::READABLE, || peek(tcp));
    !matches!(looked, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}

fn peek(tcp: &TcpStream) -> io::Result<()> {
    recv(tcp, &mut [0_u8; 1], RecvFlags::PEEK | RecvFlags::DONTWAIT)?;
    Ok(())
}

/// Reads what has come. Whether there is neither data nor an end in it.
fn is_housekeeping(tls: &mut TlsStream<TcpStream>) -> bool {
    use tokio::io::AsyncReadExt;
    // A byte that is read here is lost, but it was not asked for, and the connection ends with it.
    unconstrained(tls.read(&mut [0])).now_or_never().is_none()
}

impl AsyncRead for ServerSocket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_read(cx, out),
            Self::Tls(tls) => Pin::new(tls).poll_read(cx, out),
        }
    }
}

impl AsyncWrite for ServerSocket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_write(cx, bytes),
            Self::Tls(tls) => Pin::new(tls).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_write_vectored(cx, bytes),
            Self::Tls(tls) => Pin::new(tls).poll_write_vectored(cx, bytes),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(tcp) => tcp.is_write_vectored(),
            Self::Tls(tls) => tls.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_flush(cx),
            Self::Tls(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Self::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
#[path = "socket_tests.rs"]
mod tests;
