//! The head of a backend's answer, read from its bytes.
//!
//! Servers differ, and a gateway that refused their habits would break uploads. So what RFC 9112 lets a
//! recipient read is read: a line feed alone at the end of a line, white space before a colon, a
//! folded line, a status line without a reason, one length said twice. What is read is written
//! anew for the client, so no habit travels on.
//!
//! What two readers could end in two places is refused, since what stands behind the first end
//! might be taken for the next answer.

use std::ops::Range;

use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, Version, response};

use super::head::{HeadLimits, is_token};
use super::headers::{self, FIELD_LIMIT, NAME_LIMIT};

/// A head that was read.
#[derive(Debug)]
pub struct Answer {
    pub head: response::Parts,
    /// What follows the head of an answer to a request other than HEAD.
    pub body: AnswerBody,
    /// Bytes of the head, with the empty line at its end.
    pub length: usize,
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
    let mut lines = Lines { bytes, at: 0 };
    // Another protocol speaks, or a body is longer than its head said: no reason to wait.
    const START: &[u8] = b"HTTP/1.";
    let begun = bytes.len().min(START.len());
    if bytes[..begun] != START[..begun] {
        return Err(AnswerError::StatusLine);
    }
    let partial =
        || if bytes.len() > limits.head_bytes { Err(AnswerError::TooLarge) } else { Ok(None) };
    let Some(line) = lines.next() else { return partial() };
    let (version, status) = read_status_line(&bytes[line])?;
    let mut fields = HeaderMap::new();
    let mut unread: Option<RawField> = None;
    loop {
        let Some(line) = lines.next() else { return partial() };
        let text = &bytes[line.clone()];
        if let Some(b' ' | b'\t') = text.first() {
            // White space alone between the head and its first field is no field of this head.
            unread.as_mut().ok_or(AnswerError::Field)?.fold(text)?;
            continue;
        }
        if let Some(field) = unread.take() {
            field.add_to(&mut fields)?;
        }
        if fields.len() >= limits.fields && !text.is_empty() {
            return Err(AnswerError::TooLarge);
        }
        if text.is_empty() {
            break;
        }
        unread = Some(RawField::read(text)?);
    }
    if lines.at > limits.head_bytes {
        return Err(AnswerError::TooLarge);
    }
    let body = framing(version, status, &mut fields)?;
    let mut head = Response::new(()).into_parts().0;
    (head.version, head.status, head.headers) = (version, status, fields);
    Ok(Some(Answer { head, body, length: lines.at }))
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

/// A field whose value may go on in the next line.
struct RawField {
    name: HeaderName,
    value: Vec<u8>,
    folded: bool,
}

impl RawField {
    fn read(line: &[u8]) -> Result<Self, AnswerError> {
        let colon = line.iter().position(|&b| b == b':').ok_or(AnswerError::Field)?;
        let (name, value) = (trim(&line[..colon]), trim(&line[colon + 1..]));
        if name.is_empty() || !name.iter().all(|&b| is_token(b)) {
            return Err(AnswerError::Field);
        }
        if name.len() > NAME_LIMIT || value.len() > FIELD_LIMIT {
            return Err(AnswerError::TooLarge);
        }
        let name = HeaderName::from_bytes(name).map_err(|_| AnswerError::Field)?;
        Ok(Self { name, value: value.to_vec(), folded: false })
    }

    /// A proxy replaces the fold by a space.
    fn fold(&mut self, line: &[u8]) -> Result<(), AnswerError> {
        let more = trim(line);
        self.folded = true;
        if !more.is_empty() {
            if !self.value.is_empty() {
                self.value.push(b' ');
            }
            self.value.extend_from_slice(more);
        }
        if self.value.len() > FIELD_LIMIT { Err(AnswerError::TooLarge) } else { Ok(()) }
    }

    fn add_to(self, fields: &mut HeaderMap) -> Result<(), AnswerError> {
        let frames = [&headers::CONTENT_LENGTH, &headers::TRANSFER_ENCODING];
        // A reader that knows no folding finds another length.
        if self.folded && frames.iter().any(|field| field.name == self.name) {
            return Err(AnswerError::Framing);
        }
        // Control characters, a carriage return among them.
        let value = HeaderValue::from_bytes(&self.value).map_err(|_| AnswerError::Field)?;
        fields.append(self.name, value);
        Ok(())
    }
}

/// Settles where the answer ends, and leaves one length of several equal ones.
fn framing(
    version: Version,
    status: StatusCode,
    fields: &mut HeaderMap,
) -> Result<AnswerBody, AnswerError> {
    let bodyless = status.is_informational() || status == StatusCode::NO_CONTENT;
    let length = read_length(fields)?;
    let mut codings = fields.get_all(&headers::TRANSFER_ENCODING.name).iter();
    if let Some(coding) = codings.next() {
        let chunked =
            coding.as_bytes().eq_ignore_ascii_case(b"chunked") && codings.next().is_none();
        let clear = chunked && length.is_none() && !bodyless && version == Version::HTTP_11;
        return if clear { Ok(AnswerBody::Chunked) } else { Err(AnswerError::Framing) };
    }
    if let Some(length) = length {
        fields.insert(headers::CONTENT_LENGTH.name.clone(), length.into());
    }
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
fn read_length(fields: &HeaderMap) -> Result<Option<u64>, AnswerError> {
    let values = fields.get_all(&headers::CONTENT_LENGTH.name).iter();
    let mut length = None;
    for text in values.flat_map(|value| value.as_bytes().split(|&b| b == b',')) {
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

/// Less the spaces and tabs around it.
fn trim(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
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
    /// Where the next line stands, without its end. `None` if it has no end yet.
    fn next(&mut self) -> Option<Range<usize>> {
        let rest = &self.bytes[self.at..];
        let length = rest.iter().position(|&b| b == b'\n')?;
        let start = self.at;
        self.at += length + 1;
        let text = length - usize::from(rest[..length].ends_with(b"\r"));
        Some(start..start + text)
    }
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
