//! The first line, and what is no HTTP at all.

use e2e_tests::farm::ORIGIN;

use super::rig::{ALLOWED, FORBIDDEN, Refusal, Rig};

const REST: &str = "Host: up.test\r\nBITS-Packet-Type: Ping\r\nContent-Length: 0\r\n\r\n";

#[test]
fn the_request_line_is_method_target_version_with_single_spaces() {
    let rig = Rig::start();
    rig.passes(&format!("BITS_POST {ALLOWED} HTTP/1.1\r\n{REST}"));
    rig.passes(&format!("GET {ALLOWED} HTTP/1.1\r\nHost: {ORIGIN}\r\n\r\n"));
    for line in [
        format!("BITS_POST  {FORBIDDEN} HTTP/1.1"),
        format!("BITS_POST {FORBIDDEN}  HTTP/1.1"),
        format!("BITS_POST {FORBIDDEN} HTTP/1.1 "),
        format!("BITS_POST {FORBIDDEN} HTTP/1.1\t"),
        format!("BITS_POST {FORBIDDEN}"),
        format!("BITS_POST {FORBIDDEN} "),
        format!("BITS_POST {FORBIDDEN} a HTTP/1.1"),
        format!("BITS_POST {FORBIDDEN}\tHTTP/1.1"),
        "BITS_POST  HTTP/1.1".to_owned(),
        "BITS_POST ".to_owned(),
    ] {
        rig.refuses(Refusal::Ack(400), &format!("{line}\r\n{REST}"));
    }
    for line in [
        format!("BITS_POST\t{FORBIDDEN} HTTP/1.1"),
        format!(" BITS_POST {FORBIDDEN} HTTP/1.1"),
        format!("\tBITS_POST {FORBIDDEN} HTTP/1.1"),
        format!("{}BITS_POST {FORBIDDEN} HTTP/1.1", "\r\n".repeat(5)),
        format!("\r\n BITS_POST {FORBIDDEN} HTTP/1.1"),
        format!("B[TS {FORBIDDEN} HTTP/1.1"),
        format!("G\u{e9}T {FORBIDDEN} HTTP/1.1"),
        format!(" {FORBIDDEN} HTTP/1.1"),
        "GET".to_owned(),
        "HTTP/1.1 200 OK".to_owned(),
        String::new(),
    ] {
        rig.refuses(Refusal::Plain(400), &format!("{line}\r\n{REST}"));
    }
}

/// RFC 9112 section 2.2: old clients end a body with an empty line.
#[test]
fn a_few_empty_lines_before_a_request_are_read_over() {
    let rig = Rig::start();
    for lines in 1..=4 {
        let empty = "\r\n".repeat(lines);
        rig.passes(&format!("{empty}BITS_POST {ALLOWED} HTTP/1.1\r\n{REST}"));
    }
    // Between the requests of a connection as well, however they arrive.
    let mut client = rig.connect();
    for _ in 0..3 {
        for piece in ["\r", "\n\r\n", &format!("GET {ALLOWED} HTTP/1.1\r\nHost: {ORIGIN}\r\n\r\n")]
        {
            client.send(piece.as_bytes()).expect("sent");
        }
        assert_eq!(super::rig::read(&mut client, "empty lines").status, 200);
    }
}

#[test]
fn only_http_1_is_spoken() {
    let rig = Rig::start();
    for version in [
        "HTTP/0.9",
        "HTTP/1.2",
        "HTTP/2",
        "HTTP/2.0",
        "HTTP/3",
        "HTTP/11.1",
        "HTTP/1.10",
        "HTTP/01.1",
        "HTTP/1.1.1",
        "http/1.1",
        "Http/1.1",
        "HTTPS/1.1",
        "HTTP /1.1",
        "ICY/1.1",
        "1.1",
    ] {
        rig.refuses(Refusal::Ack(400), &format!("BITS_POST {FORBIDDEN} {version}\r\n{REST}"));
        let get = format!("GET {FORBIDDEN} {version}\r\nHost: {ORIGIN}\r\n\r\n");
        rig.refuses(Refusal::Plain(400), &get);
    }
}

#[test]
fn a_target_is_a_path_or_an_http_url_of_legal_characters() {
    let rig = Rig::start();
    for target in [
        "*",
        "forbidden",
        "?x",
        "#x",
        "//forbidden#x",
        "/forbidden\\..\\x",
        "/forbidden\"",
        "/forbidden<x>",
        "/forbidden^",
        "/forbidden`",
        "/forbidden%",
        "/forbidden%2",
        "/forbidden%zz",
        "/forbidden%u002e",
        "/forbidden\u{e9}",
        "/forbidden\u{80}",
        "ftp://up.test/forbidden",
        "http:/forbidden",
        "http:forbidden",
        "http://up.test",
        "http://up.test?x",
        "http://",
        "http:///forbidden",
        "up.test:80",
        "file:///etc/passwd",
        "http://user@up.test/forbidden",
        "http://user:pw@up.test/forbidden",
        "http://other.test/forbidden",
        "http://up.test:99999/forbidden",
        "http://up.test.evil/forbidden",
        "javascript:alert(1)",
    ] {
        rig.refuses(Refusal::Ack(400), &format!("BITS_POST {target} HTTP/1.1\r\n{REST}"));
        let get = format!("GET {target} HTTP/1.1\r\nHost: {ORIGIN}\r\n\r\n");
        rig.refuses(Refusal::Plain(400), &get);
    }
    rig.passes(&format!("BITS_POST http://up.test{ALLOWED} HTTP/1.1\r\n{REST}"));
    rig.passes(&format!(
        "BITS_POST {ALLOWED}?{{x}}|%7b%00%ff&/../;=@:!$'()*+,~ HTTP/1.1\r\n{REST}"
    ));
}

/// Item 24.
#[test]
fn scheme_and_host_of_an_absolute_target_compare_without_case() {
    let rig = Rig::start();
    for start in ["HTTP://up.test", "http://UP.TEST", "Http://Up.Test"] {
        rig.passes(&format!("BITS_POST {start}{ALLOWED} HTTP/1.1\r\n{REST}"));
    }
}

#[test]
fn control_characters_in_the_request_line_are_refused() {
    let rig = Rig::start();
    let controls = (0..0x20).chain([0x7f]).map(char::from).filter(|&c| c != '\r' && c != '\n');
    for c in controls {
        rig.refuses(Refusal::Ack(400), &format!("BITS_POST {FORBIDDEN}{c} HTTP/1.1\r\n{REST}"));
        rig.refuses(Refusal::Ack(400), &format!("BITS_POST {FORBIDDEN} HTTP/1.1{c}\r\n{REST}"));
    }
}

#[test]
fn a_hopeless_start_is_answered_without_a_wait_for_its_end() {
    let rig = Rig::start();
    for input in [
        "GET /forbidden\r\n",
        "GET /forbidden HTTP/2.0\r\nHost: up.test\r\n",
        "GET /forbidden HTTP/1.1\rHost: up.test\r\r",
        "GET /forbidden HTTP/1.1\r\nHost: up.test\r\r\n",
        "SSH-2.0-OpenSSH_9.2\r\n",
    ] {
        rig.refuses(Refusal::Plain(400), input);
    }
    rig.refuses(Refusal::Ack(400), "BITS_POST /forbidden\r\n");
    rig.refuses(Refusal::Plain(501), "CONNECT up.test:443 HTTP/1.1\r\n");
}

#[test]
fn tunnels_and_echoes_are_not_served() {
    let rig = Rig::start();
    for line in ["CONNECT up.test:443", "CONNECT /", "TRACE /forbidden", "TRACE *"] {
        let input = format!("{line} HTTP/1.1\r\nHost: {ORIGIN}\r\n\r\n");
        rig.refuses(Refusal::Plain(501), &input);
    }
    // Methods are case-sensitive: this is an unknown one, and passes as ordinary requests do.
    rig.passes(&format!("connect {ALLOWED} HTTP/1.1\r\nHost: {ORIGIN}\r\n\r\n"));
}

#[test]
fn other_protocols_on_the_port_end_the_connection() {
    let rig = Rig::start();
    rig.refuses(Refusal::Plain(400), "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
    let client_hello: Vec<u8> =
        [0x16, 3, 1, 0, 200, 1, 0, 0, 196, 3, 3].into_iter().chain(0..=255).collect();
    for input in [
        &client_hello[..],
        b"GET /forbidden\r\n",
        b"GET /forbidden\n\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"EHLO up.test\r\n",
        b"\x05\x01\x00",
        b"\x04\x01\x00\x50\x7f\x00\x00\x01\x00",
        b"PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n",
        b"\r\n\r\n\0\r\nQUIT\n",
        &[0; 512],
        &[0xff; 512],
        b"x",
        b"",
    ] {
        rig.refuses_bytes(Refusal::End, input);
    }
    let proxied =
        format!("PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\nBITS_POST {FORBIDDEN} HTTP/1.1\r\n{REST}");
    rig.refuses(Refusal::Plain(400), &proxied);
    let upgrade =
        "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQAAP__";
    // An offer that is not taken up: what follows is no tunnel.
    let offer = format!("GET {ALLOWED} HTTP/1.1\r\nHost: {ORIGIN}\r\n{upgrade}\r\n\r\n");
    rig.passes(&offer);
    let mut client = rig.connect();
    client.send(format!("{offer}PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").as_bytes()).expect("sent");
    assert_eq!(super::rig::read(&mut client, "the offer").status, 200);
    assert_eq!(super::rig::read(&mut client, "the preface").status, 400);
    super::rig::expect_end(&mut client, "the preface");
}
