//! Fields by which a request is routed, and hop-by-hop fields.

use e2e_tests::farm::ORIGIN;

use super::rig::{ALLOWED, FORBIDDEN, Refusal, Rig, ping_with};

fn hosted(method: &str, target: &str, lines: &str) -> String {
    format!(
        "{method} {target} HTTP/1.1\r\n{lines}BITS-Packet-Type: Ping\r\nContent-Length: 0\r\n\r\n"
    )
}

/// Threat: T5.
#[test]
fn there_is_exactly_one_host_and_it_is_one() {
    let rig = Rig::start();
    let host = |value: &str| format!("Host: {value}\r\n");
    for lines in [
        String::new(),
        host(""),
        host(" "),
        host("."),
        host(".up.test"),
        host("up..test"),
        host("up test"),
        host("up.test,up.test"),
        host("up.test, evil.test"),
        host("up.test/in"),
        host("up.test?x"),
        host("up.test#x"),
        host("up.test\\x"),
        host("user@up.test"),
        host("user:pw@up.test"),
        host("http://up.test"),
        host("//up.test"),
        host("up.test:x"),
        host("up.test:80x"),
        host("up.test:-1"),
        host("up.test:+80"),
        host("up.test:65536"),
        host("up.test:0"),
        host("up.test:080"),
        host("[::1]:0"),
        host("up.test:80:80"),
        host(":80"),
        host("[::1"),
        host("::1"),
        host("[::1]80"),
        host("[up.test]"),
        host("[::1%25lo]"),
        host("up%2etest"),
        host("\u{fc}p.test"),
        host("up.test;x"),
        host("*"),
        host("${jndi}"),
        host(&"x".repeat(301)),
        host(ORIGIN).repeat(2),
        format!("{}{}", host(ORIGIN), host("evil.test")),
        format!("{}hOSt: evil.test\r\n", host(ORIGIN)),
    ] {
        rig.refuses(Refusal::Ack(400), &hosted("BITS_POST", FORBIDDEN, &lines));
        rig.refuses(Refusal::Plain(400), &hosted("GET", FORBIDDEN, &lines));
    }
    let absolute = format!("http://up.test{FORBIDDEN}");
    for lines in [String::new(), host("other.test"), host("up.test:81")] {
        rig.refuses(Refusal::Ack(400), &hosted("BITS_POST", &absolute, &lines));
    }
    for value in [
        "up.test",
        "UP.TEST:8080",
        "up.test.",
        "up.test:",
        "[::1]:",
        "[0:0:0:0:0:0:0:1]:80",
        "127.0.0.1:80",
        "[::1]",
        "[::1]:80",
        "a_b",
        &"x".repeat(300),
    ] {
        rig.passes(&hosted("BITS_POST", ALLOWED, &host(value)));
    }
}

/// Threat: T5.
#[test]
fn t5_fields_that_frame_or_route_stand_once() {
    let rig = Rig::start();
    for name in [
        "BITS-Session-Id",
        "BITS-Packet-Type",
        "BITS-Supported-Protocols",
        "Content-Range",
        "Content-Name",
        "Content-Encoding",
        "Content-Length",
        "Transfer-Encoding",
        "Authorization",
        "X-HTTP-Method-Override",
    ] {
        rig.refuses_field(&format!("{name}: a\r\n{name}: b"));
        rig.refuses_field(&format!("{name}: a\r\n{}: a", name.to_ascii_lowercase()));
    }
    rig.refuses_field("Expect: 100-continue\r\nExpect: 100-continue");
    rig.passes_field("Accept: a\r\nAccept: b");
    rig.passes_field("Cookie: a=1\r\nCookie: b=2");
}

/// Threat: T6.
#[test]
fn t6_connection_may_not_name_a_field_by_which_a_request_is_read() {
    let rig = Rig::start();
    for value in [
        "BITS-Session-Id",
        "bits_session_id",
        "BITS-Packet-Type",
        "close, BITS-Session-Id",
        "keep-alive,,upgrade,Content-Length",
        "Content-Range",
        "Host",
        "Authorization",
        "Cookie",
        "Expect",
        "If-Match",
        "Range",
        "Via",
        "X-HTTP-Method-Override",
        "Proxy-Authorization",
        "X-Forwarded-For",
        "Transfer-Encoding",
    ] {
        rig.refuses_field(&format!("Connection: {value}"));
        rig.refuses_field(&format!("connection: close\r\nConnection: {value}"));
    }
}

/// What a client offers or asks of its own connection is ignored, and goes no further (RFC 9110 sections 7.6.1, 7.8).
///
/// Threat: T6.
#[test]
fn t6_an_offer_of_the_connection_is_ignored() {
    let rig = Rig::start();
    for value in [
        "",
        ",",
        "close,,close",
        "close;x",
        "\"close\"",
        "clos\u{e9}",
        "upgrade",
        "keep-alive, Upgrade",
        "Upgrade, HTTP2-Settings",
        "te",
        "X-Any, close",
        "close",
        "Keep-Alive",
        "keep-alive, close",
    ] {
        for line in [
            format!("Connection: {value}"),
            format!("Proxy-Connection: {value}"),
            format!("X_Any: hop\r\nConnection: {value}\r\nX-Any: hop\r\nUpgrade: hop"),
            format!("Keep-Alive: hop\r\nTE: hop\r\nHTTP2-Settings: hop\r\nConnection: {value}"),
            format!("Keep_Alive: hop\r\nhttp2_settings: hop\r\nConnection: {value}"),
        ] {
            rig.passes_field(&line);
            let head = rig.backend.requests().last().expect("it passed").head.clone();
            let named = value.contains("X-Any") || !line.contains("X-Any");
            assert!(!head.contains("hop") || !named, "{head}");
            assert!(!head.to_ascii_lowercase().contains("upgrade"), "{head}");
        }
    }
    let closing = format!(
        "GET {ALLOWED} HTTP/1.1\r\nHost: {ORIGIN}\r\nConnection: TE, close\r\nTE: gzip\r\n\r\n"
    );
    assert!(rig.passes(&closing).closes(), "what the client wants of its connection counts");
    let keeping = closing.replace(", close", "");
    assert!(!rig.passes(&keeping).closes());
}

/// Threat: T5.
#[test]
fn underscores_do_not_imitate_fields_that_route() {
    let rig = Rig::start();
    for name in [
        "BITS_Session_Id",
        "BITS-Session_Id",
        "bits_packet-type",
        "BITS_Packet_Type",
        "BITS_Host_Id",
        "BITS_Supported_Protocols",
        "BITS_Original-Request-URL",
        "Content_Length",
        "Content_Range",
        "Content_Name",
        "Content_Encoding",
        "Content_Type",
        "Transfer_Encoding",
        "X_HTTP_Method_Override",
        "Proxy_Authorization",
        "Connection_",
    ] {
        if name == "Connection_" {
            rig.passes_field("Connection_: a");
        } else {
            rig.refuses_field(&format!("{name}: a"));
        }
    }
    rig.passes_field("X_Own: a");
}

/// As mod_ssl of Apache writes them: a proxy that does so must not cost its clients their uploads.
///
/// Threat: T2.
#[test]
fn what_a_proxy_says_with_underscores_goes_no_further() {
    let rig = Rig::start();
    for name in [
        "SSL_CLIENT_S_DN",
        "SSL_CLIENT_VERIFY",
        "REMOTE_USER",
        "Remote_Addr",
        "X_Forwarded_For",
        "X_Forwarded-Host",
        "X_Original_URL",
        "X_Rewrite-URL",
        "X-Real_IP",
        "X_Client_IP",
        "X_Original_Host",
        "True_Client_IP",
        "CF_Connecting_IP",
        "Client_Cert",
        "Forwarded_For",
        "X_ARR_SSL",
    ] {
        rig.passes_field(&format!("{name}: forged"));
        let request = rig.backend.requests().into_iter().rfind(|r| r.target() == ALLOWED);
        let request = request.expect("it passed");
        assert!(!request.head.contains("forged"), "{}", request.head);
    }
}

#[test]
fn the_only_expectation_is_100_continue() {
    let rig = Rig::start();
    for value in ["", "200-ok", "100-continue, x", "100", "100-continue;x", "continue"] {
        rig.refuses(Refusal::Ack(400), &ping_with(FORBIDDEN, &format!("Expect: {value}")));
        let get = format!("GET {FORBIDDEN} HTTP/1.1\r\nHost: {ORIGIN}\r\nExpect: {value}\r\n\r\n");
        rig.refuses(Refusal::Plain(417), &get);
    }
    for value in ["100-continue", "100-Continue"] {
        rig.passes_field(&format!("Expect: {value}"));
    }
}

/// Threat: T6.
#[test]
fn hop_by_hop_fields_do_not_reach_the_backend() {
    let rig = Rig::start();
    rig.passes_field(
        "Connection: keep-alive\r\nKeep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nTE: trailers\r\n\
        Trailer: X\r\nProxy-Authorization: Basic eDp5",
    );
    let request =
        rig.backend.requests().into_iter().find(|r| r.target() == ALLOWED).expect("passed");
    for name in ["Keep-Alive", "Proxy-Connection", "TE", "Trailer"] {
        assert_eq!(request.field(name), None, "{}", request.head);
    }
}
