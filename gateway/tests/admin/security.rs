//! Who is kept out, and what stays as it was.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use gateway_core::farm::AdminState;
use socket2::{Domain, Socket, Type};

use crate::support::{Admin, DEADLINE, TOKEN, bearer, wait_for};

const CHANGES: [(&str, &str); 7] = [
    ("POST", "/api/v1/backends/up01/drain"),
    ("POST", "/api/v1/backends/up01/maintenance"),
    ("POST", "/api/v1/backends/up01/ready"),
    ("POST", "/api/v1/backends/up01/lost"),
    ("POST", "/api/v1/backends/up01/move"),
    ("DELETE", "/api/v1/sessions/one"),
    ("POST", "/api/v1/reload"),
];

const READS: [(&str, &str); 5] = [
    ("GET", "/api/v1/status"),
    ("GET", "/api/v1/sessions"),
    ("GET", "/api/v1/sessions/one"),
    ("GET", "/api/v1/backends"),
    ("GET", "/api/v1/backends/up01/drain"),
];

fn start() -> Admin {
    let admin = Admin::start();
    admin.put("one", 0, (0, 0), Duration::ZERO);
    admin
}

#[track_caller]
fn untouched(admin: &Admin) {
    assert_eq!(admin.sessions.len(), 1);
    assert_eq!(admin.state(0), AdminState::Ready);
    assert_eq!(admin.farm.lock().unwrap().reloads, 0);
}

/// No call is answered with these header lines, whichever it is.
#[track_caller]
fn all_refused(more: &str, status: u16, code: &str) {
    let admin = start();
    for (method, path) in CHANGES.into_iter().chain(READS) {
        admin.ask_with(method, path, more).refused(status, code);
    }
    untouched(&admin);
}

/// Threat: T12.
#[test]
fn without_a_token_nothing_is_told() {
    all_refused("", 401, "token_missing");
    all_refused(&bearer(""), 401, "token_missing");
    all_refused("Authorization: Basic YWRtaW46YWRtaW4=\r\n", 401, "token_missing");
    all_refused(&format!("X-Token: {TOKEN}\r\nCookie: token={TOKEN}\r\n"), 401, "token_missing");
    // Not even whether a path exists.
    let admin = start();
    let answer = admin.ask_with("GET", "/api/v1/nothing", "");
    answer.refused(401, "token_missing");
    assert!(answer.head.contains("www-authenticate: bearer"), "{}", answer.head);
    admin
        .ask_with("GET", &format!("/api/v1/status?token={TOKEN}"), "")
        .refused(401, "token_missing");
}

#[test]
fn a_wrong_token_is_refused() {
    for wrong in ["x", &TOKEN[1..], &format!("{TOKEN}0"), &TOKEN.to_lowercase()] {
        all_refused(&bearer(wrong), 401, "token_wrong");
    }
    let both = format!("{}{}", bearer(TOKEN), bearer("another-token-of-32-characters-ab"));
    all_refused(&both, 401, "token_missing");
    let admin = start();
    admin.ask_with("POST", "/api/v1/reload", &bearer("x")).refused(401, "token_wrong");
    assert_eq!(admin.counted("reload", "refused"), 1);
}

#[test]
fn a_foreign_host_is_refused_even_with_the_token() {
    let admin = start();
    for host in
        ["evil.test", "evil.test:9081", "127.0.0.1.evil.test", "localhost.evil.test", "10.0.0.1"]
    {
        for (method, path) in CHANGES.into_iter().chain(READS) {
            let request =
                format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n{}\r\n", bearer(TOKEN));
            admin.raw(&request).refused(403, "foreign_host");
        }
    }
    untouched(&admin);
    for host in ["localhost", "LocalHost:1", "127.0.0.1", "[::1]:9081"] {
        let request =
            format!("GET /api/v1/status HTTP/1.1\r\nHost: {host}\r\n{}\r\n", bearer(TOKEN));
        assert_eq!(admin.raw(&request).status, 200, "{host}");
    }
}

/// With `ssh -L 9081:/run/bits-gateway/admin.sock`, a page whose name is made to resolve to 127.0.0.1
/// is same-origin for the browser, and no token stands in its way.
///
/// Threat: T12.
#[test]
fn a_foreign_host_is_refused_on_the_socket_too() {
    let admin = start();
    for host in ["evil.test", "evil.test:9081", "localhost.evil.test", "10.0.0.1:9081", "admin"] {
        for (method, path) in CHANGES.into_iter().chain(READS) {
            let request = format!(
                "{method} {path} HTTP/1.1\r\nHost: {host}\r\nOrigin: http://{host}\r\n\
                 Sec-Fetch-Site: same-origin\r\n\r\n"
            );
            admin.raw_socket(&request).refused(403, "foreign_host");
        }
    }
    untouched(&admin);
    for host in ["localhost", "localhost:9081", "127.0.0.1:9081", "[::1]:9081"] {
        let request = format!("GET /api/v1/status HTTP/1.1\r\nHost: {host}\r\n\r\n");
        assert_eq!(admin.raw_socket(&request).status, 200, "{host}");
    }
}

#[test]
fn a_request_has_one_host() {
    let admin = start();
    let token = bearer(TOKEN);
    for head in [
        "GET /api/v1/status HTTP/1.0\r\n",
        "GET /api/v1/status HTTP/1.1\r\nHost: localhost\r\nHost: evil.test\r\n",
        "GET http://evil.test/api/v1/status HTTP/1.1\r\nHost: localhost\r\n",
        "GET http://localhost/api/v1/status HTTP/1.1\r\nHost: evil.test\r\n",
    ] {
        let status = admin.raw(&format!("{head}{token}\r\n")).status;
        assert!(status == 400 || status == 403, "{status}: {head}");
    }
}

/// Threat: T12.
#[test]
fn a_foreign_origin_is_refused_even_with_the_token() {
    for origin in [
        "http://evil.test",
        "https://evil.test",
        "null",
        "http://localhost",
        "http://127.0.0.1:1",
        "https://127.0.0.1:9081",
        "file://",
    ] {
        let more = format!("{}Origin: {origin}\r\n", bearer(TOKEN));
        all_refused(&more, 403, "foreign_origin");
    }
    for site in ["cross-site", "same-site"] {
        let more = format!("{}Sec-Fetch-Site: {site}\r\n", bearer(TOKEN));
        all_refused(&more, 403, "foreign_origin");
    }
    let admin = start();
    let own = format!(
        "{}Origin: http://{}\r\nSec-Fetch-Site: same-origin\r\n",
        bearer(TOKEN),
        admin.address
    );
    assert_eq!(admin.ask_with("GET", "/api/v1/status", &own).status, 200);
}

/// Threat: T12.
#[test]
fn nothing_changes_by_get() {
    let admin = start();
    for (method, path) in CHANGES {
        for unsafe_as_get in ["GET", "HEAD", "OPTIONS"] {
            let answer = admin.ask(unsafe_as_get, path);
            let reads = ["/api/v1/sessions/one", "/api/v1/backends/up01/drain", "/api/v1/reload"];
            if reads.contains(&path) && unsafe_as_get != "OPTIONS" {
                assert_eq!(answer.status, 200, "{unsafe_as_get} {path}");
            } else {
                assert_eq!(answer.status, 405, "{unsafe_as_get} {path}");
                assert!(answer.head.contains(&method.to_lowercase()), "{path}");
            }
            let more = format!("{}X-HTTP-Method-Override: {method}\r\n", bearer(TOKEN));
            admin.ask_with("GET", path, &more);
        }
    }
    untouched(&admin);
}

#[test]
fn a_body_is_refused() {
    let admin = start();
    let more = format!("{}Content-Length: 3\r\n\r\na=b", bearer(TOKEN));
    admin.ask_with("POST", "/api/v1/reload", &more).refused(400, "unexpected_body");
    let more = format!("{}Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n", bearer(TOKEN));
    admin.ask_with("POST", "/api/v1/reload", &more).refused(400, "unexpected_body");
    untouched(&admin);
    let more = format!("{}Content-Length: 0\r\n", bearer(TOKEN));
    assert_eq!(admin.ask_with("POST", "/api/v1/reload", &more).status, 200);
}

/// Threat: T16.
#[test]
fn a_socket_needs_no_token_but_is_for_its_owner() {
    let admin = start();
    assert_eq!(admin.ask_socket("GET", "/api/v1/status", "").status, 200);
    assert_eq!(admin.ask_socket("POST", "/api/v1/backends/up01/drain", "").status, 200);
    let mode = std::fs::metadata(&admin.socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    let foreign = "Origin: http://evil.test\r\n";
    admin.ask_socket("GET", "/api/v1/status", foreign).refused(403, "foreign_origin");
}

#[test]
fn silent_and_many_connections_do_not_keep_others_out() {
    let admin = start();
    let mut silent: Vec<TcpStream> = Vec::new();
    for _ in 0..40 {
        let stream = TcpStream::connect(admin.address).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        silent.push(stream);
    }
    // The listener closes what is too many, and the rest after some seconds of silence.
    let closed = silent.iter_mut().map(|stream| stream.read(&mut [0; 1])).filter(Result::is_ok);
    assert_eq!(closed.count(), 40);
    wait_for("an answer", || (admin.ask("GET", "/api/v1/status").status == 200).then_some(()));
}

/// Threat: T12.
#[test]
fn one_address_leaves_room_for_others() {
    let admin = start();
    let silent: Vec<_> = (0..64).map(|_| TcpStream::connect(admin.address).unwrap()).collect();
    let other = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    other.bind(&SocketAddr::from(([127, 0, 0, 2], 0)).into()).unwrap();
    other.connect(&admin.address.into()).unwrap();
    let mut other = TcpStream::from(other);
    let (host, who) = (admin.address, bearer(TOKEN));
    write!(other, "GET /api/v1/status HTTP/1.1\r\nHost: {host}\r\n{who}\r\n").unwrap();
    let mut answer = String::new();
    other.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    drop(silent);
}

#[test]
fn heads_without_end_are_cut() {
    let admin = start();
    let mut stream = TcpStream::connect(admin.address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let line = format!("X-Long: {}\r\n", "x".repeat(1000));
    let head = format!("GET /api/v1/status HTTP/1.1\r\nHost: localhost\r\n{}", line.repeat(64));
    let _ = stream.write_all(head.as_bytes());
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    assert_eq!(admin.ask("GET", "/api/v1/status").status, 200);
}
