//! Uploads as clients do them.

use crate::support::{Stub, id_line, noise, packet_head};

const PATH: &str = "/in/logs/pc-17.cab?site=7";

#[track_caller]
fn check_upload(length: usize, fragment: usize) {
    let stub = Stub::start(&[]);
    let bytes = noise(length);
    let reply = stub.upload(PATH, &bytes, fragment);
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(stub.stored("in/logs/pc-17.cab"), Some(bytes));
    assert!(stub.session_dirs().is_empty());
    assert_eq!(stub.get_json("/stats")["foreign"], 0);
}

#[test]
fn the_stored_file_equals_the_file_sent() {
    check_upload(10_000, 5120);
}

#[test]
fn a_file_of_one_byte_is_stored() {
    check_upload(1, 5120);
}

#[test]
fn a_file_in_one_fragment_larger_than_any_buffer_is_stored() {
    check_upload(5 * 1024 * 1024 + 1, usize::MAX);
}

#[test]
fn fragments_of_odd_sizes_are_stored() {
    check_upload(1_000_003, 77_777);
}

#[test]
fn an_empty_file_is_stored_by_close_alone() {
    check_upload(0, 5120);
}

#[test]
fn an_empty_file_is_stored_by_an_empty_fragment() {
    for range in ["*/0", "0-0/0", "0--1/0"] {
        let stub = Stub::start(&[]);
        let mut wire = stub.connect();
        let id = wire.create("/empty");
        let lines = format!("{}Content-Range: bytes {range}\r\n", id_line(&id));
        let reply = wire.packet("Fragment", "/empty", &lines, b"");
        assert_eq!((reply.status, reply.next()), (200, 0), "{reply:?}");
        assert_eq!(wire.close("/empty", &id).status, 200);
        assert_eq!(stub.stored("empty"), Some(Vec::new()), "{range}");
    }
}

#[test]
fn acks_look_like_those_of_iis() {
    let stub = Stub::start(&["--host-id", "n3.up.test", "--host-id-fallback-timeout", "3600"]);
    let mut wire = stub.connect();
    let created = wire.try_create("/x");
    let id = created.header("bits-session-id").unwrap().to_owned();
    let id_header = format!("BITS-Session-Id: {id}");
    assert_eq!(
        created.lines(),
        [
            "HTTP/1.1 200 OK",
            "Pragma: no-cache",
            "BITS-Packet-Type: Ack",
            "BITS-Protocol: {7df0354d-249b-430f-820d-3d2a9bef4931}",
            &id_header,
            "BITS-Host-Id: n3.up.test",
            "BITS-Host-Id-Fallback-Timeout: 3600",
            "Accept-encoding: identity",
            "Content-Length: 0",
        ]
    );
    let plain =
        ["HTTP/1.1 200 OK", "Pragma: no-cache", "BITS-Packet-Type: Ack", "Content-Length: 0"];
    assert_eq!(wire.packet("Ping", "/x", "", b"").lines(), plain);
    assert_eq!(
        wire.fragment("/x", &id, 0, 3, b"abc").lines(),
        [
            "HTTP/1.1 200 OK",
            "Pragma: no-cache",
            "BITS-Packet-Type: Ack",
            "BITS-Received-Content-Range: 3",
            "Content-Length: 0",
        ]
    );
    assert_eq!(wire.close("/x", &id).lines(), plain);
}

#[test]
fn a_file_appears_only_on_close() {
    let stub = Stub::start(&[]);
    let mut wire = stub.connect();
    let id = wire.create("/x");
    wire.fragment("/x", &id, 0, 3, b"abc");
    assert_eq!(stub.stored("x"), None);
    assert_eq!(stub.connect().get("/x", "").status, 404);
    wire.close("/x", &id);
    assert_eq!(stub.stored("x"), Some(b"abc".to_vec()));
}

#[test]
fn packets_of_a_session_may_come_over_many_connections() {
    let stub = Stub::start(&[]);
    let id = stub.connect().create("/x");
    let bytes = noise(1000);
    for first in (0..1000).step_by(100) {
        let part = &bytes[first..first + 100];
        let reply = stub.connect().fragment("/x", &id, first, 1000, part);
        assert_eq!(reply.next(), first + 100);
    }
    assert_eq!(stub.connect().close("/x", &id).status, 200);
    assert_eq!(stub.stored("x"), Some(bytes));
}

#[test]
fn a_hole_is_answered_with_the_offset_wanted() {
    let stub = Stub::start(&[]);
    let mut wire = stub.connect();
    let id = wire.create("/x");
    wire.fragment("/x", &id, 0, 100, &noise(10));
    let reply = wire.fragment("/x", &id, 11, 100, &noise(10));
    assert_eq!((reply.status, reply.next()), (416, 10));
    assert_eq!(reply.error(), None);
    assert!(reply.head.starts_with("HTTP/1.1 416 Requested Range Not Satisfiable\r\n"));
}

#[test]
fn of_an_overlap_only_the_new_part_is_stored() {
    let stub = Stub::start(&[]);
    let mut wire = stub.connect();
    let id = wire.create("/x");
    wire.fragment("/x", &id, 0, 10, b"01234");
    assert_eq!(wire.fragment("/x", &id, 0, 10, b"abcde").next(), 5);
    assert_eq!(wire.fragment("/x", &id, 3, 10, b"XY56789").next(), 10);
    assert_eq!(wire.fragment("/x", &id, 5, 10, b"zzzzz").next(), 10);
    wire.close("/x", &id);
    assert_eq!(stub.stored("x"), Some(b"0123456789".to_vec()));
}

#[test]
fn an_overlap_across_the_block_size_is_stored_right() {
    let stub = Stub::start(&[]);
    let bytes = noise(2_000_000);
    let mut wire = stub.connect();
    let id = wire.create("/x");
    wire.fragment("/x", &id, 0, bytes.len(), &bytes[..900_001]);
    let reply = wire.fragment("/x", &id, 7, bytes.len(), &bytes[7..]);
    assert_eq!((reply.status, reply.next()), (200, bytes.len()));
    wire.close("/x", &id);
    assert_eq!(stub.stored("x"), Some(bytes));
}

#[test]
fn a_strict_server_refuses_an_overlap() {
    let stub = Stub::start(&["--strict-ranges"]);
    let mut wire = stub.connect();
    let id = wire.create("/x");
    wire.fragment("/x", &id, 0, 10, b"01234");
    let reply = wire.fragment("/x", &id, 0, 10, b"01234");
    assert_eq!((reply.status, reply.next()), (416, 5));
    assert_eq!(wire.fragment("/x", &id, 5, 10, b"56789").next(), 10);
    wire.close("/x", &id);
    assert_eq!(stub.stored("x"), Some(b"0123456789".to_vec()));
}

#[test]
fn a_server_may_write_the_old_part_again() {
    let stub = Stub::start(&["--overwrite-overlaps"]);
    let mut wire = stub.connect();
    let id = wire.create("/x");
    wire.fragment("/x", &id, 0, 10, b"01234");
    assert_eq!(wire.fragment("/x", &id, 3, 10, b"xx").next(), 5);
    assert_eq!(wire.fragment("/x", &id, 4, 10, b"y56789").next(), 10);
    wire.close("/x", &id);
    assert_eq!(stub.stored("x"), Some(b"012xy56789".to_vec()));
}

#[test]
fn a_server_may_keep_what_arrived_of_a_fragment_cut_off() {
    let stub = Stub::start(&["--keep-parts"]);
    let mut wire = stub.connect();
    let id = wire.create("/x");
    wire.fragment("/x", &id, 0, 10, b"012");
    let lines = crate::support::fragment_lines(&id, 3, 7, 10);
    let mut cut = packet_head("Fragment", "/x", &lines, 7).into_bytes();
    cut.extend_from_slice(b"345");
    wire.send(&cut);
    wire.shutdown_write();
    assert!(wire.ends_with_fin());
    let mut wire = stub.connect();
    let reply = wire.fragment("/x", &id, 6, 10, b"6789");
    assert_eq!((reply.status, reply.next()), (200, 10), "{reply:?}");
    wire.close("/x", &id);
    assert_eq!(stub.stored("x"), Some(b"0123456789".to_vec()));
}

#[test]
fn a_fragment_cut_off_does_not_count() {
    let stub = Stub::start(&[]);
    let mut wire = stub.connect();
    let id = wire.create("/x");
    let bytes = noise(700_000);
    let lines = crate::support::fragment_lines(&id, 0, bytes.len(), bytes.len());
    let mut cut = packet_head("Fragment", "/x", &lines, bytes.len()).into_bytes();
    cut.extend_from_slice(&bytes[..600_000]);
    wire.send(&cut);
    wire.shutdown_write();
    assert!(wire.ends_with_fin());
    let mut wire = stub.connect();
    let reply = wire.fragment("/x", &id, 1, bytes.len(), &bytes[1..2]);
    assert_eq!((reply.status, reply.next()), (416, 0));
    assert_eq!(wire.fragment("/x", &id, 0, bytes.len(), &bytes).next(), bytes.len());
    wire.close("/x", &id);
    assert_eq!(stub.stored("x"), Some(bytes));
}

#[test]
fn cancel_drops_everything() {
    let stub = Stub::start(&[]);
    let mut wire = stub.connect();
    let id = wire.create("/x");
    wire.fragment("/x", &id, 0, 3, b"abc");
    assert_eq!(wire.cancel("/x", &id).status, 200);
    assert_eq!(stub.stored("x"), None);
    assert!(stub.session_dirs().is_empty());
    let reply = wire.fragment("/x", &id, 0, 3, b"abc");
    assert_eq!((reply.status, reply.error()), (500, Some("0x8020001F")));
    assert_eq!(reply.header("bits-error-context"), Some("0x5"));
}

#[test]
fn close_before_the_last_byte_leaves_no_file() {
    let stub = Stub::start(&[]);
    let mut wire = stub.connect();
    let id = wire.create("/x");
    wire.fragment("/x", &id, 0, 10, b"01234");
    assert_eq!(wire.close("/x", &id).status, 200);
    assert_eq!(stub.stored("x"), None);
    assert!(stub.session_dirs().is_empty());
}

#[test]
fn unknown_sessions_are_not_found_and_counted_as_foreign() {
    let stub = Stub::start(&[]);
    let mut wire = stub.connect();
    let id = "{3F9C1E52-7B0D-4E7A-9C44-0D5B6A1E8F21}";
    for reply in
        [wire.fragment("/x", id, 0, 3, b"abc"), wire.close("/x", id), wire.cancel("/x", id)]
    {
        assert_eq!((reply.status, reply.error()), (500, Some("0x8020001F")));
    }
    assert_eq!(stub.get_json("/stats")["foreign"], 3);
}

#[test]
fn a_session_belongs_to_its_path() {
    let stub = Stub::start(&[]);
    let mut wire = stub.connect();
    let id = wire.create("/x");
    let reply = wire.fragment("/y", &id, 0, 3, b"abc");
    assert_eq!(reply.error(), Some("0x8020001F"));
    let reply = wire.fragment("http://other.test/x?a=b", &id, 0, 3, b"abc");
    assert_eq!(reply.status, 200);
}

#[test]
fn two_sessions_on_one_path_do_not_mix() {
    let stub = Stub::start(&[]);
    let mut wire = stub.connect();
    let (one, two) = (wire.create("/x"), wire.create("/x"));
    wire.fragment("/x", &one, 0, 6, b"abc");
    wire.fragment("/x", &two, 0, 6, b"123");
    wire.fragment("/x", &one, 3, 6, b"def");
    wire.fragment("/x", &two, 3, 6, b"456");
    assert_eq!(wire.close("/x", &two).status, 200);
    assert_eq!(stub.stored("x"), Some(b"123456".to_vec()));
    let reply = wire.close("/x", &one);
    assert_eq!((reply.status, reply.error()), (403, Some("0x80070005")));
    assert_eq!(stub.stored("x"), Some(b"123456".to_vec()));
}

#[test]
fn an_existing_file_is_replaced_only_when_allowed() {
    let stub = Stub::start(&[]);
    assert_eq!(stub.upload("/x", b"old", 10).status, 200);
    let reply = stub.connect().try_create("/x");
    assert_eq!((reply.status, reply.error()), (403, Some("0x80070005")));
    assert_eq!(reply.header("bits-session-id"), None);
    let stub = Stub::start(&["--allow-overwrites"]);
    stub.upload("/x", b"old", 10);
    stub.upload("/x", b"new", 10);
    assert_eq!(stub.stored("x"), Some(b"new".to_vec()));
}

#[test]
fn uploads_at_once_do_not_mix() {
    let stub = Stub::start(&[]);
    std::thread::scope(|scope| {
        for number in 0..16 {
            let stub = &stub;
            scope.spawn(move || {
                let bytes = noise(200_000 + number * 1000);
                let path = format!("/many/{number}");
                assert_eq!(stub.upload(&path, &bytes, 30_000 + number).status, 200);
                assert_eq!(stub.stored(&path[1..]), Some(bytes));
            });
        }
    });
    assert!(stub.session_dirs().is_empty());
}
