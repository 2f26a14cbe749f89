//! The request line: method, target, version.

use memchr::memchr_iter;

use super::super::host::Host;
use super::{HeadEdits, HeadError, HeadLimits, HeadPolicy, is_token, split_once};

/// A request line whose parts are legal, but for the target.
pub(super) struct RequestLine<'h> {
    method: &'h [u8],
    target: &'h [u8],
    pub http10: bool,
    /// The scheme and authority of an absolute target.
    authority: Option<Authority<'h>>,
}

#[derive(Clone, Copy)]
pub(super) struct Authority<'h> {
    pub text: &'h str,
    /// The port of a host that names none.
    pub default_port: u16,
}

const VERSION: &[u8] = b"HTTP/1.1";

impl<'h> RequestLine<'h> {
    pub fn read(line: &'h [u8], limits: &HeadLimits) -> Result<Self, HeadError> {
        if line.len() > limits.line_bytes {
            return Err(HeadError::LineTooLong);
        }
        let (method, rest) = split_once(line, b' ').ok_or(HeadError::RequestLine)?;
        let (target, version) = split_once(rest, b' ').ok_or(HeadError::RequestLine)?;
        if method.is_empty() || !method.iter().all(|&b| is_token(b)) {
            return Err(HeadError::RequestLine);
        }
        let http10 = version == b"HTTP/1.0";
        if version != VERSION && !http10 {
            return Err(HeadError::Version);
        }
        // A tunnel and an echo of credentials: neither has a use in front of upload servers.
        if method == b"CONNECT" || method == b"TRACE" {
            return Err(HeadError::Method);
        }
        let (authority, path) = split_target(target);
        let starred = target == b"*" && method == b"OPTIONS";
        if !starred && !is_path(path) {
            return Err(HeadError::Target);
        }
        Ok(Self { method, target, http10, authority })
    }

    pub fn method(&self) -> &'h [u8] {
        self.method
    }

    pub fn target(&self) -> &'h [u8] {
        self.target
    }

    pub fn authority(&self) -> Option<Authority<'h>> {
        self.authority
    }

    /// Health checks of old balancers say no Host: they ask for no file and change none.
    pub fn may_lack_host(&self) -> bool {
        self.http10 && [&b"GET"[..], b"HEAD", b"OPTIONS"].contains(&self.method)
    }

    fn target_start(&self) -> usize {
        self.method.len() + 1
    }

    /// Behind the version.
    fn end(&self) -> usize {
        self.target_start() + self.target.len() + 1 + VERSION.len()
    }

    /// Leaves out what the target says of the host, so that no server has two hosts to choose from,
    /// and escapes bytes beyond ASCII where that is allowed.
    pub fn check_target(
        &self,
        policy: &HeadPolicy<'_>,
        edits: &mut HeadEdits,
    ) -> Result<(), HeadError> {
        let (_, path) = split_target(self.target);
        let path_start = self.target_start() + self.target.len() - path.len();
        if self.authority.is_some() {
            edits.cut((self.target_start(), path_start));
        }
        if path.is_ascii() {
            return Ok(());
        }
        if !policy.escape_path {
            return Err(HeadError::RawTarget);
        }
        if std::str::from_utf8(path).is_err() {
            return Err(HeadError::Target);
        }
        edits.replace((path_start, path_start + path.len()), &escape(path));
        Ok(())
    }

    /// Writes behind the request line what servers are to read: a host that only the target named,
    /// and the end of the connection where its field was cut or the client knows no other way.
    pub fn say_anew(&self, host: Option<&str>, close_was_cut: bool, edits: &mut HeadEdits) {
        let mut text = Vec::new();
        if let Some(host) = host {
            text.extend_from_slice(b"\r\nHost: ");
            text.extend_from_slice(host.as_bytes());
        }
        // A proxy must not keep the connection of such a client, whatever the client says of it
        // (RFC 9112 section 9.3).
        if close_was_cut || self.http10 {
            text.extend_from_slice(b"\r\nConnection: close");
        }
        let end = self.end();
        if self.http10 {
            // Each hop has a version of its own (RFC 9110 section 6.2).
            edits.replace((end - VERSION.len(), end), &[VERSION, &text].concat());
        } else if !text.is_empty() {
            edits.replace((end, end), &text);
        }
    }
}

/// The authority of an absolute target, and the path with its query.
fn split_target(target: &[u8]) -> (Option<Authority<'_>>, &[u8]) {
    let Some((https, rest)) = split_scheme(target) else { return (None, target) };
    let end = rest.iter().position(|b| b"/?".contains(b)).unwrap_or(rest.len());
    // What is no text is no host either.
    let text = std::str::from_utf8(&rest[..end]).unwrap_or_default();
    let default_port = if https { 443 } else { 80 };
    (Some(Authority { text, default_port }), &rest[end..])
}

/// Whether the scheme is `https`, and what follows `http://` or `https://`.
fn split_scheme(target: &[u8]) -> Option<(bool, &[u8])> {
    if target.starts_with(b"/") {
        // A path, as nearly always.
        return None;
    }
    let at = target.windows(3).position(|bytes| bytes == b"://")?;
    let (scheme, rest) = (&target[..at], &target[at + 3..]);
    let https = scheme.eq_ignore_ascii_case(b"https");
    (https || scheme.eq_ignore_ascii_case(b"http")).then_some((https, rest))
}

/// What follows `http://` or `https://`.
pub fn strip_scheme(target: &str) -> Option<&str> {
    let (_, rest) = split_scheme(target.as_bytes())?;
    target.get(target.len() - rest.len()..)
}

/// Bytes beyond ASCII are judged later.
fn is_path(path: &[u8]) -> bool {
    let legal = path.iter().fold(true, |legal, &byte| legal & IN_PATH[usize::from(byte)]);
    let escaped = |at: usize| matches!(path.get(at + 1..at + 3), Some([high, low]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit());
    legal && path.starts_with(b"/") && memchr_iter(b'%', path).all(escaped)
}

const IN_PATH: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = match byte as u8 {
            // Braces and the bar are no URI characters, but session ids in reply paths have them.
            b'{' | b'}' | b'|' => true,
            b'"' | b'#' | b'<' | b'>' | b'\\' | b'^' | b'`' => false,
            0x80.. => true,
            byte => byte.is_ascii_graphic(),
        };
        byte += 1;
    }
    table
};

/// Percent-encodes every byte beyond ASCII (RFC 3986 section 2.5).
fn escape(path: &[u8]) -> Vec<u8> {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let mut escaped = Vec::with_capacity(path.len() + 16);
    for &byte in path {
        if byte.is_ascii() {
            escaped.push(byte);
        } else {
            let digit = |value: u8| DIGITS[usize::from(value)];
            escaped.extend([b'%', digit(byte >> 4), digit(byte & 15)]);
        }
    }
    escaped
}

impl Authority<'_> {
    pub fn host(&self) -> Option<Host<'_>> {
        Host::parse(self.text)
    }
}
