//! What breaks, when, and for how long: drawn from a seed, so that a number replays it.

use std::fmt;
use std::time::Duration;

use e2e_tests::data::Chance;
use e2e_tests::fault_link::{Cut, Direction};

/// One thing that breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// SIGKILL, and after a pause a new process.
    KillGateway,
    /// SIGTERM, and after its end a new process.
    TerminateGateway,
    /// SIGSTOP, and after a pause SIGCONT.
    StallGateway,
    KillBackend(usize),
    StallBackend(usize),
    /// All connections between clients and the gateway.
    CutFront(Cut),
    /// All connections between the gateway and a backend.
    CutBackend(usize, Cut),
    /// Nothing moves for a while, and nobody is told.
    SilenceFront,
    SilenceBackend(usize),
    /// A successor takes over, under the same configuration.
    UpgradeGateway,
    /// Another weight, by a reload.
    Reweigh(usize, u32),
    /// Out of the file by a reload, and back in by another one.
    RemoveBackend(usize),
    /// By an operator, and ready again.
    DrainBackend(usize),
    /// The clients' half or the backend's half of each connection ends.
    HalfCloseBackend(usize, Direction),
}

/// A trouble and its place in the run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Event {
    /// Share of all bytes that have been acknowledged by then.
    pub at: f64,
    pub trouble: Trouble,
    /// Until it is repaired.
    pub pause: Duration,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, trouble, pause } = self;
        write!(f, "{:5.1} %: {trouble:?} for {pause:?}", at * 100.0)
    }
}

/// The longest that anything stays broken; requests are held longer.
const LONGEST_PAUSE_MS: u64 = 2_500;

/// `count` troubles at even distances.
pub fn draw(mut chance: Chance, backends: usize, count: u32) -> Vec<Event> {
    let mut draw = |number: u32| {
        let pause = Duration::from_millis(chance.between(0, LONGEST_PAUSE_MS));
        let backend = chance.between(0, backends as u64 - 1) as usize;
        let cut = *chance.pick(&[Cut::Fin, Cut::Reset]);
        let direction = *chance.pick(&[Direction::ToServer, Direction::ToClient]);
        let weight = chance.between(1, 5) as u32;
        let trouble = *chance.pick(&[
            Trouble::KillGateway,
            Trouble::KillGateway,
            Trouble::TerminateGateway,
            Trouble::StallGateway,
            Trouble::KillBackend(backend),
            Trouble::KillBackend(backend),
            Trouble::StallBackend(backend),
            Trouble::CutFront(cut),
            Trouble::CutBackend(backend, cut),
            Trouble::SilenceFront,
            Trouble::SilenceBackend(backend),
            Trouble::HalfCloseBackend(backend, direction),
            Trouble::UpgradeGateway,
            Trouble::UpgradeGateway,
            Trouble::Reweigh(backend, weight),
            Trouble::RemoveBackend(backend),
            Trouble::DrainBackend(backend),
        ]);
        Event { at: f64::from(number) / f64::from(count + 1), trouble, pause }
    };
    (1..=count).map(&mut draw).collect()
}

#[test]
fn one_seed_draws_one_schedule_with_every_kind_of_trouble() {
    let of = |seed| draw(Chance::new(seed), 4, 40);
    assert_eq!(of(1), of(1));
    assert_ne!(of(1), of(2));
    let kinds = |events: &[Event]| {
        let kinds = events.iter().map(|event| std::mem::discriminant(&event.trouble));
        kinds.collect::<std::collections::HashSet<_>>().len()
    };
    assert_eq!(kinds(&(0..20).flat_map(of).collect::<Vec<_>>()), 14);
}
