//! The trace that a request is part of, as its client says.
//!
//! # Source
//! W3C Trace Context, section 3.2.

use super::{Fields, headers};

/// Version, trace, parent and flags with the dashes between them: all of version 00, and the beginning
/// of every later one.
const LENGTH: usize = 55;

/// What stands in `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TraceParent<'h> {
    Absent,
    /// As it was written, without what a later version adds.
    Valid(&'h [u8]),
    /// Who reads on must not take it, or the `tracestate` beside it, for a trace.
    Malformed,
}

impl<'h> TraceParent<'h> {
    pub fn of(fields: &'h impl Fields) -> Self {
        match fields.single(&headers::TRACEPARENT) {
            Ok(None) => Self::Absent,
            Ok(Some(value)) => valid(value).map_or(Self::Malformed, Self::Valid),
            Err(_) => Self::Malformed,
        }
    }

    pub fn valid(self) -> Option<&'h [u8]> {
        match self {
            Self::Valid(value) => Some(value),
            Self::Absent | Self::Malformed => None,
        }
    }
}

fn valid(value: &[u8]) -> Option<&[u8]> {
    let (known, later) = value.split_at_checked(LENGTH)?;
    let [version, trace, parent, flags] = parts(known)?;
    let fits = match version {
        b"00" => later.is_empty(),
        b"ff" => false,
        _ => matches!(later, [] | [b'-', ..]),
    };
    let hex = |part: &[u8]| part.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let zero = |part: &[u8]| part.iter().all(|&byte| byte == b'0');
    let parts = [version, trace, parent, flags];
    (fits && parts.into_iter().all(hex) && !zero(trace) && !zero(parent)).then_some(known)
}

fn parts(value: &[u8]) -> Option<[&[u8]; 4]> {
    let dashed = [2, 35, 52].iter().all(|&at| value.get(at) == Some(&b'-'));
    dashed.then(|| [&value[..2], &value[3..35], &value[36..52], &value[53..LENGTH]])
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn read(values: &[&str]) -> Option<String> {
        let mut fields = HeaderMap::new();
        for value in values {
            fields.append(&headers::TRACEPARENT.name, value.parse().expect("a legal value"));
        }
        match TraceParent::of(&fields) {
            TraceParent::Absent => Some(String::new()),
            TraceParent::Valid(value) => Some(String::from_utf8(value.to_vec()).unwrap()),
            TraceParent::Malformed => None,
        }
    }

    #[test]
    fn a_trace_is_read_as_it_was_written() {
        assert_eq!(read(&[]).as_deref(), Some(""));
        assert_eq!(read(&[TRACE]).as_deref(), Some(TRACE));
        let later = TRACE.replacen("00", "cc", 1);
        for more in ["", "-", "-what-the-future-will-be-like"] {
            assert_eq!(read(&[&format!("{later}{more}")]), Some(later.clone()), "{more}");
        }
    }

    #[test]
    fn what_is_no_trace_is_malformed() {
        let changed = |from: &str, to: &str| TRACE.replacen(from, to, 1);
        for value in [
            "",
            "00",
            &TRACE[..54],
            &format!("{TRACE}-00"),
            &format!("{TRACE}0"),
            &changed("00-", "ff-"),
            &changed("00-", "0g-"),
            &changed("4bf9", "4BF9"),
            &changed("4bf9", "4bg9"),
            &changed("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            &changed("00f067aa0ba902b7", &"0".repeat(16)),
            &changed("-01", "_01"),
            &changed("-01", "-0x"),
            &format!("{}.", changed("00-", "01-")),
        ] {
            assert_eq!(read(&[value]), None, "{value:?}");
        }
        assert_eq!(read(&[TRACE, TRACE]), None, "which of the two is not known");
    }
}
