//! Which fields pass through the gateway, in each direction, as edits of a head.
//!
//! What a head says of the connection that it came over ends here (RFC 9110 section 7.6.1). A
//! request says to a server what is true of its client, and not what the client says of itself; an
//! answer leads its client nowhere else. Everything else passes as it came.

mod answer;
mod forwarding;
mod request;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::headers::{Field, NAME_LIMIT};

pub use answer::{Recipient, answer};
pub use forwarding::{ForwardedMode, Sender};
pub use request::{Onward, request};

/// One change to the fields of a head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edit {
    /// Takes every field of the name off.
    Remove(HeaderName),
    /// Makes the value the only one of its field.
    Set(&'static Field, HeaderValue),
    /// Adds one more field.
    Append(&'static Field, HeaderValue),
}

impl Edit {
    pub fn apply_to(self, fields: &mut HeaderMap) {
        match self {
            Self::Remove(name) => _ = fields.remove(name),
            Self::Set(field, value) => _ = fields.insert(&field.name, value),
            Self::Append(field, value) => _ = fields.append(&field.name, value),
        }
    }
}

/// `None` for what is no name.
fn in_lower_case<'r>(name: &'r [u8], room: &'r mut [u8; NAME_LIMIT]) -> Option<&'r str> {
    let lower = if name.iter().any(u8::is_ascii_uppercase) {
        let lower = room.get_mut(..name.len())?;
        lower.copy_from_slice(name);
        lower.make_ascii_lowercase();
        lower
    } else {
        name
    };
    std::str::from_utf8(lower).ok()
}

/// Has the fields removed whose name, in lower case, is one of `these`. A field may stand several
/// times; its name comes once.
fn remove<'f>(
    names: impl Iterator<Item = &'f [u8]>,
    these: impl Fn(&str) -> bool,
    edits: &mut Vec<Edit>,
) {
    let mut room = [0; NAME_LIMIT];
    for name in names {
        let Some(lower) = in_lower_case(name, &mut room).filter(|name| these(name)) else {
            continue;
        };
        let known = |edit: &Edit| matches!(edit, Edit::Remove(name) if name == lower);
        if !edits.iter().any(known) {
            edits.extend(HeaderName::from_bytes(name).map(Edit::Remove));
        }
    }
}
