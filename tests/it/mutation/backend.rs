//! What backends answer: an honest answer, and what chance makes of it.

use e2e_tests::client::packet::{PROTOCOL, latin1};
use e2e_tests::data::Chance;

use super::answers::{self, Wrong};
use super::words;

/// Stands in every answer that must never be heard.
pub const EVIL: &str = "evil";

/// What a backend says to one request, and how.
#[derive(Clone, Debug)]
pub struct Said {
    pub bytes: Vec<u8>,
    /// Before it has read the body.
    pub early: bool,
    /// It ends the connection behind it.
    pub closes: bool,
    pub cuts: Vec<usize>,
}

impl Said {
    pub fn new(seed: u64, number: u64) -> Self {
        let mut chance = Chance::new(seed).fork(number);
        let (head, body) = honest(&mut chance, number);
        let mut lines: Vec<Vec<u8>> =
            head.iter().map(|line| latin1(&format!("{line}\r\n"))).collect();
        for _ in 0..*chance.pick(&[0, 1, 1, 1, 1, 2, 2, 3]) {
            mutate(&mut chance, &mut lines);
        }
        let mut bytes = lines.concat();
        bytes.extend(b"\r\n");
        bytes.extend(body);
        if chance.percent(15) {
            words::mutate_bytes(&mut chance, &mut bytes);
        }
        surround(&mut chance, &mut bytes);
        let strict = answers::answer(&bytes, false, false);
        let whole = strict.as_ref().is_ok_and(|(_, used)| *used == bytes.len());
        // Who waits for the rest of such an answer waits for a timeout.
        let closes = match strict {
            Err(Wrong::Cut) => true,
            _ => chance.percent(if whole { 5 } else { 60 }),
        };
        let early = chance.percent(10);
        let cuts = match chance.percent(20) {
            true => (0..3).map(|_| chance.between(0, bytes.len() as u64) as usize).collect(),
            false => Vec::new(),
        };
        let mut said = Self { bytes, early, closes, cuts };
        said.cuts.sort_unstable();
        said
    }

    /// The one answer in it, for a strict reader.
    pub fn read(&self, to_head: bool) -> Result<answers::Answer, Wrong> {
        let bytes = answers::mended(&self.bytes);
        answers::answer(&bytes, to_head, self.closes).map(|(answer, _)| answer)
    }

    /// Nobody may ask anything on a connection over which this came.
    pub fn spoils(&self, to_head: bool) -> bool {
        let bytes = answers::mended(&self.bytes);
        if self.bytes.trim_ascii_start().starts_with(b"HTTP/1.0") {
            return !String::from_utf8_lossy(&bytes).to_ascii_lowercase().contains("keep-alive");
        }
        match answers::answer(&bytes, to_head, self.closes) {
            // Of several Connection fields Pingora reads the first; a server that closes does so anyway.
            Ok((answer, used)) => {
                let closes = answer.closes && answer.count("connection") == 1;
                used < bytes.len() || closes || answer.until_close
            }
            // Read by Pingora to another end, but to one.
            Err(Wrong::Malformed(what)) if what.starts_with("chunk") => false,
            Err(_) => true,
        }
    }
}

fn honest(chance: &mut Chance, number: u64) -> (Vec<String>, Vec<u8>) {
    let line = |status: &str| format!("HTTP/1.1 {status}");
    let echo = format!("X-Echo: {number}");
    let ack = "BITS-Packet-Type: Ack".to_owned();
    let none = "Content-Length: 0".to_owned();
    let body = format!("body-{number}");
    let length = format!("Content-Length: {}", body.len());
    match chance.between(0, 9) {
        0..=1 => (vec![line("200 OK"), ack, echo, none], Vec::new()),
        2 => {
            let id = format!("BITS-Session-Id: {{s-{number}}}");
            let protocol = format!("BITS-Protocol: {PROTOCOL}");
            (vec![line("200 OK"), ack, echo, id, protocol, none], Vec::new())
        }
        3 => (
            vec![line("200 OK"), ack, echo, "BITS-Received-Content-Range: 5".into(), none],
            Vec::new(),
        ),
        4 => {
            (vec![line("500 Error"), ack, echo, "BITS-Error: 0x80070057".into(), none], Vec::new())
        }
        5 => (
            vec![line("401 No"), echo, "WWW-Authenticate: Basic realm=\"x\"".into(), length],
            body.into(),
        ),
        6 => (vec![line("204 None"), echo], Vec::new()),
        7 => {
            let chunks = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
            (vec![line("404 No"), echo, "Transfer-Encoding: chunked".into()], chunks.into())
        }
        _ => (vec![line("200 OK"), echo, length], body.into()),
    }
}

#[rustfmt::skip]
const STATUSES: &[&str] = &[
    "HTTP/1.0 200 OK", "HTTP/1.1 200", "HTTP/1.1 200 ", "HTTP/1.1  200 OK", "HTTP/2 200 OK", "HTTP/1.1 20 OK", "HTTP/1.1 2000 OK",
    "HTTP/1.1 099 x", "HTTP/1.1 600 x", "HTTP/1.1 999 x", "HTTP/1.1 abc x", "HTTP/1.1 101 Switching", "HTTP/1.1 100 Continue",
    "HTTP/1.1 103 Hints", "HTTP/1.1 304 x", "HTTP/1.1 204 x", "HTTP/1.1 205 x", "HTTP/1.1 206 x", "HTTP/1.1 302 x", "HTTP/1.1 416 x",
    "HTTP/1.1 503 x", "ICY 200 OK", "http/1.1 200 OK", "HTTP/1.1\t200\tOK", "HTTP/1.1 200 \0", "HTTP/1.1 200 O\rK", " HTTP/1.1 200 OK", "",
    "GET / HTTP/1.1", "HTTP/1.1 200 OK\r\n folded", "HTTP/1.1 \u{b2}00 OK", "HTTP/1.1 +200 OK", "HTTP/1.10 200 OK", "HTTP/0.9 200 OK",
];

#[rustfmt::skip]
const LINES: &[&str] = &[
    "Content-Length: 0", "Content-Length: 5", "Content-Length: 500", "Content-Length: -1", "Content-Length: +0", "Content-Length: 0, 0",
    "Content-Length: 0, 5", "Content-Length:", "Content-Length: x", "Content-Length: 0x0", "Content-Length: 99999999999999999999", "Content-Length : 0",
    "Content-Length: 5\0", "Content-Length: \x0b5", "Transfer-Encoding: chunked", "Transfer-Encoding: gzip, chunked", "Transfer-Encoding: identity",
    "Transfer-Encoding: x", "Transfer-Encoding: chunked, chunked", "Transfer-Encoding : chunked", "Transfer-Encoding: \x0bchunked", "Transfer-Encoding:",
    "Connection: close", "Connection: keep-alive", "Connection: X-Echo", "Connection: Content-Length", "Connection: upgrade", "Keep-Alive: timeout=5",
    "Proxy-Connection: close", "Upgrade: h2c", "Trailer: X-Echo", "TE: x", "BITS-Host-Id: evil.test", "BITS-Host-Id-Fallback-Timeout: 1",
    "BITS-Session-Id: {a b}", "BITS-Session-Id:", "BITS-Session-Id: {x}", "BITS-Session-Id: {y}", "BITS-Packet-Type: Fragment", "BITS-Packet-Type: Ack",
    "BITS-Error: 0x8020001F", "BITS-Error-Code: x", "BITS-Received-Content-Range: -1", "BITS-Received-Content-Range: 0-5/9", "BITS-Protocol: x",
    "Set-Cookie: a=b", "Set-Cookie: c=d", "Location: http://evil.test/", "WWW-Authenticate: NTLM", "WWW-Authenticate: Negotiate", "Server: x", "Via: x",
    " folded", "\tfolded", "X", ": x", "X\0: y", "X: \0", "X: a\rb", "X: a\nY: b", "X(: y", "X\u{e9}: y", "X: \u{e9}", "X_Y: z", "Content_Length: 5",
    "X: \x7f", "Date: x", "Content-Encoding: gzip", "Accept-Encoding: gzip", "Content-Range: bytes 0-1/2", "Status: 500", ":status: 200", "X: y ",
];

fn mutate(chance: &mut Chance, lines: &mut Vec<Vec<u8>>) {
    let place = chance.between(1, lines.len() as u64) as usize;
    match chance.between(0, 9) {
        0..=1 => {
            let status = latin1(&format!("{}\r\n", words::pick(chance, STATUSES)));
            lines[0] = status;
        }
        2..=5 => lines.insert(place, latin1(&format!("{}\r\n", words::pick(chance, LINES)))),
        6 => {
            if place < lines.len() {
                lines.remove(place);
            }
        }
        7 => {
            let copy = lines[place - 1].clone();
            lines.push(copy);
        }
        8 => {
            let end = latin1(words::pick(
                chance,
                &["\n", "\r", "\r\r\n", "\n\r", "\r\n\r\n", "", " \r\n"],
            ));
            let line = &mut lines[place - 1];
            line.truncate(line.len().saturating_sub(2));
            line.extend(end);
        }
        _ => match chance.between(0, 3) {
            0 => lines.push(format!("X: {}\r\n", "y".repeat(100_000)).into_bytes()),
            1 => lines.extend((0..300).map(|n| format!("X-{n}: y\r\n").into_bytes())),
            2 => lines.push(format!("BITS-Session-Id: {}\r\n", "x".repeat(101)).into_bytes()),
            _ => lines.push(format!("Set-Cookie: {}\r\n", "y".repeat(5_000)).into_bytes()),
        },
    }
}

/// Before and behind an answer.
fn surround(chance: &mut Chance, bytes: &mut Vec<u8>) {
    let evil = format!(
        "HTTP/1.1 200 OK\r\nBITS-Packet-Type: Ack\r\nX-Echo: {EVIL}\r\nBITS-Session-Id: {{{EVIL}}}\r\nContent-Length: 0\r\n\r\n"
    );
    match chance.between(0, 29) {
        0..=2 => bytes.extend(evil.repeat(chance.between(1, 3) as usize).into_bytes()),
        3 => bytes.extend(latin1(words::pick(
            chance,
            &["\r\n", "x", "\0", "HTTP/1.1 ", "0\r\n\r\n", "hello world"],
        ))),
        4 => {
            let interim = words::pick(
                chance,
                &[
                    "HTTP/1.1 100 Continue\r\n\r\n",
                    "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n",
                    "HTTP/1.1 102 Processing\r\n\r\n",
                ],
            );
            let count = *chance.pick(&[1, 2, 50]);
            bytes.splice(0..0, interim.repeat(count).into_bytes());
        }
        5 => {
            bytes.splice(
                0..0,
                latin1(words::pick(
                    chance,
                    &[
                        "\r\n",
                        "\n",
                        " ",
                        "\0",
                        "x",
                        "HTTP/1.1 101 S\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
                    ],
                )),
            );
        }
        6 => *bytes = evil.into_bytes()[..chance.between(0, 90) as usize].to_vec(),
        7 => bytes.clear(),
        _ => {}
    }
}
