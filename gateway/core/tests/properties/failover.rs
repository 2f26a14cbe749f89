//! The promise to a packet whose owner does not serve it, on arbitrary outages.

use std::time::Duration;

use gateway_core::fault::Fault;
use gateway_core::protocol::PacketType;
use gateway_core::routing::failover::{BeforeAsking, Held, Owner, ends_or_moves};
use gateway_core::routing::{Absence, Failover, Step, Then};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

fn seconds(most: u64) -> impl Strategy<Value = Duration> {
    (0..most * 10).prop_map(|tenths| Duration::from_millis(tenths * 100))
}

fn failovers() -> impl Strategy<Value = Failover> {
    let then = select(&[Then::Restart, Then::Reassign][..]);
    (seconds(30), seconds(60), seconds(60), then).prop_map(
        |(hold, restart_after, reassign_after, then)| Failover {
            hold,
            restart_after,
            reassign_after,
            then,
        },
    )
}

fn absences() -> impl Strategy<Value = Absence> {
    prop_oneof![
        1 => Just(Absence::Kept),
        1 => Just(Absence::Lost),
        4 => seconds(90).prop_map(Absence::For),
    ]
}

fn owners() -> impl Strategy<Value = Owner> {
    // An operator keeps only what is configured from serving, and then nothing tries to connect.
    let away = || prop_oneof![1 => Just(Absence::Lost), 4 => seconds(90).prop_map(Absence::For)];
    prop_oneof![
        4 => absences().prop_map(Owner::Down),
        2 => away().prop_map(Owner::Missing),
        4 => (away(), 1..20u32).prop_map(|(absence, tries)| Owner::Refuses { absence, tries }),
        1 => Just(Owner::Distrusted),
    ]
}

fn helds() -> impl Strategy<Value = Held> {
    (seconds(40), any::<bool>(), any::<bool>())
        .prop_map(|(waited, ends_or_moves, superseded)| Held { waited, ends_or_moves, superseded })
}

fn absence(owner: Owner) -> Option<Absence> {
    match owner {
        Owner::Down(absence) | Owner::Missing(absence) | Owner::Refuses { absence, .. } => {
            Some(absence)
        }
        Owner::Distrusted => None,
    }
}

/// The same owner, so much later.
fn later(owner: Owner, by: Duration) -> Owner {
    let later = |absence| match absence {
        Absence::For(away) => Absence::For(away + by),
        absence => absence,
    };
    match owner {
        Owner::Down(absence) => Owner::Down(later(absence)),
        Owner::Missing(absence) => Owner::Missing(later(absence)),
        Owner::Refuses { absence, tries } => {
            Owner::Refuses { absence: later(absence), tries: tries + 1 }
        }
        Owner::Distrusted => Owner::Distrusted,
    }
}

fn gives_up(step: Step) -> bool {
    matches!(step, Step::Restart | Step::Reassign)
}

proptest! {
    #![proptest_config(crate::cases(4000))]

    #[test]
    fn no_backend_is_given_up_before_its_time(
        failover in failovers(), owner in owners(), held in helds(),
    ) {
        let step = failover.step(owner, &held);
        let patience = match failover.then {
            Then::Restart => failover.restart_after,
            Then::Reassign => failover.reassign_after,
        };
        if gives_up(step) {
            match absence(owner) {
                Some(Absence::For(away)) => prop_assert!(away >= patience),
                absence => prop_assert_eq!(absence, Some(Absence::Lost)),
            }
            prop_assert!(held.ends_or_moves && !held.superseded);
        }
        prop_assert!(step != Step::Restart || failover.then == Then::Restart);
        prop_assert!(step != Step::Reassign || failover.then == Then::Reassign);
    }

    #[test]
    fn a_ping_ends_no_session(failover in failovers(), owner in owners(), held in helds()) {
        for kind in [None, Some(PacketType::Ping)] {
            let ends_or_moves = ends_or_moves(kind, true);
            let step = failover.step(owner, &Held { ends_or_moves, ..held });
            prop_assert!(!gives_up(step));
        }
    }

    #[test]
    fn no_packet_waits_beyond_the_hold(
        failover in failovers(), owner in owners(), held in helds(),
    ) {
        if let Step::Wait(left) = failover.step(owner, &held) {
            prop_assert!(!left.is_zero() && held.waited + left <= failover.hold);
            prop_assert!(!matches!(owner, Owner::Missing(_) | Owner::Distrusted));
        }
    }

    /// Packet after packet comes, each is held, and the owner does not come back. A session is given
    /// up once, and from then on each packet would find its owner given up.
    #[test]
    fn each_packet_comes_to_one_end_and_no_session_waits_for_ever(
        failover in failovers(), owner in owners(), pauses in vec(seconds(30), 1..30),
    ) {
        let (mut owner, mut given_up) = (owner, false);
        for pause in pauses {
            let mut waited = Duration::ZERO;
            let mut steps = 0;
            let end = loop {
                let held = Held { waited, ends_or_moves: true, superseded: false };
                match failover.step(owner, &held) {
                    Step::Wait(left) => {
                        waited += left;
                        owner = later(owner, left);
                    }
                    end => break end,
                }
                steps += 1;
                prop_assert!(steps < 512, "it never ends");
            };
            prop_assert!(waited <= failover.hold);
            prop_assert!(!given_up || gives_up(end), "given up, and expected back: {:?}", end);
            given_up |= gives_up(end);
            owner = later(owner, pause);
        }
        let waits_for_ever = matches!(owner, Owner::Down(Absence::Kept) | Owner::Distrusted);
        let far = later(owner, Duration::from_secs(60));
        let held = Held { waited: Duration::ZERO, ends_or_moves: true, superseded: false };
        prop_assert_eq!(gives_up(failover.step(far, &held)), !waits_for_ever);
    }

    #[test]
    fn a_session_that_stays_is_answered_with_a_fault_that_passes(
        failover in failovers(), owner in owners(), held in helds(),
    ) {
        if let Step::Later(fault) = failover.step(owner, &held) {
            // A client that gets such a status tries again, and no code tells it to start over.
            let row = fault.row();
            prop_assert!(row.hresult.is_none() && row.status.is_server_error());
            prop_assert_eq!(held.superseded, fault == Fault::Superseded);
        }
    }

    #[test]
    fn backends_are_asked_where_each_one_away_was_given_up(
        failover in failovers(), absences in vec(absences(), 0..5), waited in seconds(40),
    ) {
        let held = Held { waited, ends_or_moves: true, superseded: false };
        let steps = absences.iter().map(|&absence| failover.step(Owner::Down(absence), &held));
        let steps: Vec<_> = steps.collect();
        match failover.before_asking(absences, waited) {
            BeforeAsking::Ask => prop_assert!(steps.into_iter().all(gives_up)),
            BeforeAsking::Wait(left) => {
                prop_assert!(steps.contains(&Step::Wait(left)));
                prop_assert!(waited + left <= failover.hold);
            }
            BeforeAsking::Unclear => {
                prop_assert!(steps.contains(&Step::Later(Fault::BackendDown)));
                prop_assert!(!steps.iter().any(|step| matches!(step, Step::Wait(_))));
            }
        }
    }
}
