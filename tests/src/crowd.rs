//! Clients that hold connections and hardly use them, while others upload.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::client::{Connection, FragmentSizes, PacketType};
use crate::data::Content;
use crate::farm::{Farm, ORIGIN, Tls};
use crate::open_files;

/// How many of each.
#[derive(Clone, Copy, Debug)]
pub struct Crowd {
    /// Connections that made one request and wait.
    pub idle: usize,
    /// Connections that send or take one byte now and then: a third each in the head, in the body and in the answer.
    pub dribbling: usize,
    pub uploads: usize,
    pub upload_bytes: u64,
}

/// What the gateway held, in bytes of resident memory.
#[derive(Clone, Copy, Debug)]
pub struct Held {
    pub before: u64,
    /// With the idle connections.
    pub idle: u64,
    /// At the end, with everything.
    pub all: u64,
    /// Bytes that dribbled while uploads ran.
    pub dribbled: usize,
}

impl Held {
    /// For each idle connection.
    pub fn each_idle(&self, crowd: &Crowd) -> u64 {
        self.idle.saturating_sub(self.before) / crowd.idle as u64
    }
}

/// Lies on the backend for those who take an answer byte by byte: more than sockets hold in between.
const ANSWER: u64 = 4 * 1024 * 1024;

/// The first connections pay for what is made once, which is not the price of a connection.
const FIRST: usize = 200;

/// Between two bytes of one who dribbles.
const PAUSE: Duration = Duration::from_millis(20);

/// Starts a farm, lets the crowd in, and uploads through it.
///
/// # Panics
/// When an upload does not end as it should.
pub fn run(crowd: Crowd) -> Held {
    let _room = open_files::reserve(FIRST + crowd.idle + crowd.dribbling + crowd.uploads);
    // Over TLS an idle connection holds the state of TLS besides: see `idle`.
    let farm = Farm::of_stubs(2)
        .plain()
        // Long enough for the crowd to gather on a slow machine.
        .set("timeouts.client_idle", "\"1h\"")
        .set("log.access", "\"off\"")
        .start();
    let content = Content::seeded(1, ANSWER);
    farm.client().upload(&farm.url("/out.bin"), &content).expect_smooth();
    let owner = farm.expect_stored("/out.bin", &content);
    let resident = || farm.gateway().rss_bytes();
    let entrance = farm.entrance();
    let mut idle: Vec<_> = (0..FIRST).map(|_| idler(entrance)).collect();
    let before = resident();
    idle.extend((0..crowd.idle).map(|_| idler(entrance)));
    let held = Held { before, idle: resident(), all: 0, dribbled: 0 };
    let (over, dribbled) = (AtomicBool::new(false), AtomicUsize::new(0));
    let held = std::thread::scope(|scope| {
        scope.spawn(|| dribble(entrance, crowd.dribbling, &owner, &dribbled, &over));
        crate::wait::until("some dribble", || dribbled.load(Ordering::Relaxed) > crowd.dribbling);
        let uploads: Vec<_> = (0..crowd.uploads)
            .map(|number| {
                let client = farm.client().with(|o| o.fragments = FragmentSizes::Fixed(100_000));
                let url = farm.url(&format!("/in/{number}.bin"));
                scope.spawn(move || {
                    let content = Content::seeded(number as u64, crowd.upload_bytes);
                    client.upload(&url, &content).expect_smooth();
                })
            })
            .collect();
        let ended: Vec<_> = uploads.into_iter().map(|upload| upload.join()).collect();
        let all = resident();
        over.store(true, Ordering::Relaxed);
        assert!(ended.iter().all(Result::is_ok), "an upload did not end well");
        Held { all, dribbled: dribbled.load(Ordering::Relaxed), ..held }
    });
    for number in 0..crowd.uploads {
        let content = Content::seeded(number as u64, crowd.upload_bytes);
        farm.expect_stored(&format!("/in/{number}.bin"), &content);
    }
    for connection in &mut idle {
        connection.write_all(ping().as_bytes()).expect("an idle connection is still there");
        read_head(connection);
    }
    farm.expect_healthy();
    held
}

/// What the gateway holds for each of `count` connections that have served one Ping and wait, in bytes.
pub fn idle(count: u64, tls: Tls) -> u64 {
    let _room = open_files::reserve(FIRST + count as usize);
    let farm = Farm::of_stubs(1).tls(tls).set("timeouts.client_idle", "\"1h\"").start();
    let open = || {
        let mut connection = Connection::open(farm.entrance()).expect("a connection");
        let answer = connection.exchange(ping().as_bytes()).expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.head);
        connection
    };
    let mut held: Vec<_> = (0..FIRST).map(|_| open()).collect();
    let before = farm.gateway().rss_bytes();
    held.extend((0..count).map(|_| open()));
    farm.gateway().rss_bytes().saturating_sub(before) / count
}

fn ping() -> String {
    let kind = PacketType::Ping.title();
    format!(
        "BITS_POST /idle HTTP/1.1\r\nHost: {ORIGIN}\r\nBITS-Packet-Type: {kind}\r\nContent-Length: 0\r\n\r\n"
    )
}

fn connect(entrance: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(entrance).expect("the gateway accepts connections");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout is legal");
    stream
}

fn idler(entrance: SocketAddr) -> TcpStream {
    let mut stream = connect(entrance);
    stream.write_all(ping().as_bytes()).expect("a small request fits");
    read_head(&mut stream);
    stream
}

/// Up to the empty line of an answer without a body.
fn read_head(stream: &mut TcpStream) {
    let (mut head, mut chunk) = (Vec::new(), [0; 1024]);
    while !head.ends_with(b"\r\n\r\n") {
        let count = stream.read(&mut chunk).expect("an answer");
        assert!(count > 0, "closed in place of an answer");
        head.extend_from_slice(&chunk[..count]);
    }
    assert!(head.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&head));
}

/// One connection that goes on byte by byte, and begins again when the gateway has had enough.
struct Dribbler {
    stream: TcpStream,
    /// Sent at once, before the dribbling.
    start: String,
    writes: bool,
}

impl Dribbler {
    fn new(entrance: SocketAddr, kind: usize, owner: &str) -> Self {
        let host = format!("{owner}.{ORIGIN}");
        let (start, writes) = match kind % 3 {
            0 => (format!("BITS_POST /slow HTTP/1.1\r\nHost: {ORIGIN}\r\nX: "), true),
            1 => (
                format!("POST /slow HTTP/1.1\r\nHost: {ORIGIN}\r\nContent-Length: 1000000\r\n\r\n"),
                true,
            ),
            _ => (format!("GET /out.bin HTTP/1.1\r\nHost: {host}\r\n\r\n"), false),
        };
        let mut one = Self { stream: connect(entrance), start, writes };
        one.begin();
        one
    }

    fn begin(&mut self) {
        if !self.writes {
            // A small window, or the kernel takes the whole answer for us.
            let _ = rustix::net::sockopt::set_socket_recv_buffer_size(&self.stream, 4096);
        }
        let _ = self.stream.write_all(self.start.as_bytes());
        self.stream.set_nonblocking(true).expect("a socket takes flags");
    }

    /// True if a byte went.
    fn step(&mut self, entrance: SocketAddr) -> bool {
        let mut byte = [b'y'];
        let went = if self.writes { self.stream.write(&byte) } else { self.stream.read(&mut byte) };
        match went {
            Ok(1) => true,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => false,
            _ => {
                self.stream = connect(entrance);
                self.begin();
                false
            }
        }
    }
}

fn dribble(
    entrance: SocketAddr,
    count: usize,
    owner: &str,
    dribbled: &AtomicUsize,
    over: &AtomicBool,
) {
    let mut all: Vec<_> = (0..count).map(|kind| Dribbler::new(entrance, kind, owner)).collect();
    while !over.load(Ordering::Relaxed) {
        let went = all.iter_mut().filter_map(|one| one.step(entrance).then_some(())).count();
        dribbled.fetch_add(went, Ordering::Relaxed);
        std::thread::sleep(PAUSE);
    }
}
