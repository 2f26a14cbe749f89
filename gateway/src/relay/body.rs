//! The body of a request on its way from the client to a server.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::BufMut;
use gateway_core::protocol::chunked::ChunkScanner;
use gateway_core::protocol::head::BodyFraming;
use tokio_util::io::poll_read_buf;

use super::buffer::{Buffer, WHOLE};
use super::pipe::Pipe;
use super::server::Server;
use super::splice;
use crate::guard::{AHEAD, GuardStream};

/// What is read at once of a chunked body.
const CHUNKS: usize = 16 * 1024;

/// Less than this is copied: two calls for a pipe cost what the copy does.
const LEAST_PIPED: u64 = 32 * 1024;

/// A body. What was read of it last is at hand, for as long as it may be needed.
#[derive(Debug)]
pub struct Body {
    /// Bytes that the client has still to send; of a chunked body more than any until its end, or,
    /// where it goes on with a length, one for that end.
    left: u64,
    chunks: Option<ChunkScanner>,
    /// The data of chunks goes on as it is.
    unchunked: bool,
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
    /// What follows may go from socket to socket, as far as there are pipes.
    pub splices: bool,
    /// A pipe with bytes that are to go to the server, behind what is at hand.
    piped: Option<Pipe>,
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
            unchunked: false,
            at_hand: Buffer::default(),
            sent: 0,
            data: 0,
            new: 0,
            ended: false,
            whole: true,
            splices: false,
            piped: None,
            forwarded: 0,
        }
    }

    /// A body in chunks goes on without them, as `length` bytes. The last one is held back until the
    /// client has shown that it is the last: a server takes a body as long as it was told to for whole.
    pub fn unchunk(&mut self, length: u64) {
        debug_assert!(self.chunks.is_some() && self.data == 0, "before any of it was read");
        self.unchunked = true;
        self.left = length.saturating_add(1);
    }

    /// Whether there is anything in it, as far as it has come.
    pub fn is_empty(&self) -> bool {
        self.whole && self.data == 0
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

    /// Whether there are bytes that are to go to the server now.
    pub fn has_unsent(&self) -> bool {
        self.sent < self.sendable() || self.piped.is_some()
    }

    /// How far that goes which is at hand and may go to the server.
    fn sendable(&self) -> usize {
        let holds_back = self.unchunked && self.left == 1;
        self.at_hand.len() - usize::from(holds_back && !self.at_hand.is_empty())
    }

    /// Sends of what is to go, behind the head of the request. Ready when some of it has gone.
    pub fn poll_send(&mut self, cx: &mut Context<'_>, server: &mut Server) -> Poll<io::Result<()>> {
        let rest = &self.at_hand[self.sent..self.sendable()];
        if let Some(pipe) = self.piped.as_mut().filter(|_| rest.is_empty() && server.head_is_sent())
        {
            self.forwarded += ready!(splice::poll_drain(cx, pipe, server.socket().tcp()))? as u64;
            if pipe.is_empty() {
                // Back to its thread, for the next body.
                self.piped = None;
            }
            return Poll::Ready(Ok(()));
        }
        let (_, count) = ready!(server.poll_send(cx, rest))?;
        self.sent += count;
        self.forwarded += count as u64;
        Poll::Ready(Ok(()))
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
        if self.is_worth_a_pipe(guard)
            && let Some(pipe) = Pipe::take()
        {
            match ready!(self.poll_pipe(cx, guard, pipe)) {
                Err(error) if splice::is_refused(&error) => self.splices = false,
                done => return Poll::Ready(done),
            }
        }
        self.make_room(guard);
        let room = self.room(guard);
        let mut out = (&mut *self.at_hand).limit(room);
        match poll_read_buf(Pin::new(&mut *guard), cx, &mut out) {
            Poll::Ready(Ok(0)) => Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
            Poll::Ready(Ok(count)) => {
                self.came(count);
                if !self.is_worth_a_pipe(guard) {
                    self.gather(cx, guard);
                }
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

    /// Whether what follows goes through a pipe: what can be kept is kept, for another try.
    fn is_worth_a_pipe(&self, guard: &GuardStream) -> bool {
        let kept = if self.whole { self.at_hand.len() as u64 } else { u64::MAX };
        self.splices
            && self.left >= LEAST_PIPED
            && self.left.saturating_add(kept) > WHOLE as u64
            && guard.is_body_next()
    }

    /// Moves what is here into a pipe, which is held only while there are bytes in it.
    fn poll_pipe(
        &mut self,
        cx: &mut Context<'_>,
        guard: &mut GuardStream,
        mut pipe: Pipe,
    ) -> Poll<io::Result<()>> {
        debug_assert!(!self.has_unsent(), "what is at hand goes first");
        let count = ready!(guard.poll_take(cx, |socket, most| pipe.fill(socket, most)))?;
        if count == 0 {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        self.skip();
        self.at_hand = Buffer::default();
        self.whole = false;
        self.left -= count as u64;
        self.new += count;
        self.piped = Some(pipe);
        Poll::Ready(Ok(()))
    }

    /// Reads on while something is here and there is room for it. A write costs several times as much
    /// as a read, and by TLS a read brings one record.
    ///
    /// The end of the stream, or an error, is found again by the next read.
    fn gather(&mut self, cx: &mut Context<'_>, guard: &mut GuardStream) {
        loop {
            let room = self.room(guard);
            if self.left == 0 || room == 0 {
                return;
            }
            let mut out = (&mut *self.at_hand).limit(room);
            match poll_read_buf(Pin::new(&mut guard.here()), cx, &mut out) {
                Poll::Ready(Ok(count @ 1..)) => self.came(count),
                _ => return,
            }
        }
    }

    fn came(&mut self, count: usize) {
        self.left = self.left.saturating_sub(count as u64);
        self.data += count;
        self.new += count;
    }

    /// The guard lets nothing pass but a chunked body in good order. It goes on in chunks of our own, or
    /// in none, without extensions and trailers.
    fn poll_chunks(
        &mut self,
        cx: &mut Context<'_>,
        guard: &mut GuardStream,
        scanner: &mut ChunkScanner,
    ) -> Poll<io::Result<()>> {
        // What is held back stays, and nothing but the end may follow it.
        if self.at_hand.len() >= WHOLE - 2 * CHUNKS && self.sent == self.at_hand.len() {
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
                if self.unchunked {
                    self.at_hand.extend_from_slice(data);
                } else {
                    write_chunk(data, &mut self.at_hand);
                }
                self.data += data.len();
            });
            let scanned = scanned.map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
            self.new += self.data - before;
            if self.unchunked {
                self.left = self.left.saturating_sub((self.data - before) as u64).max(1);
            }
            if scanned.ended {
                if !self.unchunked {
                    self.at_hand.extend_from_slice(b"0\r\n\r\n");
                }
                self.left = 0;
            }
            if scanned.ended || self.data > before {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// How much may be read now.
    fn room(&self, guard: &GuardStream) -> usize {
        let free = self.at_hand.capacity() - self.at_hand.len();
        let left = self.left.saturating_add(AHEAD);
        usize::try_from(left).unwrap_or(usize::MAX).min(free).min(guard.piece())
    }

    fn make_room(&mut self, guard: &GuardStream) {
        let whole = self.left.saturating_add(self.at_hand.len() as u64);
        if self.whole && self.at_hand.capacity() as u64 >= whole.saturating_add(AHEAD) {
            return;
        }
        // It cannot be kept, and the next piece is as large as it can be.
        if !self.at_hand.is_empty() {
            self.throw_away();
        }
        let left = usize::try_from(self.left.saturating_add(AHEAD)).unwrap_or(usize::MAX);
        let size = left.min(guard.piece());
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
        (self.piped, self.splices) = (None, false);
    }
}

/// Writes bytes, of which there are some, as one chunk.
pub fn write_chunk(data: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(format!("{:x}\r\n", data.len()).as_bytes());
    out.extend_from_slice(data);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
impl Body {
    pub fn has_pipe(&self) -> bool {
        self.piped.is_some()
    }

    fn unsent(&self) -> &[u8] {
        &self.at_hand[self.sent..self.sendable()]
    }

    fn sent(&mut self, count: usize) {
        self.sent += count;
        self.forwarded += count as u64;
    }
}

#[cfg(test)]
#[path = "body_tests.rs"]
mod tests;
