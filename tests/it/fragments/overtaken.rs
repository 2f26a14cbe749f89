//! Two requests of one session at once: the client has lost the older one's connection and nobody has noticed yet.
//! The older one is given up, the newer one goes on when it has ended.

use std::sync::OnceLock;

use e2e_tests::client::{Answer, Connection, WireError};
use e2e_tests::raw_backend::{Moment, RawBackend, Reply};
use e2e_tests::wait;

use crate::packets::{Packet, Servers, TARGET, cancel, close, fragment, server};

/// More than the connections on the way can hold.
const STUCK: usize = 48 << 20;

/// One server that treats the first Fragment as `first` says and agrees to all else.
fn with_first_fragment(at: Moment, first: Reply) -> Servers {
    let (agree, chosen) = (server(0), OnceLock::new());
    let script = move |moment: Moment, request: &e2e_tests::raw_backend::Request| {
        let is_fragment = request.packet_type() == "fragment";
        // The first by its head: which body comes first is chance.
        let this = (request.connection, request.number);
        if is_fragment && *chosen.get_or_init(|| this) == this && moment == at {
            return first.clone();
        }
        match moment {
            Moment::Head => Reply::Wait,
            Moment::Body => agree(request),
        }
    };
    Servers::of(vec![RawBackend::scripted(script)], |farm| farm)
}

/// Begins `older`, then sends `newer` on another connection while the older one is on its way.
#[track_caller]
fn overtake(
    servers: &Servers,
    older: &[u8],
    newer: &Packet,
) -> (Result<Answer, WireError>, Answer) {
    let before = servers.counts()[0];
    std::thread::scope(|scope| {
        let older = scope.spawn(|| {
            let mut connection = Connection::open(servers.farm.entrance())?;
            connection.exchange(older)
        });
        wait::until("the older request has reached the backend", || {
            servers.counts()[0] == before + 1
        });
        let newer = servers.ask(newer);
        (older.join().expect("no panic"), newer)
    })
}

#[track_caller]
fn expect_given_up(older: &Result<Answer, WireError>) {
    match older {
        // Whoever still listens hears that it was not done.
        Ok(answer) => assert_eq!(answer.status, 503, "{}", answer.head),
        Err(WireError::TimedOut { .. }) => panic!("the older request is still on its way"),
        Err(_) => {}
    }
}

/// Fault: two requests of one session.
#[test]
fn the_older_of_two_requests_is_cancelled_while_it_waits_for_its_answer() {
    let again: fn(&str) -> Packet = |id| fragment(TARGET, id, "bytes 0-5/9", b"abcdef");
    let end: fn(&str) -> Packet = |id| close(TARGET, id);
    for newer in [again, end] {
        let servers = with_first_fragment(Moment::Body, Reply::Wait);
        let (id, _) = servers.open(TARGET);
        let older = fragment(TARGET, &id, "bytes 0-2/9", b"abc").bytes();
        let newer = newer(&id);
        let (older, answer) = overtake(&servers, &older, &newer);
        assert_eq!(answer.status, 200, "{}", answer.head);
        expect_given_up(&older);
        // Its connection to the backend is not kept for anybody else.
        let connection = servers.backends[0].requests()[1].connection;
        servers.backends[0].ended(connection);
        assert_ne!(servers.last_request(0).connection, connection);
    }
}

/// Fault: two requests of one session.
#[test]
fn the_older_of_two_requests_is_cancelled_while_its_body_is_stuck_in_the_backend() {
    let servers = with_first_fragment(Moment::Head, Reply::Hang);
    let (id, _) = servers.open(TARGET);
    let body = vec![7; STUCK];
    let range = format!("bytes 0-{}/{}", STUCK - 1, STUCK * 2);
    let older = fragment(TARGET, &id, &range, &body).bytes();
    let newer = fragment(TARGET, &id, "bytes 0-2/9", b"abc");
    let (older, answer) = overtake(&servers, &older, &newer);
    assert_eq!(answer.status, 200, "{}", answer.head);
    expect_given_up(&older);
    let newer = servers.last_request(0);
    assert_eq!((&*newer.body, newer.complete), (&b"abc"[..], true));
}

/// Fault: two requests of one session.
#[test]
fn the_older_of_two_requests_is_cancelled_while_its_client_sends_no_more() {
    let servers = with_first_fragment(Moment::Body, Reply::Wait);
    let (id, _) = servers.open(TARGET);
    let before = servers.counts()[0];
    let whole = fragment(TARGET, &id, "bytes 0-99999/100000", &[7; 100_000]).bytes();
    // A laptop that was closed in mid-fragment: no end, no reset, no more bytes.
    let mut gone = servers.connect();
    gone.send(&whole[..50_000]).expect("half a fragment is taken");
    wait::until("half of it has reached the backend", || servers.counts()[0] == before + 1);
    let connection = servers.last_request(0).connection;
    // The script's first whole Fragment is the newer one, so it must not be the one that waits.
    let newer = cancel(TARGET, &id);
    assert_eq!(servers.ask(&newer).status, 200);
    servers.backends[0].ended(connection);
    let older = servers.backends[0].requests().into_iter().find(|r| r.packet_type() == "fragment");
    assert!(!older.expect("it was begun").complete);
}

#[test]
fn requests_of_other_sessions_are_not_touched() {
    let servers = with_first_fragment(Moment::Body, Reply::Wait);
    let (one, _) = servers.open(TARGET);
    let (two, _) = servers.open(TARGET);
    let before = servers.counts()[0];
    let mut waiting = servers.connect();
    waiting.send(&fragment(TARGET, &one, "bytes 0-2/9", b"abc").bytes()).expect("it is taken");
    wait::until("the backend has it", || servers.counts()[0] == before + 1);
    for packet in [
        fragment(TARGET, &two, "bytes 0-2/3", b"abc"),
        // Another path makes it nobody's packet.
        fragment("/in/b.bin", &two, "bytes 0-2/3", b"abc"),
        close(TARGET, &two),
    ] {
        servers.ask(&packet);
    }
    assert!(!waiting.is_readable(), "it still waits for its answer");
    let connections = servers.backends[0].connections();
    let its = servers.backends[0].requests()[before].connection;
    assert!(!connections[its].ended);
}
