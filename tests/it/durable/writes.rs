//! How often the store is written.

use e2e_tests::client::{FragmentSizes, PacketType};
use e2e_tests::data::Content;
use e2e_tests::farm::Farm;

use super::{ask, begin};
use crate::packets::{TARGET, cancel};

/// Writes that came to a good end, and all others.
fn writes(farm: &Farm, operation: &str) -> (f64, f64) {
    let count = |more: &[(&str, &str)]| {
        let labels = [&[("store", "sqlite"), ("operation", operation)], more].concat();
        farm.metric("bitsgw_store_operations_total", &labels)
    };
    let good = count(&[("result", "ok")]);
    (good, count(&[]) - good)
}

#[test]
fn an_upload_is_written_once_at_its_start_and_once_at_its_end() {
    let farm = Farm::of_stubs(2).start();
    let client = farm.client().with(|o| o.fragments = FragmentSizes::Fixed(6_000));
    let content = Content::seeded(1, 600_000);
    let mut upload = client.begin(&farm.url(TARGET), &content);
    assert!(upload.run_until(|upload| upload.position() >= 300_000));
    assert_eq!((writes(&farm, "put"), writes(&farm, "delete")), ((1.0, 0.0), (0.0, 0.0)));
    let report = upload.run();
    report.expect_smooth();
    assert_eq!(report.sent(PacketType::Fragment), 100);
    assert_eq!((writes(&farm, "put"), writes(&farm, "delete")), ((1.0, 0.0), (1.0, 0.0)));
    assert_eq!(farm.metric("bitsgw_store_up", &[("store", "sqlite")]), 1.0);
}

#[test]
fn a_cancelled_session_is_written_twice_too() {
    let farm = Farm::of_stubs(1).start();
    let id = begin(&farm, TARGET);
    assert_eq!(ask(&farm, &cancel(TARGET, &id)).status, 200);
    assert_eq!((writes(&farm, "put"), writes(&farm, "delete")), ((1.0, 0.0), (1.0, 0.0)));
}

#[test]
fn without_a_store_nothing_is_written() {
    let farm = Farm::of_stubs(1).forgetful().start();
    begin(&farm, TARGET);
    assert_eq!((writes(&farm, "put"), writes(&farm, "delete")), ((0.0, 0.0), (0.0, 0.0)));
    assert!(!farm.directory().join("store").exists());
}
