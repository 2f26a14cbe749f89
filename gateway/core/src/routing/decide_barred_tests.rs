//! New sessions where something speaks against a backend.

use std::time::Duration;

use super::*;
use crate::farm::Sign;

fn barred(backend: u32, why: Sign, second: u64) -> Barred {
    Barred { backend: BackendId(backend), why, since: Duration::from_secs(second) }
}

const CREATE: [PacketType; 1] = [PacketType::CreateSession];

#[test]
fn a_barred_backend_gets_no_new_session_while_there_is_another() {
    let states = [UP, UP, UP];
    let all = [barred(0, Sign::Refuses, 1), barred(1, Sign::Silent, 2)];
    for alias in [None, Some(0), Some(1)] {
        let case = Case { barred: &all, alias, connection: Some(0), ..case() };
        check(&CREATE, &states, &case, forward(2, Why::Placement));
    }
    // What it has goes on, and who has logged in there stays there.
    let pinned = Case { barred: &all, lookup: pinned_to(BackendId(0)), ..case() };
    check(&WITH_ID, &states, &pinned, forward(0, Why::Pin));
    let login = Case { barred: &all, connection: Some(1), login: true, ..case() };
    check(&CREATE, &states, &login, forward(1, Why::Connection));
}

#[test]
fn where_all_are_barred_the_one_that_was_quiet_for_longest_is_tried() {
    let all = [barred(0, Sign::Full, 3), barred(1, Sign::Full, 1), barred(2, Sign::Full, 2)];
    let case = Case { barred: &all, ..case() };
    check(&CREATE, &[UP, UP, UP], &case, forward(1, Why::Placement));
    let avoid = [BackendId(1)];
    let again = Case { avoid: &avoid, refused: true, ..case.clone() };
    check(&CREATE, &[UP, UP, UP], &again, forward(2, Why::Placement));
    // Not where people have decided otherwise, or probes.
    let out = [UP, (AdminState::Drain, Health::Up), (AdminState::Ready, Health::Down)];
    check(&CREATE, &out, &case, forward(0, Why::Placement));
    check(&CREATE, &out[1..], &Case { barred: &[], ..case }, Decision::Answer(Fault::NoBackend));
}

#[test]
fn a_backend_that_hangs_gives_no_second_opinion() {
    let all = [barred(1, Sign::Silent, 1)];
    let avoid = [BackendId(0)];
    let first = Case { barred: &all, avoid: &avoid, ..case() };
    check(&CREATE, &[UP, UP], &first, forward(1, Why::Placement));
    let second = Case { refused: true, ..first };
    check(&CREATE, &[UP, UP], &second, Decision::Answer(Fault::NoBackend));
}
