//! The head of a request, read once.

use std::ops::Range;

use http::HeaderValue;

use super::super::Fields;
use super::super::headers::{self, Field, Id};
use super::fields::length;
use super::places::{Places, place};
use super::{Lines, OneField, split_once};

/// Where the parts of a head stand in its bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HeadIndex {
    /// Where the method ends. The target begins behind the space that follows.
    method_end: u32,
    target_end: u32,
    fields: Places,
}

impl HeadIndex {
    pub(super) fn of_line(method: &[u8], target: &[u8]) -> Self {
        let method_end = place(method.len());
        let target_end = method_end + 1 + place(target.len());
        Self { method_end, target_end, fields: Places::new() }
    }

    /// One more field.
    pub(super) fn push(&mut self, field: &OneField<'_>) {
        self.fields.push(field);
    }

    /// Reads a head that was checked. `None` for bytes that are no head.
    fn of(bytes: &[u8]) -> Option<Self> {
        let mut lines = Lines::of(bytes);
        let (line, _) = lines.next().ok()?;
        let (method, rest) = split_once(line, b' ')?;
        let (target, _) = split_once(rest, b' ')?;
        let mut index = Self::of_line(method, target);
        loop {
            let (line, start) = lines.next().ok()?;
            if line.is_empty() {
                return Some(index);
            }
            index.push(&OneField::read(line, start, lines.at).ok()?);
        }
    }
}

/// The head of a request that was checked: its bytes, and where its parts stand in them. The default
/// is one without any part.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequestHead {
    bytes: Vec<u8>,
    index: HeadIndex,
}

impl RequestHead {
    /// `index` is what the check has found of these bytes.
    pub fn new(bytes: Vec<u8>, index: HeadIndex) -> Self {
        Self { bytes, index }
    }

    /// Reads a head that has passed the check, or was written by a library from one that has.
    /// `None` for bytes that are no head.
    pub fn read(bytes: Vec<u8>) -> Option<Self> {
        let index = HeadIndex::of(&bytes)?;
        Some(Self { bytes, index })
    }

    /// A head of these parts, which a library has read. `None` if they make no head.
    pub fn of<'p>(
        method: &[u8],
        target: &[u8],
        fields: impl IntoIterator<Item = (&'p [u8], &'p [u8])>,
    ) -> Option<Self> {
        let mut bytes = [method, b" ", target, b" HTTP/1.1\r\n"].concat();
        for (name, value) in fields {
            for part in [name, b": ", value, b"\r\n"] {
                bytes.extend_from_slice(part);
            }
        }
        bytes.extend_from_slice(b"\r\n");
        Self::read(bytes)
    }

    /// Becomes the head that `bytes` begin with, where that repeats this one: the packets of an upload
    /// differ in nothing but the numbers of Content-Range and Content-Length. Returns the new length of
    /// the body; `None` leaves the head as it is.
    ///
    /// A head in which digits stand for digits there has passed the check if this one has, with the same
    /// findings but for that length.
    pub fn repeat(&mut self, bytes: &[u8]) -> Option<u64> {
        const NUMBERED: u64 = Id::CONTENT_RANGE.bit() | Id::CONTENT_LENGTH.bit();
        let bytes = bytes.get(..self.bytes.len())?;
        if !self.index.fields.is_repeated(&self.bytes, bytes, NUMBERED) {
            return None;
        }
        self.bytes.copy_from_slice(bytes);
        match self.first(&headers::CONTENT_LENGTH) {
            Some(digits) => length(digits).ok(),
            None => Some(0),
        }
    }

    /// Where the value of a field stands in the bytes, if the field stands once.
    pub fn place(&self, field: &'static Field) -> Option<Range<usize>> {
        self.index.fields.only(field)
    }

    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// All of it, with the empty line at its end.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub fn method(&self) -> &[u8] {
        self.bytes.get(..self.index.method_end as usize).unwrap_or_default()
    }

    /// The target as it stands in the request line: a path with its query, or `*`.
    pub fn target(&self) -> &[u8] {
        let target = self.index.method_end as usize + 1..self.index.target_end as usize;
        self.bytes.get(target).unwrap_or_default()
    }

    /// The target without its query.
    pub fn path(&self) -> &[u8] {
        let target = self.target();
        target.split(|&byte| byte == b'?').next().unwrap_or(target)
    }

    /// The first value of a field.
    pub fn first(&self, field: &'static Field) -> Option<&[u8]> {
        self.values(field).next()
    }

    /// The same, to be sent on.
    pub fn value(&self, field: &'static Field) -> Option<HeaderValue> {
        HeaderValue::from_bytes(self.first(field)?).ok()
    }

    /// Every field with its whole line: its number, its name, and the line with its end.
    pub fn lines(&self) -> impl Iterator<Item = (Id, &[u8], &[u8])> {
        self.index.fields.lines(&self.bytes)
    }
}

impl Fields for RequestHead {
    fn all(&self) -> impl Iterator<Item = (Id, &[u8], &[u8])> {
        self.index.fields.all(&self.bytes)
    }

    fn values<'f>(&'f self, field: &'static Field) -> impl DoubleEndedIterator<Item = &'f [u8]> {
        self.index.fields.values(&self.bytes, field)
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::headers;
    use super::super::{BodyFraming, HeadLimits, HeadPolicy, check_head};
    use super::*;

    const HEAD: &[u8] = b"BITS_POST /in/a%20b?x=1 HTTP/1.1\r\nhost:up\r\nX-Own: \t a b \t\r\n\
        BITS-SESSION-ID: {1}\r\nx-own:\r\nContent-Length: 0\r\n\r\n";

    #[test]
    fn a_head_is_found_by_its_parts() {
        let head = RequestHead::read(HEAD.to_vec()).expect("a head");
        assert_eq!(head.method(), b"BITS_POST");
        assert_eq!(head.target(), b"/in/a%20b?x=1");
        assert_eq!(head.path(), b"/in/a%20b");
        assert_eq!(head.first(&headers::HOST), Some(&b"up"[..]));
        assert_eq!(head.single(&headers::SESSION_ID), Ok(Some(&b"{1}"[..])));
        assert!(head.has(&headers::CONTENT_LENGTH) && !head.has(&headers::CONTENT_RANGE));
        let all: Vec<_> = head.all().map(|(_, name, value)| (name, value)).collect();
        assert_eq!(all[1], (&b"X-Own"[..], &b"a b"[..]));
        assert_eq!(all[3], (&b"x-own"[..], &b""[..]));
        let lines: Vec<u8> = head.lines().flat_map(|(_, _, line)| line.iter().copied()).collect();
        assert!(HEAD.ends_with(&[&lines[..], b"\r\n"].concat()));
    }

    #[test]
    fn the_check_finds_the_parts_that_a_reader_finds() {
        let limits = HeadLimits { head_bytes: 4096, line_bytes: 1024, fields: 10 };
        let facts = check_head(HEAD, &limits, &HeadPolicy::default()).expect("a legal head");
        let head = RequestHead::new(HEAD.to_vec(), facts.index);
        assert_eq!(Some(head), RequestHead::read(HEAD.to_vec()));
    }

    const FRAGMENT: &[u8] =
        b"BITS_POST /a9 HTTP/1.1\r\nHost: up1\r\nContent-Range: bytes 0-9/100\r\n\
        X-Number: 1\r\nContent-Length: 10\r\n\r\n";

    #[track_caller]
    fn repeated(old: &str, new: &str) -> Option<u64> {
        let limits = HeadLimits { head_bytes: 4096, line_bytes: 1024, fields: 10 };
        let checked = |bytes: &[u8]| check_head(bytes, &limits, &HeadPolicy::default()).ok();
        let (before, text) = (FRAGMENT, std::str::from_utf8(FRAGMENT).expect("text"));
        let mut head = RequestHead::new(before.to_vec(), checked(before).expect("legal").index);
        let with_body = [text.replace(old, new).as_bytes(), b"body"].concat();
        let length = head.repeat(&with_body);
        let bytes = &with_body[..with_body.len() - 4];
        match (length, checked(bytes)) {
            (Some(length), Some(facts)) => {
                assert_eq!(facts.body, BodyFraming::Length(length));
                assert_eq!(head, RequestHead::new(bytes.to_vec(), facts.index));
            }
            (Some(_), None) => panic!("{new:?} does not pass"),
            (None, _) => assert_eq!(head, RequestHead::read(before.to_vec()).expect("a head")),
        }
        length
    }

    #[test]
    fn a_head_repeats_another_but_for_its_numbers() {
        assert_eq!(repeated("", ""), Some(10));
        assert_eq!(repeated("0-9/100", "5-7/100"), Some(10));
        assert_eq!(repeated("Length: 10", "Length: 73"), Some(73));
        for (old, new) in [
            ("/a9", "/a8"),
            ("up1", "up2"),
            ("Number: 1", "Number: 2"),
            ("0-9", "0-12"),
            ("0-9/100", "0/9-100"),
            ("0-9/100", "0-9/10 "),
            ("0-9/100", "0-9/10x"),
            ("Length: 10", "Length: 1 "),
            ("Length: 10", "Length: +1"),
            ("Length: 10", "length: 10"),
            ("1.1", "1.0"),
            ("BITS_POST", "BITS_GET"),
            ("\r\n\r\n", "\r\nA: 1\r\n\r\n"),
        ] {
            assert_eq!(repeated(old, new), None, "{old:?} became {new:?}");
        }
    }

    #[test]
    fn the_place_of_a_value_is_known_where_the_field_stands_once() {
        let head = RequestHead::read(FRAGMENT.to_vec()).expect("a head");
        let place = head.place(&headers::CONTENT_LENGTH).expect("it is there");
        assert_eq!(&head.bytes()[place], b"10");
        assert_eq!(head.place(&headers::SESSION_ID), None);
        let twice = b"GET / HTTP/1.1\r\nDate: 1\r\ndate: 2\r\n\r\n";
        let twice = RequestHead::read(twice.to_vec()).expect("a head");
        assert_eq!(twice.place(&headers::DATE), None);
    }

    #[test]
    fn a_head_is_not_repeated_by_half_of_it() {
        let mut head = RequestHead::read(FRAGMENT.to_vec()).expect("a head");
        for end in 0..FRAGMENT.len() {
            assert_eq!(head.repeat(&FRAGMENT[..end]), None);
        }
        let mut without = RequestHead::read(HEAD.to_vec()).expect("a head");
        assert_eq!(without.repeat(HEAD), Some(0));
    }

    #[test]
    fn a_head_without_parts_has_none() {
        let head = RequestHead::default();
        assert_eq!((head.method(), head.target(), head.path()), (&b""[..], &b""[..], &b""[..]));
        assert!(!head.has(&headers::HOST) && head.lines().next().is_none());
    }

    #[test]
    fn bytes_that_are_no_head_are_not_read() {
        for bytes in
            [&b""[..], b"GET", b"GET / HTTP/1.1\r\n", b"GET /\r\n\r\n", b"GET / x\r\na\r\n\r\n"]
        {
            assert_eq!(RequestHead::read(bytes.to_vec()), None, "{bytes:?}");
        }
    }
}
