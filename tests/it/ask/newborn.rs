//! Sessions without a byte: what is asked for them, who gets them, and that a question ends none.

use e2e_tests::raw_backend::{RawBackend, Reply, Request, agree};

use super::answers::{ID, asked, is_question, not_found, wants};
use crate::packets::{
    Servers, TARGET, cancel, close, create, created, expect_not_found, fragment, of_session, ping,
    session_of,
};

/// A server whose session `ID` has no byte. It minds the path of a session, or it does not.
fn newborn(minds_paths: bool) -> RawBackend {
    let agree = agree();
    RawBackend::answering(move |request| match &*request.packet_type() {
        "create-session" => created(ID),
        "fragment" if is_question(request) => {
            let known = request.request_line().contains(TARGET);
            if known || !minds_paths { wants("0") } else { not_found() }
        }
        _ => agree(request),
    })
}

fn questions(servers: &Servers, backend: usize) -> Vec<Request> {
    servers.backends[backend].requests().into_iter().filter(is_question).collect()
}

#[track_caller]
fn expect_no_cancel(servers: &Servers) {
    let mut all = servers.backends.iter().flat_map(RawBackend::requests);
    assert!(all.all(|request| request.packet_type() != "cancel-session"));
}

#[test]
fn a_first_fragment_goes_on_to_a_server_that_has_no_byte_of_it() {
    let servers = asked(vec![RawBackend::answering(|_| not_found()), newborn(true)]);
    let target = format!("{TARGET}?site=7");
    let answer = servers.ask(&fragment(&target, ID, "bytes 0-2/9", b"abc"));
    assert_eq!(answer.status, 200, "{}", answer.head);
    let asked = questions(&servers, 1);
    assert_eq!(asked.len(), 2);
    for question in &asked {
        assert_eq!(question.field("Content-Range"), Some("bytes 8-8/9"));
        assert_eq!(question.field("Content-Length"), Some("1"));
        assert_eq!(question.field("BITS-Session-Id"), Some(ID));
        assert_eq!((question.body.len(), question.field("Expect")), (1, None));
    }
    assert_eq!(asked[0].request_line(), format!("BITS_POST {target} HTTP/1.1"));
    // The second one names a file that nobody has, beside the first one's.
    let line = asked[1].request_line().to_owned();
    let name = line.strip_prefix("BITS_POST /in/").and_then(|rest| rest.split('.').next());
    assert!(name.is_some_and(|name| name.len() == 32), "{line}");
    assert!(line.ends_with(".bin?site=7 HTTP/1.1"), "{line}");
    assert_eq!(servers.counts(), [1, 3], "nobody else is asked twice");
    // The Ack made the pin.
    let (served_by, ..) = servers.passes(&fragment(&target, ID, "bytes 3-5/9", b"def"));
    assert_eq!(served_by, 1);
}

/// Threat: T1.
#[test]
fn t1_a_session_without_a_byte_is_not_found_at_a_server_that_minds_no_path() {
    let servers = asked(vec![newborn(false), RawBackend::answering(|_| not_found())]);
    for range in ["bytes 0-2/9", "bytes 0-8/9"] {
        let body = vec![b'x'; if range.contains("-2/") { 3 } else { 9 }];
        let packet = fragment("/in/other.bin", ID, range, &body);
        expect_not_found(packet.kind, &servers.ask(&packet));
    }
    assert!(servers.backends[0].requests().iter().all(is_question), "nothing is passed on");
    expect_no_cancel(&servers);
}

/// Threat: T1.
#[test]
fn t1_a_made_up_path_that_is_not_disowned_proves_nothing() {
    let unclear: [fn() -> Reply; 4] = [
        || Reply::raw("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"),
        || Reply::ack("401 Unauthorized", &[("WWW-Authenticate", "Basic")]),
        || Reply::ack("400 Bad Request", &[("BITS-Error", "0x80070057")]),
        || Reply::SendAndClose(Vec::new()),
    ];
    for unclear in unclear {
        let server = RawBackend::answering(move |request| {
            if request.request_line().contains(TARGET) { wants("0") } else { unclear() }
        });
        let servers = asked(vec![server]);
        let packet = fragment(TARGET, ID, "bytes 0-2/9", b"abc");
        expect_not_found(packet.kind, &servers.ask(&packet));
        assert!(servers.backends[0].requests().iter().all(is_question));
    }
}

#[test]
fn what_cannot_be_asked_for_without_naming_another_size_starts_over_and_is_left_alone() {
    let servers = asked(vec![newborn(true)]);
    // Of sessions of their own, because an answer counts for a moment.
    let packets = [
        fragment(TARGET, "{1}", "bytes 0-7/9", b"abcdefgh"),
        fragment(TARGET, "{2}", "bytes 0-8/9", b"abcdefghi"),
        fragment(TARGET, "{3}", "bytes 0-0/1", b"a"),
        fragment(TARGET, "{4}", "bytes 3-5/9", b"def"),
        close(TARGET, "{5}"),
        cancel(TARGET, "{6}"),
    ];
    for (number, packet) in packets.iter().enumerate() {
        expect_not_found(packet.kind, &servers.ask(packet));
        assert_eq!(servers.counts(), [number + 1], "{packet:?}");
    }
    assert!(servers.backends[0].requests().iter().all(is_question));
}

/// Item 51. Threat: T1.
#[test]
fn t1_who_knows_an_id_and_not_its_path_makes_no_server_hear_of_it() {
    for begun in [false, true] {
        let servers = asked(vec![newborn(false)]);
        let id = session_of(&servers.ask(&create(TARGET)));
        if begun {
            servers.passes(&fragment(TARGET, &id, "bytes 0-2/9", b"abc"));
        }
        for packet in of_session("/in/other.bin", &id) {
            let answer = servers.stays(&packet);
            expect_not_found(packet.kind, &answer);
        }
        servers.passes(&ping("/in/other.bin").with("BITS-Session-Id", &id));
        let (_, request, _) = servers.passes(&fragment(TARGET, &id, "bytes 3-5/9", b"def"));
        assert!(!is_question(&request));
        expect_no_cancel(&servers);
    }
}
