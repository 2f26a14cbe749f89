//! The strict check of a request head, on its bytes, before anything else reads them.
//!
//! Two programs that read one message differently are the root of request smuggling, so an odd
//! head is refused and never repaired. The check runs on the bytes of the connection: an HTTP
//! library has by then already forgiven what matters here, such as bare line feeds.

use super::headers::{BITS_POST, FIELD_LIMIT, NAME_LIMIT};
use super::host::Host;

/// What a head may be at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadLimits {
    /// Bytes of request line and fields together, with the empty line at the end.
    pub head_bytes: usize,
    /// Bytes of the request line.
    pub line_bytes: usize,
    /// Number of fields.
    pub fields: usize,
}

/// What a legal head says about the message it opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadFacts {
    pub body: BodyFraming,
    /// The scheme and authority of an absolute target. They say what Host says, so whoever passes
    /// the head on leaves these bytes out, and nobody behind has two hosts to choose from.
    pub redundant: Option<(usize, usize)>,
}

/// How the end of the body is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyFraming {
    /// That many bytes follow; without a Content-Length, none.
    Length(u64),
    Chunked,
}

/// Why a head is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    #[error("the request line is not `method target HTTP/1.1`")]
    RequestLine,
    #[error("the request line is too long")]
    LineTooLong,
    #[error("the method is not served here")]
    Method,
    #[error("the request target is neither a path nor an absolute http URL of legal characters")]
    Target,
    #[error("the request is not HTTP/1.1")]
    Version,
    #[error("a line does not end in CR LF, or holds a control character")]
    Line,
    #[error("a field is not `name: value`")]
    Field,
    #[error("there are too many fields")]
    TooManyFields,
    #[error("the head is too long")]
    TooLong,
    #[error("a field name is longer than {NAME_LIMIT} bytes")]
    NameTooLong,
    #[error("the value of a field is longer than {FIELD_LIMIT} bytes")]
    ValueTooLong,
    #[error("a field that must stand once stands twice")]
    Repeated,
    #[error("a field name imitates a protected one")]
    Imitation,
    #[error("Host is missing, not a host, or not that of the target")]
    Host,
    #[error("Content-Length is not 1 to 19 digits")]
    Length,
    #[error("Transfer-Encoding is not `chunked` alone, or stands beside Content-Length")]
    TransferEncoding,
    #[error("Connection names a field, or the request asks for an upgrade")]
    Connection,
    #[error("the expectation is not 100-continue")]
    Expect,
}

/// Position after the empty line that ends a head, if it is there.
///
/// `from` is where the search may start: what was searched before, less the three bytes that a
/// terminator may straddle.
pub fn end_of_head(bytes: &[u8], from: usize) -> Option<usize> {
    let start = from.saturating_sub(3).min(bytes.len());
    let at = bytes[start..].windows(4).position(|window| window == b"\r\n\r\n")?;
    Some(start + at + 4)
}

/// Whether bytes that hold no end of a head yet can never get one that passes: another protocol
/// speaks, or lines end in a line feed or a carriage return alone. Nobody then has to wait for a
/// deadline.
///
/// `from` is where the search may start, as in [`end_of_head`].
pub fn is_hopeless(bytes: &[u8], from: usize) -> bool {
    (from.min(bytes.len())..bytes.len()).any(|at| match bytes[at] {
        b'\n' => at == 0 || bytes[at - 1] != b'\r',
        _ if at > 0 && bytes[at - 1] == b'\r' => true,
        b'\r' | b'\t' => false,
        byte => byte < 0x20 || byte == 0x7f,
    })
}

/// What is wrong with the request line of a head whose end has not come: another version, no
/// version, no method. Who sends `GET /` and waits hears of it at once.
///
/// `None` for a line that may pass, is not here as a whole, or is empty.
pub fn fault_of_line(bytes: &[u8], limits: &HeadLimits) -> Option<HeadError> {
    let end = bytes.windows(2).position(|window| window == b"\r\n").filter(|&end| end > 0)?;
    check_request_line(&bytes[..end], limits).err()
}

/// Checks a whole head: everything up to and with the empty line.
///
/// # Source
/// RFC 9112 sections 2 to 6 and 9.6, made stricter where receivers are known to differ.
pub fn check_head(head: &[u8], limits: &HeadLimits) -> Result<HeadFacts, HeadError> {
    if head.len() > limits.head_bytes {
        return Err(HeadError::TooLong);
    }
    let mut lines = Lines { rest: head };
    let authority = check_request_line(lines.next()?, limits)?;
    let redundant = authority.map(|authority| redundant(head, authority));
    let mut fields = Fields::default();
    let mut count = 0;
    loop {
        let line = lines.next()?;
        if line.is_empty() {
            break;
        }
        count += 1;
        if count > limits.fields {
            return Err(HeadError::TooManyFields);
        }
        let (name, value) = split_field(line)?;
        fields.take(name, value)?;
    }
    if !lines.rest.is_empty() {
        return Err(HeadError::Line);
    }
    let body = fields.judge(authority)?;
    Ok(HeadFacts { body, redundant })
}

/// From the target's start to the end of its authority, as positions in the head.
fn redundant(head: &[u8], authority: &str) -> (usize, usize) {
    let start = head.iter().position(|&byte| byte == b' ').map_or(0, |space| space + 1);
    let scheme = head[start..].windows(3).position(|bytes| bytes == b"://").map_or(0, |at| at + 3);
    (start, start + scheme + authority.len())
}

/// Whether the bytes open a packet, as far as they go: decides the form of a refusal.
pub fn opens_packet(bytes: &[u8]) -> bool {
    bytes.strip_prefix(BITS_POST.as_bytes()).is_some_and(|rest| rest.starts_with(b" "))
}

/// The value of a field in bytes that may be no legal head at all, for echoing in a refusal.
/// `None` unless it stands exactly once.
pub fn find_field<'h>(head: &'h [u8], name: &str) -> Option<&'h str> {
    let mut found = head.split(|&b| b == b'\n').skip(1).filter_map(|line| {
        let (field, value) = split_once(line, b':')?;
        field.eq_ignore_ascii_case(name.as_bytes()).then_some(value)
    });
    let value = found.next()?;
    if found.next().is_some() {
        return None;
    }
    std::str::from_utf8(value.trim_ascii()).ok()
}

struct Lines<'h> {
    rest: &'h [u8],
}

impl<'h> Lines<'h> {
    fn next(&mut self) -> Result<&'h [u8], HeadError> {
        let end = self.rest.windows(2).position(|window| window == b"\r\n");
        let end = end.ok_or(HeadError::Line)?;
        let line = &self.rest[..end];
        self.rest = &self.rest[end + 2..];
        // A bare CR or LF, NUL and the rest: one reader's white space is another's line end.
        let control = |b: &u8| (*b < 0x20 && *b != b'\t') || *b == 0x7f;
        if line.iter().any(control) { Err(HeadError::Line) } else { Ok(line) }
    }
}

/// Returns the authority of an absolute target.
fn check_request_line<'h>(
    line: &'h [u8],
    limits: &HeadLimits,
) -> Result<Option<&'h str>, HeadError> {
    if line.len() > limits.line_bytes {
        return Err(HeadError::LineTooLong);
    }
    let (method, rest) = split_once(line, b' ').ok_or(HeadError::RequestLine)?;
    let (target, version) = split_once(rest, b' ').ok_or(HeadError::RequestLine)?;
    if method.is_empty() || !method.iter().all(|&b| is_token(b)) {
        return Err(HeadError::RequestLine);
    }
    if version != b"HTTP/1.1" {
        return Err(HeadError::Version);
    }
    // A tunnel and an echo of credentials: neither has a use in front of upload servers.
    if method == b"CONNECT" || method == b"TRACE" {
        return Err(HeadError::Method);
    }
    check_target(target)
}

fn check_target(target: &[u8]) -> Result<Option<&str>, HeadError> {
    let text = std::str::from_utf8(target).map_err(|_| HeadError::Target)?;
    let (authority, path) = match strip_scheme(text) {
        Some(rest) => {
            let end = rest.find(['/', '?']).unwrap_or(rest.len());
            (Some(&rest[..end]), &rest[end..])
        }
        None => (None, text),
    };
    if !path.starts_with('/') {
        return Err(HeadError::Target);
    }
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        let legal = match byte {
            b'%' => {
                bytes.next().is_some_and(|b| b.is_ascii_hexdigit())
                    && bytes.next().is_some_and(|b| b.is_ascii_hexdigit())
            }
            // Braces and the bar are no URI characters, but session ids in reply paths have them.
            b'{' | b'}' | b'|' => true,
            b'"' | b'#' | b'<' | b'>' | b'\\' | b'^' | b'`' => false,
            _ => byte.is_ascii_graphic(),
        };
        if !legal {
            return Err(HeadError::Target);
        }
    }
    Ok(authority)
}

/// What follows `http://` or `https://`.
pub fn strip_scheme(target: &str) -> Option<&str> {
    let (scheme, rest) = target.split_once("://")?;
    let http = scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
    http.then_some(rest)
}

fn split_field(line: &[u8]) -> Result<(&[u8], &[u8]), HeadError> {
    // A line that starts with white space continues the one before (obsolete folding), and white
    // space before the colon hides a name: both fail the token test.
    let (name, value) = split_once(line, b':').ok_or(HeadError::Field)?;
    if name.is_empty() || !name.iter().all(|&b| is_token(b)) {
        return Err(HeadError::Field);
    }
    let value = value.trim_ascii();
    match (name.len(), value.len()) {
        (name, _) if name > NAME_LIMIT => Err(HeadError::NameTooLong),
        (_, value) if value > FIELD_LIMIT => Err(HeadError::ValueTooLong),
        _ => Ok((name, value)),
    }
}

/// Fields by which a message is framed or routed. Twice is once too often.
const ONCE: [&str; 12] = [
    "host",
    "content-length",
    "transfer-encoding",
    "content-range",
    "content-encoding",
    "content-name",
    "authorization",
    "expect",
    "bits-packet-type",
    "bits-session-id",
    "bits-supported-protocols",
    "x-http-method-override",
];

#[derive(Default)]
struct Fields<'h> {
    seen: u16,
    host: Option<&'h [u8]>,
    length: Option<&'h [u8]>,
    encoding: Option<&'h [u8]>,
}

impl<'h> Fields<'h> {
    fn take(&mut self, name: &'h [u8], value: &'h [u8]) -> Result<(), HeadError> {
        if name.contains(&b'_') {
            return check_imitation(name);
        }
        if let Some(index) = ONCE.iter().position(|n| name.eq_ignore_ascii_case(n.as_bytes())) {
            let bit = 1 << index;
            if self.seen & bit != 0 {
                return Err(HeadError::Repeated);
            }
            self.seen |= bit;
        }
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        if is("host") {
            self.host = Some(value);
        } else if is("content-length") {
            self.length = Some(value);
        } else if is("transfer-encoding") {
            self.encoding = Some(value);
        } else if is("connection") || is("proxy-connection") {
            check_connection(value)?;
        } else if is("upgrade") || is("http2-settings") {
            return Err(HeadError::Connection);
        } else if is("expect") && !value.eq_ignore_ascii_case(b"100-continue") {
            return Err(HeadError::Expect);
        }
        Ok(())
    }

    fn judge(self, authority: Option<&str>) -> Result<BodyFraming, HeadError> {
        let host = self.host.and_then(|value| std::str::from_utf8(value).ok());
        let host = host.filter(|value| Host::parse(value).is_some()).ok_or(HeadError::Host)?;
        if authority.is_some_and(|authority| !authority.eq_ignore_ascii_case(host)) {
            return Err(HeadError::Host);
        }
        let body = match (self.length, self.encoding) {
            (None, None) => BodyFraming::Length(0),
            (Some(digits), None) => BodyFraming::Length(length(digits)?),
            (None, Some(value)) if value.eq_ignore_ascii_case(b"chunked") => BodyFraming::Chunked,
            _ => return Err(HeadError::TransferEncoding),
        };
        Ok(body)
    }
}

/// 19 digits always fit 64 bits; a longer number is an attack or an accident.
fn length(digits: &[u8]) -> Result<u64, HeadError> {
    if digits.is_empty() || digits.len() > 19 || !digits.iter().all(u8::is_ascii_digit) {
        return Err(HeadError::Length);
    }
    Ok(digits.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0')))
}

/// A `Connection` that names a field makes the next hop strip it. We route by fields, so only
/// the words that speak of the connection itself pass.
fn check_connection(value: &[u8]) -> Result<(), HeadError> {
    let mut words = value.split(|&b| b == b',').map(<[u8]>::trim_ascii);
    let known = words.all(|word| {
        word.eq_ignore_ascii_case(b"keep-alive") || word.eq_ignore_ascii_case(b"close")
    });
    if known { Ok(()) } else { Err(HeadError::Connection) }
}

/// Starts of names by which backends are spoken to.
const PROTECTED: [&str; 3] = ["bits-", "content-", "proxy-"];

/// Fields that never pass.
const TAKEN_OFF: [&str; 4] = ["connection", "http2-settings", "keep-alive", "upgrade"];

/// Beside the one in [`ONCE`], see [`super::packet::Hidden`].
const OVERRIDES: [&str; 2] = ["x-method-override", "x-http-method"];

/// Some servers turn `_` into `-` when they hand fields to an application. What proxies say of their
/// clients is often spelled so in good faith, and taken off later: see [`super::spoken`].
fn check_imitation(name: &[u8]) -> Result<(), HeadError> {
    let name: Vec<u8> =
        name.iter().map(|&b| if b == b'_' { b'-' } else { b.to_ascii_lowercase() }).collect();
    let protected =
        ONCE.iter().chain(&TAKEN_OFF).chain(&OVERRIDES).any(|known| name == known.as_bytes())
            || PROTECTED.iter().any(|start| name.starts_with(start.as_bytes()));
    if protected { Err(HeadError::Imitation) } else { Ok(()) }
}

fn split_once(bytes: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let index = bytes.iter().position(|&b| b == at)?;
    Some((&bytes[..index], &bytes[index + 1..]))
}

/// A character of a method or field name (RFC 9110 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
#[path = "head_tests.rs"]
mod tests;
