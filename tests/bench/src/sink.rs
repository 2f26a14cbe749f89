//! The farm: servers that read packets, check them, and answer the least that an Ack has to say.
//!
//! Each sink has sessions of its own. A packet of a session at another sink, a Fragment that does not begin where the one
//! before ended, and a byte that was not sent are errors, and an error voids the row.

use std::collections::HashMap;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::AddAssign;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::Runtime;

use crate::wire::{self, ID_LENGTH, Kind, Request};

/// Errors of which the words are kept.
const KEPT_ERRORS: usize = 5;

/// As large as what the kernel gives at once on loopback.
const BUFFER: usize = 256 * 1024;

pub struct Farm {
    addresses: Vec<SocketAddr>,
    sinks: Vec<Arc<Sink>>,
    shared: Arc<Shared>,
    _runtime: Runtime,
}

/// Packets by their types.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Packets {
    pub creates: u64,
    pub pings: u64,
    pub fragments: u64,
    pub closes: u64,
    pub body_bytes: u64,
}

#[derive(Default)]
struct Shared {
    creates: AtomicU64,
    pings: AtomicU64,
    fragments: AtomicU64,
    closes: AtomicU64,
    body_bytes: AtomicU64,
    errors: Mutex<Vec<String>>,
}

#[derive(Default)]
struct Sink {
    number: usize,
    shared: Arc<Shared>,
    issued: AtomicU64,
    /// By id; the offset of the next byte.
    sessions: Mutex<HashMap<[u8; ID_LENGTH], u64>>,
}

impl Farm {
    pub fn start(count: usize, threads: usize) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_name("sink")
            .enable_all()
            .build()?;
        let shared = Arc::<Shared>::default();
        let (mut addresses, mut sinks) = (Vec::new(), Vec::new());
        for number in 0..count {
            let listener = runtime.block_on(async { listen() })?;
            addresses.push(listener.local_addr()?);
            let sink = Sink { number, shared: Arc::clone(&shared), ..Sink::default() };
            let sink = Arc::new(sink);
            runtime.spawn(accept(Arc::clone(&sink), listener));
            sinks.push(sink);
        }
        Ok(Self { addresses, sinks, shared, _runtime: runtime })
    }

    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    pub fn arrived(&self) -> Packets {
        let count = |counter: &AtomicU64| counter.load(Ordering::SeqCst);
        Packets {
            creates: count(&self.shared.creates),
            pings: count(&self.shared.pings),
            fragments: count(&self.shared.fragments),
            closes: count(&self.shared.closes),
            body_bytes: count(&self.shared.body_bytes),
        }
    }

    /// As if the servers had been started anew.
    pub fn forget_sessions(&self) {
        for sink in &self.sinks {
            *sink.sessions.lock().unwrap_or_else(PoisonError::into_inner) = HashMap::new();
        }
    }

    /// What was wrong since the last call.
    pub fn take_errors(&self) -> Vec<String> {
        std::mem::take(&mut self.shared.errors.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl AddAssign for Packets {
    fn add_assign(&mut self, more: Self) {
        self.creates += more.creates;
        self.pings += more.pings;
        self.fragments += more.fragments;
        self.closes += more.closes;
        self.body_bytes += more.body_bytes;
    }
}

impl Packets {
    pub fn since(self, before: Self) -> Self {
        Self {
            creates: self.creates - before.creates,
            pings: self.pings - before.pings,
            fragments: self.fragments - before.fragments,
            closes: self.closes - before.closes,
            body_bytes: self.body_bytes - before.body_bytes,
        }
    }
}

impl Shared {
    fn wrong(&self, what: String) {
        let mut errors = self.errors.lock().unwrap_or_else(PoisonError::into_inner);
        if errors.len() < KEPT_ERRORS {
            errors.push(what);
        }
    }
}

/// Room for all connections of a crowd that come at once: a full queue delays them, and may reset them.
const BACKLOG: u32 = 4096;

fn listen() -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
    socket.listen(BACKLOG)
}

async fn accept(sink: Arc<Sink>, listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let sink = Arc::clone(&sink);
                tokio::spawn(async move {
                    if let Err(what) = serve(&sink, stream).await {
                        sink.shared.wrong(format!("sink {}: {what}", sink.number));
                    }
                });
            }
            Err(error) => sink.shared.wrong(format!("sink {}: accept: {error}", sink.number)),
        }
    }
}

/// One connection, to its end.
async fn serve(sink: &Sink, mut stream: TcpStream) -> Result<(), String> {
    stream.set_nodelay(true).map_err(|error| error.to_string())?;
    let mut buffer = vec![0; BUFFER];
    let mut answer = Vec::with_capacity(256);
    let mut filled = 0;
    loop {
        let Some(request) = wire::read_request(&buffer[..filled])? else {
            let read = match stream.read(&mut buffer[filled..]).await {
                Ok(read) => read,
                // A proxy may reset a connection that it no longer needs.
                Err(_) if filled == 0 => return Ok(()),
                Err(error) => return Err(format!("{error} inside a head")),
            };
            match read {
                0 if filled == 0 => return Ok(()),
                0 => return Err(format!("the end after {filled} bytes of a head")),
                read => filled += read,
            }
            continue;
        };
        let (kind, first, head) = (request.kind, request.first, request.head_bytes);
        let length = request.body;
        let offset = sink.admit(&request)?;
        answer.clear();
        answer
            .extend_from_slice(b"HTTP/1.1 200 OK\r\nPragma: no-cache\r\nBITS-Packet-Type: Ack\r\n");
        match kind {
            Kind::Create => sink.create(&mut answer),
            Kind::Ping => sink.shared.pings.fetch_add(1, Ordering::SeqCst),
            Kind::Close => sink.shared.closes.fetch_add(1, Ordering::SeqCst),
            Kind::Fragment => {
                let _ = write!(answer, "BITS-Received-Content-Range: {}\r\n", first + length);
                0
            }
        };
        answer.extend_from_slice(b"Content-Length: 0\r\n\r\n");

        let mut arrived = 0;
        let mut start = head;
        loop {
            let piece = (filled - start).min((length - arrived) as usize);
            if buffer[start..start + piece] != *wire::content(first + arrived, piece) {
                return Err(format!("a body that differs behind byte {}", first + arrived));
            }
            arrived += piece as u64;
            start += piece;
            if arrived == length {
                break;
            }
            let read = stream.read(&mut buffer).await.map_err(|error| error.to_string())?;
            if read == 0 {
                return Err(format!("the end after {arrived} of {length} bytes of a body"));
            }
            (start, filled) = (0, read);
        }
        buffer.copy_within(start..filled, 0);
        filled -= start;
        if let Some((id, next)) = offset {
            let mut sessions = sink.sessions.lock().unwrap_or_else(PoisonError::into_inner);
            if sessions.insert(id, next + length) != Some(next) {
                return Err("two requests of one session at once".to_owned());
            }
            sink.shared.fragments.fetch_add(1, Ordering::SeqCst);
            sink.shared.body_bytes.fetch_add(length, Ordering::SeqCst);
        }
        stream.write_all(&answer).await.map_err(|error| error.to_string())?;
    }
}

impl Sink {
    /// The session and the next byte of it, for a Fragment.
    fn admit(&self, request: &Request<'_>) -> Result<Option<([u8; ID_LENGTH], u64)>, String> {
        let Request { kind, session, first, last, body, .. } = *request;
        match kind {
            Kind::Create | Kind::Ping if body == 0 => return Ok(None),
            Kind::Close if body == 0 => {}
            Kind::Fragment if last.checked_sub(first).is_some_and(|more| more + 1 == body) => {}
            _ => return Err(format!("a {kind:?} of {first} to {last} with {body} bytes")),
        }
        let unknown = || {
            let id = String::from_utf8_lossy(session);
            format!("a {kind:?} of the session {id:?}, which is not of this sink")
        };
        let id: [u8; ID_LENGTH] = session.try_into().map_err(|_| unknown())?;
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        if kind == Kind::Close {
            return sessions.remove(&id).map(|_| None).ok_or_else(unknown);
        }
        let next = *sessions.get(&id).ok_or_else(unknown)?;
        if next == first {
            Ok(Some((id, next)))
        } else {
            Err(format!("a Fragment that begins with byte {first} in place of {next}"))
        }
    }

    fn create(&self, answer: &mut Vec<u8>) -> u64 {
        let count = self.issued.fetch_add(1, Ordering::SeqCst);
        let id = id(self.number as u64, count);
        let _ = write!(
            answer,
            "BITS-Protocol: {{7df0354d-249b-430f-820d-3d2a9bef4931}}\r\nBITS-Session-Id: {id}\r\n\
             Accept-Encoding: identity\r\n"
        );
        let id = id.into_bytes().try_into().expect("an id of the length of an id");
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner).insert(id, 0);
        self.shared.creates.fetch_add(1, Ordering::SeqCst)
    }
}

/// As IIS issues them: in braces and without an order, so that no table profits from one.
fn id(sink: u64, count: u64) -> String {
    let a = mix(count << 8 | sink);
    let b = mix(a);
    format!(
        "{{{:08X}-{:04X}-4{:03X}-8{:03X}-{:012X}}}",
        a >> 32,
        a >> 16 & 0xffff,
        a & 0xfff,
        a >> 12 & 0xf | b & 0xff0,
        b >> 16
    )
}

/// SplitMix64's last step: a permutation of all numbers.
fn mix(n: u64) -> u64 {
    let n = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ n >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ n >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ n >> 31
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::io::Read;

    struct Client(std::net::TcpStream);

    impl Client {
        fn connect(farm: &Farm, sink: usize) -> Self {
            Self(std::net::TcpStream::connect(farm.addresses()[sink]).expect("a sink"))
        }

        fn send(&mut self, bytes: &[u8]) -> Vec<u8> {
            self.0.write_all(bytes).expect("sent");
            let mut answer = Vec::new();
            let mut piece = [0; 1024];
            loop {
                if wire::read_ack(&answer).expect("an Ack").is_some() {
                    return answer;
                }
                match self.0.read(&mut piece) {
                    Ok(read) if read > 0 => answer.extend_from_slice(&piece[..read]),
                    _ => return answer,
                }
            }
        }

        fn create(&mut self) -> String {
            let mut head = Vec::new();
            wire::create(&mut head, "/a");
            let answer = self.send(&head);
            let ack = wire::read_ack(&answer).expect("an Ack").expect("complete");
            String::from_utf8(ack.session.to_vec()).expect("an id")
        }

        fn fragment(&mut self, id: &str, first: u64, body: &[u8]) -> Vec<u8> {
            let mut packet = Vec::new();
            wire::fragment(&mut packet, "/a", id, first, body.len());
            packet.extend_from_slice(body);
            self.send(&packet)
        }
    }

    #[test]
    fn what_arrives_is_counted() {
        let farm = Farm::start(2, 1).expect("a farm");
        let mut client = Client::connect(&farm, 0);
        let id = client.create();
        let before = farm.arrived();
        for round in 0..3 {
            client.fragment(&id, round * 300_000, wire::content(round * 300_000, 300_000));
        }
        let mut head = Vec::new();
        wire::ping(&mut head, "/a");
        client.send(&head);
        wire::close(&mut head, "/a", &id);
        client.send(&head);
        let arrived = farm.arrived().since(before);
        let expected =
            Packets { creates: 0, pings: 1, fragments: 3, closes: 1, body_bytes: 900_000 };
        assert_eq!(arrived, expected);
        assert_eq!(farm.take_errors(), Vec::<String>::new());
    }

    #[track_caller]
    fn is_wrong(expected: &str, send: impl FnOnce(&Farm, &mut Client, &str)) {
        let farm = Farm::start(2, 1).expect("a farm");
        let mut client = Client::connect(&farm, 0);
        let id = client.create();
        send(&farm, &mut client, &id);
        // The connection is closed behind the error, which is therefore there.
        let mut rest = Vec::new();
        let _ = client.0.read_to_end(&mut rest);
        let mut errors = farm.take_errors();
        while errors.is_empty() {
            std::thread::yield_now();
            errors = farm.take_errors();
        }
        assert!(errors[0].contains(expected), "{errors:?}");
        assert_eq!(farm.arrived().fragments, 0);
    }

    #[test]
    fn a_wrong_delivery_is_an_error() {
        is_wrong("a body that differs", |_, client, id| {
            client.fragment(id, 0, b"something else");
        });
        is_wrong("begins with byte 1 in place of 0", |_, client, id| {
            client.fragment(id, 1, wire::content(1, 10));
        });
        is_wrong("not of this sink", |farm, client, id| {
            *client = Client::connect(farm, 1);
            client.fragment(id, 0, wire::content(0, 10));
        });
        is_wrong("of 0 to 9 with 5 bytes", |_, client, id| {
            let mut packet = Vec::new();
            wire::fragment(&mut packet, "/a", id, 0, 10);
            let text = String::from_utf8(packet).expect("a head");
            client.send(text.replace("Content-Length: 10", "Content-Length: 5").as_bytes());
        });
        is_wrong("the end after 5 of 10 bytes", |_, client, id| {
            let mut packet = Vec::new();
            wire::fragment(&mut packet, "/a", id, 0, 10);
            packet.extend_from_slice(wire::content(0, 5));
            client.0.write_all(&packet).expect("sent");
            client.0.shutdown(std::net::Shutdown::Write).expect("shut down");
        });
    }

    #[test]
    fn ids_are_in_no_order_and_never_the_same() {
        let ids: HashSet<_> =
            (0..4).flat_map(|sink| (0..10_000).map(move |n| id(sink, n))).collect();
        assert_eq!(ids.len(), 40_000);
        assert!(ids.iter().all(|id| id.len() == ID_LENGTH));
    }
}
