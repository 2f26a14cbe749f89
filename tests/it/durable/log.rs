//! The log of the store, taken away while the gateway runs or before it starts.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;

use e2e_tests::farm::Farm;
use e2e_tests::wait;

use super::{ask, begin, sessions};
use crate::packets::{close, fragment};

const SESSIONS: usize = 30;

fn place(farm: &Farm, name: &str) -> PathBuf {
    farm.directory().join("store").join(name)
}

/// Targets and ids of sessions.
type Sessions = Vec<(String, String)>;

/// A gateway with sessions, of which some have ended: their targets, those that live first.
fn in_use() -> (Farm, Sessions, Sessions) {
    let farm = Farm::of_stubs(2).without_host_ids().start();
    let open = |number| {
        let target = format!("/in/{number}.bin");
        (begin(&farm, &target), target)
    };
    let live: Vec<_> = (0..SESSIONS).map(open).collect();
    let ended: Vec<_> = (SESSIONS..SESSIONS + 5).map(open).collect();
    for (id, target) in &ended {
        assert_eq!(ask(&farm, &fragment(target, id, "bytes 3-8/9", b"defghi")).status, 200);
        assert_eq!(ask(&farm, &close(target, id)).status, 200);
    }
    (farm, live, ended)
}

#[track_caller]
fn goes_on(farm: &Farm, live: &[(String, String)], ended: &[(String, String)]) {
    assert_eq!(sessions(farm) as usize, live.len());
    for (id, target) in live {
        let answer = ask(farm, &fragment(target, id, "bytes 3-8/9", b"defghi"));
        assert_eq!(answer.status, 200, "{target}: {}", answer.head);
    }
    let closed = || farm.stubs().iter().map(|stub| stub.stats().close_session).sum::<u64>();
    let before = closed();
    for (id, target) in ended {
        assert_eq!(ask(farm, &close(target, id)).status, 200, "{target}");
    }
    assert_eq!(closed(), before, "an end is remembered, no backend is asked");
}

#[track_caller]
fn is_made_good(said: &str, tamper: impl FnOnce(&Farm)) {
    let (farm, live, ended) = in_use();
    let before = fs::metadata(place(&farm, "sessions.db")).expect("a database").ino();
    tamper(&farm);
    wait::until("the store is made anew", || {
        let now = fs::metadata(place(&farm, "sessions.db")).map(|file| file.ino());
        now.is_ok_and(|now| now != before) && farm.metric("bitsgw_store_up", &[]) == 1.0
    });
    farm.gateway().expect_logged(said);
    farm.gateway().expect_logged("the session store was made anew and holds all that is known");
    farm.gateway().restart();
    goes_on(&farm, &live, &ended);
    farm.expect_healthy();
}

/// Fault: log of the store is deleted, cut or replaced.
#[test]
fn a_log_that_is_deleted_under_a_gateway_costs_nothing() {
    is_made_good("its log was removed", |farm| {
        fs::remove_file(place(farm, "sessions.db-wal")).expect("removed");
    });
}

/// Fault: log of the store is deleted, cut or replaced.
#[test]
fn a_log_that_is_cut_under_a_gateway_costs_nothing() {
    is_made_good("its log was cut", |farm| {
        let log = fs::File::options().write(true).open(place(farm, "sessions.db-wal"));
        log.and_then(|log| log.set_len(0)).expect("cut");
    });
}

/// Fault: log of the store is deleted, cut or replaced.
#[test]
fn a_log_that_is_replaced_under_a_gateway_costs_nothing() {
    let older = {
        let (farm, ..) = in_use();
        fs::read(place(&farm, "sessions.db-wal")).expect("a log")
    };
    is_made_good("its log was replaced by another file", |farm| {
        let other = place(farm, "other");
        fs::write(&other, &older).expect("written");
        fs::set_permissions(&other, fs::Permissions::from_mode(0o600)).expect("permitted");
        fs::rename(&other, place(farm, "sessions.db-wal")).expect("renamed");
    });
    is_made_good("its log was", |farm| {
        fs::write(place(farm, "sessions.db-wal"), &older[..older.len() - 1]).expect("written");
    });
}

/// Fault: log of the store is deleted, cut or replaced.
#[test]
fn a_log_without_a_database_and_a_database_without_a_log_are_said_at_the_start() {
    let (farm, ..) = in_use();
    farm.gateway().kill();
    fs::remove_file(place(&farm, "sessions.db-wal")).expect("removed");
    farm.gateway().start();
    farm.gateway().expect_logged("was not stopped in order");
    farm.gateway().kill();
    fs::remove_file(place(&farm, "sessions.db")).expect("removed");
    farm.gateway().start();
    farm.gateway().expect_logged("is missing and its log was there");
    begin(&farm, "/in/new.bin");
    farm.gateway().restart();
    assert_eq!(sessions(&farm), 1.0);
}
