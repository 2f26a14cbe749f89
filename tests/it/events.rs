//! What happened, as an operator reads it in the morning.
//!
//! [`night`]: a night with its troubles, told by events and the log alone. [`kept`]: what restarts,
//! kills and upgrades leave of them, and how they are read.

mod kept;
mod night;

use std::process::Command;

use e2e_tests::binaries;
use e2e_tests::farm::Farm;
use e2e_tests::wait;
use serde_json::Value;

use crate::operator::Operated;

/// Every event there is, as `events --json` has them.
#[track_caller]
fn events(operated: &Operated) -> Vec<Value> {
    let output = operated.type_in(&["events", "--json", "--limit", "10000"]);
    of_page(&output.stdout)
}

fn of_page(text: &[u8]) -> Vec<Value> {
    let page: Value = serde_json::from_slice(text).expect("JSON");
    page["events"].as_array().expect("a list").clone()
}

/// Those in the store, whether a gateway runs or not.
#[track_caller]
fn stored(farm: &Farm) -> Vec<Value> {
    let store = farm.directory().join("store");
    let output = Command::new(binaries::gateway())
        .args(["events", "--json", "--limit", "10000", "--store"])
        .arg(store)
        .output()
        .expect("the gateway's binary runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    of_page(&output.stdout)
}

fn is(event: &Value, kind: &str, name: &str) -> bool {
    event["kind"] == kind && event["name"] == name
}

/// Waits for an event and returns the last of its kind and name.
#[track_caller]
fn told(operated: &Operated, kind: &str, name: &str) -> Value {
    wait::some(&format!("{kind} {name} is told"), || {
        events(operated).into_iter().rfind(|event| is(event, kind, name))
    })
}

#[track_caller]
fn says(event: &Value, words: &[&str]) {
    let message = event["message"].as_str().expect("a message");
    for word in words {
        assert!(message.contains(word), "no {word:?} in {message:?}");
    }
}
