//! Heads that are nearly legal: where two readers of HTTP would disagree first.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select, subsequence};

const METHODS: &[&str] =
    &["BITS_POST", "BITS_POST", "BITS_POST", "POST", "GET", "GET", "get", "OPTIONS", "TRACE"];

const VERSIONS: &[&str] = &["HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.0"];

const TARGETS: &[&str] = &[
    "/in/a.bin",
    "/in/a.bin?site=7&x={y}",
    "/",
    "/a%20b%7B/../c",
    "//x",
    "http://up/a",
    "HTTPS://UP/a",
    "http://[::1]:80/a",
    "http://[0:0::1]/a",
    "https://up:443/a",
    "http://up:/a",
    "*",
];

const HOSTS: &[&str] =
    &["up", "up", "up:80", "up:", "UP", "[::1]:80", "up:8080", "a.b_c-d.", "127.0.0.1", "a,b"];

/// Legal beside each other, but for the last two.
const LEGAL: &[&str] = &[
    "BITS-Packet-Type: Fragment",
    "BITS-Session-Id: {x}",
    "Content-Range: bytes 0-4/5",
    "Content-Name: \u{e9}t\u{e9}.bin",
    "Accept: */*",
    "User-Agent: Microsoft BITS/6.7",
    "Connection: Keep-Alive",
    "Connection: keep-alive , close",
    "Connection: Upgrade, HTTP2-Settings",
    "Connection: TE, x_y,, close",
    "TE: gzip",
    "Upgrade: h2c",
    "Proxy-Connection: Keep-Alive",
    "Expect: 100-continue",
    "Authorization: Negotiate x",
    "X_Y: 1",
    "SSL_CLIENT_VERIFY: NONE",
    "X:",
    "Content-Length: 5",
    "Transfer-Encoding: chunked",
];

/// Illegal, or illegal beside one of the others.
const DOUBTFUL: &[&str] = &[
    "BITS-Packet-Type: Ping",
    "BITS-Session-Id: {y}",
    "Content-Range: bytes 0-9/10",
    "Content-Length: 0",
    "Content-Length: 9999999999999999999",
    "Content-Length: 10000000000000000000",
    "Transfer-Encoding: CHUNKED",
    "Transfer-Encoding: gzip, chunked",
    "Host: up",
    "Connection: close, Host",
    "Connection: close",
    "Expect: 200-ok",
    "Connection: X-Other, bits_session_id",
    "Keep_Alive: 5",
    "Proxy_Authorization: 1",
    "Content_Length: 5",
    "Transfer_Encoding: chunked",
    "X-Other: 1",
];

/// What readers of HTTP fight over.
const CRUMBS: &[&str] = &[
    " ", "\t", "\r", "\n", "\r\n", "\r\n ", "\0", "\x7f", "\x0b", "\u{80}", "\u{85}", "\u{ff}",
    ":", ": ", ",", "_", "-", "%", "%4", "%41", "/", "\\", "?", "#", "[", "]", "{", "\"", "@", "0",
    "+", "x", "A", "http://", "HTTP/1.1", "HTTP/1.0",
];

#[derive(Debug, Clone)]
enum Mutation {
    Insert(Index, &'static str),
    Replace(Index, &'static str),
    /// Into the request line, which is short and has the most rules.
    InsertFirst(Index, &'static str),
    Delete(Index),
    RepeatLine(Index),
    DropLine(Index),
    SwapLines(Index, Index),
    AddLine(Index, &'static str),
    /// Cuts the head there.
    Cut(Index),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let at = any::<Index>;
    prop_oneof![
        4 => (at(), select(CRUMBS)).prop_map(|(i, s)| Mutation::Insert(i, s)),
        4 => (at(), select(CRUMBS)).prop_map(|(i, s)| Mutation::Replace(i, s)),
        2 => (at(), select(CRUMBS)).prop_map(|(i, s)| Mutation::InsertFirst(i, s)),
        2 => at().prop_map(Mutation::Delete),
        1 => at().prop_map(Mutation::RepeatLine),
        1 => at().prop_map(Mutation::DropLine),
        1 => (at(), at()).prop_map(|(i, j)| Mutation::SwapLines(i, j)),
        2 => (at(), select(DOUBTFUL)).prop_map(|(i, s)| Mutation::AddLine(i, s)),
        1 => at().prop_map(Mutation::Cut),
    ]
}

/// Latin-1, as heads are: one character, one byte.
fn bytes(text: &str) -> Vec<u8> {
    text.chars().map(|c| u8::try_from(u32::from(c)).expect("Latin-1")).collect()
}

fn mutate(head: &mut Vec<u8>, mutation: &Mutation) {
    if head.is_empty() {
        return;
    }
    let mut lines: Vec<Vec<u8>> =
        head.split_inclusive(|&b| b == b'\n').map(<[u8]>::to_vec).collect();
    match mutation {
        Mutation::Insert(at, crumb) => {
            let at = at.index(head.len());
            head.splice(at..at, bytes(crumb));
            return;
        }
        Mutation::InsertFirst(at, crumb) => {
            let at = at.index(lines[0].len());
            head.splice(at..at, bytes(crumb));
            return;
        }
        Mutation::Replace(at, crumb) => {
            let at = at.index(head.len());
            head.splice(at..=at, bytes(crumb));
            return;
        }
        Mutation::Delete(at) => {
            head.remove(at.index(head.len()));
            return;
        }
        Mutation::Cut(at) => {
            head.truncate(at.index(head.len()));
            return;
        }
        Mutation::RepeatLine(at) => {
            let at = at.index(lines.len());
            lines.insert(at, lines[at].clone());
        }
        Mutation::DropLine(at) => {
            lines.remove(at.index(lines.len()));
        }
        Mutation::SwapLines(a, b) => {
            let count = lines.len();
            lines.swap(a.index(count), b.index(count));
        }
        Mutation::AddLine(at, line) => {
            // Mostly between the request line and the empty line.
            let at = 1 + at.index(lines.len());
            lines.insert(at.min(lines.len()), bytes(&format!("{line}\r\n")));
        }
    }
    *head = lines.concat();
}

/// A head with up to three mutations.
pub fn head() -> impl Strategy<Value = Vec<u8>> {
    let fields = subsequence(LEGAL, 0..6);
    let parts = (select(METHODS), select(TARGETS), select(VERSIONS), select(HOSTS), fields);
    (parts, vec(mutation(), 0..4)).prop_map(|(parts, mutations)| {
        let (method, target, version, host, fields) = parts;
        let mut text = format!("{method} {target} {version}\r\nHost: {host}\r\n");
        for field in fields {
            text.push_str(field);
            text.push_str("\r\n");
        }
        text.push_str("\r\n");
        let mut head = bytes(&text);
        for mutation in &mutations {
            mutate(&mut head, mutation);
        }
        head
    })
}
