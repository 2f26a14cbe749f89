//! Answers of backends, read for what they teach (MC-BUP 2.2.3 to 2.2.11).

use std::borrow::Cow;

use http::StatusCode;

use super::field::trim;
use super::fields::Fields;
use super::headers;
use super::hresult::HResult;
use super::latin1;
use super::range;

/// What an answer to a packet says, as far as the gateway needs it.
///
/// Reading never fails: backends drift in every direction, and what cannot be understood is
/// absent. Whether enough is there is for [`crate::session::observe()`] to judge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ack<'h> {
    pub status: StatusCode,
    /// Whether `BITS-Packet-Type: Ack` is there. Without it an answer is plain HTTP: a login
    /// challenge, an error page, another program.
    pub is_ack: bool,
    /// The id in the answer, unchecked; bytes beyond ASCII read as Latin-1, see [`latin1`].
    pub session_id: Option<Cow<'h, str>>,
    pub next_offset: Option<u64>,
    /// The answer tells several offsets, and they are not one: whoever reads it may take another
    /// than the client does.
    pub offsets_differ: bool,
    pub error: Option<HResult>,
    /// `BITS-Error-Context`; 7 means that the application behind the server failed.
    pub error_context: Option<HResult>,
}

/// Reads an answer to a packet. Both names of the error header count; where they disagree, the
/// one that says "session not found" does, else the one of MC-BUP.
pub fn read_ack(status: StatusCode, fields: &impl Fields) -> Ack<'_> {
    let code = |field| fields.text(field).and_then(HResult::parse);
    let error = match (code(&headers::ERROR), code(&headers::ERROR_CODE)) {
        (_, Some(HResult::SESSION_NOT_FOUND)) => Some(HResult::SESSION_NOT_FOUND),
        (Some(error), _) => Some(error),
        (None, other) => other,
    };
    let spellings = [&headers::RECEIVED_CONTENT_RANGE, &headers::RECEIVED_CONTENT_RANGE_MISSPELT];
    let all = spellings.into_iter().flat_map(|field| fields.values(field));
    let mut offsets = all.map(|value| range::next_offset(trim(value)));
    let next_offset = offsets.next();
    Ack {
        status,
        is_ack: fields
            .values(&headers::PACKET_TYPE)
            .next()
            .is_some_and(|value| trim(value).eq_ignore_ascii_case(b"Ack")),
        // Two ids name no session: the client might keep the other one.
        session_id: fields
            .single(&headers::SESSION_ID)
            .ok()
            .flatten()
            .map(|id| latin1::decode(id.trim_ascii())),
        next_offset: next_offset.flatten(),
        offsets_differ: offsets.any(|other| Some(other) != next_offset),
        error,
        error_context: code(&headers::ERROR_CONTEXT),
    }
}

impl Ack<'_> {
    /// A success of the protocol: 200 or 201 (OneDrive), and really an Ack.
    ///
    /// SimpleBITSServer sends an error code of 1 with every Ping it likes, so the status decides.
    /// A session id or a next offset makes an Ack even where the header that says so was left
    /// out: the backend has opened the session, or stored the bytes, all the same.
    pub fn is_success(&self) -> bool {
        let named = self.is_ack || self.session_id.is_some() || self.next_offset.is_some();
        named && self.status.is_success()
    }

    /// The backend does not know the session. Not every server calls such an answer an Ack.
    pub fn is_session_not_found(&self) -> bool {
        self.error == Some(HResult::SESSION_NOT_FOUND) && !self.status.is_success()
    }

    /// Answers of the protocol, as opposed to plain HTTP of the server around it. py2
    /// SimpleBITSServer leaves the Ack header off its errors.
    pub fn is_protocol(&self) -> bool {
        self.is_ack || self.error.is_some() || self.next_offset.is_some() || self.is_success()
    }
}

#[cfg(test)]
mod tests {
    use http::response;

    use super::*;

    fn head(status: u16, fields: &[(&str, &str)]) -> response::Parts {
        let mut answer = http::Response::builder().status(status);
        for (name, value) in fields {
            answer = answer.header(*name, *value);
        }
        answer.body(()).expect("legal head").into_parts().0
    }

    #[test]
    fn either_name_of_the_error_header_counts() {
        for name in ["BITS-Error", "BITS-Error-Code"] {
            let head = head(500, &[(name, "0x8020001F"), ("BITS-Error-Context", "0x5")]);
            let ack = read_ack(head.status, &head.headers);
            assert!(ack.is_session_not_found(), "{name}");
            assert!(ack.is_protocol());
            assert!(!ack.is_success());
        }
        let both = head(500, &[("BITS-Error", "0x1"), ("BITS-Error-Code", "8020001f")]);
        assert!(read_ack(both.status, &both.headers).is_session_not_found());
    }

    #[test]
    fn an_error_code_on_a_success_is_still_a_success() {
        let fields = [("BITS-Packet-Type", "ACK"), ("BITS-Error-Code", "1")];
        let head = head(200, &fields);
        assert!(read_ack(head.status, &head.headers).is_success());
    }

    #[test]
    fn an_ack_that_does_not_say_so_is_known_by_what_only_an_ack_has() {
        let opened = head(201, &[("BITS-Session-Id", "{x}")]);
        assert!(
            read_ack(opened.status, &opened.headers).is_success()
                && read_ack(opened.status, &opened.headers).is_protocol()
        );
        let stored = head(200, &[("BITS-Received-Content-Range", "7")]);
        assert!(read_ack(stored.status, &stored.headers).is_success());
        let resync = head(416, &[("BITS-Received-Content-Range", "7")]);
        assert!(
            read_ack(resync.status, &resync.headers).is_protocol()
                && !read_ack(resync.status, &resync.headers).is_success()
        );
        // A challenge that echoes the id is still a page of the server around the protocol.
        let challenge = head(401, &[("BITS-Session-Id", "{x}"), ("WWW-Authenticate", "NTLM")]);
        assert!(!read_ack(challenge.status, &challenge.headers).is_protocol());
    }

    #[test]
    fn a_page_is_no_ack() {
        let head = head(200, &[("Content-Type", "text/html")]);
        let ack = read_ack(head.status, &head.headers);
        assert!(!ack.is_success() && !ack.is_protocol());
    }

    #[test]
    fn the_next_offset_is_one_number() {
        let offset = |value: &str| {
            let head = head(416, &[("BITS-Received-Content-Range", value)]);
            read_ack(head.status, &head.headers).next_offset
        };
        assert_eq!(offset("5120"), Some(5120));
        assert_eq!(offset(" 18446744073709551615 "), Some(u64::MAX));
        assert_eq!(offset("0-1023/4096"), None);
        assert_eq!(offset("none"), None);
        let misspelt = head(416, &[("BITS-Recieved-Content-Range", "7")]);
        assert_eq!(read_ack(misspelt.status, &misspelt.headers).next_offset, Some(7));
    }

    #[test]
    fn offsets_are_one_or_differ() {
        const RIGHT: &str = "BITS-Received-Content-Range";
        const WRONG: &str = "BITS-Recieved-Content-Range";
        let differ = |fields: &[(&str, &str)]| {
            let head = head(200, fields);
            read_ack(head.status, &head.headers).offsets_differ
        };
        for one in [
            &[][..],
            &[(RIGHT, "7")],
            &[(RIGHT, "none")],
            &[(RIGHT, "7"), (RIGHT, "7")],
            &[(RIGHT, "7"), (RIGHT, " 7 "), (WRONG, "7")],
        ] {
            assert!(!differ(one), "{one:?}");
        }
        for two in [
            [(RIGHT, "7"), (RIGHT, "8")],
            [(RIGHT, "7"), (WRONG, "8")],
            [(RIGHT, "7"), (RIGHT, "none")],
            [(RIGHT, "none"), (RIGHT, "7")],
        ] {
            assert!(differ(&two), "{two:?}");
        }
    }
}
