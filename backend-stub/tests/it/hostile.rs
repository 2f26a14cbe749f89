//! Requests that are wrong, and those that mean harm.

use crate::support::{PROTOCOL, Stub, Wire, id_line, packet_head};

/// Sends bytes on a connection of its own and checks status and error of the answer.
#[track_caller]
fn check(stub: &Stub, bytes: &str, status: u16, error: Option<&str>) {
    let mut wire = stub.connect();
    wire.send(bytes.as_bytes());
    let reply = wire.reply();
    assert_eq!((reply.status, reply.error()), (status, error), "{bytes:?} got {reply:?}");
    // The server must be none the worse for it.
    assert_eq!(stub.connect().packet("Ping", "/", "", b"").status, 200);
}

const INVALID: Option<&str> = Some("0x80070057");

#[test]
fn packets_without_what_they_need_are_invalid() {
    let stub = Stub::start(&[]);
    let protocols = format!("BITS-Supported-Protocols: {PROTOCOL}\r\n");
    let other = "BITS-Supported-Protocols: {00000000-0000-0000-0000-000000000000}\r\n";
    for (kind, lines, body) in [
        ("Create-Session", "", ""),
        ("Create-Session", other, ""),
        ("Create-Session", protocols.as_str(), "x"),
        ("Ping", "", "x"),
        ("Fragment", "Content-Range: bytes 0-0/1\r\n", "x"),
        ("Fragment", "BITS-Session-Id: a\r\n", "x"),
        ("Close-Session", "", ""),
        ("Cancel-Session", "", ""),
        ("Close-Session", "BITS-Session-Id: a\r\n", "x"),
        ("Ack", "", ""),
        ("Nonsense", "", ""),
        ("", "", ""),
    ] {
        let bytes = packet_head(kind, "/x", lines, body.len()) + body;
        check(&stub, &bytes, 400, INVALID);
    }
    check(&stub, "BITS_POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n", 400, INVALID);
}

#[test]
fn fragments_with_wrong_ranges_are_invalid_and_store_nothing() {
    let stub = Stub::start(&[]);
    let mut wire = stub.connect();
    let id = wire.create("/x");
    for range in [
        "bytes 0-2/3x",
        "bytes 0-3/4",
        "bytes 2-0/3",
        "bytes 0-2/2",
        "bytes 0-2/*",
        "bytes */3",
        "bytes 0-18446744073709551616/18446744073709551617",
    ] {
        let lines = format!("{}Content-Range: {range}\r\n", id_line(&id));
        let reply = wire.packet("Fragment", "/x", &lines, b"abc");
        assert_eq!((reply.status, reply.error()), (400, INVALID), "{range}");
    }
    wire.fragment("/x", &id, 0, 6, b"abc");
    let reply = wire.fragment("/x", &id, 3, 7, b"defg");
    assert_eq!((reply.status, reply.error()), (400, INVALID));
    assert_eq!(wire.fragment("/x", &id, 3, 6, b"def").next(), 6);
}

#[test]
fn iis_wants_a_content_length_on_every_packet() {
    let stub = Stub::start(&[]);
    check(
        &stub,
        "BITS_POST /x HTTP/1.1\r\nHost: h\r\nBITS-Packet-Type: Ping\r\n\r\n",
        400,
        INVALID,
    );
}

#[test]
fn long_header_values_are_invalid() {
    let stub = Stub::start(&[]);
    for (length, error) in [(4096, Some("0x8020001F")), (4097, INVALID)] {
        let lines = id_line(&"i".repeat(length));
        let status = if error == INVALID { 400 } else { 500 };
        check(&stub, &packet_head("Close-Session", "/x", &lines, 0), status, error);
    }
}

#[test]
fn heads_without_end_are_refused() {
    let stub = Stub::start(&[]);
    let mut wire = stub.connect();
    let _ = wire
        .try_send(format!("GET /x HTTP/1.1\r\nHost: h\r\nX: {}", "x".repeat(80_000)).as_bytes());
    assert_eq!(wire.reply().status, 431);
    assert!(wire.ends_with_fin());
}

#[test]
fn ambiguous_lengths_are_refused_and_end_the_connection() {
    let stub = Stub::start(&[]);
    for lines in [
        "Content-Length: 3\r\nContent-Length: 3",
        "Content-Length: 3\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: xchunked",
        "Content-Length: +3",
        "Content-Length : 3",
    ] {
        let mut wire = stub.connect();
        wire.send(
            format!(
                "BITS_POST /x HTTP/1.1\r\nHost: h\r\nBITS-Packet-Type: Ping\r\n{lines}\r\n\r\n"
            )
            .as_bytes(),
        );
        let reply = wire.reply();
        assert_eq!((reply.status, reply.error()), (400, INVALID), "{lines}");
        assert!(wire.ends_with_fin());
    }
}

#[test]
fn nothing_leaves_the_upload_folder() {
    let stub = Stub::start(&["--allow-overwrites"]);
    std::fs::write(stub.path("secret"), "secret").unwrap();
    for path in [
        "/../secret",
        "/x/../../secret",
        "/%2e%2e/secret",
        "/..%2fsecret",
        "/..%5csecret",
        "/..\\secret",
        "//secret",
        "/C:/secret",
        "/c%3a\\secret",
        "/x%00",
        "/%c0%ae%c0%ae/secret",
        "/x/./y",
        "/x//y",
        "/%zz",
        "http://h",
    ] {
        let mut wire = stub.connect();
        let reply = wire.try_create(path);
        assert_eq!((reply.status, reply.error()), (400, INVALID), "{path}");
        let reply = stub.connect().get(path, "");
        assert!(reply.status == 404, "{path}: {reply:?}");
        assert_eq!(std::fs::read(stub.path("secret")).unwrap(), b"secret");
    }
    assert!(stub.session_dirs().is_empty());
}

#[test]
fn links_out_of_the_upload_folder_are_not_followed() {
    let stub = Stub::start(&["--allow-overwrites"]);
    let outside = tempfile::TempDir::new().unwrap();
    std::fs::write(outside.path().join("f"), "outside").unwrap();
    std::os::unix::fs::symlink(outside.path(), stub.path("files/dir")).unwrap();
    std::os::unix::fs::symlink(outside.path().join("f"), stub.path("files/file")).unwrap();
    for path in ["/dir/f", "/dir/new", "/file"] {
        let reply = stub.connect().try_create(path);
        assert_eq!((reply.status, reply.error()), (403, Some("0x80070005")), "{path}");
        assert_eq!(stub.connect().get(path, "").status, 404);
    }
    // A link that appears while the upload runs is met on Close.
    let mut wire = stub.connect();
    let id = wire.create("/late/f");
    wire.fragment("/late/f", &id, 0, 3, b"abc");
    std::os::unix::fs::symlink(outside.path(), stub.path("files/late")).unwrap();
    assert_eq!(wire.close("/late/f", &id).status, 403);
    assert_eq!(std::fs::read(outside.path().join("f")).unwrap(), b"outside");
}

#[test]
fn a_destination_that_is_a_directory_is_invalid() {
    let stub = Stub::start(&[]);
    std::fs::create_dir(stub.path("files/dir")).unwrap();
    for path in ["/dir", "/dir/", "/"] {
        let reply = stub.connect().try_create(path);
        assert_eq!((reply.status, reply.error()), (400, INVALID), "{path}");
    }
}

#[test]
fn records_of_requests_are_byte_exact() {
    let stub = Stub::start(&[]);
    let mut wire = stub.connect();
    let head = b"BITS_POST /x%20y?q HTTP/1.1\r\nhost:h\r\nBITS-packet-TYPE:  pInG \r\nContent-Name: \xe9\xff\r\nContent-Length: 0\r\n\r\n";
    wire.send(head);
    assert_eq!(wire.reply().status, 200);
    let requests = stub.get_json("/requests");
    let latin1: String = head.iter().map(|&byte| char::from(byte)).collect();
    assert_eq!(requests[0]["head"], latin1);
    assert_eq!(requests[0]["status"], 200);
    assert_eq!(requests[0]["complete"], true);
    let id = wire.create("/x");
    wire.fragment("/x", &id, 0, 3, b"abc");
    let requests = stub.get_json("/requests");
    assert_eq!(requests[2]["body_bytes"], 3);
    assert_eq!(
        requests[2]["body_sha256"],
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    );
    assert_eq!(requests[2]["connection"], requests[0]["connection"]);
    assert_eq!(stub.control("DELETE", "/requests", "").status, 204);
    assert_eq!(stub.get_json("/requests").as_array().unwrap().len(), 0);
}

#[test]
fn random_bytes_do_no_harm() {
    let stub = Stub::start(&[]);
    let noise = crate::support::noise(40_000);
    for piece in noise.chunks(1000) {
        let mut wire = stub.connect();
        let _ = wire.try_send(piece);
        let _ = wire.try_send(b"\r\n\r\n");
    }
    assert_eq!(stub.upload("/x", b"abc", 2).status, 200);
    let _ = Wire::connect(stub.address);
}
