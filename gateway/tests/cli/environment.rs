//! `BITSGW__SECTION__KEY`.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::process::Command;

use serde_json::Value as Json;

use crate::support::{Output, Place, SMALLEST, assert_text};

fn check(environment: &[(&str, &str)]) -> Output {
    Place::with(SMALLEST).run_with(&["check", "--portable", "--config", "gw.toml"], environment)
}

/// The value and the kind of origin of a key.
fn dumped(environment: &[(&str, &str)], key: &str) -> (Json, String) {
    let file = format!("{SMALLEST}weight = 2\n[affinity]\nfallback_timeout = \"20m\"\n");
    let output = Place::with(file)
        .run_with(&["config", "dump", "--json", "--config", "gw.toml"], environment);
    assert_eq!(output.code, 0, "{}", output.stderr);
    let dump: Json = serde_json::from_str(&output.stdout).unwrap();
    let values = dump["values"].as_array().unwrap();
    let found = values.iter().find(|value| value["key"] == key).unwrap();
    (found["value"].clone(), found["origin"]["kind"].as_str().unwrap().to_owned())
}

#[test]
fn the_environment_wins_over_the_file_and_the_file_over_the_default() {
    let key = "affinity.fallback_timeout";
    let variable = [("BITSGW__AFFINITY__FALLBACK_TIMEOUT", "1h")];
    assert_eq!(dumped(&[], "sessions.idle_timeout"), ("14d".into(), "default".into()));
    assert_eq!(dumped(&[], key), ("20m".into(), "file".into()));
    assert_eq!(dumped(&variable, key), ("1h".into(), "env".into()));
}

#[test]
fn every_kind_of_value_can_be_set() {
    let set = |name: &str, value: &str, key: &str| dumped(&[(name, value)], key).0;
    assert_eq!(set("BITSGW__HTTP__METHOD_OVERRIDE", "true", "http.method_override"), true);
    assert_eq!(set("BITSGW__LIMITS__FIELDS", "64", "limits.fields"), 64);
    assert_eq!(set("BITSGW__SESSIONS__LIMIT", "10_000", "sessions.limit"), 10_000);
    assert_eq!(set("BITSGW__LIMITS__FRAGMENT", "off", "limits.fragment"), "off");
    assert_eq!(set("BITSGW__LIMITS__FRAGMENT", "4096", "limits.fragment"), "4KiB");
    assert_eq!(set("BITSGW__SESSIONS__ID", "minted", "sessions.id"), "minted");
    let hosts = set("BITSGW__HTTP__HOSTS", "a.test, b.test", "http.hosts");
    assert_eq!(hosts, serde_json::json!(["a.test", "b.test"]));
    assert_eq!(set("BITSGW__HTTP__HOSTS", "", "http.hosts"), serde_json::json!([]));
}

#[test]
fn listeners_and_backends_are_found_by_name() {
    let listener = [("BITSGW__LISTENERS__PUBLIC__ADDRESS", "127.0.0.1:9000")];
    assert_eq!(dumped(&listener, "listeners.public.address").0, "127.0.0.1:9000");
    let backend = [("BITSGW__BACKENDS__UP01__WEIGHT", "9")];
    assert_eq!(dumped(&backend, "backends.up01.weight"), (9.into(), "env".into()));
    let file = SMALLEST.replace("up01", "up-01.a__b");
    let output = Place::with(file).run_with(
        &["check", "--portable", "--config", "gw.toml"],
        &[("BITSGW__BACKENDS__UP_01_A__B__WEIGHT", "9")],
    );
    assert!(output.stdout.contains("weight 9"), "{}{}", output.stdout, output.stderr);
}

#[test]
fn a_wrong_value_is_shown_in_its_variable() {
    let output = check(&[("BITSGW__AFFINITY__FALLBACK_TIMEOUT", "900")]);
    assert_eq!(output.code, 78);
    assert_text(
        &output.stderr,
        r#"
error: `affinity.fallback_timeout` is not a duration
 --> the environment:1:36
  |
1 | BITSGW__AFFINITY__FALLBACK_TIMEOUT=900
  |                                    ^^^ the unit is missing
  |
  = help: seconds are "900s", minutes "900m"

error: gw.toml cannot be used: 1 error
"#,
    );
}

#[test]
fn the_wrong_host_of_a_list_is_shown() {
    let output = check(&[("BITSGW__HTTP__HOSTS", "a.test, b:80")]);
    assert!(output.stderr.contains("                             ^^^^ this has a port"));
}

#[test]
fn rules_hold_across_file_and_environment() {
    let output = check(&[("BITSGW__TIMEOUTS__ANSWER_LONG", "10s")]);
    assert_eq!(output.code, 78);
    assert!(output.stderr.contains("`client_body` is 130s by default"), "{}", output.stderr);
}

#[test]
fn an_unknown_variable_is_refused_with_what_was_meant() {
    let refused = |name: &str, help: &str| {
        let output = check(&[(name, "1")]);
        assert_eq!(output.code, 78, "{name}");
        assert!(output.stderr.contains(help), "no {help:?} in\n{}", output.stderr);
    };
    refused(
        "BITSGW__AFFINITY__FALLBACK_TIMOUT",
        "did you mean BITSGW__AFFINITY__FALLBACK_TIMEOUT?",
    );
    refused("BITSGW__BACKENDS__UP1__WEIGHT", "did you mean BITSGW__BACKENDS__UP01__WEIGHT?");
    refused("BITSGW__affinity__host_id", "did you mean BITSGW__AFFINITY__HOST_ID?");
    refused("BITSGW__PROCESS__USER", "not supported by this version");
    refused("BITSGW__FAILOVER__REPLAY", "not supported by this version");
    refused("BITSGW__BACKENDS__UP01__NAME", "unknown variable");
    refused("BITSGW__", "unknown variable");
    refused("BITSGW__BANANA", "`bits-gateway config dump` shows the keys");
}

#[test]
fn two_names_that_read_alike_are_not_guessed_between() {
    let file = format!("{SMALLEST}[[backends]]\nname = \"a-b\"\naddress = \"a:1\"\n")
        + "[[backends]]\nname = \"a_b\"\naddress = \"b:1\"\n";
    let output = Place::with(file).run_with(
        &["check", "--portable", "--config", "gw.toml"],
        &[("BITSGW__BACKENDS__A_B__WEIGHT", "2")],
    );
    assert!(output.stderr.contains("more than one name"), "{}", output.stderr);
}

#[test]
fn a_value_that_is_no_text_is_refused() {
    let place = Place::with(SMALLEST);
    let output = Command::new(env!("CARGO_BIN_EXE_bits-gateway"))
        .args(["check", "--portable", "--config", "gw.toml"])
        .current_dir(place.path())
        .env_clear()
        .env("BITSGW__LOG__LEVEL", OsStr::from_bytes(b"in\xffo"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(78));
    assert!(String::from_utf8_lossy(&output.stderr).contains("BITSGW__LOG__LEVEL is not UTF-8"));
}

#[test]
fn variables_of_others_are_left_alone() {
    let output = check(&[("BITSGW_X", "1"), ("PATH", "/bin"), ("MY_BITSGW__LOG__LEVEL", "x")]);
    assert_eq!((output.code, output.stderr.as_str()), (0, ""));
}
