use super::*;
use Absence::{For, Kept, Lost};
use Step::{Reassign, Restart, Wait};

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

const DAY: Duration = secs(24 * 60 * 60);
const MINUTE: Duration = secs(60);
const LATER: Step = Step::Later(Fault::BackendDown);

fn failover(then: Then) -> Failover {
    Failover { hold: secs(20), restart_after: DAY, reassign_after: MINUTE, then }
}

fn held(waited: Duration, ends_or_moves: bool) -> Held {
    Held { waited, ends_or_moves, superseded: false }
}

/// One row of a table of cases: of a packet that names a session, and of one that does not.
#[track_caller]
fn check(then: Then, owner: Owner, waited: Duration, named: Step, unnamed: Step) {
    let failover = failover(then);
    assert_eq!(failover.step(owner, &held(waited, true)), named, "{owner:?} {waited:?}");
    assert_eq!(failover.step(owner, &held(waited, false)), unnamed, "{owner:?} {waited:?}");
}

#[test]
fn a_packet_waits_and_then_comes_back_and_at_last_starts_over() {
    let check = |absence, waited, named, unnamed| {
        check(Then::Restart, Owner::Down(absence), waited, named, unnamed);
    };
    check(For(secs(0)), secs(0), Wait(secs(20)), Wait(secs(20)));
    check(For(secs(15)), secs(15), Wait(secs(5)), Wait(secs(5)));
    check(For(secs(20)), secs(20), LATER, LATER);
    check(For(secs(20)), secs(300), LATER, LATER);
    // A server that is patched for 70 minutes, and longer than that for moving.
    check(For(secs(70 * 60)), secs(0), Wait(secs(20)), Wait(secs(20)));
    check(For(DAY - secs(1)), secs(20), LATER, LATER);
    check(For(DAY), secs(0), Restart, LATER);
    check(For(DAY), secs(20), Restart, LATER);
}

#[test]
fn where_storage_is_shared_it_goes_on_elsewhere_and_soon() {
    let check = |absence, waited, named, unnamed| {
        check(Then::Reassign, Owner::Down(absence), waited, named, unnamed);
    };
    check(For(secs(0)), secs(0), Wait(secs(20)), Wait(secs(20)));
    check(For(secs(59)), secs(20), LATER, LATER);
    check(For(MINUTE), secs(0), Reassign, LATER);
    check(For(DAY), secs(20), Reassign, LATER);
}

#[test]
fn a_lost_backend_is_given_up_at_once() {
    for waited in [secs(0), secs(20)] {
        for owner in
            [Owner::Down(Lost), Owner::Missing(Lost), Owner::Refuses { absence: Lost, tries: 1 }]
        {
            check(Then::Restart, owner, waited, Restart, LATER);
            check(Then::Reassign, owner, waited, Reassign, LATER);
        }
    }
}

#[test]
fn a_backend_that_an_operator_keeps_is_not_away() {
    for then in [Then::Restart, Then::Reassign] {
        for waited in [secs(0), DAY] {
            check(then, Owner::Down(Kept), waited, LATER, LATER);
        }
        assert!(!failover(then).is_given_up(Kept));
    }
}

#[test]
fn for_a_backend_that_is_missing_no_packet_waits_in_the_gateway() {
    let check = |then, absence, named| {
        for waited in [secs(0), secs(20)] {
            check(then, Owner::Missing(absence), waited, named, LATER);
        }
    };
    check(Then::Restart, For(secs(0)), LATER);
    check(Then::Restart, For(DAY - secs(1)), LATER);
    check(Then::Restart, For(DAY), Restart);
    check(Then::Reassign, For(MINUTE - secs(1)), LATER);
    check(Then::Reassign, For(MINUTE), Reassign);
}

#[test]
fn a_packet_tries_again_at_a_backend_that_refuses_and_waits_longer_each_time() {
    for (tries, waited, expected) in [
        (0, secs(0), Wait(millis(100))),
        (1, secs(0), Wait(millis(100))),
        (2, millis(100), Wait(millis(200))),
        (10, secs(5), Wait(secs(1))),
        (11, secs(6), Wait(secs(1))),
        (511, secs(6), Wait(secs(1))),
        // No longer than it is held.
        (24, millis(19_500), Wait(millis(500))),
        (25, secs(20), LATER),
    ] {
        let owner = Owner::Refuses { absence: For(waited), tries };
        check(Then::Restart, owner, waited, expected, expected);
        check(Then::Reassign, owner, waited, expected, expected);
    }
    let owner = Owner::Refuses { absence: For(DAY), tries: 1 };
    check(Then::Restart, owner, secs(0), Restart, LATER);
    check(Then::Reassign, owner, secs(0), Reassign, LATER);
}

#[test]
fn for_a_backend_that_is_not_trusted_no_packet_waits() {
    let failed = Step::Later(Fault::BackendFailed);
    for then in [Then::Restart, Then::Reassign] {
        check(then, Owner::Distrusted, secs(0), failed, failed);
        check(then, Owner::Distrusted, DAY, failed, failed);
    }
}

#[test]
fn a_packet_that_was_superseded_ends_nothing() {
    let refuses = |absence| Owner::Refuses { absence, tries: 1 };
    for then in [Then::Restart, Then::Reassign] {
        for absence in [Kept, For(secs(0)), For(DAY), Lost] {
            let owners = [
                Owner::Down(absence),
                Owner::Missing(absence),
                refuses(absence),
                Owner::Distrusted,
            ];
            for owner in owners {
                let held = Held { superseded: true, ..held(secs(0), true) };
                let step = failover(then).step(owner, &held);
                assert_eq!(step, Step::Later(Fault::Superseded), "{owner:?}");
            }
        }
    }
}

#[test]
fn without_patience_or_hold_nothing_waits() {
    let owner = Owner::Down(For(Duration::ZERO));
    let held = held(Duration::ZERO, true);
    let hasty = Failover { restart_after: Duration::ZERO, ..failover(Then::Restart) };
    assert_eq!(hasty.step(owner, &held), Restart);
    let impatient = Failover { hold: Duration::ZERO, ..failover(Then::Restart) };
    assert_eq!(impatient.step(owner, &held), LATER);
    let owner = Owner::Refuses { absence: For(Duration::ZERO), tries: 1 };
    assert_eq!(impatient.step(owner, &held), LATER);
}

#[test]
fn an_upload_ends_or_moves_by_its_own_packets_alone() {
    use PacketType::{CancelSession, CloseSession, CreateSession, Fragment, Ping};
    for (kind, expected) in [
        (None, false),
        (Some(Ping), false),
        (Some(CreateSession), false),
        (Some(Fragment), true),
        (Some(CloseSession), true),
        (Some(CancelSession), true),
    ] {
        assert_eq!(ends_or_moves(kind, true), expected, "{kind:?}");
        assert!(!ends_or_moves(kind, false), "{kind:?}");
    }
}

#[test]
fn what_an_operator_says_outranks_the_time_away() {
    assert_eq!(Absence::of(secs(1), false), For(secs(1)));
    assert_eq!(Absence::of(secs(1), true), Lost);
}

#[test]
fn backends_are_asked_when_none_that_may_have_the_session_is_away() {
    use BeforeAsking::{Ask, Unclear};
    let young = For(secs(1));
    for (absences, at_first, after_20_s) in [
        (&[][..], Ask, Ask),
        (&[Lost], Ask, Ask),
        (&[For(DAY), Lost], Ask, Ask),
        (&[young], BeforeAsking::Wait(secs(20)), Unclear),
        (&[Lost, young], BeforeAsking::Wait(secs(20)), Unclear),
        (&[young, Lost], BeforeAsking::Wait(secs(20)), Unclear),
        (&[Kept], Unclear, Unclear),
        (&[Kept, Lost], Unclear, Unclear),
        (&[Lost, Kept], Unclear, Unclear),
        // The other one may be back by then.
        (&[Kept, young], BeforeAsking::Wait(secs(20)), Unclear),
        (&[young, Kept], BeforeAsking::Wait(secs(20)), Unclear),
    ] {
        let failover = failover(Then::Restart);
        let before = |waited| failover.before_asking(absences.iter().copied(), waited);
        assert_eq!(before(secs(0)), at_first, "{absences:?}");
        assert_eq!(before(secs(20)), after_20_s, "{absences:?}");
    }
}

#[test]
fn a_request_that_any_backend_may_serve_tries_eight_times() {
    for tries in 1..8 {
        assert_eq!(try_another(tries, Distrust::default()), Ok(()), "{tries}");
    }
    for tries in [8, 9, 100] {
        assert_eq!(try_another(tries, Distrust::default()), Err(Fault::NoBackend), "{tries}");
    }
}

#[test]
fn a_client_is_told_to_wait_unless_no_backend_at_all_is_trusted() {
    for (tries, expected) in [
        (&[][..], Fault::NoBackend),
        (&[false], Fault::NoBackend),
        (&[true], Fault::BackendFailed),
        (&[true, true], Fault::BackendFailed),
        (&[true, false], Fault::NoBackend),
        (&[false, true], Fault::NoBackend),
        (&[true, false, true], Fault::NoBackend),
    ] {
        let mut distrust = Distrust::default();
        tries.iter().for_each(|&distrusted| distrust.note(distrusted));
        assert_eq!(distrust.when_none_is_left(), expected, "{tries:?}");
        assert_eq!(try_another(MAX_TRIES, distrust), Err(expected), "{tries:?}");
    }
}
