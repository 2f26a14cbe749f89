//! The gateway and its servers are killed again and again under many uploads.
//!
//! - `KILLS=n` goes on, in rounds of [`UPLOADS`] uploads and [`KILLS`] kills, until so many have been killed.
//! - `KILLS_SEED=n` replays the round of one seed, which a failure names.

use std::sync::Arc;
use std::time::Duration;

use e2e_tests::client::{FragmentSizes, PacketType};
use e2e_tests::data::{self, Chance, Content};
use e2e_tests::farm::{Farm, StubFault};
use e2e_tests::fleet::{Fleet, Job};

use super::variable;

const UPLOADS: u64 = 200;
const BACKENDS: usize = 4;

/// In one round.
const KILLS: u32 = 20;

/// A kill costs an upload half a fragment on average. Real ones see a kill every some days, not every 20th of a file.
const FRAGMENT: u64 = 8 * 1024;

/// They end all along the way, so that kills meet ends.
const SMALLEST: u64 = 40 * FRAGMENT;
const LARGEST: u64 = 440 * FRAGMENT;

/// How long the answer to a Close takes that is done: what is killed meanwhile has not told anybody.
const UNTOLD_MS: u64 = 60;

/// What the retry delay of 10 minutes is here.
const DELAY: Duration = Duration::from_millis(200);

/// What a round came to.
#[derive(Debug, Default)]
struct Toll {
    kills: u64,
    uploads: u64,
    retries: u64,
    /// Closes that were answered by a look at the file.
    verified: f64,
    bytes_sent_per_byte: f64,
}

/// Fault: gateway is killed.
#[test]
fn kills_at_any_time_cost_no_restart_no_second_delivery_and_few_bytes() {
    let first = variable("KILLS_SEED").unwrap_or_else(|| data::seed("kills"));
    let wanted = variable("KILLS").unwrap_or(KILLS.into());
    let mut all = Toll::default();
    for seed in first.. {
        println!("KILLS_SEED={seed}");
        let round = round(Chance::new(seed));
        println!("{round:?}");
        all.kills += round.kills;
        all.uploads += round.uploads;
        all.retries += round.retries;
        all.verified += round.verified;
        if all.kills >= wanted {
            break;
        }
    }
    println!(
        "{} kills over {} uploads: 0 lost, 0 restarts, 0 second deliveries, {} retries, {} closes verified",
        all.kills, all.uploads, all.retries, all.verified
    );
}

fn round(chance: Chance) -> Toll {
    // Nothing but what it has written down leads a packet to its server.
    let farm = Farm::of_stubs(BACKENDS).without_host_ids().start();
    (0..BACKENDS).for_each(|index| answer_closes_late(&farm, index));
    let client = farm.client().with(|o| {
        o.fragments = FragmentSizes::Fixed(FRAGMENT);
        o.wait = Arc::new(|_| std::thread::sleep(DELAY));
    });
    let fleet = Fleet::start((0..UPLOADS).map(|number| {
        let mut chance = chance.fork(number);
        let length = chance.between(SMALLEST, LARGEST);
        let content = Content::seeded(chance.next_u64(), length);
        Job { path: format!("/in/{number}.bin"), content, client: client.clone() }
    }));
    let mut toll = Toll { uploads: UPLOADS, ..Toll::default() };
    let mut draw = chance.fork(UPLOADS);
    let mut places: Vec<_> = (0..KILLS).map(|_| draw.between(20, 980)).collect();
    places.sort_unstable();
    for place in places {
        fleet.reach(place as f64 / 1000.0, || {});
        assert!(!fleet.has_ended(), "killed too late");
        match draw.between(0, 2 * BACKENDS as u64 - 1) as usize {
            index if index < BACKENDS => {
                farm.stub(index).restart();
                answer_closes_late(&farm, index);
            }
            _ => {
                toll.verified += verified(&farm);
                farm.gateway().restart();
            }
        }
        toll.kills += 1;
    }
    let done = fleet.join();
    // No server lets a second upload replace a file, so none was delivered twice.
    done.expect_whole(&farm).expect_restarts(0);
    toll.verified += verified(&farm);
    toll.retries = done.retries().into();
    toll.bytes_sent_per_byte = done.bytes_sent_per_byte();
    assert!(toll.bytes_sent_per_byte <= 1.05, "{toll:?}");
    // Otherwise nobody was hit.
    assert!(toll.retries >= u64::from(KILLS), "{toll:?}");
    toll
}

fn answer_closes_late(farm: &Farm, index: usize) {
    let late = StubFault::on(PacketType::CloseSession, "delay").with("ms", UNTOLD_MS);
    farm.stub(index).fault(late.times(u64::MAX));
}

fn verified(farm: &Farm) -> f64 {
    farm.metric("bitsgw_lost_closes_total", &[("result", "delivered")])
}
