//! What an answer means to the client, as one pure function: MC-BUP 3.1.5, Win32 pages "Ack for ...".

use super::ack::{self, Ack};
use super::packet::PacketType;
use super::wire::Answer;

/// How an answer is to be taken.
pub(super) enum Verdict {
    Success,
    SessionNotFound,
    Resync(u64),
    TooLarge,
    Challenge,
    Transient,
    Fatal(String),
}

/// `end` is the offset after the fragment that was sent, `highest_sent` the largest offset that the server can know.
pub(super) fn judge(packet: PacketType, answer: &Answer, end: u64, highest_sent: u64) -> Verdict {
    let ack = Ack::read(answer);
    if answer.minor_version == 0 {
        return Verdict::Fatal("the server speaks HTTP/1.0 (0x80200012)".to_owned());
    }
    if ack.is_session_not_found() && packet != PacketType::CancelSession {
        return Verdict::SessionNotFound;
    }
    let status = answer.status;
    let sent = highest_sent.max(end);
    match (status, packet) {
        (200, _) | (201, PacketType::CreateSession) => judge_success(packet, &ack, end, sent),
        (416, PacketType::Fragment) => match ack.received {
            Some(offset) if offset <= sent => Verdict::Resync(offset),
            _ => Verdict::Fatal("416 without a usable offset".to_owned()),
        },
        (413, PacketType::Fragment) => Verdict::TooLarge,
        (401 | 407, _) => Verdict::Challenge,
        (500..=599, PacketType::CloseSession | PacketType::CancelSession) => Verdict::Transient,
        _ => match ack.hresult {
            Some(ack::TOO_LARGE) => Verdict::Fatal("the file is too large".to_owned()),
            Some(ack::INVALID_ARGUMENT) => Verdict::Fatal("bad request".to_owned()),
            _ if is_transient(status) => Verdict::Transient,
            _ => Verdict::Fatal(format!("status {status}")),
        },
    }
}

fn judge_success(packet: PacketType, ack: &Ack, end: u64, sent: u64) -> Verdict {
    let invalid = |what: &str| Verdict::Fatal(format!("invalid server response: {what}"));
    if !ack.is_ack {
        return invalid("not an Ack");
    }
    match packet {
        PacketType::CreateSession if ack.session.as_deref().unwrap_or("").is_empty() => {
            invalid("no session id")
        }
        PacketType::CreateSession if ack.protocol.is_none() => invalid("no protocol"),
        PacketType::Fragment => match ack.received {
            None => invalid("no offset"),
            Some(offset) if offset > sent => invalid("an offset beyond what was sent"),
            Some(offset) if offset != end => Verdict::Resync(offset),
            Some(_) => Verdict::Success,
        },
        _ => Verdict::Success,
    }
}

/// The only published table of statuses, written for the application behind the server (Win32 "Handling Server
/// Application Errors").
fn is_transient(status: u16) -> bool {
    match status {
        300..=305 | 307 => false,
        400..=499 => matches!(status, 408 | 409),
        501 | 505 => false,
        // A success status that is no success for the packet breaks the protocol.
        200..=299 => false,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_transient_as_published() {
        let transient = [306, 308, 408, 409, 500, 502, 503, 504, 599];
        let fatal = [202, 301, 302, 307, 400, 403, 404, 405, 411, 421, 429, 501, 505];
        assert!(transient.into_iter().all(is_transient));
        assert!(!fatal.into_iter().any(is_transient));
    }
}
