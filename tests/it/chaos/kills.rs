//! The gateway is killed again and again under many uploads.

use std::sync::Arc;
use std::time::Duration;

use e2e_tests::client::{CloseNotFound, FragmentSizes};
use e2e_tests::data::{Chance, Content};
use e2e_tests::farm::Farm;
use e2e_tests::fleet::{Fleet, Job};

const UPLOADS: u64 = 200;

/// Killed at every such share of the way.
const KILLS: u32 = 20;

/// A kill costs an upload half a fragment on average. Real ones see a kill every some days, not every 20th of a file.
const FRAGMENT: u64 = 8 * 1024;
const SMALLEST: u64 = 160 * FRAGMENT;
const LARGEST: u64 = 240 * FRAGMENT;

/// What the retry delay of 10 minutes is here.
const DELAY: Duration = Duration::from_millis(200);

/// Fault: gateway is killed.
#[test]
fn a_gateway_killed_at_every_20th_of_200_uploads_costs_no_restart_and_few_bytes() {
    let chance = Chance::new(e2e_tests::data::seed("kills"));
    // Nothing but what it has written down leads a packet to its server.
    let farm = Farm::of_stubs(4).without_host_ids().start();
    let client = farm.client().with(|o| {
        o.fragments = FragmentSizes::Fixed(FRAGMENT);
        // A gateway that dies with the Ack of a Close in hand has not yet written down that it saw it.
        o.close_not_found = CloseNotFound::Accept;
        o.wait = Arc::new(|_| std::thread::sleep(DELAY));
    });
    let fleet = Fleet::start((0..UPLOADS).map(|number| {
        let mut chance = chance.fork(number);
        let length = chance.between(SMALLEST, LARGEST);
        let content = Content::seeded(chance.next_u64(), length);
        Job { path: format!("/in/{number}.bin"), content, client: client.clone() }
    }));
    for kill in 1..KILLS {
        fleet.reach(f64::from(kill) / f64::from(KILLS), || {});
        assert!(!fleet.has_ended(), "killed too late");
        farm.gateway().restart();
    }
    let done = fleet.join();
    done.expect_whole(&farm).expect_restarts(0);
    let sent = done.bytes_sent_per_byte();
    println!("{sent:.3} bytes sent for each byte of the files, {} retries", done.retries());
    assert!(sent <= 1.15, "{sent} bytes sent for each byte of the files");
    // Otherwise nobody was hit.
    assert!(done.retries() >= KILLS, "{} retries", done.retries());
}
