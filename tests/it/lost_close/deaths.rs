//! A server, its connection or the gateway dies between the server's closing and our record of it.

use std::sync::Arc;
use std::time::Duration;

use e2e_tests::client::{Client, FragmentSizes, PacketType, Report};
use e2e_tests::data::Content;
use e2e_tests::farm::{Farm, FarmBuilder, StubFault};
use e2e_tests::temp::TempDir;
use e2e_tests::wait;

use super::closes;
use crate::packets::TARGET;

/// Names a file to the gateway of a debug build: while it is there, the disk hangs.
const DISK_HANGS: &str = "BITS_GATEWAY_DISK_HANGS";

/// What the retry delay of 10 minutes is here.
const DELAY: Duration = Duration::from_millis(100);

fn farm(stub: &[&str], change: impl FnOnce(FarmBuilder) -> FarmBuilder) -> Farm {
    change(Farm::of_stubs(1).each_stub(stub).without_host_ids()).start()
}

fn client(farm: &Farm) -> Client {
    farm.client().with(|o| {
        o.fragments = FragmentSizes::Fixed(10_000);
        o.wait = Arc::new(|_| std::thread::sleep(DELAY));
    })
}

fn content() -> Content {
    Content::seeded(1, 25_000)
}

/// The server closes the session, and its answer does not come.
fn close_fails(farm: &Farm, kind: &str) {
    farm.stub(0).fault(StubFault::on(PacketType::CloseSession, kind));
}

/// Uploads one file while `meanwhile` runs.
#[track_caller]
fn upload(farm: &Farm, meanwhile: impl FnOnce()) -> Report {
    let (client, url) = (client(farm), farm.url(TARGET));
    let report = std::thread::scope(|scope| {
        let uploading = scope.spawn(|| client.upload(&url, &content()));
        meanwhile();
        uploading.join().expect("the client does not panic")
    });
    report.expect_complete();
    report
}

#[track_caller]
fn expect_delivered_once(farm: &Farm, report: &Report) {
    assert_eq!(report.restarts, 0, "{report}");
    assert_eq!(report.bytes_sent, content().len(), "{report}");
    farm.expect_stored(TARGET, &content());
    farm.expect_healthy();
    assert_eq!(closes(farm, "delivered"), 1.0);
}

/// Fault: the Ack of a Close-Session is lost on its way from the server.
#[test]
fn a_server_whose_connection_ends_when_it_has_closed_the_session_costs_no_restart() {
    for stub in [&[][..], &["--delivery", "stamp"], &["--strict-ranges"]] {
        let farm = farm(stub, |farm| farm);
        close_fails(&farm, "apply_then_close");
        let report = upload(&farm, || {});
        expect_delivered_once(&farm, &report);
    }
}

/// Fault: the Ack of a Close-Session is lost on its way from the server.
#[test]
fn a_server_that_dies_when_it_has_closed_the_session_costs_no_restart() {
    for gateway_dies_too in [false, true] {
        let farm = farm(&[], |farm| farm);
        close_fails(&farm, "apply_then_die");
        let report = upload(&farm, || {
            farm.stub(0).wait_dead();
            if gateway_dies_too {
                farm.gateway().restart();
            }
            farm.stub(0).start();
        });
        expect_delivered_once(&farm, &report);
    }
}

/// Fault: the Ack of a Close-Session is lost on its way from the server.
#[test]
fn a_gateway_that_is_killed_when_the_server_has_closed_the_session_costs_no_restart() {
    let farm = farm(&[], |farm| farm);
    farm.stub(0).fault(StubFault::on(PacketType::CloseSession, "delay").with("ms", 60_000));
    let report = upload(&farm, || {
        wait::until("the server has closed the session", || {
            !farm.stored(TARGET).is_empty() && farm.stub(0).stats().sessions == 0
        });
        farm.gateway().restart();
    });
    expect_delivered_once(&farm, &report);
}

/// The last byte is acknowledged while the gateway's disk hangs, and the gateway is killed: it has
/// no record that the file has arrived. Then `meanwhile` runs, and the client goes on.
#[track_caller]
fn upload_whose_last_ack_is_not_recorded(
    stub: &[&str],
    policy: &str,
    meanwhile: impl FnOnce(&Farm),
) -> (Farm, Report) {
    let folder = TempDir::new("hangs");
    let disk = folder.join("disk");
    let farm = farm(stub, |farm| {
        let file = disk.to_str().expect("a plain path");
        farm.set("sessions.lost_close", &format!("\"{policy}\"")).env(DISK_HANGS, file)
    });
    let client = client(&farm);
    let content = content();
    let mut upload = client.begin(&farm.url(TARGET), &content);
    assert!(upload.run_until(|upload| upload.position() == 20_000));
    // Its pin is written before its client learns of it, and all that was asked for before.
    client.upload(&farm.url("/in/other.bin"), &content).expect_smooth();
    std::fs::write(&disk, "").expect("written");
    assert!(upload.run_until(|upload| upload.position() == content.len()));
    farm.gateway().kill();
    std::fs::remove_file(&disk).expect("removed");
    farm.gateway().start();
    meanwhile(&farm);
    let report = upload.run();
    report.expect_complete();
    farm.expect_stored(TARGET, &content);
    (farm, report)
}

/// Fault: the Ack of a Close-Session is lost on its way from the server.
#[test]
fn a_gateway_that_is_killed_before_it_records_the_last_ack_costs_no_restart() {
    for stub in [&[][..], &["--delivery", "stamp"]] {
        let (farm, report) = upload_whose_last_ack_is_not_recorded(stub, "verify", |farm| {
            close_fails(farm, "apply_then_close");
        });
        expect_delivered_once(&farm, &report);
    }
}

#[test]
fn where_the_last_ack_is_not_recorded_nothing_but_the_file_proves_that_it_was_delivered() {
    let (farm, report) = upload_whose_last_ack_is_not_recorded(&[], "verify", |farm| {
        farm.stub(0).lose_sessions();
    });
    assert_eq!(report.restarts, 1, "{report}");
    assert_eq!(closes(&farm, "not_delivered"), 1.0);
    // What may not have arrived is not taken for delivered.
    let overwrites = &["--allow-overwrites"];
    for policy in ["ack", "restart"] {
        let (farm, report) = upload_whose_last_ack_is_not_recorded(overwrites, policy, |farm| {
            close_fails(farm, "apply_then_close");
        });
        assert_eq!(report.restarts, 1, "{policy}: {report}");
        assert_eq!(closes(&farm, "incomplete"), 1.0, "{policy}");
    }
}

#[test]
fn a_server_that_has_lost_the_file_gets_it_again() {
    let farm = farm(&[], |farm| farm);
    let client = client(&farm);
    let mut upload = client.begin(&farm.url(TARGET), &content());
    assert!(upload.run_until(|upload| upload.position() == content().len()));
    farm.stub(0).lose_sessions();
    let report = upload.run();
    report.expect_complete();
    assert_eq!(report.restarts, 1, "{report}");
    farm.expect_stored(TARGET, &content());
    assert_eq!(closes(&farm, "not_delivered"), 1.0);
}

/// The file that was there before is no proof, though it has the same size.
#[test]
fn an_older_file_of_the_same_size_is_not_taken_for_the_one_that_was_lost() {
    let farm = farm(&["--allow-overwrites"], |farm| farm);
    let older = Content::seeded(2, content().len());
    client(&farm).upload(&farm.url(TARGET), &older).expect_smooth();
    let file = std::fs::File::options().append(true).open(farm.stub(0).file(TARGET));
    let file = file.expect("it was delivered");
    let modified = file.metadata().and_then(|found| found.modified()).expect("a time");
    file.set_modified(modified - Duration::from_secs(60)).expect("its time may be changed");
    let client = client(&farm);
    let mut upload = client.begin(&farm.url(TARGET), &content());
    assert!(upload.run_until(|upload| upload.position() == content().len()));
    farm.stub(0).lose_sessions();
    let report = upload.run();
    report.expect_complete();
    assert_eq!(report.restarts, 1, "{report}");
    farm.expect_stored(TARGET, &content());
}

#[test]
fn a_server_that_refuses_head_costs_a_restart_when_the_patience_is_over() {
    let patience = |farm: FarmBuilder| farm.set("sessions.lost_close_after", "\"1s\"");
    let farm = farm(&["--refuse-head", "--allow-overwrites"], patience);
    close_fails(&farm, "apply_then_close");
    let report = upload(&farm, || {});
    assert_eq!(report.restarts, 1, "{report}");
    farm.expect_stored(TARGET, &content());
    assert_eq!((closes(&farm, "unverified"), closes(&farm, "delivered")), (1.0, 0.0));
    assert!(closes(&farm, "unclear") >= 1.0);
}

#[test]
fn where_an_application_takes_files_away_an_operator_may_have_closes_acknowledged() {
    let taken =
        |farm: &Farm| farm.stub(0).root().join("taken").join(TARGET.trim_start_matches('/'));
    for (policy, restarts) in [("verify", 1), ("ack", 0), ("restart", 1)] {
        let policy = |farm: FarmBuilder| farm.set("sessions.lost_close", &format!("\"{policy}\""));
        let farm = farm(&["--delivery", "take-away"], policy);
        close_fails(&farm, "apply_then_close");
        let report = upload(&farm, || {});
        assert_eq!(report.restarts, restarts, "{report}");
        let stored = e2e_tests::data::sha256_file(&taken(&farm)).expect("the file was taken");
        assert_eq!(stored, content().sha256());
    }
}
