//! `bits-gateway sessions` on the file of a gateway that is stopped.

use std::process::{Command, Output};

use e2e_tests::binaries;
use e2e_tests::farm::Farm;
use serde_json::Value as Json;

use super::begin;

#[track_caller]
fn sessions(farm: &Farm, words: &[&str]) -> Output {
    let store = farm.directory().join("store");
    Command::new(binaries::gateway())
        .arg("sessions")
        .args(words)
        .arg("--store")
        .arg(store)
        .output()
        .expect("the gateway's binary runs")
}

#[track_caller]
fn json(output: &Output) -> Json {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[test]
fn the_sessions_of_a_stopped_gateway_can_be_listed_and_shown() {
    let farm = Farm::of_stubs(2).start();
    let ids: Vec<_> = (0..5).map(|number| begin(&farm, &format!("/in/{number}.bin"))).collect();
    // While it runs, after a kill, and after a clean stop.
    assert_eq!(
        json(&sessions(&farm, &["list", "--json"]))["sessions"].as_array().unwrap().len(),
        5
    );
    farm.gateway().kill();
    assert_eq!(
        json(&sessions(&farm, &["list", "--json"]))["sessions"].as_array().unwrap().len(),
        5
    );
    farm.gateway().start();
    farm.gateway().terminate();
    let page = json(&sessions(&farm, &["list", "--limit", "3", "--json"]));
    assert_eq!(page["sessions"].as_array().unwrap().len(), 3);
    let rest =
        json(&sessions(&farm, &["list", "--after", page["next"].as_str().unwrap(), "--json"]));
    assert_eq!((rest["sessions"].as_array().unwrap().len(), &rest["next"]), (2, &Json::Null));
    let of_one = json(&sessions(&farm, &["list", "--backend", "up02", "--json"]));
    assert!(of_one["sessions"].as_array().unwrap().iter().all(|row| row["backend"] == "up02"));

    let by_id = json(&sessions(&farm, &["show", &ids[0], "--json"]));
    let short = by_id["id"].as_str().unwrap();
    assert!(ids[0].to_lowercase().contains(short), "{short} of {}", ids[0]);
    let reference = by_id["ref"].as_str().unwrap();
    assert_eq!(json(&sessions(&farm, &["show", reference, "--json"]))["ref"], reference);
    let text = String::from_utf8(sessions(&farm, &["list"]).stdout).unwrap();
    assert!(text.contains("up01") && text.contains(reference), "{text}");
    let unknown = sessions(&farm, &["show", "{00000000-0000-0000-0000-000000000000}"]);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("no such session is stored in"));
}
