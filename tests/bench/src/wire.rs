//! BITS packets and their Acks as bytes, written by hand: the suite shares no code with the gateway.

use std::io::Write;
use std::sync::OnceLock;

use httparse::{EMPTY_HEADER, Status};

/// The total that Fragments name. No session of the suite reaches it, so none ends by its size.
pub const TOTAL: u64 = 1 << 40;

/// The longest body of a Fragment.
pub const LONGEST: usize = 16 << 20;

/// An id as IIS issues it, with its braces.
pub const ID_LENGTH: usize = 38;

const PROTOCOL: &str = "{7df0354d-249b-430f-820d-3d2a9bef4931}";

/// A prime, so that a piece that arrives in the place of another one differs.
const PERIOD: usize = 4093;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Create,
    Ping,
    Fragment,
    Close,
}

/// The bytes of every file from `offset` on.
pub fn content(offset: u64, length: usize) -> &'static [u8] {
    static PATTERN: OnceLock<Vec<u8>> = OnceLock::new();
    let pattern = PATTERN.get_or_init(|| {
        let mut state = 0x9e37_79b9_u32;
        let mut period = [0; PERIOD];
        period.fill_with(|| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state as u8
        });
        period.into_iter().cycle().take(LONGEST + PERIOD).collect()
    });
    let start = (offset % PERIOD as u64) as usize;
    &pattern[start..start + length]
}

/// What a Windows client sends with each packet.
fn begin(head: &mut Vec<u8>, path: &str, packet: &str) {
    head.clear();
    let _ = write!(
        head,
        "BITS_POST {path} HTTP/1.1\r\nConnection: Keep-Alive\r\nAccept: */*\r\n\
         Accept-Encoding: identity\r\nUser-Agent: Microsoft BITS/7.8\r\n\
         BITS-Packet-Type: {packet}\r\nHost: uploads.example.com\r\n"
    );
}

pub fn create(head: &mut Vec<u8>, path: &str) {
    begin(head, path, "Create-Session");
    let _ = write!(head, "BITS-Supported-Protocols: {PROTOCOL}\r\nContent-Length: 0\r\n\r\n");
}

pub fn ping(head: &mut Vec<u8>, path: &str) {
    begin(head, path, "Ping");
    head.extend_from_slice(b"Content-Length: 0\r\n\r\n");
}

pub fn fragment(head: &mut Vec<u8>, path: &str, id: &str, first: u64, length: usize) {
    begin(head, path, "Fragment");
    let last = first + length as u64 - 1;
    let _ = write!(
        head,
        "BITS-Session-Id: {id}\r\nContent-Name: report.cab\r\n\
         Content-Range: bytes {first}-{last}/{TOTAL}\r\nContent-Length: {length}\r\n\r\n"
    );
}

pub fn close(head: &mut Vec<u8>, path: &str, id: &str) {
    begin(head, path, "Close-Session");
    let _ = write!(head, "BITS-Session-Id: {id}\r\nContent-Length: 0\r\n\r\n");
}

/// A request head as a sink reads it.
#[derive(Debug, PartialEq, Eq)]
pub struct Request<'a> {
    pub kind: Kind,
    pub session: &'a [u8],
    /// Of `Content-Range`; 0 without one.
    pub first: u64,
    pub last: u64,
    pub body: u64,
    pub head_bytes: usize,
}

/// `None` while the head is incomplete.
pub fn read_request(bytes: &[u8]) -> Result<Option<Request<'_>>, String> {
    let mut fields = [EMPTY_HEADER; 64];
    let mut parsed = httparse::Request::new(&mut fields);
    let head_bytes = match parsed.parse(bytes) {
        Ok(Status::Complete(length)) => length,
        Ok(Status::Partial) => return Ok(None),
        Err(error) => return Err(format!("a request head that is none: {error}")),
    };
    if parsed.method != Some("BITS_POST") {
        return Err(format!("a request with the method {:?}", parsed.method));
    }
    let (mut kind, mut session) = (None, &b""[..]);
    let (mut first, mut last, mut body) = (0, 0, None);
    for field in parsed.headers.iter() {
        let value = field.value;
        if field.name.eq_ignore_ascii_case("BITS-Packet-Type") {
            kind = match value {
                b"Create-Session" => Some(Kind::Create),
                b"Ping" => Some(Kind::Ping),
                b"Fragment" => Some(Kind::Fragment),
                b"Close-Session" => Some(Kind::Close),
                _ => None,
            };
        } else if field.name.eq_ignore_ascii_case("BITS-Session-Id") {
            session = value;
        } else if field.name.eq_ignore_ascii_case("Content-Length") {
            body = number(value);
        } else if field.name.eq_ignore_ascii_case("Content-Range") {
            (first, last) = range(value).ok_or("a Content-Range that is none")?;
        }
    }
    let kind = kind.ok_or("a packet of no known type")?;
    let body = body.ok_or("a packet without a Content-Length")?;
    Ok(Some(Request { kind, session, first, last, body, head_bytes }))
}

/// An Ack as a client reads it.
#[derive(Debug, PartialEq, Eq)]
pub struct Ack<'a> {
    pub session: &'a [u8],
    pub received: Option<u64>,
    pub head_bytes: usize,
}

/// `None` while the head is incomplete.
///
/// # Errors
/// Anything but a 200 with the fields of an Ack and an empty body.
pub fn read_ack(bytes: &[u8]) -> Result<Option<Ack<'_>>, String> {
    let mut fields = [EMPTY_HEADER; 64];
    let mut parsed = httparse::Response::new(&mut fields);
    let head_bytes = match parsed.parse(bytes) {
        Ok(Status::Complete(length)) => length,
        Ok(Status::Partial) => return Ok(None),
        Err(error) => return Err(format!("an answer that is none: {error}")),
    };
    let (mut is_ack, mut is_empty, mut session, mut received) = (false, false, &b""[..], None);
    for field in parsed.headers.iter() {
        if field.name.eq_ignore_ascii_case("BITS-Packet-Type") {
            is_ack = field.value.eq_ignore_ascii_case(b"Ack");
        } else if field.name.eq_ignore_ascii_case("Content-Length") {
            is_empty = field.value == b"0";
        } else if field.name.eq_ignore_ascii_case("BITS-Session-Id") {
            session = field.value;
        } else if field.name.eq_ignore_ascii_case("BITS-Received-Content-Range") {
            received = number(field.value);
        }
    }
    if parsed.code != Some(200) || !is_ack || !is_empty {
        let head = String::from_utf8_lossy(&bytes[..head_bytes]).replace("\r\n", " | ");
        return Err(format!("an answer that is no good Ack: {head}"));
    }
    Ok(Some(Ack { session, received, head_bytes }))
}

/// The body of any HTTP message by its `Content-Length`, and the length of its head: all that a bare relay has to know.
pub fn frame(bytes: &[u8]) -> Option<(usize, u64)> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let name = b"content-length:";
    let field = bytes[..end]
        .split(|byte| *byte == b'\n')
        .find(|line| line.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name)));
    let body = field.and_then(|line| number(line[name.len()..].trim_ascii())).unwrap_or(0);
    Some((end, body))
}

fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn range(value: &[u8]) -> Option<(u64, u64)> {
    let (range, _) = std::str::from_utf8(value).ok()?.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    Some((first.parse().ok()?, last.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "{3F9C1E52-7B0D-4E7A-9C44-0D5B6A1E8F21}";

    #[test]
    fn packets_are_read_as_they_were_written() {
        let mut head = Vec::new();
        fragment(&mut head, "/in/a.cab", ID, 100, 50);
        let read = read_request(&head).expect("a head").expect("complete");
        assert_eq!((read.kind, read.session), (Kind::Fragment, ID.as_bytes()));
        assert_eq!((read.first, read.last, read.body), (100, 149, 50));
        assert_eq!(read.head_bytes, head.len());
        assert_eq!(frame(&head), Some((head.len(), 50)));
        assert_eq!(read_request(&head[..head.len() - 1]), Ok(None));
        create(&mut head, "/in/a.cab");
        assert_eq!(read_request(&head).map(|read| read.map(|r| r.kind)), Ok(Some(Kind::Create)));
        close(&mut head, "/in/a.cab", ID);
        assert_eq!(read_request(&head).map(|read| read.map(|r| r.kind)), Ok(Some(Kind::Close)));
        ping(&mut head, "/in/a.cab");
        assert_eq!(read_request(&head).map(|read| read.map(|r| r.kind)), Ok(Some(Kind::Ping)));
    }

    #[test]
    fn only_a_good_ack_is_an_ack() {
        let good = b"HTTP/1.1 200 OK\r\nbits-packet-type: Ack\r\ncontent-length: 0\r\n\r\n";
        assert!(read_ack(good).is_ok_and(|ack| ack.is_some()));
        for bad in [
            "HTTP/1.1 503 No\r\nBITS-Packet-Type: Ack\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nBITS-Packet-Type: Ack\r\nContent-Length: 1\r\n\r\n",
            "SSH-2.0\r\n\r\n",
        ] {
            assert!(read_ack(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn every_file_has_the_same_content_from_an_offset_on() {
        let whole = content(0, 20_000);
        assert_eq!(content(5000, 15_000), &whole[5000..]);
        assert_ne!(content(0, 64), content(1024, 64));
    }
}
