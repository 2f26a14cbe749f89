//! What an answer's bytes mean: head, fields, framing. Nothing ambiguous is accepted.

use super::wire::WireError;

/// How the end of an answer's body was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// By the kind of request or status: no body can follow.
    Bodiless,
    ContentLength,
    Chunked,
    UntilClose,
}

/// One final answer. Bytes of the head are shown as Latin-1, so nothing is lost.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Minor version: 0 for HTTP/1.0, 1 for HTTP/1.1.
    pub minor_version: u8,
    pub status: u16,
    pub reason: String,
    /// In the order and spelling of the wire, values trimmed.
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub framing: Framing,
    /// Statuses of the 1xx answers before this one.
    pub interim: Vec<u16>,
    /// The exact head, status line and final empty line included.
    pub head: String,
}

impl Answer {
    /// The first field of that name, in any case.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields_named(name).next()
    }

    pub fn fields_named<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> + use<'a> {
        let same = |field: &&(String, String)| field.0.eq_ignore_ascii_case(name);
        let values: Vec<_> = self.fields.iter().filter(same).map(|f| &*f.1).collect();
        values.into_iter()
    }

    /// Whether the peer said that no other answer follows on this connection.
    pub fn closes(&self) -> bool {
        let close = |value: &str| {
            value.split(',').any(|option| option.trim().eq_ignore_ascii_case("close"))
        };
        self.minor_version == 0
            || self.framing == Framing::UntilClose
            || self.fields_named("Connection").any(close)
    }

    pub fn body_text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

pub(super) fn parse_head(head: &[u8]) -> Result<Answer, WireError> {
    let text = as_latin1(head);
    let bad = |what: &str| malformed(what, head);
    let mut lines =
        text.strip_suffix("\r\n\r\n").ok_or_else(|| bad("unfinished head"))?.split("\r\n");
    let status_line = lines.next().ok_or_else(|| bad("no status line"))?;
    let (minor_version, status, reason) =
        parse_status_line(status_line).ok_or_else(|| bad("bad status line"))?;
    let fields = lines
        .map(|line| parse_field(line).ok_or_else(|| bad("bad field line")))
        .collect::<Result<_, _>>()?;
    Ok(Answer {
        minor_version,
        status,
        reason,
        fields,
        body: Vec::new(),
        framing: Framing::Bodiless,
        interim: Vec::new(),
        head: text,
    })
}

fn parse_status_line(line: &str) -> Option<(u8, u16, String)> {
    let rest = line.strip_prefix("HTTP/1.")?;
    let minor = match rest.as_bytes().first()? {
        b'0' => 0,
        b'1' => 1,
        _ => return None,
    };
    let rest = rest[1..].strip_prefix(' ')?;
    let digits = rest.get(..3)?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    // The space after the status belongs there even when the reason is empty (RFC 9112 section 4); many leave it out.
    let reason = match &rest[3..] {
        "" => "",
        reason => reason.strip_prefix(' ')?,
    };
    let clean = is_clean(reason);
    clean.then(|| (minor, digits.parse().unwrap_or(0), reason.to_owned()))
}

fn parse_field(line: &str) -> Option<(String, String)> {
    let (name, value) = line.split_once(':')?;
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let valid = !name.is_empty() && name.bytes().all(is_token) && is_clean(value);
    valid.then(|| (name.to_owned(), value.trim_matches([' ', '\t']).to_owned()))
}

/// No control character but tab; a bare CR or LF in particular.
fn is_clean(value: &str) -> bool {
    value.chars().all(|c| c == '\t' || (c >= ' ' && c != '\u{7f}'))
}

/// RFC 9112 section 6.3, without its leniency.
pub(super) fn framing(answer: &Answer, to_head: bool) -> Result<Framing, WireError> {
    let bad = |what: &str| malformed(what, answer.head.as_bytes());
    let codings: Vec<_> = answer.fields_named("Transfer-Encoding").collect();
    let length = content_length(answer)?;
    if !codings.is_empty() && length.is_some() {
        return Err(bad("Transfer-Encoding and Content-Length together"));
    }
    if to_head || matches!(answer.status, 101 | 204 | 304) {
        return Ok(Framing::Bodiless);
    }
    match (&codings[..], length) {
        ([], Some(_)) => Ok(Framing::ContentLength),
        ([], None) => Ok(Framing::UntilClose),
        ([coding], _) if coding.eq_ignore_ascii_case("chunked") => Ok(Framing::Chunked),
        _ => Err(bad("unknown Transfer-Encoding")),
    }
}

pub(super) fn content_length(answer: &Answer) -> Result<Option<u64>, WireError> {
    let bad = |what: &str| malformed(what, answer.head.as_bytes());
    let mut values = answer.fields_named("Content-Length");
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(bad("several Content-Length fields"));
    }
    let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    let length = value.parse().ok().filter(|_| digits);
    length.map(Some).ok_or_else(|| bad("bad Content-Length value"))
}

pub(super) fn malformed(what: &str, got: &[u8]) -> WireError {
    WireError::Malformed { what: what.to_owned(), got: excerpt(got) }
}

pub(super) fn excerpt(bytes: &[u8]) -> String {
    as_latin1(&bytes[..bytes.len().min(400)])
}

pub(super) fn as_latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| char::from(byte)).collect()
}
