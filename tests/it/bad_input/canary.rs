//! Nothing that a client or a backend says becomes an address.

use std::net::{SocketAddr, TcpListener, TcpStream};

use e2e_tests::client::packet::PROTOCOL;
use e2e_tests::client::{Answer, exchange};
use e2e_tests::raw_backend::{RawBackend, Reply};

use super::rig::{ALLOWED, FORBIDDEN, Refusal, Rig};

/// A listener that nobody may reach.
struct Canary(TcpListener);

impl Canary {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
        listener.set_nonblocking(true).expect("a socket takes flags");
        Self(listener)
    }

    fn address(&self) -> SocketAddr {
        self.0.local_addr().expect("a bound socket has an address")
    }

    #[track_caller]
    fn expect_silent(&self, after: &str) {
        let visit = self.0.accept();
        assert!(visit.is_err(), "{after:?} led to {visit:?}");
    }
}

/// Item 66.
///
/// Threat: T2.
#[test]
fn t2_no_request_reaches_an_address_of_its_own_choice() {
    reaches_no_address_of_its_own_choice(&Rig::start());
}

/// Item 66.
///
/// Threat: T2.
#[test]
fn no_request_that_a_trusted_proxy_passes_on_reaches_an_address_of_its_own_choice() {
    // What such a proxy says of the client's Host is kept.
    let trusting = Rig::with(|farm| {
        farm.set("http.trusted_proxies", "[\"127.0.0.0/8\"]").set("http.forwarded", "\"both\"")
    });
    reaches_no_address_of_its_own_choice(&trusting);
    let kept = trusting.backend.requests().iter().any(|request| {
        request.field("X-Forwarded-Host").is_some_and(|host| host.starts_with("127.0.0.1:"))
    });
    assert!(kept, "what would lead there never came through");
}

fn reaches_no_address_of_its_own_choice(rig: &Rig) {
    let canary = Canary::new();
    let it = canary.address();
    let packet = |target: &str, host: &str, line: &str| {
        format!(
            "BITS_POST {target} HTTP/1.1\r\nHost: {host}\r\nBITS-Packet-Type: Ping\r\n{line}\
            Content-Length: 0\r\n\r\n"
        )
    };
    let host = it.to_string();
    for input in [
        packet(ALLOWED, &host, ""),
        packet(&format!("http://{host}{ALLOWED}"), &host, ""),
        packet(&format!("https://{host}{ALLOWED}"), &host, ""),
        packet(ALLOWED, "up.test", &format!("BITS-Host-Id: {host}\r\n")),
        packet(
            ALLOWED,
            "up.test",
            &format!("BITS-Host-Id: 127.0.0.1\r\nX-Forwarded-Port: {}\r\n", it.port()),
        ),
        packet(
            ALLOWED,
            "up.test",
            &format!("X-Forwarded-Host: {host}\r\nX-Forwarded-Server: {host}\r\n"),
        ),
        packet(
            ALLOWED,
            "up.test",
            &format!("X-Original-URL: http://{host}/\r\nX-Rewrite-URL: http://{host}/\r\n"),
        ),
        packet(
            ALLOWED,
            "up.test",
            &format!("Forwarded: host={host};proto=http\r\nX-Host: {host}\r\n"),
        ),
        packet(
            ALLOWED,
            "up.test",
            &format!("BITS-Reply-URL: http://{host}/\r\nLocation: http://{host}/\r\n"),
        ),
        packet(
            ALLOWED,
            "up.test",
            &format!("X-Real-IP: {host}\r\nClient-IP: {host}\r\nReferer: http://{host}/\r\n"),
        ),
        packet(ALLOWED, "up.test", &format!("BITS-Session-Id: {host}\r\n")),
    ] {
        rig.passes(&input);
        canary.expect_silent(&input);
    }
    for input in [
        packet(&format!("http://{host}{FORBIDDEN}"), "up.test", ""),
        packet(&format!("http://up.test@{host}{FORBIDDEN}"), &host, ""),
        packet(FORBIDDEN, &format!("up.test@{host}"), ""),
        packet(FORBIDDEN, &format!("up.test,{host}"), ""),
        packet(FORBIDDEN, "up.test", &format!("Host: {host}\r\n")),
    ] {
        rig.refuses(Refusal::Ack(400), &input);
        canary.expect_silent(&input);
    }
    let connect = format!("CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    rig.refuses(Refusal::Plain(501), &connect);
    // An unknown session at an unknown host has no address either.
    let stranger = format!(
        "BITS_POST {FORBIDDEN} HTTP/1.1\r\nHost: {host}\r\nBITS-Packet-Type: Close-Session\r\n\
        BITS-Session-Id: {{x}}\r\nContent-Length: 0\r\n\r\n"
    );
    let answer = exchange(rig.farm.entrance(), stranger.as_bytes()).expect("an answer");
    assert_eq!((answer.status, answer.field("BITS-Error")), (500, Some("0x8020001F")));
    canary.expect_silent(&stranger);
    // The canary sings when it is visited.
    let _visit = TcpStream::connect(it).expect("the canary listens");
    e2e_tests::wait::until("the canary is heard", || canary.0.accept().is_ok());
}

/// Item 66.
#[test]
fn with_names_configured_other_hosts_are_refused() {
    let (rig, canary) = (Rig::with(|farm| farm.set("http.hosts", "[\"up.test\"]")), Canary::new());
    let packet = |host: &str, target: &str| {
        format!(
            "BITS_POST {target} HTTP/1.1\r\nHost: {host}\r\nBITS-Packet-Type: Ping\r\nContent-Length: 0\r\n\r\n"
        )
    };
    for host in [
        canary.address().to_string(),
        "evil.test".to_owned(),
        "xup.test".to_owned(),
        "up.test.evil.test".to_owned(),
        "up02.up.test".to_owned(),
        "up.tes".to_owned(),
        "localhost".to_owned(),
        "127.0.0.1".to_owned(),
        "[::1]".to_owned(),
    ] {
        let before = rig.heard();
        let answer =
            exchange(rig.farm.entrance(), packet(&host, FORBIDDEN).as_bytes()).expect("an answer");
        assert_eq!(
            (answer.status, answer.field("BITS-Error")),
            (400, Some("0x80070057")),
            "{host}"
        );
        assert_eq!(rig.heard(), before, "{host}");
        let get = format!("GET {FORBIDDEN} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let answer = exchange(rig.farm.entrance(), get.as_bytes()).expect("an answer");
        assert_eq!((answer.status, answer.field("BITS-Error")), (400, None), "{host}");
        assert_eq!(rig.heard(), before, "{host}");
        canary.expect_silent(&host);
    }
    for host in ["up.test", "UP.test.", "up.test:8080", "up01.up.test"] {
        rig.passes(&packet(host, ALLOWED));
    }
    rig.upload_works("foreign hosts");
}

/// Item 64.
#[test]
fn no_answer_of_a_backend_becomes_an_address_or_sends_the_client_away() {
    let canary = Canary::new();
    let host = canary.address().to_string();
    let says = host.clone();
    let backend = RawBackend::answering(move |request| {
        let away = format!("http://{says}/");
        let mut fields = vec![
            ("BITS-Host-Id", &*says),
            ("BITS-Host-Id-Fallback-Timeout", "1"),
            ("BITS-Reply-URL", &*away),
            ("Location", &*away),
            ("Alt-Svc", "h2=\":1\""),
        ];
        if request.packet_type() == "create-session" {
            fields.extend([("BITS-Protocol", PROTOCOL), ("BITS-Session-Id", "{x}")]);
        }
        Reply::ack("200 OK", &fields)
    });
    let rig = Rig::of(backend, |farm| farm);
    let ask = |lines: &str| -> Answer {
        let input = format!("BITS_POST {ALLOWED} HTTP/1.1\r\nHost: up.test\r\n{lines}\r\n\r\n");
        exchange(rig.farm.entrance(), input.as_bytes()).expect("an answer")
    };
    let create =
        format!("BITS-Packet-Type: Create-Session\r\nBITS-Supported-Protocols: {PROTOCOL}");
    let opened = ask(&create);
    assert_eq!(opened.field("BITS-Host-Id"), Some("up01.up.test"), "{}", opened.head);
    assert_eq!(opened.fields_named("BITS-Host-Id").count(), 1);
    assert_eq!(opened.field("BITS-Host-Id-Fallback-Timeout"), Some("900"));
    for lines in
        ["BITS-Packet-Type: Ping", "BITS-Packet-Type: Close-Session\r\nBITS-Session-Id: {x}"]
    {
        let answer = ask(lines);
        assert_eq!((answer.status, answer.field("BITS-Host-Id")), (200, None), "{}", answer.head);
        assert_eq!(answer.field("BITS-Host-Id-Fallback-Timeout"), None);
    }
    canary.expect_silent("the backend");
}
