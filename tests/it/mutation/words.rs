//! Mutations that know the grammar: what readers of HTTP and of the upload protocol have been known to fight over.

use e2e_tests::client::packet::latin1;
use e2e_tests::data::Chance;

use super::conversation::Message;

#[rustfmt::skip]
const METHODS: &[&str] = &[
    "bits_post", "BITS_POST ", "BITS_POSTS", "CONNECT", "TRACE", "OPTIONS", "", "B\0", "PRI", "POST", "HEAD", "PUT",
    "DELETE", "BITS_POST\t", " BITS_POST", "\r\nBITS_POST", "G(T", "\u{ff}", "X~", "BITS_POST\r\n",
];

#[rustfmt::skip]
const TARGETS: &[&str] = &[
    "*", "//x", "//evil.test/x", "/..", "/../../etc", "/%00", "/%2e%2e%2f", "/a b", "/a#b", "/\\x", "/\u{e9}",
    "http:/x", "/%", "/%zz", "/%u002e", "up.test:80", "http://up.test/x", "HTTP://UP.TEST/x", "https://up.test/x",
    "http://evil.test/x", "http://up.test@evil.test/x", "http://up.test", "http://up.test:80/x", "", "x", "?",
    "/x?y#z", "/x\t", "/::$DATA", "/x;y=z", "/{x}|", "/\"", "/<x>", "/`", "/^", "ftp://up.test/x", "/\x7f", "/\0",
    "/x\r", "http://up.test\\@evil.test/x", "http:///x", "http://up.test?x", "/x HTTP/1.1\r\nX: y\r\n\r\nGET /hidden",
];

#[rustfmt::skip]
const VERSIONS: &[&str] = &[
    "HTTP/1.0", "HTTP/0.9", "", "HTTP/2.0", "HTTP/2", "http/1.1", "HTTP/1.1 ", "HTTP/1.2", "HTTP/1.10", "HTTP/1.1\t",
    "HTTP/11", "HTTPS/1.1", "HTTP/1.1 HTTP/1.1", " HTTP/1.1", "HTTP/1.1\r", "HTTP/\u{b9}.1",
];

#[rustfmt::skip]
const LENGTHS: &[&str] = &[
    "0", "1", "5", "00", "05", "+5", "-5", "-0", "5,5", "5, 5", "5 5", "0x5", "5.0", "1e1", "", " ", "\t5", "5;",
    "\u{b2}", "9999999999999999999", "00000000000000000005", "18446744073709551616", "99999999999999999999999",
    "4294967296", "NaN", "5_0", "\"5\"", "5\0", "5\x0b", "\x0b5", "5\r", "\n5",
];

#[rustfmt::skip]
const CODINGS: &[&str] = &[
    "chunked", "Chunked", "CHUNKED", "identity", "gzip", "gzip, chunked", "chunked, gzip", "chunked, chunked",
    "chunked,", ",chunked", " chunked", "chunked ", "\tchunked", "\x0bchunked", "chunked\x0b", "xchunked",
    "chunked;q=1", "", "cow", "\"chunked\"", "chunked\0", "chunk\u{e9}d", "chunked\r\n chunked", "\r\n chunked",
    "chunked\r", "\u{a0}chunked", "\x0cchunked",
];

#[rustfmt::skip]
const CONNECTIONS: &[&str] = &[
    "close", "keep-alive", "Keep-Alive, Close", "upgrade", "BITS-Session-Id", "close, BITS-Session-Id",
    "Content-Length", "Transfer-Encoding", "Host", "te", "", ",", "close,,close", "close;x", "\"close\"",
    "X-Forwarded-For", "cl\0se", "close\r\n , Host", "keep-alive keep-alive", "\x0bclose",
];

#[rustfmt::skip]
const HOSTS: &[&str] = &[
    "", "evil.test", "up.test, evil.test", "up.test:80", "up.test:", "up.test:x", "up.test:99999", "user@up.test",
    "up.test/x", "up.test?x", "up.test#x", "[::1]", "[::1", "[::1%25lo]", "::1", "UP.TEST", "up.test.", ".up.test",
    "up..test", "a b", "*", "127.0.0.1", "up\0.test", "\u{fc}p.test", "http://up.test", "up.test\t", "up01.up.test",
    "up.test;x", "0x7f.1", ":80", "up.test:0", "up.test:+80", "up.test:080", "up.test:000080", "a_b", "up%2etest",
];

#[rustfmt::skip]
const EXPECTATIONS: &[&str] = &[
    "100-continue", "100-Continue", "200-ok", "", "100-continue, x", "100-continue;x", "100", "100-continue\0", "x",
];

#[rustfmt::skip]
const KINDS: &[&str] = &[
    "Ping", "ping", "Create-Session", "Fragment", "Close-Session", "Cancel-Session", "Ack", "", "Fragment,Ping",
    "Frag\tment", "Create_Session", "Close Session", "PING ", "\u{e9}", "Fragment\r\n Ping", "Fragment;x", "0",
];

#[rustfmt::skip]
const IDS: &[&str] = &[
    "", "{}", "x", "a b", "a\tb", "\u{e9}", "{00000000-0000-0000-0000-000000000000}", "../../x", "x\0", "x;y", "x,y",
    "x\r", "%7B%7D", "{00000001-0000-4000-8000-0123456789AB}, {00000001-0000-4000-8000-0123456789AB}", "'\"<>",
    "x\r\n y",
];

#[rustfmt::skip]
const RANGES: &[&str] = &[
    "bytes 0-4/5", "bytes 0-4/*", "bytes */5", "bytes=0-4/5", "bytes  0-4/5", "bytes 4-0/5", "bytes 0-4/4",
    "bytes -1-4/5", "bytes 0-4", "bytes +0-4/5", "octets 0-4/5", "",
    "bytes 0-18446744073709551615/18446744073709551615", "bytes 0-0/0", "bytes 0-4294967295/0", "bytes 0-4/0", "bytes 0-4/5, 0-4/5",
    "bytes 0-000000000000000000004/5",
    "bytes 18446744073709551615-18446744073709551615/18446744073709551616", "bytes 0x0-4/5", "bytes 0-4/5 ",
    "BYTES 0-4/5", "bytes 0-4/18446744073709551616", "bytes 00-4/5", "bytes\t0-4/5", "bytes 0-4/5\0", "bytes 0- 4/5",
];

/// Whole lines that no honest client sends, or that say too much.
#[rustfmt::skip]
const LINES: &[&str] = &[
    "X-Forwarded-For: 6.6.6.6", "X-Forwarded-Host: evil.test", "X-Forwarded-Proto: https", "Forwarded: for=6.6.6.6",
    "X-Real-IP: 6.6.6.6", "True-Client-IP: 6.6.6.6", "True_Client_IP: 6.6.6.6", "X_Client_IP: 6.6.6.6",
    "Client-Cert: :x:", "Proxy: http://evil.test/", "X_Original_Host: x", "SSL_CLIENT_VERIFY: SUCCESS", "REMOTE_USER: x", "X-Original-URL: /admin", "X-Rewrite-URL: /admin", "X-Forwarded-Server: x",
    "X-Forwarded-Port: 1", "BITS-Original-Request-URL: http://evil.test/", "BITS-Request-DataFile-Name: C:\\x",
    "BITS-Response-DataFile-Name: C:\\x", "BITS-Static-Response-URL: /x", "BITS-Copy-File-To-Destination: x",
    "BITS-Host-Id: evil.test", "BITS-Host-Id-Fallback-Timeout: 1", "BITS-Reply-URL: /x", "BITS-Error: 0x0",
    "BITS-Error-Code: 0x8020001F", "BITS-Error-Context: 0x5", "BITS-Received-Content-Range: 0",
    "BITS-Protocol: {7df0354d-249b-430f-820d-3d2a9bef4931}", "X-HTTP-Method-Override: BITS_POST",
    "X-HTTP-Method-Override: GET", "X-HTTP-Method: DELETE", "X-Method-Override: BITS_POST", "Keep-Alive: timeout=5",
    "Proxy-Connection: keep-alive", "Proxy-Authorization: Basic eDp5", "TE: trailers", "TE: chunked",
    "Trailer: Content-Length", "Upgrade: websocket", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__",
    "Range: bytes=0-5", "Content-Encoding: gzip", "Content-Encoding: x", "Content-Name: \u{e9}.bin",
    "Content-Type: x", "Cookie: a=b", "Via: 1.1 x", "Authorization: Basic eDp5", "Max-Forwards: 0", "If-Match: *",
    "Proxy-Authenticate: x", "Sec-WebSocket-Key: x", ":authority: evil.test", ":method: GET", ": x", "X", "\u{e9}: x",
    "X\0: y", "X: \x0b", "Content-Length : 5", "Host : evil.test", "Transfer-Encoding : chunked",
    " Transfer-Encoding: chunked", "Content-Length\t: 5", "Transfer-Encoding\r\n: chunked",
    "X: y\nTransfer-Encoding: chunked", "X: y\rContent-Length: 5", "Content_Length: 5", "Transfer_Encoding: chunked",
    "BITS_Session_Id: x", "Content-Length:\x0b5", "X(: y", "X:y:z", "Connection_: x", "BITS-Session-Id2: x",
    "BITS-Package-Type: Ping", "Date: x",
];

#[rustfmt::skip]
const CRUMBS: &[&str] = &[
    " ", "\t", "\r", "\n", "\r\n", "\r\n ", "\r\n\t", "\n\n", "\r\n\r\n", "\0", "\x7f", "\x0b", "\x0c", "\x1f",
    "\u{80}", "\u{85}", "\u{a0}", "\u{ff}", ":", ": ", ",", ";", "_", "-", "%", "%4", "%0d%0a", "/", "\\", "?", "#",
    "[", "{", "\"", "@", "0", "+", "x", "HTTP/1.1", "0\r\n\r\n", "GET /hidden HTTP/1.1\r\nHost: up.test\r\n\r\n",
    "ffffffffffffffff\r\n", "1\r\n",
];

/// Between two requests.
#[rustfmt::skip]
const BETWEEN: &[&str] = &[
    "\r\n", "\r\n\r\n", "\n", " ", "\0", "0\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
    "\x16\x03\x01\0\u{c8}\x01\0\0\u{c4}\x03\x03", "GET /hidden\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "SSH-2.0-x\r\n", "PROXY TCP4 6.6.6.6 6.6.6.6 1 2\r\n", "\r\n\r\n\0\r\nQUIT\n!\x11\0\x0c", "\x05\x01\0",
    "EHLO x\r\n", "0", "x",
];

#[rustfmt::skip]
const CHUNKS: &[&str] = &[
    "5\r\nhello\r\n0\r\n\r\n", "5\nhello\n0\n\n", "05\r\nhello\r\n0\r\n\r\n", "5 \r\nhello\r\n0\r\n\r\n",
    " 5\r\nhello\r\n0\r\n\r\n", "+5\r\nhello\r\n0\r\n\r\n", "-5\r\nhello\r\n0\r\n\r\n", "0x5\r\nhello\r\n0\r\n\r\n",
    "5;\r\nhello\r\n0\r\n\r\n", "5;a=\"\r\n\"\r\nhello\r\n0\r\n\r\n", "5\r\nhelloo\r\n0\r\n\r\n",
    "5\r\nhell\r\n0\r\n\r\n", "5\r\nhello0\r\n\r\n", "5\r\nhello\r\n0\r\n", "5\r\nhello\r\n", "5\r\nhel",
    "fffffffffffffffff\r\nhello\r\n0\r\n\r\n", "ffffffffffffffff\r\nhello\r\n0\r\n\r\n", "g\r\nhello\r\n0\r\n\r\n",
    "5\r\nhello\r\n0;x\r\nX: y\r\nContent-Length: 5\r\n\r\n", "5\r\nhello\r\n0\r\nX\0: y\r\n\r\n",
    "5\r\nhello\r\n00000000000000000000\r\n\r\n", "5\r\r\nhello\r\n0\r\n\r\n",
    "5\r\nhello\r\n0\r\n\r\nGET /hidden HTTP/1.1\r\nHost: up.test\r\n\r\n", "\r\n5\r\nhello\r\n0\r\n\r\n",
    "5;\nhello\r\n0\r\n\r\n", "5\x0b\r\nhello\r\n0\r\n\r\n", "0\r\n\rX\r\n", "5;x\ny\r\nhello\r\n0\r\n\r\n",
];

pub fn pick(chance: &mut Chance, of: &'static [&'static str]) -> &'static str {
    of[at(chance, of.len())]
}

fn at(chance: &mut Chance, length: usize) -> usize {
    chance.between(0, length.saturating_sub(1) as u64) as usize
}

/// Sets a field, in place or beside what there is.
fn set(chance: &mut Chance, message: &mut Message, name: &str, value: &str) {
    let line = latin1(&format!("{name}:{}{value}\r\n", pick(chance, &[" ", " ", "", "\t", "  "])));
    let start = format!("{name}:").to_ascii_lowercase().into_bytes();
    let there = message.lines.iter().position(|l| l.to_ascii_lowercase().starts_with(&start));
    match there {
        Some(at) if chance.percent(70) => message.lines[at] = line,
        _ => {
            let place = chance.between(0, message.lines.len() as u64) as usize;
            message.lines.insert(place, line);
        }
    }
}

/// One change to one of the messages, or to their row.
pub fn mutate(chance: &mut Chance, messages: &mut [Message]) {
    let chosen = at(chance, messages.len());
    let Some(message) = messages.get_mut(chosen) else { return };
    let line = at(chance, message.lines.len());
    match chance.between(0, 27) {
        0 => message.method = latin1(pick(chance, METHODS)),
        1 => message.target = latin1(pick(chance, TARGETS)),
        2 => message.version = latin1(pick(chance, VERSIONS)),
        3..=4 => set(chance, message, "Content-Length", pick(&mut chance.clone(), LENGTHS)),
        5..=6 => set(chance, message, "Transfer-Encoding", pick(&mut chance.clone(), CODINGS)),
        7 => message.chunk(chance),
        8 => {
            message.chunk(chance);
            message.body = latin1(pick(chance, CHUNKS));
        }
        9 => set(chance, message, "Connection", pick(&mut chance.clone(), CONNECTIONS)),
        10 => set(chance, message, "Host", pick(&mut chance.clone(), HOSTS)),
        11 => set(chance, message, "Expect", pick(&mut chance.clone(), EXPECTATIONS)),
        12 => set(chance, message, "BITS-Packet-Type", pick(&mut chance.clone(), KINDS)),
        13 => set(chance, message, "BITS-Session-Id", pick(&mut chance.clone(), IDS)),
        14 => set(chance, message, "Content-Range", pick(&mut chance.clone(), RANGES)),
        15..=16 => {
            let new = latin1(&format!("{}\r\n", pick(chance, LINES)));
            message.lines.insert(line.min(message.lines.len()), new);
        }
        17 => twice(chance, message),
        18 => {
            message.lines.get(line).is_some().then(|| message.lines.remove(line));
        }
        19 => {
            if let Some(line) = message.lines.get_mut(line) {
                recase(chance, line);
            }
        }
        20 => {
            if let Some(line) = message.lines.get_mut(line) {
                let place = at(chance, line.len());
                line.splice(place..place, latin1(pick(chance, CRUMBS)));
            }
        }
        21 => {
            let end = latin1(pick(
                chance,
                &["\n", "\r", "\r\r\n", "\n\r", "\r\n\r\n", "", "\r\n ", "\0\r\n", " \r\n"],
            ));
            if let Some(line) = message.lines.get_mut(line) {
                line.truncate(line.len().saturating_sub(2));
                line.extend(end);
            }
        }
        22 => {
            message.end =
                latin1(pick(chance, &["\n", "\r", "\n\r\n", "", "\r\n\r\n", " \r\n", "\r\n\n"]))
        }
        23 => {
            if let Some(line) = message.lines.get_mut(line) {
                line.iter_mut().filter(|b| **b == b'-').for_each(|b| *b = b'_');
            }
        }
        24 => size(chance, message),
        25 => {
            let length = chance.between(0, message.body.len() as u64 + 5) as usize;
            message.body.resize(length, b'x');
        }
        26 => {
            message.lines.reverse();
            message.lines.rotate_left(line);
        }
        _ => {
            let between = latin1(pick(chance, BETWEEN));
            message.method.splice(0..0, between);
        }
    }
}

/// A line once more: the same, in another case, or with another value.
fn twice(chance: &mut Chance, message: &mut Message) {
    let line = at(chance, message.lines.len());
    let Some(mut copy) = message.lines.get(line).cloned() else { return };
    match chance.between(0, 2) {
        0 => recase(chance, &mut copy),
        1 => {
            let end = copy.len().saturating_sub(2);
            copy.splice(end..end, *b"1");
        }
        _ => {}
    }
    let place = chance.between(0, message.lines.len() as u64) as usize;
    message.lines.insert(place, copy);
}

fn recase(chance: &mut Chance, line: &mut [u8]) {
    let name = line.iter().position(|&b| b == b':').unwrap_or(line.len());
    for byte in &mut line[..name] {
        *byte =
            if chance.percent(50) { byte.to_ascii_uppercase() } else { byte.to_ascii_lowercase() };
    }
}

/// At a limit, and beyond it.
fn size(chance: &mut Chance, message: &mut Message) {
    let more = chance.between(0, 3) as usize;
    match chance.between(0, 4) {
        0 => {
            let room = 101usize.saturating_sub(message.lines.len() + more);
            message.lines.extend((0..room).map(|n| format!("X-{n}: y\r\n").into_bytes()));
        }
        1 => message
            .lines
            .push(format!("X: {}\r\n", "y".repeat(64 * 1024 - 300 + more * 200)).into_bytes()),
        2 => message.target.extend("y".repeat(8 * 1024 - 40 + more * 20).into_bytes()),
        3 => message.lines.push(format!("BITS-Any: {}\r\n", "y".repeat(4094 + more)).into_bytes()),
        _ => {
            let id = format!("BITS-Session-Id: {}\r\n", "x".repeat(99 + more));
            message.lines.push(id.into_bytes());
        }
    }
}

/// One change that knows nothing.
pub fn mutate_bytes(chance: &mut Chance, bytes: &mut Vec<u8>) {
    let place = at(chance, bytes.len());
    if bytes.is_empty() {
        return;
    }
    match chance.between(0, 5) {
        0 => bytes[place] = chance.next_u64() as u8,
        1 => bytes[place] ^= 1 << chance.between(0, 7),
        2 => {
            bytes.remove(place);
        }
        3 => {
            bytes.splice(place..place, latin1(pick(chance, CRUMBS)));
        }
        4 => {
            let end = (place + chance.between(1, 40) as usize).min(bytes.len());
            let copy = bytes[place..end].to_vec();
            bytes.splice(place..place, copy);
        }
        _ => bytes.truncate(place),
    }
}
