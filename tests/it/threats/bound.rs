//! Session ids that are stolen from clients with certificates.

use e2e_tests::client::{Answer, Connection, PacketType, Secure};
use e2e_tests::farm::{Farm, FarmBuilder, ORIGIN, StubFault, Tls};
use e2e_tests::pki::{self, Issued};
use e2e_tests::wait;

use crate::packets::{
    Packet, TARGET, cancel, close, create, expect_not_found, fragment, of_session, ping, session_of,
};

fn bound() -> FarmBuilder {
    Farm::of_stubs(2).tls(Tls::Mutual).set("sessions.bind", "\"certificate\"")
}

fn with(own: &Issued) -> Secure {
    Secure::new(&pki::servers().pem(), ORIGIN, Some(own))
}

#[track_caller]
fn say(farm: &Farm, who: &Secure, packet: &Packet) -> Answer {
    let mut connection = Connection::open_secure(farm.entrance(), who).expect("a handshake");
    connection.exchange(&packet.bytes()).expect("an answer")
}

/// Packets that have come to the backends.
fn arrived(farm: &Farm) -> u64 {
    let count = |stats: e2e_tests::farm::Stats| {
        stats.fragment + stats.close_session + stats.cancel_session + stats.ping
    };
    farm.stubs().iter().map(|stub| count(stub.stats())).sum()
}

fn refused(farm: &Farm) -> f64 {
    farm.metric("bitsgw_rejected_requests_total", &[("reason", "foreign_session")])
}

/// What an answer says beside the id that it repeats, and the time.
fn without_id(answer: &Answer, id: &str) -> String {
    let lines = answer.head.lines().filter(|line| !line.starts_with("Date: "));
    lines.map(|line| line.replace(id, "ID")).collect::<Vec<_>>().join("\n")
}

/// Threat: T1.
#[test]
fn t1_a_stolen_id_is_worth_nothing_without_its_certificate() {
    let [owner, renewed] = [(); 2].map(|()| with(&pki::clients().issue_to("laptop-1")));
    let thief = with(&pki::clients().issue_to("laptop-2"));
    for (ids, unknown) in [("backend", "ask"), ("minted", "restart"), ("backend", "wait")] {
        let farm = bound()
            .set("sessions.id", &format!("{ids:?}"))
            .set("sessions.unknown", &format!("{unknown:?}"))
            .start();
        let id = session_of(&say(&farm, &owner, &create(TARGET)));
        assert_eq!(say(&farm, &owner, &fragment(TARGET, &id, "bytes 0-2/6", b"abc")).status, 200);
        let before = arrived(&farm);
        let stranger = "{11111111-2222-4333-8444-555555555555}";
        let mut tries = 0.0;
        let mut try_all = || {
            for host in [ORIGIN, "up01.up.test", "up02.up.test"] {
                for packet in of_session(TARGET, &id) {
                    let packet = packet.at(host);
                    let answer = say(&farm, &thief, &packet);
                    tries += 1.0;
                    if unknown == "wait" {
                        assert_eq!(answer.status, 503, "{}", answer.head);
                    } else {
                        expect_not_found(packet.kind, &answer);
                    }
                    if unknown == "restart" && host == ORIGIN {
                        let [nobodys, ..] = of_session(TARGET, stranger);
                        let other = say(&farm, &thief, &nobodys);
                        assert_eq!(without_id(&answer, &id), without_id(&other, stranger));
                    }
                }
            }
            wait::until("each is counted", || refused(&farm) == tries);
        };
        try_all();
        assert_eq!(arrived(&farm), before, "a backend has heard of it");
        let rest = fragment(TARGET, &id, "bytes 3-5/6", b"def");
        assert_eq!(say(&farm, &renewed, &rest).status, 200, "a new certificate of the same client");
        assert_eq!(say(&farm, &owner, &close(TARGET, &id)).status, 200);
        // The end is remembered for its own client, too, and for nobody else.
        assert_eq!(say(&farm, &renewed, &close(TARGET, &id)).status, 200);
        let before = arrived(&farm);
        try_all();
        assert_eq!(arrived(&farm), before, "a backend has heard of it when it had ended");
        farm.expect_healthy();
    }
}

/// A Ping asks for no session, whatever it names.
#[test]
fn a_ping_that_finds_no_backend_is_no_theft() {
    let farm = bound().set("failover.hold", "\"0s\"").start();
    let owner = with(&pki::clients().issue_to("laptop-1"));
    let thief = with(&pki::clients().issue_to("laptop-2"));
    // No connection is kept over which the Ping could go.
    for stub in farm.stubs() {
        stub.fault(StubFault::on(PacketType::CreateSession, "connection_close"));
    }
    let id = session_of(&say(&farm, &owner, &create(TARGET)));
    farm.stubs().iter().for_each(|stub| stub.refuse(true));
    let answer = say(&farm, &thief, &ping(TARGET).with("BITS-Session-Id", &id));
    assert!(matches!(answer.status, 502 | 503), "{}", answer.head);
    wait::until("it is counted", || farm.metric("bitsgw_rejected_requests_total", &[]) == 1.0);
    assert_eq!(refused(&farm), 0.0);
    // The control.
    say(&farm, &thief, &cancel(TARGET, &id));
    wait::until("the theft is counted", || refused(&farm) == 1.0);
}

/// Two at once ask for a session that nobody knows: whose it becomes is not known before the backend has answered.
#[test]
fn who_comes_second_to_a_lost_session_is_another_client() {
    let farm = bound().forgetful().without_host_ids().set("sessions.unknown", "\"ask\"").start();
    let clients = ["laptop-1", "laptop-2"].map(|name| with(&pki::clients().issue_to(name)));
    let id = session_of(&say(&farm, &clients[0], &create(TARGET)));
    let first = fragment(TARGET, &id, "bytes 0-2/6", b"abc");
    assert_eq!(say(&farm, &clients[0], &first).status, 200);
    farm.gateway().restart();
    for stub in farm.stubs() {
        // The answer to the question waits for both.
        stub.fault(StubFault::on(PacketType::Fragment, "delay").with("ms", 1000));
    }
    let packet = fragment(TARGET, &id, "bytes 3-5/6", b"def");
    let statuses = std::thread::scope(|scope| {
        let asking = clients.each_ref().map(|who| scope.spawn(|| say(&farm, who, &packet).status));
        asking.map(|asking| asking.join().expect("an answer"))
    });
    assert!(matches!(statuses, [200, 500] | [500, 200]), "{statuses:?}");
    wait::until("the second is counted", || {
        farm.metric("bitsgw_rejected_requests_total", &[]) == 1.0
    });
    assert_eq!(refused(&farm), 1.0);
    farm.expect_healthy();
}

/// Threat: T1.
#[test]
fn t1_a_session_stays_its_clients_when_the_gateway_starts_again() {
    let farm = bound().start();
    let owner = with(&pki::clients().issue_to("laptop-1"));
    let thief = with(&pki::clients().issue_to("laptop-2"));
    let id = session_of(&say(&farm, &owner, &create(TARGET)));
    for restart in [
        |farm: &Farm| farm.gateway().restart(),
        |farm: &Farm| {
            assert!(farm.gateway().terminate().success());
            farm.gateway().start();
        },
    ] {
        restart(&farm);
        let before = arrived(&farm);
        for packet in of_session(TARGET, &id) {
            expect_not_found(packet.kind, &say(&farm, &thief, &packet));
        }
        assert_eq!(arrived(&farm), before);
    }
    let renewed = with(&pki::clients().issue_to("laptop-1"));
    assert_eq!(say(&farm, &renewed, &fragment(TARGET, &id, "bytes 0-2/3", b"abc")).status, 200);
    assert_eq!(say(&farm, &renewed, &close(TARGET, &id)).status, 200);
    farm.gateway().restart();
    assert_eq!(say(&farm, &owner, &close(TARGET, &id)).status, 200, "its end is remembered");
    expect_not_found(close(TARGET, &id).kind, &say(&farm, &thief, &close(TARGET, &id)));
}

#[test]
fn another_client_of_that_name_under_another_authority_is_another_client() {
    let other = pki::Authority::new("other clients");
    let farm = bound().start();
    let authorities = format!("{}{}", pki::clients().pem(), other.pem());
    pki::write(&farm.directory().join("clients-ca.pem"), &authorities, 0o644);
    let thief = with(&other.issue_to("laptop-1"));
    wait::until("both authorities count", || {
        let mut opened = Connection::open_secure(farm.entrance(), &thief).unwrap();
        opened.exchange(&ping(TARGET).bytes()).is_ok_and(|answer| answer.status == 200)
    });
    let owner = with(&pki::clients().issue_to("laptop-1"));
    let id = session_of(&say(&farm, &owner, &create(TARGET)));
    expect_not_found(cancel(TARGET, &id).kind, &say(&farm, &thief, &cancel(TARGET, &id)));
    assert_eq!(say(&farm, &owner, &cancel(TARGET, &id)).status, 200);
}

#[test]
fn whether_sessions_are_bound_is_read_anew() {
    let farm = bound().start();
    let owner = with(&pki::clients().issue_to("laptop-1"));
    let other = with(&pki::clients().issue_to("laptop-2"));
    let id = session_of(&say(&farm, &owner, &create(TARGET)));
    let set = |word: &str| {
        let text = format!("{word:?}");
        farm.gateway().configure(|settings| settings.set("sessions.bind", &text));
        assert!(farm.gateway().reload());
    };
    let first = fragment(TARGET, &id, "bytes 0-2/6", b"abc");
    expect_not_found(first.kind, &say(&farm, &other, &first));
    set("none");
    assert_eq!(say(&farm, &other, &first).status, 200);
    let free = session_of(&say(&farm, &owner, &create("/in/free.bin")));
    set("certificate");
    let second = fragment(TARGET, &id, "bytes 3-5/6", b"def");
    expect_not_found(second.kind, &say(&farm, &other, &second));
    // What was opened for anybody stays so.
    assert_eq!(say(&farm, &other, &close("/in/free.bin", &free)).status, 200);
}

/// An upload of an IIS application that answers: its reply belongs to its client, too.
#[test]
fn the_reply_to_a_bound_session_is_for_its_client() {
    let farm = bound().start();
    let owner = with(&pki::clients().issue_to("laptop-1"));
    let thief = with(&pki::clients().issue_to("laptop-2"));
    let id = session_of(&say(&farm, &owner, &create(TARGET)));
    let get = |who: &Secure| {
        let request =
            format!("GET /BITS-Sessions/Replies/{id}/out.bin HTTP/1.1\r\nHost: {ORIGIN}\r\n\r\n");
        let mut connection = Connection::open_secure(farm.entrance(), who).unwrap();
        connection.exchange(request.as_bytes()).unwrap()
    };
    let asked = || farm.stubs().iter().map(|stub| stub.stats().other).sum::<u64>();
    assert_eq!(get(&thief).status, 503);
    assert_eq!(asked(), 0);
    assert_ne!(get(&owner).status, 503);
    assert_eq!(asked(), 1);
}

/// Servers may use one id, and each client asks by that of its server.
#[test]
fn of_two_replies_under_one_id_each_client_gets_its_own() {
    let farm = bound().start();
    let ack = "HTTP/1.1 200 OK\r\nBITS-Packet-Type: Ack\r\n\
         BITS-Protocol: {7df0354d-249b-430f-820d-3d2a9bef4931}\r\n\
         BITS-Session-Id: {11111111-2222-4333-8444-555555555555}\r\n\
         Accept-Encoding: identity\r\nContent-Length: 0\r\n\r\n";
    for stub in farm.stubs() {
        stub.fault(StubFault::on(PacketType::CreateSession, "raw").with("latin1", ack).times(1));
    }
    let clients = ["laptop-1", "laptop-2"].map(|name| with(&pki::clients().issue_to(name)));
    let stranger = with(&pki::clients().issue_to("laptop-3"));
    let ids = clients.each_ref().map(|who| session_of(&say(&farm, who, &create(TARGET))));
    assert_ne!(ids[0], ids[1], "the second is one of the gateway's");
    let get = |who: &Secure| {
        let id = &ids[0];
        let request =
            format!("GET /BITS-Sessions/Replies/{id}/out.bin HTTP/1.1\r\nHost: {ORIGIN}\r\n\r\n");
        let mut connection = Connection::open_secure(farm.entrance(), who).unwrap();
        connection.exchange(request.as_bytes()).unwrap()
    };
    let asked = || farm.stubs().iter().map(|stub| stub.stats().other).collect::<Vec<_>>();
    assert_eq!(get(&stranger).status, 503);
    assert_eq!(asked(), [0, 0]);
    for who in &clients {
        assert_ne!(get(who).status, 503);
    }
    assert_eq!(asked(), [1, 1]);
}
