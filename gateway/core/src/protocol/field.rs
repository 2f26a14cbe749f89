//! Reading single header fields.

use super::headers::Field;

/// A field that must not stand twice stood twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{} stands more than once", .0.wire)]
pub struct Repeated(pub &'static Field);

impl PartialEq for Field {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for Field {}

/// Strips the optional white space of RFC 9110 5.6.3 from both ends.
pub fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}
