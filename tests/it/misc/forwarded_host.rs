//! A proxy in front that replaces Host by a name of its own, and says which one its client asked for.

use std::process::Command;

use e2e_tests::binaries;
use e2e_tests::client::exchange;
use e2e_tests::data::Content;
use e2e_tests::farm::{Farm, FarmBuilder, ORIGIN};

use crate::packets::{Packet, Servers, TARGET, close, create, fragment, ping, session_of};

/// What the proxy calls the gateway.
const INNER: &str = "gateway.internal";

const ON: &[(&str, &str)] =
    &[("http.forwarded_host", "true"), ("http.trusted_proxies", "[\"127.0.0.1\"]")];

fn with(settings: &[(&str, &str)], farm: FarmBuilder) -> FarmBuilder {
    let farm = farm
        .set("affinity.host_id_domain", "\"up.test\"")
        .set("http.hosts", &format!("[\"{ORIGIN}\"]"))
        .set("http.upstream_host", "\"preserve\"");
    settings.iter().fold(farm, |farm, (key, value)| farm.set(key, value))
}

fn servers(settings: &[(&str, &str)]) -> Servers {
    Servers::with(2, |farm| with(settings, farm))
}

fn named(packet: Packet, x: &str, forwarded: &str) -> Packet {
    let packet = packet.at(INNER);
    let packet = if x.is_empty() { packet } else { packet.with("X-Forwarded-Host", x) };
    if forwarded.is_empty() { packet } else { packet.with("Forwarded", forwarded) }
}

#[test]
fn the_host_that_a_trusted_proxy_names_counts_and_no_server_gets_it() {
    let servers = servers(ON);
    for (x, forwarded) in [
        (ORIGIN, ""),
        ("evil.test, up.test:8443", ""),
        ("", "for=203.0.113.5;host=up.test;proto=https"),
        ("", "host=evil.test, for=203.0.113.5;host=\"UP.test:443\""),
        (ORIGIN, "host=up.test"),
        (ORIGIN, "for=203.0.113.5"),
    ] {
        let (_, seen, _) = servers.passes(&named(ping(TARGET), x, forwarded));
        assert_eq!(seen.field("Host"), Some(INNER), "{x:?} {forwarded:?}");
    }
    // A host id leads to its server.
    for (number, alias) in ["up01.up.test", "up02.up.test"].into_iter().enumerate() {
        for packet in
            [named(ping(TARGET), alias, ""), named(ping(TARGET), "", &format!("host={alias}"))]
        {
            assert_eq!(servers.passes(&packet).0, number, "{alias}");
        }
    }
    // Where the proxy names none, Host counts.
    servers.passes(&ping(TARGET));
    assert_eq!(servers.stays(&named(ping(TARGET), "", "")).status, 400);
}

#[test]
fn what_names_two_hosts_or_none_is_refused() {
    let servers = servers(ON);
    for (x, forwarded) in [
        (ORIGIN, "host=up01.up.test"),
        ("evil.test", ""),
        ("up.test, evil.test", ""),
        ("", "host=evil.test"),
        ("user@up.test", ""),
        ("up.test/x", ""),
        ("", "host=\"up.test"),
        ("", "host=up.test;host=up.test"),
    ] {
        let answer = servers.stays(&named(ping(TARGET), x, forwarded));
        assert_eq!(answer.status, 400, "{x:?} {forwarded:?}: {}", answer.head);
        let plain = servers.ask_bytes(
            format!(
                "GET /a HTTP/1.1\r\nHost: {ORIGIN}\r\nX-Forwarded-Host: {x}\r\nForwarded: {forwarded}\r\n\r\n"
            )
            .as_bytes(),
        );
        assert_eq!(plain.status, 400, "{x:?} {forwarded:?}: {}", plain.head);
    }
}

/// Threat: T2.
#[test]
fn a_host_that_an_untrusted_client_names_is_ignored() {
    let off: &[(&str, &str)] = &[("http.trusted_proxies", "[\"127.0.0.1\"]")];
    let strangers: &[(&str, &str)] =
        &[("http.forwarded_host", "true"), ("http.trusted_proxies", "[\"192.0.2.1\"]")];
    for settings in [off, strangers] {
        let servers = servers(settings);
        assert_eq!(servers.stays(&named(ping(TARGET), ORIGIN, "")).status, 400);
        assert_eq!(servers.stays(&named(ping(TARGET), "", "host=up.test")).status, 400);
        // What it says of another host does not count against its own.
        let packet = ping(TARGET).with("X-Forwarded-Host", "evil.test");
        servers.passes(&packet.with("Forwarded", "host=up02.up.test"));
    }
}

#[test]
fn an_upload_over_such_a_proxy_arrives_also_by_its_host_id() {
    let farm = with(ON, Farm::of_stubs(2)).start();
    let content = Content::seeded(3, 6);
    let mut bytes = vec![0; 6];
    content.read_at(0, &mut bytes);
    let ask = |host: &str, packet: Packet| {
        let answer =
            exchange(farm.entrance(), &named(packet, host, "").bytes()).expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.head);
        answer
    };
    let opened = ask(ORIGIN, create(TARGET));
    let id = session_of(&opened);
    let alias = opened.field("BITS-Host-Id").expect("a host id").to_owned();
    ask(&alias, fragment(TARGET, &id, "bytes 0-2/6", &bytes[..3]));
    // The table is lost, and the name is left.
    farm.gateway().terminate();
    std::fs::remove_dir_all(farm.directory().join("store")).expect("there is a store");
    farm.gateway().start();
    ask(&alias, fragment(TARGET, &id, "bytes 3-5/6", &bytes[3..]));
    ask(&alias, close(TARGET, &id));
    farm.expect_stored(TARGET, &content);
    farm.expect_healthy();
    farm.gateway().expect_logged("http.forwarded_host");
}

#[test]
fn the_check_names_it() {
    let check = |settings: &[(&str, &str)]| {
        let farm = with(settings, Farm::of_stubs(1)).start();
        let output = Command::new(binaries::gateway())
            .args(["check", "--portable", "--config"])
            .arg(farm.gateway().config_file())
            .output()
            .expect("the gateway's binary runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (text(&output.stdout), text(&output.stderr))
    };
    let (summary, _) = check(ON);
    assert!(summary.contains("as a trusted proxy says in X-Forwarded-Host"), "{summary}");
    let (summary, findings) = check(&[("http.forwarded_host", "true")]);
    assert!(summary.contains("X-Forwarded-Host"), "{summary}");
    assert!(findings.contains("`http.forwarded_host` has no effect"), "{findings}");
    let (summary, _) = check(&[]);
    assert!(!summary.contains("X-Forwarded-Host"), "{summary}");
}
