//! Answers that lead a client elsewhere: to another host, or to another place in its file.

use std::time::Duration;

use e2e_tests::client::packet::latin1;
use e2e_tests::client::{AckRules, Head, PacketType};
use e2e_tests::raw_backend::{RawBackend, Reply, agree};

use crate::bench::{Bench, cancel, close, create, packet, ping};

/// A server that gives answer number n to a packet with `X-Say: n`.
fn saying(answers: Vec<String>) -> Bench {
    saying_with(answers.iter().map(|text| Reply::raw(text)).collect(), |farm| farm)
}

fn saying_with(
    answers: Vec<Reply>,
    change: impl FnOnce(e2e_tests::farm::FarmBuilder) -> e2e_tests::farm::FarmBuilder,
) -> Bench {
    let agree = agree();
    let backend = RawBackend::answering(move |request| {
        let number = request.field("X-Say").and_then(|number| number.parse::<usize>().ok());
        number.and_then(|number| answers.get(number).cloned()).unwrap_or_else(|| agree(request))
    });
    Bench::with(backend, change)
}

fn fragment_of(id: &str) -> Head {
    packet(PacketType::Fragment).field("BITS-Session-Id", id).field("Content-Range", "bytes 0-2/9")
}

fn first(id: &str, say: usize) -> Vec<u8> {
    fragment_of(id).field("X-Say", say).field("Content-Length", 3).with_body(b"abc")
}

#[track_caller]
fn expect_502(bench: &Bench, kind: PacketType, bytes: &[u8]) {
    let answer = bench.exchange(bytes);
    assert_eq!(answer.status, 502, "{}", answer.head);
    let ack = AckRules::own_answer().expect(kind, &answer);
    assert_eq!((ack.hresult, answer.field("Location")), (None, None));
}

/// Fault: backend redirects a packet, or tells an offset that cannot be.
///
/// A redirect ends a job for good, and leads past the gateway.
/// Threat: T11.
#[test]
fn a_redirect_of_a_packet_becomes_502_and_the_upload_goes_on() {
    let statuses =
        ["300 x", "301 Moved", "302 Found", "303 Other", "307 Temporary", "308 Permanent"];
    let bench = saying(
        statuses
            .iter()
            .map(|status| {
                format!(
                    "HTTP/1.1 {status}\r\nLocation: http://elsewhere.test/\r\nContent-Length: 5\r\n\r\nthere"
                )
            })
            .collect(),
    );
    let id = bench.session();
    for say in 0..statuses.len() {
        expect_502(&bench, PacketType::CreateSession, &create().field("X-Say", say).to_bytes());
        expect_502(&bench, PacketType::Ping, &ping().field("X-Say", say).to_bytes());
        expect_502(&bench, PacketType::Fragment, &first(&id, say));
        expect_502(&bench, PacketType::CloseSession, &close(&id).field("X-Say", say).to_bytes());
        expect_502(&bench, PacketType::CancelSession, &cancel(&id).field("X-Say", say).to_bytes());
    }
    bench.passes(&first(&id, usize::MAX));
    assert_eq!(bench.exchange(&close(&id).to_bytes()).status, 200);
    // Ordinary requests may be led away: the client is a browser.
    let page = Head::new("GET", "/page").field("Host", "up.test").field("X-Say", 2);
    let answer = bench.exchange(&page.to_bytes());
    assert_eq!((answer.status, answer.field("Location")), (302, Some("http://elsewhere.test/")));
}

#[test]
fn no_other_answer_to_a_packet_has_a_location() {
    let away = "Location: http://elsewhere.test/";
    let bench = saying(
        ["201 Created", "401 Unauthorized", "404 Not Found", "409 Conflict", "500 x", "503 x"]
            .iter()
            .map(|status| {
                format!(
                    "HTTP/1.1 {status}\r\nBITS-Packet-Type: Ack\r\n{away}\r\nX-Vendor: 1\r\nContent-Length: 0\r\n\r\n"
                )
            })
            .collect(),
    );
    for (say, status) in [201, 401, 404, 409, 500, 503].into_iter().enumerate() {
        let answer = bench.exchange(&ping().field("X-Say", say).to_bytes());
        assert_eq!((answer.status, answer.field("X-Vendor")), (status, Some("1")));
        assert_eq!(answer.field("Location"), None, "{}", answer.head);
    }
}

/// Fault: backend redirects a packet, or tells an offset that cannot be.
/// Threat: T11.
#[test]
fn an_offset_that_cannot_be_becomes_502_and_the_upload_goes_on() {
    const OFFSET: &str = "BITS-Received-Content-Range";
    let answers: Vec<String> = [
        format!("{OFFSET}: 10"),
        format!("{OFFSET}: 18446744073709551615"),
        format!("{OFFSET}: 3\r\n{OFFSET}: 4"),
        format!("{OFFSET}: 3\r\nBITS-Recieved-Content-Range: 4"),
        format!("{OFFSET}: 3\r\n{OFFSET}: none"),
    ]
    .iter()
    .flat_map(|fields| ["200 OK", "416 Range"].map(|status| (status, fields.clone())))
    .map(|(status, fields)| {
        format!(
            "HTTP/1.1 {status}\r\nBITS-Packet-Type: Ack\r\n{fields}\r\nContent-Length: 0\r\n\r\n"
        )
    })
    .collect();
    let count = answers.len();
    let bench = saying(answers);
    let id = bench.session();
    for say in 0..count {
        expect_502(&bench, PacketType::Fragment, &first(&id, say));
    }
    bench.passes(&first(&id, usize::MAX));
}

/// Fault: backend sends the head of an answer byte by byte.
///
/// Its timer must not begin anew with every byte.
/// Threat: T11.
#[test]
fn the_head_of_an_answer_has_a_deadline_in_total() {
    let endless = format!("HTTP/1.1 200 OK\r\n{}", "X: y\r\n".repeat(100_000));
    let interim = "HTTP/1.1 102 Processing\r\n\r\n".repeat(90);
    let slow = |text: &str| Reply::Trickle(latin1(text), Duration::from_millis(20));
    let bench = saying_with(vec![slow(&endless), slow(&interim)], |farm| {
        farm.set("timeouts.answer", "\"2s\"").set("limits.head", "\"256KiB\"")
    });
    for say in 0..2 {
        let answer = bench.exchange(&ping().field("X-Say", say).to_bytes());
        assert_eq!(answer.status, 504, "{}", answer.head);
        AckRules::own_answer().expect(PacketType::Ping, &answer);
        let used = bench.backend.requests().last().expect("the ping").connection;
        bench.backend.ended(used);
    }
    // One that ends in time is none the worse for being slow.
    let bench =
        saying_with(vec![slow("HTTP/1.1 200 OK\r\nBITS-Packet-Type: Ack\r\n\r\n")], |farm| {
            farm.set("timeouts.answer", "\"20s\"")
        });
    assert_eq!(bench.exchange(&ping().field("X-Say", 0).to_bytes()).status, 200);
}

#[test]
fn one_field_is_no_longer_than_all_who_read_it_can_hold() {
    let field = |name: usize, value: usize| ("n".repeat(name), "v".repeat(value));
    let answer = |(name, value): (String, String)| {
        format!(
            "HTTP/1.1 200 OK\r\nBITS-Packet-Type: Ack\r\n{name}: {value}\r\nContent-Length: 0\r\n\r\n"
        )
    };
    let answers = [field(256, 1), field(257, 1), field(1, 64 << 10), field(1, (64 << 10) + 1)];
    let replies = answers.into_iter().map(|field| Reply::raw(&answer(field))).collect();
    let bench = saying_with(replies, |farm| farm.set("limits.head", "\"256KiB\""));
    for (say, status) in [200, 502, 200, 502].into_iter().enumerate() {
        assert_eq!(bench.exchange(&ping().field("X-Say", say).to_bytes()).status, status, "{say}");
    }
    for (name, value, fits) in
        [(256, 1, true), (257, 1, false), (1, 64 << 10, true), (1, (64 << 10) + 1, false)]
    {
        let (name, value) = field(name, value);
        let bytes = ping().field(&name, &value).to_bytes();
        if fits {
            bench.passes(&bytes);
        } else {
            bench.refuses(PacketType::Ping, &bytes);
            let page = Head::new("GET", "/page").field("Host", "up.test").field(&name, &value);
            assert_eq!(bench.exchange(&page.to_bytes()).status, 431);
        }
    }
}
