use super::super::rig::{Rig, head};
use super::*;
use crate::guard::rig::conn_of;

const PEER: ([u8; 4], u16) = ([192, 0, 2, 7], 50_000);
const TRUSTED: &str = "trusted_proxies = [\"192.0.2.0/24\"]";

/// The client that is believed, of a request over a connection from [`PEER`].
#[track_caller]
fn check_client(more: &str, fields: &[(&str, &str)], client: [u8; 4]) {
    let rig = Rig::with(&format!("[http]\n{more}"));
    let http = &rig.farm.load().config.http;
    let (found, _) = Forwarding::of(http).client(&conn_of(PEER.into()), &head("GET", "/", fields));
    assert_eq!(found, Some(client.into()), "{more} {fields:?}");
}

#[test]
fn only_a_trusted_proxy_is_believed_who_its_client_is() {
    let told = [("X-Forwarded-For", "203.0.113.5")];
    check_client("", &told, PEER.0);
    check_client(TRUSTED, &told, [203, 0, 113, 5]);
    check_client(TRUSTED, &[], PEER.0);
    // What stands before the last address that is not ours may be invented.
    check_client(
        TRUSTED,
        &[("X-Forwarded-For", "10.0.0.1, 203.0.113.5, 192.0.2.9")],
        [203, 0, 113, 5],
    );
    let forwarded = format!("forwarded = \"forwarded\"\n{TRUSTED}");
    check_client(&forwarded, &[("Forwarded", "for=203.0.113.6;proto=https")], [203, 0, 113, 6]);
    check_client(&forwarded, &told, PEER.0);
}

/// The host that counts.
fn host(more: &str, fields: &[(&str, &str)]) -> Option<String> {
    let rig = Rig::with(&format!("[http]\n{more}"));
    let (head, conn) = (head("GET", "/", fields), conn_of(PEER.into()));
    let farm = rig.farm.load();
    let forwarding = Forwarding::of(&farm.config.http);
    forwarding
        .host(Some(&conn), &head)
        .expect("one host")
        .map(|host| String::from_utf8_lossy(host).into_owned())
}

#[test]
fn the_host_that_a_proxy_was_asked_for_counts_where_that_is_configured() {
    let told = [("X-Forwarded-Host", "front.test")];
    let ours = Some("up.test".to_owned());
    assert_eq!(host("", &told), ours);
    assert_eq!(host(TRUSTED, &told), ours);
    let both = format!("forwarded_host = true\n{TRUSTED}");
    assert_eq!(host(&both, &told), Some("front.test".to_owned()));
    assert_eq!(host(&both, &[]), ours);
}

#[test]
fn the_last_word_of_a_trusted_proxy_on_the_scheme_counts() {
    let rig = Rig::with(&format!("[http]\n{TRUSTED}"));
    let farm = rig.farm.load();
    let forwarding = Forwarding::of(&farm.config.http);
    let scheme = |from: [u8; 4], said: &str| {
        forwarding
            .scheme(&conn_of((from, 1).into()), &head("GET", "/", &[("X-Forwarded-Proto", said)]))
    };
    assert_eq!(scheme(PEER.0, "https"), "https");
    assert_eq!(scheme(PEER.0, "https, HTTP"), "http");
    assert_eq!(scheme(PEER.0, "gopher"), "http");
    assert_eq!(scheme([198, 51, 100, 1], "https"), "http");
}

/// What a request of the gateway's own says of its client.
fn told(more: &str, conn: Option<&Conn>) -> Vec<String> {
    let rig = Rig::with(&format!("[http]\n{more}"));
    let invented = [("X-Forwarded-For", "203.0.113.5"), ("X-Real-IP", "203.0.113.6")];
    let http = &rig.farm.load().config.http;
    let told = told_with(&head("GET", "/", &invented), conn, http);
    told.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect()
}

#[test]
fn a_request_of_our_own_tells_of_its_client_what_is_known() {
    let conn = conn_of(PEER.into());
    assert!(told("", Some(&conn)).contains(&"x-forwarded-for: 192.0.2.7".to_owned()));
    let by_proxy = told(TRUSTED, Some(&conn));
    assert!(
        by_proxy.contains(&"x-forwarded-for: 203.0.113.5, 192.0.2.7".to_owned()),
        "{by_proxy:?}"
    );
    for nobody in [told("", None), told("forwarded = \"off\"", Some(&conn))] {
        assert!(nobody.iter().all(|field| !field.contains("192.0.2.7")), "{nobody:?}");
    }
}
