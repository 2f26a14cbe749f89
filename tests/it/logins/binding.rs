//! One client connection, one connection to the backend: from when, until when, and how many.

use e2e_tests::client::{Connection, WireError};
use e2e_tests::raw_backend::Reply;
use e2e_tests::wait;

use super::server::{Guarded, claimed, first_leg, last_leg, log_in};
use crate::packets::{Servers, TARGET, create, expect_not_now, fragment, ping};
use e2e_tests::client::PacketType;

fn bound(servers: &Servers) -> f64 {
    servers.farm.metric("bitsgw_bound_connections", &[])
}

#[track_caller]
fn logged_in(guarded: &Guarded, user: &str) -> Connection {
    let mut connection = guarded.servers.connect();
    let answer = log_in(&mut connection, &ping(TARGET), user).expect("a login");
    assert_eq!(answer.status, 200, "{}", answer.head);
    connection
}

/// The server's connection over which the last request came.
fn last_connection(guarded: &Guarded) -> usize {
    guarded.servers.last_request(0).connection
}

/// Item 89.
#[test]
fn a_challenge_passes_with_all_its_schemes() {
    let guarded = Guarded::start(|farm| farm);
    let answer = guarded.servers.ask(&ping(TARGET));
    assert_eq!((answer.status, &*answer.body_text()), (401, "login"));
    let challenges: Vec<_> = answer.fields_named("WWW-Authenticate").collect();
    assert_eq!(challenges, ["Negotiate", "NTLM", "Basic realm=\"a, b\""]);
}

/// Item 89.
///
/// Threat: T4.
#[test]
fn a_login_ends_with_its_client() {
    let guarded = Guarded::start(|farm| farm);
    let alice = logged_in(&guarded, "alice");
    let hers = last_connection(&guarded);
    assert_eq!(bound(&guarded.servers), 1.0);
    drop(alice);
    guarded.servers.backends[0].ended(hers);
    let answer = guarded.servers.ask(&claimed(&ping(TARGET), "bob"));
    assert_eq!(answer.status, 401, "{}", answer.head);
    guarded.expect_clean();
    wait::until("nothing is bound", || bound(&guarded.servers) == 0.0);
}

/// Item 89.
///
/// Threat: T4.
#[test]
fn a_client_leaves_in_the_middle_of_its_login() {
    let guarded = Guarded::start(|farm| farm);
    for user in ["alice", "bob"] {
        let mut connection = guarded.servers.connect();
        first_leg(&mut connection, &ping(TARGET), user).expect("a challenge");
        let hers = last_connection(&guarded);
        drop(connection);
        guarded.servers.backends[0].ended(hers);
    }
    let mut carol = logged_in(&guarded, "carol");
    let answer = carol.exchange(&claimed(&ping(TARGET), "carol").bytes()).expect("an answer");
    assert_eq!(answer.status, 200);
    guarded.expect_clean();
}

/// Item 90.
///
/// Threat: T4.
#[test]
fn a_client_ends_with_its_login() {
    // The server closes after what is called "/last".
    let closing = |request: &e2e_tests::raw_backend::Request| {
        let last = request.target() == "/last" && request.field("Authorization").is_none();
        last.then(|| match Reply::ack("200 OK", &[]) {
            Reply::Send(bytes) => Reply::SendAndClose(bytes),
            other => other,
        })
    };
    let guarded = Guarded::with(closing, |farm| farm);
    let mut alice = logged_in(&guarded, "alice");
    let answer = alice.exchange(&claimed(&ping("/last"), "alice").bytes()).expect("an answer");
    assert_eq!(answer.status, 200);
    // Between two requests, so that she logs in again without having lost anything.
    wait::until("her connection ends", || alice.is_closed());
    guarded.expect_clean();
}

/// Item 90.
///
/// Threat: T4.
#[test]
fn half_a_login_is_not_continued_where_it_did_not_begin() {
    // The answer to the first leg is the last that the server says on the connection.
    let closing = |says_so: bool| {
        move |request: &e2e_tests::raw_backend::Request| {
            let first = request.field("Authorization")?.starts_with("NTLM first");
            let head = "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: NTLM second.0-0\r\n";
            let close = if says_so { "Connection: close\r\n" } else { "" };
            let bytes = format!("{head}{close}Content-Length: 0\r\n\r\n").into_bytes();
            first.then_some(Reply::SendAndClose(bytes))
        }
    };
    for says_so in [true, false] {
        let guarded = Guarded::with(closing(says_so), |farm| farm);
        let mut alice = guarded.servers.connect();
        let first = claimed(&ping(TARGET), "alice").with("Authorization", "NTLM first.alice");
        let answer = alice.exchange(&first.bytes()).expect("an answer");
        assert_eq!(answer.status, 401);
        if says_so {
            assert!(answer.closes(), "{}", answer.head);
        }
        let seen = guarded.servers.counts();
        // At once, before the gateway may have noticed. It hangs up when it sees the end before the
        // request, and answers when it sees it after.
        match alice.exchange(&last_leg(&ping(TARGET), "alice", "0-0").bytes()) {
            Ok(answer) => {
                assert!(!says_so, "a request was read from a closed connection: {}", answer.head);
                expect_not_now(&[502], PacketType::Ping, &answer);
                assert!(answer.closes(), "{}", answer.head);
            }
            Err(end) => {
                assert!(matches!(end, WireError::Closed | WireError::Broken { .. }), "{end:?}");
            }
        }
        assert_eq!(guarded.servers.counts(), seen, "the last leg went elsewhere");
        guarded.expect_clean();
    }
}

/// Item 90.
#[test]
fn a_request_of_somebody_is_not_sent_again_as_of_nobody() {
    // Takes the Fragment of somebody who had logged in, and dies.
    let dying = |request: &e2e_tests::raw_backend::Request| {
        (request.packet_type() == "fragment").then_some(Reply::SendAndReset(Vec::new()))
    };
    let guarded = Guarded::with(dying, |farm| farm);
    let mut alice = logged_in(&guarded, "alice");
    let answer = alice.exchange(&claimed(&create(TARGET), "alice").bytes()).expect("an answer");
    let id = crate::packets::session_of(&answer);
    let before = guarded.servers.counts();
    let packet = claimed(&fragment(TARGET, &id, "bytes 0-2/9", b"abc"), "alice");
    let answer = alice.exchange(&packet.bytes()).expect("an answer");
    expect_not_now(&[502], PacketType::Fragment, &answer);
    assert!(answer.closes(), "{}", answer.head);
    assert_eq!(guarded.servers.only_one_since(&before), 0);
    guarded.expect_clean();
}

/// Item 90.
#[test]
fn logins_over_the_cap_wait_and_others_go_on() {
    let guarded = Guarded::start(|farm| farm.set("limits.bound_connections", "2"));
    let mut alice = logged_in(&guarded, "alice");
    let bob = logged_in(&guarded, "bob");
    let mut carol = guarded.servers.connect();
    let packet = claimed(&ping(TARGET), "carol");
    assert_eq!(carol.exchange(&packet.bytes()).expect("an answer").status, 401);
    let before = guarded.servers.counts();
    let first = packet.clone().with("Authorization", "NTLM first.carol");
    let answer = carol.exchange(&first.bytes()).expect("an answer");
    expect_not_now(&[503], PacketType::Ping, &answer);
    assert_eq!(answer.field("Retry-After"), Some("60"), "{}", answer.head);
    assert_eq!(guarded.servers.counts(), before);
    let rejected = [("reason", "logins_full")];
    wait::until("the refusal is counted", || {
        guarded.servers.farm.metric("bitsgw_rejected_requests_total", &rejected) == 1.0
    });
    let answer = alice.exchange(&claimed(&ping(TARGET), "alice").bytes()).expect("an answer");
    assert_eq!(answer.status, 200);
    let basic = ping(TARGET).with("Authorization", "Basic dTpw");
    assert_eq!(guarded.servers.ask(&basic).status, 401);
    drop(bob);
    wait::until("there is room", || bound(&guarded.servers) <= 1.0);
    logged_in(&guarded, "dave");
    guarded.expect_clean();
}

/// Item 91.
#[test]
fn logins_that_prove_each_request_share_connections() {
    // Each thread has connections of its own.
    let servers = Servers::with(1, |farm| farm.set("process.threads", "1"));
    for value in ["Basic dTpw", "Digest username=\"NTLM x\"", "Bearer Negotiate"] {
        for _ in 0..5 {
            servers.passes(&ping(TARGET).with("Authorization", value));
        }
    }
    // Mostly one after the other over one connection: 15 would mean that nobody shares.
    assert!(servers.backends[0].connections().len() < 8);
    assert_eq!(bound(&servers), 0.0);
}

#[test]
fn a_backend_that_ties_sessions_to_connections_can_have_one_for_each_client() {
    let servers =
        Servers::with(1, |farm| farm.set_backend("up01", "connections", "\"per-client\""));
    let mut clients: Vec<_> = (0..5).map(|_| servers.connect()).collect();
    for round in 0..3 {
        for (number, client) in clients.iter_mut().enumerate() {
            let answer = client.exchange(&ping(&format!("/{number}")).bytes()).expect("an answer");
            assert_eq!(answer.status, 200, "round {round}");
        }
    }
    let requests = servers.backends[0].requests();
    let mut pairs: Vec<_> =
        requests.iter().map(|r| (r.target().to_owned(), r.connection)).collect();
    pairs.sort_unstable();
    pairs.dedup();
    assert_eq!(pairs.len(), 5, "{pairs:?}");
    assert_eq!(servers.backends[0].connections().len(), 5);
    clients.pop();
    wait::until("its connection has ended", || {
        servers.backends[0].connections().iter().filter(|c| c.ended).count() == 1
    });
}
