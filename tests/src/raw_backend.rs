//! A backend that records exactly what arrives and answers as the test says: any bytes, at any moment.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::client::packet::{PROTOCOL, latin1};
use crate::wait;

/// What a script sees of one request.
#[derive(Clone, Debug)]
pub struct Request {
    /// Counts connections from 0, in the order in which they were accepted.
    pub connection: usize,
    /// Counts the requests of the connection from 0.
    pub number: usize,
    /// The exact head as Latin-1, request line and final empty line included.
    pub head: String,
    /// As far as it arrived before the script was asked: empty for [`Moment::Head`].
    pub body: Vec<u8>,
    /// Whether the body arrived as a whole.
    pub complete: bool,
}

impl Request {
    pub fn method(&self) -> &str {
        self.request_line().split(' ').next().unwrap_or_default()
    }

    pub fn target(&self) -> &str {
        self.request_line().split(' ').nth(1).unwrap_or_default()
    }

    pub fn request_line(&self) -> &str {
        self.head.split("\r\n").next().unwrap_or_default()
    }

    /// The field lines as they arrived.
    pub fn field_lines(&self) -> impl Iterator<Item = &str> {
        self.head.split("\r\n").skip(1).filter(|line| !line.is_empty())
    }

    pub fn field(&self, name: &str) -> Option<&str> {
        self.field_lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
    }

    /// The value of BITS-Packet-Type in lower case, or nothing.
    pub fn packet_type(&self) -> String {
        self.field("BITS-Packet-Type").unwrap_or_default().to_ascii_lowercase()
    }
}

/// When a script is asked. It is asked at each moment until it gives a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// The head is here, the body unread.
    Head,
    /// The body is here, or the connection ended inside it.
    Body,
}

/// What a script does.
#[derive(Clone, Debug)]
pub enum Reply {
    /// Not at this moment. At [`Moment::Body`] it means: never, and the connection stays open.
    Wait,
    /// Exact bytes, then the next request.
    Send(Vec<u8>),
    /// Exact bytes, then FIN.
    SendAndClose(Vec<u8>),
    /// Exact bytes, then RST.
    SendAndReset(Vec<u8>),
    /// Exact bytes one by one with a pause between, then the next request.
    Trickle(Vec<u8>, Duration),
    /// `100 Continue`, then the body, then the script is asked again.
    Continue,
    /// Nothing is read or sent any more, the connection stays open.
    Hang,
}

impl Reply {
    /// An Ack with `Content-Length: 0` and these fields; `status` is `200 OK` and the like.
    pub fn ack(status: &str, fields: &[(&str, &str)]) -> Self {
        let mut head = format!("HTTP/1.1 {status}\r\nBITS-Packet-Type: Ack\r\n");
        for (name, value) in fields {
            head += &format!("{name}: {value}\r\n");
        }
        head += "Content-Length: 0\r\n\r\n";
        Self::Send(latin1(&head))
    }

    /// Text as Latin-1 bytes.
    pub fn raw(text: &str) -> Self {
        Self::Send(latin1(text))
    }
}

/// What has arrived on one connection.
#[derive(Clone, Debug, Default)]
pub struct Recorded {
    /// Every byte, in order, heads and bodies.
    pub bytes: Vec<u8>,
    /// The peer has ended its direction, or the connection broke.
    pub ended: bool,
    /// The peer has reset it, while it was read.
    pub reset: bool,
}

type Script = dyn Fn(Moment, &Request) -> Reply + Send + Sync;

/// A listener on loopback; everything it started ends on drop.
pub struct RawBackend {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

struct Shared {
    script: Box<Script>,
    stopping: AtomicBool,
    connections: Mutex<Vec<Recorded>>,
    requests: Mutex<Vec<Request>>,
    /// By connection, while it is served: for the end of all.
    streams: Mutex<HashMap<usize, Arc<TcpStream>>>,
}

impl RawBackend {
    /// Answers by `script`, asked at both moments of each request.
    pub fn scripted(script: impl Fn(Moment, &Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::at(SocketAddr::from(([127, 0, 0, 1], 0)), script)
    }

    /// The same on a port that is free.
    pub fn at(
        address: SocketAddr,
        script: impl Fn(Moment, &Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Shared {
            script: Box::new(script),
            stopping: AtomicBool::new(false),
            connections: Mutex::default(),
            requests: Mutex::default(),
            streams: Mutex::default(),
        });
        let accepting = shared.clone();
        let acceptor = std::thread::spawn(move || accept(&listener, &accepting));
        Self { address, shared, acceptor: Some(acceptor) }
    }

    /// Answers each request after its body.
    pub fn answering(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::scripted(move |moment, request| match moment {
            Moment::Head => Reply::Wait,
            Moment::Body => answer(request),
        })
    }

    /// A server that says yes to everything, for tests that only look at what arrives.
    pub fn agreeable() -> Self {
        Self::answering(agree())
    }

    /// Takes connections and never says anything.
    pub fn silent() -> Self {
        Self::scripted(|_, _| Reply::Wait)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What arrived, per connection, in the order of their acceptance.
    pub fn connections(&self) -> Vec<Recorded> {
        self.shared.connections().clone()
    }

    /// Waits until the connection with that number, from 0, has come and gone.
    #[track_caller]
    pub fn ended(&self, number: usize) -> Recorded {
        wait::some("the connection has ended", || {
            self.shared.connections().get(number).filter(|recorded| recorded.ended).cloned()
        })
    }

    /// The requests in the order in which their heads were complete.
    pub fn requests(&self) -> Vec<Request> {
        lock(&self.shared.requests).clone()
    }

    /// Waits for the request with that number, from 0.
    #[track_caller]
    pub fn request(&self, number: usize) -> Request {
        wait::some("the backend has been asked", || {
            lock(&self.shared.requests).get(number).cloned()
        })
    }

    pub fn clear(&self) {
        lock(&self.shared.requests).clear();
    }
}

/// The answers of [`RawBackend::agreeable`]: sessions with fresh ids, each fragment accepted where it ends.
pub fn agree() -> impl Fn(&Request) -> Reply + Send + Sync + 'static {
    let sessions = AtomicU64::new(0);
    move |request| match &*request.packet_type() {
        "create-session" => {
            let number = sessions.fetch_add(1, Ordering::Relaxed);
            let id = format!("{{00000000-0000-4000-8000-{number:012X}}}");
            Reply::ack(
                "200 OK",
                &[
                    ("BITS-Protocol", PROTOCOL),
                    ("BITS-Session-Id", &id),
                    ("Accept-Encoding", "identity"),
                ],
            )
        }
        "fragment" => {
            let range = request.field("Content-Range").unwrap_or_default();
            let last = range.split(['-', '/']).nth(1).and_then(|l| l.parse().ok());
            let next = last.map_or(0, |last: u64| last + 1).to_string();
            Reply::ack("200 OK", &[("BITS-Received-Content-Range", &next)])
        }
        _ => Reply::ack("200 OK", &[]),
    }
}

impl Shared {
    fn connections(&self) -> MutexGuard<'_, Vec<Recorded>> {
        lock(&self.connections)
    }
}

impl Drop for RawBackend {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        // Wakes the acceptor; nothing is lost when it has already gone.
        let _ = TcpStream::connect(self.address);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
        for stream in lock(&self.shared.streams).values() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept() {
        if shared.stopping.load(Ordering::SeqCst) {
            return;
        }
        let connection = {
            let mut connections = shared.connections();
            connections.push(Recorded::default());
            connections.len() - 1
        };
        let stream = Arc::new(stream);
        lock(&shared.streams).insert(connection, stream.clone());
        let shared = shared.clone();
        std::thread::spawn(move || {
            let mut serving = Serving { stream, shared: &shared, connection, buffer: Vec::new() };
            serving.serve();
            // Closing takes the last holder's end.
            lock(&shared.streams).remove(&connection);
            drop(serving);
            shared.connections()[connection].ended = true;
        });
    }
}

struct Serving<'a> {
    stream: Arc<TcpStream>,
    shared: &'a Shared,
    connection: usize,
    /// Arrived, but not yet part of a request.
    buffer: Vec<u8>,
}

impl Serving<'_> {
    fn serve(&mut self) {
        for number in 0.. {
            let Some(head) = self.head() else {
                return;
            };
            let request = Request {
                connection: self.connection,
                number,
                head,
                body: Vec::new(),
                complete: false,
            };
            // Before anybody can see it: whoever waits for a request knows that the script has had it.
            let reply = (self.shared.script)(Moment::Head, &request);
            let index = {
                let mut requests = lock(&self.shared.requests);
                requests.push(request.clone());
                requests.len() - 1
            };
            if !self.answer(request, index, reply) {
                return;
            }
        }
    }

    /// False when the connection is over.
    fn answer(&mut self, mut request: Request, index: usize, mut reply: Reply) -> bool {
        if matches!(reply, Reply::Wait | Reply::Continue) {
            if matches!(reply, Reply::Continue) {
                let _ = (&*self.stream).write_all(b"HTTP/1.1 100 Continue\r\n\r\n");
            }
            (request.body, request.complete) = self.body(&request);
            if let Some(recorded) = lock(&self.shared.requests).get_mut(index) {
                *recorded = request.clone();
            }
            if !request.complete {
                return false;
            }
            reply = (self.shared.script)(Moment::Body, &request);
        }
        self.perform(reply)
    }

    fn perform(&mut self, reply: Reply) -> bool {
        match reply {
            Reply::Wait | Reply::Continue => true,
            Reply::Send(bytes) => (&*self.stream).write_all(&bytes).is_ok(),
            Reply::SendAndClose(bytes) => {
                let _ = (&*self.stream).write_all(&bytes);
                let _ = self.stream.shutdown(Shutdown::Write);
                // Unread bytes would turn the FIN into a RST.
                while self.fill() {}
                false
            }
            Reply::SendAndReset(bytes) => {
                let _ = (&*self.stream).write_all(&bytes);
                // The coming close then sends RST instead of FIN.
                let _ =
                    rustix::net::sockopt::set_socket_linger(&*self.stream, Some(Duration::ZERO));
                false
            }
            Reply::Trickle(bytes, pause) => bytes.iter().all(|byte| {
                std::thread::sleep(pause);
                (&*self.stream).write_all(&[*byte]).is_ok()
            }),
            Reply::Hang => {
                // Held until the backend is dropped, which shuts the socket down; peeking leaves the bytes unread.
                let mut byte = [0];
                while !self.shared.stopping.load(Ordering::SeqCst)
                    && self.stream.peek(&mut byte).is_ok_and(|n| n > 0)
                {
                    std::thread::sleep(Duration::from_millis(5));
                }
                false
            }
        }
    }

    fn head(&mut self) -> Option<String> {
        loop {
            if let Some(at) = self.buffer.windows(4).position(|w| w == b"\r\n\r\n") {
                let rest = self.buffer.split_off(at + 4);
                let head = std::mem::replace(&mut self.buffer, rest);
                return Some(head.iter().map(|&byte| char::from(byte)).collect());
            }
            if !self.fill() {
                return None;
            }
        }
    }

    /// By Content-Length, or chunked with its framing left in; else nothing.
    fn body(&mut self, request: &Request) -> (Vec<u8>, bool) {
        let chunked = request
            .field("Transfer-Encoding")
            .is_some_and(|value| value.eq_ignore_ascii_case("chunked"));
        let length = request
            .field("Content-Length")
            .and_then(|value| value.parse::<usize>().ok())
            .unwrap_or(0);
        loop {
            let end = match chunked {
                true => self.buffer.windows(5).position(|w| w == b"0\r\n\r\n").map(|at| at + 5),
                false => (self.buffer.len() >= length).then_some(length),
            };
            if let Some(end) = end {
                let rest = self.buffer.split_off(end);
                return (std::mem::replace(&mut self.buffer, rest), true);
            }
            if !self.fill() {
                return (std::mem::take(&mut self.buffer), false);
            }
        }
    }

    /// Reads once and records; false at the end of the connection.
    fn fill(&mut self) -> bool {
        let mut chunk = vec![0; 64 * 1024];
        match (&*self.stream).read(&mut chunk) {
            Ok(n) if n > 0 => {
                let arrived = &chunk[..n];
                self.buffer.extend(arrived);
                self.shared.connections()[self.connection].bytes.extend(arrived);
                true
            }
            read => {
                let reset = read.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset);
                self.shared.connections()[self.connection].reset = reset;
                false
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic of a script must not hide behind a poisoned lock.
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{Client, Connection, Resolver, WireError};
    use crate::data::Content;

    #[test]
    fn every_byte_is_recorded_per_connection() {
        let backend = RawBackend::agreeable();
        let mut connection = Connection::open(backend.address()).unwrap();
        let first =
            b"BITS_POST /a HTTP/1.1\r\nBITS-Packet-Type: Ping\r\nContent-Length: 2\r\n\r\nhi";
        assert_eq!(connection.exchange(first).unwrap().status, 200);
        let second = b"GET / HTTP/1.1\r\nx:y \r\n\r\n";
        assert_eq!(connection.exchange(second).unwrap().status, 200);
        assert_eq!(backend.connections()[0].bytes, [&first[..], &second[..]].concat());
        assert_eq!(backend.request(0).body, b"hi");
        assert_eq!(backend.request(1).head.as_bytes(), second);
    }

    #[test]
    fn an_agreeable_backend_serves_a_whole_upload() {
        let backend = RawBackend::agreeable();
        let resolver = Resolver::new().with("up.test", backend.address());
        let content = Content::seeded(1, 3_000_000);
        let report = Client::new(resolver).upload("http://up.test/in/a.bin", &content);
        report.expect_smooth();
        let bodies = backend.requests().into_iter().flat_map(|r| r.body);
        assert!(bodies.collect::<Vec<_>>() == content.to_vec());
    }

    #[test]
    fn a_reset_and_an_end_look_different_to_the_client() {
        let backend = RawBackend::answering(|request| match request.target() {
            "/reset" => Reply::SendAndReset(Vec::new()),
            _ => Reply::SendAndClose(Vec::new()),
        });
        let ask = |target: &str| {
            crate::client::exchange(
                backend.address(),
                format!("GET {target} HTTP/1.1\r\n\r\n").as_bytes(),
            )
        };
        assert!(matches!(ask("/reset"), Err(WireError::Broken { .. })));
        assert!(matches!(ask("/close"), Err(WireError::Closed)));
    }
}
