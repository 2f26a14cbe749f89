//! What a reload would do, and a reload without an admin listener.

use std::process::Command;

use e2e_tests::binaries;
use e2e_tests::data::Content;
use e2e_tests::farm::Farm;
use e2e_tests::wait;

use super::{Operated, PIECES};

#[test]
fn a_dry_run_says_which_uploads_a_file_touches_and_changes_nothing() {
    let operated = Operated::start(Farm::of_stubs(2).set("http.hosts", "[\"up.test\"]"));
    let (farm, gateway) = (&operated.farm, operated.farm.gateway());
    let client = farm.client().with(|o| o.fragments = PIECES);
    let content = Content::seeded(1, 50_000);
    let mut upload = client.begin(&farm.url("/in/a.bin"), &content);
    assert!(upload.run_until(|upload| upload.position() >= 20_000));
    let owner = farm.stubs().iter().find(|stub| stub.stats().sessions == 1).expect("an owner");
    let dry_run = || {
        let output = operated.type_in(&["reload", "--dry-run"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert_eq!(dry_run(), "nothing would change\n");
    gateway.configure(|settings| {
        settings.set("sessions.idle_timeout", "\"1h\"");
        settings.set("process.threads", "3");
    });
    gateway.remove_backend(owner.name());
    gateway.configure(|settings| {
        settings.set("listeners.public.access.deny", "[\"127.0.0.0/8\"]");
    });
    let said = dry_run();
    let denied = "  listeners.public.access.deny: 1 upload, cut off: no listener serves their clients any more";
    assert!(said.lines().any(|line| line == denied), "{said}");
    gateway.configure(|settings| settings.unset("listeners.public.access.deny"));
    let said = dry_run();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[0], "would change:", "{said}");
    assert!(said.contains("process.threads: 2 -> 3"), "{said}");
    let touched = format!("  backends.{}: 1 upload, served there to their end", owner.name());
    let (_, rest) = said.split_once("uploads that it touches:\n").expect("it is said");
    assert_eq!(rest.lines().next(), Some(&*touched), "{said}");
    assert!(!rest.contains(", forgotten"), "nothing was silent for an hour: {said}");
    // Nothing has happened.
    let shown = operated.backend(owner.name()).expect("it is there");
    assert_eq!(shown["configured"], true);
    assert!(!gateway.log().contains("configuration loaded"), "{}", gateway.log());
    std::fs::write(gateway.config_file(), "[limts]\n").expect("written");
    let bad = operated.type_in(&["reload", "--dry-run", "--json"]);
    assert_eq!(bad.status.code(), Some(78));
    let bad: serde_json::Value = serde_json::from_slice(&bad.stdout).expect("JSON");
    assert_eq!(bad["error"]["findings"][0]["help"], "did you mean [limits]?", "{bad}");
    upload.run().expect_smooth();
}

#[test]
fn a_signal_needs_no_admin_listener() {
    let farm = Farm::of_stubs(2).start();
    farm.gateway().configure(|settings| settings.set_backend("up02", "weight", "7"));
    let pid = farm.gateway().pid().to_string();
    let mut command = Command::new(binaries::gateway());
    let output = command.args(["reload", "--signal", &pid]).output().expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains("reads its configuration again"));
    wait::until("it is taken over", || {
        farm.metric("bitsgw_backend_weight", &[("backend", "up02")]) == 7.0
    });
}
