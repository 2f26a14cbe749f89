//! What survives the death of the process.

use crate::support::{Stub, fragment_lines, noise, packet_head, wait_for};

#[test]
fn an_upload_resumes_after_kill_9() {
    let mut stub = Stub::start(&[]);
    let bytes = noise(600_000);
    let mut wire = stub.connect();
    let id = wire.create("/in/x");
    wire.fragment("/in/x", &id, 0, bytes.len(), &bytes[..250_000]);
    stub.kill();
    stub.restart();
    let mut wire = stub.connect();
    let reply = wire.fragment("/in/x", &id, 500_000, bytes.len(), &bytes[500_000..]);
    assert_eq!((reply.status, reply.next()), (416, 250_000));
    let reply = wire.fragment("/in/x", &id, 250_000, bytes.len(), &bytes[250_000..]);
    assert_eq!(reply.next(), bytes.len());
    stub.kill();
    stub.restart();
    assert_eq!(stub.connect().close("/in/x", &id).status, 200);
    assert_eq!(stub.stored("in/x"), Some(bytes));
    assert_eq!(stub.get_json("/stats")["foreign"], 0);
}

#[test]
fn kill_9_in_the_middle_of_a_fragment_loses_only_that_fragment() {
    let mut stub = Stub::start(&[]);
    let bytes = noise(2_000_000);
    let mut wire = stub.connect();
    let id = wire.create("/x");
    wire.fragment("/x", &id, 0, bytes.len(), &bytes[..100_000]);
    stub.fault("fragment", r#"{"kind":"die_after_bytes","n":900000}"#);
    let lines = fragment_lines(&id, 100_000, 1_900_000, bytes.len());
    let mut packet = packet_head("Fragment", "/x", &lines, 1_900_000).into_bytes();
    packet.extend_from_slice(&bytes[100_000..]);
    let _ = wire.try_send(&packet);
    stub.wait();
    stub.restart();
    let mut wire = stub.connect();
    let reply = wire.fragment("/x", &id, 100_001, bytes.len(), b"a");
    assert_eq!((reply.status, reply.next()), (416, 100_000));
    let reply = wire.fragment("/x", &id, 100_000, bytes.len(), &bytes[100_000..]);
    assert_eq!(reply.next(), bytes.len());
    wire.close("/x", &id);
    assert_eq!(stub.stored("x"), Some(bytes));
}

#[test]
fn a_fragment_applied_before_the_death_counts() {
    let mut stub = Stub::start(&[]);
    let mut wire = stub.connect();
    let id = wire.create("/x");
    stub.fault("fragment", r#"{"kind":"apply_then_die"}"#);
    wire.send_packet("Fragment", "/x", &fragment_lines(&id, 0, 3, 6), b"abc");
    stub.wait();
    stub.restart();
    let mut wire = stub.connect();
    assert_eq!(wire.fragment("/x", &id, 0, 6, b"abc").next(), 3);
    assert_eq!(wire.fragment("/x", &id, 3, 6, b"def").next(), 6);
    wire.close("/x", &id);
    assert_eq!(stub.stored("x"), Some(b"abcdef".to_vec()));
}

#[test]
fn a_close_that_moved_the_file_is_acknowledged_when_repeated() {
    // Between the rename and the removal of the record no packet can be stopped from outside, so
    // the folder is brought into that state by hand.
    let mut stub = Stub::start(&[]);
    let mut wire = stub.connect();
    let id = wire.create("/x");
    wire.fragment("/x", &id, 0, 3, b"abc");
    stub.kill();
    let dir = stub.session_dirs().remove(0);
    let record = std::fs::read_to_string(dir.join("session.json")).unwrap();
    assert!(record.contains(r#""state":"notify""#), "{record}");
    let record = record.replace(r#""state":"notify""#, r#""state":"complete""#);
    std::fs::write(dir.join("session.json"), record).unwrap();
    std::fs::rename(dir.join("requestfile.bin"), stub.path("files/x")).unwrap();
    stub.restart();
    assert_eq!(stub.connect().close("/x", &id).status, 200);
    assert_eq!(stub.stored("x"), Some(b"abc".to_vec()));
    assert!(stub.session_dirs().is_empty());
}

#[test]
fn a_close_whose_file_has_vanished_is_answered_404() {
    let stub = Stub::start(&[]);
    let mut wire = stub.connect();
    let id = wire.create("/x");
    wire.fragment("/x", &id, 0, 3, b"abc");
    let dir = stub.session_dirs().remove(0);
    std::fs::remove_file(dir.join("requestfile.bin")).unwrap();
    assert_eq!(wire.close("/x", &id).status, 404);
}

#[test]
fn a_cancelled_session_stays_gone() {
    let mut stub = Stub::start(&[]);
    let mut wire = stub.connect();
    let id = wire.create("/x");
    wire.cancel("/x", &id);
    stub.kill();
    stub.restart();
    let reply = stub.connect().close("/x", &id);
    assert_eq!(reply.error(), Some("0x8020001F"));
    // It was created here, though long ago.
    assert_eq!(stub.get_json("/stats")["foreign"], 0);
}

#[test]
fn idle_sessions_are_dropped_after_their_time() {
    let stub = Stub::start(&["--session-timeout", "300ms"]);
    let mut wire = stub.connect();
    let id = wire.create("/x");
    wait_for("the session to expire", || stub.session_dirs().is_empty().then_some(()));
    let reply = wire.fragment("/x", &id, 0, 3, b"abc");
    assert_eq!(reply.error(), Some("0x8020001F"));
    assert_eq!(stub.get_json("/stats")["sessions"], 0);
}

#[test]
fn time_that_passed_while_the_server_was_down_counts() {
    let mut stub = Stub::start(&[]);
    let mut wire = stub.connect();
    let id = wire.create("/x");
    stub.kill();
    let dir = stub.session_dirs().remove(0);
    let text = std::fs::read_to_string(dir.join("session.json")).unwrap();
    let mut record: serde_json::Value = serde_json::from_str(&text).unwrap();
    let progress = record["progress_ms"].as_u64().unwrap();
    record["progress_ms"] = (progress - 14 * 86_400_000 - 1).into();
    std::fs::write(dir.join("session.json"), record.to_string()).unwrap();
    stub.restart();
    let reply = stub.connect().fragment("/x", &id, 0, 3, b"abc");
    assert_eq!(reply.error(), Some("0x8020001F"));
}
