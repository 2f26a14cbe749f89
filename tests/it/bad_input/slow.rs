//! Heads that come slowly or never end.

use std::time::Duration;

use e2e_tests::client::Connection;
use e2e_tests::farm::ORIGIN;
use e2e_tests::wait;

use super::rig::{ALLOWED, FORBIDDEN, Rig, ping_with, read};

fn rig() -> Rig {
    Rig::with(|farm| farm.set("timeouts.client_head", "\"400ms\""))
}

/// One byte at a time until the peer ends the connection; returns how many went.
fn dribble(client: &mut Connection, bytes: &[u8]) -> usize {
    let mut sent = 0;
    wait::until("the slow connection is closed", || {
        // The peer may be gone already.
        if client.send(&bytes[sent % bytes.len()..][..1]).is_ok() {
            sent += 1;
        }
        client.is_closed()
    });
    sent
}

/// Threat: T8.
#[test]
fn a_head_that_dribbles_ends_at_its_deadline_however_many_bytes_come() {
    let rig = rig();
    let heard = rig.heard();
    for start in [
        "",
        "B",
        "GET /forbidden HTTP/1.1\r\n",
        "BITS_POST /forbidden HTTP/1.1\r\nHost: up.test\r\nX: ",
    ] {
        let mut client = rig.connect();
        client.send(start.as_bytes()).expect("the start is sent");
        let sent = dribble(&mut client, b"yyyyyyyy");
        assert!(sent < 20_000, "it was the deadline, not the limit of a head");
        let got = client.read_to_end().expect("the connection has ended");
        assert!(got.is_empty(), "any answer could be fatal to an honest client");
    }
    assert_eq!(rig.heard(), heard);
    let ended = rig.farm.metric("bitsgw_rejected_requests_total", &[("reason", "head_timeout")]);
    assert!(ended >= 4.0, "{ended}");
    rig.upload_works("slow heads");
}

#[test]
fn a_half_head_ends_at_its_deadline_without_any_more_bytes() {
    let rig = rig();
    let mut client = rig.connect();
    client
        .send(format!("GET {FORBIDDEN} HTTP/1.1\r\nHost: {ORIGIN}\r\n").as_bytes())
        .expect("sent");
    assert!(client.read_to_end().expect("the end").is_empty());
    rig.upload_works("a half head");
}

#[test]
fn the_deadline_holds_for_every_head_of_a_connection() {
    let rig = rig();
    let mut client = rig.connect();
    let ping = ping_with(ALLOWED, "X: y");
    for _ in 0..3 {
        assert_eq!(client.exchange(ping.as_bytes()).expect("an answer").status, 200);
    }
    client.send(&ping.as_bytes()[..20]).expect("sent");
    assert!(client.read_to_end().expect("the end").is_empty());
}

#[test]
fn a_connection_without_a_byte_is_not_a_slow_head() {
    let rig = rig();
    let mut idle = rig.connect();
    let mut slow = rig.connect();
    slow.send(b"G").expect("sent");
    wait::until("the slow one is closed", || slow.is_closed());
    // The idle one is older, and still served.
    let answer = idle.exchange(ping_with(ALLOWED, "X: y").as_bytes()).expect("an answer");
    assert_eq!(answer.status, 200);
}

#[test]
fn a_head_in_many_pieces_within_its_time_is_served() {
    let rig = Rig::with(|farm| farm.set("timeouts.client_head", "\"30s\""));
    let mut client = rig.connect();
    let ping = ping_with(ALLOWED, "X: y");
    for byte in ping.as_bytes() {
        client.send(&[*byte]).expect("sent");
        std::thread::yield_now();
    }
    assert_eq!(read(&mut client, &ping).status, 200);
}

/// Threat: T8.
#[test]
fn many_slow_heads_do_not_delay_an_upload() {
    let rig = Rig::with(|farm| farm.set("timeouts.client_head", "\"20s\""));
    let mut slow: Vec<Connection> = (0..300)
        .map(|_| {
            let mut client = rig.connect();
            client.send(b"BITS_POST /forbidden HTTP/1.1\r\nX: ").expect("sent");
            client
        })
        .collect();
    wait::until_within("all are open", Duration::from_secs(10), || {
        rig.farm.metric("bitsgw_connections", &[]) >= 300.0
    });
    rig.upload_works("slow heads");
    assert!(slow.iter_mut().all(|client| !client.is_closed()), "they were open all the time");
}
