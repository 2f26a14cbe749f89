//! The stream that Pingora reads from and writes to.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use gateway_core::protocol::chunked::ChunkScanner;
use gateway_core::protocol::head::{
    BodyFraming, HeadEdits, HeadError, HeadIndex, check_head, end_of_head, fault_of_line,
    is_hopeless,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::conn::Conn;
use super::held::Held;
use super::last_head::LastHead;
use super::refusal::Refusal;
use super::socket::ClientSocket;
use super::stall::Stall;
use super::{BodyShare, GuardLimits, RejectedConnection, linger, tls};
use crate::base::deadline::Deadline;

#[path = "stream_write.rs"]
mod write;

/// First room for a head. A Windows packet has about 400 bytes; an idle connection keeps none.
const HEAD_ROOM: usize = 2048;

/// What is read at once of a chunked body.
const CHUNK_ROOM: usize = 16 * 1024;

/// Empty lines that are read over before a request line. Old clients end a body with one
/// (RFC 9112 section 2.2); more than a few are something else than HTTP.
const EMPTY_LINES: u8 = 4;

/// What may follow the head of a request that is being served before we stop reading: enough to
/// see a client leave, not enough to buffer what it sends out of turn.
const AHEAD_LIMIT: usize = 4096;

/// A body may be read with so much room behind its end. A read that leaves room has found all that is
/// there, and spares the runtime a second one that finds nothing.
pub const AHEAD: u64 = 1;

pub struct GuardStream {
    /// `None` only while the stream is dropped.
    socket: Option<ClientSocket>,
    pub(super) conn: Arc<Conn>,
    pub(super) limits: Arc<GuardLimits>,
    pub(super) phase: Phase,
    /// Where the head of the request that has come ends in `buffer`.
    pub(super) head_end: usize,
    /// Where its parts stand, if it was not changed.
    pub(super) index: Option<HeadIndex>,
    /// The head of the last packet, and whether the request that has come repeats it.
    pub(super) last: LastHead,
    /// What the body of this request takes of memory, also once all of it was read.
    pub(super) body: BodyShare,
    /// Read from the socket and not yet passed on.
    pub(super) buffer: BytesMut,
    /// How much of `buffer` was searched for the end of a head.
    searched: usize,
    /// The request line in `buffer` is whole, and may pass.
    line_checked: bool,
    /// Empty lines that were read over since the last request.
    empty_lines: u8,
    /// Runs from the first byte of a head to its end.
    deadline: Deadline,
    /// Runs while a request waits for its body, or for its answer.
    pub(super) stall: Stall,
    pub(super) at_end: bool,
    /// A byte was written to the client.
    answered: bool,
    /// What of an answer was not sent yet.
    held: Held,
    /// We stop reading before the client stops sending, and it must get to read our answer.
    refused: bool,
}

pub(super) enum Phase {
    /// The next bytes belong to a head.
    Head,
    /// So many bytes of a checked message may still pass.
    Pass(u64),
    /// A chunked message whose head has so many bytes left to pass.
    ChunkedHead(u64),
    /// The body of a chunked message.
    Chunks(ChunkScanner),
    /// Behind the last chunk of the request with that number. No request may follow it.
    AfterChunks(u64),
    /// A refusal is being written.
    Refuse { answer: Vec<u8>, written: usize },
    /// Nothing more passes.
    Done,
}

impl GuardStream {
    pub(super) fn new(
        socket: ClientSocket,
        ahead: BytesMut,
        conn: Arc<Conn>,
        limits: Arc<GuardLimits>,
        body: BodyShare,
    ) -> Self {
        Self {
            socket: Some(socket),
            conn,
            limits,
            phase: Phase::Head,
            head_end: 0,
            index: None,
            last: LastHead::default(),
            body,
            buffer: ahead,
            searched: 0,
            line_checked: false,
            empty_lines: 0,
            deadline: Deadline::default(),
            stall: Stall::default(),
            at_end: false,
            refused: false,
            answered: false,
            held: Held::default(),
        }
    }

    pub fn conn(&self) -> &Arc<Conn> {
        &self.conn
    }

    pub(super) fn limits(&self) -> &GuardLimits {
        &self.limits
    }

    /// Part of a head is here.
    pub(super) fn is_inside_head(&self) -> bool {
        matches!(self.phase, Phase::Head) && !self.buffer.is_empty()
    }

    /// Waits for a request. False when there will be none; a refusal has been written then.
    pub(super) fn poll_request(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        self.conn.waker.register(cx.waker());
        self.body.release();
        self.conn.look_at_bound_connections(cx);
        loop {
            let step = match self.phase {
                Phase::Head if self.conn.is_ending() => {
                    self.give_up();
                    Ok(())
                }
                Phase::Head => ready!(self.poll_head(cx)),
                Phase::Pass(_) | Phase::ChunkedHead(_) | Phase::Chunks(_) => {
                    return Poll::Ready(true);
                }
                Phase::AfterChunks(_) => {
                    self.give_up();
                    Ok(())
                }
                Phase::Refuse { .. } => ready!(self.poll_refusal(cx)),
                Phase::Done => return Poll::Ready(false),
            };
            if step.is_err() {
                return Poll::Ready(false);
            }
        }
    }

    /// No further request is read. One that came meanwhile must not cost the client its last
    /// answer, by the reset that unread bytes bring.
    fn give_up(&mut self) {
        self.refused = true;
        self.phase = Phase::Done;
    }

    pub fn socket(&self) -> &ClientSocket {
        self.socket.as_ref().expect("the socket is taken on drop only")
    }

    fn io(&mut self) -> Pin<&mut ClientSocket> {
        Pin::new(self.socket.as_mut().expect("the socket is taken on drop only"))
    }

    /// Reads more into `buffer`. `Ok(false)` at the end of the stream.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        // Room is made only where there is something to read: most looks find nothing.
        if let Some(tcp) = self.socket().tcp() {
            ready!(tcp.poll_read_ready(cx))?;
        }
        self.buffer.reserve(HEAD_ROOM);
        let mut buffer = std::mem::take(&mut self.buffer);
        let polled = tokio_util::io::poll_read_buf(self.io(), cx, &mut buffer);
        self.buffer = buffer;
        let count = ready!(polled)?;
        self.at_end = count == 0;
        Poll::Ready(Ok(count > 0))
    }

    fn skip_empty_lines(&mut self) {
        while self.empty_lines < EMPTY_LINES && self.buffer.starts_with(b"\r\n") {
            self.buffer.advance(2);
            self.empty_lines += 1;
            self.searched = 0;
        }
    }

    /// Waits for a whole head and checks it.
    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            self.skip_empty_lines();
            if self.repeats_last() {
                self.begin_request(false);
                return Poll::Ready(Ok(()));
            }
            if let Some(end) = end_of_head(&self.buffer, self.searched) {
                self.admit(end);
                return Poll::Ready(Ok(()));
            }
            if is_hopeless(&self.buffer, self.searched) {
                if tls::is_hello(&self.buffer) && self.conn.tls.is_none() {
                    self.conn.events.connection_rejected(RejectedConnection::TlsOnPlain);
                }
                self.refuse(self.buffer.len(), HeadError::Line);
                return Poll::Ready(Ok(()));
            }
            // Once, when the first line ends: who sends a head byte by byte must not have each byte
            // read as often.
            if !self.line_checked && self.buffer[self.searched..].contains(&b'\n') {
                self.line_checked = true;
                if let Some(error) = fault_of_line(&self.buffer, &self.limits.head) {
                    self.refuse(self.buffer.len(), error);
                    return Poll::Ready(Ok(()));
                }
            }
            self.searched = self.buffer.len();
            if self.buffer.len() > self.limits.head.head_bytes {
                self.refuse(self.buffer.len(), HeadError::TooLong);
                return Poll::Ready(Ok(()));
            }
            match self.poll_fill(cx) {
                Poll::Ready(Ok(true)) => {}
                Poll::Ready(Ok(false)) => {
                    self.phase = Phase::Done;
                    return Poll::Ready(Ok(()));
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending if self.buffer.is_empty() => {
                    // Between requests: keep nothing that an idle connection does not need.
                    self.buffer = BytesMut::new();
                    return Poll::Pending;
                }
                Poll::Pending => {
                    ready!(self.deadline.poll(cx, || self.limits.head_timeout));
                    self.conn.events.timed_out();
                    // A client this slow gets no answer: any would be fatal to an honest one,
                    // which will come again.
                    self.phase = Phase::Done;
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }

    /// A whole head is here.
    fn begin_request(&mut self, http10: bool) {
        // Its timer is not held for the life of the connection.
        self.deadline = Deadline::default();
        self.searched = 0;
        self.line_checked = false;
        self.empty_lines = 0;
        self.conn.request_started(http10);
        self.stall.stop();
    }

    fn admit(&mut self, end: usize) {
        match check_head(&self.buffer[..end], &self.limits.head, &self.limits.policy()) {
            Ok(facts) => {
                self.begin_request(facts.http10);
                self.last.is_repeated = false;
                self.index = facts.edits.is_empty().then_some(facts.index);
                let end = self.edit(&facts.edits, end);
                self.head_end = end;
                self.phase = match facts.body {
                    BodyFraming::Length(body) => Phase::Pass(body.saturating_add(end as u64)),
                    BodyFraming::Chunked => Phase::ChunkedHead(end as u64),
                };
            }
            Err(error) => self.refuse(end, error),
        }
    }

    /// Changes the head that `buffer` begins with; returns its new end.
    fn edit(&mut self, edits: &HeadEdits, end: usize) -> usize {
        if edits.is_empty() {
            return end;
        }
        let rest = self.buffer.split_off(end);
        let head = edits.apply(&self.buffer);
        self.buffer = BytesMut::from(&head[..]);
        self.buffer.unsplit(rest);
        head.len()
    }

    fn refuse(&mut self, end: usize, error: HeadError) {
        let head = &self.buffer[..end];
        let (refusal, answer) = Refusal::answer(head, error, self.limits.method_override);
        self.conn.events.refused(&self.conn, &refusal, head);
        self.phase = Phase::Refuse { answer, written: 0 };
        self.refused = true;
        self.answered = true;
    }

    fn poll_refusal(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let Phase::Refuse { answer, written } = &mut self.phase else {
                return Poll::Ready(Ok(()));
            };
            let io = Pin::new(self.socket.as_mut().expect("the socket is taken on drop only"));
            if *written < answer.len() {
                *written += ready!(io.poll_write(cx, &answer[*written..]))?;
            } else {
                ready!(io.poll_flush(cx))?;
                self.phase = Phase::Done;
            }
        }
    }

    /// Passes on at most `allowed` bytes; returns how many.
    pub(super) fn poll_pass(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
        allowed: u64,
    ) -> Poll<io::Result<u64>> {
        let room = usize::try_from(allowed).unwrap_or(usize::MAX).min(out.remaining());
        if !self.buffer.is_empty() {
            let count = room.min(self.buffer.len());
            out.put_slice(&self.buffer[..count]);
            self.buffer.advance(count);
            if self.buffer.is_empty() {
                // The room of a head is not held for the length of a body.
                self.buffer = BytesMut::new();
            }
            return Poll::Ready(Ok(count as u64));
        }
        if room == 0 {
            return Poll::Ready(Ok(0));
        }
        let piece = self.body.piece(self.limits.body_memory);
        let before = out.filled().len();
        if out.remaining() <= piece && out.remaining() as u64 <= allowed.saturating_add(AHEAD) {
            ready!(self.io().poll_read(cx, out))?;
            let end = before.saturating_add(usize::try_from(allowed).unwrap_or(usize::MAX));
            if out.filled().len() > end {
                self.buffer.extend_from_slice(&out.filled()[end..]);
                out.set_filled(end);
            }
        } else {
            // The end of the body, behind which are bytes of the next head, or a smaller piece.
            let mut part = ReadBuf::new(out.initialize_unfilled_to(room.min(piece)));
            ready!(self.io().poll_read(cx, &mut part))?;
            let count = part.filled().len();
            out.advance(count);
        }
        let count = out.filled().len() - before;
        if count == 0 {
            self.at_end = true;
        }
        self.body.read(count);
        Poll::Ready(Ok(count as u64))
    }

    /// Passes on what is certainly a part of a chunked body. Pingora's reader forgives what others
    /// do not, so it never sees a byte that this one has not read.
    fn poll_chunks(&mut self, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.buffer.is_empty() {
            self.buffer.reserve(self.body.piece(self.limits.body_memory).min(CHUNK_ROOM));
            if !ready!(self.poll_fill(cx))? {
                return Poll::Ready(Ok(()));
            }
            self.body.read(self.buffer.len());
        }
        let room = out.remaining().min(self.buffer.len());
        let Phase::Chunks(scanner) = &mut self.phase else { return Poll::Ready(Ok(())) };
        let scanned = match scanner.scan(&self.buffer[..room]) {
            Ok(scanned) => scanned,
            Err(error) => {
                self.phase = Phase::Done;
                self.refused = true;
                self.conn.body_is_malformed(error);
                return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
            }
        };
        out.put_slice(&self.buffer[..scanned.used]);
        self.buffer.advance(scanned.used);
        if scanned.ended {
            self.phase = Phase::AfterChunks(self.conn.current_request());
        }
        Poll::Ready(Ok(()))
    }

    /// Pingora watches for the client to leave while it waits for a backend. It must not see the
    /// next request before it has answered this one.
    ///
    /// It does not hear of a client that has left either, because it would drop the backend's
    /// answer: a session would be opened for nobody, or a Close forgotten whose Ack got lost. Nor
    /// of one that has closed its half: it would look no more, and the backend's time is kept here.
    ///
    /// Nor does Pingora bound the time that the head of an answer takes in all: each of its bytes
    /// starts its timer anew. So the time is watched here.
    pub(super) fn poll_watch(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.buffer.len() < AHEAD_LIMIT && !self.at_end {
            match self.poll_fill(cx) {
                Poll::Ready(Ok(true)) => {}
                Poll::Ready(Ok(false)) => self.conn.closed_its_half(),
                Poll::Ready(Err(_)) | Poll::Pending => break,
            }
        }
        self.stall.poll_answer(cx, &self.conn)
    }
}

impl AsyncRead for GuardStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.conn.waker.register(cx.waker());
        loop {
            if this.conn.is_killed() {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            match this.phase {
                Phase::Head if this.conn.is_busy() => return this.poll_watch(cx),
                Phase::Head if this.conn.is_ending() => this.give_up(),
                Phase::Head => ready!(this.poll_head(cx))?,
                Phase::Pass(_) => {
                    let polled = this.poll_part(cx, out);
                    return this.stall.part(cx, &this.conn, polled);
                }
                Phase::ChunkedHead(allowed) => {
                    let left = allowed - ready!(this.poll_pass(cx, out, allowed))?;
                    this.phase = match left {
                        0 => Phase::Chunks(ChunkScanner::default()),
                        _ => Phase::ChunkedHead(left),
                    };
                    return Poll::Ready(Ok(()));
                }
                Phase::Chunks(_) => {
                    let polled = this.poll_chunks(cx, out);
                    return this.stall.part(cx, &this.conn, polled);
                }
                Phase::AfterChunks(request) if this.conn.current_request() == request => {
                    return this.poll_watch(cx);
                }
                Phase::AfterChunks(_) => {
                    this.phase = Phase::Done;
                    this.refused = true;
                }
                Phase::Refuse { .. } => ready!(this.poll_refusal(cx))?,
                Phase::Done => return Poll::Ready(Ok(())),
            }
        }
    }
}

impl Drop for GuardStream {
    fn drop(&mut self) {
        self.send_last();
        let Some(socket) = self.socket.take() else { return };
        // However long the client takes to read what it was told, it sends no request any more.
        self.conn.end_bound_connections();
        let unread = match self.phase {
            Phase::Head => {
                !self.buffer.is_empty() || self.conn.body_follows.load(Ordering::Acquire)
            }
            Phase::Pass(_) | Phase::Refuse { .. } => true,
            Phase::ChunkedHead(_) | Phase::Chunks(_) | Phase::AfterChunks(_) => true,
            // Without a refusal, a peer that was too slow or has gone.
            Phase::Done => self.refused,
        };
        // Where nothing was answered there is nothing to protect, and a client whose request was
        // killed is gone.
        if unread && self.answered && !self.at_end && !self.conn.was_killed() {
            linger::linger(socket, Arc::clone(&self.conn), self.limits.drain_bytes);
        }
    }
}

impl std::fmt::Debug for GuardStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GuardStream").field("conn", &self.conn).finish()
    }
}
