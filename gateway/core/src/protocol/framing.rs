//! Whether the head of a backend's answer says in one way only where the answer ends, and is no
//! larger than a head has to be.

use http::{StatusCode, Version, response};

use super::field::trim;
use super::head::HeadLimits;
use super::headers::{self, FIELD_LIMIT, NAME_LIMIT};

/// False where two readers could find two ends, or one of them a status that is none. Such an
/// answer is not repaired: what stands behind it might be taken for the next one.
///
/// Equal lengths said twice are one length.
///
/// # Source
/// RFC 9112 sections 6.1 and 6.3, RFC 9110 section 15.
pub fn is_framed_once(head: &response::Parts) -> bool {
    if head.status.as_u16() >= 600 {
        return false;
    }
    let mut codings = head.headers.get_all(&headers::TRANSFER_ENCODING.name).iter();
    let mut lengths = head.headers.get_all(&headers::CONTENT_LENGTH.name).iter();
    if let Some(coding) = codings.next() {
        let chunked = trim(coding.as_bytes()).eq_ignore_ascii_case(b"chunked");
        return chunked
            && codings.next().is_none()
            && lengths.next().is_none()
            && head.version == Version::HTTP_11
            && head.status != StatusCode::NO_CONTENT;
    }
    let Some(first) = lengths.next() else { return true };
    let plain = !first.is_empty() && first.as_bytes().iter().all(u8::is_ascii_digit);
    plain && lengths.all(|length| length == first)
}

/// Whether a head is as small as that of a request has to be. A library may take a mebibyte, which
/// nobody who speaks to a BITS client needs.
pub fn fits(head: &response::Parts, limits: &HeadLimits) -> bool {
    let sizes = || head.headers.iter().map(|(name, value)| (name.as_str().len(), value.len()));
    head.headers.len() <= limits.fields
        && sizes().all(|(name, value)| name <= NAME_LIMIT && value <= FIELD_LIMIT)
        && sizes().map(|(name, value)| name + value + 4).sum::<usize>() <= limits.head_bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_has_bounds_as_a_whole_and_in_each_field() {
        let limits = HeadLimits { head_bytes: 1 << 20, line_bytes: 0, fields: 3 };
        let fits = |fields: &[(String, String)]| {
            let mut answer = http::Response::builder();
            for (name, value) in fields {
                answer = answer.header(name.as_str(), value.as_str());
            }
            fits(&answer.body(()).expect("legal head").into_parts().0, &limits)
        };
        let field = |name: usize, value: usize| ("n".repeat(name), "v".repeat(value));
        assert!(fits(&[]));
        assert!(fits(&[field(NAME_LIMIT, FIELD_LIMIT)]));
        assert!(!fits(&[field(NAME_LIMIT + 1, 1)]));
        assert!(!fits(&[field(1, 1), field(2, FIELD_LIMIT + 1)]));
        assert!(fits(&[field(1, 1), field(2, 1), field(3, 1)]));
        assert!(!fits(&[field(1, 1), field(2, 1), field(3, 1), field(4, 1)]));
        let small = HeadLimits { head_bytes: 10, ..limits };
        let head = http::Response::builder().header("abc", "def").body(()).unwrap().into_parts().0;
        assert!(super::fits(&head, &small));
        assert!(!super::fits(&head, &HeadLimits { head_bytes: 9, ..limits }));
    }

    #[track_caller]
    fn check(status: u16, fields: &[(&str, &str)], expected: bool) {
        let mut answer = http::Response::builder().status(status);
        for (name, value) in fields {
            answer = answer.header(*name, *value);
        }
        let head = answer.body(()).expect("legal head").into_parts().0;
        assert_eq!(is_framed_once(&head), expected, "{status} {fields:?}");
    }

    const LENGTH: &str = "Content-Length";
    const CODING: &str = "Transfer-Encoding";

    #[test]
    fn one_length_or_one_coding_or_none_is_clear() {
        check(200, &[], true);
        check(200, &[(LENGTH, "0")], true);
        check(200, &[(LENGTH, "5"), (LENGTH, "5")], true);
        check(404, &[(CODING, "Chunked")], true);
        check(304, &[(LENGTH, "5")], true);
    }

    #[test]
    fn what_two_readers_could_end_in_two_places_is_not() {
        check(200, &[(LENGTH, "5"), (LENGTH, "6")], false);
        for length in ["", "5, 5", "+5", "-5", "5 5", "0x5"] {
            check(200, &[(LENGTH, length)], false);
        }
        check(200, &[(CODING, "chunked"), (LENGTH, "5")], false);
        check(200, &[(CODING, "chunked"), (CODING, "chunked")], false);
        for coding in ["", "gzip, chunked", "chunked, chunked", "identity", "x"] {
            check(200, &[(CODING, coding)], false);
        }
        check(204, &[(CODING, "chunked")], false);
    }

    #[test]
    fn a_coding_needs_http_1_1() {
        let answer = http::Response::builder().version(Version::HTTP_10).header(CODING, "chunked");
        let head = answer.body(()).expect("legal head").into_parts().0;
        assert!(!is_framed_once(&head));
    }

    #[test]
    fn a_status_has_one_of_five_classes() {
        check(599, &[], true);
        check(600, &[], false);
        check(999, &[], false);
    }
}
