//! A server that has sessions is away: for a moment, for good, for good on a farm with shared storage.

use std::os::unix::fs::symlink;

use e2e_tests::data::Content;
use e2e_tests::farm::Stub;
use e2e_tests::wait;

use super::rig::{Midway, probed, statuses};

const UPLOADS: u64 = 6;

/// Fault: backend restarts with its state.
#[test]
fn clients_of_a_server_that_is_back_within_the_hold_see_no_error_at_all() {
    let farm = probed(2).set("failover.hold", "\"100s\"").start();
    let midway = Midway::start(&farm, UPLOADS);
    let (owner, _) = midway.busiest();
    let refused = || farm.metric("bitsgw_backend_connection_errors_total", &[]);
    owner.kill();
    let fleet = midway.go_on();
    wait::until("packets wait for the server", || refused() >= 1.0);
    wait::until("nobody else is under way", || {
        farm.metric("bitsgw_requests_in_flight", &[]) == UPLOADS as f64 / 2.0
    });
    owner.start();
    let outcome = fleet.join();
    outcome.expect_whole(&farm);
    for done in &outcome.uploads {
        done.report.expect_smooth();
        let errors: Vec<_> =
            statuses(&done.report.events).into_iter().filter(|s| !(200..300).contains(s)).collect();
        assert!(errors.is_empty(), "{errors:?}\n{}", done.report);
    }
}

/// Fault: backend is away for good.
#[test]
fn each_upload_of_a_server_that_is_gone_starts_over_once_elsewhere_and_not_too_soon() {
    const AFTER_MS: u64 = 3_000;
    let farm = probed(2)
        .set("failover.hold", "\"0s\"")
        .set("failover.restart_after", &format!("\"{AFTER_MS}ms\""))
        .start();
    let midway = Midway::start(&farm, UPLOADS);
    let (owner, sessions) = midway.busiest();
    assert_eq!(sessions, UPLOADS / 2);
    owner.kill();
    let outcome = midway.finish();
    outcome.expect_restarts(1);
    assert_eq!(u64::from(outcome.restarts()), sessions);
    for done in outcome.uploads.iter().filter(|done| done.report.restarts == 1) {
        assert_ne!(farm.expect_stored(&done.path, &done.content), owner.name());
        assert_eq!(done.report.sessions.len(), 2, "{}", done.report);
    }
    assert_eq!(farm.metric("bitsgw_sessions_ended_total", &[("reason", "lost")]), 3.0);
    // By the gateway's own clock: the last that the server did, and the first that was told to start over.
    let log = farm.gateway().access_log();
    let at = |line: &serde_json::Value| millis(line["ts"].as_str().expect("a time"));
    let given_up = log.iter().filter(|line| line["fault"] == "backend_given_up").map(at).min();
    let served =
        |line: &&serde_json::Value| line["backend"] == owner.name() && line["status"] == 200;
    let served = log.iter().filter(served).map(at).max();
    let (served, given_up) = (served.expect("it was there"), given_up.expect("it was given up"));
    assert!(given_up >= served + AFTER_MS, "given up {} ms after its end", given_up - served);
}

/// Fault: backend is away for good, shared storage.
#[test]
fn a_farm_with_shared_storage_goes_on_at_another_server_without_a_restart() {
    let farm = probed(2)
        .set("failover.hold", "\"0s\"")
        .set("failover.reassign_after", "\"0s\"")
        .set("failover.then", "\"reassign\"")
        .start();
    let [first, second] = farm.stubs() else { panic!("two stubs") };
    second.kill();
    let up = |stub: &Stub| farm.metric("bitsgw_backend_up", &[("backend", stub.name())]) == 1.0;
    wait::until("the second server is seen to be away", || !up(second));
    let midway = Midway::start(&farm, UPLOADS);
    assert_eq!(midway.busiest().1, UPLOADS);
    // One storage, and one server at a time that has it: the other takes over.
    first.kill();
    std::fs::remove_dir_all(second.root()).expect("an empty folder can be removed");
    symlink(first.root(), second.root()).expect("a link can be made");
    second.start();
    let outcome = midway.go_on().join();
    // Or the files would be found at both.
    second.kill();
    std::fs::remove_file(second.root()).expect("a link can be removed");
    outcome.expect_whole(&farm).expect_restarts(0);
    assert_eq!(farm.metric("bitsgw_sessions", &[]), 0.0);
}

#[test]
fn a_session_that_its_new_server_does_not_know_leaves_no_pin_behind() {
    // Told to share a storage, and does not.
    let farm = probed(2)
        .set("failover.hold", "\"0s\"")
        .set("failover.reassign_after", "\"0s\"")
        .set("failover.then", "\"reassign\"")
        .start();
    let midway = Midway::start(&farm, UPLOADS);
    let (owner, sessions) = midway.busiest();
    owner.kill();
    let outcome = midway.go_on().join();
    for done in &outcome.uploads {
        done.report.expect_complete();
        farm.expect_stored(&done.path, &done.content);
    }
    outcome.expect_restarts(1);
    assert_eq!(u64::from(outcome.restarts()), sessions);
    assert_eq!(farm.metric("bitsgw_sessions", &[]), 0.0);
}

/// Fault: backend has lost its state.
#[test]
fn a_server_without_its_disk_makes_its_own_uploads_start_over_and_no_others() {
    let farm = probed(2).start();
    let midway = Midway::start(&farm, UPLOADS);
    let (owner, sessions) = midway.busiest();
    owner.fault(e2e_tests::farm::StubFault::on_any("lose_sessions"));
    let outcome = midway.finish();
    outcome.expect_restarts(1);
    assert_eq!(u64::from(outcome.restarts()), sessions);
    // None is pinned to what is no more.
    assert_eq!(farm.metric("bitsgw_sessions", &[]), 0.0);
}

/// Fault: no backend is there.
#[test]
fn a_farm_without_any_server_lets_everybody_wait_until_one_is_back() {
    let farm = probed(2).set("failover.hold", "\"0s\"").start();
    let midway = Midway::start(&farm, UPLOADS);
    farm.stubs().iter().for_each(Stub::kill);
    let new = farm.client().begin(&farm.url("/in/new.bin"), &Content::seeded(9, 50_000));
    let new = e2e_tests::fleet::Begun {
        path: "/in/new.bin".to_owned(),
        content: Content::seeded(9, 50_000),
        upload: new,
    };
    let mut begun = midway.begun;
    begun.push(new);
    for begun in &mut begun {
        let status = super::rig::next_status(&mut begun.upload);
        // A connection that died with its server is found out by 502.
        assert!(matches!(status, Some(502 | 503)), "{status:?}\n{}", begun.upload.report());
    }
    farm.stubs().iter().for_each(Stub::start);
    let outcome = e2e_tests::fleet::Fleet::go_on(begun).join();
    outcome.expect_whole(&farm).expect_restarts(0);
}

/// Of `2026-01-31T12:34:56.789Z`, since the beginning of its month.
fn millis(time: &str) -> u64 {
    let numbers: Vec<u64> = time
        .split(|c: char| !c.is_ascii_digit())
        .filter(|digits| !digits.is_empty())
        .map(|digits| digits.parse().expect("digits"))
        .collect();
    let [_, _, day, hour, minute, second, ms] = numbers[..] else { panic!("no time: {time}") };
    (((day * 24 + hour) * 60 + minute) * 60 + second) * 1000 + ms
}
