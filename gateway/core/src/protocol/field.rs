//! Reading single header fields.

use http::{HeaderMap, HeaderValue};

use super::headers::Field;

/// A field that must not stand twice stood twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{} stands more than once", .0.wire)]
pub struct Repeated(pub &'static Field);

impl PartialEq for Field {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Field {}

/// The one value of a field, or `None`.
pub fn single<'h>(
    headers: &'h HeaderMap,
    field: &'static Field,
) -> Result<Option<&'h HeaderValue>, Repeated> {
    let mut values = headers.get_all(&field.name).iter();
    let first = values.next();
    match values.next() {
        Some(_) => Err(Repeated(field)),
        None => Ok(first),
    }
}

/// The first value of a field as text without the spaces around it; `None` where it is absent or
/// holds bytes outside visible ASCII, space and tab.
///
/// For answers of backends, where a repeated field is their oddity and not worth a failed upload.
pub fn text<'h>(headers: &'h HeaderMap, field: &Field) -> Option<&'h str> {
    headers.get(&field.name)?.to_str().ok().map(trim)
}

/// Strips the optional white space of RFC 9110 5.6.3 from both ends.
pub fn trim(value: &str) -> &str {
    value.trim_matches([' ', '\t'])
}
