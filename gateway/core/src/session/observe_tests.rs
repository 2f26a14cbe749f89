//! Every packet with every kind of answer, among them each oddity seen in the field.

use http::response;

use super::*;
use crate::protocol::{ContentRange, PacketType, read_ack};

const NOW: Timestamp = Timestamp(1_700_000_000_000);
const LOST: Effects<'static> = Effects::Ended(EndReason::Lost);

/// An answer: status and fields.
type Answer<'a> = (u16, &'a [(&'a str, &'a str)]);

const ACK: (&str, &str) = ("BITS-Packet-Type", "Ack");
const ID: &str = "{3F9C1E52-7B0D-4E7A-9C44-0D5B6A1E8F21}";

fn head(answer: Answer<'_>) -> response::Parts {
    let mut response = http::Response::builder().status(answer.0);
    for (name, value) in answer.1 {
        response = response.header(*name, *value);
    }
    response.body(()).expect("legal head").into_parts().0
}

fn packet(kind: PacketType) -> RequestPacket {
    let session = SessionId::parse(ID).unwrap();
    match kind {
        PacketType::CreateSession => RequestPacket::CreateSession,
        PacketType::Ping => RequestPacket::Ping { session: Some(session) },
        PacketType::Fragment => {
            let range = ContentRange::parse("bytes 10-19/40").unwrap();
            RequestPacket::Fragment { session, range }
        }
        PacketType::CloseSession => RequestPacket::CloseSession { session },
        PacketType::CancelSession => RequestPacket::CancelSession { session },
    }
}

#[track_caller]
fn check(kind: PacketType, pinned: bool, answer: Answer<'_>, expected: &Effects<'_>) {
    let (packet, head) = (packet(kind), head(answer));
    let ack = read_ack(head.status, &head.headers);
    let (doubtful, moved) = (false, false);
    let observed = Observed { packet: &packet, ack: &ack, pinned, doubtful, moved, now: NOW };
    assert_eq!(observe(&observed), *expected, "{kind:?}, pinned {pinned}, {answer:?}");
}

const IN_SESSION: [PacketType; 3] =
    [PacketType::Fragment, PacketType::CloseSession, PacketType::CancelSession];

fn progress(next_offset: u64) -> Progress {
    Progress { next_offset, total: 40, seen: NOW }
}

#[test]
fn a_create_that_succeeded_opens_a_session() {
    for status in [200, 201] {
        for id in [ID, "{3f9c1e52-7b0d-4e7a-9c44-0d5b6a1e8f21}", "-4902601953962343072", "/in/a"] {
            let opened = Opened { backend_session: id, id: SessionId::parse(id) };
            assert!(opened.id.is_some());
            let fields = [ACK, ("BITS-Session-Id", id)];
            let opened = Effects::Opened(opened);
            check(PacketType::CreateSession, false, (status, &fields), &opened);
            // The id is enough: the gateway completes what else an Ack must have.
            check(PacketType::CreateSession, false, (status, &fields[1..]), &opened);
        }
    }
}

#[test]
fn an_id_that_the_protocol_forbids_is_opened_but_not_shown() {
    let long = "x".repeat(101);
    for id in ["a b", long.as_str()] {
        let fields = [ACK, ("BITS-Session-Id", id)];
        let opened = Effects::Opened(Opened { backend_session: id, id: None });
        check(PacketType::CreateSession, false, (200, &fields), &opened);
    }
}

#[test]
fn a_create_ack_without_an_id_is_not_passed_on() {
    let refused = Effects::Refuse(Fault::BackendAnswer);
    check(PacketType::CreateSession, false, (200, &[ACK]), &refused);
    check(PacketType::CreateSession, false, (200, &[ACK, ("BITS-Session-Id", " ")]), &refused);
}

#[test]
fn a_create_that_was_refused_opens_nothing() {
    let id = ("BITS-Session-Id", ID);
    for status in [400, 401, 403, 404, 409, 500, 501, 503] {
        check(PacketType::CreateSession, false, (status, &[ACK, id]), &Effects::Nothing);
    }
    let not_found = [ACK, ("BITS-Error", "0x8020001F")];
    check(PacketType::CreateSession, false, (500, &not_found), &Effects::Nothing);
}

#[test]
fn a_fragment_that_was_stored_is_progress() {
    for (name, value, offset) in [
        ("BITS-Received-Content-Range", "20", 20),
        // Lower than before: the backend lost bytes, and the client goes back.
        ("BITS-Received-Content-Range", "5", 5),
        ("bits-received-content-range", " 20\t", 20),
        // Stored, if in other words: the range of the Fragment tells how far.
        ("BITS-Received-Content-Range", "0-1023/4096", 20),
        ("BITS-Received-Content-Range", "none", 20),
        ("X-Other", "1", 20),
    ] {
        for kind in ["Ack", "ACK", "ack"] {
            let fields = [("BITS-Packet-Type", kind), (name, value)];
            let effects = Effects::Progress(progress(offset));
            check(PacketType::Fragment, true, (200, &fields), &effects);
            let effects = Effects::Adopt(progress(offset));
            check(PacketType::Fragment, false, (200, &fields), &effects);
        }
    }
    let silent = [("BITS-Received-Content-Range", "20")];
    let effects = Effects::Progress(progress(20));
    check(PacketType::Fragment, true, (200, &silent), &effects);
}

#[test]
fn a_416_tells_a_position_whoever_sends_it() {
    for fields in [
        // IIS, and the W pages' HRESULT of zero.
        &[ACK, ("BITS-Received-Content-Range", "7")][..],
        &[ACK, ("BITS-Received-Content-Range", "7"), ("BITS-Error-Code", "0")],
        // GoBITS.
        &[ACK, ("BITS-Recieved-Content-Range", "7")],
        // TransferVM.
        &[ACK, ("BITS-Received-Content-Range", "7"), ("BITS-Error-Code", "0x80070057")],
        // Without the Ack header.
        &[("BITS-Received-Content-Range", "7"), ("BITS-Error", "0x0")],
        &[("BITS-Received-Content-Range", "7")],
    ] {
        // The backend has not agreed to the total of what it refused.
        let position = Progress { total: 0, ..progress(7) };
        let (known, unknown) = (Effects::Progress(position), Effects::Adopt(position));
        check(PacketType::Fragment, true, (416, fields), &known);
        check(PacketType::Fragment, false, (416, fields), &unknown);
    }
    // It has all of the file that the Fragment speaks of.
    let whole = [ACK, ("BITS-Received-Content-Range", "40")];
    check(PacketType::Fragment, true, (416, &whole), &Effects::Progress(progress(40)));
    check(PacketType::Fragment, true, (416, &[ACK]), &Effects::Nothing);
    check(PacketType::Fragment, true, (416, &[]), &Effects::Nothing);
}

#[test]
fn a_fragment_that_was_refused_changes_nothing() {
    let offset = ("BITS-Received-Content-Range", "20");
    for status in [400, 401, 403, 404, 408, 413, 500, 502, 503] {
        check(PacketType::Fragment, true, (status, &[ACK, offset]), &Effects::Nothing);
    }
    // Too large and disk full, in both spellings; SimpleBITSServer's 500 in place of a 416.
    for code in ["0x80200020", "0x80070070", "x80070112", "0x1"] {
        let fields = [ACK, ("BITS-Error-Code", code), ("BITS-Error-Context", "0x5")];
        check(PacketType::Fragment, true, (500, &fields), &Effects::Nothing);
    }
}

#[test]
fn a_close_or_cancel_that_succeeded_ends_the_session() {
    for (kind, reason) in [
        (PacketType::CloseSession, EndReason::Closed),
        (PacketType::CancelSession, EndReason::Cancelled),
    ] {
        for pinned in [true, false] {
            let ended = Effects::Ended(reason);
            check(kind, pinned, (200, &[ACK]), &ended);
            check(kind, pinned, (201, &[ACK, ("BITS-Session-Id", ID)]), &ended);
            check(kind, pinned, (200, &[("BITS-Session-Id", ID)]), &ended);
        }
    }
}

#[test]
fn a_close_or_cancel_that_was_refused_keeps_the_pin() {
    for kind in [PacketType::CloseSession, PacketType::CancelSession] {
        for status in [400, 401, 403, 404, 409, 500, 502, 503, 504] {
            check(kind, true, (status, &[ACK]), &Effects::Nothing);
        }
    }
}

#[test]
fn session_not_found_loses_the_pin_under_either_name_and_in_every_spelling() {
    for name in ["BITS-Error", "BITS-Error-Code", "bits-error-code"] {
        for code in ["0x8020001F", "0x8020001f", "x8020001F", "8020001f", "0X8020001F"] {
            for ack in [&[ACK][..], &[]] {
                let fields = [ack, &[(name, code)]].concat();
                for status in [400, 404, 500] {
                    for kind in IN_SESSION.into_iter().chain([PacketType::Ping]) {
                        let close = kind == PacketType::CloseSession;
                        let lost = if close { Effects::CloseNotFound } else { LOST };
                        check(kind, true, (status, &fields), &lost);
                        check(kind, false, (status, &fields), &Effects::Nothing);
                    }
                }
            }
        }
    }
}

#[test]
fn session_not_found_wins_over_another_code_beside_it() {
    for fields in [
        [("BITS-Error", "0x1"), ("BITS-Error-Code", "0x8020001F")],
        [("BITS-Error", "0x8020001F"), ("BITS-Error-Code", "0x1")],
    ] {
        check(PacketType::Fragment, true, (500, &fields), &LOST);
    }
}

#[test]
fn session_not_found_on_a_success_or_of_the_application_is_read_by_the_status() {
    // A success is a success, whatever code stands beside it.
    let fields = [ACK, ("BITS-Error-Code", "0x8020001F"), ("BITS-Received-Content-Range", "20")];
    let effects = Effects::Progress(progress(20));
    check(PacketType::Fragment, true, (200, &fields), &effects);
    let close = Effects::Ended(EndReason::Closed);
    check(PacketType::CloseSession, true, (200, &fields), &close);
}

#[test]
fn a_ping_teaches_nothing_but_a_loss() {
    for pinned in [true, false] {
        check(PacketType::Ping, pinned, (200, &[ACK]), &Effects::Nothing);
        // SimpleBITSServer's Ping: an error code on a success, an empty context.
        let oddity = [ACK, ("BITS-Error-Code", "1"), ("BITS-Error-Context", "")];
        check(PacketType::Ping, pinned, (200, &oddity), &Effects::Nothing);
        check(PacketType::Ping, pinned, (500, &[ACK]), &Effects::Nothing);
        check(PacketType::Ping, pinned, (401, &[("WWW-Authenticate", "NTLM")]), &Effects::Nothing);
    }
}

#[test]
fn a_page_of_another_program_changes_nothing() {
    for kind in PacketType::ALL {
        for pinned in [true, false] {
            for answer in [
                (200, &[("Content-Type", "text/html")][..]),
                (200, &[("BITS-Packet-Type", "Page")]),
                (201, &[]),
                (401, &[("WWW-Authenticate", "Negotiate")]),
                (404, &[("Content-Type", "text/html")]),
                (407, &[("Proxy-Authenticate", "Basic")]),
                (500, &[("Content-Type", "text/html")]),
                (503, &[("Retry-After", "5")]),
            ] {
                check(kind, pinned, answer, &Effects::Nothing);
            }
        }
    }
}

#[test]
fn reasons_have_labels_of_their_own() {
    let labels = EndReason::ALL.map(EndReason::label);
    for (index, label) in labels.iter().enumerate() {
        assert!(!labels[..index].contains(label), "{label}");
    }
}

#[test]
fn while_the_table_cannot_be_asked_nobody_starts_over_by_the_word_of_an_alias() {
    let head = head((500, &[ACK, ("BITS-Error", "0x8020001F")]));
    let ack = read_ack(head.status, &head.headers);
    for kind in [PacketType::Ping].into_iter().chain(IN_SESSION) {
        let packet = packet(kind);
        let moved = false;
        let effects = |pinned, doubtful| {
            observe(&Observed { packet: &packet, ack: &ack, pinned, doubtful, moved, now: NOW })
        };
        assert_eq!(effects(false, true), Effects::Refuse(Fault::StoreDown), "{kind:?}");
        assert_eq!(effects(false, false), Effects::Nothing);
        // The pin is the truth whether or not there are others that nobody knows.
        let close = kind == PacketType::CloseSession;
        assert_eq!(effects(true, true), if close { Effects::CloseNotFound } else { LOST });
    }
}

#[test]
fn nobody_starts_over_by_the_word_of_a_backend_that_has_just_moved() {
    let not_found = head((500, &[ACK, ("BITS-Error", "0x8020001F")]));
    let effects = |head: &response::Parts, kind, moved| {
        let (packet, ack) = (packet(kind), read_ack(head.status, &head.headers));
        let observed =
            Observed { packet: &packet, ack: &ack, pinned: true, doubtful: false, moved, now: NOW };
        format!("{:?}", observe(&observed))
    };
    for kind in [PacketType::Ping].into_iter().chain(IN_SESSION) {
        assert_eq!(effects(&not_found, kind, true), "Refuse(BackendMoved)", "{kind:?}");
        assert_ne!(effects(&not_found, kind, false), "Refuse(BackendMoved)", "{kind:?}");
    }
    // Other answers mean what they mean.
    assert_eq!(effects(&not_found, PacketType::CreateSession, true), "Nothing");
    let gone = head((200, &[ACK]));
    assert_eq!(effects(&gone, PacketType::CancelSession, true), "Ended(Cancelled)");
}

const REFUSED: Effects<'static> = Effects::Refuse(Fault::BackendAnswer);

#[test]
fn a_redirect_is_no_answer_to_a_packet() {
    for status in [300, 301, 302, 303, 304, 307, 308, 399] {
        for kind in PacketType::ALL {
            for pinned in [true, false] {
                let away = ("Location", "http://elsewhere.test/");
                check(kind, pinned, (status, &[away]), &REFUSED);
                check(kind, pinned, (status, &[ACK, away, ("BITS-Session-Id", ID)]), &REFUSED);
                check(kind, pinned, (status, &[ACK, ("BITS-Error", "0x8020001F")]), &REFUSED);
            }
        }
    }
}

#[test]
fn an_offset_that_cannot_be_is_refused() {
    const OFFSET: &str = "BITS-Received-Content-Range";
    const MISSPELT: &str = "BITS-Recieved-Content-Range";
    for status in [200, 201, 416] {
        let refused = |fields: &[(&str, &str)]| {
            for pinned in [true, false] {
                check(PacketType::Fragment, pinned, (status, fields), &REFUSED);
            }
        };
        refused(&[ACK, (OFFSET, "41")]);
        refused(&[ACK, (OFFSET, "18446744073709551615")]);
        refused(&[ACK, (OFFSET, "20"), (OFFSET, "21")]);
        refused(&[ACK, (OFFSET, "20"), (MISSPELT, "21")]);
        for (text, next_offset) in [("0", 0), ("20", 20), ("40", 40)] {
            // A backend that refuses agrees to no total, unless it has just so many bytes.
            let total = if status == 416 && next_offset < 40 { 0 } else { 40 };
            let progress = Progress { next_offset, total, seen: NOW };
            for fields in [&[ACK, (OFFSET, text)][..], &[ACK, (OFFSET, text), (OFFSET, text)]] {
                check(PacketType::Fragment, true, (status, fields), &Effects::Progress(progress));
            }
        }
    }
    // A file without a byte.
    let session = SessionId::parse(ID).unwrap();
    let range = ContentRange::parse("bytes 0-0/0").unwrap();
    let packet = RequestPacket::Fragment { session, range };
    for (next, expected) in [("0", true), ("1", true), ("2", false)] {
        let head = head((200, &[ACK, (OFFSET, next)]));
        let (ack, doubtful, moved) = (read_ack(head.status, &head.headers), false, false);
        let observed =
            Observed { packet: &packet, ack: &ack, pinned: true, doubtful, moved, now: NOW };
        assert_eq!(observe(&observed) != REFUSED, expected, "{next}");
    }
    // No other packet asks for a position, and an error tells none.
    check(PacketType::Ping, false, (200, &[ACK, (OFFSET, "1"), (OFFSET, "2")]), &Effects::Nothing);
    check(PacketType::Fragment, true, (500, &[ACK, (OFFSET, "41")]), &Effects::Nothing);
}
