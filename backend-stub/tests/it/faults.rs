//! Each fault does what it says, once, and the server is sound afterwards.

use std::time::Duration;

use crate::support::{Stub, elapsed, fragment_lines, packet_head, wait_for};

/// A server with a session on /x, and a connection to it.
fn session() -> (Stub, crate::support::Wire, String) {
    let stub = Stub::start(&[]);
    let mut wire = stub.connect();
    let id = wire.create("/x");
    (stub, wire, id)
}

/// After a fault in its first fragment an upload can be done as if nothing had been.
#[track_caller]
fn check_upload_works(stub: &Stub, id: &str) {
    let mut wire = stub.connect();
    let reply = wire.fragment("/x", id, 0, 6, b"abcdef");
    assert_eq!((reply.status, reply.next()), (200, 6), "{reply:?}");
    assert_eq!(wire.close("/x", id).status, 200);
    assert_eq!(stub.stored("x"), Some(b"abcdef".to_vec()));
}

fn send_fragment(wire: &mut crate::support::Wire, id: &str) {
    wire.send_packet("Fragment", "/x", &fragment_lines(id, 0, 6, 6), b"abcdef");
}

#[test]
fn die_ends_the_process() {
    let (mut stub, mut wire, id) = session();
    stub.fault("fragment", r#"{"kind":"die"}"#);
    send_fragment(&mut wire, &id);
    assert!(!stub.wait().success());
    stub.restart();
    check_upload_works(&stub, &id);
}

#[test]
fn reset_sends_rst() {
    let (stub, mut wire, id) = session();
    stub.fault("fragment", r#"{"kind":"reset"}"#);
    send_fragment(&mut wire, &id);
    assert!(wire.ends_with_reset());
    check_upload_works(&stub, &id);
}

#[test]
fn close_sends_fin_and_nothing_else() {
    let (stub, mut wire, id) = session();
    stub.fault("fragment", r#"{"kind":"close"}"#);
    send_fragment(&mut wire, &id);
    assert!(wire.ends_with_fin());
    check_upload_works(&stub, &id);
}

#[test]
fn close_after_body_reads_first() {
    let (stub, mut wire, id) = session();
    stub.fault("fragment", r#"{"kind":"close_after_body"}"#);
    send_fragment(&mut wire, &id);
    assert!(wire.ends_with_fin());
    let requests = stub.get_json("/requests");
    assert_eq!(requests[1]["complete"], true);
    assert!(requests[1]["status"].is_null());
    check_upload_works(&stub, &id);
}

#[test]
fn reset_after_bytes_counts_exactly() {
    let (stub, mut wire, id) = session();
    stub.fault("fragment", r#"{"kind":"reset_after_bytes","n":4}"#);
    send_fragment(&mut wire, &id);
    assert!(wire.ends_with_reset());
    let requests = stub.get_json("/requests");
    assert_eq!((&requests[1]["body_bytes"], &requests[1]["complete"]), (&4.into(), &false.into()));
    check_upload_works(&stub, &id);
}

#[test]
fn stall_answers_nothing_until_the_peer_gives_up() {
    let (stub, mut wire, id) = session();
    stub.fault("fragment", r#"{"kind":"stall"}"#);
    send_fragment(&mut wire, &id);
    assert!(wire.is_silent());
    assert_eq!(stub.get_json("/stats")["open_connections"], 1);
    drop(wire);
    wait_for("the stalled connection to end", || {
        (stub.get_json("/stats")["open_connections"] == 0).then_some(())
    });
    check_upload_works(&stub, &id);
}

#[test]
fn stall_after_bytes_frees_the_session() {
    let (stub, mut wire, id) = session();
    stub.fault("fragment", r#"{"kind":"stall_after_bytes","n":2}"#);
    send_fragment(&mut wire, &id);
    assert!(wire.is_silent());
    check_upload_works(&stub, &id);
}

#[test]
fn slow_takes_the_body_little_by_little() {
    let (stub, mut wire, id) = session();
    stub.fault("fragment", r#"{"kind":"slow","bytes_per_second":400}"#);
    let body = [b'a'; 100];
    let waited = elapsed(|| {
        wire.send_packet("Fragment", "/x", &fragment_lines(&id, 0, 100, 100), &body);
        assert_eq!(wire.reply().next(), 100);
    });
    assert!(waited >= Duration::from_millis(250), "{waited:?}");
}

#[test]
fn answer_replaces_the_work() {
    let (stub, mut wire, id) = session();
    stub.fault(
        "fragment",
        r#"{"kind":"answer","status":503,"headers":[["Retry-After","7"]],"body":"busy"}"#,
    );
    send_fragment(&mut wire, &id);
    let reply = wire.reply();
    assert_eq!(
        reply.lines(),
        ["HTTP/1.1 503 Service Unavailable", "Retry-After: 7", "Content-Length: 4"]
    );
    assert_eq!(reply.body, b"busy");
    // The same connection goes on, and nothing was stored.
    let reply = wire.fragment("/x", &id, 1, 6, b"b");
    assert_eq!((reply.status, reply.next()), (416, 0));
    check_upload_works(&stub, &id);
}

#[test]
fn early_answer_comes_before_the_body() {
    let (stub, mut wire, id) = session();
    stub.fault("fragment", r#"{"kind":"early_answer","status":413}"#);
    let lines = fragment_lines(&id, 0, 6, 6);
    wire.send(packet_head("Fragment", "/x", &lines, 6).as_bytes());
    assert_eq!(wire.reply().status, 413);
    wire.send(b"abcdef");
    assert_eq!(wire.packet("Ping", "/x", "", b"").status, 200);
    check_upload_works(&stub, &id);
}

#[test]
fn raw_sends_exact_bytes() {
    let (stub, mut wire, _) = session();
    stub.fault("ping", r#"{"kind":"raw","latin1":"HTTP/1.1 200 \u00ff\r\n\r\n"}"#);
    wire.send_packet("Ping", "/x", "", b"");
    let mut got = Vec::new();
    for _ in 0..18 {
        got.push(wire.byte());
    }
    assert_eq!(got, b"HTTP/1.1 200 \xff\r\n\r\n");
    assert_eq!(wire.packet("Ping", "/x", "", b"").status, 200);
}

#[test]
fn apply_then_close_keeps_the_work() {
    let (stub, mut wire, id) = session();
    stub.fault("fragment", r#"{"kind":"apply_then_close"}"#);
    send_fragment(&mut wire, &id);
    assert!(wire.ends_with_fin());
    let reply = stub.connect().fragment("/x", &id, 6, 7, b"g");
    assert_eq!(reply.status, 400, "the size of the file is known: {reply:?}");
    check_upload_works(&stub, &id);
}

#[test]
fn no_content_length_leaves_the_connection_open() {
    let (stub, mut wire, id) = session();
    stub.fault("fragment", r#"{"kind":"no_content_length"}"#);
    send_fragment(&mut wire, &id);
    let head = wire.reply_head();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"));
    assert!(!head.to_lowercase().contains("content-length"));
    assert!(wire.is_silent());
    assert_eq!(wire.close("/x", &id).status, 200);
}

#[test]
fn http10_speaks_the_old_version() {
    let (stub, mut wire, id) = session();
    stub.fault("fragment", r#"{"kind":"http10"}"#);
    send_fragment(&mut wire, &id);
    assert!(wire.reply().head.starts_with("HTTP/1.0 200 OK\r\n"));
    assert!(wire.ends_with_fin());
    check_upload_works(&stub, &id);
}

#[test]
fn connection_close_says_and_does_it() {
    let (stub, mut wire, id) = session();
    stub.fault("fragment", r#"{"kind":"connection_close"}"#);
    send_fragment(&mut wire, &id);
    assert_eq!(wire.reply().header("connection"), Some("close"));
    assert!(wire.ends_with_fin());
}

#[test]
fn continue_100_comes_unasked() {
    let (stub, mut wire, id) = session();
    stub.fault("fragment", r#"{"kind":"continue_100"}"#);
    send_fragment(&mut wire, &id);
    assert_eq!(wire.reply_head(), "HTTP/1.1 100 Continue\r\n\r\n");
    assert_eq!(wire.reply().next(), 6);
}

#[test]
fn lose_sessions_forgets_them_but_not_that_they_were() {
    let (stub, mut wire, id) = session();
    stub.fault("fragment", r#"{"kind":"lose_sessions"}"#);
    send_fragment(&mut wire, &id);
    assert_eq!(wire.reply().error(), Some("0x8020001F"));
    assert!(stub.session_dirs().is_empty());
    let stats = stub.get_json("/stats");
    assert_eq!((&stats["sessions"], &stats["foreign"]), (&0.into(), &0.into()));
    assert_eq!(stub.upload("/x", b"abc", 2).status, 200);
}

#[test]
fn disk_full_and_too_large_are_answered_as_such() {
    let (stub, mut wire, id) = session();
    for (kind, error) in [("disk_full", "0x80070070"), ("too_large", "0x80200020")] {
        stub.fault("fragment", &format!(r#"{{"kind":"{kind}"}}"#));
        send_fragment(&mut wire, &id);
        let reply = wire.reply();
        assert_eq!((reply.status, reply.error()), (500, Some(error)));
    }
    check_upload_works(&stub, &id);
}

#[test]
fn delay_holds_the_answer_back() {
    let (stub, mut wire, id) = session();
    stub.fault("fragment", r#"{"kind":"delay","ms":400}"#);
    let waited = elapsed(|| {
        send_fragment(&mut wire, &id);
        assert_eq!(wire.reply().next(), 6);
    });
    assert!(waited >= Duration::from_millis(400), "{waited:?}");
}

#[test]
fn refuse_closes_the_port_and_opens_it_again() {
    let (stub, mut wire, id) = session();
    assert_eq!(stub.control("POST", "/refuse", r#"{"on":true}"#).status, 204);
    let refused = std::net::TcpStream::connect(stub.address).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    // Connections that are open stay so.
    assert_eq!(wire.packet("Ping", "/x", "", b"").status, 200);
    assert_eq!(stub.control("POST", "/refuse", r#"{"on":true}"#).status, 204);
    assert_eq!(stub.control("POST", "/refuse", r#"{"on":false}"#).status, 204);
    check_upload_works(&stub, &id);
}

#[test]
fn faults_can_be_listed_cleared_and_refused() {
    let stub = Stub::start(&[]);
    stub.fault("any", r#"{"kind":"reset"}"#);
    assert_eq!(stub.get_json("/faults")[0]["do"]["kind"], "reset");
    assert_eq!(stub.control("DELETE", "/faults", "").status, 204);
    assert_eq!(stub.connect().packet("Ping", "/x", "", b"").status, 200);
    for bad in
        ["{}", r#"{"packet":"pong","do":{"kind":"die"}}"#, r#"{"packet":"any","do":{"kind":"x"}}"#]
    {
        assert_eq!(stub.control("POST", "/faults", bad).status, 400, "{bad}");
    }
}

#[test]
fn packets_are_counted() {
    let stub = Stub::start(&[]);
    stub.upload("/x", b"abc", 2);
    stub.connect().get("/x", "");
    let stats = stub.get_json("/stats");
    let packets = &stats["packets"];
    for (name, count) in [
        ("create_session", 1),
        ("fragment", 2),
        ("close_session", 1),
        ("cancel_session", 0),
        ("ping", 0),
        ("other", 1),
    ] {
        assert_eq!(packets[name], count, "{name} in {stats}");
    }
    assert_eq!((&stats["connections"], &stats["body_bytes"]), (&2.into(), &3.into()));
}
