//! Parts of a body, for a carrier of our own.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

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
