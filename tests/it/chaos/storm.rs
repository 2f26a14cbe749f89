//! Carries out a schedule against a farm.

use std::process::Command;
use std::time::{Duration, Instant};

use e2e_tests::farm::{Farm, Process, Signal};
use e2e_tests::fleet::Fleet;
use e2e_tests::{binaries, clock};

use super::schedule::{Event, Trouble};

/// The events so far and what is still broken. Prints what happened when the test fails.
pub struct Storm<'f> {
    farm: &'f Farm,
    seed: u64,
    log: Vec<String>,
    /// In the order of their beginning; when each is to be repaired.
    open: Vec<(Instant, Trouble)>,
    /// That an upgrade has left to end by itself.
    predecessor: Option<Process>,
}

/// So many backends stay in the file.
const LEAST: usize = 2;

impl<'f> Storm<'f> {
    pub fn new(farm: &'f Farm, seed: u64) -> Self {
        Self { farm, seed, log: Vec::new(), open: Vec::new(), predecessor: None }
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
        if event.trouble == Trouble::KillGateway {
            // Who kills a service kills all processes of it.
            self.open.retain(|(_, open)| *open != Trouble::UpgradeGateway);
            self.predecessor = None;
        }
        // Two troubles with one party would undo each other.
        let same = |open: &Trouble| party(*open) == party(event.trouble);
        if self.open.iter().any(|(_, open)| same(open)) || !self.can_begin(event.trouble) {
            return;
        }
        self.log.push(event.to_string());
        let farm = self.farm;
        match event.trouble {
            Trouble::KillGateway => farm.gateway().kill(),
            Trouble::TerminateGateway => farm.gateway().signal(Signal::TERM),
            Trouble::StallGateway => farm.gateway().signal(Signal::STOP),
            Trouble::UpgradeGateway => self.predecessor = Some(farm.gateway().upgrade()),
            Trouble::KillBackend(index) => farm.stub(index).kill(),
            Trouble::StallBackend(index) => farm.stub(index).freeze(),
            Trouble::CutFront(cut) => return farm.front().cut(cut),
            Trouble::CutBackend(index, cut) => return farm.link(index).cut(cut),
            Trouble::SilenceFront => farm.front().stall(),
            Trouble::SilenceBackend(index) => farm.link(index).stall(),
            Trouble::HalfCloseBackend(index, direction) => {
                return farm.link(index).half_close(direction);
            }
            Trouble::Reweigh(index, weight) => {
                let (name, weight) = (farm.stub(index).name(), weight.to_string());
                farm.gateway().configure(|settings| settings.set_backend(name, "weight", &weight));
                return reload(farm);
            }
            Trouble::RemoveBackend(index) => {
                farm.gateway().remove_backend(farm.stub(index).name());
                reload(farm);
            }
            Trouble::DrainBackend(index) => operate(farm, "drain", index),
        }
        self.open.push((clock::now() + event.pause, event.trouble));
    }

    fn can_begin(&self, trouble: Trouble) -> bool {
        let removed =
            self.open.iter().filter(|(_, open)| matches!(open, Trouble::RemoveBackend(_))).count();
        match trouble {
            Trouble::RemoveBackend(_) => self.gateway_hears() && super::BACKENDS - removed > LEAST,
            Trouble::Reweigh(..) | Trouble::DrainBackend(_) => self.gateway_hears(),
            _ => true,
        }
    }

    /// Whether it does what it is told at once.
    fn gateway_hears(&self) -> bool {
        let deaf =
            |open: &Trouble| party(*open) == Party::Gateway && *open != Trouble::UpgradeGateway;
        !self.open.iter().any(|(_, open)| deaf(open))
    }

    fn repair_due(&mut self, now: Instant) {
        let due: Vec<_> =
            self.open.iter().filter(|(due, _)| *due <= now).map(|(_, open)| *open).collect();
        for trouble in due {
            let needs_gateway = matches!(party(trouble), Party::Operator(_));
            if needs_gateway && !self.gateway_hears() || !self.repair(trouble) {
                continue;
            }
            self.open.retain(|(_, open)| *open != trouble);
        }
    }

    /// False if it takes some time still.
    fn repair(&mut self, trouble: Trouble) -> bool {
        let farm = self.farm;
        match trouble {
            Trouble::KillGateway => farm.gateway().start(),
            Trouble::TerminateGateway => {
                // What else is broken may be what it waits for.
                if farm.gateway().is_running() {
                    return false;
                }
                let status = farm.gateway().wait_ended();
                assert_eq!(status.code(), Some(0), "the gateway did not end as it was told to");
                farm.gateway().start();
            }
            Trouble::StallGateway => farm.gateway().signal(Signal::CONT),
            Trouble::UpgradeGateway => {
                let status = self.predecessor.as_mut().and_then(Process::exit_status);
                let Some(status) = status else { return false };
                assert_eq!(status.code(), Some(0), "the process before did not end well");
                self.predecessor = None;
            }
            Trouble::KillBackend(index) => farm.stub(index).start(),
            Trouble::StallBackend(index) => farm.stub(index).thaw(),
            Trouble::SilenceFront => farm.front().resume(),
            Trouble::SilenceBackend(index) => farm.link(index).resume(),
            Trouble::RemoveBackend(index) => {
                let (name, address) = (farm.stub(index).name(), farm.link(index).address());
                farm.gateway().set_backend(name, address);
                reload(farm);
            }
            Trouble::DrainBackend(index) => operate(farm, "ready", index),
            Trouble::CutFront(_)
            | Trouble::CutBackend(..)
            | Trouble::HalfCloseBackend(..)
            | Trouble::Reweigh(..) => {}
        }
        true
    }
}

fn reload(farm: &Farm) {
    assert!(farm.gateway().reload(), "a good file was refused");
}

/// By the command that an operator types.
fn operate(farm: &Farm, word: &str, index: usize) {
    let socket = farm.directory().join("admin.sock");
    let output = Command::new(binaries::gateway())
        .args(["backends", word, farm.stub(index).name()])
        .args(["--admin", &format!("unix:{}", socket.display())])
        .output()
        .expect("the gateway's binary runs");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{word} {index}: {text}");
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

#[derive(PartialEq, Eq)]
enum Party {
    Gateway,
    Backend(usize),
    Front,
    Link(usize),
    /// What people say of a backend.
    Operator(usize),
}

fn party(trouble: Trouble) -> Party {
    match trouble {
        Trouble::KillGateway
        | Trouble::TerminateGateway
        | Trouble::StallGateway
        | Trouble::UpgradeGateway => Party::Gateway,
        Trouble::Reweigh(index, _)
        | Trouble::RemoveBackend(index)
        | Trouble::DrainBackend(index) => Party::Operator(index),
        Trouble::KillBackend(index) | Trouble::StallBackend(index) => Party::Backend(index),
        Trouble::CutFront(_) | Trouble::SilenceFront => Party::Front,
        Trouble::CutBackend(index, _)
        | Trouble::SilenceBackend(index)
        | Trouble::HalfCloseBackend(index, _) => Party::Link(index),
    }
}
