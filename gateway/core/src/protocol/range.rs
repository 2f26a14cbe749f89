//! `Content-Range` of a Fragment (MC-BUP 2.2.6.1).

/// -1, printed as a number of 32 bits without a sign.
const MINUS_ONE_32: u64 = u32::MAX as u64;

/// The bytes that a Fragment carries: `bytes F-L/T`, zero-based, inclusive.
///
/// Fields are checked on reading: either `first <= last < total`, or the file is empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ContentRange {
    first: u64,
    len: u64,
    total: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RangeError {
    #[error("Content-Range is not `bytes first-last/total`")]
    Syntax,
    #[error("Content-Range holds a number over 64 bits")]
    Overflow,
    #[error("Content-Range ends before it starts")]
    Reversed,
    #[error("Content-Range ends beyond its total")]
    BeyondTotal,
}

impl ContentRange {
    pub fn new(first: u64, last: u64, total: u64) -> Result<Self, RangeError> {
        // What a client sends for a file of no bytes is nowhere written. `last` would be -1, so
        // that is let through, as 32 and 64 bits hold it, and 0; the body must be empty all the
        // same.
        if total == 0 && first == 0 && [0, MINUS_ONE_32, u64::MAX].contains(&last) {
            return Ok(Self { first: 0, len: 0, total: 0 });
        }
        if last < first {
            return Err(RangeError::Reversed);
        }
        if last >= total {
            return Err(RangeError::BeyondTotal);
        }
        Ok(Self { first, len: last - first + 1, total })
    }

    pub fn parse<T: AsRef<[u8]> + ?Sized>(value: &T) -> Result<Self, RangeError> {
        let (unit, rest) = value.as_ref().split_at_checked(6).ok_or(RangeError::Syntax)?;
        if !unit.eq_ignore_ascii_case(b"bytes ") {
            return Err(RangeError::Syntax);
        }
        let split = |text: &'_ [u8], at: u8| text.iter().position(|&byte| byte == at);
        let dash = split(rest, b'-').ok_or(RangeError::Syntax)?;
        let (first, rest) = (&rest[..dash], &rest[dash + 1..]);
        let slash = split(rest, b'/').ok_or(RangeError::Syntax)?;
        let (last, total) = (&rest[..slash], &rest[slash + 1..]);
        Self::new(number(first)?, number(last)?, number(total)?)
    }

    /// Offset of the first byte.
    pub fn first(&self) -> u64 {
        self.first
    }

    /// Bytes in this Fragment; what its Content-Length must say.
    pub fn len(&self) -> u64 {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Offset after the last byte.
    pub fn end(&self) -> u64 {
        self.first + self.len
    }

    /// Size of the file in bytes.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Whether this Fragment completes the file. A server may call its application then, so this
    /// is the one Fragment that is not repeatable without a thought.
    pub fn is_final(&self) -> bool {
        self.end() == self.total
    }
}

/// A next offset as `BITS-Received-Content-Range` holds it.
pub fn next_offset(value: &[u8]) -> Option<u64> {
    number(value).ok()
}

/// As many digits as the largest number has. Leading zeros beyond that are read in different ways.
const DIGITS: usize = 20;

/// Digits only: no sign, no space, no `*`.
pub fn number(text: &[u8]) -> Result<u64, RangeError> {
    if text.len() > DIGITS {
        return Err(RangeError::Overflow);
    }
    if text.is_empty() {
        return Err(RangeError::Syntax);
    }
    let (mut number, mut fits) = (0_u64, true);
    for byte in text {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return Err(RangeError::Syntax);
        }
        let (shifted, over) = number.overflowing_mul(10);
        let (sum, beyond) = shifted.overflowing_add(u64::from(digit));
        (number, fits) = (sum, fits & !over & !beyond);
    }
    if fits { Ok(number) } else { Err(RangeError::Overflow) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(value: &str, expected: Result<(u64, u64, u64), RangeError>) {
        let parsed = ContentRange::parse(value).map(|r| (r.first(), r.len(), r.total()));
        assert_eq!(parsed, expected, "{value:?}");
    }

    #[test]
    fn legal_ranges_are_read() {
        check("bytes 0-5119/10000", Ok((0, 5120, 10000)));
        check("Bytes 5120-9999/10000", Ok((5120, 4880, 10000)));
        check("BYTES 0-0/1", Ok((0, 1, 1)));
        let max = u64::MAX;
        check(&format!("bytes 0-{}/{max}", max - 1), Ok((0, max, max)));
        check("bytes 4294967296-8589934591/8589934592", Ok((1 << 32, 1 << 32, 1 << 33)));
    }

    #[test]
    fn illegal_ranges_are_refused() {
        for value in [
            "",
            "bytes",
            "bytes ",
            "bytes 0-1",
            "bytes 0/1",
            "bytes */10",
            "bytes 0-1/*",
            "bytes=0-1/2",
            "bytes  0-1/2",
            "bytes 0 -1/2",
            "bytes +0-1/2",
            "bytes -1-1/2",
            "bytes 0-1/2,bytes 0-1/2",
            "bytes 0x0-1/2",
            "octets 0-1/2",
            "bytes 0-1/2 ",
        ] {
            check(value, Err(RangeError::Syntax));
        }
        check("bytes 0-18446744073709551616/2", Err(RangeError::Overflow));
        check("bytes 0-000000000000000000001/2", Err(RangeError::Overflow));
        check("bytes 5-4/10", Err(RangeError::Reversed));
        check("bytes 0-10/10", Err(RangeError::BeyondTotal));
    }

    #[test]
    fn an_empty_file_is_a_range_without_bytes() {
        check("bytes 0-0/0", Ok((0, 0, 0)));
        check("bytes 0-18446744073709551615/0", Ok((0, 0, 0)));
        check("bytes 0-4294967295/0", Ok((0, 0, 0)));
        check("bytes 0-4294967294/0", Err(RangeError::BeyondTotal));
        check("bytes 1-4294967295/0", Err(RangeError::BeyondTotal));
        check("bytes 1-1/0", Err(RangeError::BeyondTotal));
        check("bytes 0-4/0", Err(RangeError::BeyondTotal));
    }

    #[test]
    fn the_range_that_reaches_the_total_is_final() {
        assert!(ContentRange::parse("bytes 5-9/10").unwrap().is_final());
        assert!(!ContentRange::parse("bytes 5-8/10").unwrap().is_final());
    }
}
