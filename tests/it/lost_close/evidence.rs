//! What a server says of the file, and what its client is told.

use std::sync::Mutex;

use e2e_tests::client::ack::SESSION_NOT_FOUND;
use e2e_tests::client::{Ack, AckRules, Answer, PacketType};
use e2e_tests::farm::FarmBuilder;
use e2e_tests::raw_backend::{RawBackend, Reply, Request};
use e2e_tests::wait;

use super::closes;
use crate::packets::{
    Packet, Servers, TARGET, close, expect_not_found, expect_not_now, fragment, server,
};

/// What the server's clock says: it need not be right.
const NOW: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
const AN_HOUR_AGO: &str = "Sun, 06 Nov 1994 07:49:37 GMT";

/// The head of an answer about a file of the right size and age, but for what is said of `fields`.
fn file(status: &str, fields: &[(&str, &str)]) -> Reply {
    let mut head = format!("HTTP/1.1 {status}\r\n");
    for (name, value) in [("Content-Length", "9"), ("Date", NOW), ("Last-Modified", NOW)] {
        if !fields.iter().any(|(other, _)| *other == name) {
            head += &format!("{name}: {value}\r\n");
        }
    }
    for (name, value) in fields.iter().filter(|(_, value)| !value.is_empty()) {
        head += &format!("{name}: {value}\r\n");
    }
    Reply::raw(&format!("{head}\r\n"))
}

fn not_found() -> Reply {
    Reply::ack("500 X", &[("BITS-Error", "0x8020001F"), ("BITS-Error-Context", "0x5")])
}

/// One server that takes uploads, knows no session at its Close, and says of files what `heads` say, one after the
/// other and the last one again and again.
#[track_caller]
fn forgetting(heads: &[Reply], change: impl FnOnce(FarmBuilder) -> FarmBuilder) -> Servers {
    let (agree, heads) = (server(0), Mutex::new(heads.to_vec()));
    let answer = move |request: &Request| match (request.method(), &*request.packet_type()) {
        ("HEAD", _) => {
            let mut heads = heads.lock().expect("no script panics");
            if heads.len() > 1 { heads.remove(0) } else { heads[0].clone() }
        }
        (_, "close-session") => not_found(),
        _ => agree(request),
    };
    Servers::of(vec![RawBackend::answering(answer)], |farm| change(farm.without_host_ids()))
}

/// A session of which all 9 bytes have arrived.
#[track_caller]
fn complete(servers: &Servers, target: &str) -> String {
    let (id, _) = servers.open(target);
    servers.passes(&fragment(target, &id, "bytes 0-8/9", b"abcdefghi"));
    id
}

fn heads(servers: &Servers) -> Vec<Request> {
    let requests = servers.backends[0].requests().into_iter();
    requests.filter(|request| request.method() == "HEAD").collect()
}

#[track_caller]
fn expect_acknowledged(answer: &Answer) {
    assert_eq!(answer.status, 200, "{}", answer.head);
    AckRules::own_answer().expect(PacketType::CloseSession, answer);
}

#[track_caller]
fn expect_starts_over(answer: &Answer) {
    let ack = Ack::read(answer);
    assert_eq!((answer.status, ack.hresult), (500, Some(SESSION_NOT_FOUND)), "{}", answer.head);
}

/// Fault: the Ack of a Close-Session is lost on its way from the server.
#[test]
fn a_file_that_is_there_is_acknowledged_and_its_end_is_remembered() {
    let servers = forgetting(&[file("200 OK", &[])], |farm| farm);
    let id = complete(&servers, TARGET);
    expect_acknowledged(&servers.ask(&close(TARGET, &id)));
    assert_eq!(heads(&servers).len(), 1);
    expect_acknowledged(&servers.stays(&close(TARGET, &id)));
    let more = fragment(TARGET, &id, "bytes 0-8/9", b"abcdefghi");
    expect_not_found(PacketType::Fragment, &servers.stays(&more));
    let farm = &servers.farm;
    assert_eq!(closes(farm, "delivered"), 1.0);
    assert_eq!(farm.metric("bitsgw_sessions_ended_total", &[("reason", "closed")]), 1.0);
    assert_eq!(farm.metric("bitsgw_sessions", &[]), 0.0);
}

#[test]
fn a_file_that_is_not_there_or_is_another_one_makes_its_client_start_over() {
    for (status, fields) in [
        ("404 Not Found", &[][..]),
        ("404 Not Found", &[("Content-Length", "0"), ("Last-Modified", ""), ("Date", "")]),
        ("410 Gone", &[]),
        ("200 OK", &[("Content-Length", "8")]),
        ("200 OK", &[("Content-Length", "0")]),
        ("200 OK", &[("Last-Modified", AN_HOUR_AGO)]),
    ] {
        let servers = forgetting(&[file(status, fields)], |farm| farm);
        let id = complete(&servers, TARGET);
        expect_starts_over(&servers.ask(&close(TARGET, &id)));
        assert_eq!(heads(&servers).len(), 1, "{status} {fields:?}");
        expect_not_found(PacketType::CloseSession, &servers.stays(&close(TARGET, &id)));
        assert_eq!(closes(&servers.farm, "not_delivered"), 1.0, "{status} {fields:?}");
        let lost = [("reason", "lost")];
        assert_eq!(servers.farm.metric("bitsgw_sessions_ended_total", &lost), 1.0);
    }
}

#[test]
fn while_it_is_unclear_whether_the_file_is_there_the_client_comes_again() {
    let unclear = [
        file("401 Unauthorized", &[("WWW-Authenticate", "NTLM")]),
        file("403 Forbidden", &[]),
        file("405 Method Not Allowed", &[("Allow", "BITS_POST")]),
        file("302 Found", &[("Location", "/login")]),
        file("204 No Content", &[("Content-Length", "")]),
        file("500 X", &[]),
        file("503 X", &[]),
        file("200 OK", &[("Content-Length", ""), ("Transfer-Encoding", "chunked")]),
        file("200 OK", &[("Content-Length", ""), ("Connection", "close")]),
        file("200 OK", &[("Content-Encoding", "gzip")]),
        file("200 OK", &[("Last-Modified", "")]),
        file("200 OK", &[("Last-Modified", "yesterday")]),
        file("200 OK", &[("Date", "")]),
        Reply::raw("no HTTP at all\r\n\r\n"),
        Reply::SendAndClose(Vec::new()),
        Reply::SendAndReset(Vec::new()),
    ];
    let servers = forgetting(&[&unclear[..], &[file("200 OK", &[])]].concat(), |farm| farm);
    let id = complete(&servers, TARGET);
    for (number, unclear) in unclear.iter().enumerate() {
        let answer = servers.ask(&close(TARGET, &id));
        expect_not_now(&[503], PacketType::CloseSession, &answer);
        assert_eq!(answer.field("Retry-After"), Some("60"), "{unclear:?}");
        assert_eq!(closes(&servers.farm, "unclear"), number as f64 + 1.0, "{unclear:?}");
        assert_eq!(servers.farm.metric("bitsgw_sessions", &[]), 1.0, "{unclear:?}");
    }
    // The doubt is over with the first clear word.
    expect_acknowledged(&servers.ask(&close(TARGET, &id)));
    expect_acknowledged(&servers.stays(&close(TARGET, &id)));
}

#[test]
fn what_stays_unclear_makes_its_client_start_over_in_the_end() {
    let patience = |farm: FarmBuilder| farm.set("sessions.lost_close_after", "\"500ms\"");
    let servers = forgetting(&[file("405 Method Not Allowed", &[])], patience);
    let id = complete(&servers, TARGET);
    expect_not_now(&[503], PacketType::CloseSession, &servers.ask(&close(TARGET, &id)));
    let over = wait::some("its client starts over", || {
        let answer = servers.ask(&close(TARGET, &id));
        (answer.status == 500).then_some(answer)
    });
    expect_starts_over(&over);
    assert_eq!(closes(&servers.farm, "unverified"), 1.0);
    assert!(closes(&servers.farm, "unclear") >= 1.0);
    expect_not_found(PacketType::CloseSession, &servers.stays(&close(TARGET, &id)));
}

#[test]
fn the_file_is_asked_for_in_the_name_of_the_client() {
    let target = "/in/a%20b.bin?site=7";
    let servers = forgetting(&[file("200 OK", &[])], |farm| farm);
    let id = complete(&servers, target);
    let packet = close(target, &id)
        .with("Authorization", "Basic eDp5")
        .with("Cookie", "a=b")
        .with("Cookie", "c=d");
    expect_acknowledged(&servers.ask(&packet));
    let [head] = &heads(&servers)[..] else { panic!("one HEAD") };
    assert_eq!(head.request_line(), format!("HEAD {target} HTTP/1.1"));
    let values = |name: &str| -> Vec<String> {
        let lines = head.field_lines().filter_map(|line| line.split_once(": "));
        let named = lines.filter(|(found, _)| found.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.to_owned()).collect()
    };
    assert_eq!(values("Authorization"), ["Basic eDp5"]);
    assert_eq!(values("Cookie"), ["a=b", "c=d"]);
    assert_eq!(values("Accept-Encoding"), ["identity"]);
    assert_eq!(values("Cache-Control"), ["no-cache"]);
    assert_eq!(values("Content-Length"), Vec::<String>::new());
    let of_packets = head.field_lines().find(|line| line.to_ascii_lowercase().starts_with("bits-"));
    assert_eq!(of_packets, None);
}

#[test]
fn a_login_that_counts_for_a_connection_is_no_login_for_the_question() {
    let servers = forgetting(&[file("401 Unauthorized", &[])], |farm| farm);
    let id = complete(&servers, TARGET);
    for login in ["NTLM TlRMTVNTUAAB", "Negotiate YII"] {
        let packet = close(TARGET, &id).with("Authorization", login);
        expect_not_now(&[503], PacketType::CloseSession, &servers.ask(&packet));
    }
    for head in heads(&servers) {
        assert_eq!(head.field("Authorization"), None);
    }
    assert_eq!(heads(&servers).len(), 2);
}

#[test]
fn a_session_of_which_bytes_are_missing_is_lost() {
    let servers = forgetting(&[file("200 OK", &[])], |farm| farm);
    let part = |id: &str| fragment(TARGET, id, "bytes 0-7/9", b"abcdefgh");
    let close_of = |id: &str| -> Packet { close(TARGET, id) };
    let (empty, _) = servers.open(TARGET);
    let (begun, _) = servers.open(TARGET);
    servers.passes(&part(&begun));
    for id in [&empty, &begun] {
        expect_starts_over(&servers.ask(&close_of(id)));
    }
    assert_eq!(heads(&servers).len(), 0);
    assert_eq!(closes(&servers.farm, "incomplete"), 2.0);
}

#[test]
fn an_operator_may_have_such_closes_acknowledged_or_not_without_a_question() {
    let policy = |word: &'static str| {
        move |farm: FarmBuilder| farm.set("sessions.lost_close", &format!("\"{word}\""))
    };
    let servers = forgetting(&[file("404 Not Found", &[])], policy("ack"));
    let id = complete(&servers, TARGET);
    expect_acknowledged(&servers.ask(&close(TARGET, &id)));
    expect_acknowledged(&servers.stays(&close(TARGET, &id)));
    assert_eq!((heads(&servers).len(), closes(&servers.farm, "acknowledged")), (0, 1.0));
    let (begun, _) = servers.open(TARGET);
    expect_starts_over(&servers.ask(&close(TARGET, &begun)));

    let servers = forgetting(&[file("200 OK", &[])], policy("restart"));
    let id = complete(&servers, TARGET);
    expect_starts_over(&servers.ask(&close(TARGET, &id)));
    assert_eq!((heads(&servers).len(), closes(&servers.farm, "restarted")), (0, 1.0));
}

/// Fault: the Ack of a Close-Session is lost on its way from the server.
#[test]
fn what_had_arrived_is_known_after_the_gateway_was_killed() {
    let servers = forgetting(&[file("200 OK", &[])], |farm| farm);
    let id = complete(&servers, TARGET);
    // The Ack of the last byte does not wait for the disk, and an end does.
    let (other, _) = servers.open("/in/other.bin");
    servers.ask(&close("/in/other.bin", &other));
    servers.farm.gateway().restart();
    expect_acknowledged(&servers.ask(&close(TARGET, &id)));
    servers.farm.gateway().restart();
    expect_acknowledged(&servers.stays(&close(TARGET, &id)));
}

#[test]
fn not_found_to_any_other_packet_ends_the_session_without_a_question() {
    let (agree, forgets) = (server(0), ["fragment", "cancel-session"]);
    let sent = Mutex::new(0);
    let answer = move |request: &Request| {
        let mut sent = sent.lock().expect("no script panics");
        *sent += u32::from(request.packet_type() == "fragment");
        match &*request.packet_type() {
            kind if forgets.contains(&kind) && *sent != 1 => not_found(),
            _ => agree(request),
        }
    };
    let servers = Servers::of(vec![RawBackend::answering(answer)], |farm| farm.without_host_ids());
    let id = complete(&servers, TARGET);
    expect_starts_over(&servers.ask(&fragment(TARGET, &id, "bytes 0-8/9", b"abcdefghi")));
    expect_not_found(PacketType::CloseSession, &servers.stays(&close(TARGET, &id)));
    assert_eq!(heads(&servers).len(), 0);
}
