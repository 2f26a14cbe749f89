//! The machine under the gateway: its clock jumps, its descriptors run out.

use std::fs;
use std::path::Path;
use std::process::Command;

use e2e_tests::binaries;
use e2e_tests::client::{Connection, exchange};
use e2e_tests::clock;
use e2e_tests::farm::{Farm, FarmBuilder};
use e2e_tests::temp::TempDir;
use e2e_tests::wait;

use crate::packets::{create, session_of};

use super::rig::Midway;

/// A gateway whose clock on the wall, and no other, is set by a file.
fn lives_by(clock: &Path, farm: FarmBuilder) -> FarmBuilder {
    // The library behind the command `faketime`.
    farm.env("LD_PRELOAD", &binaries::library("faketime/libfaketime.so.1", "faketime"))
        .env("FAKETIME_TIMESTAMP_FILE", clock.to_str().expect("a plain path"))
        .env("FAKETIME_NO_CACHE", "1")
        .env("DONT_FAKE_MONOTONIC", "1")
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
}

/// Threat: T21.
/// Fault: clock jumps.
#[test]
fn t21_a_clock_that_jumps_ends_no_upload_that_goes_on() {
    let folder = TempDir::new("clock");
    let clock = folder.join("offset");
    let set = |offset: &str| fs::write(&clock, offset).expect("a file can be written");
    set("+0");
    let farm = lives_by(&clock, Farm::of_stubs(2).without_host_ids())
        .set("sessions.idle_timeout", "\"10s\"")
        .start();
    let day = || {
        exchange(farm.entrance(), &crate::packets::ping("/in/clock.bin").bytes())
            .expect("an answer");
        wait::some("the ping is in the access log", || {
            let line = farm.gateway().access_log().pop()?;
            Some(line["ts"].as_str()?.split('T').next()?.to_owned())
        })
    };
    let today = day();
    let silent = create("/in/silent.bin").bytes();
    session_of(&exchange(farm.entrance(), &silent).expect("an answer"));
    let mut midway = Midway::start(&farm, 4);
    let expired = || farm.metric("bitsgw_sessions_ended_total", &[("reason", "expired")]);
    set("+15d");
    wait::until("the gateway lives 15 days later", || day() != today);
    // The one that is really silent shows that the gateway has looked at all of them since.
    let mut turn = 0;
    wait::until("a sweep has been done", || {
        // The others are never silent for long: a byte each, in turn.
        let count = midway.begun.len();
        let upload = &mut midway.begun[turn % count].upload;
        turn += 1;
        let id = upload.session().expect("a session").to_owned();
        let (first, length) = (upload.position(), 80_000);
        let path = format!("/in/{}.bin", (turn - 1) % count);
        let again = crate::packets::fragment(
            &path,
            &id,
            &format!("bytes {}-{}/{length}", first - 1, first - 1),
            b"x",
        );
        let answer = exchange(farm.entrance(), &again.bytes()).expect("an answer");
        assert!(matches!(answer.status, 200 | 416), "{}", answer.head);
        expired() >= 1.0
    });
    set("-2h");
    wait::until("the gateway lives in the past", || day() <= today);
    let outcome = midway.finish();
    outcome.expect_restarts(0);
    for done in &outcome.uploads {
        done.report.expect_smooth();
    }
    assert_eq!(expired(), 1.0);
}

/// Fault: clock is years ahead at a start.
#[test]
fn a_clock_that_is_years_ahead_at_a_start_forgets_no_end() {
    let folder = TempDir::new("clock");
    let clock = folder.join("offset");
    let set = |offset: &str| fs::write(&clock, offset).expect("a file can be written");
    set("+0");
    let farm = lives_by(&clock, Farm::of_stubs(1).without_host_ids())
        .set("sessions.idle_timeout", "\"10s\"")
        .start();
    let ask = |packet: &crate::packets::Packet| {
        exchange(farm.gateway().address(), &packet.bytes()).expect("an answer")
    };
    let id = session_of(&ask(&create("/in/a.bin")));
    let whole = crate::packets::fragment("/in/a.bin", &id, "bytes 0-2/3", b"abc");
    assert_eq!(ask(&whole).status, 200);
    let close = crate::packets::close("/in/a.bin", &id);
    assert_eq!(ask(&close).status, 200);
    let closed = farm.stub(0).stats().close_session;
    for offset in ["+9y", "+18y", "-1y", "+0"] {
        set(offset);
        farm.gateway().restart();
        // And a sweep of that time takes nothing either.
        session_of(&ask(&create(&format!("/in/{}.bin", &offset[1..]))));
        assert_eq!(ask(&close).status, 200, "{offset}");
        assert_eq!(farm.stub(0).stats().close_session, closed, "{offset}: it is remembered");
    }
}

/// Fault: descriptors are exhausted.
#[test]
fn a_gateway_without_descriptors_serves_whom_it_has_and_recovers() {
    const DESCRIPTORS: usize = 64;
    // The crowd says nothing, and stays as long as it is needed.
    let farm =
        Farm::of_stubs(2).set("timeouts.handshake", "\"60s\"").set("process.threads", "2").start();
    let mut midway = Midway::start(&farm, 4);
    // Fewer than it was started with, or it would not let so many in.
    let (process, limit) = (farm.gateway().pid().to_string(), format!("--nofile={DESCRIPTORS}"));
    let lowered = Command::new("prlimit").args(["--pid", &process, &limit]).status();
    assert!(lowered.expect("prlimit is there").success());
    let failures = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
        line["failures"].as_u64().expect("a number")
    };
    let failed = || -> u64 {
        let log = farm.gateway().log();
        let lines = log.lines().filter(|line| line.contains("connections cannot be accepted"));
        lines.map(failures).sum()
    };
    let mut crowd = Vec::new();
    while failed() == 0 && crowd.len() < 4 * DESCRIPTORS {
        crowd.push(Connection::open_plain(farm.entrance()).expect("the kernel takes it"));
    }
    wait::until("no descriptor is left", || failed() > 0);
    // Who is in goes on, over connections that are there.
    for begun in &mut midway.begun {
        let position = begun.upload.position();
        assert!(begun.upload.run_until(|upload| upload.position() > position));
        assert_eq!(begun.upload.report().retries, 0, "{}", begun.upload.report());
    }
    // Accepting pauses: who tries all the time fails thousands of times in a second.
    let (begin, before) = (clock::now(), failed());
    wait::until("it tries again", || failed() >= before + 3);
    let tries = failed() - before;
    let seconds = (clock::now() - begin).as_secs() + 1;
    assert!(tries <= 20 * seconds, "{tries} tries in {seconds} s");
    drop(crowd);
    let outcome = midway.finish();
    outcome.expect_restarts(0);
    let after = farm
        .client()
        .upload(&farm.url("/in/after.bin"), &e2e_tests::data::Content::seeded(7, 50_000));
    after.expect_complete();
}
