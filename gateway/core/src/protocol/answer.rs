//! The head of a backend's answer, read from its bytes.
//!
//! Servers differ, and a gateway that refused their habits would break uploads. So what RFC 9112 lets a
//! recipient read is read: a line feed alone at the end of a line, white space before a colon, a
//! folded line, a status line without a reason, one length said twice. What is read is written
//! anew for the client, so no habit travels on.
//!
//! What two readers could end in two places is refused, since what stands behind the first end
//! might be taken for the next answer.

use http::{StatusCode, Version};
use memchr::memchr;

use super::Fields;
use super::field::trim;
use super::head::{HeadLimits, OneField, Places, is_token};
use super::headers::{self, FIELD_LIMIT, Field, Id, NAME_LIMIT, id_of};

/// The head of an answer: its bytes, and where its parts stand in them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnswerHead {
    pub version: Version,
    pub status: StatusCode,
    /// What its `Content-Length` says, also where that says nothing of a body.
    pub length: Option<u64>,
    bytes: Vec<u8>,
    /// Where the first line ends.
    line_end: usize,
    fields: Places,
}

impl AnswerHead {
    /// A head of these parts, which a library has read. `None` if they make no head.
    pub fn of<'p>(
        version: Version,
        status: StatusCode,
        fields: impl IntoIterator<Item = (&'p [u8], &'p [u8])>,
    ) -> Option<Self> {
        let version = if version < Version::HTTP_11 { "HTTP/1.0" } else { "HTTP/1.1" };
        let mut bytes = format!("{version} {}\r\n", status.as_str()).into_bytes();
        for (name, value) in fields {
            for part in [name, b": ", value, b"\r\n"] {
                bytes.extend_from_slice(part);
            }
        }
        bytes.extend_from_slice(b"\r\n");
        read_parts(&bytes, &NO_LIMITS).ok().flatten().map(|(head, _)| head)
    }

    /// What its server calls the status; mostly the usual words, or nothing.
    pub fn reason(&self) -> &[u8] {
        self.bytes.get(REASON..self.line_end).unwrap_or_default()
    }
}

impl Fields for AnswerHead {
    fn all(&self) -> impl Iterator<Item = (Id, &[u8], &[u8])> {
        self.fields.all(&self.bytes)
    }

    fn values<'f>(&'f self, field: &'static Field) -> impl DoubleEndedIterator<Item = &'f [u8]> {
        self.fields.values(&self.bytes, field)
    }
}

/// Where the reason stands in a first line.
const REASON: usize = 13;

const NO_LIMITS: HeadLimits =
    HeadLimits { head_bytes: usize::MAX, line_bytes: usize::MAX, fields: usize::MAX };

/// A head that was read.
#[derive(Debug)]
pub struct Answer {
    pub head: AnswerHead,
    /// What follows the head of an answer to a request other than HEAD.
    pub body: AnswerBody,
    /// Bytes of the head, with the empty line at its end.
    pub length: usize,
}

impl Answer {
    /// Becomes the answer that `bytes` begin with, where that repeats this one: the Acks of an upload
    /// differ in nothing but the offset and the time of day. False leaves it as it is.
    ///
    /// An answer in which digits stand for digits there is read as this one was.
    pub fn repeat(&mut self, bytes: &[u8]) -> bool {
        const NUMBERED: u64 = Id::RECEIVED_CONTENT_RANGE.bit() | Id::DATE.bit();
        let Some(bytes) = bytes.get(..self.length) else { return false };
        let AnswerHead { bytes: before, fields, .. } = &mut self.head;
        let repeats = fields.is_repeated(before, bytes, NUMBERED);
        if repeats {
            before.copy_from_slice(bytes);
        }
        repeats
    }
}

/// How the end of an answer is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnswerBody {
    /// So many bytes follow.
    Length(u64),
    Chunked,
    /// It ends with the connection.
    UntilClose,
}

/// Why a head is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    #[error("the answer does not begin with a status line of HTTP/1.1 or HTTP/1.0")]
    StatusLine,
    #[error("the status is not between 100 and 599")]
    Status,
    #[error("a field is not `name: value`")]
    Field,
    #[error("the head is larger than it may be")]
    TooLarge,
    #[error("two lengths, two codings, or a length that is no number")]
    Framing,
}

/// Reads the head that `bytes` begin with. `None` while its end is not there.
///
/// Of the limits, that of a request line does not count.
///
/// # Errors
/// A head that is none, is too large, or whose end is not certain. More bytes change nothing.
///
/// # Source
/// RFC 9112 sections 2.2, 4, 5 and 6, RFC 9110 section 8.6.
pub fn read_answer(bytes: &[u8], limits: &HeadLimits) -> Result<Option<Answer>, AnswerError> {
    // Another protocol speaks, or a body is longer than its head said: no reason to wait.
    const START: &[u8] = b"HTTP/1.";
    let begun = bytes.len().min(START.len());
    if bytes[..begun] != START[..begun] {
        return Err(AnswerError::StatusLine);
    }
    let Some((mut head, length)) = read_parts(bytes, limits)? else {
        let too_large = bytes.len() > limits.head_bytes;
        return if too_large { Err(AnswerError::TooLarge) } else { Ok(None) };
    };
    let body = framing(&mut head)?;
    Ok(Some(Answer { head, body, length }))
}

/// Reads a head, and how many bytes it has. Its framing is not looked at.
fn read_parts(
    bytes: &[u8],
    limits: &HeadLimits,
) -> Result<Option<(AnswerHead, usize)>, AnswerError> {
    let mut lines = Lines { bytes, at: 0 };
    let Some((start, line_end)) = lines.next() else { return Ok(None) };
    let (version, status) = read_status_line(&bytes[start..line_end])?;
    let mut fields = Places::new();
    // The last field may go on in the next line, so it is not looked at yet.
    let mut last: Option<OneField<'_>> = None;
    let mut folded = false;
    loop {
        let Some((start, end)) = lines.next() else { return Ok(None) };
        let text = &bytes[start..end];
        if let Some(b' ' | b'\t') = text.first() {
            // White space alone between the head and its first field is no field of this head.
            let before = last.as_ref().ok_or(AnswerError::Field)?;
            // A reader that knows no folding finds another length.
            if matches!(before.id, Id::CONTENT_LENGTH | Id::TRANSFER_ENCODING) {
                return Err(AnswerError::Framing);
            }
            folded = true;
            continue;
        }
        if let Some(field) = last.take() {
            if field.value.iter().fold(false, |control, &byte| control | is_control(byte)) {
                return Err(AnswerError::Field);
            }
            fields.push(&field);
        }
        if fields.len() >= limits.fields && !text.is_empty() {
            return Err(AnswerError::TooLarge);
        }
        if text.is_empty() {
            break;
        }
        last = Some(read_field(text, start, lines.at)?);
    }
    if lines.at > limits.head_bytes {
        return Err(AnswerError::TooLarge);
    }
    if folded {
        let unfolded = unfold(&bytes[..lines.at]);
        let read = read_parts(&unfolded, &NO_LIMITS)?;
        return Ok(read.map(|(head, _)| (head, lines.at)));
    }
    let bytes = bytes[..lines.at].to_vec();
    let head = AnswerHead { version, status, length: None, bytes, line_end, fields };
    Ok(Some((head, lines.at)))
}

/// `HTTP/1.1 200 OK`, `HTTP/1.1 200 `, `HTTP/1.1 200`.
fn read_status_line(line: &[u8]) -> Result<(Version, StatusCode), AnswerError> {
    let (version, rest) = line.split_at_checked(9).ok_or(AnswerError::StatusLine)?;
    let version = match version {
        b"HTTP/1.1 " => Version::HTTP_11,
        b"HTTP/1.0 " => Version::HTTP_10,
        _ => return Err(AnswerError::StatusLine),
    };
    let (code, reason) = rest.split_at_checked(3).ok_or(AnswerError::StatusLine)?;
    if !matches!(reason, [] | [b' ', ..]) || reason.iter().copied().any(is_control) {
        return Err(AnswerError::StatusLine);
    }
    if !code.iter().all(u8::is_ascii_digit) {
        return Err(AnswerError::StatusLine);
    }
    let status = StatusCode::from_bytes(code).map_err(|_| AnswerError::Status)?;
    if status.as_u16() >= 600 { Err(AnswerError::Status) } else { Ok((version, status)) }
}

/// Reads a line that starts at `start`; `end` is behind it.
fn read_field(line: &[u8], start: usize, end: usize) -> Result<OneField<'_>, AnswerError> {
    let colon = memchr(b':', line).ok_or(AnswerError::Field)?;
    let (name, value) = (trim(&line[..colon]), trim(&line[colon + 1..]));
    let id = id_of(name);
    if id == Id::OTHER && (name.is_empty() || !name.iter().all(|&b| is_token(b))) {
        return Err(AnswerError::Field);
    }
    if name.len() > NAME_LIMIT || value.len() > FIELD_LIMIT {
        return Err(AnswerError::TooLarge);
    }
    let space = line[colon + 1..].iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    let value_start = start + colon + 1 + space;
    Ok(OneField { id, name, value, start, value_start, end })
}

/// Writes a head anew whose fields go on in the next line. A proxy replaces the fold by a space.
fn unfold(head: &[u8]) -> Vec<u8> {
    let mut lines = Lines { bytes: head, at: 0 };
    let mut unfolded = Vec::with_capacity(head.len() + 16);
    // Where the value of the last field begins.
    let mut value = 0;
    while let Some((start, end)) = lines.next() {
        let text = &head[start..end];
        let goes_on = matches!(text.first(), Some(b' ' | b'\t'));
        let text = if goes_on { trim(text) } else { text };
        if goes_on {
            // Behind what stands there, less the end of its line.
            unfolded.truncate(unfolded.len() - 2);
            while let Some(b' ' | b'\t') = unfolded.last() {
                unfolded.pop();
            }
            unfolded.extend((unfolded.len() > value && !text.is_empty()).then_some(b' '));
        }
        let begins = unfolded.len();
        unfolded.extend_from_slice(text);
        if !goes_on {
            value = begins + memchr(b':', text).map_or(text.len(), |colon| colon + 1);
        }
        unfolded.extend_from_slice(b"\r\n");
    }
    unfolded
}

/// Settles where the answer ends.
fn framing(head: &mut AnswerHead) -> Result<AnswerBody, AnswerError> {
    let AnswerHead { version, status, .. } = *head;
    let bodyless = status.is_informational() || status == StatusCode::NO_CONTENT;
    let length = read_length(head)?;
    let mut codings = head.values(&headers::TRANSFER_ENCODING);
    if let Some(coding) = codings.next() {
        let chunked = coding.eq_ignore_ascii_case(b"chunked") && codings.next().is_none();
        let clear = chunked && length.is_none() && !bodyless && version == Version::HTTP_11;
        return if clear { Ok(AnswerBody::Chunked) } else { Err(AnswerError::Framing) };
    }
    drop(codings);
    head.length = length;
    match length {
        // One reader goes by the status, another by the length, and would take the next head for
        // content.
        Some(1..) if status.is_informational() => Err(AnswerError::Framing),
        _ if bodyless || status == StatusCode::NOT_MODIFIED => Ok(AnswerBody::Length(0)),
        Some(length) => Ok(AnswerBody::Length(length)),
        None => Ok(AnswerBody::UntilClose),
    }
}

/// One number, however often it is said, over fields or in a list.
fn read_length(fields: &impl Fields) -> Result<Option<u64>, AnswerError> {
    let values = fields.values(&headers::CONTENT_LENGTH);
    let mut length = None;
    for text in values.flat_map(|value| value.split(|&b| b == b',')) {
        let number = read_number(trim(text)).ok_or(AnswerError::Framing)?;
        if length.replace(number).is_some_and(|other| other != number) {
            return Err(AnswerError::Framing);
        }
    }
    Ok(length)
}

/// 19 digits always fit 64 bits.
fn read_number(digits: &[u8]) -> Option<u64> {
    let legal = (1..=19).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    legal.then(|| digits.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0')))
}

fn is_control(byte: u8) -> bool {
    (byte < 0x20 && byte != b'\t') || byte == 0x7f
}

/// Lines up to a line feed, with or without a carriage return before it.
struct Lines<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Lines<'_> {
    /// Where the next line starts and ends, without its end. `None` if it has no end yet.
    fn next(&mut self) -> Option<(usize, usize)> {
        let rest = &self.bytes[self.at..];
        let length = memchr(b'\n', rest)?;
        let start = self.at;
        self.at += length + 1;
        let text = length - usize::from(rest[..length].ends_with(b"\r"));
        Some((start, start + text))
    }
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
