//! The body of a request on its way from the client to a server.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use gateway_core::protocol::chunked::ChunkScanner;
use gateway_core::protocol::head::BodyFraming;
use tokio_util::io::poll_read_buf;

use super::buffer::{Buffer, WHOLE};
use crate::guard::GuardStream;

/// What is read at once of a chunked body.
const CHUNKS: usize = 16 * 1024;

/// A body. What was read of it last is at hand, for as long as it may be needed.
#[derive(Debug)]
pub struct Body {
    /// Bytes that the client has still to send; of a chunked body more than any until its end.
    left: u64,
    chunks: Option<ChunkScanner>,
    /// As it goes to the server.
    at_hand: Buffer,
    /// How much of that has gone.
    sent: usize,
    /// Bytes of the body itself that are at hand, chunks or not.
    data: usize,
    /// How many of those are new since [`Self::news`] was asked.
    new: usize,
    /// The end was told of.
    ended: bool,
    /// Nothing was thrown away so far.
    whole: bool,
    /// Bytes that went to the server, on this try.
    pub forwarded: u64,
}

impl Body {
    pub fn of(framing: BodyFraming) -> Self {
        let (left, chunks) = match framing {
            BodyFraming::Length(length) => (length, None),
            BodyFraming::Chunked => (u64::MAX, Some(ChunkScanner::default())),
        };
        Self {
            left,
            chunks,
            at_hand: Buffer::default(),
            sent: 0,
            data: 0,
            new: 0,
            ended: false,
            whole: true,
            forwarded: 0,
        }
    }

    /// Whether the client has sent all of it.
    pub fn is_here(&self) -> bool {
        self.left == 0
    }

    /// Whether all of it is at hand, so that it can be sent once more.
    pub fn is_replayable(&self) -> bool {
        self.left == 0 && self.whole
    }

    /// Bytes that the client has still to send, at least.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// Goes on with the first byte, for another server.
    pub fn rewind(&mut self) {
        debug_assert!(self.is_replayable(), "a body is sent twice only if it is at hand");
        (self.sent, self.new, self.ended, self.forwarded) = (0, self.data, false, 0);
    }

    /// Bytes that have come since the last call, and whether these are the last. `None` if nothing is
    /// new.
    pub fn news(&mut self) -> Option<(usize, bool)> {
        let new = std::mem::take(&mut self.new);
        let ends = self.left == 0 && !self.ended;
        self.ended = self.left == 0;
        (new > 0 || ends).then_some((new, ends))
    }

    /// Bytes that are to go to the server now.
    pub fn unsent(&self) -> &[u8] {
        &self.at_hand[self.sent..]
    }

    pub fn sent(&mut self, count: usize) {
        self.sent += count;
        self.forwarded += count as u64;
    }

    /// Reads on, once what is at hand has gone. Ready when there is something new, or the end.
    ///
    /// # Errors
    /// The client has gone, its body is none, or its request was called off.
    pub fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        guard: &mut GuardStream,
    ) -> Poll<io::Result<()>> {
        if self.left == 0 {
            return Poll::Ready(Ok(()));
        }
        if let Some(mut scanner) = self.chunks.take() {
            let polled = self.poll_chunks(cx, guard, &mut scanner);
            self.chunks = Some(scanner);
            return polled;
        }
        self.make_room(guard);
        match poll_read_buf(Pin::new(guard), cx, &mut *self.at_hand) {
            Poll::Ready(Ok(0)) => Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
            Poll::Ready(Ok(count)) => {
                self.left = self.left.saturating_sub(count as u64);
                self.data += count;
                self.new += count;
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                if self.at_hand.is_empty() {
                    // Nothing is held for a client that sends nothing.
                    self.at_hand = Buffer::default();
                }
                Poll::Pending
            }
        }
    }

    /// The guard lets nothing pass but a chunked body in good order. It goes on in chunks of our own,
    /// without extensions and trailers.
    fn poll_chunks(
        &mut self,
        cx: &mut Context<'_>,
        guard: &mut GuardStream,
        scanner: &mut ChunkScanner,
    ) -> Poll<io::Result<()>> {
        if self.at_hand.len() >= WHOLE - 2 * CHUNKS {
            self.throw_away();
        }
        let mut raw = Buffer::of(CHUNKS.min(guard.piece()));
        loop {
            raw.clear();
            if ready!(poll_read_buf(Pin::new(&mut *guard), cx, &mut *raw))? == 0 {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            let before = self.data;
            let scanned = scanner.scan_data(&raw, |data| {
                write_chunk(data, &mut self.at_hand);
                self.data += data.len();
            });
            let scanned = scanned.map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
            self.new += self.data - before;
            if scanned.ended {
                self.at_hand.extend_from_slice(b"0\r\n\r\n");
                self.left = 0;
            }
            if scanned.ended || self.data > before {
                return Poll::Ready(Ok(()));
            }
        }
    }

    fn make_room(&mut self, guard: &GuardStream) {
        if self.at_hand.len() < self.at_hand.capacity() {
            return;
        }
        if !self.at_hand.is_empty() {
            self.throw_away();
        }
        let piece = guard.piece().min(WHOLE);
        let size = usize::try_from(self.left).unwrap_or(usize::MAX).min(piece);
        if self.at_hand.capacity() < size {
            self.at_hand = Buffer::of(size);
        }
    }

    /// What is at hand has gone, and makes room for what follows.
    fn throw_away(&mut self) {
        debug_assert_eq!(self.sent, self.at_hand.len(), "nothing is thrown away unsent");
        self.skip();
    }

    /// What is at hand goes nowhere.
    pub fn skip(&mut self) {
        self.whole &= self.at_hand.is_empty();
        self.at_hand.clear();
        (self.sent, self.data) = (0, 0);
    }

    /// Nothing of it is needed any more.
    pub fn release(&mut self) {
        self.skip();
        self.at_hand = Buffer::default();
    }
}

/// Writes bytes, of which there are some, as one chunk.
pub fn write_chunk(data: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(format!("{:x}\r\n", data.len()).as_bytes());
    out.extend_from_slice(data);
    out.extend_from_slice(b"\r\n");
}
