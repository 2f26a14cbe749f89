//! Session ids: opaque to everybody but the server that issued them.

use std::borrow::Cow;
use std::fmt;
use std::num::NonZeroU64;

use uuid::Uuid;

/// The longest id that the Win32 documentation allows.
pub const ID_LIMIT: usize = 100;

/// A GUID in braces, and without.
const BRACED: usize = 38;
const BARE: usize = 36;

/// A session id as it stands in a packet, with the key under which it is looked up.
#[derive(Clone, PartialEq, Eq)]
pub struct SessionId {
    key: SessionKey,
    /// How a GUID is spelled, from the start of the room for it: its key does not say it.
    spelling: [u8; BRACED],
}

impl SessionId {
    /// Takes 1 to 100 visible ASCII characters. Everything else is no id.
    pub fn parse<T: AsRef<[u8]> + ?Sized>(text: &T) -> Option<Self> {
        let text = text.as_ref();
        let legal = !text.is_empty()
            && text.len() <= ID_LIMIT
            && text.iter().fold(true, |legal, byte| legal & byte.is_ascii_graphic());
        if !legal {
            return None;
        }
        let mut spelling = [0; BRACED];
        let key = match guid(text) {
            Some(guid) => {
                spelling.get_mut(..text.len())?.copy_from_slice(text);
                SessionKey::of_guid(guid)
            }
            None => SessionKey::of_text(std::str::from_utf8(text).ok()?),
        };
        Some(Self { key, spelling })
    }

    /// The id byte for byte as it was received.
    pub fn as_str(&self) -> &str {
        let length = match (self.spelling[0], &self.key.0) {
            (0, Repr::Text(text)) => return text,
            (b'{', _) => BRACED,
            _ => BARE,
        };
        // ASCII, as it was when it was parsed.
        std::str::from_utf8(&self.spelling[..length]).unwrap_or_default()
    }

    pub fn key(&self) -> &SessionKey {
        &self.key
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.key, f)
    }
}

/// What makes two ids the same: the 16 bytes of a GUID in any case or bracing, else every byte.
///
/// SimpleBITSServer lower-cases the ids it receives, so a GUID must compare without regard to
/// case. A GUID key costs no allocation.
///
/// # Shape
/// 16 bytes: a table of sessions has a million of them.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionKey(Repr);

#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Repr {
    /// Its first half inverted, so that it has 8 bytes that are never all zero: they tell the
    /// compiler which of the two it is. A GUID that begins with 16 digits F is kept as a text.
    Guid(NonZeroU64, u64),
    /// Two boxes: a text and its length would take 16 bytes by themselves.
    Text(Box<Box<str>>),
}

const _: () = assert!(size_of::<SessionKey>() == 16);

impl SessionKey {
    fn of_guid(guid: Uuid) -> Self {
        let (high, low) = guid.as_u64_pair();
        match NonZeroU64::new(!high) {
            Some(high) => Self(Repr::Guid(high, low)),
            // In one spelling, or it would be several keys.
            None => Self::of_text(&mint(guid)),
        }
    }

    fn of_text(text: &str) -> Self {
        Self(Repr::Text(Box::new(text.into())))
    }

    /// `None` for an id that is no GUID.
    pub fn guid(&self) -> Option<Uuid> {
        match &self.0 {
            Repr::Guid(high, low) => Some(Uuid::from_u64_pair(!high.get(), *low)),
            Repr::Text(text) => guid(text.as_bytes()),
        }
    }

    /// The id in one spelling: a GUID as IIS writes it, anything else as it is.
    pub fn text(&self) -> Cow<'_, str> {
        match &self.0 {
            Repr::Guid(..) => Cow::Owned(self.guid().map(mint).unwrap_or_default()),
            Repr::Text(text) => Cow::Borrowed(text),
        }
    }

    /// The first characters of the id, enough to find it in a log and too few to use it.
    ///
    /// An id is a bearer secret for as long as its session lives.
    pub fn short(&self) -> ShortId<'_> {
        ShortId(self)
    }
}

/// Never the whole id: a key may end up in a log through `Debug`.
impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionKey({}..)", self.short())
    }
}

/// Displays the first 8 digits of a GUID, or the first third of any other id, 8 at most.
pub struct ShortId<'k>(&'k SessionKey);

impl fmt::Display for ShortId<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0.guid(), &self.0.0) {
            (None, Repr::Text(text)) => f.write_str(&text[..(text.len() / 3).min(8)]),
            (guid, _) => write!(f, "{:08x}", guid.unwrap_or_default().as_fields().0),
        }
    }
}

/// A GUID as 32 digits with hyphens, in braces or not. The bare 32-digit and URN forms that the
/// uuid crate knows are left opaque: no server writes them, so they are somebody's own ids.
fn guid(text: &[u8]) -> Option<Uuid> {
    let inner = match text.strip_prefix(b"{") {
        Some(rest) => rest.strip_suffix(b"}")?,
        None => text,
    };
    if inner.len() != BARE { None } else { Uuid::try_parse_ascii(inner).ok() }
}

/// An id of our own making, in the form in which IIS writes its ids.
pub fn mint(guid: Uuid) -> String {
    let mut buffer = Uuid::encode_buffer();
    guid.braced().encode_upper(&mut buffer).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> SessionKey {
        SessionId::parse(text).expect("legal id").key().clone()
    }

    #[test]
    fn a_guid_is_one_key_in_every_case_and_bracing() {
        let iis = key("{3F9C1E52-7B0D-4E7A-9C44-0D5B6A1E8F21}");
        assert_eq!(iis, key("{3f9c1e52-7b0d-4e7a-9c44-0d5b6a1e8f21}"));
        assert_eq!(iis, key("3f9c1e52-7b0d-4e7a-9c44-0d5b6a1e8f21"));
        assert_eq!(iis.guid(), Some(Uuid::from_u128(0x3F9C1E52_7B0D_4E7A_9C44_0D5B6A1E8F21)));
    }

    #[test]
    fn an_id_is_shown_as_it_was_received() {
        for text in [
            "{3F9C1E52-7B0D-4E7A-9C44-0D5B6A1E8F21}",
            "3f9c1e52-7B0D-4e7a-9c44-0d5b6a1e8f21",
            "-4902601953962343072",
            "x",
        ] {
            assert_eq!(SessionId::parse(text).expect("legal id").as_str(), text);
        }
    }

    /// At both ends of what the 16 bytes can hold.
    #[test]
    fn every_guid_is_one_key_and_comes_back_from_it() {
        for guid in [
            "00000000-0000-0000-0000-000000000000",
            "00000000-0000-0000-0000-000000000001",
            "ffffffff-ffff-fffe-0000-000000000000",
            "ffffffff-ffff-ffff-0000-0000000000ab",
            "ffffffff-ffff-ffff-ffff-ffffffffffff",
        ] {
            let upper = format!("{{{}}}", guid.to_ascii_uppercase());
            assert_eq!(key(guid), key(&upper));
            assert_eq!(key(guid).guid(), Uuid::try_parse(guid).ok());
            assert_eq!(key(guid).text(), upper);
            assert_eq!(key(guid).short().to_string(), guid[..8]);
            for spelling in [guid, upper.as_str()] {
                assert_eq!(SessionId::parse(spelling).expect("legal id").as_str(), spelling);
            }
        }
    }

    #[test]
    fn other_ids_compare_byte_for_byte() {
        assert_ne!(key("Abc"), key("abc"));
        assert_ne!(key("/in/a%20b.bin"), key("/in/a%20B.bin"));
        assert_eq!(key("-4902601953962343072").guid(), None);
        assert_eq!(key("3f9c1e527b0d4e7a9c440d5b6a1e8f21").guid(), None);
        assert_eq!(key("{3f9c1e52-7b0d-4e7a-9c44-0d5b6a1e8f21").guid(), None);
    }

    #[test]
    fn an_id_is_1_to_100_visible_characters() {
        assert!(SessionId::parse(&"x".repeat(100)).is_some());
        assert!(SessionId::parse(&"x".repeat(101)).is_none());
        assert!(SessionId::parse("").is_none());
        assert!(SessionId::parse("a b").is_none());
        assert!(SessionId::parse("a\tb").is_none());
        assert!(SessionId::parse("é").is_none());
    }

    #[test]
    fn a_minted_id_has_braces_and_upper_case() {
        let guid = Uuid::try_parse("3f9c1e52-7b0d-4e7a-9c44-0d5b6a1e8f21").unwrap();
        assert_eq!(mint(guid), "{3F9C1E52-7B0D-4E7A-9C44-0D5B6A1E8F21}");
    }

    #[test]
    fn debug_output_never_holds_a_whole_id() {
        let text = format!("{:?}", key("{3F9C1E52-7B0D-4E7A-9C44-0D5B6A1E8F21}"));
        assert_eq!(text, "SessionKey(3f9c1e52..)");
        assert!(!format!("{:?}", key("secret")).contains("secret"));
    }
}
