//! The fields of a head: what frames, routes and identifies the request, and what does not pass.

use std::collections::HashSet;
use std::sync::LazyLock;

use super::super::headers::{self, Field, Id};
use super::super::host::Host;
use super::hop_by_hop::{self, Word, is_for_the_next_hop, is_hop_by_hop};
use super::line::RequestLine;
use super::{BodyFraming, HeadEdits, HeadError, HeadPolicy, OneField, is_token};

/// Fields by which a message is framed or routed. Twice is once too often.
pub(super) static ONCE: [&Field; 12] = [
    &headers::HOST,
    &headers::CONTENT_LENGTH,
    &headers::TRANSFER_ENCODING,
    &headers::CONTENT_RANGE,
    &headers::CONTENT_ENCODING,
    &headers::CONTENT_NAME,
    &headers::AUTHORIZATION,
    &headers::EXPECT,
    &headers::PACKET_TYPE,
    &headers::SESSION_ID,
    &headers::SUPPORTED_PROTOCOLS,
    &headers::METHOD_OVERRIDE,
];

/// The same, a bit for each.
static ONCE_BITS: LazyLock<u64> =
    LazyLock::new(|| ONCE.iter().fold(0, |bits, field| bits | field.id.bit()));

/// Whether a field reaches the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Passage {
    Pass,
    Drop,
}

#[derive(Default)]
pub(super) struct Fields<'h> {
    /// A bit for each number of a field that stood before.
    seen: u64,
    host: Option<(&'h [u8], usize)>,
    length: Option<&'h [u8]>,
    encoding: Option<&'h [u8]>,
    /// Fields that `Connection` names, in lower case with `-` for `_`.
    named: Vec<Vec<u8>>,
    /// A `Connection` that says `close` does not pass.
    pub close_was_cut: bool,
}

impl<'h> Fields<'h> {
    pub fn take(&mut self, field: &OneField<'h>, http10: bool) -> Result<Passage, HeadError> {
        let OneField { id, name, value, value_start, .. } = *field;
        if id == Id::OTHER {
            if !name.contains(&b'_') {
                return Ok(Passage::Pass);
            }
            return match is_hop_by_hop(name) {
                true => self.take_hop_by_hop(name, value, http10),
                false => check_imitation(name).map(|()| Passage::Pass),
            };
        }
        if is_for_the_next_hop(id) {
            return self.take_hop_by_hop(name, value, http10);
        }
        if self.seen & *ONCE_BITS & id.bit() != 0 {
            return Err(HeadError::Repeated);
        }
        self.seen |= id.bit();
        match id {
            Id::HOST => self.host = Some((value, value_start)),
            Id::CONTENT_LENGTH => self.length = Some(value),
            Id::TRANSFER_ENCODING => self.encoding = Some(value),
            // An HTTP/1.0 client cannot mean it (RFC 9110 section 10.1.1).
            Id::EXPECT if http10 => return Ok(Passage::Drop),
            Id::EXPECT if !value.eq_ignore_ascii_case(b"100-continue") => {
                return Err(HeadError::Expect);
            }
            _ => {}
        }
        Ok(Passage::Pass)
    }

    fn take_hop_by_hop(
        &mut self,
        name: &[u8],
        value: &[u8],
        http10: bool,
    ) -> Result<Passage, HeadError> {
        if !name.eq_ignore_ascii_case(b"connection") {
            return Ok(Passage::Drop);
        }
        let (mut plain, mut closes) = (!http10, false);
        for word in value.split(|&b| b == b',') {
            match hop_by_hop::read_word(word.trim_ascii(), is_token) {
                Word::KeepAlive => {}
                Word::Close => closes = true,
                Word::Nothing => plain = false,
                Word::Protected => return Err(HeadError::Connection),
                Word::Drop(name) => {
                    plain = false;
                    self.named.push(name);
                }
            }
        }
        // What every client sends stays as it is.
        if plain {
            return Ok(Passage::Pass);
        }
        self.close_was_cut |= closes;
        Ok(Passage::Drop)
    }

    pub fn names_others(&self) -> bool {
        !self.named.is_empty()
    }

    pub fn is_named(&self, name: &[u8]) -> bool {
        let name = hop_by_hop::read_name(name);
        self.named.contains(&name)
    }

    /// Sees to it that the server reads one host. Returns the one to be added, which only the
    /// target named.
    pub fn host<'l>(
        &self,
        line: &RequestLine<'l>,
        policy: &HeadPolicy<'_>,
        edits: &mut HeadEdits,
    ) -> Result<Option<&'l str>, HeadError> {
        let authority = line.authority();
        let Some((value, start)) = self.host else {
            return match authority {
                Some(authority) if line.http10 => {
                    authority.host().map(|_| Some(authority.text)).ok_or(HeadError::Host)
                }
                None if line.may_lack_host() => Ok(None),
                _ => Err(HeadError::Host),
            };
        };
        let host = Host::parse(value).ok_or(HeadError::Host)?;
        let Some(authority) = authority else { return Ok(None) };
        let named = authority.host().ok_or(HeadError::Host)?;
        if named.is_same(&host, authority.default_port) {
            return Ok(None);
        }
        // Which of the two a server takes is not certain, unless each of them is one of ours: then
        // the target counts, as RFC 9112 section 3.2.2 says.
        let ours = |host: &Host<'_>| {
            let listed = |key: &[u8], hosts: &HashSet<String>| {
                std::str::from_utf8(key).is_ok_and(|key| hosts.contains(key))
            };
            policy.hosts.is_some_and(|hosts| host.with_key(|key| listed(key, hosts)))
        };
        if !ours(&named) || !ours(&host) {
            return Err(HeadError::TwoHosts);
        }
        edits.replace((start, start + value.len()), authority.text.as_bytes());
        Ok(None)
    }

    pub fn framing(&self, http10: bool) -> Result<BodyFraming, HeadError> {
        match (self.length, self.encoding) {
            (None, None) => Ok(BodyFraming::Length(0)),
            (Some(digits), None) => length(digits).map(BodyFraming::Length),
            (None, Some(value)) if value.eq_ignore_ascii_case(b"chunked") && !http10 => {
                Ok(BodyFraming::Chunked)
            }
            _ => Err(HeadError::TransferEncoding),
        }
    }
}

/// 19 digits always fit 64 bits; a longer number is an attack or an accident.
pub(super) fn length(digits: &[u8]) -> Result<u64, HeadError> {
    if digits.is_empty() || digits.len() > 19 || !digits.iter().all(u8::is_ascii_digit) {
        return Err(HeadError::Length);
    }
    Ok(digits.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0')))
}

/// Starts of names by which backends are spoken to.
const PROTECTED: [&str; 3] = ["bits-", "content-", "proxy-"];

/// Some servers turn `_` into `-` when they hand fields to an application. What proxies say of their
/// clients is often spelled so in good faith, and taken off later: see [`super::super::reserved`].
fn check_imitation(name: &[u8]) -> Result<(), HeadError> {
    let name = hop_by_hop::read_name(name);
    let protected = ONCE
        .iter()
        .chain(&headers::METHOD_OVERRIDES)
        .any(|field| name == field.name.as_str().as_bytes())
        || PROTECTED.iter().any(|start| name.starts_with(start.as_bytes()));
    if protected { Err(HeadError::Imitation) } else { Ok(()) }
}
