//! What one client can provoke at a server takes nothing from the others. Each signal by which traffic can take new sessions
//! from a server has its test, with the control that it does so when a second client meets the same.

use e2e_tests::client::Connection;
use e2e_tests::farm::FarmBuilder;
use e2e_tests::raw_backend::{RawBackend, Reply, Request};
use e2e_tests::wait;

use crate::packets::{Packet, Servers, create, fragment, server, session_of};

const HONEST: [&str; 2] = ["192.0.2.1", "192.0.2.2"];
const EVIL: &str = "192.0.2.66";
const ANOTHER: &str = "192.0.2.67";

/// Server `up01` does to targets with `evil` in their names as `evil` says; the others are agreeable.
fn servers(evil: fn(&Request) -> Option<Reply>) -> Servers {
    servers_with(evil, |farm| farm)
}

fn servers_with(
    evil: fn(&Request) -> Option<Reply>,
    change: fn(FarmBuilder) -> FarmBuilder,
) -> Servers {
    let agree = server(0);
    let first = RawBackend::answering(move |request| {
        let evil = Some(request).filter(|request| request.target().contains("evil")).and_then(evil);
        evil.unwrap_or_else(|| agree(request))
    });
    let others = (1..3).map(|number| RawBackend::answering(server(number)));
    Servers::of(std::iter::once(first).chain(others).collect(), |farm| {
        let farm = farm
            .set("http.trusted_proxies", "[\"127.0.0.0/8\"]")
            .set("placement.policy", "\"round-robin\"")
            .set("health.create_wait", "\"1ms\"");
        change(farm)
    })
}

fn of(client: &str, packet: &Packet) -> Packet {
    packet.clone().with("X-Forwarded-For", client)
}

/// New sessions that each server gets of 12 from honest clients.
#[track_caller]
fn shares(servers: &Servers, round: &str) -> Vec<usize> {
    shares_of(servers, HONEST, round)
}

/// The same of 12 from these.
#[track_caller]
fn shares_of(servers: &Servers, clients: [&str; 2], round: &str) -> Vec<usize> {
    let before = servers.counts();
    for number in 0..12 {
        let packet = create(&format!("/in/{round}{number}.bin"));
        session_of(&servers.ask(&of(clients[number % 2], &packet)));
    }
    servers.counts().iter().zip(before).map(|(now, before)| now - before).collect()
}

fn target(client: &str, number: usize) -> String {
    format!("/in/evil{client}-{number}.bin")
}

/// `attack` does it all over again for so many targets.
#[track_caller]
fn takes_nothing(evil: fn(&Request) -> Option<Reply>, attack: fn(&Servers, &str, usize)) {
    let servers = servers(evil);
    assert_eq!(shares(&servers, "a"), [4, 4, 4]);
    attack(&servers, EVIL, 30);
    assert_eq!(shares_of(&servers, [EVIL; 2], "own")[0], 0, "its word counts for itself");
    assert_eq!(shares(&servers, "b"), [4, 4, 4], "one client has taken a server");
    attack(&servers, EVIL, 30);
    attack(&servers, ANOTHER, 9);
    assert_eq!(shares(&servers, "c")[0], 0, "two clients are believed");
}

fn only_create(request: &Request, reply: Reply) -> Option<Reply> {
    (request.packet_type() == "create-session").then_some(reply)
}

/// Threat: T22.
#[test]
fn t22_creates_of_one_client_that_a_server_refuses_take_nothing_from_others() {
    takes_nothing(
        |request| only_create(request, Reply::ack("404 Not Found", &[])),
        |servers, client, times| {
            for number in 0..times {
                session_of(&servers.ask(&of(client, &create(&target(client, number)))));
            }
        },
    );
}

/// Threat: T22.
#[test]
fn t22_creates_of_one_client_that_a_server_does_not_answer_take_nothing_from_others() {
    takes_nothing(
        |request| only_create(request, Reply::Wait),
        |servers, client, times| {
            let connections: Vec<_> = (0..times)
                .map(|number| {
                    let before = servers.counts();
                    let packet = of(client, &create(&target(client, number)));
                    let mut connection: Connection = servers.connect();
                    connection.send(&packet.bytes()).expect("sent");
                    wait::until("it is at a server", || servers.counts() != before);
                    connection
                })
                .collect();
            // Those who are answered have overtaken the others.
            session_of(&servers.ask(&of(client, &create("/in/last.bin"))));
            drop(connections);
        },
    );
}

/// Fragments of sessions at the first server.
fn fragments(servers: &Servers, client: &str, times: usize) {
    for number in 0..times {
        let target = target(client, number);
        let id = session_of(&servers.ask(&of(client, &create(&target))));
        if id.starts_with("{00000000-") {
            servers.ask(&of(client, &fragment(&target, &id, "bytes 0-2/9", b"abc")));
        }
    }
}

/// Threat: T22.
#[test]
fn t22_the_quota_of_one_client_takes_no_disk_from_others() {
    takes_nothing(
        |request| {
            let full = [("BITS-Error", "0x80070070"), ("BITS-Error-Context", "0x5")];
            let full = Reply::ack("500 Internal Server Error", &full);
            (request.packet_type() == "fragment").then_some(full)
        },
        fragments,
    );
}

/// Threat: T22.
#[test]
fn t22_pages_of_errors_for_one_client_take_nothing_from_others() {
    let servers = servers(|request| {
        let page = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 2\r\n\r\nno";
        (request.packet_type() == "fragment").then_some(Reply::raw(page))
    });
    let at_first = |client| {
        let opened = (0..3).find_map(|number| {
            let target = target(client, number);
            let id = session_of(&servers.ask(&of(client, &create(&target))));
            id.starts_with("{00000000-").then_some((target, id))
        });
        let (target, id) = opened.expect("each has its turn");
        of(client, &fragment(&target, &id, "bytes 0-2/9", b"abc"))
    };
    let (evil, another) = (at_first(EVIL), at_first(ANOTHER));
    let many = |packet: &Packet| {
        for _ in 0..30 {
            assert_eq!(servers.ask(packet).status, 503);
        }
    };
    many(&evil);
    assert_eq!(shares(&servers, "a"), [4, 4, 4], "one client has taken a server");
    many(&evil);
    assert_eq!(servers.ask(&another).status, 503);
    assert_eq!(shares(&servers, "b")[0], 0, "two clients are believed");
}

/// Threat: T22.
#[test]
fn t22_a_directory_in_which_a_server_hangs_takes_nothing_from_other_clients() {
    let servers = servers_with(
        |request| (request.packet_type() == "ping").then_some(Reply::Wait),
        |farm| {
            farm.set("health.kind", "\"tcp\"")
                .set("health.interval", "\"50ms\"")
                .set("health.timeout", "\"1s\"")
                .set("health.retry_after", "\"1h\"")
        },
    );
    let attack = || {
        for number in 0..9 {
            let packet = create(&format!("/in/evil/{number}.bin"));
            session_of(&servers.ask(&of(EVIL, &packet)));
        }
    };
    let taken = || servers.farm.metric("bitsgw_barred_folders", &[("reason", "ping")]);
    attack();
    wait::until("the server has no new uploads of one who is alone", || taken() == 1.0);
    // With the first upload of another client, what was seen in that directory is void.
    let at_first = |id: &String| id.starts_with("{00000000-");
    let opened = |round| {
        let packets = (0..12).map(|number| create(&format!("/in/{round}{number}.bin")));
        packets.map(|packet| session_of(&servers.ask(&packet))).filter(at_first).count()
    };
    assert!(opened("a") >= 3, "one client has taken a server");
    for round in ["b", "c"] {
        attack();
        let pinged = || {
            let seen = servers.backends[0].requests();
            seen.iter().filter(|r| r.packet_type() == "ping" && r.target() == "/in/").count()
        };
        let before = pinged();
        wait::until("it was pinged", || pinged() >= before + 5);
        assert_eq!(taken(), 0.0);
        assert_eq!(opened(round), 4, "one client has taken a server");
    }
}
