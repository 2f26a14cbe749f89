//! What a carrier of our own needs of a connection, beside its bytes.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Buf;
use gateway_core::protocol::chunked::ChunkScanner;
use gateway_core::protocol::head::{BodyFraming, RequestHead};

use super::stream::{GuardStream, Phase};

impl GuardStream {
    /// The head of the request that has come.
    pub fn head(&self) -> Option<&[u8]> {
        let here = matches!(self.phase, Phase::Pass(_) | Phase::ChunkedHead(_));
        here.then(|| &self.buffer[..self.head_end])
    }

    /// The same with the places of its parts. `None` if no head has come.
    pub fn read_head(&mut self) -> Option<Arc<RequestHead>> {
        if let Some(head) = self.last.repeated() {
            return Some(head);
        }
        let bytes = self.head()?.to_vec();
        match self.index.take() {
            Some(index) => {
                let head = Arc::new(RequestHead::new(bytes, index));
                if matches!(self.phase, Phase::Pass(_)) {
                    self.last.keep(&head);
                }
                Some(head)
            }
            None => RequestHead::read(bytes).map(Arc::new),
        }
    }

    /// The head has been read: what is read from now on is the body. Returns how that ends.
    pub fn skip_head(&mut self) -> BodyFraming {
        let end = std::mem::take(&mut self.head_end);
        match self.phase {
            Phase::Pass(whole) => {
                self.buffer.advance(end);
                let body = whole - end as u64;
                self.phase = if body == 0 { Phase::Head } else { Phase::Pass(body) };
                BodyFraming::Length(body)
            }
            Phase::ChunkedHead(_) => {
                self.buffer.advance(end);
                self.phase = Phase::Chunks(ChunkScanner::default());
                BodyFraming::Chunked
            }
            _ => BodyFraming::Length(0),
        }
    }

    /// How many bytes of a body may be held at once.
    pub fn piece(&self) -> usize {
        self.body.piece(self.limits.body_memory)
    }

    /// Ready with an error once the request is called off. Reads nothing.
    pub fn poll_called_off(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        self.conn.waker.register(cx.waker());
        if self.conn.is_killed() {
            return Poll::Ready(io::ErrorKind::ConnectionReset.into());
        }
        Poll::Pending
    }

    /// Watches the client while the answer is awaited: ready with an error when the request is called
    /// off, or the answer is overdue.
    pub fn poll_waiting(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        if let Poll::Ready(error) = self.poll_called_off(cx) {
            return Poll::Ready(error);
        }
        match self.poll_watch(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(error),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Pending,
        }
    }
}
