//! Answers that come before the body has been read: the client gets to read them, and the connection goes on where it
//! can.

use std::time::Duration;

use e2e_tests::client::{Answer, Connection, FragmentSizes, Timeouts, exchange};
use e2e_tests::data::Content;
use e2e_tests::farm::{Farm, StubFault};
use serde_json::json;

use crate::packets::{
    Packet, Servers, TARGET, create, expect_not_found, fragment, ping, session_of,
};

const LARGE: usize = 20 << 20;

fn large(id: &str) -> Packet {
    fragment(TARGET, id, &format!("bytes 0-{}/{}", LARGE - 1, 2 * LARGE), &vec![7; LARGE])
}

/// As old clients do: the whole body first, then the answer.
#[track_caller]
fn sends_all_then_reads(client: &mut Connection, packet: &Packet) -> Answer {
    client.send(&packet.bytes()).expect("the whole body is taken");
    client.read_answer().expect("the answer can still be read")
}

fn connect(farm: &Farm) -> Connection {
    let timeouts = Timeouts { send: Duration::from_secs(60), ..Timeouts::short() };
    Connection::open_with(farm.entrance(), timeouts).expect("a connection")
}

#[test]
fn an_answer_of_the_gateway_waits_for_a_client_that_sends_its_whole_body_first() {
    let servers = Servers::start(1);
    let mut client = connect(&servers.farm);
    for _ in 0..2 {
        let packet = large("{nobody}");
        let answer = sends_all_then_reads(&mut client, &packet);
        expect_not_found(packet.kind, &answer);
        assert!(!answer.closes(), "the body was read to its end: {}", answer.head);
    }
    let next = client.exchange(&ping(TARGET).bytes()).expect("an answer");
    assert_eq!(next.status, 200, "{}", next.head);
    assert_eq!(servers.counts(), [1], "the backend has seen the ping only");
}

/// Item 74.
/// Fault: backend answers early.
#[test]
fn an_early_answer_of_a_backend_reaches_a_client_that_sends_its_whole_body_first() {
    let farm = Farm::of_stubs(1).start();
    for status in [413, 403, 401, 500, 507] {
        let opened = exchange(farm.entrance(), &create(TARGET).bytes()).expect("an answer");
        let packet = large(&session_of(&opened));
        let fault = StubFault::on(packet.kind, "early_answer")
            .with("status", status)
            .with("headers", json!([["X-Early", "yes"], ["Content-Length", "5"]]))
            .with("body", "early");
        farm.stub(0).fault(fault);
        let mut client = connect(&farm);
        let answer = sends_all_then_reads(&mut client, &packet);
        let seen = (answer.status, answer.field("X-Early"), &*answer.body_text());
        assert_eq!(seen, (status, Some("yes"), "early"), "{}", answer.head);
        if !answer.closes() {
            let next = client.exchange(&ping(TARGET).bytes()).expect("an answer");
            assert_eq!(next.status, 200, "{}", next.head);
        }
    }
    farm.expect_healthy();
}

#[test]
fn a_refused_body_beyond_the_drain_is_answered_and_ends_the_connection() {
    let servers = Servers::with(1, |farm| farm.set("limits.drain", "\"1MiB\""));
    let mut client = connect(&servers.farm);
    let packet = large("{nobody}");
    // The head and a little: the answer is there before the rest.
    client.send(&packet.bytes()[..10_000]).expect("a part is taken");
    let answer = client.read_answer().expect("an answer");
    expect_not_found(packet.kind, &answer);
    assert!(answer.closes(), "{}", answer.head);
    assert!(client.read_to_end().expect("the end").is_empty());
    // At the limit it is still read.
    let mut client = connect(&servers.farm);
    let size = 1 << 20;
    let range = format!("bytes 0-{}/{}", size - 1, 2 * size);
    let packet = fragment(TARGET, "{nobody}", &range, &vec![7; size]);
    let answer = sends_all_then_reads(&mut client, &packet);
    assert!(!answer.closes(), "{}", answer.head);
    assert_eq!(client.exchange(&ping(TARGET).bytes()).expect("an answer").status, 200);
}

/// Item 29.
#[test]
fn a_client_that_waits_for_100_uploads_over_one_connection() {
    let farm = Farm::of_stubs(1).start();
    let content = Content::seeded(1, 500_000);
    let expect = ("Expect".to_owned(), "100-continue".to_owned());
    let client = farm.client().with(|o| {
        o.fragments = FragmentSizes::Fixed(50_000);
        o.extra_fields = vec![expect];
        // At an alias the client would open a second connection.
        o.ignore_host_id = true;
    });
    let report = client.upload(&farm.url("/in/a.bin"), &content);
    report.expect_smooth();
    assert_eq!(report.connections, 1, "{report}");
    farm.expect_stored("/in/a.bin", &content);
}

/// Item 29.
#[test]
fn curl_sends_a_large_body_after_the_100() {
    let servers = Servers::with(1, |farm| farm.plain());
    let (id, _) = servers.open(TARGET);
    let file = servers.farm.directory().join("body.bin");
    std::fs::write(&file, vec![7; 3 << 20]).expect("the body is written");
    let output = std::process::Command::new("curl")
        .args(["--silent", "--show-error", "--verbose", "--http1.1", "--expect100-timeout", "25"])
        .args(["--request", "BITS_POST", "--header", "BITS-Packet-Type: Fragment"])
        .args(["--header", "Host: up.test", "--header", "Expect: 100-continue"])
        .args(["--header", &format!("BITS-Session-Id: {id}")])
        .args(["--header", &format!("Content-Range: bytes 0-{}/9999999", (3 << 20) - 1)])
        .arg("--data-binary")
        .arg(format!("@{}", file.display()))
        .arg(format!("http://{}{TARGET}", servers.farm.entrance()))
        .output()
        .expect("curl runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("< HTTP/1.1 100 Continue"), "{said}");
    assert!(said.contains("< HTTP/1.1 200 OK"), "{said}");
    assert!(said.contains("left intact"), "the connection is kept: {said}");
    assert_eq!(servers.last_request(0).body.len(), 3 << 20);
}
