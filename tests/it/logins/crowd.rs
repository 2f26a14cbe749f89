//! Many clients at once, on a gateway with more threads than cores.

use std::sync::Barrier;

use e2e_tests::client::Connection;
use e2e_tests::farm::ORIGIN;
use e2e_tests::open_files;
use e2e_tests::raw_backend::{RawBackend, agree};
use e2e_tests::wait;

use super::server::{Failure, Guarded, claimed, log_in};
use crate::packets::{Packet, close, create, fragment, ping, session_of};

const CLIENTS: usize = 60;

/// Rounds of each client; each on a connection of its own.
const ROUNDS: usize = 3;

fn guarded() -> Guarded {
    Guarded::start(|farm| farm.set("process.threads", "4"))
}

/// Logs in with a Ping, as Windows clients do, and uploads without further credentials.
fn upload(connection: &mut Connection, user: &str, target: &str) -> Result<(), Failure> {
    let answer = log_in(connection, &ping(target), user)?;
    expect_ok(connection, answer)?;
    let answer = connection.exchange(&claimed(&create(target), user).bytes())?;
    assert_eq!(answer.status, 200, "{}", answer.head);
    let id = session_of(&answer);
    let mut send = |packet: &Packet| -> Result<(), Failure> {
        let answer = connection.exchange(&claimed(packet, user).bytes())?;
        assert_eq!(answer.status, 200, "{}", answer.head);
        Ok(())
    };
    for part in 0..4 {
        let range = format!("bytes {}-{}/12", part * 3, part * 3 + 2);
        send(&fragment(target, &id, &range, b"abc"))?;
    }
    send(&close(target, &id))
}

fn expect_ok(_: &Connection, answer: e2e_tests::client::Answer) -> Result<(), Failure> {
    if answer.status == 200 { Ok(()) } else { Err(Failure::Answer(Box::new(answer))) }
}

/// Items 89, 90.
///
/// Threat: T4.
#[test]
fn t4_clients_at_once_are_each_served_as_who_they_are() {
    let guarded = guarded();
    let together = Barrier::new(2 * CLIENTS);
    std::thread::scope(|scope| {
        for number in 0..CLIENTS {
            let (guarded, together) = (&guarded, &together);
            scope.spawn(move || {
                together.wait();
                for round in 0..ROUNDS {
                    let (user, target) =
                        (format!("user{number}"), format!("/in/{number}-{round}.bin"));
                    let mut connection = guarded.servers.connect();
                    upload(&mut connection, &user, &target).expect("an upload");
                }
            });
            // Somebody who never logs in, and must never be taken for one who has.
            scope.spawn(move || {
                together.wait();
                let mut connection = guarded.servers.connect();
                for _ in 0..4 * ROUNDS {
                    let packet = claimed(&ping("/in/stranger.bin"), "nobody");
                    let answer = connection.exchange(&packet.bytes()).expect("an answer");
                    assert_eq!(answer.status, 401, "{}", answer.head);
                }
            });
        }
    });
    guarded.expect_clean();
    assert_eq!(guarded.book().served, CLIENTS * ROUNDS * 7);
    // Everybody has gone, and so has what was theirs.
    wait::until("no connection is bound any more", || bound(&guarded) == 0.0);
}

fn bound(guarded: &Guarded) -> f64 {
    guarded.servers.farm.metric("bitsgw_bound_connections", &[])
}

/// Connections that the gateway takes: those of the logged in, and of those who want to crowd them out.
const CONNECTIONS: usize = 700;
const LOGINS: usize = 300;
const CROWD: usize = 380;

/// The gateway keeps so many idle connections that are nobody's, with one thread.
const SHARED: usize = CONNECTIONS + 1024;

/// Of more the pool would drop the ones that have waited longest: the logins.
const POOL: usize = SHARED + LOGINS + CONNECTIONS;

/// So many that all their connections together would fill the pool.
const SERVERS: usize = 7;
const _: () = assert!(SERVERS * CROWD + LOGINS > POOL);

/// Both ends of the clients' connections but the gateway's, and the servers' ends of what the pool may hold.
const OPEN_FILES: usize = LOGINS + CROWD + LOGINS + SERVERS * CROWD;

/// Answers once a whole crowd has asked, each on a connection of its own.
fn crowded() -> RawBackend {
    let (all, agree) = (Barrier::new(CROWD), agree());
    RawBackend::answering(move |request| {
        all.wait();
        agree(request)
    })
}

/// Item 89.
#[test]
fn a_crowd_of_idle_clients_stays_logged_in_however_full_the_pool_is() {
    let _room = open_files::reserve(OPEN_FILES);
    let others: Vec<_> = (0..SERVERS).map(|_| crowded()).collect();
    let guarded = Guarded::beside(&others, |farm| {
        farm.set("process.threads", "1")
            .set("limits.connections", &CONNECTIONS.to_string())
            .set("limits.connections_per_address", "0")
            .set("limits.bound_connections", &LOGINS.to_string())
            .set("timeouts.client_idle", "\"1h\"")
            .set("timeouts.backend_idle", "\"1h\"")
    });
    let ping = |server: &str| ping("/in/a.bin").at(&format!("{server}.{ORIGIN}"));
    let users: Vec<String> = (0..LOGINS).map(|number| format!("user{number}")).collect();
    let mut connections: Vec<Connection> =
        users.iter().map(|_| guarded.servers.connect()).collect();
    for (user, connection) in users.iter().zip(&mut connections) {
        let answer = log_in(connection, &ping("login"), user).expect("a login");
        assert_eq!(answer.status, 200, "{}", answer.head);
    }
    assert_eq!(bound(&guarded), LOGINS as f64);
    let mut crowd: Vec<_> = (0..CROWD).map(|_| guarded.servers.connect()).collect();
    for number in 1..=SERVERS {
        for one in &mut crowd {
            one.send(&ping(&format!("up{number:02}")).bytes()).expect("sent");
        }
        for one in &mut crowd {
            let answer = one.read_answer().expect("an answer");
            assert_eq!(answer.status, 200, "{}", answer.head);
        }
    }
    // As many as may be are kept, and not many more: those that were made at the same time.
    let kept = || {
        let all = others.iter().flat_map(RawBackend::connections);
        all.filter(|connection| !connection.ended).count()
    };
    wait::until("what is too much is closed", || kept() <= SHARED + CROWD);
    assert!(kept() >= SHARED, "{} idle connections to others", kept());
    for (user, connection) in users.iter().zip(&mut connections) {
        let answer = connection.exchange(&claimed(&ping("login"), user).bytes());
        assert_eq!(answer.expect("an answer").status, 200);
    }
    guarded.expect_clean();
}
