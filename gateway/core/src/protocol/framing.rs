//! Whether the head of a backend's answer says in one way only where the answer ends.

use http::{StatusCode, Version, response};

use super::field::trim;
use super::headers;

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
        let chunked = coding.to_str().is_ok_and(|text| trim(text).eq_ignore_ascii_case("chunked"));
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

#[cfg(test)]
mod tests {
    use super::*;

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
