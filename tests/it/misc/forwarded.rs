//! What backends are told of the client, and whom the gateway believes.

use e2e_tests::client::{Head, exchange};
use e2e_tests::farm::ORIGIN;
use e2e_tests::raw_backend::Request;
use e2e_tests::wait;

use crate::packets::{Servers, TARGET, ping};

/// Everything by which a backend might be told of another client, host or target.
const FORGED: [(&str, &str); 9] = [
    ("Forwarded", "for=6.6.6.6;host=forged.test"),
    ("X-Forwarded-For", "6.6.6.6"),
    ("X-Forwarded-Host", "forged.test"),
    ("X-Forwarded-Port", "666"),
    ("X-Forwarded-Proto", "forged"),
    ("X-Forwarded-Server", "forged.test"),
    ("X-Original-URL", "/forged"),
    ("X-Real-IP", "6.6.6.6"),
    ("X-Rewrite-URL", "/forged"),
];

fn told(request: &Request) -> Vec<String> {
    let ours = |line: &&str| {
        let lower = line.to_ascii_lowercase();
        FORGED.iter().any(|(name, _)| lower.starts_with(&format!("{}:", name.to_ascii_lowercase())))
    };
    let mut lines: Vec<_> = request.field_lines().filter(ours).map(str::to_owned).collect();
    lines.sort_unstable();
    lines
}

/// By which clients come.
fn scheme(servers: &Servers) -> &'static str {
    if servers.farm.tls().is_on() { "https" } else { "http" }
}

#[track_caller]
fn check(mode: &str, expected: impl Fn(u16, &str) -> Vec<String>) {
    let servers = Servers::with(1, |farm| farm.set("http.forwarded", &format!("\"{mode}\"")));
    let (port, scheme) = (servers.farm.entrance().port(), scheme(&servers));
    let plain = servers.passes(&ping(TARGET)).1;
    assert_eq!(told(&plain), expected(port, scheme), "{mode}");
    let mut packet = ping(TARGET);
    for (name, value) in FORGED {
        packet = packet.with(name, value).with(&name.to_ascii_lowercase(), value);
    }
    let (_, request, _) = servers.passes(&packet);
    assert_eq!(told(&request), expected(port, scheme), "{mode}: {}", request.head);
    assert!(!request.head.contains("forged") && !request.head.contains("6.6"), "{}", request.head);
}

#[test]
fn what_a_client_says_of_itself_is_replaced_by_what_is_true() {
    let x = |port: u16, scheme: &str| {
        vec![
            "X-Forwarded-For: 127.0.0.1".to_owned(),
            format!("X-Forwarded-Host: {ORIGIN}"),
            format!("X-Forwarded-Port: {port}"),
            format!("X-Forwarded-Proto: {scheme}"),
        ]
    };
    let forwarded =
        |scheme: &str| format!("Forwarded: for=127.0.0.1;host=\"{ORIGIN}\";proto={scheme}");
    check("x-forwarded-for", |_, _| vec!["X-Forwarded-For: 127.0.0.1".to_owned()]);
    check("x-forwarded", x);
    check("forwarded", |_, scheme| vec![forwarded(scheme)]);
    check("both", |port, scheme| [vec![forwarded(scheme)], x(port, scheme)].concat());
    check("off", |_, _| Vec::new());
}

#[test]
fn what_a_trusted_proxy_says_is_kept_and_appended_to() {
    let servers = Servers::with(1, |farm| {
        farm.set("http.forwarded", "\"both\"").set("http.trusted_proxies", "[\"127.0.0.1\"]")
    });
    let packet = ping(TARGET)
        .with("X-Forwarded-For", "6.6.6.6, 203.0.113.5")
        .with("X-Forwarded-For", "127.0.0.1")
        .with("X-Forwarded-Host", "public.test, inner.test:81")
        .with("X-Forwarded-Port", "443")
        .with("X-Forwarded-Proto", "https")
        .with("Forwarded", "for=203.0.113.5")
        .with("X-Original-URL", "/forged")
        .with("X-Real-IP", "6.6.6.6");
    let (_, request, _) = servers.passes(&packet);
    let scheme = scheme(&servers);
    assert_eq!(
        told(&request),
        [
            &*format!("Forwarded: for=203.0.113.5, for=127.0.0.1;host=\"{ORIGIN}\";proto={scheme}"),
            "X-Forwarded-For: 6.6.6.6, 203.0.113.5, 127.0.0.1, 127.0.0.1",
            "X-Forwarded-Host: public.test, inner.test:81",
            "X-Forwarded-Port: 443",
            "X-Forwarded-Proto: https",
        ]
    );
    // The last address that is not the proxy's is the client's.
    let gateway = servers.farm.gateway();
    wait::until("the request is logged", || {
        gateway.access_log().iter().any(|line| line["client"] == "203.0.113.5")
    });
}

#[test]
fn what_a_trusted_proxy_hands_on_unread_is_not_kept() {
    let servers = Servers::with(1, |farm| {
        farm.set("http.forwarded", "\"both\"").set("http.trusted_proxies", "[\"127.0.0.1\"]")
    });
    let (port, scheme) = (servers.farm.entrance().port(), scheme(&servers));
    let packet = ping(TARGET)
        .with("X-Forwarded-Host", "public.test/forged")
        .with("X-Forwarded-Port", "0")
        .with("X-Forwarded-Proto", "gopher")
        .with("Forwarded", "for=203.0.113.5, for=\"6.6.6.6\\\"");
    let (_, request, _) = servers.passes(&packet);
    assert_eq!(
        told(&request),
        [
            format!("Forwarded: for=127.0.0.1;host=\"{ORIGIN}\";proto={scheme}"),
            "X-Forwarded-For: 127.0.0.1".to_owned(),
            format!("X-Forwarded-Host: {ORIGIN}"),
            format!("X-Forwarded-Port: {port}"),
            format!("X-Forwarded-Proto: {scheme}"),
        ]
    );
}

#[test]
fn a_client_behind_nobody_cannot_choose_its_address() {
    let servers = Servers::with(1, |farm| farm.set("http.trusted_proxies", "[\"10.0.0.0/8\"]"));
    let head = Head::new("BITS_POST", "/in/marked.bin")
        .field("Host", ORIGIN)
        .field("BITS-Packet-Type", "Ping")
        .field("X-Forwarded-For", "6.6.6.6")
        .field("Content-Length", 0);
    exchange(servers.farm.entrance(), &head.to_bytes()).expect("an answer");
    let gateway = servers.farm.gateway();
    let line = wait::some("the request is logged", || {
        gateway.access_log().into_iter().find(|line| line["path"] == "/in/marked.bin")
    });
    assert_eq!(line["client"], "127.0.0.1");
}
