//! Answers of backends that are wrong or hostile: the client hears 502 or what is unmistakable, and no byte of one
//! answer reaches another request.

use std::time::Duration;

use e2e_tests::client::packet::{PROTOCOL, latin1};
use e2e_tests::client::{AckRules, Answer, Connection, PacketType, WireError, exchange};
use e2e_tests::farm::ORIGIN;
use e2e_tests::raw_backend::{Moment, RawBackend, Reply, Request, agree};

use super::rig::{ALLOWED, Rig, ping_with};

const ACK: &str = "HTTP/1.1 200 OK\r\nBITS-Packet-Type: Ack\r\nContent-Length: 0\r\n\r\n";

/// Answers requests for [`ALLOWED`] as `hostile` says, and honest uploads honestly.
fn rig(hostile: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Rig {
    let honest = agree();
    let answer = move |moment: Moment, request: &Request| match (moment, request.target()) {
        (Moment::Head, _) => Reply::Wait,
        (Moment::Body, ALLOWED) => hostile(request),
        (Moment::Body, _) => honest(request),
    };
    Rig::of(RawBackend::scripted(answer), |farm| farm)
}

/// The answer in X-Say of the request, so that one rig serves a table.
fn by_number(answers: Vec<Reply>) -> Rig {
    rig(move |request| {
        let number = request.field("X-Say").and_then(|n| n.parse::<usize>().ok());
        number.and_then(|n| answers.get(n).cloned()).unwrap_or(Reply::raw(ACK))
    })
}

fn ask(rig: &Rig, number: usize) -> Result<Answer, WireError> {
    exchange(rig.farm.entrance(), ping_with(ALLOWED, &format!("X-Say: {number}")).as_bytes())
}

#[track_caller]
fn expect_bad_gateway(answer: &Answer, after: &str) {
    assert_eq!(answer.status, 502, "{after:?} became {}", answer.head);
    let ack = AckRules::own_answer().expect(PacketType::Ping, answer);
    assert_eq!((ack.hresult, ack.session), (None, None), "{}", answer.head);
}

#[track_caller]
fn all_become_502(answers: &[String]) {
    let rig = by_number(answers.iter().map(|text| Reply::Send(latin1(text))).collect());
    for (number, text) in answers.iter().enumerate() {
        let shown = &text[..text.len().min(200)];
        let answer = ask(&rig, number).unwrap_or_else(|error| panic!("{error} after {shown:?}"));
        expect_bad_gateway(&answer, shown);
        // The connection on which it came is not used again.
        let used = rig.backend.requests().last().expect("the ping").connection;
        rig.upload_works(shown);
        rig.backend.ended(used);
        assert!(
            rig.backend.requests().iter().rev().take(4).all(|r| r.connection != used),
            "{shown:?}"
        );
    }
}

fn with_head(lines: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nBITS-Packet-Type: Ack\r\n{lines}\r\n\r\n")
}

/// Threat: T11.
#[test]
fn what_is_no_answer_becomes_502() {
    all_become_502(&[
        "hello\r\n\r\n".to_owned(),
        "HTTP/2 200 OK\r\nContent-Length: 0\r\n\r\n".to_owned(),
        "HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n".to_owned(),
        "HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n".to_owned(),
        "HTTP/1.1 abc OK\r\nContent-Length: 0\r\n\r\n".to_owned(),
        "HTTP/1.1 099 Low\r\nContent-Length: 0\r\n\r\n".to_owned(),
        "ICY 200 OK\r\nContent-Length: 0\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nHost: up.test\r\n\r\n".to_owned(),
        with_head("no colon"),
        with_head("X: nul\0"),
        with_head("X: a\rb"),
        with_head("X\u{1}: a\r\nContent-Length: 0"),
        with_head(": a\r\nContent-Length: 0"),
    ]);
}

/// Threat: T11.
#[test]
fn an_answer_with_a_bad_length_becomes_502() {
    all_become_502(&[
        with_head("Content-Length: x"),
        with_head("Content-Length: -1"),
        with_head("Content-Length: +0"),
        with_head("Content-Length: 99999999999999999999"),
        with_head("Content-Length: 0\r\nContent-Length: 5"),
        with_head("Content-Length: 0, 5"),
        with_head("Content-Length:"),
    ]);
}

/// Threat: T6.
#[test]
fn an_unasked_101_becomes_502_and_opens_no_tunnel() {
    let switching = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n";
    all_become_502(&[
        switching.to_owned(),
        format!("{switching}hello"),
        format!("{switching}{ACK}"),
    ]);
}

/// Threat: T11.
#[test]
fn an_endless_head_becomes_502() {
    let fields = |count: usize| with_head(&"X: y\r\n".repeat(count));
    all_become_502(&[
        with_head(&format!("X: {}\r\nContent-Length: 0", "y".repeat(3 << 20))),
        format!("HTTP/1.1 200 OK\r\nX: {}", "y".repeat(3 << 20)),
        format!("HTTP/1.1 {}", "2".repeat(3 << 20)),
        fields(5_000),
        "\r\n".repeat(1 << 20),
    ]);
}

#[test]
fn a_connection_that_ends_before_an_answer_becomes_502() {
    let replies = vec![
        Reply::SendAndClose(Vec::new()),
        Reply::SendAndReset(Vec::new()),
        Reply::SendAndClose(b"HTTP/1.1 200".to_vec()),
        Reply::SendAndClose(b"HTTP/1.1 200 OK\r\nBITS-Packet-Type: Ack\r\n".to_vec()),
        Reply::SendAndClose(b"HTTP/1.1 100 Continue\r\n\r\n".to_vec()),
    ];
    let count = replies.len();
    let rig = by_number(replies);
    for number in 0..count {
        let answer = ask(&rig, number).unwrap_or_else(|error| panic!("{error} after {number}"));
        expect_bad_gateway(&answer, &format!("answer {number}"));
        rig.upload_works("a lost answer");
    }
}

#[test]
fn an_answer_that_breaks_off_in_its_body_is_not_completed() {
    let page = |fields: &str, body: &str| {
        Reply::SendAndClose(latin1(&format!("HTTP/1.1 404 Not Found\r\n{fields}\r\n\r\n{body}")))
    };
    let rig = by_number(vec![
        page("Content-Length: 100", "hello"),
        page("Transfer-Encoding: chunked", "5\r\nhello\r\n"),
        page("Transfer-Encoding: chunked", "100\r\nhello"),
        page("Transfer-Encoding: chunked", "zz\r\nhello\r\n0\r\n\r\n"),
    ]);
    for number in 0..4 {
        let error = ask(&rig, number).expect_err("half a page is no page");
        let broken = matches!(
            error,
            WireError::Truncated { .. } | WireError::Closed | WireError::Broken { .. }
        );
        assert!(broken, "answer {number}: {error}");
        rig.upload_works("a broken page");
    }
}

/// The client whose answer is followed by more bytes, and everybody after it.
#[track_caller]
fn surplus_goes_nowhere(idle: bool, reply: impl Fn(Vec<u8>) -> Reply) {
    let evil = format!(
        "HTTP/1.1 200 OK\r\nBITS-Packet-Type: Ack\r\nBITS-Protocol: {PROTOCOL}\r\nBITS-Session-Id: {{evil}}\r\n\
        BITS-Received-Content-Range: 666\r\nContent-Length: 0\r\n\r\n"
    );
    let rests = [evil.repeat(3), "hello".to_owned(), "\r\n".to_owned(), "\0".to_owned()];
    let rig = by_number(rests.iter().map(|rest| reply(latin1(&format!("{ACK}{rest}")))).collect());
    for (number, rest) in rests.iter().enumerate() {
        let mut client = rig.connect();
        let ping = ping_with(ALLOWED, &format!("X-Say: {number}"));
        let answer = client.exchange(ping.as_bytes()).expect("an answer");
        assert_eq!(
            (answer.status, answer.field("BITS-Session-Id")),
            (200, None),
            "{}",
            answer.head
        );
        let used = rig.backend.requests().last().expect("the ping").connection;
        if idle {
            // What comes while nobody asks ends the connection.
            rig.backend.ended(used);
        }
        // The same client, and others, get their own answers.
        for _ in 0..3 {
            let next = client.exchange(ping_with(ALLOWED, "X-Say: none").as_bytes());
            let next = next.expect("an answer");
            assert_eq!((next.status, next.field("BITS-Session-Id")), (200, None), "{}", next.head);
            rig.upload_works(rest);
        }
        rig.backend.ended(used);
        assert!(!client.is_readable(), "{rest:?} reached the client");
    }
}

/// Threat: T3.
#[test]
fn bytes_behind_an_answer_reach_nobody() {
    surplus_goes_nowhere(false, Reply::Send);
}

#[test]
fn bytes_that_come_while_nobody_asks_reach_nobody() {
    surplus_goes_nowhere(true, |bytes| Reply::Trickle(bytes, Duration::from_micros(50)));
}

#[test]
fn a_body_beyond_its_length_is_cut() {
    let page = "HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\n\r\nhello world";
    let rig = by_number(vec![Reply::raw(page)]);
    for _ in 0..3 {
        let mut client: Connection = rig.connect();
        let answer = client.exchange(ping_with(ALLOWED, "X-Say: 0").as_bytes()).expect("an answer");
        assert_eq!((answer.status, &*answer.body_text()), (404, "hello"));
        let next =
            client.exchange(ping_with(ALLOWED, "X-Say: none").as_bytes()).expect("an answer");
        assert_eq!(next.status, 200, "{}", next.head);
        rig.upload_works(page);
    }
}

#[test]
fn interim_answers_are_no_answers() {
    let hints = "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n";
    let proceed = "HTTP/1.1 100 Continue\r\n\r\n";
    let rig = by_number(vec![
        Reply::raw(&format!("{proceed}{ACK}")),
        Reply::raw(&format!("{hints}{ACK}")),
        Reply::raw(&format!("{}{ACK}", proceed.repeat(50))),
    ]);
    for number in 0..3 {
        let answer = ask(&rig, number).expect("an answer");
        assert_eq!((answer.status, answer.closes()), (200, false), "{}", answer.head);
        rig.upload_works("interim answers");
    }
}

fn create() -> String {
    format!(
        "BITS_POST {ALLOWED} HTTP/1.1\r\nHost: {ORIGIN}\r\nBITS-Packet-Type: Create-Session\r\n\
        BITS-Supported-Protocols: {PROTOCOL}\r\nContent-Length: 0\r\n\r\n"
    )
}

fn created(lines: &str) -> Reply {
    Reply::Send(latin1(&format!(
        "HTTP/1.1 200 OK\r\nBITS-Packet-Type: Ack\r\nBITS-Protocol: {PROTOCOL}\r\n{lines}Content-Length: 0\r\n\r\n"
    )))
}

/// Item 45.
#[test]
fn an_id_that_the_protocol_forbids_is_hidden_behind_a_minted_one() {
    for id in ["a b", "a\tb", &"x".repeat(101), &"x".repeat(4000), "a\u{e9}b"] {
        let says = created(&format!("BITS-Session-Id: {id}\r\n"));
        let agree = agree();
        let rig = rig(move |request| match &*request.packet_type() {
            "create-session" => says.clone(),
            _ => agree(request),
        });
        let opened = exchange(rig.farm.entrance(), create().as_bytes()).expect("an answer");
        assert_eq!(opened.status, 200, "{id:?}: {}", opened.head);
        let shown =
            AckRules::farm().expect(PacketType::CreateSession, &opened).session.expect("an id");
        assert!(shown.starts_with('{') && shown.len() == 38, "{shown}");
        let fragment = format!(
            "BITS_POST {ALLOWED} HTTP/1.1\r\nHost: {ORIGIN}\r\nBITS-Packet-Type: Fragment\r\n\
            BITS-Session-Id: {shown}\r\nContent-Range: bytes 0-4/9\r\nContent-Length: 5\r\n\r\nhello"
        );
        let answer = exchange(rig.farm.entrance(), fragment.as_bytes()).expect("an answer");
        assert_eq!(
            answer.field("BITS-Received-Content-Range"),
            Some("5"),
            "{id:?}: {}",
            answer.head
        );
        let request = rig.backend.requests().pop().expect("the fragment");
        assert_eq!(request.field("BITS-Session-Id"), Some(id), "byte for byte");
        rig.judged();
    }
}

/// Threat: T11.
#[test]
fn t11_a_session_that_nobody_can_name_becomes_502_and_leaves_no_pin() {
    for lines in
        ["", "BITS-Session-Id:\r\n", "BITS-Session-Id:   \r\n", "BITS-Session-ID-X: {x}\r\n"]
    {
        let says = created(lines);
        let rig = rig(move |_| says.clone());
        let answer = exchange(rig.farm.entrance(), create().as_bytes()).expect("an answer");
        expect_bad_gateway(&answer, lines);
        assert_eq!(rig.farm.metric("bitsgw_sessions", &[]), 0.0);
        rig.upload_works(lines);
    }
}

#[test]
fn a_client_that_was_told_to_continue_still_hears_of_a_lost_backend() {
    let rig = by_number(vec![Reply::SendAndClose(Vec::new())]);
    let fragment = format!(
        "BITS_POST {ALLOWED} HTTP/1.1\r\nHost: {ORIGIN}\r\nBITS-Packet-Type: Ping\r\nX-Say: 0\r\n\
        Expect: 100-continue\r\nContent-Length: 0\r\n\r\n"
    );
    let answer = exchange(rig.farm.entrance(), fragment.as_bytes()).expect("an answer");
    assert_eq!(answer.interim, [100]);
    expect_bad_gateway(&answer, "100 and a lost backend");
}

/// A server that answers before it has read the body may take what follows for a request.
///
/// Threat: T3.
#[test]
fn a_connection_whose_answer_came_before_its_body_serves_nobody_else() {
    for (status, body) in [("200 OK", ""), ("403 Forbidden", "hello")] {
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let honest = agree();
        let rig = Rig::of(
            RawBackend::scripted(move |moment, request| match (moment, request.target()) {
                (Moment::Head, ALLOWED) => Reply::raw(&answer),
                (Moment::Head, _) => Reply::Wait,
                _ => honest(request),
            }),
            |farm| farm,
        );
        let hidden = "GET /honest/hidden HTTP/1.1\r\nHost: up.test\r\n\r\n";
        let half = "x".repeat(40_000);
        let head = format!(
            "POST {ALLOWED} HTTP/1.1\r\nHost: {ORIGIN}\r\nContent-Length: {}\r\n\r\n",
            half.len() * 2 + hidden.len()
        );
        let mut client = rig.connect();
        client.send(format!("{head}{half}").as_bytes()).expect("sent");
        let heard = client.read_answer().expect("the early answer");
        assert_eq!(heard.status.to_string(), status[..3], "{}", heard.head);
        client.send(format!("{half}{hidden}").as_bytes()).expect("sent");
        let used = rig.backend.requests().last().expect("the request").connection;
        for _ in 0..3 {
            rig.upload_works(status);
        }
        let next =
            client.exchange(ping_with("/honest/after", "X: y").as_bytes()).expect("an answer");
        assert_eq!(next.status, 200, "{}", next.head);
        rig.backend.ended(used);
        let after = rig.backend.requests();
        assert!(after.iter().skip(1).all(|r| r.connection != used || r.head.contains("hidden")));
        // What the backend made of the body is its own doing.
        rig.judged();
    }
}
