//! Logins where every connection speaks TLS: what Pingora does for plain connections to backends, the gateway does
//! itself for these.

use e2e_tests::client::Connection;
use e2e_tests::raw_backend::{Reply, Request};
use e2e_tests::wait;

use super::server::{Guarded, claimed, log_in};
use crate::packets::{TARGET, ping};

const CLIENTS: usize = 5;

fn bound(guarded: &Guarded) -> f64 {
    guarded.servers.farm.metric("bitsgw_bound_connections", &[])
}

#[track_caller]
fn logged_in(guarded: &Guarded, user: &str) -> Connection {
    let mut connection = guarded.servers.connect();
    let answer = log_in(&mut connection, &ping(TARGET), user).expect("a login");
    assert_eq!(answer.status, 200, "{}", answer.head);
    connection
}

/// Items 89, 90.
///
/// Threat: T4.
#[test]
fn each_login_has_a_connection_of_its_own_over_tls() {
    let guarded = Guarded::over_tls(|_| None);
    let users: Vec<_> = (0..CLIENTS).map(|number| format!("user{number}")).collect();
    let mut clients: Vec<_> = users.iter().map(|user| logged_in(&guarded, user)).collect();
    assert_eq!(bound(&guarded), CLIENTS as f64);
    let mut stranger = guarded.servers.connect();
    for _ in 0..3 {
        for (client, user) in clients.iter_mut().zip(&users) {
            let answer = client.exchange(&claimed(&ping(TARGET), user).bytes()).expect("an answer");
            assert_eq!(answer.status, 200, "{}", answer.head);
            let packet = claimed(&ping(TARGET), "nobody");
            let answer = stranger.exchange(&packet.bytes()).expect("an answer");
            assert_eq!(answer.status, 401, "{}", answer.head);
        }
    }
    guarded.expect_clean();
    assert_eq!(guarded.book().served, CLIENTS * 4);
    let theirs: Vec<_> = guarded.servers.backends[0]
        .requests()
        .iter()
        .filter(|request| request.field("Authorization").is_some())
        .map(|request| request.connection)
        .collect();
    drop(clients);
    for connection in theirs {
        guarded.servers.backends[0].ended(connection);
    }
    let answer = guarded.servers.ask(&claimed(&ping(TARGET), "user0"));
    assert_eq!(answer.status, 401, "{}", answer.head);
    drop(stranger);
    wait::until("nothing is bound", || bound(&guarded) == 0.0);
}

/// Item 90.
#[test]
fn a_client_ends_with_its_login_over_tls() {
    let closing = |request: &Request| {
        let last = request.target() == "/last" && request.field("Authorization").is_none();
        last.then(|| match Reply::ack("200 OK", &[]) {
            Reply::Send(bytes) => Reply::SendAndClose(bytes),
            other => other,
        })
    };
    let guarded = Guarded::over_tls(closing);
    let mut alice = logged_in(&guarded, "alice");
    let answer = alice.exchange(&claimed(&ping("/last"), "alice").bytes()).expect("an answer");
    assert_eq!(answer.status, 200);
    wait::until("her connection ends", || alice.is_closed());
    guarded.expect_clean();
}
