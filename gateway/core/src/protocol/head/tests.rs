//! Table tests of the head check: one line per rule.

use super::fields::ONCE;
use super::*;

const LIMITS: HeadLimits = HeadLimits { head_bytes: 32 * 1024, line_bytes: 8 * 1024, fields: 100 };

const ANY: HeadPolicy<'_> = HeadPolicy { hosts: None, escape_path: false };

const GOOD: &str = "BITS_POST /in/a.bin HTTP/1.1\r\nBITS-Packet-Type: Ping\r\nHost: up\r\n\r\n";

#[track_caller]
fn check(head: &str, expected: Result<BodyFraming, HeadError>) {
    let facts = check_head(head.as_bytes(), &LIMITS, &ANY).map(|facts| facts.body);
    assert_eq!(facts, expected, "{head:?}");
}

/// The head as it is passed on.
#[track_caller]
fn passed(head: &str, policy: &HeadPolicy<'_>, expected: Result<&str, HeadError>) {
    let facts = check_head(head.as_bytes(), &LIMITS, policy);
    let passed = facts.map(|facts| String::from_utf8(facts.edits.apply(head.as_bytes())).unwrap());
    assert_eq!(passed.as_deref(), expected.as_ref().copied(), "{head:?}");
}

/// A head of these fields between a legal Host and the end, as it is passed on.
#[track_caller]
fn fields_pass(lines: &[&str], expected: &[&str]) {
    let head = |lines: &[&str]| {
        let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
        format!("POST / HTTP/1.1\r\n{lines}\r\n")
    };
    let lines = [&["Host: up"], lines].concat();
    passed(&head(&lines), &ANY, Ok(&head(expected)));
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
    line("GET / HTTP/1.0", Ok(()));
    line("GET / HTTP/0.9", Err(HeadError::Version));
    line("GET / HTTP/1.2", Err(HeadError::Version));
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
        "ftp://up/a",
        "http://up",
        "http://up?x",
        "up:80",
    ] {
        line(&format!("GET {target} HTTP/1.1"), Err(HeadError::Target));
    }
    line("GET http://other/a HTTP/1.1", Err(HeadError::TwoHosts));
    line("GET http://user@up/a HTTP/1.1", Err(HeadError::Host));
    line("GET http:///a HTTP/1.1", Err(HeadError::Host));
}

#[test]
fn an_absolute_target_becomes_its_path() {
    #[track_caller]
    fn check(target: &str, host: &str, path: &str) {
        let head = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        passed(&head(target), &ANY, Ok(&head(path)));
    }
    check("http://UP:80/a?b=http://up:80/c", "up:80", "/a?b=http://up:80/c");
    check("/a?b=http://up:80/c", "up:80", "/a?b=http://up:80/c");
    // One host and port in two spellings.
    for (authority, host) in [("up", "up:80"), ("up:80", "up"), ("up:", "UP."), ("up", "up:")] {
        check(&format!("http://{authority}/a"), host, "/a");
    }
    check("HTTPS://up:443/", "up", "/");
    check("http://[0:0::1]:80/a", "[::1]", "/a");
    line("GET https://up:80/ HTTP/1.1", Err(HeadError::TwoHosts));
    line("GET http://up:443/ HTTP/1.1", Err(HeadError::TwoHosts));
}

#[test]
fn of_two_names_of_ours_the_target_counts() {
    let hosts = ["up.example.net", "other.example.net"].map(str::to_owned).into();
    let ours = HeadPolicy { hosts: Some(&hosts), ..ANY };
    let head = |target: &str, host: &str| {
        format!("GET {target} HTTP/1.1\r\nA: b\r\nHost: {host} \r\nC: d\r\n\r\n")
    };
    let both = head("http://OTHER.example.net:8080/a", "up.example.net");
    passed(&both, &ours, Ok(&head("/a", "OTHER.example.net:8080")));
    passed(&both, &ANY, Err(HeadError::TwoHosts));
    for (target, host, error) in [
        ("http://foreign.net/a", "up.example.net", HeadError::TwoHosts),
        ("http://up.example.net/a", "foreign.net", HeadError::TwoHosts),
        ("http://user@other.example.net/a", "up.example.net", HeadError::Host),
        ("http:///a", "up.example.net", HeadError::Host),
    ] {
        passed(&head(target, host), &ours, Err(error));
    }
}

#[test]
fn a_path_beyond_ascii_is_escaped_where_that_is_allowed() {
    let escaping = HeadPolicy { escape_path: true, ..ANY };
    let head = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: up\r\n\r\n");
    let raw = head("/r\u{e9}sum\u{e9}.bin?\u{20ac}");
    passed(&raw, &ANY, Err(HeadError::RawTarget));
    passed(&raw, &escaping, Ok(&head("/r%C3%A9sum%C3%A9.bin?%E2%82%AC")));
    passed(&head("http://up/\u{e9}"), &escaping, Ok(&head("/%C3%A9")));
    passed(&head("http://\u{fc}p/"), &escaping, Err(HeadError::Host));
    passed(&head("\u{e9}"), &escaping, Err(HeadError::Target));
    let latin1 = b"GET /\xe9 HTTP/1.1\r\nHost: up\r\n\r\n";
    assert_eq!(check_head(latin1, &LIMITS, &escaping), Err(HeadError::Target));
}

#[test]
fn options_may_ask_for_the_server_itself() {
    line("OPTIONS * HTTP/1.1", Ok(()));
    line("OPTIONS * HTTP/1.0", Ok(()));
    line("GET * HTTP/1.1", Err(HeadError::Target));
    line("OPTIONS ** HTTP/1.1", Err(HeadError::Target));
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
fn one_field_has_limits_of_its_own() {
    let limits = HeadLimits { head_bytes: 1 << 20, ..LIMITS };
    let check = |name: usize, value: usize, expected: Result<BodyFraming, HeadError>| {
        let (name, value) = ("n".repeat(name), "v".repeat(value));
        let head = format!("GET / HTTP/1.1\r\nHost: up\r\n{name}: {value} \r\n\r\n");
        let facts = check_head(head.as_bytes(), &limits, &ANY).map(|facts| facts.body);
        assert_eq!(facts, expected);
    };
    check(NAME_LIMIT, 0, Ok(BodyFraming::Length(0)));
    check(NAME_LIMIT + 1, 0, Err(HeadError::NameTooLong));
    check(1, FIELD_LIMIT, Ok(BodyFraming::Length(0)));
    check(1, FIELD_LIMIT + 1, Err(HeadError::ValueTooLong));
}

#[test]
fn routing_fields_stand_once() {
    for name in ONCE.map(|field| field.name.as_str()) {
        let value = if name == "expect" { "100-continue" } else { "a" };
        with(&format!("{name}: {value}\r\n{name}: {value}"), Err(HeadError::Repeated));
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
    // Taken off, but no reason to refuse a packet: proxies in front write them.
    for name in ["X_Forwarded_For", "X-Rewrite_URL", "SSL_CLIENT_VERIFY", "REMOTE_USER"] {
        with(&format!("{name}: 1"), Ok(BodyFraming::Length(0)));
    }
    with("Proxy_Authorization: 1", Err(HeadError::Imitation));
    for name in ["If_Match", "WWW_Authenticate"] {
        with(&format!("{name}: 1"), Ok(BodyFraming::Length(0)));
    }
    // For the next hop in any spelling: none passes.
    for name in ["Proxy_Connection", "Keep_Alive", "HTTP2_Settings"] {
        fields_pass(&[&format!("{name}: 1"), "A: b"], &["Host: up", "A: b"]);
    }
}

#[test]
fn every_protected_name_is_protected_in_every_case_and_mixture() {
    for name in ONCE.map(|field| field.name.as_str()).into_iter().filter(|name| name.contains('-'))
    {
        let mixed: String = name
            .char_indices()
            .map(|(at, c)| if at % 2 == 0 { c.to_ascii_uppercase() } else { c })
            .collect();
        for alias in [name.replace('-', "_"), mixed.replacen('-', "_", 1)] {
            with(&format!("{alias}: 1"), Err(HeadError::Imitation));
        }
        with(&format!("{name}: 5\r\n{mixed}: 5"), Err(HeadError::Repeated));
    }
}

#[test]
fn control_characters_are_refused_wherever_they_stand() {
    for byte in (0..0x20).chain([0x7f_u8]).filter(|b| !b"\t\r\n".contains(b)) {
        let c = char::from(byte);
        line(&format!("GET /{c} HTTP/1.1"), Err(HeadError::Line));
        line(&format!("G{c}ET / HTTP/1.1"), Err(HeadError::Line));
        line(&format!("GET / HTTP/1.1{c}"), Err(HeadError::Line));
        with(&format!("X{c}: y"), Err(HeadError::Line));
        with(&format!("X: {c}"), Err(HeadError::Line));
        with(&format!("Transfer-Encoding: {c}chunked"), Err(HeadError::Line));
        with(&format!("Content-Length: 5{c}"), Err(HeadError::Line));
    }
    // A tab is white space inside a value, and nowhere else.
    with("X\t: y", Err(HeadError::Field));
    with("\tX: y", Err(HeadError::Field));
    with("Content-Length:\t5\t", Ok(BodyFraming::Length(5)));
    line("GET\t/ HTTP/1.1", Err(HeadError::RequestLine));
    line("GET /\t HTTP/1.1", Err(HeadError::Target));
}

#[test]
fn bytes_beyond_ascii_stand_in_values_only() {
    let head = |bytes: &[u8]| check_head(bytes, &LIMITS, &ANY).map(|facts| facts.body);
    let value = b"GET / HTTP/1.1\r\nHost: up\r\nX: \x80\xff\xa0\r\n\r\n";
    assert_eq!(head(value), Ok(BodyFraming::Length(0)));
    assert_eq!(head(b"GET /\xff HTTP/1.1\r\nHost: up\r\n\r\n"), Err(HeadError::RawTarget));
    assert_eq!(head(b"G\xffT / HTTP/1.1\r\nHost: up\r\n\r\n"), Err(HeadError::RequestLine));
    assert_eq!(head(b"GET / HTTP/1.1\r\nHost: \xff\r\n\r\n"), Err(HeadError::Host));
    let spaced = b"GET / HTTP/1.1\r\nHost: up\r\nContent-Length: \xa05\r\n\r\n";
    assert_eq!(head(spaced), Err(HeadError::Length));
    let coded = b"GET / HTTP/1.1\r\nHost: up\r\nTransfer-Encoding: \xa0chunked\r\n\r\n";
    assert_eq!(head(coded), Err(HeadError::TransferEncoding));
}

#[test]
fn a_body_is_framed_the_same_way_for_every_method() {
    for method in ["GET", "HEAD", "DELETE", "OPTIONS", "BITS_POST", "PROPFIND"] {
        let of = |lines: &str| format!("{method} / HTTP/1.1\r\nHost: up\r\n{lines}\r\n\r\n");
        check(&of("Content-Length: 7"), Ok(BodyFraming::Length(7)));
        check(&of("Transfer-Encoding: chunked"), Ok(BodyFraming::Chunked));
        check(&of("X: y"), Ok(BodyFraming::Length(0)));
        check(
            &of("Content-Length: 7\r\nTransfer-Encoding: chunked"),
            Err(HeadError::TransferEncoding),
        );
    }
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
fn a_connection_must_not_name_what_frames_routes_or_identifies() {
    for value in [
        "BITS-Session-Id",
        "close, Host",
        "Content-Length",
        "upgrade,content_range",
        "Transfer-Encoding",
        "X-Forwarded-For",
        "Authorization",
        "If-Match",
    ] {
        with(&format!("Connection: {value}"), Err(HeadError::Connection));
        with(&format!("Connection: close\r\nconnection: {value}"), Err(HeadError::Connection));
    }
    // Servers do not obey it, and it does not pass.
    with("Proxy-Connection: Host", Ok(BodyFraming::Length(0)));
}

#[test]
fn what_is_for_the_next_hop_does_not_pass() {
    fields_pass(&["Connection: Keep-Alive"], &["Host: up", "Connection: Keep-Alive"]);
    fields_pass(
        &["connection: keep-alive , close"],
        &["Host: up", "connection: keep-alive , close"],
    );
    // What a plain nginx, the JDK, LWP, curl and the usual WebSocket recipe send.
    fields_pass(&["Connection: ", "A: b"], &["Host: up", "A: b"]);
    fields_pass(
        &["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk"],
        &["Host: up"],
    );
    fields_pass(
        &["TE: deflate,gzip;q=0.3", "Connection: TE, close", "A: b"],
        &["Connection: close", "Host: up", "A: b"],
    );
    fields_pass(&["Connection: TE", "TE: gzip"], &["Host: up"]);
    fields_pass(&["Connection: upgrade", "Upgrade: websocket"], &["Host: up"]);
    fields_pass(&["Keep-Alive: timeout=5", "Proxy-Connection: Keep-Alive"], &["Host: up"]);
    // Words that are none, and fields that they name before and behind.
    fields_pass(&["Connection: ,, clo se;x, \"close\""], &["Host: up"]);
    fields_pass(
        &[
            "X-Trace: 1",
            "Connection: x_trace, Close",
            "x-TRACE: 2",
            "Connection: Y",
            "Y: 3",
            "Z: 4",
        ],
        &["Connection: close", "Host: up", "Z: 4"],
    );
}

#[test]
fn an_http_1_0_request_goes_on_as_the_last_one_of_its_connection() {
    let check = |head: &str, expected: &str| {
        passed(head, &ANY, Ok(expected));
        assert!(check_head(head.as_bytes(), &LIMITS, &ANY).unwrap().http10);
    };
    let added = "HTTP/1.1\r\nConnection: close\r\n";
    check(
        "BITS_POST /a HTTP/1.0\r\nConnection: Keep-Alive\r\nHost: up\r\nContent-Length: 5\r\n\r\n",
        &format!("BITS_POST /a {added}Host: up\r\nContent-Length: 5\r\n\r\n"),
    );
    check(
        "POST /a HTTP/1.0\r\nHost: up\r\nExpect: 100-continue\r\nA: b\r\n\r\n",
        &format!("POST /a {added}Host: up\r\nA: b\r\n\r\n"),
    );
    for method in ["GET", "HEAD", "OPTIONS"] {
        check(&format!("{method} / HTTP/1.0\r\n\r\n"), &format!("{method} / {added}\r\n"));
    }
    check(
        "POST http://up:80/a HTTP/1.0\r\n\r\n",
        "POST /a HTTP/1.1\r\nHost: up:80\r\nConnection: close\r\n\r\n",
    );
    for (head, error) in [
        ("POST / HTTP/1.0\r\n\r\n", HeadError::Host),
        ("BITS_POST / HTTP/1.0\r\n\r\n", HeadError::Host),
        ("GET http://a@b/ HTTP/1.0\r\n\r\n", HeadError::Host),
        ("GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n", HeadError::Repeated),
        (
            "POST / HTTP/1.0\r\nHost: up\r\nTransfer-Encoding: chunked\r\n\r\n",
            HeadError::TransferEncoding,
        ),
        ("GET http://up/ HTTP/1.1\r\n\r\n", HeadError::Host),
    ] {
        passed(head, &ANY, Err(error));
    }
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
    // Also one that is no text.
    let odd = b"GET / HTTP/1.1\r\nB: \xff\r\n\r\n";
    assert!(has_field(twice, "A") && has_field(odd, "b") && !has_field(odd, "c"));
    assert!(!opens_packet(b"BITS_POSTER / HTTP/1.1"));
}

#[test]
fn what_can_never_be_a_head_is_known_at_once() {
    for bytes in [
        "\x16\x03\x01",
        "GET / HTTP/1.1\n",
        "\n",
        "GET /\0",
        "a\r\n\n",
        "GET / HTTP/1.1\rHost",
        "GET / HTTP/1.1\r\nA: b\r\r",
    ] {
        assert!(is_hopeless(bytes.as_bytes(), 0), "{bytes:?}");
    }
    for bytes in ["", "GET / HTTP/1.1\r\nX: a\tb\r", "GET / HTTP/1.1\r\nX: \u{e9}"] {
        assert!(!is_hopeless(bytes.as_bytes(), 0), "{bytes:?}");
    }
    assert!(!is_hopeless(b"\x16ab", 1), "what was searched is not searched again");
    assert!(is_hopeless(b"ab\n", 2));
    assert!(is_hopeless(b"a\rb", 2));
}

#[test]
fn a_request_line_is_refused_before_the_end_of_its_head() {
    for (bytes, error) in [
        ("GET /\r\n", HeadError::RequestLine),
        ("GET / HTTP/2.0\r\nHost", HeadError::Version),
        ("CONNECT up:1 HTTP/1.1\r\n", HeadError::Method),
        ("SSH-2.0-x\r\n", HeadError::RequestLine),
    ] {
        assert_eq!(fault_of_line(bytes.as_bytes(), &LIMITS), Some(error), "{bytes:?}");
    }
    for bytes in ["", "GET /", "GET / HTTP/1.0\r", "GET / HTTP/1.1\r\nHost", "\r\n", "\r\nGET"] {
        assert_eq!(fault_of_line(bytes.as_bytes(), &LIMITS), None, "{bytes:?}");
    }
}
