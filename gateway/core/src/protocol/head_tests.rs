//! Table tests of the head check: one line per rule.

use super::*;

const LIMITS: HeadLimits = HeadLimits { head_bytes: 32 * 1024, line_bytes: 8 * 1024, fields: 100 };

const GOOD: &str = "BITS_POST /in/a.bin HTTP/1.1\r\nBITS-Packet-Type: Ping\r\nHost: up\r\n\r\n";

#[track_caller]
fn check(head: &str, expected: Result<BodyFraming, HeadError>) {
    let facts = check_head(head.as_bytes(), &LIMITS).map(|facts| facts.body);
    assert_eq!(facts, expected, "{head:?}");
}

/// A POST with these lines after a legal Host.
#[track_caller]
fn with(lines: &str, expected: Result<BodyFraming, HeadError>) {
    check(&format!("POST / HTTP/1.1\r\nHost: up\r\n{lines}\r\n\r\n"), expected);
}

#[track_caller]
fn line(line: &str, expected: Result<(), HeadError>) {
    let expected = expected.map(|()| BodyFraming::Length(0));
    check(&format!("{line}\r\nHost: up\r\n\r\n"), expected);
}

#[test]
fn a_windows_packet_passes() {
    check(GOOD, Ok(BodyFraming::Length(0)));
    check(
        "BITS_POST /in/a.bin?x=1&y={z} HTTP/1.1\r\nAccept: */*\r\nBITS-Packet-Type: Fragment\r\n\
         Content-Name: \u{e9}t\u{e9}.bin\r\nContent-Range: bytes 0-4/5\r\n\
         User-Agent: Microsoft BITS/6.7\r\nHost: UP01:8080\r\nContent-Length: 5\r\n\
         Connection: Keep-Alive\r\n\r\n",
        Ok(BodyFraming::Length(5)),
    );
}

#[test]
fn the_request_line_has_three_parts_and_one_version() {
    line("GET / HTTP/1.1", Ok(()));
    line("GET  / HTTP/1.1", Err(HeadError::Version));
    line("GET / HTTP/1.1 ", Err(HeadError::Version));
    line("GET /", Err(HeadError::RequestLine));
    line("GET", Err(HeadError::RequestLine));
    line(" / HTTP/1.1", Err(HeadError::RequestLine));
    line("G(T / HTTP/1.1", Err(HeadError::RequestLine));
    line("GET / HTTP/1.0", Err(HeadError::Version));
    line("GET / HTTP/2.0", Err(HeadError::Version));
    line("GET / http/1.1", Err(HeadError::Version));
    line("PRI * HTTP/2.0", Err(HeadError::Version));
    line("CONNECT up:443 HTTP/1.1", Err(HeadError::Method));
    line("TRACE / HTTP/1.1", Err(HeadError::Method));
    line(&format!("GET /{} HTTP/1.1", "x".repeat(8200)), Err(HeadError::LineTooLong));
}

#[test]
fn a_target_is_a_path_or_an_absolute_url() {
    line("GET /a%20b/%7Bx%7D?q=%25&r={x}|y HTTP/1.1", Ok(()));
    line("GET http://up/a HTTP/1.1", Ok(()));
    line("GET HTTP://UP/a HTTP/1.1", Ok(()));
    line("GET /../../etc HTTP/1.1", Ok(()));
    for target in [
        "*",
        "a",
        "",
        "//x#y",
        "/a\\b",
        "/a\"b",
        "/a<b",
        "/a^b",
        "/a`b",
        "/%",
        "/%2",
        "/%zz",
        "/%u002e",
        "/\u{e9}",
        "ftp://up/a",
        "http://up",
        "http://up?x",
        "up:80",
    ] {
        line(&format!("GET {target} HTTP/1.1"), Err(HeadError::Target));
    }
    line("GET http://other/a HTTP/1.1", Err(HeadError::Host));
    line("GET http://user@up/a HTTP/1.1", Err(HeadError::Host));
    line("GET http:///a HTTP/1.1", Err(HeadError::Host));
}

#[test]
fn what_an_absolute_target_says_twice_can_be_left_out() {
    #[track_caller]
    fn check(target: &str, left: Option<&str>) {
        let head = format!("GET {target} HTTP/1.1\r\nHost: up:80\r\n\r\n");
        let facts = check_head(head.as_bytes(), &LIMITS).expect("a legal head");
        let rest = facts.redundant.map(|(start, end)| head[..start].to_owned() + &head[end..]);
        let expected = left.map(|left| format!("GET {left} HTTP/1.1\r\nHost: up:80\r\n\r\n"));
        assert_eq!(rest, expected);
    }
    check("http://UP:80/a?b=http://up:80/c", Some("/a?b=http://up:80/c"));
    check("HTTPS://up:80/", Some("/"));
    check("/a?b=http://up:80/c", None);
}

#[test]
fn lines_end_in_cr_lf_and_hold_no_control_characters() {
    check("GET / HTTP/1.1\nHost: up\r\n\r\n", Err(HeadError::Line));
    check("GET / HTTP/1.1\r\nHost: up\nX: y\r\n\r\n", Err(HeadError::Line));
    check("GET / HTTP/1.1\r\nHost: up\r\n\n", Err(HeadError::Line));
    check("\r\nGET / HTTP/1.1\r\nHost: up\r\n\r\n", Err(HeadError::RequestLine));
    with("X: a\rb", Err(HeadError::Line));
    with("X: a\0b", Err(HeadError::Line));
    with("X: a\x7fb", Err(HeadError::Line));
    with("X: a\tb", Ok(BodyFraming::Length(0)));
}

#[test]
fn a_field_is_a_token_a_colon_and_a_value() {
    with("X:", Ok(BodyFraming::Length(0)));
    with("X", Err(HeadError::Field));
    with(": x", Err(HeadError::Field));
    with("X : y", Err(HeadError::Field));
    with(" X: y", Err(HeadError::Field));
    with("A: b\r\n c", Err(HeadError::Field));
    with("X\u{e9}: y", Err(HeadError::Field));
    with("X(Y): z", Err(HeadError::Field));
}

#[test]
fn limits_hold_at_the_edge() {
    let fields = |n: usize| "X: y\r\n".repeat(n);
    let head = |n| format!("GET / HTTP/1.1\r\nHost: up\r\n{}\r\n", fields(n));
    check(&head(99), Ok(BodyFraming::Length(0)));
    check(&head(100), Err(HeadError::TooManyFields));
    let sized = |n: usize| format!("GET / HTTP/1.1\r\nHost: up\r\nX: {}\r\n\r\n", "y".repeat(n));
    let room = LIMITS.head_bytes - sized(0).len();
    check(&sized(room), Ok(BodyFraming::Length(0)));
    check(&sized(room + 1), Err(HeadError::TooLong));
}

#[test]
fn routing_fields_stand_once() {
    for name in ["Host", "BITS-Session-Id", "bits-packet-TYPE", "Content-Range", "Authorization"] {
        with(&format!("{name}: a\r\n{name}: a"), Err(HeadError::Repeated));
    }
    with("Accept: a\r\nAccept: b", Ok(BodyFraming::Length(0)));
}

#[test]
fn underscores_do_not_imitate_protected_fields() {
    for name in ["BITS_Session_Id", "Content_Length", "Transfer-Encoding_x", "X_Y"] {
        let guarded = name.starts_with("BITS") || name.starts_with("Content");
        let expected = if guarded { Err(HeadError::Imitation) } else { Ok(BodyFraming::Length(0)) };
        with(&format!("{name}: 1"), expected);
    }
    with("Transfer_Encoding: chunked", Err(HeadError::Imitation));
    with("X_Forwarded_For: 1", Err(HeadError::Imitation));
}

#[test]
fn the_host_is_one_host() {
    check("GET / HTTP/1.1\r\n\r\n", Err(HeadError::Host));
    check("GET / HTTP/1.1\r\nHost:\r\n\r\n", Err(HeadError::Host));
    check("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", Err(HeadError::Host));
    check("GET / HTTP/1.1\r\nHost: user@a\r\n\r\n", Err(HeadError::Host));
    check("GET / HTTP/1.1\r\nHost: a,b\r\n\r\n", Err(HeadError::Host));
}

#[test]
fn a_length_is_plain_digits() {
    with("Content-Length: 0", Ok(BodyFraming::Length(0)));
    let most = 9_999_999_999_999_999_999;
    with("Content-Length: 9999999999999999999", Ok(BodyFraming::Length(most)));
    for value in ["", "+5", "-5", "5, 5", "5,5", "0x5", "5 5", "1e1", "00000000000000000001"] {
        with(&format!("Content-Length: {value}"), Err(HeadError::Length));
    }
    with("Content-Length: 5\r\nContent-Length: 5", Err(HeadError::Repeated));
}

#[test]
fn a_transfer_encoding_is_chunked_alone() {
    with("Transfer-Encoding: chunked", Ok(BodyFraming::Chunked));
    for value in ["gzip, chunked", "chunked, chunked", "identity", "xchunked", "chunked;x=1", ""] {
        with(&format!("Transfer-Encoding: {value}"), Err(HeadError::TransferEncoding));
    }
    with("Content-Length: 5\r\nTransfer-Encoding: chunked", Err(HeadError::TransferEncoding));
}

#[test]
fn connection_speaks_of_the_connection_only() {
    with("Connection: Keep-Alive", Ok(BodyFraming::Length(0)));
    with("Connection: keep-alive, close", Ok(BodyFraming::Length(0)));
    for value in ["BITS-Session-Id", "close, Host", "upgrade", "Content-Length", ""] {
        with(&format!("Connection: {value}"), Err(HeadError::Connection));
    }
    with("Upgrade: h2c", Err(HeadError::Connection));
}

#[test]
fn the_only_expectation_is_100_continue() {
    with("Expect: 100-Continue", Ok(BodyFraming::Length(0)));
    with("Expect: 200-ok", Err(HeadError::Expect));
}

#[test]
fn a_head_ends_at_its_first_empty_line() {
    assert_eq!(end_of_head(b"GET", 0), None);
    assert_eq!(end_of_head(b"GET\r\n\r\nrest", 0), Some(7));
    assert_eq!(end_of_head(b"GET\r\n\r\nrest", 6), Some(7));
}

#[test]
fn a_refusal_finds_the_session_id_even_in_a_broken_head() {
    let head = b"BITS_POST / HTTP/1.1\r\nBITS-Session-Id: {x} \r\nbroken\r\n\r\n";
    assert_eq!(find_field(head, "bits-session-id"), Some("{x}"));
    assert!(opens_packet(head));
    let twice = b"BITS_POST / HTTP/1.1\r\nA: 1\r\na: 2\r\n\r\n";
    assert_eq!(find_field(twice, "a"), None);
    assert!(!opens_packet(b"BITS_POSTER / HTTP/1.1"));
}

#[test]
fn what_can_never_be_a_head_is_known_at_once() {
    for bytes in ["\x16\x03\x01", "GET / HTTP/1.1\n", "\n", "GET /\0", "a\r\n\n"] {
        assert!(is_hopeless(bytes.as_bytes(), 0), "{bytes:?}");
    }
    for bytes in ["", "GET / HTTP/1.1\r\nX: a\tb\r", "GET / HTTP/1.1\r\nX: \u{e9}"] {
        assert!(!is_hopeless(bytes.as_bytes(), 0), "{bytes:?}");
    }
    assert!(!is_hopeless(b"\x16ab", 1), "what was searched is not searched again");
    assert!(is_hopeless(b"ab\n", 2));
}
