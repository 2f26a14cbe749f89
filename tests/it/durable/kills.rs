//! The gateway is killed in the middle of uploads: they go on where they were.

use std::sync::atomic::{AtomicBool, Ordering};

use e2e_tests::client::PacketType;
use e2e_tests::client::{FragmentSizes, Report};
use e2e_tests::data::{Chance, Content};
use e2e_tests::farm::{Farm, FarmBuilder, StubFault};
use e2e_tests::wait;

use super::{PIECES, begin, sessions};

/// Kills the gateway while three uploads are half done.
#[track_caller]
fn uploads_survive(change: impl FnOnce(FarmBuilder) -> FarmBuilder) -> Farm {
    let farm = change(Farm::of_stubs(3)).start();
    let client = farm.client().with(|o| o.fragments = PIECES);
    let contents: Vec<_> = (0..3).map(|number| Content::seeded(number, 60_000)).collect();
    let path = |number: usize| format!("/in/{number}.bin");
    let begin = |(number, content)| client.begin(&farm.url(&path(number)), content);
    let mut uploads: Vec<_> = contents.iter().enumerate().map(begin).collect();
    for upload in &mut uploads {
        assert!(upload.run_until(|upload| upload.position() >= 30_000));
    }
    farm.gateway().restart();
    assert_eq!(sessions(&farm), 3.0);
    for (number, upload) in uploads.into_iter().enumerate() {
        let report = upload.run();
        report.expect_complete();
        assert_eq!((report.restarts, report.resyncs), (0, 0), "{report}");
        farm.expect_stored(&path(number), &contents[number]);
    }
    assert_eq!(sessions(&farm), 0.0);
    farm.expect_healthy();
    farm
}

#[test]
fn uploads_without_host_ids_go_on_after_a_killed_gateway() {
    uploads_survive(FarmBuilder::without_host_ids);
}

#[test]
fn uploads_with_host_ids_go_on_after_a_killed_gateway() {
    uploads_survive(|farm| farm);
}

#[test]
fn uploads_with_minted_ids_go_on_after_a_killed_gateway() {
    uploads_survive(|farm| farm.set("sessions.id", "\"minted\"").without_host_ids());
}

#[test]
fn uploads_go_on_after_a_killed_gateway_that_syncs_less() {
    uploads_survive(|farm| farm.without_host_ids().set("store.sync", "\"crash\""));
}

/// Fault: gateway is killed.
#[test]
fn an_upload_goes_on_after_the_gateway_was_killed_in_the_middle_of_a_fragment() {
    let farm = Farm::of_stubs(2).without_host_ids().start();
    let content = Content::seeded(1, 400_000);
    let client = farm.client().with(|o| o.fragments = FragmentSizes::Fixed(200_000));
    for stub in farm.stubs() {
        let slow = StubFault::on(PacketType::Fragment, "stall_after_bytes").with("n", 50_000);
        stub.fault(slow);
    }
    let report = std::thread::scope(|scope| {
        let upload = scope.spawn(|| client.upload(&farm.url("/in/a.bin"), &content));
        wait::until("a Fragment is half way", || {
            farm.stubs().iter().any(|stub| stub.stats().body_bytes >= 50_000)
        });
        farm.gateway().restart();
        upload.join().expect("an upload does not panic")
    });
    report.expect_complete();
    assert_eq!(report.restarts, 0, "{report}");
    assert!(report.retries >= 1, "{report}");
    farm.expect_stored("/in/a.bin", &content);
    farm.expect_healthy();
}

/// Fault: gateway is killed.
#[test]
fn a_gateway_that_is_killed_again_and_again_costs_no_upload_a_restart() {
    const UPLOADS: u64 = 24;
    const KILLS: u64 = 8;
    let chance = Chance::new(e2e_tests::data::seed("killed again and again"));
    let farm = Farm::of_stubs(3).each_stub(&["--strict-ranges"]).start();
    let over = AtomicBool::new(false);
    let reports: Vec<(Content, Report)> = std::thread::scope(|scope| {
        let upload = |number: u64| {
            let (farm, mut chance) = (&farm, chance.fork(number));
            scope.spawn(move || {
                let content = Content::seeded(number, chance.between(200_000, 800_000));
                let client = farm.client().with(|o| {
                    o.fragments = FragmentSizes::Fixed(6_000);
                    o.ignore_host_id = number.is_multiple_of(2);
                });
                let report = client.upload(&farm.url(&format!("/in/{number}.bin")), &content);
                (content, report)
            })
        };
        let running: Vec<_> = (0..UPLOADS).map(upload).collect();
        let killing = scope.spawn(|| {
            let mut kills = 0;
            let received = || farm.stubs().iter().map(|stub| stub.stats().body_bytes).sum::<u64>();
            while kills < KILLS {
                // After some progress each time.
                let before = received();
                wait::until("bytes arrive", || {
                    over.load(Ordering::Acquire) || received() > before + 300_000
                });
                if over.load(Ordering::Acquire) {
                    break;
                }
                farm.gateway().restart();
                kills += 1;
            }
            kills
        });
        let reports = running.into_iter().map(|upload| upload.join().expect("no panic")).collect();
        over.store(true, Ordering::Release);
        assert!(
            killing.join().expect("no panic") >= 3,
            "it was killed too seldom to show anything"
        );
        reports
    });
    let (mut sent, mut size) = (0, 0);
    for (number, (content, report)) in reports.iter().enumerate() {
        report.expect_complete();
        assert_eq!(report.restarts, 0, "{number}: {report}");
        farm.expect_stored(&format!("/in/{number}.bin"), content);
        sent += report.bytes_sent;
        size += content.len();
    }
    assert!(sent as f64 <= size as f64 * 1.15, "{sent} bytes were sent for {size}");
    farm.expect_healthy();
}

/// Fault: gateway is told to end.
#[test]
fn a_stopped_gateway_knows_its_sessions_when_it_starts_again() {
    let farm = Farm::of_stubs(2).without_host_ids().start();
    let id = begin(&farm, "/in/a.bin");
    assert_eq!(farm.gateway().terminate().code(), Some(0));
    farm.gateway().start();
    assert_eq!(sessions(&farm), 1.0);
    let packet = crate::packets::fragment("/in/a.bin", &id, "bytes 3-8/9", b"defghi");
    assert_eq!(super::ask(&farm, &packet).status, 200);
}
