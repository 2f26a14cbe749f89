//! Windows error codes as the protocol carries them.

use std::fmt;

use http::HeaderValue;

/// An HRESULT.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HResult(pub u32);

impl HResult {
    /// BG_E_SESSION_NOT_FOUND: the client throws its progress away and creates a new session.
    pub const SESSION_NOT_FOUND: Self = Self(0x8020_001F);
    /// E_INVALIDARG: the packet breaks a rule; fatal for the job.
    pub const INVALID_ARGUMENT: Self = Self(0x8007_0057);
    /// E_ACCESSDENIED.
    pub const ACCESS_DENIED: Self = Self(0x8007_0005);
    /// BG_E_TOO_LARGE: larger than the server takes; fatal for the job.
    pub const TOO_LARGE: Self = Self(0x8020_0020);
    /// ERROR_SHARING_VIOLATION: another program has the file open.
    pub const SHARING_VIOLATION: Self = Self(0x8007_0020);
    /// ERROR_LOCK_VIOLATION.
    pub const LOCK_VIOLATION: Self = Self(0x8007_0021);
    /// ERROR_FILE_EXISTS.
    pub const FILE_EXISTS: Self = Self(0x8007_0050);
    /// ERROR_ALREADY_EXISTS.
    pub const ALREADY_EXISTS: Self = Self(0x8007_00B7);
    /// ERROR_DISK_FULL.
    pub const DISK_FULL: Self = Self(0x8007_0070);
    /// The same as MC-BUP prints it: the decimal 112 inside a hexadecimal constant.
    pub const DISK_FULL_AS_PRINTED: Self = Self(0x8007_0112);

    /// Reads a code as generously as the field demands: with `0x`, with `x`, bare, in either case.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix('0').filter(|rest| rest.starts_with(['x', 'X']));
        let digits = digits.unwrap_or(text);
        let digits = digits.strip_prefix(['x', 'X']).unwrap_or(digits);
        if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        u32::from_str_radix(digits, 16).ok().map(Self)
    }

    /// As the value of a header.
    pub fn to_header(self) -> HeaderValue {
        HeaderValue::try_from(self.to_string()).expect("hexadecimal digits are a legal value")
    }

    pub fn is_disk_full(self) -> bool {
        self == Self::DISK_FULL || self == Self::DISK_FULL_AS_PRINTED
    }
}

/// `0x` and eight upper-case digits: bits4j looks for `x8020001F` byte for byte.
impl fmt::Display for HResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{:08X}", self.0)
    }
}

impl fmt::Debug for HResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HResult({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, code: Option<u32>) {
        assert_eq!(HResult::parse(text), code.map(HResult), "{text:?}");
    }

    #[test]
    fn codes_are_read_in_every_spelling_seen() {
        check("0x8020001F", Some(0x8020_001F));
        check("0X8020001f", Some(0x8020_001F));
        check("x80070112", Some(0x8007_0112));
        check("8020001f", Some(0x8020_001F));
        check("0", Some(0));
        check("1", Some(1));
        check("0x1", Some(1));
        check("", None);
        check("0x", None);
        check("0x180200020F", None);
        check("-1", None);
        check("none", None);
    }

    #[test]
    fn a_code_is_written_with_eight_upper_case_digits() {
        assert_eq!(HResult::SESSION_NOT_FOUND.to_string(), "0x8020001F");
        assert_eq!(HResult(1).to_string(), "0x00000001");
    }
}
