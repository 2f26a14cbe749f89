//! Bytes behind a request: the next request, or nothing.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Condvar, Mutex};

use e2e_tests::client::{PacketType, exchange};
use e2e_tests::farm::ORIGIN;
use e2e_tests::raw_backend::{Moment, RawBackend, Reply};

use super::rig::{ALLOWED, FORBIDDEN, Rig, excerpt, expect_end, ping_with, read};

fn ping(target: &str) -> String {
    ping_with(target, "X: y")
}

/// Item 99.
#[test]
fn pipelined_requests_are_answered_in_their_order() {
    // Each answer says which request it belongs to.
    let backend =
        RawBackend::answering(|request| Reply::ack("200 OK", &[("X-Echo", request.target())]));
    let rig = Rig::of(backend, |farm| farm);
    let mut client = rig.connect();
    let row: String = (0..20).map(|n| ping(&format!("{ALLOWED}?{n}"))).collect();
    client.send(row.as_bytes()).expect("the row is sent");
    for n in 0..20 {
        let answer = read(&mut client, "a row of pings");
        assert_eq!(answer.field("X-Echo"), Some(&*format!("{ALLOWED}?{n}")), "{}", answer.head);
    }
    assert!(!client.is_readable(), "as many answers as requests");
    rig.judged();
}

#[test]
fn a_bad_request_behind_a_good_one_is_refused_after_its_answer() {
    let rig = Rig::start();
    for bad in [
        format!("GET {FORBIDDEN} HTTP/2.0\r\n\r\n"),
        ping_with(FORBIDDEN, "Transfer-Encoding: chunked"),
        ping_with(FORBIDDEN, "X: a\0"),
        "0\r\n\r\n".to_owned(),
        "hello\r\n\r\n".to_owned(),
        "\r\n".repeat(5),
    ] {
        let mut client = rig.connect();
        client.send(format!("{}{bad}{}", ping(ALLOWED), ping(FORBIDDEN)).as_bytes()).expect("sent");
        let first = read(&mut client, &bad);
        assert_eq!(first.status, 200, "{}", first.head);
        let second = read(&mut client, &bad);
        assert_eq!((second.status, second.closes()), (400, true), "{bad:?}: {}", second.head);
        expect_end(&mut client, &bad);
        rig.upload_works(&bad);
    }
}

#[test]
fn nothing_behind_a_request_that_closes_is_read_as_a_request() {
    let rig = Rig::start();
    let closing = ping_with(ALLOWED, "Connection: close");
    let mut client = rig.connect();
    client.send(format!("{closing}{}", ping(FORBIDDEN)).as_bytes()).expect("sent");
    let answer = read(&mut client, &closing);
    assert_eq!((answer.status, answer.closes()), (200, true), "{}", answer.head);
    expect_end(&mut client, &closing);
    rig.upload_works(&closing);
}

/// Threat: T3.
#[test]
fn a_body_holds_what_looks_like_requests_and_is_passed_as_a_body() {
    let rig = Rig::start();
    let hidden = format!("GET {FORBIDDEN} HTTP/1.1\r\nHost: {ORIGIN}\r\n\r\n").repeat(50);
    let id = open(&rig);
    let mut client = rig.connect();
    let body = format!("{hidden}0\r\n\r\n{hidden}");
    let bytes =
        fragment(&id, &format!("bytes 0-{}/{}", body.len() - 1, body.len()), &body, body.len());
    client.send(format!("{bytes}{}", ping(ALLOWED)).as_bytes()).expect("sent");
    for _ in 0..2 {
        let answer = read(&mut client, &bytes);
        assert_eq!((answer.status, answer.closes()), (200, false), "{}", answer.head);
    }
    let whole = rig.backend.requests().into_iter().find(|r| r.packet_type() == "fragment");
    assert!(
        whole.expect("the fragment").body == body.as_bytes(),
        "the body arrived as it was sent"
    );
}

/// Item 80.
#[test]
fn a_body_cut_short_is_never_completed_with_other_bytes() {
    let rig = Rig::start();
    let id = open(&rig);
    for cut in [Cut::Close, Cut::HalfClose, Cut::Reset] {
        let mut client = rig.connect();
        let range = "bytes 0-99999/200000";
        client.send(fragment(&id, range, &"x".repeat(40_000), 100_000).as_bytes()).expect("sent");
        e2e_tests::wait::until("the backend has the head", || {
            rig.backend.requests().last().is_some_and(|r| r.packet_type() == "fragment")
        });
        match cut {
            Cut::Close => drop(client),
            Cut::Reset => client.reset(),
            Cut::HalfClose => {
                client.finish().expect("a half close");
                let got = client.read_to_end().expect("the connection ends");
                assert!(!got.starts_with(b"HTTP/1.1 2"), "{:?}", excerpt(&got));
            }
        }
        let connection = rig.backend.requests().last().expect("the fragment").connection;
        let recorded = rig.backend.ended(connection);
        let tail = String::from_utf8_lossy(&recorded.bytes);
        let arrived = tail.rsplit("\r\n\r\n").next().unwrap_or_default();
        assert!(arrived.len() <= 40_000 && arrived.bytes().all(|b| b == b'x'), "{cut:?}");
        let last = rig.backend.requests().pop().expect("the fragment");
        assert!(!last.complete, "{cut:?}");
        rig.upload_works("a cut body");
    }
    // The pin stayed: the client sends the fragment again.
    let mut client = rig.connect();
    let again = fragment(&id, "bytes 0-99999/200000", &"x".repeat(100_000), 100_000);
    let answer = client.exchange(again.as_bytes()).expect("an answer");
    assert_eq!(answer.field("BITS-Received-Content-Range"), Some("100000"), "{}", answer.head);
    rig.judged();
}

#[derive(Clone, Copy, Debug)]
enum Cut {
    Close,
    HalfClose,
    Reset,
}

#[test]
fn bytes_out_of_turn_wait_in_bounded_room_while_a_request_is_served() {
    // The backend answers only when asked about "/allowed?go".
    let gate = Arc::new((Mutex::new(false), Condvar::new()));
    let wait = gate.clone();
    let backend = RawBackend::scripted(move |moment, request| {
        if moment == Moment::Head {
            return Reply::Wait;
        }
        if request.target() == "/allowed?slow" {
            let (open, changed) = &*wait;
            let mut open = open.lock().expect("no holder panics");
            while !*open {
                open = changed.wait(open).expect("no holder panics");
            }
        }
        Reply::ack("200 OK", &[("X-Echo", request.target())])
    });
    let rig = Rig::of(backend, |farm| farm.plain());
    let row: String = std::iter::once("slow".to_owned())
        .chain((0..2000).map(|n| n.to_string()))
        .map(|n| ping(&format!("{ALLOWED}?{n}")))
        .collect();
    let mut client =
        TcpStream::connect(rig.farm.entrance()).expect("the gateway accepts connections");
    let mut writer = client.try_clone().expect("descriptors are left");
    // More than the gateway may hold for one client, so the writer waits for it.
    let sender = std::thread::spawn(move || writer.write_all(row.as_bytes()));
    rig.backend.request(0);
    let other = exchange(rig.farm.entrance(), ping("/allowed?other").as_bytes());
    assert_eq!(other.expect("an answer").status, 200, "others are served meanwhile");
    assert_eq!(rig.backend.requests().len(), 2, "nothing overtakes the first request");
    *gate.0.lock().expect("no holder panics") = true;
    gate.1.notify_all();
    let mut got = String::new();
    let mut buffer = [0; 64 * 1024];
    while got.matches("X-Echo: ").count() < 2001 || !got.ends_with("\r\n\r\n") {
        let n = client.read(&mut buffer).expect("the connection stands");
        assert!(n > 0, "ended after {got}");
        got += &String::from_utf8_lossy(&buffer[..n]);
    }
    let echoes = got.lines().filter_map(|line| line.strip_prefix("X-Echo: /allowed?"));
    let wanted = std::iter::once("slow".to_owned()).chain((0..2000).map(|n| n.to_string()));
    assert!(echoes.eq(wanted), "answers in the order of the requests");
    sender.join().expect("the sender ends").expect("all is sent");
    rig.judged();
}

#[track_caller]
fn open(rig: &Rig) -> String {
    let create = format!(
        "BITS_POST {ALLOWED} HTTP/1.1\r\nHost: {ORIGIN}\r\nBITS-Packet-Type: Create-Session\r\n\
        BITS-Supported-Protocols: {}\r\nContent-Length: 0\r\n\r\n",
        e2e_tests::client::packet::PROTOCOL
    );
    let answer = rig.passes(&create);
    answer.field("BITS-Session-Id").expect("an id").to_owned()
}

fn fragment(id: &str, range: &str, body: &str, length: usize) -> String {
    format!(
        "BITS_POST {ALLOWED} HTTP/1.1\r\nHost: {ORIGIN}\r\nBITS-Packet-Type: {}\r\n\
        BITS-Session-Id: {id}\r\nContent-Range: {range}\r\nContent-Length: {length}\r\n\r\n{body}",
        PacketType::Fragment.title()
    )
}
