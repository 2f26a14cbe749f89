//! Real uploads through the gateway: the file on the backend's disk equals the file sent.

use std::sync::atomic::{AtomicBool, Ordering};

use e2e_tests::client::{FragmentSizes, Report};
use e2e_tests::data::Content;
use e2e_tests::farm::{Farm, Gateway};
use e2e_tests::wait::SetOnDrop;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

/// What one upload in flight may cost the gateway.
const GROWTH_PER_UPLOAD: u64 = 2 * MIB;

/// One upload through a farm of three, compared with what lies on the disk.
#[track_caller]
fn arrives_whole(size: u64, fragments: FragmentSizes) -> Report {
    let farm = Farm::of_stubs(3).start();
    let content = Content::seeded(size, size);
    let client = farm.client().with(|o| o.fragments = fragments);
    let report = client.upload(&farm.url("/in/a.bin"), &content);
    report.expect_smooth();
    assert_eq!(report.bytes_sent, size);
    farm.expect_stored("/in/a.bin", &content);
    farm.expect_healthy();
    report
}

/// Runs `work` while the gateway's memory is read; returns by how much it was above its start at most.
fn growth_during(gateway: &Gateway, work: impl FnOnce()) -> u64 {
    let before = gateway.rss_bytes();
    let done = AtomicBool::new(false);
    let peak = std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut peak = before;
            while !done.load(Ordering::SeqCst) {
                peak = peak.max(gateway.rss_bytes());
                // Reading as fast as possible would take a processor from what is measured.
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            peak
        });
        // The watch must end also when the work panics, or the scope never does.
        let ended = SetOnDrop(&done);
        work();
        drop(ended);
        watch.join().expect("reading memory does not panic")
    });
    peak - before
}

#[test]
fn an_empty_file_arrives() {
    arrives_whole(0, FragmentSizes::Whole);
}

#[test]
fn one_byte_arrives() {
    arrives_whole(1, FragmentSizes::Whole);
}

#[test]
fn five_kib_arrive() {
    arrives_whole(5 * KIB, FragmentSizes::Whole);
}

#[test]
fn thirteen_mib_and_a_byte_arrive_in_two_fragments() {
    arrives_whole(13 * MIB + 1, FragmentSizes::Fixed(13 * MIB));
}

#[test]
fn thirteen_mib_and_a_byte_arrive_in_random_fragments() {
    let seed = e2e_tests::data::seed("random fragments");
    arrives_whole(13 * MIB + 1, FragmentSizes::Random { seed, low: 5 * KIB, high: MIB });
}

#[test]
fn three_hundred_mb_arrive_in_fragments_of_13_mib() {
    arrives_whole(300_000_000, FragmentSizes::Fixed(13 * MIB));
}

#[test]
fn a_client_moves_to_the_alias_of_the_backend_that_has_its_file() {
    let farm = Farm::of_stubs(3).start();
    let content = Content::seeded(1, 100_000);
    let report = farm.client().upload(&farm.url("/in/a.bin"), &content);
    report.expect_smooth();
    let backend = farm.expect_stored("/in/a.bin", &content);
    assert_eq!(report.host_ids, [format!("{backend}.up.test")]);
}

#[test]
fn one_fragment_of_1_gib_streams_with_constant_memory() {
    let farm = Farm::of_stubs(1).start();
    let client = farm.client().with(|o| o.fragments = FragmentSizes::Whole);
    // What each worker thread of the gateway allocates once, for its first uploads, is not growth.
    // Nobody chooses the threads, so it takes as many uploads as it takes.
    let mut quiet = 0;
    for number in 0..40 {
        let path = farm.url(&format!("/in/first-{number}.bin"));
        let growth = growth_during(farm.gateway(), || {
            client.upload(&path, &Content::seeded(1, 20 * MIB)).expect_smooth();
        });
        quiet = if growth < MIB / 4 { quiet + 1 } else { 0 };
        if quiet == 4 {
            break;
        }
    }
    let content = Content::seeded(2, 1024 * MIB);
    let growth = growth_during(farm.gateway(), || {
        client.upload(&farm.url("/in/large.bin"), &content).expect_smooth();
    });
    assert!(growth < GROWTH_PER_UPLOAD, "grew by {growth} bytes");
    farm.expect_stored("/in/large.bin", &content);
}

/// Item 76.
#[test]
fn eight_uploads_of_13_mib_fragments_cost_little_memory_each() {
    const UPLOADS: u64 = 8;
    let farm = Farm::of_stubs(2).start();
    let client = farm.client().with(|o| o.fragments = FragmentSizes::Fixed(13 * MIB));
    client.upload(&farm.url("/in/first.bin"), &Content::seeded(1, 20 * MIB)).expect_smooth();
    let growth = growth_during(farm.gateway(), || {
        std::thread::scope(|scope| {
            for number in 0..UPLOADS {
                let (client, farm) = (&client, &farm);
                scope.spawn(move || {
                    let content = Content::seeded(number, 26 * MIB + number);
                    let path = format!("/in/{number}.bin");
                    client.upload(&farm.url(&path), &content).expect_smooth();
                    farm.expect_stored(&path, &content);
                });
            }
        });
    });
    assert!(growth < UPLOADS * GROWTH_PER_UPLOAD, "grew by {growth} bytes");
    farm.expect_healthy();
}
