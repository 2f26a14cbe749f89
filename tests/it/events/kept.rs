//! What is left of events, and how they are read.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use e2e_tests::binaries;
use e2e_tests::farm::FarmBuilder;
use e2e_tests::wait;
use serde_json::Value;

use super::{events, is, says, stored, told};
use crate::operator::Operated;

/// Waits until the last thing that was told has reached the disk.
#[track_caller]
fn written(operated: &Operated) {
    // What is on its way to the disk is not counted as waiting any more.
    wait::until("all events are stored", || {
        let ids = |events: Vec<Value>| {
            events.into_iter().map(|event| event["id"].to_string()).collect::<BTreeSet<_>>()
        };
        ids(events(operated)).is_subset(&ids(stored(&operated.farm)))
    });
}

#[test]
fn events_outlive_a_kill_and_the_next_start_says_that_there_was_one() {
    let operated = Operated::start();
    let farm = &operated.farm;
    operated.type_in(&["backends", "drain", "up01"]);
    written(&operated);
    farm.gateway().restart();
    let started: Vec<_> =
        events(&operated).into_iter().filter(|event| is(event, "process", "started")).collect();
    assert_eq!(started.len(), 2);
    assert!(!started[0]["message"].as_str().unwrap().contains("without a word"), "{started:?}");
    says(&started[1], &["ended without a word"]);
    assert_eq!(started[1]["level"], "warning");
    let drained = told(&operated, "admin", "backend_drain");
    says(&drained, &["backend drain up01"]);
    assert_eq!(drained["backend"], "up01");
    // One that was stopped in order is no news.
    farm.gateway().terminate();
    farm.gateway().start();
    let last = told(&operated, "process", "started");
    assert!(!last["message"].as_str().unwrap().contains("without a word"), "{last}");
}

#[test]
fn without_a_store_the_command_says_that_a_restart_forgets_them() {
    let operated = Operated::with(FarmBuilder::forgetful);
    let output = operated.type_in(&["events"]);
    let note = String::from_utf8_lossy(&output.stderr);
    assert!(note.contains("kept in memory only"), "{note}");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("  INFO   process  serving on public "), "{text}");
    operated.farm.gateway().restart();
    assert_eq!(events(&operated).iter().filter(|event| is(event, "process", "started")).count(), 1);
}

#[test]
fn whoever_follows_sees_what_happens_over_a_restart_too_and_nothing_twice() {
    let operated = Operated::start();
    let farm = &operated.farm;
    let mut follower = Command::new(binaries::gateway())
        .args(["events", "--follow", "--json", "--kind", "admin,process"])
        .args(["--admin", &format!("unix:{}", operated.socket())])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the gateway's binary runs");
    let mut lines = BufReader::new(follower.stdout.take().expect("it is piped")).lines();
    let mut seen = Vec::new();
    let mut until = |kind: &str, name: &str| loop {
        let line = lines.next().expect("it goes on").expect("a line");
        let event: Value = serde_json::from_str(&line).expect("JSON");
        seen.push(event["id"].as_str().expect("an id").to_owned());
        assert!(["admin", "process"].contains(&event["kind"].as_str().unwrap()), "{event}");
        if is(&event, kind, name) {
            break;
        }
    };
    until("process", "ready");
    operated.type_in(&["backends", "drain", "up01"]);
    until("admin", "backend_drain");
    farm.gateway().terminate();
    farm.gateway().start();
    until("process", "ready");
    operated.type_in(&["backends", "ready", "up01"]);
    until("admin", "backend_ready");
    follower.kill().expect("it runs");
    follower.wait().expect("it ends");
    let count = seen.len();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), count, "an event came twice");
}

#[test]
fn an_upgrade_is_told_by_both_processes_in_one_order() {
    let operated =
        Operated::with(|farm| farm.set("process.upgrade_socket", "\"{{tmp}}/upgrade.sock\""));
    let farm = &operated.farm;
    operated.type_in(&["backends", "drain", "up01"]);
    let mut old = farm.gateway().upgrade();
    assert_eq!(old.wait().code(), Some(0));
    // What the old process said last, the new one has read.
    for name in ["handed_over", "stopped", "took_over", "predecessor_gone"] {
        told(&operated, "process", name);
    }
    let all = events(&operated);
    assert!(all.iter().any(|event| is(event, "admin", "backend_drain")));
    let started = all.iter().rfind(|event| is(event, "process", "started")).expect("it started");
    says(started, &["to take over from the process that runs"]);
    assert!(all.is_sorted_by_key(|event| event["time"].as_str().unwrap().to_owned()));
    let of = |event: &Value| event["id"].as_str().unwrap().split('-').next().unwrap().to_owned();
    let mut processes: Vec<_> = all.iter().map(of).collect();
    processes.sort_unstable();
    processes.dedup();
    assert_eq!(processes.len(), 2);
    written(&operated);
    assert_eq!(stored(farm).len(), all.len());
}

#[test]
fn a_page_has_the_newest_of_the_kinds_that_are_asked_for() {
    let operated = Operated::start();
    operated.type_in(&["backends", "drain", "up01"]);
    operated.type_in(&["backends", "ready", "up01"]);
    let lines = |words: &[&str]| {
        let output = operated.type_in(words);
        String::from_utf8_lossy(&output.stdout).lines().count()
    };
    assert_eq!(lines(&["events", "--kind", "admin"]), 2);
    assert_eq!(lines(&["events", "--kind", "admin,process"]), 4);
    assert_eq!(lines(&["events", "--kind", "admin", "--limit", "1"]), 1);
    assert_eq!(lines(&["events", "--kind", "admin", "--since", "8h"]), 2);
    assert_eq!(lines(&["events", "--kind", "store", "--since", "8h"]), 1, "no events");
    let wrong = operated.try_in(&["events", "--kind", "weather"]);
    assert_eq!(wrong.status.code(), Some(2));
}
