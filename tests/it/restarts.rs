//! The gateway's process comes and goes under uploads.

use e2e_tests::client::{Event, FragmentSizes, PacketType};
use e2e_tests::data::Content;
use e2e_tests::farm::Farm;
use e2e_tests::fault_link::Cut;

const PIECES: FragmentSizes = FragmentSizes::Fixed(10_000);

#[test]
fn sigterm_ends_an_idle_gateway_with_status_0() {
    let farm = Farm::of_stubs(1).start();
    let address = farm.gateway().address();
    assert_eq!(farm.gateway().terminate().code(), Some(0));
    farm.gateway().start();
    // The harness promises this to other tests.
    assert_eq!(farm.gateway().address(), address);
}

#[test]
fn a_client_at_an_alias_goes_on_after_a_killed_gateway() {
    let farm = Farm::of_stubs(3).forgetful().start();
    let content = Content::seeded(1, 50_000);
    let client = farm.client().with(|o| o.fragments = PIECES);
    let mut upload = client.begin(&farm.url("/in/a.bin"), &content);
    assert!(upload.run_until(|upload| upload.position() >= 20_000));
    farm.gateway().restart();
    let report = upload.run();
    report.expect_complete();
    assert_eq!((report.restarts, report.resyncs), (0, 0), "{report}");
    farm.expect_stored("/in/a.bin", &content);
    farm.expect_healthy();
}

#[test]
fn a_reset_connection_costs_a_client_one_retry() {
    let farm = Farm::of_stubs(2).link_front().start();
    let content = Content::seeded(1, 50_000);
    let client = farm.client().with(|o| o.fragments = PIECES);
    let mut upload = client.begin(&farm.url("/in/a.bin"), &content);
    assert!(upload.run_until(|upload| upload.position() >= 20_000));
    farm.front().cut(Cut::Reset);
    let report = upload.run();
    report.expect_complete();
    // The client may notice before it sends, and then needs no retry at all.
    assert!(report.retries <= 1 && report.restarts == 0, "{report}");
    assert!(report.sent(PacketType::Ping) <= 2, "{report}");
    let connected = |event: &&Event| matches!(event, Event::Connected { .. });
    assert!(report.events.iter().filter(connected).count() >= 3, "{report}");
    farm.expect_stored("/in/a.bin", &content);
    farm.expect_healthy();
}
