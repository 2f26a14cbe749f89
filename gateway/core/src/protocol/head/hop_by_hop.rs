//! Fields that speak of one connection only, and what `Connection` may say of others.
//!
//! A proxy ignores what a client offers of its connection and passes none of it on. The one danger
//! is a `Connection` that names a field which some program on the way needs: a proxy that obeys it
//! passes another message than the one that was checked.
//!
//! # Source
//! RFC 9110 sections 7.6.1 and 7.8; RFC 9112 section 9.6.

use super::super::headers::Id;
use super::super::reserved;

/// Fields for the next hop, in lower case. None of them passes. `Transfer-Encoding` is one too, but
/// it frames the message and has rules of its own.
const HOP_BY_HOP: [&str; 6] =
    ["connection", "http2-settings", "keep-alive", "proxy-connection", "te", "upgrade"];

/// Starts of names that `Connection` must not name: they frame, route or identify.
const PROTECTED_STARTS: [&str; 4] = ["bits-", "content-", "if-", "proxy-"];

/// The other names that it must not name: framing and routing, who the client is, how often a
/// packet may be sent, what a packet is, which part of a file is meant, and where a message has been.
const PROTECTED_NAMES: [&str; 13] = [
    "authorization",
    "cdn-loop",
    "cookie",
    "expect",
    "host",
    "range",
    "trailer",
    "transfer-encoding",
    "via",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "www-authenticate",
];

/// Reads `_` as `-`, as some servers do, and letters in lower case.
pub(super) fn read_name(name: &[u8]) -> Vec<u8> {
    name.iter().map(|&b| if b == b'_' { b'-' } else { b.to_ascii_lowercase() }).collect()
}

/// Whether a field is for the next hop only, in whatever case its name stands, with `_` for `-`
/// too.
pub(super) fn is_hop_by_hop(name: &[u8]) -> bool {
    HOP_BY_HOP.iter().any(|known| {
        name.len() == known.len()
            && name
                .iter()
                .zip(known.bytes())
                .all(|(&b, k)| b.eq_ignore_ascii_case(&k) || (b == b'_' && k == b'-'))
    })
}

/// The same of a field that has a number.
pub fn is_for_the_next_hop(id: Id) -> bool {
    matches!(
        id,
        Id::CONNECTION
            | Id::HTTP2_SETTINGS
            | Id::KEEP_ALIVE
            | Id::PROXY_CONNECTION
            | Id::TE
            | Id::UPGRADE
    )
}

/// What one word of `Connection` asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// Nothing that concerns another field: an empty word, an offer, no word at all.
    Nothing,
    KeepAlive,
    Close,
    /// To take that field off, by its name in lower case.
    Drop(Vec<u8>),
    /// To take off a field that must reach the server as it was checked.
    Protected,
}

pub(super) fn read_word(word: &[u8], is_token: impl Fn(u8) -> bool) -> Word {
    if word.eq_ignore_ascii_case(b"keep-alive") {
        return Word::KeepAlive;
    }
    if word.eq_ignore_ascii_case(b"close") {
        return Word::Close;
    }
    if word.is_empty() || !word.iter().all(|&b| is_token(b)) || is_hop_by_hop(word) {
        return Word::Nothing;
    }
    let name = read_name(word);
    if is_protected(&name) { Word::Protected } else { Word::Drop(name) }
}

/// `name` as [`read_name`] gives it.
fn is_protected(name: &[u8]) -> bool {
    let Ok(name) = std::str::from_utf8(name) else { return true };
    PROTECTED_NAMES.contains(&name)
        || PROTECTED_STARTS.iter().any(|start| name.starts_with(start))
        || reserved::is_proxy_name(name)
        || reserved::is_server_name(name)
}

#[cfg(test)]
mod tests {
    use super::super::super::headers::{KNOWN, id_of};
    use super::*;

    fn read(word: &str) -> Word {
        read_word(word.as_bytes(), |byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    }

    #[test]
    fn a_field_that_frames_routes_or_identifies_is_protected_in_every_spelling() {
        let starts = PROTECTED_STARTS.iter().map(|start| format!("{start}x"));
        let names = PROTECTED_NAMES.iter().map(ToString::to_string);
        let more = ["bits-session-id", "content-length", "content-range", "proxy-authorization"];
        let more = more.iter().map(ToString::to_string).chain(reserved::all());
        for name in starts.chain(names).chain(more) {
            for spelling in [name.clone(), name.to_uppercase(), name.replace('-', "_")] {
                assert_eq!(read(&spelling), Word::Protected, "{spelling}");
            }
        }
    }

    #[test]
    fn an_offer_of_the_connection_asks_for_nothing() {
        for name in HOP_BY_HOP.into_iter().filter(|name| *name != "keep-alive") {
            assert_eq!(read(name), Word::Nothing, "{name}");
        }
        for word in ["", "HTTP2_Settings", "Upgrade", "clo se", "close;x", "\"close\""] {
            assert_eq!(read(word), Word::Nothing, "{word}");
        }
        assert_eq!(read("Keep-Alive"), Word::KeepAlive);
        assert_eq!(read("CLOSE"), Word::Close);
    }

    #[test]
    fn any_other_field_may_be_taken_off() {
        assert_eq!(read("X-Trace"), Word::Drop(b"x-trace".to_vec()));
        assert_eq!(read("x_trace"), Word::Drop(b"x-trace".to_vec()));
        assert_eq!(read("Accept"), Word::Drop(b"accept".to_vec()));
    }

    #[test]
    fn fields_of_the_connection_are_known_in_every_spelling() {
        for name in HOP_BY_HOP {
            for name in [name.to_owned(), name.to_uppercase(), name.replace('-', "_")] {
                assert!(is_hop_by_hop(name.as_bytes()), "{name}");
            }
        }
        for name in HOP_BY_HOP {
            assert!(is_for_the_next_hop(id_of(name.as_bytes())), "{name}");
        }
        let others = KNOWN.iter().filter(|field| !HOP_BY_HOP.contains(&field.name.as_str()));
        assert!(others.into_iter().all(|field| !is_for_the_next_hop(field.id)));
        for name in ["te-x", "t", "keep-aliv", "connection-x", "transfer-encoding", "trailer"] {
            assert!(!is_hop_by_hop(name.as_bytes()), "{name}");
        }
    }
}
