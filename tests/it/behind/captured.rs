//! What proxies and clients have really sent, byte for byte.
//!
//! `tests/field --capture` writes the files: a small upload through each proxy or by each client, as a server at the
//! gateway's place receives it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use e2e_tests::client::{AckRules, Client, Connection, FragmentSizes, Resolver};
use e2e_tests::data::Content;
use e2e_tests::farm::{Farm, ORIGIN};
use e2e_tests::raw_backend::{RawBackend, Reply, Request, agree};

use super::front::{Front, configured_for};
use super::programs;

pub const PROXIES: [&str; 4] = ["apache", "apache-1-0", "squid", "varnish"];
pub const CLIENTS: [&str; 8] =
    ["curl_http2", "curl_tr_encoding", "jdk", "lwp", "node", "node_fetch", "python", "wget"];

/// The file, in words that need no escapes.
const LINE: &str = "What was sent is what arrives.\n";
const LINES: usize = 60;
const PIECE: u64 = 700;
const PATH: &str = "/in/captured.txt";

/// The session id that the server at the gateway's place gives.
const ID: &str = "{00000000-0000-4000-8000-000000000000}";

fn content() -> Content {
    Content::bytes(LINE.repeat(LINES).into_bytes())
}

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("it/behind/captured").join(format!("{name}.http"))
}

/// One request as the file has it.
struct Captured {
    connection: usize,
    bytes: Vec<u8>,
}

/// Writes the file anew: an upload through a proxy.
#[track_caller]
pub fn capture_proxy(name: &str) {
    let server = server();
    let front = Front::start(name, server.address(), server.address());
    let client = Client::new(Resolver::new().with(ORIGIN, front.address())).with(|o| {
        o.fragments = FragmentSizes::Fixed(PIECE);
        o.acks = AckRules::off();
    });
    client.upload(&format!("http://{ORIGIN}{PATH}"), &content()).expect_smooth();
    write(name, &server);
}

/// Writes the file anew: an upload by a client.
#[track_caller]
pub fn capture_client(name: &str) {
    let server = server();
    programs::run(name, server.address(), &[ORIGIN], PATH, &content(), PIECE);
    write(name, &server);
}

/// It ends the connections of probes, as they want it.
fn server() -> RawBackend {
    let agree = agree();
    RawBackend::answering(move |request| match agree(request) {
        Reply::Send(bytes) if request.packet_type().is_empty() => Reply::SendAndClose(bytes),
        reply => reply,
    })
}

#[track_caller]
fn write(name: &str, server: &RawBackend) {
    let requests = server.requests();
    let mut sent: BTreeMap<usize, Vec<u8>> = BTreeMap::new();
    let mut text = Vec::new();
    let mut probes = 0;
    for request in &requests {
        let bytes = bytes_of(request);
        sent.entry(request.connection).or_default().extend(&bytes);
        // A probe comes as often as there is time for it.
        probes += usize::from(request.packet_type().is_empty());
        if !request.packet_type().is_empty() || probes == 1 {
            let head = format!("--- connection {}, {} bytes\n", request.connection, bytes.len());
            text = [text, head.into_bytes(), bytes, b"\n".to_vec()].concat();
        }
    }
    for (connection, sent) in sent {
        assert!(server.connections()[connection].bytes.starts_with(&sent), "bytes are missing");
    }
    std::fs::write(file(name), text).expect("the file can be written");
}

fn bytes_of(request: &Request) -> Vec<u8> {
    let head: Vec<u8> = request.head.chars().map(|c| c as u8).collect();
    [head, request.body.clone()].concat()
}

#[track_caller]
fn read(name: &str) -> Vec<Captured> {
    let bytes = std::fs::read(file(name)).expect("the file is there");
    let mut rest = &bytes[..];
    let mut requests = Vec::new();
    while !rest.is_empty() {
        let end = rest.iter().position(|&byte| byte == b'\n').expect("a line");
        let line = std::str::from_utf8(&rest[..end]).expect("a line of text");
        let numbers: Vec<usize> =
            line.split([' ', ',']).filter_map(|word| word.parse().ok()).collect();
        let [connection, length] = numbers[..] else { panic!("{name}: {line}") };
        let bytes = rest[end + 1..][..length].to_vec();
        rest = rest[end + 1 + length..].strip_prefix(b"\n").expect("a line ends it");
        requests.push(Captured { connection, bytes });
    }
    assert!(requests.len() >= 5, "{name}: {} requests", requests.len());
    requests
}

/// Sends the bytes of the file; every request is served, and the file arrives.
#[track_caller]
fn replay(name: &str, farm: &Farm, gateway: SocketAddr) {
    let mut connections: BTreeMap<usize, Connection> = BTreeMap::new();
    let mut id: Option<String> = None;
    for Captured { connection, bytes } in read(name) {
        let bytes = match &id {
            Some(id) => replaced(&bytes, ID, id),
            None => bytes,
        };
        let open = || Connection::open(gateway).expect("the gateway accepts");
        let answer = connections.entry(connection).or_insert_with(open).exchange(&bytes);
        let sent = String::from_utf8_lossy(&bytes);
        let answer = answer.unwrap_or_else(|error| panic!("{name}: {error} to {sent}"));
        assert_eq!(answer.status, 200, "{name}: {sent}\n{}", answer.head);
        let old = sent.lines().next().is_some_and(|line| line.ends_with("HTTP/1.0"));
        assert!(!old || answer.closes(), "{name}: {}", answer.head);
        id = answer.field("BITS-Session-Id").map(str::to_owned).or(id);
    }
    farm.expect_stored(PATH, &content());
    farm.expect_healthy();
}

fn replaced(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len(), "no other byte changes");
    let mut bytes = bytes.to_vec();
    let found = bytes.windows(from.len()).position(|window| window == from.as_bytes());
    if let Some(at) = found {
        bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
    }
    bytes
}

#[test]
fn what_proxies_send_is_served() {
    for name in PROXIES {
        let farm = configured_for(name, Farm::of_stubs(2).plain()).start();
        replay(name, &farm, farm.entrance());
    }
}

#[test]
fn what_clients_send_is_served() {
    for name in CLIENTS {
        let farm = Farm::of_stubs(2).plain().start();
        replay(name, &farm, farm.entrance());
    }
}
