//! Heads on their way through: fields keep the spelling and the order in which they came.

use gateway_core::protocol::Fields;
use gateway_core::protocol::answer::AnswerHead;
use gateway_core::protocol::head::RequestHead;
use gateway_core::protocol::headers::{self, Field, Id, id_of};
use gateway_core::protocol::passage::Edit;
use http::{HeaderName, HeaderValue};
use uuid::Uuid;

/// Edits to a head whose other fields stay as they came.
#[derive(Debug, Default)]
pub struct Edited {
    /// The fields that are taken off: a bit for each number of a field.
    removed: u64,
    /// The names of those without a number.
    removed_names: Vec<HeaderName>,
    /// The first value of a field stands where the field stood.
    added: Vec<(&'static Field, HeaderValue)>,
    /// Stands behind all others, and is no value on the heap: each packet has one.
    request_id: Option<Uuid>,
}

impl Edited {
    /// One more, to be done after those before it.
    pub fn add(&mut self, edit: Edit) {
        match edit {
            Edit::Drop(name) => {
                self.added.retain(|(field, _)| field.name != name);
                match id_of(name.as_str().as_bytes()) {
                    Id::OTHER => self.removed_names.push(name),
                    id => self.removed |= id.bit(),
                }
            }
            Edit::Set(field, value) => {
                self.added.retain(|(other, _)| other.id != field.id);
                self.removed |= field.id.bit();
                self.added.push((field, value));
            }
            Edit::Append(field, value) => self.added.push((field, value)),
        }
    }

    /// The id by which the server finds the request in its log.
    pub fn set_request_id(&mut self, id: Option<Uuid>) {
        self.request_id = id;
    }

    /// Whether no field of that name is left.
    pub fn removes_all(&self, field: &'static Field) -> bool {
        self.removed & field.id.bit() != 0
            && self.added.iter().all(|(added, _)| added.id != field.id)
    }

    fn removes(&self, id: Id, name: &[u8]) -> bool {
        let by_name = |removed: &HeaderName| name.eq_ignore_ascii_case(removed.as_str().as_bytes());
        match id {
            Id::OTHER => self.removed_names.iter().any(by_name),
            id => self.removed & id.bit() != 0,
        }
    }

    /// Writes those of the fields that are left, as `write` writes them, and those that were added. A
    /// field is its number, its name, and what is written of it.
    fn write<'h>(
        &self,
        fields: impl Iterator<Item = (Id, &'h [u8], &'h [u8])>,
        out: &mut Vec<u8>,
        write: impl Fn(&[u8], &[u8], &mut Vec<u8>),
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
        for (id, name, value) in fields {
            if !self.removes(id, name) {
                write(name, value, out);
            } else if let Some(index) = self.added.iter().position(|(field, _)| field.id == id) {
                add(index, out);
            }
        }
        (0..self.added.len()).for_each(|index| add(index, out));
        if let Some(id) = self.request_id {
            let mut text = Uuid::encode_buffer();
            let text = id.as_hyphenated().encode_lower(&mut text);
            write_field(out, headers::REQUEST_ID.wire.as_bytes(), text.as_bytes());
        }
    }
}

/// Writes the head of a request for its server. `target` stands in place of its own.
pub fn write_request(head: &RequestHead, target: Option<&str>, edits: &Edited, out: &mut Vec<u8>) {
    out.extend_from_slice(head.method());
    out.push(b' ');
    out.extend_from_slice(target.map_or(head.target(), str::as_bytes));
    out.extend_from_slice(b" HTTP/1.1\r\n");
    edits.write(head.lines(), out, |_, line, out| out.extend_from_slice(line));
    out.extend_from_slice(b"\r\n");
}

/// Writes the head of an answer for its client, but for the empty line at its end. `length` stands
/// in place of its own. What is said of the connection is left out: that is the writer's to say.
pub fn write_answer(head: &AnswerHead, length: Option<u64>, edits: &mut Edited, out: &mut Vec<u8>) {
    edits.added.retain(|(field, _)| !is_ours(field.id));
    write_status(out, head.status, head.reason());
    let fields = head.all().filter(|(id, ..)| !is_ours(*id));
    edits.write(fields, out, |name, value, out| write_field(out, name, value));
    if let Some(length) = length {
        write_field(out, b"Content-Length", itoa::Buffer::new().format(length).as_bytes());
    }
}

/// Fields of an answer that its writer writes.
fn is_ours(id: Id) -> bool {
    matches!(id, Id::CONNECTION | Id::CONTENT_LENGTH)
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

#[cfg(test)]
#[path = "head_tests.rs"]
mod tests;
