//! The gateway ends in the middle of an upgrade.

use std::process::ExitStatus;

use e2e_tests::client::{Connection, FragmentSizes};
use e2e_tests::farm::{Farm, Process, Signal};
use e2e_tests::fleet::Fleet;

use super::rig::{Midway, job};
use crate::packets::{TARGET, ping};

const UPLOADS: u64 = 12;

/// Long enough that none ends before the test is done with it.
const LENGTH: u64 = 1_000_000;

/// Two processes under uploads.
struct Upgraded<'f> {
    farm: &'f Farm,
    old: Process,
    fleet: Fleet,
    /// Keeps the old process, which owes it one more answer.
    _idle: Connection,
}

fn farm() -> Farm {
    // Nothing but the store leads a packet to its server.
    let farm = Farm::of_stubs(2).without_host_ids();
    farm.set("process.upgrade_socket", "\"{{tmp}}/upgrade.sock\"").start()
}

impl<'f> Upgraded<'f> {
    #[track_caller]
    fn start(farm: &'f Farm) -> Self {
        let client = farm.client().with(|o| o.fragments = FragmentSizes::Fixed(10_000));
        let midway = Midway::of(farm, (0..UPLOADS).map(|number| job(number, LENGTH, &client)));
        let mut idle = Connection::open(farm.entrance()).expect("the gateway accepts connections");
        let answer = idle.exchange(&ping(TARGET).bytes()).expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.head);
        let fleet = midway.go_on();
        fleet.reach(0.4, || {});
        let mut old = farm.gateway().upgrade();
        assert!(old.is_running(), "it has a connection still");
        Self { farm, old, fleet, _idle: idle }
    }

    #[track_caller]
    fn finish(self) -> ExitStatus {
        assert!(!self.fleet.has_ended(), "too late");
        self.fleet.join().expect_whole(self.farm).expect_restarts(0);
        let Self { mut old, _idle, .. } = self;
        drop(_idle);
        old.wait()
    }
}

/// Fault: gateway is killed or told to end while it is upgraded.
#[test]
fn a_killed_process_before_costs_no_restart() {
    let farm = farm();
    let mut upgraded = Upgraded::start(&farm);
    upgraded.old.kill();
    assert_eq!(upgraded.finish().code(), None);
}

/// Fault: gateway is killed or told to end while it is upgraded.
#[test]
fn a_killed_successor_costs_no_restart() {
    let farm = farm();
    let upgraded = Upgraded::start(&farm);
    farm.gateway().restart();
    assert_eq!(upgraded.finish().code(), Some(0));
}

/// Fault: gateway is killed or told to end while it is upgraded.
#[test]
fn both_told_to_end_cost_no_restart() {
    let farm = farm();
    let mut upgraded = Upgraded::start(&farm);
    upgraded.old.signal(Signal::TERM);
    assert_eq!(farm.gateway().terminate().code(), Some(0));
    farm.gateway().start();
    assert_eq!(upgraded.finish().code(), Some(0));
}
