//! A client goes away in the middle of a fragment, in every way there is.

use e2e_tests::client::{Connection, exchange};
use e2e_tests::farm::Farm;
use e2e_tests::wait;

use crate::packets::{TARGET, close, create, fragment, session_of};

use super::rig::{Midway, offset_of};

const LENGTH: usize = 300_000;

/// Fault: client cuts, resets or half-closes.
#[test]
fn half_a_fragment_is_never_a_whole_one_however_its_client_went() {
    let farm = Farm::of_stubs(1).start();
    let neighbours = Midway::start(&farm, 2);
    let id = session_of(&exchange(farm.entrance(), &create(TARGET).bytes()).expect("an answer"));
    let body: Vec<u8> = (0..LENGTH).map(|n| n.to_le_bytes()[0]).collect();
    let range = format!("bytes 0-{}/{LENGTH}", LENGTH - 1);
    let whole = fragment(TARGET, &id, &range, &body).bytes();
    let half = &whole[..whole.len() / 2];
    let ways: [fn(Connection) -> Option<Connection>; 3] = [
        |connection| {
            connection.reset();
            None
        },
        |connection| {
            drop(connection);
            None
        },
        |mut connection| {
            connection.finish().expect("one direction ends");
            Some(connection)
        },
    ];
    let seen = || farm.stub(0).requests().into_iter().filter(|seen| seen.body_bytes > 20_000);
    for (number, way) in ways.into_iter().enumerate() {
        let begun = farm.stub(0).stats().fragment;
        let mut connection = Connection::open(farm.entrance()).expect("a connection");
        connection.send(half).expect("half a fragment is taken");
        wait::until("the backend takes it", || farm.stub(0).stats().fragment > begun);
        let left = way(connection);
        wait::until("the backend has seen its end", || seen().count() == number + 1);
        assert!(seen().all(|seen| !seen.complete && seen.status.is_none()));
        if let Some(mut connection) = left {
            // It may hear of it, and never that all is well.
            let answer = connection.read_answer();
            assert!(!answer.is_ok_and(|answer| answer.status == 200));
        }
    }
    let answer = exchange(farm.entrance(), &whole).expect("an answer");
    assert_eq!(offset_of(&answer), Some(LENGTH as u64), "{}", answer.head);
    assert_eq!(
        exchange(farm.entrance(), &close(TARGET, &id).bytes()).expect("an answer").status,
        200
    );
    farm.expect_stored(TARGET, &e2e_tests::data::Content::bytes(body));
    let outcome = neighbours.finish();
    outcome.expect_restarts(0);
    for done in &outcome.uploads {
        done.report.expect_smooth();
    }
}
