//! Each flavour can be uploaded to, and has its quirks on the wire.

use crate::support::{PROTOCOL, Stub, fragment_lines, id_line, noise, packet_head};

fn start(flavour: &str) -> Stub {
    Stub::start(&["--flavour", flavour])
}

#[test]
fn every_flavour_takes_an_upload() {
    for flavour in [
        "iis",
        "simplebits",
        "simplebits-py3",
        "gobits",
        "transfervm",
        "transfervm-vhd",
        "onedrive",
        "lab",
    ] {
        let stub = start(flavour);
        let bytes = noise(10_000);
        let reply = stub.upload("/in/x.bin", &bytes, 3000);
        assert_eq!(reply.status, 200, "{flavour}");
        assert_eq!(stub.stored("in/x.bin"), Some(bytes), "{flavour}");
    }
}

#[test]
fn packets_without_content_length_are_taken_by_all_but_iis() {
    let stub = start("transfervm");
    let mut wire = stub.connect();
    wire.send(
        format!(
            "BITS_POST /x HTTP/1.1\r\nHost: h\r\nBITS-Packet-Type: Create-Session\r\n\
             BITS-Supported-Protocols: {PROTOCOL}\r\n\r\n"
        )
        .as_bytes(),
    );
    assert_eq!(wire.reply().status, 200);
    wire.send(b"BITS_POST /x HTTP/1.1\r\nHost: h\r\nBITS-Packet-Type: Fragment\r\nBITS-Session-Id: a\r\nContent-Range: bytes 0-0/1\r\n\r\n");
    let reply = wire.reply();
    assert_eq!((reply.status, reply.header("bits-error-code")), (411, Some("0x80070057")));
}

#[test]
fn simplebits_binds_sessions_to_the_connection() {
    let stub = start("simplebits");
    let mut wire = stub.connect();
    let id = wire.create("/x");
    id.parse::<i64>().unwrap();
    let mut other = stub.connect();
    other.send_packet("Fragment", "/x", &fragment_lines(&id, 0, 3, 3), b"abc");
    let head = other.reply_head();
    assert!(head.starts_with("HTTP/1.1 500 "), "{head}");
    assert!(head.contains("BITS-Error-Code: 0x1\r\n") && !head.contains("Ack"));
    assert!(!head.to_lowercase().contains("content-length"));
    assert!(other.is_silent());
    // A hole gets the same, not 416.
    wire.send_packet("Fragment", "/x", &fragment_lines(&id, 1, 2, 3), b"bc");
    assert!(wire.reply_head().starts_with("HTTP/1.1 500 "));
    let reply = wire.packet("Ping", "/x", "", b"");
    assert_eq!(reply.header("bits-error-code"), Some("1"));
    assert_eq!(reply.header("bits-error-context"), Some(""));
    wire.send(b"BITS_POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n");
    assert!(wire.ends_with_fin());
}

#[test]
fn simplebits_clients_on_one_path_collide() {
    let stub = start("simplebits-py3");
    let mut wire = stub.connect();
    let one = wire.create("/x");
    wire.fragment("/x", &one, 0, 6, b"abc");
    let two = stub.connect().create("/x");
    assert_eq!(one, two);
    // The bytes of the first are gone; what would be a hole gets no answer at all.
    wire.send_packet("Fragment", "/x", &fragment_lines(&one, 3, 3, 6), b"def");
    assert!(wire.is_silent());
    assert_eq!(wire.fragment("/x", &one, 0, 6, b"abcdef").next(), 6);
}

#[test]
fn gobits_has_its_own_errors() {
    let stub = start("gobits");
    let mut wire = stub.connect();
    let id = wire.create("/x");
    assert_eq!(id.len(), 36);
    wire.fragment("/x", &id, 0, 6, b"abc");
    let reply = wire.fragment("/x", &id, 4, 6, b"ef");
    assert_eq!(reply.status, 416);
    assert_eq!(reply.header("bits-recieved-content-range"), Some("3"));
    assert_eq!(reply.header("bits-received-content-range"), None);
    assert_eq!(wire.fragment("/x", &id, 0, 6, b"abc").status, 416);
    assert_eq!(wire.fragment("/x", &id, 1, 6, b"bcdef").status, 200);
    let reply = wire.close("/x", "unknown");
    assert_eq!((reply.status, reply.header("bits-error-code")), (400, Some("0")));
    let lines = format!("BITS-Supported-Protocols: {}\r\n", PROTOCOL.to_uppercase());
    assert_eq!(wire.packet("Create-Session", "/y", &lines, b"").status, 400);
}

#[test]
fn transfervm_takes_ids_it_never_issued_and_parts_in_any_order() {
    let stub = start("transfervm");
    let mut wire = stub.connect();
    assert_eq!(wire.fragment("/x", "made-up", 3, 6, b"def").next(), 6);
    assert_eq!(wire.fragment("/x", "made-up", 0, 6, b"abc").next(), 3);
    let reply = wire.close("/x", "made-up");
    assert_eq!((reply.status, reply.header("bits-session-id")), (200, Some("made-up")));
    assert_eq!(stub.stored("x"), Some(b"abcdef".to_vec()));
    assert_eq!(stub.get_json("/stats")["foreign"], 3);
    let reply = wire.packet("Close-Session", "/x", &id_line("a"), b"x");
    assert_eq!((reply.status, reply.header("bits-session-id")), (400, Some("a")));
    assert_eq!(reply.header("bits-error-context"), Some("0x7"));
}

#[test]
fn transfervm_keeps_a_hundred_sessions() {
    let stub = start("transfervm");
    let mut wire = stub.connect();
    for number in 0..105 {
        wire.create(&format!("/{number}"));
    }
    crate::support::wait_for("eviction", || (stub.session_dirs().len() == 100).then_some(()));
}

#[test]
fn the_vhd_mode_has_one_session_and_wants_guids() {
    let stub = start("transfervm-vhd");
    let mut wire = stub.connect();
    let one = wire.create("/x");
    let two = wire.create("/y");
    crate::support::wait_for("eviction", || (stub.session_dirs().len() == 1).then_some(()));
    let reply = wire.close("/x", &one);
    assert_eq!(reply.header("bits-error-code"), Some("0x8020001F"));
    assert_eq!(wire.close("/x", "no-guid").status, 400);
    let reply = wire.fragment("/y", &two, 1, 3, b"bc");
    assert_eq!((reply.status, reply.header("bits-error-code")), (416, Some("0x80070057")));
}

#[test]
fn usis_leaves_headers_out() {
    let stub = start("usis");
    let mut wire = stub.connect();
    let id = wire.create("/x");
    wire.send_packet("Ping", "/x", "", b"");
    assert!(!wire.reply_head().to_lowercase().contains("content-length"));
    let lines = format!("{}Content-Range: nonsense\r\n", id_line(&id));
    let reply = wire.packet("Fragment", "/x", &lines, b"abc");
    assert_eq!(reply.status, 400);
    assert!(!reply.head.contains("BITS-Error"));
    assert_eq!(wire.fragment("/x", &id, 0, 3, b"abc").next(), 3);
    assert_eq!(wire.close("/x", &id).status, 200);
    assert_eq!(stub.stored("x"), Some(b"abc".to_vec()));
}

#[test]
fn onedrive_takes_post_with_override_and_chunks() {
    let stub = start("onedrive");
    let mut wire = stub.connect();
    let post = |kind: &str, lines: &str| {
        format!(
            "POST /x HTTP/1.1\r\nHost: h\r\nX-Http-Method-Override: BITS_POST\r\nBITS-Packet-Type: {kind}\r\n{lines}\r\n"
        )
    };
    let lines = format!("BITS-Supported-Protocols: {PROTOCOL}\r\nContent-Length: 0\r\n");
    wire.send(post("Create-Session", &lines).as_bytes());
    let reply = wire.reply();
    assert_eq!(reply.status, 201);
    let id = reply.header("bits-session-id").unwrap().to_owned();
    let lines =
        format!("{}Content-Range: bytes 0-9/10\r\nTransfer-Encoding: chunked\r\n", id_line(&id));
    wire.send(post("Fragment", &lines).as_bytes());
    wire.send(b"4\r\n0123\r\n6;x=y\r\n456789\r\n0\r\nTrailer: x\r\n\r\n");
    let reply = wire.reply();
    assert_eq!((reply.status, reply.next()), (200, 10));
    assert_eq!(reply.header("bits-session-id"), None);
    wire.send(post("Close-Session", &format!("{}Content-Length: 0\r\n", id_line(&id))).as_bytes());
    let reply = wire.reply();
    assert_eq!(reply.header("x-resource-id").unwrap().as_bytes(), reply.body);
    assert_eq!(stub.stored("x"), Some(b"0123456789".to_vec()));
    let reply = wire.close("/x", &id);
    assert_eq!(reply.header("x-clienterrorcode"), Some("UploadSessionNotFound"));
}

#[test]
fn chunks_that_do_not_fit_the_range_store_nothing() {
    let stub = start("onedrive");
    for chunks in ["3\r\nabc\r\n0\r\n\r\n", "7\r\nabcdefg\r\n0\r\n\r\n", "6\r\nabcdefX\n", "zz\r\n"]
    {
        let mut wire = stub.connect();
        let id = wire.create("/x");
        let lines = format!("{}Content-Range: bytes 0-5/6\r\n", id_line(&id));
        let head = packet_head("Fragment", "/x", &lines, 0)
            .replace("Content-Length: 0", "Transfer-Encoding: chunked");
        wire.send((head + chunks).as_bytes());
        assert_eq!(wire.reply().status, 400, "{chunks:?}");
        let reply = stub.connect().fragment("/x", &id, 1, 6, b"b");
        assert_eq!((reply.status, reply.next()), (416, 0));
    }
}

#[test]
fn chunks_are_refused_by_the_others() {
    let stub = start("iis");
    let mut wire = stub.connect();
    let id = wire.create("/x");
    let lines = format!("{}Content-Range: bytes 0-2/3\r\n", id_line(&id));
    let head = packet_head("Fragment", "/x", &lines, 0)
        .replace("Content-Length: 0", "Transfer-Encoding: chunked");
    wire.send((head + "3\r\nabc\r\n0\r\n\r\n").as_bytes());
    let reply = wire.reply();
    assert_eq!((reply.status, reply.error()), (400, Some("0x80070057")));
}

#[test]
fn path_ids_hold_slashes_and_connections_end() {
    let stub = start("path-id");
    let id = {
        let mut wire = stub.connect();
        let reply = wire.try_create("/in/report.bin");
        assert_eq!(reply.header("connection"), Some("Close"));
        assert!(wire.ends_with_fin());
        reply.header("bits-session-id").unwrap().to_owned()
    };
    assert_eq!(id, "/in/report.bin");
    let reply = stub.connect().fragment("/in/report.bin", &id, 0, 3, b"abc");
    assert_eq!(reply.next(), 3);
    assert_eq!(stub.connect().close("/in/report.bin", &id).status, 200);
    assert_eq!(stub.stored("in/report.bin"), Some(b"abc".to_vec()));
}

#[test]
fn the_lab_server_has_one_error_for_everything() {
    let stub = start("lab");
    let mut wire = stub.connect();
    for reply in [wire.close("/x", "unknown"), wire.packet("Ping", "/x", "", b"x")] {
        assert_eq!((reply.status, reply.header("bits-error-code")), (500, Some("1")));
    }
}

#[test]
fn the_status_of_create_can_be_chosen() {
    let stub = Stub::start(&["--create-status", "201"]);
    assert_eq!(stub.connect().try_create("/x").status, 201);
}
