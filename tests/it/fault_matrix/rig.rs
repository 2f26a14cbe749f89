//! A farm with uploads in their middle.

use e2e_tests::client::{Answer, Client, Event, FragmentSizes, Options, Upload};
use e2e_tests::data::Content;
use e2e_tests::farm::{Farm, FarmBuilder, Stub};
use e2e_tests::fleet::{Begun, Fleet, Job, Outcome};

pub const FRAGMENT: u64 = 10_000;

/// Fragments of one upload.
const FRAGMENTS: u64 = 8;

/// A farm whose gateway soon sees that a server is away or back.
pub fn probed(stubs: usize) -> FarmBuilder {
    Farm::of_stubs(stubs).set("health.kind", "\"tcp\"").set("health.interval", "\"200ms\"")
}

/// Uploads with a third of their way behind them, none of them in the middle of a packet.
pub struct Midway<'f> {
    farm: &'f Farm,
    pub begun: Vec<Begun>,
}

impl<'f> Midway<'f> {
    #[track_caller]
    pub fn start(farm: &'f Farm, count: u64) -> Self {
        Self::with(farm, count, |_| {})
    }

    #[track_caller]
    pub fn with(farm: &'f Farm, count: u64, change: impl Fn(&mut Options)) -> Self {
        let client = farm.client().with(|o| {
            o.fragments = FragmentSizes::Fixed(FRAGMENT);
            change(o);
        });
        Self::of(farm, (0..count).map(|number| job(number, FRAGMENTS * FRAGMENT, &client)))
    }

    #[track_caller]
    pub fn of(farm: &'f Farm, jobs: impl IntoIterator<Item = Job>) -> Self {
        let begin = |job: Job| {
            let third = job.content.len() / 3;
            let mut begun = job.begin();
            assert!(begun.upload.run_until(|upload| upload.position() >= third));
            begun
        };
        Self { farm, begun: jobs.into_iter().map(begin).collect() }
    }

    /// The stub that has the most sessions, and how many.
    pub fn busiest(&self) -> (&'f Stub, u64) {
        let with_sessions = self.farm.stubs().iter().filter(|stub| stub.is_running());
        let with_sessions = with_sessions.map(|stub| (stub, stub.stats().sessions));
        with_sessions.max_by_key(|(_, sessions)| *sessions).expect("a stub runs")
    }

    /// All of them go on at once, to their ends.
    pub fn go_on(self) -> Fleet {
        Fleet::go_on(self.begun)
    }

    /// To the end, and judged.
    #[track_caller]
    pub fn finish(self) -> Outcome {
        let farm = self.farm;
        let outcome = self.go_on().join();
        outcome.expect_whole(farm);
        outcome
    }
}

pub fn job(number: u64, length: u64, client: &Client) -> Job {
    let content = Content::seeded(number + 1, length);
    Job { path: format!("/in/{number}.bin"), content, client: client.clone() }
}

/// The statuses that a client saw, in their order.
pub fn statuses(events: &[Event]) -> Vec<u16> {
    let status = |event: &Event| match event {
        Event::Answered { status, .. } => Some(*status),
        _ => None,
    };
    events.iter().filter_map(status).collect()
}

/// The status of the answer to the next packet of an upload.
#[track_caller]
pub fn next_status(upload: &mut Upload) -> Option<u16> {
    let before = upload.report().events.len();
    upload.step();
    statuses(&upload.report().events[before..]).first().copied()
}

/// What an Ack says of the offset.
pub fn offset_of(answer: &Answer) -> Option<u64> {
    answer.field("BITS-Received-Content-Range")?.parse().ok()
}
