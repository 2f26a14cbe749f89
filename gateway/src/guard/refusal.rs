//! Answers to heads that never become requests.

use gateway_core::fault::{Fault, ack_headers};
use gateway_core::protocol::SessionId;
use gateway_core::protocol::head::{HeadError, find_field, opens_packet};

/// A head that was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    pub error: HeadError,
    pub status: u16,
    /// Whether the answer had to be an Ack.
    pub packet: bool,
}

impl Refusal {
    /// Decides the form of the answer from whatever the client sent, and writes it.
    pub fn answer(head: &[u8], error: HeadError, method_override: bool) -> (Self, Vec<u8>) {
        let overridden = method_override
            && head.starts_with(b"POST ")
            && find_field(head, "x-http-method-override")
                .is_some_and(|value| value.eq_ignore_ascii_case("BITS_POST"));
        let packet = overridden || opens_packet(head);
        if packet {
            let session = find_field(head, "bits-session-id").and_then(SessionId::parse);
            let status = Fault::BadRequest.row().status.as_u16();
            let bytes = ack_bytes(Fault::BadRequest, session.as_ref());
            return (Self { error, status, packet }, bytes);
        }
        let status = match error {
            HeadError::TooLong
            | HeadError::LineTooLong
            | HeadError::TooManyFields
            | HeadError::NameTooLong
            | HeadError::ValueTooLong => 431,
            HeadError::Expect => 417,
            HeadError::Method => 501,
            _ => 400,
        };
        (Self { error, status, packet }, plain_bytes(status))
    }
}

/// An Ack for a fault, after which the connection closes.
pub fn ack_bytes(fault: Fault, session: Option<&SessionId>) -> Vec<u8> {
    let status = fault.row().status;
    let mut bytes = status_line(status.as_u16());
    for (field, value) in ack_headers(fault, session) {
        bytes.extend_from_slice(field.wire.as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"Connection: close\r\n\r\n");
    bytes
}

/// The same for a request that is no packet.
pub fn plain_bytes(status: u16) -> Vec<u8> {
    let mut bytes = status_line(status);
    bytes.extend_from_slice(b"Content-Length: 0\r\nConnection: close\r\n\r\n");
    bytes
}

fn status_line(status: u16) -> Vec<u8> {
    let reason = http::StatusCode::from_u16(status).ok().and_then(|s| s.canonical_reason());
    format!("HTTP/1.1 {status} {}\r\n", reason.unwrap_or("Error")).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(head: &str, method_override: bool, expected: &[&str]) {
        let (_, bytes) = Refusal::answer(head.as_bytes(), HeadError::Line, method_override);
        let text = String::from_utf8(bytes).unwrap();
        for line in expected {
            assert!(text.lines().any(|l| l == *line), "{line:?} is missing in {text}");
        }
        let ack = expected.contains(&"BITS-Packet-Type: Ack");
        assert_eq!(text.contains("BITS-Packet-Type: Ack"), ack);
    }

    #[test]
    fn a_packet_is_refused_with_an_ack() {
        check(
            "BITS_POST / HTTP/1.1\r\nBITS-Session-Id: {x}\r\nbad",
            false,
            &[
                "HTTP/1.1 400 Bad Request",
                "BITS-Packet-Type: Ack",
                "BITS-Session-Id: {x}",
                "BITS-Error: 0x80070057",
                "BITS-Error-Code: 0x80070057",
                "BITS-Error-Context: 0x5",
                "Content-Length: 0",
            ],
        );
    }

    #[test]
    fn other_requests_are_refused_without() {
        check("GET / HTTP/1.1\r\n", false, &["HTTP/1.1 400 Bad Request", "Content-Length: 0"]);
        let over = "POST / HTTP/1.1\r\nX-HTTP-Method-Override: bits_post\r\n";
        check(over, false, &["HTTP/1.1 400 Bad Request"]);
        check(over, true, &["HTTP/1.1 400 Bad Request", "BITS-Packet-Type: Ack"]);
    }

    #[test]
    fn an_echoed_id_cannot_split_the_answer() {
        let (_, bytes) = Refusal::answer(
            b"BITS_POST / HTTP/1.1\r\nBITS-Session-Id: a\rX: y\r\n",
            HeadError::Line,
            false,
        );
        assert!(!String::from_utf8(bytes).unwrap().contains("X: y"));
    }
}
