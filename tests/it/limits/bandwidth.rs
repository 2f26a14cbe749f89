//! Uploads at a configured rate.

use std::time::Duration;

use e2e_tests::client::FragmentSizes;
use e2e_tests::data::Content;
use e2e_tests::farm::{Farm, FarmBuilder};

const KIB: u64 = 1024;

/// Uploads so many files at once and returns how long that took.
fn upload(farm: FarmBuilder, files: u64, size: u64) -> Duration {
    let farm = farm.start();
    let begin = e2e_tests::clock::now();
    std::thread::scope(|scope| {
        for file in 0..files {
            let client = farm.client().with(|o| o.fragments = FragmentSizes::Fixed(size));
            let url = farm.url(&format!("/in/{file}.bin"));
            scope.spawn(move || {
                client.upload(&url, &Content::seeded(file, size)).expect_smooth();
            });
        }
    });
    let took = e2e_tests::clock::now() - begin;
    for file in 0..files {
        farm.expect_stored(&format!("/in/{file}.bin"), &Content::seeded(file, size));
    }
    farm.expect_healthy();
    took
}

/// A fragment that takes longer than any wait for progress, none of which it is.
fn impatient() -> FarmBuilder {
    Farm::of_stubs(1)
        .set("timeouts.client_body", "\"1s\"")
        .set("timeouts.backend_write", "\"1s\"")
        .set("timeouts.answer_long", "\"1500ms\"")
}

/// Less a quarter of a second, and the piece of 64 KiB that each goes ahead by.
fn least(bytes: u64, files: u64, rate: u64) -> Duration {
    let held_back = bytes - files * 64 * KIB - rate / 4;
    Duration::from_millis(held_back * 1000 / rate)
}

#[test]
fn all_uploads_together_keep_to_a_rate_and_trip_no_timeout() {
    let rate = 256 * KIB;
    let farm = impatient().set("limits.bandwidth", "\"256KiB\"");
    let took = upload(farm, 3, 320 * KIB);
    assert!(took >= least(3 * 320 * KIB, 3, rate), "{took:?}");
}

#[test]
fn one_client_keeps_to_its_rate_over_all_its_connections() {
    let rate = 128 * KIB;
    let farm = impatient().set("limits.bandwidth_per_client", "\"128KiB\"");
    let took = upload(farm, 2, 256 * KIB);
    assert!(took >= least(2 * 256 * KIB, 2, rate), "{took:?}");
}
