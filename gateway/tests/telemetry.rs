//! The operational log as a process writes it.

use std::process::Command;

use bits_gateway::telemetry::log::{Format, init};
use bits_gateway::telemetry::metrics::{LogCounters, LogLevel, LogName};
use serde_json::Value;

const CHILD: &str = "BITSGW_TEST_LOG_CHILD";

/// A process has one log, so the log under test is that of a second process: this test again,
/// told by a variable to write instead of to read.
#[test]
fn a_process_writes_its_events_and_those_of_its_libraries_as_json_on_stderr() {
    if std::env::var_os(CHILD).is_some() {
        write_one_of_each();
    }
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture"])
        .arg("a_process_writes_its_events_and_those_of_its_libraries_as_json_on_stderr")
        .env(CHILD, "1")
        .output()
        .unwrap();
    assert!(child.status.success(), "{child:?}");
    let text = String::from_utf8(child.stderr).unwrap();
    let events: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}")))
        .collect();
    let messages: Vec<_> = events.iter().map(|event| event["message"].as_str().unwrap()).collect();
    assert_eq!(messages, ["gateway is ready", "a library complains", "a thread panicked"]);
    assert_eq!(events[0]["level"], "INFO");
    assert_eq!(events[0]["listener"], "public");
    assert_eq!(events[1]["level"], "ERROR");
    assert_eq!(events[1]["library"], "pingora_core::services::listening");
    assert_eq!(events[1]["text"], "Accept() failed");
    assert_eq!(events[2]["level"], "ERROR");
    assert_eq!(events[2]["panic"], "forced\\x0aby a test");
    assert!(events[2]["place"].as_str().unwrap().contains("telemetry.rs"));
}

fn write_one_of_each() -> ! {
    let counters = LogCounters::detached();
    let guard = init(Format::Json, LogLevel::Info, counters.clone()).unwrap();
    assert!(init(Format::Json, LogLevel::Info, counters.clone()).is_err());
    tracing::info!(target: "bits_gateway", listener = "public", "gateway is ready");
    tracing::debug!(target: "bits_gateway", "not at this level");
    log::error!(target: "pingora_core::services::listening", "Accept() failed");
    log::info!(target: "pingora_core", "secret head");
    log::error!(target: "pingora_proxy", "Fail to proxy: GET /?secret");
    std::thread::spawn(|| panic!("forced\nby a test")).join().unwrap_err();
    drop(guard);
    assert_eq!(counters.lost(LogName::Operational), 0);
    std::process::exit(0)
}
