//! Logins on connections that carry the requests of many clients, as those of a proxy do: threat T4.

use e2e_tests::client::{Answer, Connection, PacketType};
use e2e_tests::farm::FarmBuilder;
use e2e_tests::raw_backend::{Reply, Request};
use e2e_tests::wait;

use super::server::{Guarded, claimed, first_leg, last_leg, log_in};
use crate::packets::{Packet, TARGET, expect_not_now, ping};

/// Clients as a proxy names them.
const ALICE: &str = "203.0.113.5";
const BOB: &str = "203.0.113.6";
const STRANGER: &str = "198.51.100.7";

/// The harness is a proxy in front of the gateway.
fn trusted(farm: FarmBuilder) -> FarmBuilder {
    farm.set("http.trusted_proxies", "[\"127.0.0.1\", \"10.0.0.0/8\"]")
}

fn of(client: &str) -> Packet {
    ping(TARGET).with("X-Forwarded-For", client)
}

fn challenges(answer: &Answer) -> Vec<&str> {
    answer.fields_named("WWW-Authenticate").collect()
}

#[track_caller]
fn ask(connection: &mut Connection, packet: &Packet, user: &str) -> Answer {
    connection.exchange(&claimed(packet, user).bytes()).expect("an answer")
}

#[track_caller]
fn expect_status(connection: &mut Connection, packet: &Packet, user: &str, status: u16) {
    let answer = ask(connection, packet, user);
    assert_eq!(answer.status, status, "{user}: {}", answer.head);
}

/// The answer offers what proves each request by itself, and nothing that logs a connection in.
#[track_caller]
fn expect_unnamed(connection: &mut Connection, packet: &Packet) {
    let answer = ask(connection, packet, "nobody");
    assert_eq!((answer.status, &*answer.body_text()), (401, "login"), "{packet:?}");
    assert_eq!(challenges(&answer), ["Basic realm=\"a, b\""], "{packet:?}");
}

#[track_caller]
fn logged_in(connection: &mut Connection, packet: &Packet, user: &str) {
    let answer = log_in(connection, packet, user).expect("a login");
    assert_eq!(answer.status, 200, "{}", answer.head);
}

fn bound(guarded: &Guarded) -> f64 {
    guarded.servers.farm.metric("bitsgw_bound_connections", &[])
}

/// The server's connection over which the last request came.
fn last_connection(guarded: &Guarded) -> usize {
    guarded.servers.last_request(0).connection
}

/// Item 90.
///
/// Threat: T4.
#[test]
fn strangers_on_the_connection_of_a_trusted_proxy_are_not_served_as_one_who_logged_in() {
    let guarded = Guarded::start(trusted);
    let mut proxy = guarded.servers.connect();
    logged_in(&mut proxy, &of(ALICE), "alice");
    let hers = last_connection(&guarded);
    for number in 0..20 {
        let stranger = of(&format!("198.51.100.{number}"));
        expect_status(&mut proxy, &stranger, "stranger", 401);
        assert_ne!(last_connection(&guarded), hers);
    }
    // A request that names nobody is nobody's.
    expect_unnamed(&mut proxy, &ping(TARGET));
    expect_status(&mut proxy, &of(ALICE), "alice", 200);
    assert_eq!(last_connection(&guarded), hers);
    assert_eq!(bound(&guarded), 1.0);
    drop(proxy);
    guarded.servers.backends[0].ended(hers);
    wait::until("nothing is bound", || bound(&guarded) == 0.0);
    guarded.expect_clean();
}

/// Item 90.
///
/// Threat: T4.
#[test]
fn two_clients_log_in_at_once_over_one_connection_of_a_trusted_proxy() {
    let guarded = Guarded::start(trusted);
    let mut proxy = guarded.servers.connect();
    let users = [("alice", ALICE), ("bob", BOB), ("carol", "[2001:db8::1]:4711")];
    let mut nonces = Vec::new();
    for (user, client) in users {
        nonces.push(first_leg(&mut proxy, &of(client), user).expect("a challenge"));
    }
    for ((user, client), nonce) in users.iter().zip(&nonces) {
        let answer = proxy.exchange(&last_leg(&of(client), user, nonce).bytes());
        assert_eq!(answer.expect("an answer").status, 200, "{user}");
    }
    let mut connections = Vec::new();
    for round in 0..3 {
        for (user, client) in users {
            expect_status(&mut proxy, &of(client), user, 200);
            connections.push(last_connection(&guarded));
            expect_status(&mut proxy, &of(STRANGER), "stranger", 401);
        }
        assert_eq!(connections[round * 3..], connections[..3]);
    }
    assert_eq!(bound(&guarded), 3.0);
    // The same address and another port are another client, where the proxy tells ports.
    expect_status(&mut proxy, &of("[2001:db8::1]:4712"), "dave", 401);
    guarded.expect_clean();
}

/// Item 90.
///
/// Threat: T4.
#[test]
fn a_login_that_a_proxy_goes_on_with_for_another_client_fails() {
    let guarded = Guarded::start(trusted);
    let mut proxy = guarded.servers.connect();
    let nonce = first_leg(&mut proxy, &of(ALICE), "alice").expect("a challenge");
    let stolen = last_leg(&of(BOB), "alice", &nonce);
    assert_eq!(proxy.exchange(&stolen.bytes()).expect("an answer").status, 401);
    // It came over another connection than the first leg, and the server saw through it.
    assert_eq!(guarded.book().torn.len(), 1);
    expect_status(&mut proxy, &of(BOB), "bob", 401);
    let answer = proxy.exchange(&last_leg(&of(ALICE), "alice", &nonce).bytes());
    assert_eq!(answer.expect("an answer").status, 200);
    expect_status(&mut proxy, &of(BOB), "bob", 401);
    expect_status(&mut proxy, &of(ALICE), "alice", 200);
    assert!(guarded.book().leaks.is_empty(), "{:?}", guarded.book().leaks);
}

/// What a proxy writes, and whether it names one client by it.
const TRAILS: [(&[(&str, &str)], bool); 12] = [
    (&[("X-Forwarded-For", "203.0.113.5")], true),
    (&[("X-Forwarded-For", "203.0.113.5, 10.0.0.2")], true),
    (&[("X-Forwarded-For", "203.0.113.5"), ("Via", "1.1 front (Varnish, 7.1)")], true),
    // The client speaks for somebody else, so it is a proxy too.
    (&[("X-Forwarded-For", "192.168.0.5, 203.0.113.5")], false),
    (&[("X-Forwarded-For", "192.168.0.5"), ("X-Forwarded-For", "203.0.113.5")], false),
    (&[("X-Forwarded-For", "203.0.113.5"), ("Via", "1.1 squid, 1.1 varnish")], false),
    (&[("X-Forwarded-For", "unknown")], false),
    (&[("X-Forwarded-For", "10.0.0.2")], false),
    (&[("X-Forwarded-For", "")], false),
    // The other field counts, see `http.forwarded`.
    (&[("Forwarded", "for=203.0.113.5")], false),
    (&[("Via", "1.1 varnish")], false),
    (&[], false),
];

/// The same in the words of RFC 7239.
const FORWARDED: [(&[(&str, &str)], bool); 6] = [
    (&[("Forwarded", "for=203.0.113.5;proto=https")], true),
    (&[("Forwarded", "for=\"[2001:db8::1]:4711\", for=10.0.0.2")], true),
    (&[("Forwarded", "for=unknown")], false),
    (&[("Forwarded", "for=_hidden")], false),
    (&[("Forwarded", "for=192.168.0.5, for=203.0.113.5")], false),
    (&[("X-Forwarded-For", "203.0.113.5")], false),
];

/// Item 90.
///
/// Threat: T4.
#[test]
fn a_login_needs_a_client_that_a_trusted_proxy_names() {
    for (mode, trails) in [("x-forwarded-for", &TRAILS[..]), ("forwarded", &FORWARDED)] {
        let mode = format!("\"{mode}\"");
        let guarded = Guarded::start(|farm| trusted(farm).set("http.forwarded", &mode));
        for (fields, named) in trails {
            let packet =
                fields.iter().fold(ping(TARGET), |packet, (name, value)| packet.with(name, value));
            let mut proxy = guarded.servers.connect();
            if *named {
                logged_in(&mut proxy, &packet, "alice");
                expect_status(&mut proxy, &packet, "alice", 200);
            } else {
                expect_unnamed(&mut proxy, &packet);
            }
        }
        guarded.expect_clean();
    }
}

/// What a proxy that is not trusted, or a client, may write.
const WORDS: [(&str, &str); 7] = [
    ("X-Forwarded-For", "203.0.113.5"),
    ("Forwarded", "for=_hidden"),
    ("Via", "1.1 squid"),
    ("Via", ""),
    ("X-Real-IP", "203.0.113.5"),
    ("X_Forwarded_For", "203.0.113.5"),
    ("CDN-Loop", "cdn"),
];

/// Item 90.
///
/// Threat: T4.
#[test]
fn nobody_logs_a_connection_in_behind_a_proxy_that_is_not_trusted() {
    let guarded = Guarded::start(|farm| farm);
    for (name, value) in WORDS {
        let mut proxy = guarded.servers.connect();
        expect_unnamed(&mut proxy, &ping(TARGET).with(name, value));
        // Once is enough: the next request may be another client's.
        expect_unnamed(&mut proxy, &ping(TARGET));
    }
    assert_eq!(bound(&guarded), 0.0);
    guarded.expect_clean();
    let warnings = |log: &str| log.matches("http.trusted_proxies").count();
    wait::until("it is warned of", || warnings(&guarded.servers.farm.gateway().log()) > 0);
    assert_eq!(warnings(&guarded.servers.farm.gateway().log()), 1);
}

/// Item 90.
///
/// Threat: T4.
#[test]
fn without_any_other_scheme_a_client_behind_such_a_proxy_gets_502() {
    let only = |request: &Request| {
        let head = "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Negotiate, NTLM\r\n";
        let reply = Reply::raw(&format!("{head}Content-Length: 5\r\n\r\nlogin"));
        request.field("Authorization").is_none().then_some(reply)
    };
    let guarded = Guarded::with(only, |farm| farm);
    let mut proxy = guarded.servers.connect();
    let answer = ask(&mut proxy, &of(ALICE), "alice");
    expect_not_now(&[502], PacketType::Ping, &answer);
    assert_eq!(challenges(&answer), [""; 0]);
    let first = of(ALICE).with("Authorization", "NTLM first.alice");
    let answer = ask(&mut guarded.servers.connect(), &first, "alice");
    expect_not_now(&[502], PacketType::Ping, &answer);
    let rejected = [("reason", "login_shared")];
    wait::until("both are counted", || {
        guarded.servers.farm.metric("bitsgw_rejected_requests_total", &rejected) == 2.0
    });
    // Who comes without a proxy logs in as ever.
    let mut direct = guarded.servers.connect();
    let answer = ask(&mut direct, &ping(TARGET), "bob");
    assert_eq!(challenges(&answer), ["Negotiate, NTLM"]);
}

/// Kerberos logs in with one leg, and servers may believe the connection from then on.
///
/// Item 90.
///
/// Threat: T4.
#[test]
fn credentials_of_nobody_known_go_over_a_connection_that_serves_nobody_else() {
    let guarded = Guarded::start(|farm| farm);
    let mut proxy = guarded.servers.connect();
    for _ in 0..3 {
        // This server lets such a login be made in one leg.
        let ticket = of(ALICE).with("Authorization", "NTLM last.alice");
        expect_status(&mut proxy, &ticket, "alice", 200);
        let hers = last_connection(&guarded);
        for _ in 0..5 {
            expect_unnamed(&mut proxy, &of(STRANGER));
            expect_unnamed(&mut guarded.servers.connect(), &ping(TARGET).with("Via", "1.1 x"));
            assert_ne!(last_connection(&guarded), hers);
        }
        guarded.servers.backends[0].ended(hers);
    }
    guarded.expect_clean();
}

/// Item 90.
///
/// Threat: T4.
#[test]
fn a_login_ends_when_its_connection_turns_out_to_be_shared() {
    for (name, value) in WORDS {
        let guarded = Guarded::start(|farm| farm);
        let mut proxy = guarded.servers.connect();
        logged_in(&mut proxy, &ping(TARGET), "alice");
        let hers = last_connection(&guarded);
        expect_unnamed(&mut proxy, &ping(TARGET).with(name, value));
        guarded.servers.backends[0].ended(hers);
        expect_unnamed(&mut proxy, &ping(TARGET));
        // In the middle of it just the same.
        let mut proxy = guarded.servers.connect();
        let nonce = first_leg(&mut proxy, &ping(TARGET), "bob").expect("a challenge");
        let his = last_connection(&guarded);
        let last = last_leg(&ping(TARGET), "bob", &nonce).with(name, value);
        let answer = proxy.exchange(&last.bytes()).expect("an answer");
        expect_not_now(&[502], PacketType::Ping, &answer);
        guarded.servers.backends[0].ended(his);
        assert_eq!(guarded.book().torn.len(), 1, "{name}");
        assert!(guarded.book().leaks.is_empty(), "{name}: {:?}", guarded.book().leaks);
        wait::until("nothing is bound", || bound(&guarded) == 0.0);
    }
}

/// Item 90.
///
/// Threat: T4.
#[test]
fn a_login_ends_when_its_proxy_is_trusted_no_more_or_from_now_on() {
    let guarded = Guarded::start(|farm| farm);
    let gateway = guarded.servers.farm.gateway();
    let trust = |networks: &str| {
        gateway.configure(|settings| settings.set("http.trusted_proxies", networks));
        assert!(gateway.reload());
    };
    let mut proxy = guarded.servers.connect();
    logged_in(&mut proxy, &ping(TARGET), "alice");
    let direct = last_connection(&guarded);
    trust("[\"127.0.0.1\"]");
    expect_status(&mut proxy, &of(ALICE), "stranger", 401);
    guarded.servers.backends[0].ended(direct);
    expect_unnamed(&mut proxy, &ping(TARGET));
    logged_in(&mut proxy, &of(ALICE), "alice");
    let hers = last_connection(&guarded);
    trust("[]");
    expect_unnamed(&mut proxy, &of(ALICE));
    guarded.servers.backends[0].ended(hers);
    // Many may have come this way meanwhile.
    expect_unnamed(&mut proxy, &ping(TARGET));
    trust("[\"127.0.0.1\"]");
    expect_status(&mut proxy, &of(ALICE), "stranger", 401);
    logged_in(&mut proxy, &of(ALICE), "alice");
    guarded.expect_clean();
}

/// Item 90.
///
/// Threat: T4.
#[test]
fn a_client_behind_a_proxy_whose_login_is_gone_logs_in_again_and_others_go_on() {
    // The server closes after what is called "/last", and without a word after "/half".
    let closing = |request: &Request| match request.target() {
        "/last" if request.field("Authorization").is_none() => {
            let head = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
            Some(Reply::SendAndClose(head.into()))
        }
        "/half" => {
            let head = "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: NTLM second.0-0\r\n";
            Some(Reply::SendAndClose(format!("{head}Content-Length: 0\r\n\r\n").into()))
        }
        _ => None,
    };
    let guarded = Guarded::with(closing, trusted);
    let mut proxy = guarded.servers.connect();
    logged_in(&mut proxy, &of(ALICE), "alice");
    let hers = last_connection(&guarded);
    logged_in(&mut proxy, &of(BOB), "bob");
    let his = last_connection(&guarded);
    let last = ping("/last").with("X-Forwarded-For", ALICE);
    let answer = ask(&mut proxy, &last, "alice");
    assert_eq!((answer.status, answer.closes()), (200, false), "{}", answer.head);
    guarded.servers.backends[0].ended(hers);
    wait::until("one login is left", || bound(&guarded) == 1.0);
    expect_status(&mut proxy, &of(ALICE), "alice", 401);
    logged_in(&mut proxy, &of(ALICE), "alice");
    expect_status(&mut proxy, &of(BOB), "bob", 200);
    assert_eq!(last_connection(&guarded), his);
    // Half a login is not continued, and a proxy would send the rest of it again over another
    // connection, if this one just ended.
    let half = ping("/half").with("X-Forwarded-For", STRANGER);
    let first = half.clone().with("Authorization", "NTLM first.carol");
    expect_status(&mut proxy, &first, "carol", 401);
    wait::until("her connection is gone", || bound(&guarded) == 2.0);
    let seen = guarded.servers.counts();
    let answer = proxy.exchange(&last_leg(&of(STRANGER), "carol", "0-0").bytes());
    let answer = answer.expect("an answer");
    expect_not_now(&[503], PacketType::Ping, &answer);
    assert!(answer.closes(), "{}", answer.head);
    assert_eq!(guarded.servers.counts(), seen, "the last leg went elsewhere");
    guarded.expect_clean();
}

/// SimpleBITSServer keeps its sessions by connection, and nobody logs in there.
///
/// Item 90.
#[test]
fn each_client_of_a_proxy_has_its_own_connection_to_a_server_that_wants_one() {
    let guarded =
        Guarded::start(|farm| trusted(farm).set_backend("up01", "connections", "\"per-client\""));
    let mut proxy = guarded.servers.connect();
    let (mut seen, clients) = (Vec::new(), [of(ALICE), of(BOB), ping(TARGET)]);
    for _ in 0..3 {
        for client in &clients {
            expect_status(&mut proxy, client, "nobody", 401);
            seen.push(last_connection(&guarded));
        }
    }
    assert_eq!((&seen[3..6], &seen[6..]), (&seen[..3], &seen[..3]));
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), 3);
    // Those that are not named share one, so nobody logs in over it.
    let ticket = ping(TARGET).with("Authorization", "NTLM last.alice");
    expect_status(&mut proxy, &ticket, "alice", 200);
    expect_unnamed(&mut proxy, &ping(TARGET));
    logged_in(&mut proxy, &of(ALICE), "alice");
    expect_status(&mut proxy, &of(BOB), "bob", 401);
    guarded.expect_clean();
}
