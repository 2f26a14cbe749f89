//! Field lines: their ends, their characters, their names.

use e2e_tests::farm::ORIGIN;

use super::rig::{ALLOWED, FORBIDDEN, Refusal, Rig, ping_with};

#[test]
fn a_line_ends_in_cr_lf_only() {
    let rig = Rig::start();
    for line in [
        "X: a\nY: b",
        "X: a\rY: b",
        "X: a\r\r",
        "X: a\n\r",
        "X: a\n",
        "\nX: a",
        "X: a\r\n\n",
        "X\n: a",
    ] {
        rig.refuses_field(line);
    }
    // A whole request hides behind a bare LF.
    let hidden = format!("X: a\n\nBITS_POST {FORBIDDEN} HTTP/1.1\nHost: up.test");
    rig.refuses_field(&hidden);
    let start = "BITS_POST /forbidden HTTP/1.1\nHost: up.test\r\nBITS-Packet-Type: Ping\r\n\r\n";
    rig.refuses(Refusal::Ack(400), start);
    // Never a CR LF CR LF: no head for us, whatever others see in it.
    rig.refuses(Refusal::End, &ping_with(FORBIDDEN, "X: a").replace("\r\n", "\n"));
    rig.refuses(Refusal::End, &ping_with(FORBIDDEN, "X: a").replace("\r\n", "\r"));
    rig.refuses(Refusal::End, "GET /forbidden HTTP/1.1\r\nHost: up.test\r\n\n");
    rig.refuses(Refusal::End, "GET /forbidden HTTP/1.1\r\nHost: up.test\n\r\n");
}

#[test]
fn no_control_character_but_a_tab_stands_in_a_value() {
    let rig = Rig::start();
    for c in (0..0x20).chain([0x7f]).map(char::from) {
        match c {
            '\t' => rig.passes_field("X: a\tb"),
            '\r' | '\n' => {}
            _ => rig.refuses_field(&format!("X: a{c}b")),
        }
    }
    rig.refuses_field("Content-Name: a\0.bin");
    rig.passes_field("Content-Name: \u{e9}\u{ff}\u{80}.bin");
}

#[test]
fn a_line_that_continues_another_is_refused() {
    let rig = Rig::start();
    for line in [
        "X: a\r\n b",
        "X: a\r\n\tb",
        "X: a\r\n ",
        "X: a\r\n Content-Length: 5",
        " X: a",
        "\tX: a",
        "X:\r\n a",
        "Connection: close\r\n , BITS-Session-Id",
    ] {
        rig.refuses_field(line);
    }
    let first = format!("GET {FORBIDDEN} HTTP/1.1\r\n Host: {ORIGIN}\r\n\r\n");
    rig.refuses(Refusal::Plain(400), &first);
}

#[test]
fn a_field_name_is_a_token_and_a_colon_follows_at_once() {
    let rig = Rig::start();
    for line in [
        "X : a",
        "X\t: a",
        "Content-Length : 5",
        "Transfer-Encoding : chunked",
        ": a",
        ":",
        "X",
        "X a",
        "\u{e9}: a",
        "X(Y): a",
        "X,Y: a",
        "X=Y: a",
        "\"X\": a",
        "X/Y: a",
        "X[0]: a",
        "X@Y: a",
        "X\\Y: a",
        "{X}: a",
        "X;Y: a",
    ] {
        rig.refuses_field(line);
    }
    rig.passes_field("X:");
    rig.passes_field("X:a");
    rig.passes_field("!#$%&'*+-.^`|~0aZ: a");
    rig.passes_field("X:   a   ");
    let pass = format!("GET {ALLOWED} HTTP/1.1\r\nhOsT:{ORIGIN}\r\n\r\n");
    rig.passes(&pass);
}
