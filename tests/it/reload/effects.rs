//! What counts from the next request on.

use e2e_tests::client::{FragmentSizes, PacketType};
use e2e_tests::data::Content;
use e2e_tests::farm::Farm;
use e2e_tests::wait;

use super::{Operated, PIECES};

#[test]
fn a_limit_counts_for_the_next_fragment_of_a_running_upload() {
    let operated = Operated::start(Farm::of_stubs(1));
    let farm = &operated.farm;
    let content = Content::seeded(1, 100_000);
    let client = farm.client().with(|o| o.fragments = FragmentSizes::Fixed(40_000));
    let mut upload = client.begin(&farm.url("/in/a.bin"), &content);
    assert!(upload.run_until(|upload| upload.position() >= 40_000));
    farm.gateway().configure(|settings| settings.set("limits.fragment", "\"16KiB\""));
    assert!(farm.gateway().reload());
    let report = upload.run();
    report.expect_complete();
    assert_eq!(report.restarts, 0, "{report}");
    assert!(report.sent(PacketType::Fragment) >= 4, "smaller fragments\n{report}");
    farm.expect_stored("/in/a.bin", &content);
    farm.expect_healthy();
}

#[test]
fn a_log_level_counts_at_once() {
    let operated = Operated::start(Farm::of_stubs(1).set("log.level", "\"error\""));
    let gateway = operated.farm.gateway();
    assert!(gateway.reload());
    assert!(!gateway.log().contains("configuration loaded"));
    gateway.configure(|settings| settings.set("log.level", "\"info\""));
    assert!(gateway.reload());
    wait::until("it is logged", || gateway.log().contains("configuration loaded"));
}

#[test]
fn a_placement_and_names_count_for_the_next_upload() {
    let operated = Operated::start(Farm::of_stubs(3).each_stub(&["--allow-overwrites"]));
    let farm = &operated.farm;
    let content = Content::seeded(2, 20_000);
    let client = farm.client().with(|o| o.fragments = PIECES);
    farm.gateway().configure(|settings| {
        settings.set("placement.policy", "\"hash\"");
        settings.set("affinity.host_id", "\"none\"");
    });
    assert!(farm.gateway().reload());
    let mut owners = Vec::new();
    for _ in 0..3 {
        let report = client.upload(&farm.url("/in/same.bin"), &content);
        report.expect_smooth();
        assert!(report.host_ids.is_empty(), "{report}");
        owners.push(farm.expect_stored("/in/same.bin", &content));
    }
    assert!(owners.iter().all(|owner| *owner == owners[0]), "{owners:?}");
    farm.expect_healthy();
}
