//! What a process says on standard error when it starts, or does not.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value as Json;

use crate::support::{Place, SMALLEST};

/// Starts a gateway whose log goes to a file, waits for its last line of the start, and ends it.
fn log_of_a_start(place: &Place, more: &[&str], journal: bool) -> String {
    let path = place.path().join("log");
    let log = File::create(&path).unwrap();
    let metadata = log.metadata().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_bits-gateway"));
    command.args(["run", "gw.toml"]).args(more).current_dir(place.path()).env_clear();
    command.env("BITSGW__STORE__PATH", "./store").env("BITSGW__OPS__ADDRESS", "127.0.0.1:0");
    if journal {
        command.env("JOURNAL_STREAM", format!("{}:{}", metadata.dev(), metadata.ino()));
    }
    let mut process = command.stdout(Stdio::null()).stderr(log).spawn().unwrap();
    let begun = bits_gateway::base::clock::steady();
    let said = || fs::read_to_string(&path).unwrap();
    while !said().contains("\"ready\"") && process.try_wait().unwrap().is_none() {
        assert!(
            bits_gateway::base::clock::steady() - begun < Duration::from_secs(30),
            "{}",
            said()
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    let _ = process.kill();
    process.wait().unwrap();
    said()
}

#[test]
fn a_start_has_a_line_at_its_begin_and_at_its_end() {
    let place = Place::with(format!("{SMALLEST}[admin]\nsocket = \"./admin.sock\"\n"));
    let said = log_of_a_start(&place, &[], false);
    let events: Vec<Json> =
        said.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let find = |message: &str| {
        let mut events = events.iter().filter(|event| event["message"] == message);
        events.next().unwrap_or_else(|| panic!("no {message:?} in\n{said}"))
    };
    assert_eq!(events[0]["message"], "starting");
    for event in [find("starting"), find("ready")] {
        assert_eq!(event["version"], env!("CARGO_PKG_VERSION"));
        assert_eq!((&event["config"], &event["store"]), (&"gw.toml".into(), &"./store".into()));
        assert_eq!(event["admin_socket"], "./admin.sock");
        assert!(event["pid"].is_u64(), "{event}");
    }
    assert_eq!(find("starting")["listeners"], "public 127.0.0.1:0, ops 127.0.0.1:0");
    let listeners = find("ready")["listeners"].as_str().unwrap().to_owned();
    assert!(listeners.starts_with("public 127.0.0.1:") && !listeners.contains(":0"), "{listeners}");
    // Numbers are numbers.
    assert!(find("the session store is open")["milliseconds"].is_u64());
}

#[test]
fn the_journal_is_told_how_bad_each_line_is() {
    let place = Place::with(SMALLEST);
    let said = log_of_a_start(&place, &[], true);
    for line in said.lines() {
        let (priority, event) = line.split_at(3);
        let event: Json = serde_json::from_str(event).unwrap_or_else(|_| panic!("{line}"));
        let expected = match event["level"].as_str().unwrap() {
            "ERROR" => "<3>",
            "WARN" => "<4>",
            "INFO" => "<6>",
            _ => "<7>",
        };
        assert_eq!(priority, expected, "{line}");
    }
    // Another stream than the journal's.
    let place = Place::with(SMALLEST);
    let output = place.run_with(&["run", "none.toml"], &[("JOURNAL_STREAM", "1:1")]);
    assert!(output.stderr.starts_with('{'), "{}", output.stderr);
}

#[test]
fn a_wrong_file_is_told_in_the_format_of_the_log() {
    let wrong = "[affinty]\n[limits]\nconnections = 0\n";
    let json = Place::with(format!("{SMALLEST}{wrong}")).run(&["run", "gw.toml"]);
    assert_eq!(json.code, 78);
    let events: Vec<Json> =
        json.stderr.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(events.len(), 3, "{}", json.stderr);
    assert_eq!(events[0]["message"], "there is no section [affinty]");
    assert_eq!((&events[0]["at"], &events[0]["level"]), (&"gw.toml:6:2".into(), &"ERROR".into()));
    assert_eq!(events[0]["help"], "did you mean [affinity]?");
    assert_eq!(events[2]["message"], "gw.toml cannot be used: 2 errors");
    let format = "[log]\nformat = \"text\"\n";
    let text = Place::with(format!("{SMALLEST}{wrong}{format}")).run(&["run", "gw.toml"]);
    assert!(text.stderr.starts_with("error: there is no section [affinty]\n"), "{}", text.stderr);
}

#[test]
fn what_ends_a_start_is_told_with_its_cause_and_its_path() {
    let check = |more: &str, arguments: &[&str], code: i32, error: &str| {
        let place = Place::with(format!("{SMALLEST}[ops]\naddress = \"off\"\n{more}"));
        let output = place.run(&[&["run", "gw.toml"], arguments].concat());
        assert_eq!(output.code, code, "{}", output.stderr);
        let last = output.stderr.lines().last().unwrap();
        let last: Json = serde_json::from_str(last).unwrap();
        assert_eq!((&last["level"], &last["error"]), (&"ERROR".into(), &error.into()));
    };
    let ready = ["--ready-file", "none/ready"];
    let missing = "No such file or directory (os error 2)";
    check("", &ready, 74, &format!("cannot write the ready file none/ready: {missing}"));
    let log = "[log]\naccess = \"./none/access.log\"\n";
    check(log, &[], 74, &format!("the access log ./none/access.log cannot be opened: {missing}"));
}
