//! Every command that needs no network, and every exit code.

use serde_json::{Value as Json, json};

use crate::support::{Place, SMALLEST, assert_text};

#[test]
fn check_says_what_would_run() {
    let file = r#"
[listeners.public]
address = "[::]:8080"
[affinity]
host_id_domain = "up.test"
[http]
hosts = ["Uploads.test"]
[limits]
fragment = "13MiB"
[log]
access = "off"
[process]
threads = 2
[store]
path = "./kept"
[[backends]]
name = "up01"
address = "10.0.0.11:80"
[[backends]]
name = "up02"
address = "[::1]:80"
weight = 3
"#;
    let output = Place::with(file).check();
    assert_eq!((output.code, output.stderr.as_str()), (0, ""));
    assert_text(
        &output.stdout,
        r#"
gw.toml: good
  listener    public on [::]:8080
  ops         127.0.0.1:9080
  admin       off
  backend     up01 at 10.0.0.11:80, weight 1, host id up01.up.test
  backend     up02 at [::1]:80, weight 3, host id up02.up.test
  placement   least-sessions
  affinity    host_id = "backend", fallback after 15m
  sessions    id = "backend", at most 1000000, forgotten after 14d without progress
  closes      lost Close: verified by HEAD of the file, which servers answer with 200 and its size; IIS needs a MIME type for it
  store       sqlite in ./kept
  hosts       uploads.test
  fragments   at most 13MiB
  access log  off
  threads     2
"#,
    );
}

#[test]
fn check_speaks_json() {
    let arguments = ["check", "--portable", "--json", "--config", "gw.toml"];
    let good =
        Place::with(format!("{SMALLEST}[sessions]\nidle_timeout = \"1d\"\n")).run(&arguments);
    assert_eq!((good.code, good.stderr.as_str()), (0, ""));
    let good: Json = serde_json::from_str(&good.stdout).unwrap();
    assert_eq!(good["ok"], true);
    assert_eq!(good["findings"][0]["severity"], "warning");
    assert_eq!(good["summary"]["backends"][0]["address"], "10.0.0.11:80");

    let bad = Place::with(format!("{SMALLEST}weight = 0\n")).run(&arguments);
    assert_eq!((bad.code, bad.stderr.as_str()), (78, ""));
    let bad: Json = serde_json::from_str(&bad.stdout).unwrap();
    assert_eq!(bad["ok"], false);
    assert_eq!(
        bad["findings"],
        json!([{
            "severity": "error",
            "message": "`backends.up01.weight` is too small",
            "help": "from 1 to 1000",
            "places": [{ "file": "gw.toml", "line": 6, "column": 10, "label": "less than 1" }],
        }])
    );

    let missing = Place::empty().run(&arguments);
    assert_eq!(missing.code, 78);
    let missing: Json = serde_json::from_str(&missing.stdout).unwrap();
    assert_eq!(missing["error"], "there is no file gw.toml");
}

#[test]
fn dump_is_a_file_that_dumps_the_same() {
    let file = format!("{SMALLEST}[affinity]\nhost_id_domain = \"up.test\"\n");
    let dump = |file: &str| {
        let output = Place::with(file).run(&["config", "dump", "--config", "gw.toml"]);
        assert_eq!((output.code, output.stderr.as_str()), (0, ""));
        output.stdout
    };
    let values = |dump: &str| -> Vec<String> {
        let bare = |line: &str| line.split("  # ").next().unwrap_or_default().trim().to_owned();
        dump.lines().map(bare).collect()
    };
    let first = dump(&file);
    assert!(first.contains("host_id_domain = \"up.test\"  # gw.toml:7\n"), "{first}");
    assert!(first.contains("fallback_timeout = \"15m\"    # default\n"), "{first}");
    assert_eq!(values(&dump(&first)), values(&first));
}

#[test]
fn dump_of_a_wrong_file_shows_its_mistakes() {
    let output = Place::with("").run(&["config", "dump", "--config", "gw.toml"]);
    assert_eq!((output.code, output.stdout.as_str()), (78, ""));
    assert!(output.stderr.contains("there is no listener"));
}

#[test]
fn run_refuses_a_wrong_file() {
    let output =
        Place::with(format!("{SMALLEST}weight = 0\n")).run(&["run", "--config", "gw.toml"]);
    assert_eq!((output.code, output.stdout.as_str()), (78, ""));
    assert!(output.stderr.contains("less than 1"));
}

#[test]
fn a_missing_file_is_bad_configuration_and_says_how_to_start() {
    let output = Place::empty().check();
    assert_eq!(output.code, 78);
    assert_text(
        &output.stderr,
        "error: there is no file gw.toml\n\
         help: `bits-gateway schema --format example` prints a file to start from",
    );
}

#[test]
fn a_file_that_cannot_be_read_is_an_io_error() {
    let output = Place::empty().run(&["check", "--config", "."]);
    assert_eq!(output.code, 74);
    assert!(output.stderr.contains("error: cannot read .:"), "{}", output.stderr);
}

#[test]
fn a_file_that_is_no_text_is_bad_configuration() {
    let output = Place::with(b"[log]\nlevel = \"\xff\"\n").check();
    assert_eq!(output.code, 78);
    assert!(output.stderr.contains("gw.toml is not UTF-8 text, at byte 15"), "{}", output.stderr);
}

#[test]
fn output_that_nobody_takes_is_an_io_error() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let status = std::process::Command::new(env!("CARGO_BIN_EXE_bits-gateway"))
        .arg("schema")
        .stdout(full)
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(74));
}

#[test]
fn a_wrong_command_line_exits_with_2() {
    let place = Place::empty();
    for arguments in [
        &["banana"][..],
        &[],
        &["check", "--config"],
        &["check", "gw.toml", "--config", "gw.toml"],
        &["config"],
        &["schema", "--format", "xml"],
        &["completions", "csh"],
    ] {
        let output = place.run(arguments);
        assert_eq!((output.code, output.stdout.as_str()), (2, ""), "{arguments:?}");
        assert!(output.stderr.contains("--help"), "{arguments:?}: {}", output.stderr);
    }
    assert!(place.run(&["chekc"]).stderr.contains("check"), "clap suggests");
}

#[test]
fn the_program_describes_itself() {
    let place = Place::empty();
    let json: Json = serde_json::from_str(&place.run(&["version", "--json"]).stdout).unwrap();
    assert_eq!(json["version"], env!("CARGO_PKG_VERSION"));
    let revision = json["revision"].as_str().unwrap();
    let version = place.run(&["version"]);
    assert_eq!(
        version.stdout,
        format!("bits-gateway {} (revision {revision})\n", env!("CARGO_PKG_VERSION"))
    );
    assert_eq!(place.run(&["--version"]).stdout, version.stdout);
    let help = place.run(&["--help"]);
    assert_eq!(help.code, 0);
    for command in ["run", "check", "schema", "config", "completions", "man", "version"] {
        assert!(help.stdout.contains(&format!("\n  {command} ")), "{command}");
    }
}

#[test]
fn completions_and_manual_pages_are_printed() {
    let place = Place::empty();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = place.run(&["completions", shell]);
        assert_eq!(output.code, 0);
        assert!(output.stdout.contains("ready-file"), "{shell}");
    }
    assert!(place.run(&["man"]).stdout.contains(".SH SUBCOMMANDS"));
    assert_eq!(place.run(&["man", "--dir", "."]).code, 0);
    for page in ["bits-gateway.1", "bits-gateway-run.1", "bits-gateway-config-dump.1"] {
        assert!(place.path().join(page).is_file(), "{page}");
    }
    assert_eq!(place.run(&["man", "--dir", "nowhere"]).code, 74);
}

#[test]
fn a_pipe_gets_no_colours() {
    let output = Place::with("").check();
    assert!(!output.stderr.contains('\u{1b}'));
}

#[test]
fn backends_on_the_command_line_are_no_part_of_a_file() {
    let place = Place::with(SMALLEST);
    let refused = |arguments: &[&str], expected: &str| {
        let output = place.run(arguments);
        assert_eq!(output.code, 2, "{}", output.stderr);
        assert!(output.stderr.contains(expected), "{}", output.stderr);
    };
    let both = "cannot be used with";
    refused(&["run", "--backend", "10.0.0.11:80", "--config", "gw.toml"], both);
    refused(&["run", "--backend", "10.0.0.11:80", "gw.toml"], both);
    refused(&["run", "--listen", "127.0.0.1:0", "gw.toml"], both);
    refused(&["run", "--listen", "127.0.0.1:0"], "--backend <ADDRESS>");
    refused(&["run", "--backend", "10.0.0.11"], "the port is missing; \"10.0.0.11:80\"");
}
