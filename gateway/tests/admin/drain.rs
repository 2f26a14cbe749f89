//! `backends drain --wait`, as an operator waits for it.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use gateway_core::farm::AdminState;
use serde_json::Value as Json;

use crate::support::{Admin, Output, wait_for};

/// Starts a drain that looks often.
fn drain(admin: &Admin, more: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_bits-gateway"))
        .args(["backends", "drain", "up01", "--wait", "--interval", "20ms"])
        .args(["--admin", &format!("unix:{}", admin.socket.display())])
        .args(more)
        .env_clear()
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn end(child: Child) -> Output {
    let output = child.wait_with_output().unwrap();
    Output {
        code: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

fn two_uploads() -> Admin {
    let admin = Admin::start();
    admin.put("one", 0, (0, 100), Duration::ZERO);
    admin.put("two", 0, (0, 0), Duration::ZERO);
    admin.put("three", 1, (0, 0), Duration::ZERO);
    admin
}

#[test]
fn it_returns_when_nothing_is_left() {
    let admin = two_uploads();
    let mut child = drain(&admin, &[]);
    // It asks for the state, then looks.
    wait_for("some looks", || (admin.counted("read", "ok") >= 3).then_some(()));
    assert_eq!(admin.state(0), AdminState::Drain);
    admin.end("one");
    let looks = admin.counted("read", "ok");
    wait_for("more looks", || (admin.counted("read", "ok") >= looks + 3).then_some(()));
    assert!(child.try_wait().unwrap().is_none(), "one is left");
    admin.end("two");
    let output = end(child);
    assert_eq!((output.code, output.stdout.as_str()), (0, "up01 is empty\n"), "{}", output.stderr);
    let first = "up01: 2 uploads left, 100 B (1 of unknown size)\n";
    assert!(output.stderr.starts_with(first), "{}", output.stderr);
    assert_eq!(admin.sessions.len(), 1, "others stay");
}

#[test]
fn after_the_deadline_what_is_left_is_moved() {
    let admin = two_uploads();
    let output = end(drain(&admin, &["--deadline", "50ms"]));
    let expected = "up01 is empty; the clients of 2 uploads start over\n";
    assert_eq!((output.code, output.stdout.as_str()), (0, expected), "{}", output.stderr);
    assert_eq!(admin.counted("backend_move", "ok"), 1);
    assert_eq!(admin.sessions.len(), 1, "others stay");
    let admin = two_uploads();
    let output = end(drain(&admin, &["--deadline", "0s", "--json"]));
    assert_eq!((output.code, output.stderr.as_str()), (0, ""));
    let result: Json = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!((&result["empty"], &result["moved"]), (&true.into(), &2.into()), "{result}");
}

#[test]
fn nothing_is_moved_where_nobody_would_take_it() {
    let admin = two_uploads();
    admin.set(1, |backend| backend.admin = AdminState::Maintenance);
    admin.set(2, |backend| backend.admin = AdminState::Drain);
    let output = end(drain(&admin, &["--deadline", "0s"]));
    assert_eq!((output.code, output.stdout.as_str()), (1, ""));
    assert!(output.stderr.contains("warning: no backend takes new uploads now"));
    assert!(output.stderr.contains("no other backend takes new uploads"), "{}", output.stderr);
    assert_eq!(admin.sessions.len(), 3);
}

#[test]
fn it_gives_up_when_somebody_else_decides_otherwise() {
    let admin = two_uploads();
    let child = drain(&admin, &[]);
    wait_for("a look", || (admin.counted("read", "ok") >= 1).then_some(()));
    admin.post("backends/up01/ready");
    let output = end(child);
    assert_eq!((output.code, output.stdout.as_str()), (1, ""));
    assert!(output.stderr.contains("up01 was set to ready"), "{}", output.stderr);
}

#[test]
fn a_gateway_that_is_not_there_is_no_drain() {
    let admin = two_uploads();
    let mut gone = Command::new(env!("CARGO_BIN_EXE_bits-gateway"));
    gone.args(["backends", "drain", "up01", "--wait", "--admin", "unix:/tmp/nobody.sock"]);
    let output = gone.env_clear().output().unwrap();
    assert_eq!(output.status.code(), Some(69));
    let alone = admin.run(&["backends", "drain", "up01", "--deadline", "1s"]);
    assert_eq!(alone.code, 2, "a deadline is for those who wait");
}
