//! Logins through a real nginx that sends the requests of all its clients over a few connections.

use std::net::Ipv4Addr;

use e2e_tests::client::Connection;
use e2e_tests::raw_backend::{Reply, Request};

use super::server::{Guarded, claimed, log_in};
use crate::behind::front::{Front, configured_for};
use crate::packets::{Packet, TARGET, close, create, fragment, ping, session_of};

const ALICE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const STRANGERS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);

fn connect(nginx: &Front, client: Ipv4Addr) -> Connection {
    Connection::open_from(client, nginx.address()).expect("nginx accepts connections")
}

/// Item 90.
///
/// Threat: T4.
#[test]
fn strangers_behind_nginx_are_not_served_as_one_who_logged_in() {
    let guarded = Guarded::start(|farm| configured_for("nginx-pool", farm.plain()));
    let entrance = guarded.servers.farm.entrance();
    let nginx = Front::start("nginx-pool", entrance, entrance);
    let mut alice = connect(&nginx, ALICE);
    let answer = log_in(&mut alice, &ping(TARGET), "alice").expect("a login");
    assert_eq!(answer.status, 200, "{}", answer.head);
    let stranger = |number: usize| {
        let packet = claimed(&ping(&format!("/in/{number}.bin")), "stranger");
        let answer = connect(&nginx, STRANGERS).exchange(&packet.bytes()).expect("an answer");
        assert_eq!(answer.status, 401, "{}", answer.head);
    };
    (0..20).for_each(stranger);
    // One after the other, so that nginx has one connection for them all.
    let mut send = |packet: &Packet| {
        let answer = alice.exchange(&claimed(packet, "alice").bytes()).expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.head);
        stranger(21);
        answer
    };
    let id = session_of(&send(&create(TARGET)));
    send(&fragment(TARGET, &id, "bytes 0-2/6", b"abc"));
    send(&fragment(TARGET, &id, "bytes 3-5/6", b"def"));
    send(&close(TARGET, &id));
    guarded.expect_clean();
    let requests = guarded.servers.backends[0].requests();
    let body: Vec<u8> = requests.into_iter().flat_map(|request| request.body).collect();
    assert_eq!(body, b"abcdef");
    let opened = guarded.servers.farm.metric("bitsgw_connections_total", &[]);
    assert!(opened < 8.0, "nginx opened {opened} connections");
}

/// Item 90.
///
/// Threat: T4.
#[test]
fn nobody_behind_nginx_logs_in_where_it_is_not_trusted() {
    let ntlm = |request: &Request| {
        let head =
            "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: NTLM\r\nContent-Length: 0\r\n\r\n";
        request.field("Authorization").is_none().then(|| Reply::raw(head))
    };
    const WRITTEN: &str = "X-Forwarded-For $remote_addr";
    for line in [
        WRITTEN,
        "X-Forwarded-For $proxy_add_x_forwarded_for",
        "Forwarded for=_hidden",
        "Via '1.1 nginx'",
        "X-Real-IP $remote_addr",
    ] {
        let guarded = Guarded::with(ntlm, |farm| farm.plain());
        let entrance = guarded.servers.farm.entrance();
        let lines = (WRITTEN, line);
        let nginx = Front::changed("nginx-named", "nginx-pool", &[lines], entrance, entrance);
        let first = ping(TARGET).with("Authorization", "NTLM first.alice");
        let ticket = ping(TARGET).with("Authorization", "NTLM last.alice");
        let mut alice = connect(&nginx, ALICE);
        let said = [ping(TARGET), first, ticket].map(|packet| {
            alice.exchange(&claimed(&packet, "alice").bytes()).expect("an answer").status
        });
        // The last one proved itself.
        assert_eq!(said, [502, 502, 200], "{line}");
        for number in 0..20 {
            let packet = claimed(&ping(&format!("/in/{number}.bin")), "stranger");
            let answer = connect(&nginx, STRANGERS).exchange(&packet.bytes()).expect("an answer");
            assert_eq!(answer.status, 502, "{line}: {}", answer.head);
        }
        guarded.expect_clean();
    }
}
