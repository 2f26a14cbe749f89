//! The suite with so small a load that its figures mean nothing. Every row counts, so every byte arrived where it should.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// One of each way to carry the load, and those that ratios are made of.
const PEERS: [&str; 7] = [
    "direct",
    "floor-copy",
    "floor-splice",
    "haproxy-1",
    "nginx-1",
    "gateway-1-log",
    "gateway-1-sqlite",
];

const CASES: [&str; 4] = ["1k", "1m", "tls-session", "open"];

/// A directory of this test's own, below that of the build.
fn directory(name: &str) -> PathBuf {
    let path =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
    std::fs::create_dir_all(&path).expect("a directory");
    path
}

fn suite(directory: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bench-suite"))
        .args(["--percent", "1", "--out"])
        .arg(directory.join("out"))
        .arg("--work")
        .arg(directory)
        .args(arguments)
        .output()
        .expect("it runs")
}

#[test]
fn every_peer_carries_every_packet() {
    let directory = directory("peers");
    let mut arguments = vec!["--rounds", "1"];
    arguments.extend(CASES.iter().flat_map(|name| ["--case", name]));
    arguments.extend(PEERS.iter().flat_map(|name| ["--peer", name]));
    let output = suite(&directory, &arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let json = std::fs::read(directory.join("out/results.json")).expect("results");
    let json: Value = serde_json::from_slice(&json).expect("JSON");
    assert_ne!(json["machine"]["processor"], "");
    for case in json["cases"].as_array().expect("cases") {
        let rows = case["rows"].as_array().expect("rows");
        assert!(rows.len() >= 5, "{rows:?}");
        for row in rows {
            let peer = row["peer"].as_str().expect("a name");
            assert_eq!(row["void"], Value::Null, "{peer}");
            assert_eq!(row["rounds"].as_array().map(Vec::len), Some(1), "{peer}");
            assert!(row["figures"]["p50_us"]["median"].as_f64() > Some(0.0), "{peer}");
            let ratios = &row["ratios"][0];
            let first = ratios["of"].as_str().expect("a figure");
            let cost = row["figures"][first]["median"].as_f64();
            assert_eq!(cost.is_some(), peer != "direct", "{peer}: {cost:?}");
            // What a proxy adds to a few packets may be less than nothing.
            if case["case"] != "open" {
                assert_eq!(ratios["to_haproxy"].is_null(), peer == "direct", "{peer}");
                assert_eq!(ratios["to_floor"].is_null(), peer == "direct", "{peer}");
            }
            if peer.starts_with("haproxy") && case["case"] != "open" {
                assert_eq!(ratios["to_haproxy"]["median"], 1.0, "{peer}");
            }
        }
        let plot = format!("out/{}.svg", case["case"].as_str().expect("a name"));
        let plot = std::fs::read_to_string(directory.join(plot)).expect("a plot");
        assert!(plot.starts_with("<svg") && plot.ends_with("</svg>\n"), "{plot}");
    }
    let tables = String::from_utf8_lossy(&output.stdout);
    let processor = json["machine"]["processor"].as_str().expect("a name");
    assert_eq!(tables.matches(processor).count(), CASES.len(), "{tables}");
    std::fs::remove_dir_all(directory).expect("removed");
}

#[test]
fn a_row_with_an_error_has_no_figures() {
    let directory = directory("void");
    // It starts no listener at all.
    let arguments = [
        "--rounds",
        "1",
        "--case",
        "ping",
        "--peer",
        "gateway-1",
        "--peer",
        "haproxy-1",
        "--gateway",
        "/bin/true",
    ];
    let output = suite(&directory, &arguments);
    assert_eq!(output.status.code(), Some(1));
    let tables = String::from_utf8_lossy(&output.stdout);
    assert!(tables.contains("| gateway-1 | **void**: gateway-1: it ended with"), "{tables}");
    assert!(tables.contains("| haproxy-1 | "), "{tables}");
    std::fs::remove_dir_all(directory).expect("removed");
}

#[test]
fn help_names_cases_and_peers() {
    let output = suite(Path::new("."), &["--help"]);
    let text = String::from_utf8_lossy(&output.stdout);
    for name in ["--case", "--peer", "--rounds", "--quick", "Cases:", "ping", "haproxy-1"] {
        assert!(text.contains(name), "{name} is missing: {text}");
    }
}
