//! A connection to a server while it serves one packet.

use std::any::Any;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use gateway_core::protocol::Fields;
use gateway_core::protocol::answer::AnswerHead;
use http::{StatusCode, Version};
use tokio::io::AsyncWrite;
use tokio_util::io::poll_read_buf;

use super::buffer::{Buffer, SMALL};
use super::previous::Previous;
use super::upstream::{Connection, Place, ServerSocket};
use crate::guard::Held;

/// Room for the head of an answer. An Ack has some 300 bytes.
const HEAD_ROOM: usize = 2048;

/// Bytes that are read at once of the body of an answer.
pub const PIECE: usize = 16 * 1024;

/// A connection that is its client's own. Dropped with a request on it, it is reset: a server must
/// never take half a body for all of it.
#[derive(Debug)]
pub struct Own {
    socket: ServerSocket,
    busy: bool,
    /// Dropped last: it is free once the connection is closed.
    _place: Place,
}

impl Own {
    pub fn new(socket: ServerSocket, place: Place) -> Self {
        Self { socket, busy: true, _place: place }
    }

    /// One that was held, for its next request. `None` if it has ended meanwhile.
    pub fn of(held: Box<dyn Held>) -> Option<Self> {
        let held: Box<dyn Any> = held;
        let mut own = held.downcast::<Self>().ok()?;
        if !own.socket.is_quiet() || !own.socket.is_quiet_in_kernel() {
            return None;
        }
        own.busy = true;
        Some(*own)
    }
}

impl Held for Own {
    fn poll_ended(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.socket.poll_news(cx)
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        if self.busy { self.socket.reset() } else { self.socket.goodbye() }
    }
}

/// Whose a connection is.
#[derive(Debug)]
pub enum Line {
    Shared(Connection),
    /// A new one that serves no other request.
    Once(Connection),
    Bound(Own),
}

impl Line {
    fn socket(&mut self) -> &mut ServerSocket {
        match self {
            Self::Shared(connection) | Self::Once(connection) => connection.socket(),
            Self::Bound(own) => &mut own.socket,
        }
    }
}

#[derive(Debug)]
pub struct Server {
    line: Line,
    /// It has served a request before.
    pub reused: bool,
    /// The head of the request, until all of it has gone. Empty where the previous one goes again.
    pub out: Buffer,
    /// How much of that has gone.
    pub sent: usize,
    /// What has come, and was not taken yet.
    pub inbox: Buffer,
    /// What became of the previous packet.
    pub previous: Option<Box<Previous>>,
    /// Its head goes once more, with other numbers.
    pub repeats: bool,
}

impl Server {
    pub fn new(line: Line, reused: bool) -> Self {
        Self {
            line,
            reused,
            out: Buffer::default(),
            sent: 0,
            inbox: Buffer::default(),
            previous: None,
            repeats: false,
        }
    }

    /// One over which the same client has sent its previous packet.
    pub fn again(connection: Connection, previous: Option<Box<Previous>>) -> Self {
        Self { previous, ..Self::new(Line::Shared(connection), true) }
    }

    /// The head of the request.
    fn head(&self) -> &[u8] {
        match &self.previous {
            Some(previous) if self.repeats => previous.request(),
            _ => &self.out,
        }
    }

    pub fn socket(&mut self) -> &mut ServerSocket {
        self.line.socket()
    }

    pub fn is_shared(&self) -> bool {
        matches!(self.line, Line::Shared(_))
    }

    pub fn is_bound(&self) -> bool {
        matches!(self.line, Line::Bound(_))
    }

    /// Request and answer are over. What is left of the connection, for another request.
    pub fn over(self) -> (Line, Option<Box<Previous>>) {
        let line = match self.line {
            Line::Bound(mut own) => {
                own.busy = false;
                Line::Bound(own)
            }
            line => line,
        };
        (line, self.previous)
    }

    /// Sends what is left of the head, and of `body`. Returns how many bytes of each went.
    pub fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        body: &[u8],
    ) -> Poll<io::Result<(usize, usize)>> {
        let head = match &self.previous {
            Some(previous) if self.repeats => previous.request(),
            _ => &self.out,
        };
        let head = &head[self.sent..];
        let parts = [IoSlice::new(head), IoSlice::new(body)];
        let parts = if head.is_empty() { &parts[1..] } else { &parts };
        let head = head.len();
        match Pin::new(self.line.socket()).poll_write_vectored(cx, parts) {
            Poll::Ready(Ok(0)) => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            Poll::Ready(Ok(count)) => {
                let of_head = count.min(head);
                self.sent += of_head;
                if !self.repeats && self.head_is_sent() {
                    // Nothing is held for it while the server works.
                    (self.out, self.sent) = (Buffer::default(), 0);
                }
                Poll::Ready(Ok((of_head, count - of_head)))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        }
    }

    /// What was written may lie in the layer of TLS.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.line.socket()).poll_flush(cx)
    }

    /// Reads on. 0 at the end.
    pub fn poll_hear(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        // Room is made when there is something to read: a server may take its time.
        if self.socket().is_plain() {
            ready!(self.socket().tcp().poll_read_ready(cx))?;
        }
        if self.inbox.capacity() == 0 {
            self.inbox = Buffer::of(SMALL);
        }
        self.inbox.reserve(HEAD_ROOM);
        poll_read_buf(Pin::new(self.line.socket()), cx, &mut *self.inbox)
    }

    pub fn head_is_sent(&self) -> bool {
        self.sent == self.head().len()
    }
}

/// Whether the connection of an answer can carry another request.
pub fn stays_open(head: &AnswerHead) -> bool {
    if head.status == StatusCode::NO_CONTENT && head.length.is_some_and(|length| length > 0) {
        // The server may send the content all the same, and it would be the next answer.
        return false;
    }
    let close = head.says("close");
    match head.version {
        Version::HTTP_11 => !close,
        _ => !close && head.says("keep-alive"),
    }
}

#[cfg(test)]
mod tests {
    use gateway_core::protocol::answer::read_answer;
    use gateway_core::protocol::head::HeadLimits;

    use super::*;

    #[test]
    fn a_connection_is_used_again_if_its_answer_allows_it() {
        let v1 = Version::HTTP_11;
        for (version, status, field, stays) in [
            (v1, 200, ("content-length", "5"), true),
            (v1, 200, ("connection", "keep-alive"), true),
            (v1, 200, ("connection", "Close"), false),
            (v1, 200, ("connection", "x, close"), false),
            (v1, 200, ("connection", "closed"), true),
            (v1, 204, ("content-length", "0"), true),
            (v1, 204, ("content-length", "5"), false),
            (v1, 304, ("content-length", "5"), true),
            (Version::HTTP_10, 200, ("content-length", "5"), false),
            (Version::HTTP_10, 200, ("connection", "Keep-Alive"), true),
        ] {
            let version = if version == v1 { "HTTP/1.1" } else { "HTTP/1.0" };
            let (name, value) = field;
            let head = format!("{version} {status}\r\n{name}: {value}\r\n\r\n");
            let limits = HeadLimits { head_bytes: 1000, line_bytes: 0, fields: 10 };
            let answer = read_answer(head.as_bytes(), &limits).unwrap().unwrap();
            assert_eq!(stays_open(&answer.head), stays, "{head:?}");
        }
    }
}
