//! What a client makes up about itself, about the farm or about the files of others.

use e2e_tests::client::{PacketType, exchange};
use e2e_tests::farm::ORIGIN;

use crate::packets::{Packet, Servers, TARGET, cancel, close, create, fragment, ping};

/// Fields that only a server, an application or a proxy may say.
const FIELDS: [&str; 52] = [
    "BITS-Original-Request-URL",
    "BITS-Request-DataFile-Name",
    "BITS-Response-DataFile-Name",
    "BITS-Static-Response-URL",
    "BITS-Copy-File-To-Destination",
    "BITS-Host-Id",
    "BITS-Host-Id-Fallback-Timeout",
    "BITS-Error",
    "BITS-Error-Code",
    "BITS-Error-Context",
    "BITS-Protocol",
    "BITS-Received-Content-Range",
    "BITS-Reply-URL",
    "Forwarded",
    "Forwarded-For",
    "X-Forwarded-For",
    "X-Forwarded-Host",
    "X-Forwarded-Port",
    "X-Forwarded-Proto",
    "X-Forwarded-Server",
    "X-Forwarded-By",
    "X-Forwarded-Client-Cert",
    "X-Forwarded-Prefix",
    "X-Forwarded-Scheme",
    "X-Forwarded-Ssl",
    "X-Forwarded",
    "X-Forward-For",
    "X-Original-For",
    "X-Original-Forwarded-For",
    "X-Original-Host",
    "X-Original-URI",
    "X-Original-URL",
    "X-Real-IP",
    "X-Rewrite-URL",
    "CF-Connecting-IP",
    "Client-Cert",
    "Client-IP",
    "Fastly-Client-IP",
    "Front-End-Https",
    "Proxy",
    "Remote-User",
    "SSL-Client-Cert",
    "True-Client-IP",
    "X-ARR-ClientCert",
    "X-Azure-ClientIP",
    "X-Client-Cert",
    "X-Client-IP",
    "X-Cluster-Client-IP",
    "X-Host",
    "X-Remote-User",
    "X-SSL-Client-Verify",
    "Proxy-Authorization",
];

fn packets(id: &str) -> [Packet; 5] {
    [
        create(TARGET),
        ping(TARGET),
        fragment(TARGET, id, "bytes 0-2/9", b"abc"),
        cancel(TARGET, "{another}"),
        close(TARGET, id),
    ]
}

/// As some write a name, and others read it as the same; where the whole head is not refused for it.
fn underscored(name: &str) -> String {
    let refused = name.starts_with("BITS-") || name.starts_with("Proxy-");
    if refused { name.to_owned() } else { name.replace('-', "_") }
}

/// Threat: T2.
#[test]
fn nothing_forged_reaches_a_backend() {
    for host in ["origin", "preserve", "backend"] {
        let servers = Servers::with(1, |farm| {
            farm.set("http.upstream_host", &format!("\"{host}\""))
                .set("http.hosts", &format!("[\"{ORIGIN}\"]"))
                .set("http.forwarded", "\"both\"")
        });
        let (id, _) = servers.open(TARGET);
        for spell in [str::to_owned, str::to_ascii_lowercase, underscored] {
            for mut packet in packets(&id) {
                for name in FIELDS {
                    packet = packet.with(&spell(name), "forged.test");
                }
                let kind = packet.kind;
                let answer = servers.ask(&packet);
                // The session of the last two may have ended, or never was.
                assert!(matches!(answer.status, 200 | 500), "{kind:?}: {}", answer.head);
                assert!(!answer.head.contains("forged"), "{kind:?}: {}", answer.head);
            }
            let plain = FIELDS.map(|name| format!("{}: forged.test\r\n", spell(name))).concat();
            let post =
                format!("POST /app HTTP/1.1\r\nHost: {ORIGIN}\r\n{plain}Content-Length: 0\r\n\r\n");
            assert_eq!(servers.ask_bytes(post.as_bytes()).status, 200);
        }
        let requests = servers.backends[0].requests();
        assert!(requests.len() >= 8, "{} requests", requests.len());
        for request in requests {
            assert!(!request.head.contains("forged"), "{}", request.head);
        }
    }
}

/// Threat: T6.
#[test]
fn no_field_that_routes_is_taken_off_by_nomination() {
    let servers = Servers::start(1);
    let (id, _) = servers.open(TARGET);
    let seen = servers.counts();
    for nominated in
        ["BITS-Session-Id", "Content-Length", "Host", "X-Forwarded-For", "Authorization"]
    {
        for list in
            [nominated.to_owned(), format!("close, {nominated}"), format!("keep-alive,{nominated}")]
        {
            let packet = fragment(TARGET, &id, "bytes 0-2/9", b"abc").with("Connection", &list);
            let answer = exchange(servers.farm.entrance(), &packet.bytes()).expect("an answer");
            assert_eq!(answer.status, 400, "{list}: {}", answer.head);
        }
    }
    assert_eq!(servers.counts(), seen);
    // The control.
    let packet = fragment(TARGET, &id, "bytes 0-2/9", b"abc").with("Connection", "keep-alive");
    assert_eq!(packet.kind, PacketType::Fragment);
    servers.passes(&packet);
}
