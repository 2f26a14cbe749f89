//! Everything breaks under many uploads at once, as a seed says.
//!
//! - `CHAOS_SEED=n` replays the run of one seed, which a failure names.
//! - `CHAOS_UPLOADS=n` lets more clients upload at once.
//! - `CHAOS_MINUTES=n` goes on with other seeds until that time has passed.
//!
//! Troubles come when so much of all files has been acknowledged, not at times of a clock: on a slow machine the same
//! happens, more slowly.

mod kills;
mod schedule;
mod storm;

use std::sync::Arc;
use std::time::Duration;

use e2e_tests::client::{Connections, FragmentSizes};
use e2e_tests::clock;
use e2e_tests::data::{self, Chance, Content};
use e2e_tests::farm::Farm;
use e2e_tests::fleet::{Fleet, Job};

use storm::Storm;

const UPLOADS: u64 = 200;
const BACKENDS: usize = 4;
const TROUBLES: u32 = 40;

/// What the retry delay of 10 minutes is here.
const DELAY_MS: u64 = 300;

fn variable(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text:?}")))
}

/// Fault: anything, at any time.
#[test]
fn uploads_survive_whatever_happens_to_their_farm() {
    let first = variable("CHAOS_SEED").unwrap_or_else(|| data::seed("chaos"));
    let uploads = variable("CHAOS_UPLOADS").unwrap_or(UPLOADS);
    let minutes = Duration::from_secs(60 * variable("CHAOS_MINUTES").unwrap_or(0));
    let begin = clock::now();
    for seed in first.. {
        round(seed, uploads);
        if clock::now() - begin >= minutes {
            return;
        }
    }
}

/// One farm, its uploads and their troubles.
fn round(seed: u64, uploads: u64) {
    let chance = Chance::new(seed);
    let farm = Farm::of_stubs(BACKENDS);
    let farm = if chance.fork(u64::MAX - 1).percent(50) { farm.without_host_ids() } else { farm };
    let farm = farm
        .stub(0, &["--strict-ranges"])
        .link_backends()
        .link_front()
        // Longer than anything stays broken: nobody has a reason to start over.
        .set("failover.hold", "\"60s\"")
        .set("admin.socket", "\"{{tmp}}/admin.sock\"")
        .set("process.upgrade_socket", "\"{{tmp}}/upgrade.sock\"")
        .set("health.kind", "\"tcp\"")
        .set("health.interval", "\"500ms\"")
        .start();
    let fleet = Fleet::start((0..uploads).map(|number| job(&farm, number, chance.fork(number))));
    let mut storm = Storm::new(&farm, seed);
    let schedule = schedule::draw(chance.fork(u64::MAX), BACKENDS, TROUBLES);
    storm.run(&schedule, &fleet);
    let done = fleet.join();
    done.expect_whole(&farm).expect_restarts(0);
    let (happened, retries) = (storm.happened(), done.retries());
    println!(
        "seed {seed}: {happened} troubles, {retries} retries, {:.3} bytes sent for each byte",
        done.bytes_sent_per_byte()
    );
    assert!(happened >= TROUBLES as usize / 3 && retries >= TROUBLES, "nothing broke");
}

fn job(farm: &Farm, number: u64, mut chance: Chance) -> Job {
    let content = Content::seeded(chance.next_u64(), chance.between(600_000, 1_600_000));
    let high = chance.between(6_000, 60_000);
    let fragments = FragmentSizes::Random { seed: chance.next_u64(), low: 5 * 1024, high };
    let (per_packet, ignores) = (chance.percent(10), chance.percent(30));
    // Not all at one moment, as after a delay of real length.
    let delay = Duration::from_millis(chance.between(DELAY_MS / 2, DELAY_MS));
    let client = farm.client().with(|o| {
        o.fragments = fragments;
        o.ignore_host_id = ignores;
        if per_packet {
            o.connections = Connections::PerPacket;
        }
        o.wait = Arc::new(move |_| std::thread::sleep(delay));
    });
    Job { path: format!("/in/{number}.bin"), content, client }
}
