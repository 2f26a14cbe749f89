//! Answers on their way to the client.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pingora::protocols::Stream;
use tokio::io::AsyncWrite;

use super::GuardStream;

/// Below what Pingora buffers before it writes (1460 bytes); the Ack of a Create-Session is smaller.
const SURELY_BUFFERED: usize = 1024;

impl GuardStream {
    fn writer(&mut self) -> io::Result<Pin<&mut Stream>> {
        if self.conn.is_killed() {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        self.answered = true;
        Ok(self.io())
    }

    /// The stream below keeps a small answer until it is flushed: a client that has gone by then has
    /// seen nothing of it.
    fn note_written(&mut self, count: usize) {
        self.unflushed += count;
        if self.unflushed > SURELY_BUFFERED {
            self.unflushed = 0;
            self.conn.wrote();
        }
    }
}

impl AsyncWrite for GuardStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(this.writer()?.poll_write(cx, bytes))?;
        this.note_written(written);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(this.writer()?.poll_write_vectored(cx, bytes))?;
        this.note_written(written);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.io_ref().is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = this.io().poll_flush(cx);
        if this.unflushed > 0 && !matches!(flushed, Poll::Ready(Err(_))) {
            this.unflushed = 0;
            this.conn.wrote();
        }
        flushed
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().io().poll_shutdown(cx)
    }
}
