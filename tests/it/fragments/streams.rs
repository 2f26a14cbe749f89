//! Bodies on their way through: items 76 to 78.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::thread::JoinHandle;
use std::time::Duration;

use e2e_tests::client::{Connection, FragmentSizes, Timeouts, exchange};
use e2e_tests::data::{self, Chance, Content};
use e2e_tests::farm::Farm;
use e2e_tests::fault_link::Direction;
use e2e_tests::wait;

use crate::packets::{TARGET, create, fragment, session_of};

const MIB: u64 = 1 << 20;

/// The largest fragment of Windows.
const LARGEST: u64 = 13 * MIB;

/// What one upload in flight may cost the gateway.
const GROWTH_PER_UPLOAD: u64 = 2 * MIB;

/// The head of a Fragment whose body the test sends itself.
fn head_of(id: &str, range: &str, length: u64) -> Vec<u8> {
    let head = fragment(TARGET, id, range, b"").head().to_bytes();
    let text = String::from_utf8(head).expect("a head of ASCII");
    text.replace("Content-Length: 0", &format!("Content-Length: {length}")).into_bytes()
}

/// Item 76.
#[test]
fn a_fragment_is_passed_on_while_it_arrives() {
    let farm = Farm::of_stubs(1).link_backends().start();
    let content = Content::seeded(1, LARGEST);
    let bytes = content.to_vec();
    let mut client = Connection::open(farm.entrance()).expect("the gateway accepts connections");
    let id = session_of(&client.exchange(&create(TARGET).bytes()).expect("an answer"));
    let range = format!("bytes 0-{}/{LARGEST}", LARGEST - 1);
    client.send(&head_of(&id, &range, LARGEST)).expect("a head is taken");
    for piece in bytes.chunks(bytes.len() / 4 + 1) {
        let before = farm.link(0).passed(Direction::ToServer);
        client.send(piece).expect("a body is taken");
        // The rest is not sent before this has arrived, so nobody can have waited for it.
        wait::until("the piece has reached the backend", || {
            farm.link(0).passed(Direction::ToServer) >= before + piece.len() as u64
        });
    }
    assert_eq!(client.read_answer().expect("an answer").status, 200);
}

/// Item 76.
/// Fault: backend is slow.
#[test]
fn a_backend_that_does_not_read_holds_its_clients_back() {
    const UPLOADS: u64 = 4;
    const LENGTH: u64 = 256 * MIB;
    /// More than the kernel keeps for the two connections and the link between them.
    const MOST: u64 = 96 * MIB;
    let farm = Farm::of_stubs(1).link_backends().plain().start();
    let client = farm.client().with(|o| o.fragments = FragmentSizes::Fixed(LARGEST));
    // What the gateway allocates once, for its first upload, is not growth.
    client.upload(&farm.url("/in/first.bin"), &Content::seeded(1, LARGEST + 1)).expect_smooth();
    let sessions: Vec<String> = (0..UPLOADS)
        .map(|_| exchange(farm.entrance(), &create(TARGET).bytes()).expect("an answer"))
        .map(|answer| session_of(&answer))
        .collect();

    farm.link(0).stall();
    let before = farm.gateway().rss_bytes();
    let stuck: Vec<(Connection, u64)> = std::thread::scope(|scope| {
        let sending: Vec<_> = sessions
            .iter()
            .map(|id| scope.spawn(|| send_until_stuck(farm.entrance(), id, LENGTH)))
            .collect();
        sending.into_iter().map(|stuck| stuck.join().expect("sending ends")).collect()
    });
    let growth = farm.gateway().rss_bytes().saturating_sub(before);
    assert!(growth < UPLOADS * GROWTH_PER_UPLOAD, "grew by {growth} bytes");
    for (connection, taken) in stuck {
        assert!(taken < MOST, "{taken} bytes were taken from a client");
        connection.reset();
    }
    // The stuck ones hurt nobody else.
    farm.link(0).resume();
    client.upload(&farm.url("/in/last.bin"), &Content::seeded(2, LARGEST + 1)).expect_smooth();
}

/// Sends a fragment until nobody takes any more of it; returns how much was taken.
fn send_until_stuck(entrance: SocketAddr, id: &str, length: u64) -> (Connection, u64) {
    let timeouts = Timeouts { send: Duration::from_secs(1), ..Timeouts::short() };
    let mut connection = Connection::open_with(entrance, timeouts).expect("a connection");
    let range = format!("bytes 0-{}/{length}", length - 1);
    connection.send(&head_of(id, &range, length)).expect("a head is taken");
    let piece = vec![7; MIB as usize];
    let mut taken = 0;
    while taken < length
        && let Ok(bytes) = connection.send_some(&piece)
    {
        taken += bytes as u64;
    }
    (connection, taken)
}

/// Item 77.
#[test]
fn a_fragment_over_4_gib_beyond_the_first_4_gib_of_its_file_works() {
    const FIRST: u64 = 1 << 32;
    const LENGTH: u64 = (1 << 32) + 70_001;
    const TOTAL: u64 = 1 << 34;
    let sink = Sink::start();
    let farm = Farm::of_stubs(0).backend("up01", sink.address).start();
    let mut client = Connection::open(farm.entrance()).expect("the gateway accepts connections");
    let id = session_of(&client.exchange(&create(TARGET).bytes()).expect("an answer"));
    let range = format!("bytes {FIRST}-{}/{TOTAL}", FIRST + LENGTH - 1);
    client.send(&head_of(&id, &range, LENGTH)).expect("a head is taken");
    let mut pattern = Pattern::new();
    let mut sent = 0;
    while sent < LENGTH {
        let block = pattern.block(sent);
        let block = &block[..block.len().min((LENGTH - sent) as usize)];
        client.send(block).expect("a body is taken");
        sent += block.len() as u64;
    }
    let answer = client.read_answer().expect("an answer");
    let next = (FIRST + LENGTH).to_string();
    let said = (answer.status, answer.field("BITS-Received-Content-Range"));
    assert_eq!(said, (200, Some(&*next)), "{}", answer.head);
    drop(client);
    let received = sink.end();
    assert_eq!(received, (range, LENGTH));
    let line = wait::some("the request is in the access log", || {
        let log = farm.gateway().access_log();
        log.into_iter().find(|line| line["packet"] == "fragment")
    });
    assert_eq!((&line["bytes_in"], &line["range_start"]), (&LENGTH.into(), &FIRST.into()));
}

/// Item 77.
#[test]
fn offsets_and_totals_are_64_bit_numbers() {
    let servers = crate::packets::Servers::start(1);
    for (first, total) in [
        ((1 << 32) - 1, 1 << 32),
        ((1 << 32) - 1, (1 << 32) + 7),
        (1 << 32, 1 << 33),
        (1 << 53, 1 << 60),
        (u64::MAX - 4, u64::MAX),
    ] {
        let (id, _) = servers.open(TARGET);
        let last = (first + 2).min(total - 1);
        let body = &b"abc"[..(last - first + 1) as usize];
        let range = format!("bytes {first}-{last}/{total}");
        let (_, request, answer) = servers.passes(&fragment(TARGET, &id, &range, body));
        assert_eq!(request.field("Content-Range"), Some(&*range));
        let next = (last + 1).to_string();
        assert_eq!(answer.field("BITS-Received-Content-Range"), Some(&*next));
    }
}

/// Item 78.
#[test]
fn files_arrive_byte_for_byte_in_fragments_of_any_size() {
    let seed = data::seed("fragments of any size");
    let chance = Chance::new(seed);
    let farm = Farm::of_stubs(3).start();
    std::thread::scope(|scope| {
        for number in 0..8 {
            let (farm, mut chance) = (&farm, chance.fork(number));
            scope.spawn(move || {
                // From single bytes up to more than any buffer on the way.
                let high = 1 << chance.between(3, 21);
                let length = chance.between(0, (high * 40).min(6_000_000));
                let content = Content::seeded(chance.next_u64(), length);
                let sizes = FragmentSizes::Random { seed: chance.next_u64(), low: 1, high };
                let client = farm.client().with(|o| o.fragments = sizes);
                let path = format!("/in/{number}.bin");
                client.upload(&farm.url(&path), &content).expect_smooth();
                farm.expect_stored(&path, &content);
            });
        }
    });
    farm.expect_healthy();
}

/// Bytes that depend on their offset, cheap to make and to compare in a debug build.
struct Pattern {
    block: Vec<u8>,
}

impl Pattern {
    const BLOCK: usize = 64 * 1024;

    fn new() -> Self {
        let mut block = vec![0; Self::BLOCK];
        Chance::new(77).fill(&mut block);
        Self { block }
    }

    /// `offset` is the begin of a block.
    fn block(&mut self, offset: u64) -> &[u8] {
        self.block[..8].copy_from_slice(&offset.to_le_bytes());
        &self.block
    }
}

/// A backend that compares a body with the pattern and keeps nothing of it.
struct Sink {
    address: SocketAddr,
    serving: JoinHandle<(String, u64)>,
}

impl Sink {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
        let address = listener.local_addr().expect("a bound socket has an address");
        let serving = std::thread::spawn(move || {
            loop {
                let (stream, _) = listener.accept().expect("a connection comes");
                let mut reader = BufReader::with_capacity(Pattern::BLOCK, &stream);
                while let Some(head) = read_head(&mut reader) {
                    if let Some(range) = field(&head, "Content-Range") {
                        let length = field(&head, "Content-Length").and_then(|n| n.parse().ok());
                        let length = length.expect("a fragment has a length");
                        compare(&mut reader, length);
                        let last = range.split(['-', '/']).nth(1).and_then(|n| n.parse().ok());
                        let next: u64 = last.map(|last: u64| last + 1).expect("a range");
                        let ack = format!("BITS-Received-Content-Range: {next}\r\n");
                        answer(&stream, &ack);
                        return (range, length);
                    }
                    answer(&stream, "BITS-Session-Id: s-1\r\n");
                }
            }
        });
        Self { address, serving }
    }

    /// Content-Range and length of the fragment that came.
    fn end(self) -> (String, u64) {
        self.serving.join().expect("every byte was as it was sent")
    }
}

fn read_head(reader: &mut impl BufRead) -> Option<Vec<String>> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        match line.trim_end() {
            "" => return Some(lines),
            line => lines.push(line.to_owned()),
        }
    }
}

fn field(head: &[String], name: &str) -> Option<String> {
    let fields = head.iter().filter_map(|line| line.split_once(": "));
    let mut values = fields.filter(|(found, _)| found.eq_ignore_ascii_case(name));
    values.next().map(|(_, value)| value.to_owned())
}

fn compare(reader: &mut impl Read, length: u64) {
    let (mut pattern, mut buffer) = (Pattern::new(), vec![0; Pattern::BLOCK]);
    let mut offset = 0;
    while offset < length {
        let n = buffer.len().min((length - offset) as usize);
        reader.read_exact(&mut buffer[..n]).expect("the whole body comes");
        assert!(buffer[..n] == pattern.block(offset)[..n], "in the block at {offset}");
        offset += n as u64;
    }
}

fn answer(mut stream: &std::net::TcpStream, fields: &str) {
    let head =
        format!("HTTP/1.1 200 OK\r\nBITS-Packet-Type: Ack\r\n{fields}Content-Length: 0\r\n\r\n");
    stream.write_all(head.as_bytes()).expect("the gateway takes the answer");
}
