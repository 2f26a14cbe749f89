//! Request heads, and answers as bytes.

use std::borrow::Cow;
use std::fs::File;
use std::sync::Arc;

use thiserror::Error;

/// Longest request head, bytes.
pub const MAX_HEAD: usize = 64 * 1024;

/// A request head that was understood.
#[derive(Debug)]
pub struct Head {
    /// The exact bytes, with the empty line.
    pub raw: Vec<u8>,
    pub method: String,
    pub target: String,
    /// 0 or 1, for HTTP/1.0 and HTTP/1.1.
    pub minor: u8,
    pub headers: Vec<(String, Vec<u8>)>,
    pub framing: Framing,
}

/// How the request says where its body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Neither Content-Length nor Transfer-Encoding: no body.
    None,
    Length(u64),
    Chunked,
}

/// Why a head cannot be worked with. After any of these the connection is of no more use.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum HeadError {
    #[error("not an http/1 request")]
    Malformed,
    #[error("ambiguous message length")]
    Framing,
    #[error("no host header, or several")]
    Host,
}

/// What goes back. `Content-Length` and `Connection` are written by [`Answer::head_bytes`].
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(Cow<'static, str>, String)>,
    pub body: Vec<Segment>,
    /// False leaves Content-Length out although the connection stays open.
    pub with_length: bool,
    /// True for the answer to HEAD: the length is told, the body not sent.
    pub head_only: bool,
    /// Ends the connection after the answer, and says so with this spelling.
    pub close: Option<&'static str>,
    /// Writes an `HTTP/1.0` status line.
    pub old_version: bool,
}

/// A piece of an answer's body.
#[derive(Debug)]
pub enum Segment {
    Bytes(Vec<u8>),
    File { file: Arc<File>, offset: u64, length: u64 },
}

/// IIS lists of 100 protocols are one header; nobody honest comes near this number.
const MAX_HEADERS: usize = 256;

impl Head {
    pub fn parse(raw: Vec<u8>) -> Result<Self, HeadError> {
        let mut slots = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut request = httparse::Request::new(&mut slots);
        match request.parse(&raw) {
            Ok(httparse::Status::Complete(end)) if end == raw.len() => {}
            _ => return Err(HeadError::Malformed),
        }
        let (Some(method), Some(target), Some(minor)) =
            (request.method, request.path, request.version)
        else {
            return Err(HeadError::Malformed);
        };
        let headers: Vec<(String, Vec<u8>)> =
            request.headers.iter().map(|h| (h.name.to_owned(), h.value.to_vec())).collect();
        let mut head = Self {
            method: method.to_owned(),
            target: target.to_owned(),
            minor,
            headers,
            framing: Framing::None,
            raw,
        };
        head.framing = head.read_framing()?;
        let hosts = head.all("host").count();
        if hosts > 1 || (hosts == 0 && minor == 1) {
            return Err(HeadError::Host);
        }
        Ok(head)
    }

    /// All values of a header; `name` in lower case.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.headers
            .iter()
            .filter(move |(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_slice())
    }

    /// The first value of a header as text, without blanks around it; `None` also when it is not UTF-8.
    pub fn text<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        self.all(name)
            .next()
            .and_then(|value| std::str::from_utf8(value).ok())
            .map(|value| value.trim_matches([' ', '\t']))
    }

    /// True when the client waits for `100 Continue` before it sends its body.
    pub fn expects_continue(&self) -> bool {
        self.minor == 1
            && self.text("expect").is_some_and(|v| v.eq_ignore_ascii_case("100-continue"))
    }

    pub fn wants_close(&self) -> bool {
        let named = |token: &str| {
            self.all("connection").any(|value| {
                value
                    .split(|b| *b == b',')
                    .any(|part| part.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
            })
        };
        named("close") || (self.minor == 0 && !named("keep-alive"))
    }

    /// RFC 9112 6.3, without the leniencies that request smuggling lives on.
    fn read_framing(&self) -> Result<Framing, HeadError> {
        let mut lengths = self.all("content-length");
        let length = lengths.next();
        if lengths.next().is_some() {
            return Err(HeadError::Framing);
        }
        let mut codings = self.all("transfer-encoding");
        if let Some(coding) = codings.next() {
            let chunked = coding.trim_ascii().eq_ignore_ascii_case(b"chunked");
            if !chunked || codings.next().is_some() || length.is_some() || self.minor == 0 {
                return Err(HeadError::Framing);
            }
            return Ok(Framing::Chunked);
        }
        let Some(length) = length else {
            return Ok(Framing::None);
        };
        let text = std::str::from_utf8(length.trim_ascii()).map_err(|_| HeadError::Framing)?;
        if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(HeadError::Framing);
        }
        text.parse().map(Framing::Length).map_err(|_| HeadError::Framing)
    }
}

impl Answer {
    pub fn new(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Vec::new(),
            with_length: true,
            head_only: false,
            close: None,
            old_version: false,
        }
    }

    #[must_use]
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((Cow::Borrowed(name), value.into()));
        self
    }

    /// A JSON body.
    pub fn json(status: u16, value: &impl serde::Serialize) -> Self {
        let mut answer = Self::new(status).header("Content-Type", "application/json");
        match serde_json::to_vec(value) {
            Ok(bytes) => answer.body.push(Segment::Bytes(bytes)),
            Err(_) => answer.status = 500,
        }
        answer
    }

    pub fn body_length(&self) -> u64 {
        self.body
            .iter()
            .map(|segment| match segment {
                Segment::Bytes(bytes) => bytes.len() as u64,
                Segment::File { length, .. } => *length,
            })
            .sum()
    }

    pub fn head_bytes(&self) -> Vec<u8> {
        let version = if self.old_version { "1.0" } else { "1.1" };
        let mut text = format!("HTTP/{version} {} {}\r\n", self.status, reason(self.status));
        let mut told_length = false;
        for (name, value) in &self.headers {
            told_length |= name.eq_ignore_ascii_case("content-length")
                || name.eq_ignore_ascii_case("transfer-encoding");
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        if self.with_length && !told_length {
            text.push_str(&format!("Content-Length: {}\r\n", self.body_length()));
        }
        if let Some(spelling) = self.close {
            text.push_str(&format!("Connection: {spelling}\r\n"));
        }
        text.push_str("\r\n");
        text.into_bytes()
    }
}

/// Reason phrases; 416 in the words of RFC 2616, which IIS still writes.
pub fn reason(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        200 => "OK",
        201 => "Created",
        204 => "No Content",
        206 => "Partial Content",
        304 => "Not Modified",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Request Entity Too Large",
        416 => "Requested Range Not Satisfiable",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "Unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(lines: &str) -> Result<Head, HeadError> {
        Head::parse(format!("{}\r\n\r\n", lines.replace('\n', "\r\n")).into_bytes())
    }

    #[track_caller]
    fn check_framing(lines: &str, expected: Result<Framing, HeadError>) {
        let got = parse(&format!("BITS_POST /x HTTP/1.1\nHost: h\n{lines}")).map(|h| h.framing);
        assert_eq!(got, expected, "{lines}");
    }

    #[test]
    fn lengths_are_read_strictly() {
        check_framing("Content-Length: 0", Ok(Framing::Length(0)));
        check_framing("content-length:  18446744073709551615 ", Ok(Framing::Length(u64::MAX)));
        check_framing("X: y", Ok(Framing::None));
        check_framing("Transfer-Encoding: Chunked", Ok(Framing::Chunked));
        for bad in [
            "Content-Length: +1",
            "Content-Length: 1, 1",
            "Content-Length: 1\nContent-Length: 1",
            "Content-Length: 0x1",
            "Content-Length:",
            "Content-Length: 18446744073709551616",
            "Content-Length: 1\nTransfer-Encoding: chunked",
            "Transfer-Encoding: gzip, chunked",
            "Transfer-Encoding: chunked\nTransfer-Encoding: chunked",
            "Transfer-Encoding: identity",
        ] {
            check_framing(bad, Err(HeadError::Framing));
        }
    }

    #[test]
    fn heads_that_are_not_http_are_refused() {
        for bad in [
            "GET /x HTTP/2.0\nHost: h",
            "GET /x\nHost: h",
            "GET  /x HTTP/1.1\nHost: h",
            "GET /x HTTP/1.1\nHost : h",
            "GET /x HTTP/1.1\nHost: h\n folded: x",
        ] {
            assert_eq!(parse(bad).err(), Some(HeadError::Malformed), "{bad}");
        }
        assert_eq!(parse("GET /x HTTP/1.1\nA: b").err(), Some(HeadError::Host));
        assert_eq!(parse("GET /x HTTP/1.1\nHost: a\nHost: b").err(), Some(HeadError::Host));
    }

    #[test]
    fn the_connection_header_decides_about_the_next_request() {
        let close = |lines: &str| parse(lines).unwrap().wants_close();
        assert!(!close("GET / HTTP/1.1\nHost: h"));
        assert!(close("GET / HTTP/1.1\nHost: h\nConnection: foo, Close"));
        assert!(close("GET / HTTP/1.0\nHost: h"));
        assert!(!close("GET / HTTP/1.0\nHost: h\nConnection: Keep-Alive"));
    }

    #[test]
    fn an_answer_without_a_body_tells_its_length() {
        let answer = Answer::new(416).header("BITS-Packet-Type", "Ack");
        assert_eq!(
            String::from_utf8(answer.head_bytes()).unwrap(),
            "HTTP/1.1 416 Requested Range Not Satisfiable\r\nBITS-Packet-Type: Ack\r\nContent-Length: 0\r\n\r\n"
        );
    }
}
