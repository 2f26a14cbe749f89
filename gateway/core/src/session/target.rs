//! What a session is bound to: the target of its Create-Session, in whatever spelling it comes.
//!
//! Proxies between a client and the gateway decode what need not be escaped, or escape it. Two
//! spellings count as one target only where no server reads them in two ways: escapes of a slash,
//! a backslash, a percent sign, `?`, `#`, a control character or a byte beyond ASCII stay, and so
//! do dot segments.
//!
//! What is absent: the scheme and the authority. A target is a path with its query.

use std::sync::{Arc, LazyLock};

use super::pin::{Subject, fnv1a, fnv1a_on};

/// A longer spelling is not kept with its session: no URL of a Windows client is as long.
pub const SPELLING_LIMIT: usize = 2048;

/// Binds a session to the request-target of its Create-Session.
///
/// FNV-1a, 64 bits: the same in every build and process. A client that could forge a collision
/// knows the session id already, and with it could use the real target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct TargetHash(pub u64);

impl TargetHash {
    /// Byte for byte.
    pub fn of(target: &[u8]) -> Self {
        Self(fnv1a(target))
    }

    /// What is remembered of the target of a session that is over, so that only its own client
    /// is told of its end.
    pub fn known_to(self, subject: Option<&Subject>) -> Self {
        subject.map_or(self, |subject| Self(fnv1a_on(self.0, subject.bytes())))
    }
}

/// The target of a request, as sessions are compared with it. Without the text: it is compared for
/// every packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Target {
    /// Of its normal form.
    normal: TargetHash,
    /// Byte for byte: so older versions bound sessions.
    sent: TargetHash,
}

impl Target {
    /// Allocates nothing.
    pub fn of(target: &[u8]) -> Self {
        let sent = TargetHash::of(target);
        if target.iter().all(|&byte| stays_as_it_is(byte)) {
            return Self::from(sent);
        }
        let mut normal = TargetHash::of(b"");
        write_normal(target, |byte| normal.0 = fnv1a_on(normal.0, &[byte]));
        Self { normal, sent }
    }

    /// Of all spellings alike.
    pub fn hash(self) -> TargetHash {
        self.normal
    }

    /// Whether it is the target of a session that is bound to `bound`. A session of an older
    /// version is bound to the spelling of its Create-Session.
    pub fn is(self, bound: TargetHash) -> bool {
        self.normal == bound || self.sent == bound
    }

    /// The same, for a session that is over and was of `subject`.
    pub fn was(self, ended: TargetHash, subject: Option<&Subject>) -> bool {
        self.normal.known_to(subject) == ended || self.sent.known_to(subject) == ended
    }
}

/// A target in its normal form.
impl From<TargetHash> for Target {
    fn from(hash: TargetHash) -> Self {
        Self { normal: hash, sent: hash }
    }
}

/// What a session is bound to. Most sessions have no spelling, and its absence costs no memory where
/// sessions are kept.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Binding {
    pub target: TargetHash,
    /// The target of its Create-Session, where that is not in normal form.
    pub spelling: Option<Arc<str>>,
}

impl Binding {
    /// Of a session that is opened under that target, whose text is `text`.
    pub fn to(target: Target, text: &[u8]) -> Self {
        if target.normal == target.sent {
            return Self::unspelled(target.normal);
        }
        match std::str::from_utf8(text) {
            Ok(text) if text.len() <= SPELLING_LIMIT => {
                Self { target: target.normal, spelling: Some(text.into()) }
            }
            // Its packets have to come as the first one did.
            _ => Self::unspelled(target.sent),
        }
    }

    /// Of a session that is known by a hash alone.
    pub fn unspelled(target: TargetHash) -> Self {
        Self { target, spelling: None }
    }

    /// The same where there is no room for a spelling.
    pub fn without_spelling(self) -> Self {
        match self.spelling {
            Some(spelling) => Self::unspelled(TargetHash::of(spelling.as_bytes())),
            None => self,
        }
    }

    /// In which spelling a packet of the session goes on; `None` if as it came, in `text`. Servers
    /// that compare targets byte for byte know the one of the Create-Session.
    pub fn onward(&self, packet: Target, text: &[u8]) -> Option<Arc<str>> {
        match &self.spelling {
            Some(own) => (own.as_bytes() != text).then(|| Arc::clone(own)),
            None if self.target == packet.sent => None,
            None => String::from_utf8(normal_form(text)).ok().map(Arc::from),
        }
    }
}

/// The one spelling that stands for all that are equal. Once more makes no difference.
pub fn normal_form(target: &[u8]) -> Vec<u8> {
    let mut normal = Vec::with_capacity(target.len());
    write_normal(target, |byte| normal.push(byte));
    normal
}

fn write_normal(target: &[u8], mut write: impl FnMut(u8)) {
    let question = target.iter().position(|&byte| byte == b'?').unwrap_or(target.len());
    let (path, query) = target.split_at(question);
    write_part(path, in_path, &mut write);
    // An empty one is none.
    if query.len() > 1 {
        write(b'?');
        write_part(&query[1..], in_query, &mut write);
    }
}

/// How a character is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Raw,
    Escaped,
    /// As it came: raw and escaped, it is not the same.
    AsSent,
}

fn write_part(part: &[u8], form: fn(u8) -> Form, write: &mut impl FnMut(u8)) {
    // What is not an escape everywhere may become one when it is written anew.
    if !is_escaped_well(part) {
        part.iter().for_each(|&byte| write(byte));
        return;
    }
    let mut rest = part;
    while let Some((&first, behind)) = rest.split_first() {
        let escaped = unescape(rest);
        let byte = escaped.unwrap_or(first);
        rest = if escaped.is_some() { &rest[3..] } else { behind };
        let raw = match form(byte) {
            Form::Raw => true,
            Form::Escaped => false,
            Form::AsSent => escaped.is_none(),
        };
        match raw {
            true => write(byte),
            false => [b'%', digit(byte >> 4), digit(byte & 15)].into_iter().for_each(&mut *write),
        }
    }
}

fn in_path(byte: u8) -> Form {
    match byte {
        b'/' | b'\\' | b'%' | b'?' | b'#' => Form::AsSent,
        byte if is_unreserved(byte) || b"!$&'()*+,;=:@".contains(&byte) => Form::Raw,
        // No character of a path (RFC 3986 section 3.3), so most clients escape it.
        b' '..=b'~' => Form::Escaped,
        _ => Form::AsSent,
    }
}

fn in_query(byte: u8) -> Form {
    if is_unreserved(byte) { Form::Raw } else { Form::AsSent }
}

/// RFC 3986 section 2.3.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

/// Whether a target of such bytes alone is in normal form. Most are.
fn stays_as_it_is(byte: u8) -> bool {
    static STAYS: LazyLock<[bool; 256]> = LazyLock::new(|| {
        std::array::from_fn(|byte| byte == usize::from(b'/') || in_path(byte as u8) == Form::Raw)
    });
    STAYS[usize::from(byte)]
}

fn is_escaped_well(part: &[u8]) -> bool {
    let percent = |(at, byte): (usize, &u8)| (*byte == b'%').then_some(at);
    part.iter().enumerate().filter_map(percent).all(|at| unescape(&part[at..]).is_some())
}

/// The byte that an escape at the start stands for.
fn unescape(text: &[u8]) -> Option<u8> {
    let [b'%', high, low, ..] = text else { return None };
    let value = |digit: u8| char::from(digit).to_digit(16);
    u8::try_from(value(*high)? * 16 + value(*low)?).ok()
}

fn digit(value: u8) -> u8 {
    b"0123456789ABCDEF"[usize::from(value)]
}

#[cfg(test)]
#[path = "target_tests.rs"]
mod tests;
