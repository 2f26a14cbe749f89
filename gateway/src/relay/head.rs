//! Heads on their way through: fields keep the spelling and the order in which they came.

use gateway_core::protocol::head::RequestHead;
use gateway_core::protocol::headers::{self, Field, Id, id_of};
use gateway_core::protocol::passage::Edit;
use http::{HeaderName, HeaderValue, response};

/// Edits to a head whose other fields stay as they came.
#[derive(Debug, Default)]
pub struct Edited {
    /// The fields that are taken off: a bit for each number of a field.
    removed: u128,
    /// The names of those without a number.
    removed_names: Vec<HeaderName>,
    /// The first value of a field stands where the field stood.
    added: Vec<(&'static Field, HeaderValue)>,
}

impl Edited {
    /// One more, to be done after those before it.
    pub fn add(&mut self, edit: Edit) {
        match edit {
            Edit::Remove(name) => {
                self.added.retain(|(field, _)| field.name != name);
                match id_of(name.as_str().as_bytes()) {
                    Id::OTHER => self.removed_names.push(name),
                    id => self.removed |= bit(id),
                }
            }
            Edit::Set(field, value) => {
                self.added.retain(|(other, _)| other.id != field.id);
                self.removed |= bit(field.id);
                self.added.push((field, value));
            }
            Edit::Append(field, value) => self.added.push((field, value)),
        }
    }

    fn removes(&self, id: Id, name: &[u8]) -> bool {
        let by_name = |removed: &HeaderName| name.eq_ignore_ascii_case(removed.as_str().as_bytes());
        match id {
            Id::OTHER => self.removed_names.iter().any(by_name),
            id => self.removed & bit(id) != 0,
        }
    }

    /// Writes those of the fields that are left, as `write` writes their lines, and those that were
    /// added.
    fn write<'h>(
        &self,
        fields: impl Iterator<Item = (Id, &'h [u8], &'h [u8])>,
        out: &mut Vec<u8>,
        write: impl Fn(&[u8], &mut Vec<u8>),
    ) {
        let mut written = 0_u64;
        let mut add = |index: usize, out: &mut Vec<u8>| {
            let bit = 1_u64 << index.min(63);
            if written & bit == 0 {
                written |= bit;
                let (field, value) = &self.added[index];
                write_field(out, field.wire.as_bytes(), value.as_bytes());
            }
        };
        for (id, name, line) in fields {
            if !self.removes(id, name) {
                write(line, out);
            } else if let Some(index) = self.added.iter().position(|(field, _)| field.id == id) {
                add(index, out);
            }
        }
        (0..self.added.len()).for_each(|index| add(index, out));
    }
}

fn bit(id: Id) -> u128 {
    1 << (id as u8)
}

/// Writes the head of a request for its server. `target` stands in place of its own.
pub fn write_request(head: &RequestHead, target: Option<&str>, edits: &Edited, out: &mut Vec<u8>) {
    out.extend_from_slice(head.method());
    out.push(b' ');
    out.extend_from_slice(target.map_or(head.target(), str::as_bytes));
    out.extend_from_slice(b" HTTP/1.1\r\n");
    edits.write(head.lines(), out, |line, out| out.extend_from_slice(line));
    out.extend_from_slice(b"\r\n");
}

/// Writes the head of an answer for its client, but for the empty line at its end. `head` is what was
/// read of `raw`, edited. What is said of the connection is left out: that is the writer's to say.
pub fn write_answer(raw: &[u8], head: &response::Parts, edits: &mut Edited, out: &mut Vec<u8>) {
    edits.added.retain(|(field, _)| field.name != headers::CONTENT_LENGTH.name);
    let mut lines = Lines { rest: raw };
    let reason = lines.next().and_then(|line| line.get(13..)).unwrap_or_default();
    write_status(out, head.status, reason);
    let length = &headers::CONTENT_LENGTH;
    let is_ours = |name: &[u8]| {
        name.eq_ignore_ascii_case(b"connection") || name.eq_ignore_ascii_case(b"content-length")
    };
    // A field that goes on in the next line is written from what was read.
    if lines.rest.windows(2).any(|pair| matches!(pair, b"\n " | b"\n\t")) {
        for (name, value) in &head.headers {
            if !is_ours(name.as_str().as_bytes()) {
                write_field(out, name.as_str().as_bytes(), value.as_bytes());
            }
        }
    } else {
        let fields = lines.filter_map(|line| {
            let (name, _) = split(line)?;
            Some((id_of(name), name, line))
        });
        edits.write(fields, out, |line, out| {
            if let Some((name, value)) = split(line).filter(|(name, _)| !is_ours(name)) {
                write_field(out, name, value);
            }
        });
    }
    if let Some(value) = head.headers.get(&length.name) {
        write_field(out, length.wire.as_bytes(), value.as_bytes());
    }
}

/// Writes a status line. A status that its server gave no reason for gets the usual one.
pub fn write_status(out: &mut Vec<u8>, status: http::StatusCode, reason: &[u8]) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    let usual = || status.canonical_reason().unwrap_or_default().as_bytes();
    out.extend_from_slice(if reason.is_empty() { usual() } else { reason });
    out.extend_from_slice(b"\r\n");
}

pub fn write_field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// The lines of a head, without their ends, up to the empty one.
struct Lines<'h> {
    rest: &'h [u8],
}

impl<'h> Iterator for Lines<'h> {
    type Item = &'h [u8];

    fn next(&mut self) -> Option<&'h [u8]> {
        let end = self.rest.iter().position(|&byte| byte == b'\n')?;
        let (line, rest) = self.rest.split_at(end);
        self.rest = &rest[1..];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        (!line.is_empty()).then_some(line)
    }
}

/// Name and value of a field.
fn split(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = line.iter().position(|&byte| byte == b':')?;
    Some((line[..colon].trim_ascii_end(), line[colon + 1..].trim_ascii()))
}

#[cfg(test)]
#[path = "head_tests.rs"]
mod tests;
