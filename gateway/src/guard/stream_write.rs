//! Answers on their way to the client.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_util::FutureExt;
use tokio::io::AsyncWrite;
use tokio::task::coop::unconstrained;

use super::GuardStream;

impl GuardStream {
    fn write(&mut self, cx: &mut Context<'_>, pieces: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if self.conn.is_killed() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        self.answered = true;
        let mut sent = false;
        let io = self.socket.as_mut().expect("the socket is taken on drop only");
        let written = self.held.poll_write(io, cx, pieces, &mut sent);
        self.note_sent(sent);
        written
    }

    /// Writes a part of an answer that waits for no other, behind what is held.
    pub fn poll_write_at_once(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.conn.is_killed() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        self.answered = true;
        ready!(self.poll_send(cx))?;
        let written = ready!(self.io().poll_write(cx, bytes))?;
        self.note_sent(written > 0);
        Poll::Ready(Ok(written))
    }

    /// Sends what is held of an answer. A client that has gone by then has seen nothing of it.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut sent = false;
        let io = self.socket.as_mut().expect("the socket is taken on drop only");
        let done = self.held.poll_send(io, cx, &mut sent);
        self.note_sent(sent);
        done
    }

    /// Sends what is held of an answer that broke off, as far as the socket takes it at once.
    pub(in crate::guard) fn send_last(&mut self) {
        if !self.held.is_empty() {
            // Whatever share of the thread its task has had.
            let _ = unconstrained(poll_fn(|cx| self.poll_send(cx))).now_or_never();
        }
    }

    fn note_sent(&self, sent: bool) {
        if sent {
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
        self.get_mut().write(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().write(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_send(cx))?;
        this.io().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_send(cx))?;
        this.io().poll_shutdown(cx)
    }
}
