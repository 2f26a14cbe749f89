//! GET and HEAD of what was uploaded.

use crate::support::{Stub, noise};

#[test]
fn an_uploaded_file_is_served() {
    let stub = Stub::start(&[]);
    let bytes = noise(700_001);
    stub.upload("/in/a%20b.bin", &bytes, 300_000);
    let mut wire = stub.connect();
    let reply = wire.get("/in/a%20b.bin", "");
    assert_eq!(reply.status, 200);
    assert!(reply.header("last-modified").unwrap().ends_with("GMT"));
    assert_eq!(reply.header("accept-ranges"), Some("bytes"));
    assert_eq!(reply.body, bytes);
    wire.send(b"HEAD /in/a%20b.bin HTTP/1.1\r\nHost: up.test\r\n\r\n");
    let head = wire.reply_head();
    assert!(head.contains("\r\nContent-Length: 700001\r\n"), "{head}");
    // Nothing follows the head: the next answer starts right here.
    assert_eq!(wire.get("/missing", "").status, 404);
}

#[test]
fn single_ranges_are_served() {
    let stub = Stub::start(&[]);
    stub.upload("/x", b"0123456789", 10);
    let mut wire = stub.connect();
    for (range, content_range, body) in [
        ("0-3", "bytes 0-3/10", &b"0123"[..]),
        ("8-", "bytes 8-9/10", b"89"),
        ("-3", "bytes 7-9/10", b"789"),
        ("5-500", "bytes 5-9/10", b"56789"),
    ] {
        let reply = wire.get("/x", &format!("Range: bytes={range}\r\n"));
        assert_eq!(reply.status, 206, "{range}");
        assert_eq!(reply.header("content-range"), Some(content_range));
        assert_eq!(reply.body, body);
    }
    let reply = wire.get("/x", "Range: bytes=10-\r\n");
    assert_eq!((reply.status, reply.header("content-range")), (416, Some("bytes */10")));
}

#[test]
fn several_ranges_are_served_in_one_answer() {
    let stub = Stub::start(&[]);
    stub.upload("/x", b"0123456789", 10);
    let reply = stub.connect().get("/x", "Range: bytes=0-1,8-9\r\n");
    assert_eq!(reply.status, 206);
    let boundary = reply
        .header("content-type")
        .and_then(|value| value.strip_prefix("multipart/byteranges; boundary="))
        .unwrap();
    let part = |range: &str, bytes: &str| {
        format!(
            "\r\n--{boundary}\r\nContent-Type: application/octet-stream\r\nContent-Range: bytes {range}/10\r\n\r\n{bytes}"
        )
    };
    let expected = part("0-1", "01") + &part("8-9", "89") + &format!("\r\n--{boundary}--\r\n");
    assert_eq!(String::from_utf8(reply.body).unwrap(), expected);
}

#[test]
fn a_changed_file_is_not_mixed_with_the_old_one() {
    let stub = Stub::start(&[]);
    stub.upload("/x", b"0123456789", 10);
    let mut wire = stub.connect();
    let modified = wire.get("/x", "").header("last-modified").unwrap().to_owned();
    let old = "Sun, 06 Nov 1994 08:49:37 GMT";
    let status = |wire: &mut crate::support::Wire, lines: String| wire.get("/x", &lines).status;
    let range = "Range: bytes=0-1\r\n";
    assert_eq!(status(&mut wire, format!("If-Range: {modified}\r\n{range}")), 206);
    assert_eq!(status(&mut wire, format!("If-Range: {old}\r\n{range}")), 200);
    assert_eq!(status(&mut wire, format!("If-Unmodified-Since: {modified}\r\n")), 200);
    assert_eq!(status(&mut wire, format!("If-Unmodified-Since: {old}\r\n")), 412);
}

#[test]
fn an_empty_file_is_served() {
    let stub = Stub::start(&[]);
    stub.upload("/x", b"", 1);
    let reply = stub.connect().get("/x", "");
    assert_eq!((reply.status, reply.header("content-length")), (200, Some("0")));
}

#[test]
fn other_methods_are_not_allowed_and_keep_the_connection() {
    let stub = Stub::start(&[]);
    let mut wire = stub.connect();
    wire.send(b"PUT /x HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc");
    assert_eq!(wire.reply().status, 405);
    assert_eq!(wire.packet("Ping", "/x", "", b"").status, 200);
}

#[test]
fn a_finished_file_keeps_the_time_of_its_last_write_or_gets_that_of_its_delivery() {
    const WRITTEN: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    for (delivery, kept) in [("rename", true), ("stamp", false)] {
        let stub = Stub::start(&["--delivery", delivery]);
        let mut wire = stub.connect();
        let id = wire.create("/in/x");
        assert_eq!(wire.fragment("/in/x", &id, 0, 10, b"0123456789").status, 200);
        let [session] = &stub.session_dirs()[..] else { panic!("one session") };
        let part = std::fs::File::open(session.join("requestfile.bin")).unwrap();
        part.set_modified(httpdate::parse_http_date(WRITTEN).unwrap()).unwrap();
        assert_eq!(wire.close("/in/x", &id).status, 200);
        let reply = wire.get("/in/x", "");
        assert_eq!(reply.body, b"0123456789");
        assert!(reply.header("date").unwrap().ends_with("GMT"));
        assert_eq!(reply.header("last-modified") == Some(WRITTEN), kept, "{delivery}");
    }
}

#[test]
fn a_finished_file_may_be_moved_away_and_come_again() {
    let stub = Stub::start(&["--delivery", "take-away"]);
    for bytes in [&b"first"[..], b"second"] {
        stub.upload("/in/deep/x", bytes, 10);
        assert_eq!(std::fs::read(stub.path("taken/in/deep/x")).unwrap(), bytes);
        assert_eq!(stub.connect().get("/in/deep/x", "").status, 404);
    }
}

#[test]
fn a_server_may_refuse_head_and_serve_get() {
    let stub = Stub::start(&["--refuse-head"]);
    stub.upload("/x", b"0123456789", 10);
    let mut wire = stub.connect();
    wire.send(b"HEAD /x HTTP/1.1\r\nHost: up.test\r\n\r\n");
    assert!(wire.reply_head().starts_with("HTTP/1.1 405 "));
    assert_eq!(wire.get("/x", "").status, 200);
}
