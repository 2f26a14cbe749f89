//! What clients send: a few honest requests in a row, and what chance makes of them.

use e2e_tests::client::packet::PROTOCOL;
use e2e_tests::data::Chance;
use e2e_tests::farm::ORIGIN;

use super::words;

/// One conversation; the same seed and number give the same one.
#[derive(Clone, Debug)]
pub struct Conversation {
    pub bytes: Vec<u8>,
    /// Nothing was changed: all of it has to be served.
    pub honest: bool,
    /// Where the sending pauses.
    pub cuts: Vec<usize>,
    pub end: End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The client ends its half and reads to the end.
    Finish,
    /// It goes away without reading.
    Leave,
    /// It resets the connection.
    Reset,
}

pub struct Message {
    pub method: Vec<u8>,
    pub target: Vec<u8>,
    pub version: Vec<u8>,
    /// Whole lines, their ends included.
    pub lines: Vec<Vec<u8>>,
    /// What stands for the empty line.
    pub end: Vec<u8>,
    pub body: Vec<u8>,
}

/// The session that was opened for a conversation before it begins.
pub fn session(number: u32) -> String {
    format!("{{{number:08X}-0000-4000-8000-0123456789AB}}")
}

/// What names the destination of a conversation's session.
pub fn destination(number: u32) -> String {
    format!("/m/{number}/file.bin")
}

impl Message {
    fn new(method: &str, target: &str, fields: &[(&str, &str)], body: &[u8]) -> Self {
        let line = |(name, value): &(&str, &str)| format!("{name}: {value}\r\n").into_bytes();
        let mut lines = vec![line(&("Host", ORIGIN))];
        lines.extend(fields.iter().map(line));
        if !body.is_empty() || method.ends_with("POST") {
            lines.push(line(&("Content-Length", &body.len().to_string())));
        }
        Self {
            method: method.into(),
            target: target.into(),
            version: b"HTTP/1.1".to_vec(),
            lines,
            end: b"\r\n".to_vec(),
            body: body.to_vec(),
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        for part in [&*self.method, b" ", &*self.target, b" ", &*self.version, b"\r\n"] {
            out.extend(part);
        }
        out.extend(self.lines.concat());
        out.extend(&self.end);
        out.extend(&self.body);
    }

    /// Turns the body into chunks of any size.
    pub fn chunk(&mut self, chance: &mut Chance) {
        let mut body = Vec::new();
        for piece in self.body.chunks(chance.between(1, 200) as usize) {
            let extension = if chance.percent(20) { ";a=b" } else { "" };
            body.extend(format!("{:x}{extension}\r\n", piece.len()).into_bytes());
            body.extend(piece);
            body.extend(b"\r\n");
        }
        body.extend(if chance.percent(20) {
            &b"0\r\nX-Trailer: 1\r\n\r\n"[..]
        } else {
            b"0\r\n\r\n"
        });
        self.body = body;
        self.lines.retain(|line| !line.to_ascii_lowercase().starts_with(b"content-length"));
        self.lines.push(b"Transfer-Encoding: chunked\r\n".to_vec());
    }
}

fn body(chance: &mut Chance, number: u32) -> Vec<u8> {
    let length = *chance.pick(&[0, 1, 5, 64, 300, 1500]);
    let mut bytes = vec![0; length];
    chance.fill(&mut bytes);
    if chance.percent(50) {
        // What looks like a request, if anybody reads it as one.
        bytes = format!("BITS_POST /hidden/{number} HTTP/1.1\r\nHost: up.test\r\nBITS-Packet-Type: Ping\r\nContent-Length: 0\r\n\r\n")
            .repeat(1 + length / 300)
            .into_bytes();
    }
    bytes
}

fn message(chance: &mut Chance, number: u32, at: usize) -> Message {
    let (session, file) = (session(number), destination(number));
    let mark = format!("{number}.{at}");
    let id = ("BITS-Session-Id", &*session);
    let kind = |kind| ("BITS-Packet-Type", kind);
    let mark = ("X-Mark", &*mark);
    match chance.between(0, 19) {
        0..=3 => Message::new("BITS_POST", &file, &[kind("Ping"), mark], b""),
        4..=5 => {
            let protocols = ("BITS-Supported-Protocols", PROTOCOL);
            let create = [kind("Create-Session"), protocols, mark];
            Message::new("BITS_POST", &format!("/m/{number}/new/{at}"), &create, b"")
        }
        6..=11 => {
            let body = body(chance, number);
            let more = if body.is_empty() { 0 } else { chance.between(0, 9) as usize };
            let total = body.len() + more;
            let range = format!("bytes 0-{}/{total}", body.len().saturating_sub(1));
            let range = ("Content-Range", &*range);
            Message::new("BITS_POST", &file, &[kind("Fragment"), id, range, mark], &body)
        }
        12 => Message::new("BITS_POST", &file, &[kind("Cancel-Session"), id, mark], b""),
        13 => Message::new("BITS_POST", &file, &[kind("Close-Session"), id, mark], b""),
        14..=15 => Message::new("GET", &format!("/m/{number}/page?{at}"), &[mark], b""),
        16 => Message::new("HEAD", &format!("/m/{number}/page?{at}"), &[mark], b""),
        17 => {
            let body = body(chance, number);
            let mut post = Message::new("POST", &format!("/m/{number}/form"), &[mark], &body);
            post.chunk(chance);
            post
        }
        _ => {
            let body = body(chance, number);
            let method: &&str = chance.pick(&["POST", "PUT", "GET"]);
            Message::new(method, &format!("/m/{number}/form"), &[mark], &body)
        }
    }
}

impl Conversation {
    pub fn new(seed: u64, number: u32) -> Self {
        let mut chance = Chance::new(seed).fork(u64::from(number));
        let count = chance.between(1, 4) as usize;
        let mut messages: Vec<_> = (0..count).map(|at| message(&mut chance, number, at)).collect();
        let honest = chance.percent(10);
        let mut bytes = Vec::new();
        if !honest {
            for _ in 0..*chance.pick(&[1, 1, 1, 2, 3]) {
                words::mutate(&mut chance, &mut messages);
            }
        }
        for message in &messages {
            message.write(&mut bytes);
        }
        if !honest && chance.percent(25) {
            words::mutate_bytes(&mut chance, &mut bytes);
        }
        let end = match chance.between(0, 19) {
            0 => End::Leave,
            1 => End::Reset,
            _ => End::Finish,
        };
        Self { cuts: cuts(&mut chance, bytes.len()), bytes, honest, end }
    }
}

fn cuts(chance: &mut Chance, length: usize) -> Vec<usize> {
    let mut cuts: Vec<usize> = match chance.between(0, 19) {
        // Each byte by itself.
        0 if length <= 1200 => (1..length).collect(),
        0..=9 => {
            (0..chance.between(1, 6)).map(|_| chance.between(0, length as u64) as usize).collect()
        }
        _ => Vec::new(),
    };
    cuts.sort_unstable();
    cuts
}
