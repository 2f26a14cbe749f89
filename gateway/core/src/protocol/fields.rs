//! The fields of a head, wherever they are kept.

use http::HeaderMap;

use super::field::{Repeated, trim};
use super::headers::{self, Field, Id, id_of};

/// A head whose fields can be looked up. Names compare without regard to case.
pub trait Fields {
    /// Every field: its number, its name, and its value.
    fn all(&self) -> impl Iterator<Item = (Id, &[u8], &[u8])>;

    /// The values of one field, in the order in which they stand.
    fn values<'f>(&'f self, field: &'static Field) -> impl DoubleEndedIterator<Item = &'f [u8]>;

    fn has(&self, field: &'static Field) -> bool {
        self.values(field).next().is_some()
    }

    /// The one value of a field, or `None`.
    ///
    /// # Errors
    /// The field stands twice.
    fn single<'f>(&'f self, field: &'static Field) -> Result<Option<&'f [u8]>, Repeated> {
        let mut values = self.values(field);
        let first = values.next();
        if values.next().is_some() { Err(Repeated(field)) } else { Ok(first) }
    }

    /// Whether `Connection` has that word.
    fn says(&self, word: &str) -> bool {
        let values = self.values(&headers::CONNECTION);
        let mut words = values.flat_map(|value| value.split(|&byte| byte == b','));
        words.any(|found| found.trim_ascii().eq_ignore_ascii_case(word.as_bytes()))
    }

    /// The first value of a field as text; see [`text`].
    ///
    /// For answers of backends, where a repeated field is their oddity and not worth a failed upload.
    fn text<'f>(&'f self, field: &'static Field) -> Option<&'f str> {
        self.values(field).next().and_then(text)
    }
}

impl Fields for HeaderMap {
    fn all(&self) -> impl Iterator<Item = (Id, &[u8], &[u8])> {
        self.iter().map(|(name, value)| {
            let name = name.as_str().as_bytes();
            (id_of(name), name, value.as_bytes())
        })
    }

    fn values<'f>(&'f self, field: &'static Field) -> impl DoubleEndedIterator<Item = &'f [u8]> {
        self.get_all(&field.name).iter().map(http::HeaderValue::as_bytes)
    }
}

/// A value without the spaces around it. `None` where it holds bytes outside visible ASCII, space
/// and tab.
pub fn text(value: &[u8]) -> Option<&str> {
    let visible = |byte: u8| (b' '..=b'~').contains(&byte) | (byte == b'\t');
    // All of them, since that is faster than to stop at the first.
    let seen = value.iter().fold(true, |seen, &byte| seen & visible(byte));
    let text = seen.then(|| std::str::from_utf8(trim(value)).ok());
    text.flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::headers;

    #[test]
    fn a_value_is_text_if_it_can_be_seen() {
        for (value, expected) in [
            (&b""[..], Some("")),
            (b" \tAck\t ", Some("Ack")),
            (b"a\tb ~", Some("a\tb ~")),
            (b"\xe9", None),
            (b"a\x7f", None),
            (b"a\x00", None),
        ] {
            assert_eq!(text(value), expected, "{value:?}");
        }
    }

    #[test]
    fn a_field_that_must_stand_once_is_not_read_from_two() {
        let mut fields = HeaderMap::new();
        assert_eq!(fields.single(&headers::SESSION_ID), Ok(None));
        assert!(!fields.has(&headers::SESSION_ID));
        for (value, expected) in
            [("a", Ok(Some(&b"a"[..]))), ("b", Err(Repeated(&headers::SESSION_ID)))]
        {
            fields.append(&headers::SESSION_ID.name, value.parse().expect("a legal value"));
            assert_eq!(fields.single(&headers::SESSION_ID), expected);
            assert_eq!(Fields::text(&fields, &headers::SESSION_ID), Some("a"));
        }
    }
}
