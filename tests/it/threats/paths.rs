//! Targets that mean something else to somebody: passed on byte for byte, or refused.

use e2e_tests::farm::ORIGIN;

use crate::packets::{Servers, ping};

/// Threat: T17.
#[test]
fn t17_a_target_is_passed_on_byte_for_byte() {
    let servers = Servers::start(1);
    for target in [
        "/",
        "//",
        "//evil.test/x",
        "///x",
        "/./x",
        "/../x",
        "/a/../../etc/passwd",
        "/a/..;/b",
        "/a;x=y/b",
        "/%2e%2e/%2e%2e/x",
        "/%2E%2e%2F..%2fx",
        "/a%2fb%5Cc",
        "/a%00b",
        "/a%0d%0ab",
        "/%C0%AE%C0%AE/x",
        "/a::$DATA",
        "/a.asp%20",
        "/a.bin.",
        "/CON",
        "/a~1/B",
        "/a%25%32%65",
        "/a?b?c#".trim_end_matches('#'),
        "/?",
        "/??",
        "/a?../b",
        "/a?x=%zz".trim_end_matches("%zz"),
        "/a&b=c",
        "/{x}|y",
        "/a+b c".split(' ').next().expect("a part"),
        "/%7Bx%7D/%7bx%7d",
        "/http://evil.test/",
        "/@evil.test:80/",
    ] {
        let (_, request, _) = servers.passes(&ping(target));
        assert_eq!(request.target(), target);
        // The same in absolute form.
        let absolute = ping(&format!("http://{ORIGIN}{target}"));
        let (_, request, _) = servers.passes(&absolute);
        assert_eq!(request.target(), target);
    }
}

/// Threat: T18.
#[test]
fn t18_nothing_is_decoded() {
    let servers = Servers::start(1);
    let (id, _) = servers.open("/in/a.bin");
    // What unpacks to far more than it is.
    let packed =
        [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 2, 3, 0x4b, 4, 0, 0x43, 0xbe, 0xb7, 0xe8, 1, 0, 0, 0];
    for coding in ["gzip", "deflate", "x", "gzip, gzip, gzip"] {
        let range = format!("bytes 0-{}/{}", packed.len() - 1, packed.len() + 1);
        let packet = crate::packets::fragment("/in/a.bin", &id, &range, &packed);
        let (_, request, answer) = servers.passes(&packet.with("Content-Encoding", coding));
        assert_eq!(request.body, packed, "{coding}");
        assert_eq!(request.field("Content-Encoding"), Some(coding));
        assert_eq!(answer.field("BITS-Received-Content-Range"), Some(&*packed.len().to_string()));
    }
}
