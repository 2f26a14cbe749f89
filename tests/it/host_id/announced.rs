//! What Acks say about hosts: items 61 to 64.

use std::process::Command;

use e2e_tests::binaries;
use e2e_tests::client::{AckRules, Answer, PacketType};
use e2e_tests::farm::{Farm, FarmBuilder, Stub};
use e2e_tests::raw_backend::{RawBackend, Reply};
use e2e_tests::temp::TempDir;

use crate::packets::{
    Servers, TARGET, cancel, close, create, created, expect_not_found, fragment, ping,
};

/// Host-Id and fallback timeout of an answer, of which there is at most one each.
#[track_caller]
fn pair(answer: &Answer) -> (Option<&str>, Option<&str>) {
    let one = |name: &str| {
        assert!(answer.fields_named(name).count() <= 1, "{}", answer.head);
        answer.field(name)
    };
    (one("BITS-Host-Id"), one("BITS-Host-Id-Fallback-Timeout"))
}

/// The pair in the Acks of one Create-Session per server, in the order of the servers.
#[track_caller]
fn announced(servers: &Servers) -> Vec<(Option<String>, Option<String>)> {
    let owned = |(host, timeout): (Option<&str>, Option<&str>)| {
        (host.map(str::to_owned), timeout.map(str::to_owned))
    };
    let ask = |number: usize| {
        let (backend, _, answer) = servers.passes(&create(TARGET));
        assert_eq!(backend, number, "new sessions are placed in turn");
        AckRules::farm().expect(PacketType::CreateSession, &answer);
        owned(pair(&answer))
    };
    (0..servers.backends.len()).map(ask).collect()
}

fn some(host: &str, timeout: &str) -> (Option<String>, Option<String>) {
    (Some(host.to_owned()), Some(timeout.to_owned()))
}

/// Item 61.
#[test]
fn a_create_ack_announces_what_is_configured() {
    let derived = Servers::with(2, |farm| farm.set("affinity.fallback_timeout", "\"2h\""));
    assert_eq!(announced(&derived), [some("up01.up.test", "7200"), some("up02.up.test", "7200")]);

    let named = Servers::with(2, |farm| {
        farm.unset("affinity.fallback_timeout").set_backend("up02", "host_id", "\"N2.Other.test\"")
    });
    // As it is written in the configuration, and 15 minutes by default.
    assert_eq!(announced(&named), [some("up01.up.test", "900"), some("N2.Other.test", "900")]);

    let gateway = Servers::with(2, |farm| {
        farm.set("affinity.host_id", "\"gateway\"")
            .set("affinity.gateway_name", "\"gw1.up.test\"")
            .unset("affinity.host_id_domain")
    });
    assert_eq!(announced(&gateway), [some("gw1.up.test", "900"), some("gw1.up.test", "900")]);

    let direct = Servers::with(2, |farm| {
        farm.set("affinity.host_id", "\"direct\"")
            .unset("affinity.host_id_domain")
            .set_backend("up01", "public_name", "\"one.test\"")
            .set_backend("up02", "public_name", "\"two.test\"")
    });
    assert_eq!(announced(&direct), [some("one.test", "900"), some("two.test", "900")]);

    let none = Servers::with(2, FarmBuilder::without_host_ids);
    assert_eq!(announced(&none), [(None, None), (None, None)]);

    // A domain is reason enough to announce names.
    let default = Servers::with(1, |farm| farm.unset("affinity.host_id"));
    assert_eq!(announced(&default), [some("up01.up.test", "900")]);
}

/// Item 61.
#[test]
fn a_create_answered_201_is_a_success_too() {
    let farm = Farm::of_stubs(1).each_stub(&["--create-status", "201"]).start();
    let answer = e2e_tests::client::exchange(farm.entrance(), &create(TARGET).bytes());
    let answer = answer.expect("an answer");
    assert_eq!((answer.status, pair(&answer)), (201, (Some("up01.up.test"), Some("900"))));
}

/// Item 61.
#[test]
fn errors_and_later_acks_announce_nothing() {
    // The first session is opened, all others are refused in one way or another.
    let refusals = [
        Reply::ack("403 X", &[("BITS-Error", "0x80070005"), ("BITS-Error-Context", "0x5")]),
        Reply::ack("409 X", &[]),
        Reply::ack("500 X", &[("BITS-Error", "0x80200020"), ("BITS-Error-Context", "0x5")]),
        Reply::raw("HTTP/1.1 404 X\r\nContent-Type: text/html\r\nContent-Length: 2\r\n\r\nno"),
        Reply::raw("HTTP/1.1 401 X\r\nWWW-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n"),
        Reply::SendAndClose(Vec::new()),
    ];
    let expected = [403, 409, 500, 404, 401, 502];
    let count = std::sync::atomic::AtomicUsize::new(0);
    let agree = e2e_tests::raw_backend::agree();
    let backend = RawBackend::answering(move |request| match &*request.packet_type() {
        "create-session" => match count.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
            0 => created("{3F9C1E52-7B0D-4E7A-9C44-0D5B6A1E8F21}"),
            n => refusals[n - 1].clone(),
        },
        _ => agree(request),
    });
    let servers = Servers::of(vec![backend], |farm| farm);
    let (id, _) = servers.open(TARGET);
    for status in expected {
        let answer = servers.ask(&create(TARGET));
        assert_eq!((answer.status, pair(&answer)), (status, (None, None)), "{}", answer.head);
    }
    // The gateway's own refusals.
    let malformed = create(TARGET).bytes();
    let malformed = String::from_utf8_lossy(&malformed).replace("BITS-Supported", "X-Supported");
    let answer = servers.ask_bytes(malformed.as_bytes());
    assert_eq!((answer.status, pair(&answer)), (400, (None, None)));
    let stranger = servers.ask(&cancel(TARGET, "stranger"));
    expect_not_found(PacketType::CancelSession, &stranger);
    assert_eq!(pair(&stranger), (None, None));
    for packet in [ping(TARGET), fragment(TARGET, &id, "bytes 0-2/3", b"abc"), close(TARGET, &id)] {
        let (_, _, answer) = servers.passes(&packet);
        assert_eq!(pair(&answer), (None, None), "{}", answer.head);
    }
}

/// Item 62.
#[test]
fn a_host_id_is_a_bare_host_of_up_to_300_characters() {
    // 300 characters, in labels that DNS would allow.
    let long = format!("{}{}", "abcdefghi.".repeat(29), "abcdefghij");
    assert_eq!(long.len(), 300);
    let address = "[2001:db8::17]";
    let servers = Servers::with(3, |farm| {
        farm.set_backend("up01", "host_id", &format!("\"{long}\""))
            .set_backend("up02", "host_id", &format!("\"{address}\""))
            .set_backend("up03", "host_id", "\"192.0.2.7\"")
    });
    // The listener's port is none of 80, and none is announced.
    let expected = [some(&long, "900"), some(address, "900"), some("192.0.2.7", "900")];
    assert_eq!(announced(&servers), expected);
    // Such names lead to their backends, with the port that the client adds and without.
    for (number, name) in [&*long, address, "192.0.2.7"].into_iter().enumerate() {
        for host in [name.to_owned(), format!("{name}:8080")] {
            assert_eq!(servers.passes(&ping(TARGET).at(&host)).0, number, "{host}");
        }
    }
}

/// Item 62.
#[test]
fn names_that_are_no_bare_host_are_refused_in_the_configuration() {
    let long = "x".repeat(301);
    for name in [
        "http://up01.up.test",
        "up01.up.test:8080",
        "up01.up.test/in",
        "[2001:db8::17]:80",
        "user@up01.up.test",
        "up01 up.test",
        "",
        &long,
    ] {
        let backend = format!("host_id = \"{name}\"");
        assert_eq!(checked("fallback_timeout = \"15m\"", &backend), Some(78), "{name:?}");
    }
    assert_eq!(checked("fallback_timeout = \"15m\"", "host_id = \"up01.up.test\""), Some(0));
}

/// Item 63.
#[test]
fn the_fallback_timeout_is_a_decimal_number_of_seconds() {
    for (configured, sent) in [
        ("1s", "1"),
        ("90s", "90"),
        ("1h 30m", "5400"),
        ("14d", "1209600"),
        ("4294967295s", "4294967295"),
    ] {
        let value = format!("\"{configured}\"");
        let servers = Servers::with(1, |farm| farm.set("affinity.fallback_timeout", &value));
        assert_eq!(announced(&servers), [some("up01.up.test", sent)], "{configured}");
    }
    for refused in ["0s", "4294967296s", "500ms", "1500ms", "900", "-1s"] {
        let affinity = format!("fallback_timeout = \"{refused}\"");
        assert_eq!(checked(&affinity, "host_id = \"up01.up.test\""), Some(78), "{refused}");
    }
}

/// Item 64.
#[test]
fn a_backends_own_host_id_never_reaches_the_client() {
    let own: &[&str] = &["--host-id", "private.test", "--host-id-fallback-timeout", "77"];
    let ask = |farm: &Farm| {
        let answer = e2e_tests::client::exchange(farm.entrance(), &create(TARGET).bytes());
        let answer = answer.expect("an answer");
        assert_eq!(answer.status, 200);
        assert!(!answer.head.contains("private.test"), "{}", answer.head);
        answer
    };
    let farm = Farm::of_stubs(1).each_stub(own).start();
    assert_eq!(pair(&ask(&farm)), (Some("up01.up.test"), Some("900")));
    let farm = Farm::of_stubs(1).each_stub(own).without_host_ids().start();
    assert_eq!(pair(&ask(&farm)), (None, None));
    // The server does say it.
    let direct = e2e_tests::client::exchange(Stub::address(farm.stub(0)), &create(TARGET).bytes());
    assert_eq!(pair(&direct.expect("an answer")), (Some("private.test"), Some("77")));
}

/// Item 64.
#[test]
fn a_host_id_in_any_other_answer_is_removed_too() {
    let both = "BITS-Host-Id: private.test\r\nbits-host-id-fallback-timeout: 77\r\n";
    let agree = e2e_tests::raw_backend::agree();
    let backend = RawBackend::answering(move |request| {
        let status = match (&*request.packet_type(), request.target()) {
            ("create-session", "/in/refused.bin") => "403 No",
            ("ping", "/in/refused.bin") => "500 No",
            _ => "200 OK",
        };
        let Reply::Send(bytes) = agree(request) else { panic!("an answer is sent") };
        let text = String::from_utf8_lossy(&bytes).replacen("200 OK", status, 1);
        Reply::raw(&text.replacen("\r\n", &format!("\r\n{both}"), 1))
    });
    let servers = Servers::of(vec![backend], |farm| farm);
    let (id, _) = servers.open(TARGET);
    for packet in [
        create("/in/refused.bin"),
        ping(TARGET),
        ping("/in/refused.bin"),
        fragment(TARGET, &id, "bytes 0-2/3", b"abc"),
        close(TARGET, &id),
    ] {
        let before = servers.counts();
        let answer = servers.ask(&packet);
        servers.only_one_since(&before);
        assert_eq!(pair(&answer), (None, None), "{}", answer.head);
    }
}

/// The exit status of `bits-gateway check` for a configuration with these lines in `[affinity]` and the only backend.
#[track_caller]
fn checked(affinity: &str, backend: &str) -> Option<i32> {
    let directory = TempDir::new("check");
    let file = directory.join("gateway.toml");
    let text = format!(
        "[listeners.public]\naddress = \"127.0.0.1:8080\"\n[affinity]\n{affinity}\n\
         [[backends]]\nname = \"up01\"\naddress = \"127.0.0.1:8081\"\n{backend}\n"
    );
    std::fs::write(&file, text).expect("a temporary file can be written");
    let mut command = Command::new(binaries::gateway());
    let output = command.args(["check", "--portable", "--config"]).arg(&file).output();
    output.expect("the gateway can be started").status.code()
}
