//! The program as a process: exit codes, signals, connections.

use std::process::Stdio;

use tempfile::TempDir;

use crate::support::{Stub, command, fragment_lines, packet_head, wait_for};

#[test]
fn sigterm_and_sigint_end_with_success() {
    for signal in ["-TERM", "-INT"] {
        let mut stub = Stub::start(&[]);
        let mut idle = stub.connect();
        assert_eq!(idle.packet("Ping", "/x", "", b"").status, 200);
        stub.signal(signal);
        assert!(idle.ends_with_fin());
        assert_eq!(stub.wait().code(), Some(0));
    }
}

#[test]
fn sigterm_lets_requests_in_flight_finish() {
    let mut stub = Stub::start(&[]);
    let mut wire = stub.connect();
    let id = wire.create("/x");
    let lines = fragment_lines(&id, 0, 6, 6);
    wire.send((packet_head("Fragment", "/x", &lines, 6) + "abc").as_bytes());
    wait_for("the fragment to begin", || {
        (stub.get_json("/stats")["packets"]["fragment"] == 1).then_some(())
    });
    stub.signal("-TERM");
    wait_for("the port to close", || std::net::TcpStream::connect(stub.address).err());
    wire.send(b"def");
    let reply = wire.reply();
    assert_eq!((reply.status, reply.next()), (200, 6));
    assert_eq!(reply.header("connection"), Some("close"));
    drop(wire);
    assert_eq!(stub.wait().code(), Some(0));
}

#[test]
fn a_second_signal_does_not_wait() {
    let mut stub = Stub::start(&[]);
    let mut wire = stub.connect();
    let id = wire.create("/x");
    let lines = fragment_lines(&id, 0, 6, 6);
    wire.send((packet_head("Fragment", "/x", &lines, 6) + "abc").as_bytes());
    wait_for("the fragment to begin", || {
        (stub.get_json("/stats")["packets"]["fragment"] == 1).then_some(())
    });
    stub.signal("-TERM");
    wait_for("the port to close", || std::net::TcpStream::connect(stub.address).err());
    stub.signal("-TERM");
    assert_eq!(stub.wait().code(), Some(0));
}

#[track_caller]
fn check_exit(root: &TempDir, args: &[&str], expected: i32) {
    let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
    let status = command(root, &args).stdout(Stdio::null()).status().unwrap();
    assert_eq!(status.code(), Some(expected), "{args:?}");
}

#[test]
fn wrong_usage_and_unusable_things_have_exit_codes() {
    let root = TempDir::new().unwrap();
    check_exit(&root, &["--flavour", "nonsense"], 2);
    check_exit(&root, &["--create-status", "204"], 2);
    check_exit(&root, &["--help"], 0);
    let stub = Stub::start_in(root, &[]);
    let taken = stub.address.to_string();
    let other = TempDir::new().unwrap();
    let status = std::process::Command::new(env!("CARGO_BIN_EXE_backend-stub"))
        .args(["--listen", &taken, "--root"])
        .arg(other.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(74));
    // One folder, one server.
    let status = std::process::Command::new(env!("CARGO_BIN_EXE_backend-stub"))
        .args(["--listen", "127.0.0.1:0", "--root"])
        .arg(stub.path(""))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(74));
}

#[test]
fn expect_100_continue_is_honoured() {
    let stub = Stub::start(&[]);
    let mut wire = stub.connect();
    let id = wire.create("/x");
    let lines = fragment_lines(&id, 0, 3, 3) + "Expect: 100-continue\r\n";
    wire.send(packet_head("Fragment", "/x", &lines, 3).as_bytes());
    assert_eq!(wire.reply_head(), "HTTP/1.1 100 Continue\r\n\r\n");
    wire.send(b"abc");
    assert_eq!(wire.reply().next(), 3);
    assert_eq!(wire.close("/x", &id).status, 200);
}

#[test]
fn a_refused_body_is_not_asked_for() {
    let stub = Stub::start(&[]);
    let mut wire = stub.connect();
    let id = wire.create("/x");
    let lines = fragment_lines(&id, 1, 2, 3) + "Expect: 100-continue\r\n";
    wire.send(packet_head("Fragment", "/x", &lines, 2).as_bytes());
    let reply = wire.reply();
    assert_eq!((reply.status, reply.next()), (416, 0));
    assert!(wire.ends_with_fin());
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let stub = Stub::start(&[]);
    let mut wire = stub.connect();
    let ping = packet_head("Ping", "/x", "", 0);
    let bad = packet_head("Nonsense", "/x", "", 0);
    wire.send((ping.clone() + &bad + &ping).as_bytes());
    let statuses: Vec<u16> = (0..3).map(|_| wire.reply().status).collect();
    assert_eq!(statuses, [200, 400, 200]);
}

#[test]
fn an_idle_connection_is_closed() {
    let stub = Stub::start(&["--idle-timeout", "200ms"]);
    assert!(stub.connect().ends_with_fin());
}

#[test]
fn a_stalled_fragment_gives_way_to_the_next_request_of_its_session() {
    let stub = Stub::start(&[]);
    let mut stalled = stub.connect();
    let id = stalled.create("/x");
    let lines = fragment_lines(&id, 0, 6, 6);
    stalled.send((packet_head("Fragment", "/x", &lines, 6) + "abc").as_bytes());
    wait_for("the fragment to begin", || {
        (stub.get_json("/stats")["packets"]["fragment"] == 1).then_some(())
    });
    let mut wire = stub.connect();
    assert_eq!(wire.fragment("/x", &id, 0, 6, b"123456").next(), 6);
    assert!(stalled.ends_with_fin());
    wire.close("/x", &id);
    assert_eq!(stub.stored("x"), Some(b"123456".to_vec()));
}
