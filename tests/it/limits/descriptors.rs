//! Descriptors: connections of clients never take those that uploads need towards their servers.

use e2e_tests::client::{Connection, FragmentSizes, PacketType};
use e2e_tests::data::Content;
use e2e_tests::farm::Farm;
use e2e_tests::wait;

use crate::packets::expect_not_now;

/// Every descriptor that the process may have.
const DESCRIPTORS: usize = 200;

/// More connections than that, which say nothing.
const CROWD: usize = 400;

fn with_few_descriptors(farm: e2e_tests::farm::FarmBuilder) -> e2e_tests::farm::FarmBuilder {
    farm.under(&["prlimit", &format!("--nofile={DESCRIPTORS}:{DESCRIPTORS}")])
        .plain()
        .set("timeouts.client_idle", "\"10m\"")
}

fn rejected(farm: &Farm, reason: &str) -> f64 {
    farm.metric("bitsgw_rejected_requests_total", &[("reason", reason)])
}

/// Threat: T8.
///
/// Fault: descriptors are exhausted.
#[test]
fn a_crowd_that_says_nothing_cuts_no_upload() {
    let farm = with_few_descriptors(Farm::of_stubs(2)).start();
    let contents: Vec<_> = (0..8).map(|seed| Content::seeded(seed, 600_000)).collect();
    let client = farm.client().with(|o| o.fragments = FragmentSizes::Fixed(100_000));
    let path = |number: usize| format!("/in/{number}.bin");
    let mut uploads: Vec<_> = contents
        .iter()
        .enumerate()
        .map(|(number, content)| client.begin(&farm.url(&path(number)), content))
        .collect();
    for upload in &mut uploads {
        assert!(upload.run_until(|upload| upload.position() >= 100_000));
    }
    let open = || Connection::open_plain(farm.entrance()).expect("the kernel takes it");
    let crowd: Vec<_> = (0..CROWD).map(|_| open()).collect();
    wait::until("all of the crowd are in or were sent away", || {
        let away = rejected(&farm, "connection_limit") + rejected(&farm, "address_limit");
        farm.metric("bitsgw_connections", &[]) + away >= (CROWD + uploads.len()) as f64
    });
    // All at once, with a connection to a server each.
    std::thread::scope(|scope| {
        for upload in uploads {
            scope.spawn(move || {
                upload.run().expect_smooth();
            });
        }
    });
    for (number, content) in contents.iter().enumerate() {
        farm.expect_stored(&path(number), content);
    }
    drop(crowd);
    wait::until("there is room again", || farm.metric("bitsgw_connections", &[]) == 0.0);
    client.upload(&farm.url("/in/after.bin"), &contents[0]).expect_smooth();
    farm.expect_healthy();
}

#[test]
fn more_connections_than_descriptors_allow_are_said_and_sent_away() {
    let farm = with_few_descriptors(Farm::of_stubs(1)).start();
    farm.gateway().expect_logged("limits.connections");
    let log = farm.gateway().log();
    let warning = log.lines().find(|line| line.contains("limits.connections")).expect("a line");
    let warning: serde_json::Value = serde_json::from_str(warning).expect("JSON");
    assert_eq!(warning["level"], "WARN", "{warning}");
    let number =
        |field: &str| warning[field].as_u64().unwrap_or_else(|| panic!("no {field} in {warning}"));
    assert_eq!((number("connections"), number("open_files")), (20_000, DESCRIPTORS as u64));
    let allowed = number("allowed");
    assert!((10..=(DESCRIPTORS / 2) as u64).contains(&allowed), "{warning}");
    assert_eq!(farm.metric("bitsgw_connections_limit", &[]), allowed as f64);
    let mut crowd = Vec::new();
    while rejected(&farm, "connection_limit") == 0.0 && crowd.len() < CROWD {
        crowd.push(Connection::open_plain(farm.entrance()).expect("the kernel takes it"));
    }
    assert!(crowd.len() as u64 > allowed / 2, "{} of {allowed}", crowd.len());
    let answer = Connection::open_plain(farm.entrance())
        .expect("the kernel takes it")
        .read_answer()
        .expect("an answer before any request");
    expect_not_now(&[503], PacketType::Ping, &answer);
    assert_eq!(answer.field("Retry-After"), Some("60"), "{}", answer.head);
}
