//! Carries out a schedule against a farm.

use std::time::{Duration, Instant};

use e2e_tests::clock;
use e2e_tests::farm::{Farm, Signal};
use e2e_tests::fleet::Fleet;

use super::schedule::{Event, Trouble};

/// The events so far and what is still broken. Prints what happened when the test fails.
pub struct Storm<'f> {
    farm: &'f Farm,
    seed: u64,
    log: Vec<String>,
    /// In the order of their beginning; when each is to be repaired.
    open: Vec<(Instant, Trouble)>,
}

impl<'f> Storm<'f> {
    pub fn new(farm: &'f Farm, seed: u64) -> Self {
        Self { farm, seed, log: Vec::new(), open: Vec::new() }
    }

    /// Everything in the schedule, and at the end everything is whole again.
    pub fn run(&mut self, schedule: &[Event], fleet: &Fleet) {
        for event in schedule {
            fleet.reach(event.at, || self.repair_due(clock::now()));
            if fleet.has_ended() {
                break;
            }
            self.begin(event);
        }
        while !self.open.is_empty() {
            std::thread::sleep(Duration::from_millis(10));
            self.repair_due(clock::now());
        }
    }

    pub fn happened(&self) -> usize {
        self.log.len()
    }

    fn begin(&mut self, event: &Event) {
        // Two troubles with one party would undo each other.
        let same = |open: &Trouble| party(*open) == party(event.trouble);
        if self.open.iter().any(|(_, open)| same(open)) {
            return;
        }
        self.log.push(event.to_string());
        let farm = self.farm;
        match event.trouble {
            Trouble::KillGateway => farm.gateway().kill(),
            Trouble::TerminateGateway => farm.gateway().signal(Signal::TERM),
            Trouble::StallGateway => farm.gateway().signal(Signal::STOP),
            Trouble::KillBackend(index) => farm.stub(index).kill(),
            Trouble::StallBackend(index) => farm.stub(index).freeze(),
            Trouble::CutFront(cut) => return farm.front().cut(cut),
            Trouble::CutBackend(index, cut) => return farm.link(index).cut(cut),
            Trouble::SilenceFront => farm.front().stall(),
            Trouble::SilenceBackend(index) => farm.link(index).stall(),
            Trouble::HalfCloseBackend(index, direction) => {
                return farm.link(index).half_close(direction);
            }
        }
        self.open.push((clock::now() + event.pause, event.trouble));
    }

    fn repair_due(&mut self, now: Instant) {
        let farm = self.farm;
        self.open.retain(|(due, trouble)| {
            let over = *due <= now;
            if over {
                repair(farm, *trouble);
            }
            !over
        });
    }
}

impl Drop for Storm<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("so far:\n{}", self.log.join("\n"));
            let seed = self.seed;
            eprintln!(
                "replay: CHAOS_SEED={seed} cargo test -p e2e-tests --test it uploads_survive"
            );
        }
    }
}

fn repair(farm: &Farm, trouble: Trouble) {
    match trouble {
        Trouble::KillGateway => farm.gateway().start(),
        Trouble::TerminateGateway => {
            let status = farm.gateway().wait_ended();
            assert_eq!(status.code(), Some(0), "the gateway did not end as it was told to");
            farm.gateway().start();
        }
        Trouble::StallGateway => farm.gateway().signal(Signal::CONT),
        Trouble::KillBackend(index) => farm.stub(index).start(),
        Trouble::StallBackend(index) => farm.stub(index).thaw(),
        Trouble::SilenceFront => farm.front().resume(),
        Trouble::SilenceBackend(index) => farm.link(index).resume(),
        Trouble::CutFront(_) | Trouble::CutBackend(..) | Trouble::HalfCloseBackend(..) => {}
    }
}

#[derive(PartialEq, Eq)]
enum Party {
    Gateway,
    Backend(usize),
    Front,
    Link(usize),
}

fn party(trouble: Trouble) -> Party {
    match trouble {
        Trouble::KillGateway | Trouble::TerminateGateway | Trouble::StallGateway => Party::Gateway,
        Trouble::KillBackend(index) | Trouble::StallBackend(index) => Party::Backend(index),
        Trouble::CutFront(_) | Trouble::SilenceFront => Party::Front,
        Trouble::CutBackend(index, _)
        | Trouble::SilenceBackend(index)
        | Trouble::HalfCloseBackend(index, _) => Party::Link(index),
    }
}
