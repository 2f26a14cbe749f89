//! What an answer means for a client (MC-BUP 3.1.5, and the win32 pages on its errors).

use gateway_core::protocol::{Fields, HResult, PacketType, headers, read_ack};
use http::StatusCode;
use http::response::Parts;

/// What to do next. Words are for people, in the voice of "the server ...".
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Go on. After a Fragment the next offset is set.
    Accepted { next_offset: Option<u64> },
    /// 416: the server wants another offset, be it a lower one.
    Resync { next_offset: u64 },
    /// The session is gone: create a new one.
    Restart,
    /// 413: the same bytes in smaller Fragments.
    Shrink,
    /// 401 with a challenge of scheme Basic, which a name and a password answer.
    Challenge,
    /// Wait and try again.
    Transient(String),
    /// No retry helps.
    Fatal(String),
}

/// Judges the answer to a packet of type `packet`.
pub fn judge(packet: PacketType, head: &Parts) -> Verdict {
    let ack = read_ack(head.status, &head.headers);
    let status = head.status;
    if ack.is_session_not_found() {
        return Verdict::Restart;
    }
    let fragment = packet == PacketType::Fragment;
    match status.as_u16() {
        200 | 201 if !ack.is_ack => Verdict::Fatal(format!(
            "answered {} without being a BITS server (no Ack header); is the URL right?",
            status.as_u16()
        )),
        200 | 201 if fragment => match ack.next_offset {
            Some(next) => Verdict::Accepted { next_offset: Some(next) },
            None => {
                Verdict::Fatal("accepted a fragment without saying which byte it wants next".into())
            }
        },
        200 | 201 => Verdict::Accepted { next_offset: None },
        416 if fragment => match ack.next_offset {
            Some(next_offset) => Verdict::Resync { next_offset },
            None => Verdict::Fatal("says the offset is wrong, but not which one is right".into()),
        },
        413 if fragment && ack.error != Some(HResult::TOO_LARGE) => Verdict::Shrink,
        401 if offers_basic(head) => Verdict::Challenge,
        // The win32 pages: these two are resent after any 5xx.
        500..=599 if matches!(packet, PacketType::CloseSession | PacketType::CancelSession) => {
            Verdict::Transient(words(head))
        }
        _ if is_transient(status) && !is_fatal_code(ack.error) => Verdict::Transient(words(head)),
        _ => Verdict::Fatal(words(head)),
    }
}

/// The answer in words: `refused access (403, 0x80070005)`.
pub fn words(head: &Parts) -> String {
    let ack = read_ack(head.status, &head.headers);
    let status = head.status.as_u16();
    let meaning = match (status, ack.error) {
        (_, Some(code)) if code.is_disk_full() => "has no room left on its disk",
        (_, Some(HResult::TOO_LARGE)) => "takes no file of this size",
        (501, Some(HResult::ACCESS_DENIED)) => "does not allow uploads to this folder",
        (_, Some(HResult::ACCESS_DENIED)) => {
            "refused access: no right to write there, or the file exists already"
        }
        (411 | 400, Some(HResult::INVALID_ARGUMENT)) => "called the request invalid",
        (_, Some(HResult::INVALID_ARGUMENT)) => "called an argument invalid",
        (_, Some(HResult::SESSION_NOT_FOUND)) => "does not know the upload session (any more)",
        _ if ack.error_context == Some(HResult(7)) => {
            "reports that the application behind it failed"
        }
        (401, _) => "wants a login",
        (403, _) => "refused access",
        (404, _) => "knows no such place, or takes no uploads there",
        (405 | 501, _) => "does not know BITS uploads",
        (407, _) => "is behind a proxy that wants a login, which is not supported",
        (408, _) => "gave up waiting",
        (409, _) => "reports a conflict with another request",
        (413, _) => "calls the request too large",
        (502, _) => "could not get an answer from the server behind it",
        (503, _) => "is not available now",
        (504, _) => "waited too long for the server behind it",
        (300..=399, _) => "sent a redirect, which BITS does not follow",
        (500..=599, _) => "failed inside",
        _ => "answered something unexpected",
    };
    let location = head.headers.get(http::header::LOCATION).and_then(|value| value.to_str().ok());
    let location = location.map(|url| format!(" to {url}")).unwrap_or_default();
    // Zero means "no error"; context 5 says no more than that the server found it itself.
    match ack.error.filter(|code| code.0 != 0) {
        Some(code) => format!("{meaning}{location} ({status}, {code})"),
        None => format!("{meaning}{location} ({status})"),
    }
}

/// The schemes of a 401, for the message that ours is not among them.
pub fn schemes(head: &Parts) -> Vec<&str> {
    let values = head.headers.get_all(http::header::WWW_AUTHENTICATE).iter();
    let words = values.filter_map(|value| value.to_str().ok()?.split_ascii_whitespace().next());
    words.map(|word| word.trim_end_matches(',')).collect()
}

/// Seconds of a Retry-After field; the form with a date is ignored.
pub fn retry_after_s(head: &Parts) -> Option<u64> {
    head.headers.get(http::header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()
}

/// One field of an answer as text.
pub fn text<'h>(head: &'h Parts, field: &'static headers::Field) -> Option<&'h str> {
    Fields::text(&head.headers, field)
}

/// The table that Windows documents for its upload errors: some 3xx, 408 and 409, and 5xx pass by
/// themselves; 300-305, 307, the other 4xx, 501 and 505 do not.
fn is_transient(status: StatusCode) -> bool {
    match status.as_u16() {
        300..=305 | 307 => false,
        408 | 409 => true,
        400..=499 | 501 | 505 => false,
        // A success that is none of 200 and 201 breaks the protocol.
        200..=299 => false,
        _ => true,
    }
}

/// Codes that end a job whatever the status (MC-BUP 3.1.5.2.1).
fn is_fatal_code(code: Option<HResult>) -> bool {
    matches!(code, Some(HResult::TOO_LARGE | HResult::INVALID_ARGUMENT))
}

fn offers_basic(head: &Parts) -> bool {
    head.headers.get_all(http::header::WWW_AUTHENTICATE).iter().any(|value| {
        // One field may list several challenges.
        value.to_str().is_ok_and(|text| {
            text.split(',').any(|part| {
                part.split_ascii_whitespace()
                    .next()
                    .is_some_and(|w| w.eq_ignore_ascii_case("basic"))
            })
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(status: u16, fields: &[(&str, &str)]) -> Parts {
        let mut answer = http::Response::builder().status(status);
        for (name, value) in fields {
            answer = answer.header(*name, *value);
        }
        answer.body(()).expect("legal head").into_parts().0
    }

    const ACK: (&str, &str) = ("BITS-Packet-Type", "Ack");

    #[test]
    fn statuses_are_transient_or_fatal_as_windows_documents_it() {
        for status in [308, 399, 408, 409, 500, 502, 503, 504, 599] {
            let verdict = judge(PacketType::Fragment, &head(status, &[ACK]));
            assert!(matches!(verdict, Verdict::Transient(_)), "{status}: {verdict:?}");
        }
        for status in
            [202, 204, 300, 301, 302, 307, 400, 401, 403, 404, 405, 411, 421, 429, 501, 505]
        {
            let verdict = judge(PacketType::Fragment, &head(status, &[ACK]));
            assert!(matches!(verdict, Verdict::Fatal(_)), "{status}: {verdict:?}");
        }
    }

    #[test]
    fn close_and_cancel_are_resent_after_any_5xx() {
        for packet in [PacketType::CloseSession, PacketType::CancelSession] {
            let verdict = judge(packet, &head(501, &[ACK]));
            assert!(matches!(verdict, Verdict::Transient(_)), "{packet:?}");
        }
    }

    #[test]
    fn session_not_found_restarts_under_either_name() {
        for name in ["BITS-Error", "BITS-Error-Code"] {
            for status in [500, 400] {
                let head = head(status, &[ACK, (name, "0x8020001F")]);
                assert_eq!(judge(PacketType::Fragment, &head), Verdict::Restart);
            }
        }
    }

    #[test]
    fn fatal_codes_win_over_a_transient_status() {
        for code in ["0x80200020", "0x80070057"] {
            let head = head(500, &[ACK, ("BITS-Error", code)]);
            assert!(matches!(judge(PacketType::Fragment, &head), Verdict::Fatal(_)), "{code}");
        }
        let full = head(500, &[ACK, ("BITS-Error", "0x80070070")]);
        let Verdict::Transient(words) = judge(PacketType::Fragment, &full) else { panic!() };
        assert_eq!(words, "has no room left on its disk (500, 0x80070070)");
    }

    #[test]
    fn an_offset_is_believed_on_200_and_416() {
        let accepted = head(200, &[ACK, ("BITS-Received-Content-Range", "10")]);
        let expected = Verdict::Accepted { next_offset: Some(10) };
        assert_eq!(judge(PacketType::Fragment, &accepted), expected);
        let resync = head(416, &[ACK, ("BITS-Received-Content-Range", "3")]);
        assert_eq!(judge(PacketType::Fragment, &resync), Verdict::Resync { next_offset: 3 });
        for status in [200, 416] {
            let silent = judge(PacketType::Fragment, &head(status, &[ACK]));
            assert!(matches!(silent, Verdict::Fatal(_)), "{status}");
        }
    }

    #[test]
    fn a_page_with_status_200_is_no_success() {
        let page = head(200, &[("Content-Type", "text/html")]);
        assert!(matches!(judge(PacketType::CreateSession, &page), Verdict::Fatal(_)));
    }

    #[test]
    fn only_a_fragment_can_be_too_large() {
        assert_eq!(judge(PacketType::Fragment, &head(413, &[ACK])), Verdict::Shrink);
        let create = judge(PacketType::CreateSession, &head(413, &[ACK]));
        assert!(matches!(create, Verdict::Fatal(_)));
    }

    #[test]
    fn basic_is_found_among_other_challenges() {
        let both = head(401, &[("WWW-Authenticate", "Negotiate, Basic realm=\"x\"")]);
        assert_eq!(judge(PacketType::Ping, &both), Verdict::Challenge);
        let ntlm = head(401, &[("WWW-Authenticate", "NTLM")]);
        assert!(matches!(judge(PacketType::Ping, &ntlm), Verdict::Fatal(_)));
        assert_eq!(schemes(&ntlm), ["NTLM"]);
    }

    #[test]
    fn refusals_are_told_in_words() {
        let denied = head(403, &[ACK, ("BITS-Error", "0x80070005"), ("BITS-Error-Context", "0x5")]);
        assert_eq!(
            words(&denied),
            "refused access: no right to write there, or the file exists already (403, 0x80070005)"
        );
        let moved = head(301, &[("Location", "https://up.test/x")]);
        assert!(words(&moved).contains("to https://up.test/x (301)"));
    }
}
