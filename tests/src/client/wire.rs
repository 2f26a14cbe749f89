//! One TCP connection: exact bytes out, answers in, with framing read strictly.
//!
//! Strict because this client stands for all clients: an answer that only a lenient reader understands is a fault of
//! whoever sent it, and must fail the test.

mod source;

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

pub use super::answer::{Answer, Framing};
use super::answer::{as_latin1, content_length, excerpt, framing, malformed, parse_head};
use super::secure::{self, Secure, Session};
use crate::clock;
pub use source::connect_from;

/// Larger than any head that a test provokes.
const HEAD_LIMIT: usize = 256 * 1024;

/// Larger than any body that a client of this harness asks for.
const BODY_LIMIT: u64 = 256 * 1024 * 1024;

/// The client's patience, in real time.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    pub connect: Duration,
    /// Without a byte accepted by the socket. Windows: 2 minutes (MC-BUP 3.1.2.1).
    pub send: Duration,
    /// From the end of the request to the end of the answer. Windows: 5 minutes (MC-BUP 3.1.2.2).
    pub answer: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            send: Duration::from_secs(120),
            answer: Duration::from_secs(300),
        }
    }
}

impl Timeouts {
    /// For tests that expect an answer at once and want to fail soon without one.
    pub fn short() -> Self {
        Self {
            connect: Duration::from_secs(10),
            send: Duration::from_secs(30),
            answer: Duration::from_secs(30),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum WireError {
    #[error("no address for host {host:?}")]
    Unresolved { host: String },
    #[error("cannot connect to {address}")]
    Connect { address: SocketAddr, source: io::Error },
    #[error("cannot send")]
    Send { source: io::Error },
    /// The peer ended the connection where an answer could have begun.
    #[error("closed without an answer")]
    Closed,
    #[error("closed inside an answer, after {got:?}")]
    Truncated { got: String },
    #[error("connection broken while reading")]
    Broken { source: io::Error },
    #[error("no complete answer within {after:?}; got {got:?}")]
    TimedOut { after: Duration, got: String },
    #[error("malformed answer: {what}; got {got:?}")]
    Malformed { what: String, got: String },
}

#[derive(Debug)]
enum Stream {
    Plain(TcpStream),
    Secure(Box<Session>),
}

impl Stream {
    fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Secure(session) => session.tcp(),
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buffer),
            Self::Secure(session) => session.read(buffer),
        }
    }
}

/// A connection under full control of the test.
#[derive(Debug)]
pub struct Connection {
    stream: Stream,
    timeouts: Timeouts,
    /// Read but not yet part of an answer.
    surplus: Vec<u8>,
}

impl Connection {
    pub fn open(address: SocketAddr) -> Result<Self, WireError> {
        Self::open_with(address, Timeouts::short())
    }

    /// Over TLS where the address is known to speak it.
    pub fn open_with(address: SocketAddr, timeouts: Timeouts) -> Result<Self, WireError> {
        Self::open_as(address, timeouts, secure::lookup(address).as_ref())
    }

    /// Over TLS as the test says.
    pub fn open_secure(address: SocketAddr, secure: &Secure) -> Result<Self, WireError> {
        Self::open_as(address, Timeouts::short(), Some(secure))
    }

    /// Goes on after a handshake that the test made itself.
    pub fn over(session: Session) -> Self {
        let stream = Stream::Secure(Box::new(session));
        Self { stream, timeouts: Timeouts::short(), surplus: Vec::new() }
    }

    /// Without TLS, whatever is there.
    pub fn open_plain(address: SocketAddr) -> Result<Self, WireError> {
        Self::open_as(address, Timeouts::short(), None)
    }

    fn open_as(
        address: SocketAddr,
        timeouts: Timeouts,
        secure: Option<&Secure>,
    ) -> Result<Self, WireError> {
        let connect = || {
            let stream = TcpStream::connect_timeout(&address, timeouts.connect)?;
            stream.set_nodelay(true)?;
            stream.set_write_timeout(Some(timeouts.send))?;
            let Some(secure) = secure else { return Ok(Stream::Plain(stream)) };
            stream.set_read_timeout(Some(timeouts.connect))?;
            Ok(Stream::Secure(Box::new(secure.handshake(stream)?)))
        };
        let stream = connect().map_err(|source| WireError::Connect { address, source })?;
        Ok(Self { stream, timeouts, surplus: Vec::new() })
    }

    /// What the handshake has shown.
    pub fn session(&self) -> Option<&Session> {
        match &self.stream {
            Stream::Plain(_) => None,
            Stream::Secure(session) => Some(session),
        }
    }

    /// The client's end, to find this connection in a log.
    pub fn local_address(&self) -> SocketAddr {
        self.stream.tcp().local_addr().expect("a connected socket has an address")
    }

    pub fn send(&mut self, bytes: &[u8]) -> Result<(), WireError> {
        let sent = match &mut self.stream {
            Stream::Plain(stream) => stream.write_all(bytes),
            Stream::Secure(session) => session.write_all(bytes),
        };
        sent.map_err(|source| WireError::Send { source })
    }

    /// Sends what the socket takes, and says how much that was.
    pub fn send_some(&mut self, bytes: &[u8]) -> Result<usize, WireError> {
        let sent = match &mut self.stream {
            Stream::Plain(stream) => stream.write(bytes),
            Stream::Secure(session) => session.write(bytes),
        };
        sent.map_err(|source| WireError::Send { source })
    }

    /// Ends the sending direction (FIN); answers can still be read.
    pub fn finish(&mut self) -> Result<(), WireError> {
        let finished = match &mut self.stream {
            Stream::Plain(stream) => stream.shutdown(Shutdown::Write),
            Stream::Secure(session) => session.finish(),
        };
        finished.map_err(|source| WireError::Send { source })
    }

    /// Ends the connection with RST.
    pub fn reset(self) {
        rustix::net::sockopt::set_socket_linger(self.stream.tcp(), Some(Duration::ZERO))
            .expect("a TCP socket can linger");
    }

    /// Whether bytes, or the end of the connection, can be read without waiting.
    pub fn is_readable(&mut self) -> bool {
        !self.surplus.is_empty() || !matches!(self.peek(), Peek::Nothing)
    }

    /// Whether the peer has ended the connection and nothing is left to read.
    pub fn is_closed(&mut self) -> bool {
        matches!(self.peek(), Peek::End) && self.surplus.is_empty()
    }

    /// Reads to the end of the connection. A reset counts as the end.
    ///
    /// # Errors
    /// `TimedOut` when the peer keeps the connection open.
    pub fn read_to_end(&mut self) -> Result<Vec<u8>, WireError> {
        let deadline = clock::now() + self.timeouts.answer;
        loop {
            match self.fill(deadline) {
                Ok(0) | Err(WireError::Broken { .. }) => {
                    return Ok(std::mem::take(&mut self.surplus));
                }
                Ok(_) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The next final answer, to anything but HEAD.
    pub fn read_answer(&mut self) -> Result<Answer, WireError> {
        self.answer(false)
    }

    /// The next final answer, to HEAD: no body follows whatever its head says.
    pub fn read_answer_to_head(&mut self) -> Result<Answer, WireError> {
        self.answer(true)
    }

    /// The head of the next answer, 1xx included: for tests of `Expect: 100-continue`. Returns its status; a body is
    /// left unread.
    pub fn read_interim(&mut self) -> Result<u16, WireError> {
        let deadline = clock::now() + self.timeouts.answer;
        Ok(parse_head(&self.head_bytes(deadline)?)?.status)
    }

    /// Sends and reads one answer.
    pub fn exchange(&mut self, bytes: &[u8]) -> Result<Answer, WireError> {
        let sent = self.send(bytes);
        match self.read_answer() {
            Ok(answer) => Ok(answer),
            // A peer that answers early and closes fails the sending too; the sending's error tells more then.
            Err(read) => sent.and(Err(read)),
        }
    }

    fn answer(&mut self, to_head: bool) -> Result<Answer, WireError> {
        let deadline = clock::now() + self.timeouts.answer;
        let mut interim = Vec::new();
        loop {
            let head = self.head_bytes(deadline)?;
            let mut answer = parse_head(&head)?;
            if (100..200).contains(&answer.status) && answer.status != 101 {
                interim.push(answer.status);
                continue;
            }
            answer.interim = interim;
            answer.framing = framing(&answer, to_head)?;
            answer.body = self.body(&answer, deadline)?;
            return Ok(answer);
        }
    }

    fn head_bytes(&mut self, deadline: Instant) -> Result<Vec<u8>, WireError> {
        let mut searched = 0;
        loop {
            if let Some(at) = find(&self.surplus[searched..], b"\r\n\r\n") {
                return Ok(self.take(searched + at + 4));
            }
            if self.surplus.len() > HEAD_LIMIT {
                return Err(malformed("head too long", &self.surplus));
            }
            searched = self.surplus.len().saturating_sub(3);
            self.need_more(deadline)?;
        }
    }

    fn body(&mut self, answer: &Answer, deadline: Instant) -> Result<Vec<u8>, WireError> {
        match answer.framing {
            Framing::Bodiless => Ok(Vec::new()),
            Framing::ContentLength => {
                let length = content_length(answer)?.unwrap_or(0);
                self.exactly(length, deadline)
            }
            Framing::Chunked => self.chunks(deadline),
            Framing::UntilClose => loop {
                if self.fill(deadline)? == 0 {
                    return Ok(std::mem::take(&mut self.surplus));
                }
            },
        }
    }

    fn chunks(&mut self, deadline: Instant) -> Result<Vec<u8>, WireError> {
        let mut body = Vec::new();
        loop {
            let line = self.line(deadline)?;
            let digits = line.split(';').next().unwrap_or_default();
            let is_hex = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_hexdigit());
            let size = u64::from_str_radix(digits, 16)
                .ok()
                .filter(|_| is_hex)
                .ok_or_else(|| malformed("bad chunk size", line.as_bytes()))?;
            if size == 0 {
                // Trailer fields, up to the empty line.
                while !self.line(deadline)?.is_empty() {}
                return Ok(body);
            }
            body.extend(self.exactly(size, deadline)?);
            let end = self.line(deadline)?;
            if !end.is_empty() {
                return Err(malformed("chunk longer than its size", end.as_bytes()));
            }
        }
    }

    /// One line without its CRLF.
    fn line(&mut self, deadline: Instant) -> Result<String, WireError> {
        loop {
            if let Some(at) = find(&self.surplus, b"\r\n") {
                let line = self.take(at + 2);
                return Ok(as_latin1(&line[..at]));
            }
            if self.surplus.len() > HEAD_LIMIT {
                return Err(malformed("line too long", &self.surplus));
            }
            self.need_more(deadline)?;
        }
    }

    fn exactly(&mut self, length: u64, deadline: Instant) -> Result<Vec<u8>, WireError> {
        if length > BODY_LIMIT {
            return Err(malformed("body too long", b""));
        }
        while (self.surplus.len() as u64) < length {
            self.need_more(deadline)?;
        }
        Ok(self.take(length as usize))
    }

    fn take(&mut self, length: usize) -> Vec<u8> {
        let rest = self.surplus.split_off(length);
        std::mem::replace(&mut self.surplus, rest)
    }

    /// As [`fill`](Self::fill), where an end of the connection is an error.
    fn need_more(&mut self, deadline: Instant) -> Result<(), WireError> {
        match self.fill(deadline)? {
            0 if self.surplus.is_empty() => Err(WireError::Closed),
            0 => Err(WireError::Truncated { got: excerpt(&self.surplus) }),
            _ => Ok(()),
        }
    }

    /// Reads once; 0 at the end of the connection.
    fn fill(&mut self, deadline: Instant) -> Result<usize, WireError> {
        let mut buffer = [0; 16 * 1024];
        loop {
            let left = deadline.saturating_duration_since(clock::now());
            if left.is_zero() {
                return Err(self.timed_out());
            }
            self.stream.tcp().set_read_timeout(Some(left)).expect("the timeout is not zero");
            match self.stream.read(&mut buffer) {
                Ok(n) => {
                    self.surplus.extend(&buffer[..n]);
                    return Ok(n);
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::Interrupted => {}
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                        return Err(self.timed_out());
                    }
                    _ => return Err(WireError::Broken { source: error }),
                },
            }
        }
    }

    fn timed_out(&self) -> WireError {
        WireError::TimedOut { after: self.timeouts.answer, got: excerpt(&self.surplus) }
    }

    fn peek(&mut self) -> Peek {
        let mut bytes = [0; 1024];
        let mut look = || {
            self.stream.tcp().set_nonblocking(true)?;
            let seen = match &mut self.stream {
                Stream::Plain(stream) => stream.peek(&mut bytes[..1]),
                // Whether a record holds anything shows only once it is read.
                Stream::Secure(session) => session.read(&mut bytes),
            };
            self.stream.tcp().set_nonblocking(false)?;
            seen
        };
        match look() {
            Ok(0) => Peek::End,
            Ok(count) => {
                if matches!(self.stream, Stream::Secure(_)) {
                    self.surplus.extend(&bytes[..count]);
                }
                Peek::Bytes
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Peek::Nothing,
            Err(_) => Peek::End,
        }
    }
}

enum Peek {
    Nothing,
    Bytes,
    End,
}

/// One request on a connection of its own.
pub fn exchange(address: SocketAddr, bytes: &[u8]) -> Result<Answer, WireError> {
    Connection::open(address)?.exchange(bytes)
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// A peer that sends `bytes` and closes.
    fn answer_to(bytes: &str) -> Result<Answer, WireError> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let bytes = bytes.to_owned();
        let peer = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(bytes.as_bytes()).unwrap();
        });
        let answer = Connection::open(address).unwrap().read_answer();
        peer.join().unwrap();
        answer
    }

    #[track_caller]
    fn reads(bytes: &str, framing: Framing, body: &str) {
        let answer = answer_to(bytes).unwrap();
        assert_eq!((answer.framing, &*answer.body_text()), (framing, body));
    }

    #[track_caller]
    fn refuses(bytes: &str) {
        let outcome = answer_to(bytes);
        assert!(matches!(outcome, Err(WireError::Malformed { .. })), "{outcome:?}");
    }

    #[test]
    fn bodies_are_framed_in_each_of_the_ways() {
        reads("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nabc", Framing::ContentLength, "ab");
        reads(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n2\r\nab\r\n1;x=y\r\nc\r\n0\r\nT: 1\r\n\r\n",
            Framing::Chunked,
            "abc",
        );
        reads("HTTP/1.0 200\r\n\r\nabc", Framing::UntilClose, "abc");
        reads("HTTP/1.1 204 No\r\n\r\n", Framing::Bodiless, "");
    }

    #[test]
    fn interim_answers_are_counted_and_skipped() {
        let answer =
            answer_to("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                .unwrap();
        assert_eq!((answer.status, &answer.interim[..]), (200, &[100][..]));
    }

    #[test]
    fn ambiguous_answers_are_refused() {
        refuses("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n");
        refuses("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n");
        refuses("HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\na");
        refuses("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n");
        refuses("HTTP/1.1 200 OK\r\nA: b\r\n folded\r\n\r\n");
        refuses("HTTP/1.1 200 OK\r\nA : b\r\n\r\n");
        refuses("HTTP/1.1 200 OK\r\nA: b\nC: d\r\n\r\n");
        refuses("HTTP/2 200 OK\r\n\r\n");
        refuses("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n");
    }

    #[test]
    fn an_end_before_and_an_end_inside_an_answer_differ() {
        assert!(matches!(answer_to(""), Err(WireError::Closed)));
        let outcome = answer_to("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc");
        assert!(matches!(outcome, Err(WireError::Truncated { .. })));
    }
}
