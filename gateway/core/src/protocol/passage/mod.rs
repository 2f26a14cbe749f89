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

/// `None` for what is no name. No head that was checked has a longer one.
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

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;
    use crate::protocol::Fields;

    /// A head whose names stand as they were sent.
    struct AsSent<'h>(&'h [(&'h str, &'h str)]);

    impl Fields for AsSent<'_> {
        fn all(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
            self.0.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()))
        }

        fn values<'f>(&'f self, field: &'static Field) -> impl Iterator<Item = &'f [u8]> {
            let of = |(name, _): &&(&str, &str)| name.eq_ignore_ascii_case(field.wire);
            self.0.iter().filter(of).map(|(_, value)| value.as_bytes())
        }
    }

    #[test]
    fn names_count_without_regard_to_case() {
        let fields = [
            ("X-Forwarded-For", "192.0.2.1"),
            ("x_REAL_ip", "192.0.2.1"),
            ("Bits-ERROR", "0x1"),
            ("EXPECT", "100-continue"),
            ("CONTENT-length", "5"),
            ("Content-Length", "5"),
            ("Connection", "X-Own"),
            ("x-OWN", "1"),
            ("KEEP-Alive", "5"),
            ("TRANSFER-Encoding", "chunked"),
            ("BITS-host-ID", "x"),
            ("Via", "1.1 x"),
        ];
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(HeaderName::try_from(name).unwrap(), HeaderValue::from_static(value));
        }
        let sorted = |mut edits: Vec<Edit>| {
            edits.sort_by_key(|edit| format!("{edit:?}"));
            edits
        };
        let onward = || Onward {
            forwarded: ForwardedMode::Off,
            sender: None,
            host: None,
            loop_entry: None,
            session: None,
            empty_packet: true,
        };
        let edits = sorted(request(&AsSent(&fields), onward()));
        assert_eq!(edits, sorted(request(&map, onward())));
        assert_eq!(edits.len(), 7, "{edits:?}");
        let to = Recipient { packet: false, chunks: false };
        let edits = sorted(answer(StatusCode::OK, &AsSent(&fields), to));
        assert_eq!(edits, sorted(answer(StatusCode::OK, &map, to)));
        assert_eq!(edits.len(), 5, "{edits:?}");
    }
}
