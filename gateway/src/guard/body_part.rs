//! Parts of a body, for a carrier of our own.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, Interest, ReadBuf};
use tokio::net::TcpStream;

use super::stream::{GuardStream, Phase};

/// Reads what is here of a body of known length. No time runs while it is pending: its reader has
/// something in hand, and does that first.
pub struct Here<'g>(&'g mut GuardStream);

impl GuardStream {
    pub fn here(&mut self) -> Here<'_> {
        Here(self)
    }

    pub(super) fn poll_part(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Phase::Pass(allowed) = self.phase else { return Poll::Pending };
        let count = ready!(self.poll_pass(cx, out, allowed))?;
        self.phase = Phase::after(allowed - count);
        Poll::Ready(Ok(()))
    }

    /// Whether the next bytes of the socket are those of a body of known length, in the clear.
    pub fn is_body_next(&self) -> bool {
        matches!(self.phase, Phase::Pass(_))
            && self.buffer.is_empty()
            && self.socket().tcp().is_some()
    }

    /// Has `take` move bytes of the body out of the socket once there are some: no more than it is
    /// told. Returns how many it moved, 0 at the end of the stream.
    ///
    /// `take` fails with `WouldBlock` only if the socket has none, or what it has is never reported
    /// again.
    pub fn poll_take(
        &mut self,
        cx: &mut Context<'_>,
        take: impl FnMut(&TcpStream, usize) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        self.conn.waker.register(cx.waker());
        if self.conn.is_killed() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let mut count = 0;
        let moved = self.poll_move(cx, take).map_ok(|moved| count = moved);
        self.stall.part(cx, &self.conn, moved).map_ok(|()| count)
    }

    fn poll_move(
        &mut self,
        cx: &mut Context<'_>,
        mut take: impl FnMut(&TcpStream, usize) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        let Phase::Pass(allowed) = self.phase else { return Poll::Ready(Ok(0)) };
        let most = usize::try_from(allowed).unwrap_or(usize::MAX);
        let socket = self.socket().tcp().ok_or(io::ErrorKind::Unsupported)?;
        let count = loop {
            ready!(socket.poll_read_ready(cx))?;
            match socket.try_io(Interest::READABLE, || take(socket, most)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                moved => break moved?,
            }
        };
        self.at_end = count == 0;
        self.phase = Phase::after(allowed - count as u64);
        Poll::Ready(Ok(count))
    }
}

impl AsyncRead for Here<'_> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.get_mut().0.poll_part(cx, out)
    }
}

impl Phase {
    /// So many bytes of the message are left.
    fn after(left: u64) -> Self {
        if left == 0 { Self::Head } else { Self::Pass(left) }
    }
}
