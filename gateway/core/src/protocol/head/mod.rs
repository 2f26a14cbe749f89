//! The strict check of a request head, on its bytes, before anything else reads them.
//!
//! Two programs that read one message differently are the root of request smuggling, so what two
//! programs could read in two ways is refused. What is merely odd passes, less what is for the next
//! hop only ([`HeadEdits`]). The check runs on the bytes of the connection: an HTTP library has by
//! then already forgiven what matters here, such as bare line feeds.

use std::collections::HashSet;
use std::sync::LazyLock;

use memchr::memchr;
use memchr::memmem::Finder;

use super::headers::{BITS_POST, FIELD_LIMIT, Id, NAME_LIMIT, id_of};

mod edits;
mod fields;
mod hop_by_hop;
mod line;
mod places;
mod request;

pub use edits::HeadEdits;
use fields::{Fields, Passage};
pub(super) use hop_by_hop::is_for_the_next_hop;
use line::RequestLine;
pub use line::strip_scheme;
pub use places::Places;
pub use request::{HeadIndex, RequestHead};

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

/// What an operator allows beyond what is always legal.
#[derive(Debug, Clone, Copy, Default)]
pub struct HeadPolicy<'p> {
    /// The names that requests may be for, as [`Host::with_key`](super::host::Host::with_key) writes them. `None`: any.
    pub hosts: Option<&'p HashSet<String>>,
    /// Bytes beyond ASCII in a path are escaped. Otherwise the head is refused.
    pub escape_path: bool,
}

/// What a legal head says about the message it opens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeadFacts {
    pub body: BodyFraming,
    /// What is changed before the head is passed on: servers get HTTP/1.1, one host and no field
    /// that is for the next hop only.
    pub edits: HeadEdits,
    /// The client speaks HTTP/1.0: it knows neither chunks nor 1xx answers, and its connection ends
    /// with the answer.
    pub http10: bool,
    /// Where the parts of the head stand, before it is changed.
    pub index: HeadIndex,
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
    #[error("the request line is not `method target version`")]
    RequestLine,
    #[error("the request line is too long")]
    LineTooLong,
    #[error("the method is not served here")]
    Method,
    #[error("the request target is neither a path nor an absolute http URL of legal characters")]
    Target,
    #[error("the request target has bytes beyond ASCII")]
    RawTarget,
    #[error("the request is neither HTTP/1.1 nor HTTP/1.0")]
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
    #[error("Host is missing or not a host")]
    Host,
    #[error("Host and the request target name two hosts")]
    TwoHosts,
    #[error("Content-Length is not 1 to 19 digits")]
    Length,
    #[error(
        "Transfer-Encoding is not `chunked` alone, stands beside Content-Length, or in HTTP/1.0"
    )]
    TransferEncoding,
    #[error("Connection names a field by which the request is framed, routed or identified")]
    Connection,
    #[error("the expectation is not 100-continue")]
    Expect,
}

impl HeadError {
    /// The name of the rule, for logs.
    pub fn label(self) -> &'static str {
        match self {
            Self::RequestLine => "request_line",
            Self::LineTooLong => "line_too_long",
            Self::Method => "method",
            Self::Target => "target",
            Self::RawTarget => "raw_target",
            Self::Version => "version",
            Self::Line => "line_end",
            Self::Field => "field",
            Self::TooManyFields => "too_many_fields",
            Self::TooLong => "head_too_long",
            Self::NameTooLong => "name_too_long",
            Self::ValueTooLong => "value_too_long",
            Self::Repeated => "repeated_field",
            Self::Imitation => "imitated_field",
            Self::Host => "host",
            Self::TwoHosts => "two_hosts",
            Self::Length => "content_length",
            Self::TransferEncoding => "transfer_encoding",
            Self::Connection => "connection",
            Self::Expect => "expect",
        }
    }

    /// The setting that would let such a request pass, as it is written in the configuration.
    pub fn remedy(self) -> Option<&'static str> {
        match self {
            Self::LineTooLong => Some("a larger limits.line"),
            Self::TooManyFields => Some("a larger limits.fields"),
            Self::TooLong => Some("a larger limits.head"),
            Self::RawTarget => Some("http.raw_path = \"escape\""),
            Self::TwoHosts => Some("both names in http.hosts"),
            _ => None,
        }
    }
}

/// Position after the empty line that ends a head, if it is there.
///
/// `from` is where the search may start: what was searched before, less the three bytes that a
/// terminator may straddle.
pub fn end_of_head(bytes: &[u8], from: usize) -> Option<usize> {
    static END: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\r\n\r\n"));
    let start = from.saturating_sub(3).min(bytes.len());
    END.find(&bytes[start..]).map(|end| start + end + 4)
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
    RequestLine::read(&bytes[..end], limits).err()
}

/// Checks a whole head: everything up to and with the empty line.
///
/// # Source
/// RFC 9112 sections 2 to 6 and 9.6, made stricter where receivers are known to differ.
pub fn check_head(
    head: &[u8],
    limits: &HeadLimits,
    policy: &HeadPolicy<'_>,
) -> Result<HeadFacts, HeadError> {
    if head.len() > limits.head_bytes {
        return Err(HeadError::TooLong);
    }
    let mut lines = Lines::of(head);
    let (line, _) = lines.next()?;
    let line = RequestLine::read(line, limits)?;
    let mut index = HeadIndex::of_line(line.method(), line.target());
    let mut edits = HeadEdits::default();
    line.check_target(policy, &mut edits)?;
    let mut fields = Fields::default();
    let mut count = 0;
    loop {
        let (text, start) = lines.next()?;
        if text.is_empty() {
            break;
        }
        count += 1;
        if count > limits.fields {
            return Err(HeadError::TooManyFields);
        }
        let field = OneField::read(text, start, lines.at)?;
        if fields.take(&field, line.http10)? == Passage::Drop {
            edits.cut((start, lines.at));
        }
        index.push(&field);
    }
    if lines.at != head.len() {
        return Err(HeadError::Line);
    }
    if fields.names_others() {
        take_off(head, &fields, &mut edits)?;
    }
    let body = fields.framing(line.http10)?;
    let host = fields.host(&line, policy, &mut edits)?;
    line.say_anew(host, fields.close_was_cut, &mut edits);
    Ok(HeadFacts { body, edits, http10: line.http10, index })
}

/// Cuts the fields that `Connection` names.
fn take_off(head: &[u8], fields: &Fields<'_>, edits: &mut HeadEdits) -> Result<(), HeadError> {
    let mut lines = Lines { head, at: 0, clean: true };
    lines.next()?;
    loop {
        let (text, start) = lines.next()?;
        if text.is_empty() {
            return Ok(());
        }
        let OneField { name, .. } = OneField::read(text, start, lines.at)?;
        if fields.is_named(name) && !edits.touches((start, lines.at)) {
            edits.cut((start, lines.at));
        }
    }
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

/// Whether bytes that may be no legal head have that field, whatever its value.
pub fn has_field(head: &[u8], name: &str) -> bool {
    let mut lines = head.split(|&b| b == b'\n').skip(1).filter_map(|line| split_once(line, b':'));
    lines.any(|(field, _)| field.eq_ignore_ascii_case(name.as_bytes()))
}

/// Whether a head holds no control character but tabs and whole ends of lines, looked at as a whole:
/// faster than line by line.
fn is_clean(head: &[u8]) -> bool {
    let Some((&first, rest)) = head.split_first() else { return true };
    let plain = |byte: u8| !is_control(byte) | matches!(byte, b'\r' | b'\n');
    let clean = head.iter().zip(rest).fold(true, |clean, (&one, &next)| {
        clean & plain(next) & ((one == b'\r') == (next == b'\n'))
    });
    clean && plain(first) && first != b'\n' && head.last() != Some(&b'\r')
}

/// A bare CR or LF, NUL and the rest: one reader's white space is another's line end.
fn is_control(byte: u8) -> bool {
    (byte < 0x20 && byte != b'\t') || byte == 0x7f
}

struct Lines<'h> {
    head: &'h [u8],
    at: usize,
    /// [`is_clean`] holds.
    clean: bool,
}

impl<'h> Lines<'h> {
    fn of(head: &'h [u8]) -> Self {
        Self { head, at: 0, clean: is_clean(head) }
    }

    /// The next line without its end, and where it starts.
    fn next(&mut self) -> Result<(&'h [u8], usize), HeadError> {
        let start = self.at;
        let rest = &self.head[start..];
        let end = match self.clean {
            true => memchr(b'\r', rest),
            false => rest.windows(2).position(|window| window == b"\r\n"),
        };
        let end = end.ok_or(HeadError::Line)?;
        let line = &rest[..end];
        self.at = start + end + 2;
        let broken = !self.clean && line.iter().any(|&byte| is_control(byte));
        if broken { Err(HeadError::Line) } else { Ok((line, start)) }
    }
}

/// A field and where it stands.
pub(super) struct OneField<'h> {
    pub id: Id,
    pub name: &'h [u8],
    /// Without the white space around it.
    pub value: &'h [u8],
    pub start: usize,
    pub value_start: usize,
    /// Behind the end of its line.
    pub end: usize,
}

impl<'h> OneField<'h> {
    /// Reads a line that starts at `start`.
    #[inline]
    fn read(line: &'h [u8], start: usize, end: usize) -> Result<Self, HeadError> {
        // A line that starts with white space continues the one before (obsolete folding), and white
        // space before the colon hides a name: both fail the token test.
        let (name, behind) = split_once(line, b':').ok_or(HeadError::Field)?;
        let id = id_of(name);
        if id == Id::OTHER && (name.is_empty() || !name.iter().all(|&b| is_token(b))) {
            return Err(HeadError::Field);
        }
        let value = behind.trim_ascii_start();
        let value_start = start + line.len() - value.len();
        let value = value.trim_ascii_end();
        match (name.len(), value.len()) {
            (name, _) if name > NAME_LIMIT => Err(HeadError::NameTooLong),
            (_, value) if value > FIELD_LIMIT => Err(HeadError::ValueTooLong),
            _ => Ok(Self { id, name, value, start, value_start, end }),
        }
    }
}

fn split_once(bytes: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let index = memchr(at, bytes)?;
    Some((&bytes[..index], &bytes[index + 1..]))
}

/// A character of a method or field name (RFC 9110 5.6.2).
pub(super) const fn is_token(byte: u8) -> bool {
    TOKEN[byte as usize]
}

const TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        let mark = matches!(
            byte,
            b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
        );
        table[byte as usize] = mark || byte.is_ascii_alphanumeric();
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests;
