//! Sizes at their limit, and one beyond.

use e2e_tests::farm::ORIGIN;

use super::rig::{ALLOWED, FORBIDDEN, Refusal, Rig, ping_with};

/// A Ping whose head has exactly `size` bytes.
fn sized(target: &str, size: usize) -> String {
    let first = format!("W: {}", "y".repeat((size / 2).min(60_000)));
    let room = size - ping_with(target, &format!("{first}\r\nX: ")).len();
    // No value may be longer than 64 KiB.
    let more = room / 50_000;
    let more = format!("\r\nY: {}", "y".repeat(50_000 - 5)).repeat(more);
    let room = size - ping_with(target, &format!("{first}{more}\r\nX: ")).len();
    ping_with(target, &format!("{first}{more}\r\nX: {}", "y".repeat(room)))
}

/// A Ping with exactly `count` fields.
fn fields(target: &str, count: usize) -> String {
    let more: Vec<_> = (3..count).map(|n| format!("X-{n}: y")).collect();
    let ping = ping_with(target, &more.join("\r\n"));
    assert_eq!(ping.matches(": ").count(), count);
    ping
}

/// A Ping whose request line, without its end, has exactly `size` bytes.
fn line(target: &str, size: usize) -> String {
    let room = size - format!("BITS_POST {target}? HTTP/1.1").len();
    ping_with(&format!("{target}?{}", "y".repeat(room)), "X: y")
}

#[track_caller]
fn checks(rig: &Rig, make: fn(&str, usize) -> String, limit: usize, status: u16) {
    let passed = rig.backend.requests().len();
    let answer = e2e_tests::client::exchange(rig.farm.entrance(), make(ALLOWED, limit).as_bytes());
    assert_eq!(answer.expect("an answer").status, 200, "at the limit of {limit}");
    let request = rig.backend.request(passed);
    assert!(request.target().starts_with(ALLOWED), "{}", request.head);
    for size in [limit + 1, limit + 2, limit * 3] {
        rig.refuses(Refusal::Ack(400), &make(FORBIDDEN, size));
        let get =
            make(FORBIDDEN, size + "BITS_POST".len() - "GET".len()).replacen("BITS_POST", "GET", 1);
        rig.refuses(Refusal::Plain(status), &get);
    }
}

/// Threat: T9.
#[test]
fn a_head_has_at_most_80_kib() {
    checks(&Rig::start(), sized, 80 * 1024, 431);
}

/// Threat: T9.
#[test]
fn a_request_line_has_at_most_8_kib() {
    let rig = Rig::start();
    checks(&rig, line, 8 * 1024, 431);
}

/// Threat: T9.
#[test]
fn a_head_has_at_most_100_fields() {
    let rig = Rig::start();
    let get = |count| fields(FORBIDDEN, count).replacen("BITS_POST", "GET", 1);
    rig.passes(&fields(ALLOWED, 100));
    for count in [101, 102, 255, 256, 257, 1000] {
        rig.refuses(Refusal::Ack(400), &fields(FORBIDDEN, count));
        rig.refuses(Refusal::Plain(431), &get(count));
    }
}

#[test]
fn the_limits_are_those_of_the_configuration() {
    let rig = Rig::with(|farm| {
        farm.set("limits.head", "\"2KiB\"").set("limits.line", "300").set("limits.fields", "16")
    });
    checks(&rig, sized, 2048, 431);
    checks(&rig, line, 300, 431);
    rig.passes(&fields(ALLOWED, 16));
    rig.refuses(Refusal::Ack(400), &fields(FORBIDDEN, 17));
}

/// Items 19, 20.
///
/// Threat: T9.
#[test]
fn a_value_of_the_protocol_has_at_most_4096_bytes() {
    let rig = Rig::start();
    for name in ["BITS-Any", "Content-Name", "bits-host-id"] {
        rig.passes_field(&format!("{name}: {}", "y".repeat(4096)));
        let long = format!("{name}: {}", "y".repeat(4097));
        rig.refuses(Refusal::AckAndKeep(400), &ping_with(FORBIDDEN, &long));
    }
    rig.passes_field(&format!("X-Any: {}", "y".repeat(8192)));
}

#[test]
fn an_endless_head_is_refused_at_the_limit_while_it_still_comes() {
    let rig = Rig::start();
    for piece in ["X: y\r\n", "yyyyyyyyyyyyyyyy", "X: y\r\n y\r\n"] {
        let mut client = rig.connect();
        let start = format!("GET {FORBIDDEN} HTTP/1.1\r\nHost: {ORIGIN}\r\nX: ");
        client.send(start.as_bytes()).expect("the start is sent");
        let flood = piece.repeat(64 * 1024 / piece.len());
        // Far more than any buffer on the way holds.
        for _ in 0..1024 {
            if client.is_readable() || client.send(flood.as_bytes()).is_err() {
                break;
            }
        }
        let answer = super::rig::read(&mut client, piece);
        assert_eq!((answer.status, answer.closes()), (431, true), "{}", answer.head);
        rig.upload_works(piece);
    }
}
