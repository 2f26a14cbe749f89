//! Text for bytes beyond ASCII in a field value: one character a byte, there and back unchanged.
//!
//! For session ids of backends. No server is known to send such an id, and the protocol forbids
//! it, but a client can be given another one, and the backend must get its own back byte for byte.

use std::borrow::Cow;

pub fn decode(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) if text.is_ascii() => Cow::Borrowed(text),
        _ => Cow::Owned(bytes.iter().map(|&byte| char::from(byte)).collect()),
    }
}

/// `None` if the text did not come from [`decode`].
pub fn encode(text: &str) -> Option<Cow<'_, [u8]>> {
    if text.is_ascii() {
        return Some(Cow::Borrowed(text.as_bytes()));
    }
    text.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect::<Option<_>>().map(Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_comes_back() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(encode(&decode(&all)).as_deref(), Some(&*all));
        assert!(matches!(decode(b"{x}"), Cow::Borrowed("{x}")));
        assert_eq!(encode("\u{100}"), None);
    }
}
