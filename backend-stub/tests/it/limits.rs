//! Maximum sizes, real and configured.

use std::process::Stdio;

use crate::support::{Stub, fragment_lines, noise, packet_head};

#[test]
fn a_file_over_the_maximum_is_too_large() {
    let stub = Stub::start(&["--max-upload-size", "10"]);
    let mut wire = stub.connect();
    let id = wire.create("/x");
    let reply = wire.fragment("/x", &id, 0, 11, b"abc");
    assert_eq!((reply.status, reply.error()), (500, Some("0x80200020")));
    assert_eq!(stub.upload("/y", b"0123456789", 5).status, 200);
}

#[test]
fn a_fragment_over_the_maximum_is_answered_413_and_may_come_smaller() {
    let stub = Stub::start(&["--max-fragment-size", "5KiB"]);
    let bytes = noise(12_000);
    let mut wire = stub.connect();
    let id = wire.create("/x");
    let reply = wire.fragment("/x", &id, 0, bytes.len(), &bytes);
    assert_eq!((reply.status, reply.error()), (413, None));
    assert_eq!(reply.header("bits-packet-type"), Some("Ack"));
    for (at, part) in bytes.chunks(5120).enumerate() {
        assert_eq!(wire.fragment("/x", &id, at * 5120, bytes.len(), part).status, 200);
    }
    wire.close("/x", &id);
    assert_eq!(stub.stored("x"), Some(bytes));
}

#[test]
fn a_body_too_long_to_swallow_is_refused_and_the_connection_ended() {
    let stub = Stub::start(&["--max-fragment-size", "1MiB"]);
    let mut wire = stub.connect();
    let id = wire.create("/x");
    let length = 1 << 30;
    let lines = fragment_lines(&id, 0, length, length);
    wire.send(packet_head("Fragment", "/x", &lines, length).as_bytes());
    let reply = wire.reply();
    assert_eq!(reply.status, 413);
    assert_eq!(reply.header("connection"), Some("close"));
    assert!(wire.ends_with_fin());
}

#[test]
fn the_limit_of_the_file_system_is_answered_too_large() {
    let root = tempfile::TempDir::new().unwrap();
    let mut shell = std::process::Command::new("sh");
    // 512-byte blocks: files up to 1 MiB.
    shell
        .args(["-c", "ulimit -f 2048 && exec \"$0\" \"$@\""])
        .arg(env!("CARGO_BIN_EXE_backend-stub"))
        .args(["--listen", "127.0.0.1:0", "--root"])
        .arg(root.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut child = shell.spawn().unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(
        &mut std::io::BufReader::new(child.stdout.take().unwrap()),
        &mut line,
    )
    .unwrap();
    let ready: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert!(ready["control"].is_null());
    let address = ready["address"].as_str().unwrap().parse().unwrap();
    let mut wire = crate::support::Wire::connect(address);
    let bytes = noise(2 << 20);
    let id = wire.create("/x");
    let reply = wire.fragment("/x", &id, 0, bytes.len(), &bytes);
    assert_eq!((reply.status, reply.error()), (500, Some("0x80200020")));
    let reply = wire.fragment("/x", &id, 1, bytes.len(), b"a");
    assert_eq!((reply.status, reply.next()), (416, 0));
    // What failed must not end up as an empty file.
    assert_eq!(wire.close("/x", &id).status, 200);
    assert!(!root.path().join("files/x").exists());
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn memory_does_not_grow_with_the_fragment() {
    let stub = Stub::start(&[]);
    let mut wire = stub.connect();
    let id = wire.create("/big");
    let block = noise(1 << 20);
    let (count, length) = (96, 96 << 20);
    wire.fragment("/big", &id, 0, length, &block);
    let before = stub.memory_peak();
    let lines = fragment_lines(&id, 1 << 20, length - (1 << 20), length);
    wire.send(packet_head("Fragment", "/big", &lines, length - (1 << 20)).as_bytes());
    for _ in 1..count {
        wire.send(&block);
    }
    assert_eq!(wire.reply().next(), length);
    let growth = stub.memory_peak() - before;
    assert!(growth < 8 << 20, "grew by {growth} bytes");
    assert_eq!(wire.close("/big", &id).status, 200);
    assert_eq!(std::fs::metadata(stub.path("files/big")).unwrap().len(), length as u64);
}
