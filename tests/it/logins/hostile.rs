//! What a client may try on a connection that is logged in: whatever becomes of it, nobody is served as somebody else.

use e2e_tests::client::Connection;
use e2e_tests::farm::ORIGIN;
use e2e_tests::raw_backend::{Reply, Request};
use e2e_tests::wait;

use super::server::{Guarded, claimed, log_in};
use crate::packets::{TARGET, fragment, ping, session_of};

/// A connection that is logged in, and the server's at the other end.
#[track_caller]
fn logged_in(guarded: &Guarded, user: &str) -> (Connection, usize) {
    let mut connection = guarded.servers.connect();
    let answer = log_in(&mut connection, &ping(TARGET), user).expect("a login");
    assert_eq!(answer.status, 200, "{}", answer.head);
    (connection, guarded.servers.last_request(0).connection)
}

/// Both ends are gone, and what was logged in with them: the next one is a stranger.
#[track_caller]
fn expect_end_of_both(guarded: &Guarded, client: &mut Connection, theirs: usize, after: &str) {
    wait::until(&format!("the client's connection ends after {after:?}"), || client.is_closed());
    guarded.servers.backends[0].ended(theirs);
    wait::until("nothing is bound", || {
        guarded.servers.farm.metric("bitsgw_bound_connections", &[]) == 0.0
    });
    let answer = guarded.servers.ask(&claimed(&ping(TARGET), "mallory"));
    assert_eq!(answer.status, 401, "after {after:?}: {}", answer.head);
    guarded.expect_clean();
}

/// Requests that are refused, by the lines behind their packet type and their body.
const REFUSED: [(&str, &str); 10] = [
    ("Content-Length: 4\r\nTransfer-Encoding: chunked", "0\r\n\r\n"),
    ("Transfer-Encoding: chunked\r\nContent-Length: 4", "0\r\n\r\n"),
    ("Content-Length: 0\r\nContent-Length: 4", "abcd"),
    ("Transfer-Encoding: chunked, identity", "0\r\n\r\n"),
    ("Content_Length: 0\r\nContent-Length: 0", ""),
    ("Content-Length: 0\r\nX: y\nX-Claim: alice", ""),
    ("Content-Length: 0\r\nX: y\r\n X-Claim: alice", ""),
    ("Content-Length: 0\r\nAuthorization: NTLM last.alice.0\r\nAuthorization: NTLM last.bob.0", ""),
    ("Content-Length: 0\r\nAuthorization: Basic eDp5\r\nAuthorization: Basic eDp5", ""),
    ("Content-Length: 0\r\nConnection: close, Authorization", ""),
];

/// Items 89, 90.
///
/// Threat: T4.
#[test]
fn a_refused_request_ends_a_login_and_takes_nothing_along() {
    let guarded = Guarded::start(|farm| farm);
    let hidden = claimed(&ping("/in/hidden.bin"), "mallory").bytes();
    for (lines, body) in REFUSED {
        let (mut alice, hers) = logged_in(&guarded, "alice");
        let seen = guarded.servers.counts();
        let start = format!("BITS_POST {TARGET} HTTP/1.1\r\nHost: {ORIGIN}\r\nX-Claim: alice");
        let mut bytes =
            format!("{start}\r\nBITS-Packet-Type: Ping\r\n{lines}\r\n\r\n{body}").into_bytes();
        bytes.extend(&hidden);
        alice.send(&bytes).expect("the request is sent");
        let answer = alice.read_answer().expect("an answer");
        assert_eq!((answer.status, answer.closes()), (400, true), "{lines:?}: {}", answer.head);
        assert_eq!(guarded.servers.counts(), seen, "{lines:?} reached the server");
        expect_end_of_both(&guarded, &mut alice, hers, lines);
    }
    let requests = guarded.servers.backends[0].requests();
    assert!(!requests.iter().any(|request| request.head.contains("hidden")));
}

/// Item 90.
///
/// Threat: T4.
#[test]
fn half_a_request_over_a_login_ends_it() {
    let guarded = Guarded::start(|farm| farm);
    let (mut alice, hers) = logged_in(&guarded, "alice");
    let create = claimed(&crate::packets::create(TARGET), "alice");
    let id = session_of(&alice.exchange(&create.bytes()).expect("an answer"));
    // What is missing of its body must not be taken from whoever comes next.
    let whole = claimed(&fragment(TARGET, &id, "bytes 0-8/9", b"123456789"), "alice").bytes();
    alice.send(&whole[..whole.len() - 6]).expect("the start is sent");
    alice.finish().expect("the connection ends");
    expect_end_of_both(&guarded, &mut alice, hers, "half a body");
    let parts = guarded.servers.backends[0].requests();
    assert!(!parts.iter().any(|r| r.packet_type() == "fragment" && r.complete), "{parts:?}");
}

/// A user may log in as another where the server lets him. All of it stays on the one connection.
///
/// Items 89, 90.
///
/// Threat: T4.
#[test]
fn other_credentials_go_over_the_same_connection() {
    let guarded = Guarded::start(|farm| farm);
    let (mut client, theirs) = logged_in(&guarded, "alice");
    let (mut other, others) = logged_in(&guarded, "bob");
    assert_ne!(theirs, others);
    let basic = claimed(&ping(TARGET), "alice").with("Authorization", "Basic Ym9iOmI=");
    assert_eq!(client.exchange(&basic.bytes()).expect("an answer").status, 200);
    let nonce = super::server::first_leg(&mut client, &ping(TARGET), "bob").expect("a challenge");
    let last = super::server::last_leg(&ping(TARGET), "bob", &nonce);
    assert_eq!(client.exchange(&last.bytes()).expect("an answer").status, 200);
    for (connection, number) in [(&mut client, theirs), (&mut other, others)] {
        let packet = claimed(&ping(TARGET), "bob");
        assert_eq!(connection.exchange(&packet.bytes()).expect("an answer").status, 200);
        assert_eq!(guarded.servers.last_request(0).connection, number);
    }
    guarded.expect_clean();
}

/// What a server must not say: a change of the protocol, and more than one answer.
fn strange(request: &Request) -> Option<Reply> {
    let second = "HTTP/1.1 200 OK\r\nX-Claim: mallory\r\nContent-Length: 0\r\n\r\n";
    match request.target() {
        "/101" => Some(Reply::raw(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n",
        )),
        "/twice" => Some(Reply::raw(&format!(
            "HTTP/1.1 200 OK\r\nBITS-Packet-Type: Ack\r\nContent-Length: 0\r\n\r\n{second}"
        ))),
        _ => None,
    }
}

/// Item 90.
///
/// Threat: T4.
#[test]
fn a_login_ends_where_its_server_says_what_nobody_asked_for() {
    let guarded = Guarded::with(strange, |farm| farm);
    for (target, status) in [("/101", 502), ("/twice", 200)] {
        let (mut alice, hers) = logged_in(&guarded, "alice");
        let answer = alice.exchange(&claimed(&ping(target), "alice").bytes()).expect("an answer");
        assert_eq!(answer.status, status, "{target}: {}", answer.head);
        // What came too early is an answer to nothing.
        let _ = alice.send(&claimed(&ping(TARGET), "alice").bytes());
        let rest = alice.read_to_end().unwrap_or_default();
        assert!(!String::from_utf8_lossy(&rest).contains("mallory"), "{target}");
        expect_end_of_both(&guarded, &mut alice, hers, target);
    }
}
