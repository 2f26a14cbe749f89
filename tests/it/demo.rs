//! The demo: a farm on this machine from one program.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};

use e2e_tests::binaries;
use e2e_tests::client::{Head, exchange};
use e2e_tests::temp::TempDir;
use e2e_tests::wait;
use rustix::process::{Pid, Signal, kill_process};

/// A demo, and what it says.
struct Demo {
    process: Child,
    said: BufReader<ChildStdout>,
}

impl Demo {
    /// One that stays up, with its files below that folder.
    fn start(folder: &TempDir) -> Self {
        let mut process = Command::new(binaries::gateway())
            .args(["demo", "--files", "1", "--size", "64KiB", "--stay"])
            .env("TMPDIR", folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the demo starts");
        let said = BufReader::new(process.stdout.take().expect("it is a pipe"));
        Self { process, said }
    }

    /// What follows these words in the next line that has them.
    fn hears(&mut self, words: &str) -> String {
        let mut line = String::new();
        loop {
            line.clear();
            let count = self.said.read_line(&mut line).expect("it says something");
            assert!(count > 0, "it has ended and not said: {words}");
            if let Some((_, rest)) = line.split_once(words) {
                return rest.trim_end().to_owned();
            }
        }
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.process);
        kill_process(pid, signal).expect("it runs");
    }

    /// Of the servers and the gateway that it has started.
    fn children(&self) -> Vec<String> {
        let own = format!("/proc/{0}/task/{0}/children", self.process.id());
        let children = std::fs::read_to_string(own).expect("it runs");
        children.split_whitespace().map(str::to_owned).collect()
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // Fails only if it has ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Whether that process runs; one that nobody has buried does not.
fn runs(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}

#[test]
fn a_demo_that_stays_is_there_to_be_looked_at() {
    let folder = TempDir::new("demo");
    let mut demo = Demo::start(&folder);
    demo.hears("Every file arrived whole");
    let page = demo.hears("http://demo:");
    let (token, address) = page.trim_end_matches('/').split_once('@').expect("an address");
    let address = address.parse().expect("an address");
    let answer = exchange(
        address,
        &Head::new("GET", "/")
            .field("Host", address)
            .field("Authorization", format!("Bearer {token}"))
            .with_body(b""),
    );
    let answer = answer.expect("the page answers");
    assert_eq!(answer.status, 200);
    assert!(answer.body_text().contains("up03"), "{}", answer.body_text());
    let configuration = PathBuf::from(demo.hears("export BITSGW_CONFIG="));
    let ops = demo.hears("bits-gateway health --ops ");
    for (arguments, expected) in [
        (&["backends", "list"][..], "up03"),
        (&["sessions", "list"], "no sessions"),
        (&["backends", "drain", "up01"], "up01"),
        (&["health", "--ops", &ops], "OK"),
        (&["events"], "up01"),
    ] {
        let output = Command::new(binaries::gateway())
            .args(arguments)
            .env("BITSGW_CONFIG", &configuration)
            .output()
            .expect("it runs");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        assert!(said.contains(expected), "{arguments:?}: {said}");
    }
    let children = demo.children();
    assert_eq!(children.len(), 4);
    demo.signal(Signal::INT);
    assert!(demo.process.wait().expect("it ends").success());
    assert!(!children.iter().any(|pid| runs(pid)));
    assert!(!configuration.exists(), "its folder is gone");
}

#[test]
fn a_demo_that_is_killed_leaves_no_process() {
    let folder = TempDir::new("demo");
    let mut demo = Demo::start(&folder);
    demo.hears("gateway  http://");
    let children = demo.children();
    assert_eq!(children.len(), 4);
    assert!(children.iter().all(|pid| runs(pid)));
    demo.signal(Signal::KILL);
    wait::until("all have ended", || !children.iter().any(|pid| runs(pid)));
}
