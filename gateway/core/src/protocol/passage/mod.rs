//! Which fields pass through the gateway, in each direction, as edits of a head.
//!
//! What a head says of the connection that it came over ends here (RFC 9110 section 7.6.1). A
//! request says to a server what is true of its client, and not what the client says of itself; an
//! answer leads its client nowhere else. Everything else passes as it came.

mod answer;
mod forwarding;
mod request;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::headers::{Field, Id};

pub use answer::{Recipient, answer, may_say_length};
pub use forwarding::{ForwardedMode, Sender};
pub use request::{Onward, Via, request};

/// One change to the fields of a head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edit {
    /// Takes every field of the name off.
    Drop(HeaderName),
    /// Makes the value the only one of its field.
    Set(&'static Field, HeaderValue),
    /// Adds one more field.
    Append(&'static Field, HeaderValue),
}

impl Edit {
    pub fn apply_to(self, fields: &mut HeaderMap) {
        match self {
            Self::Drop(name) => _ = fields.remove(name),
            Self::Set(field, value) => _ = fields.insert(&field.name, value),
            Self::Append(field, value) => _ = fields.append(&field.name, value),
        }
    }
}

/// Has every field of that name removed. A field may stand several times; its name comes once.
fn remove(id: Id, name: &[u8], edits: &mut Vec<Edit>) {
    let known = id.field().map(|field| field.name.clone());
    let Some(name) = known.or_else(|| HeaderName::from_bytes(name).ok()) else { return };
    let again = |edit: &Edit| matches!(edit, Edit::Drop(other) if *other == name);
    if !edits.iter().any(again) {
        edits.push(Edit::Drop(name));
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;
    use crate::protocol::head::RequestHead;

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
            via: None,
            session: None,
            length: Some(0),
            own_id: true,
        };
        let as_sent = fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        let as_sent = RequestHead::of(b"POST", b"/", as_sent).expect("a head");
        let edits = sorted(request(&as_sent, onward()));
        assert_eq!(edits, sorted(request(&map, onward())));
        assert_eq!(edits.len(), 7, "{edits:?}");
        let to = Recipient { packet: false, chunks: false };
        let edits = sorted(answer(StatusCode::OK, &as_sent, to));
        assert_eq!(edits, sorted(answer(StatusCode::OK, &map, to)));
        assert_eq!(edits.len(), 5, "{edits:?}");
    }
}
