//! A kept connection that ends just when a packet goes over it.

use std::sync::Barrier;

use e2e_tests::client::{AckRules, Answer, PacketType, WireError};
use e2e_tests::raw_backend::{Moment, RawBackend, Reply, Request};
use e2e_tests::wait;

use super::on_one_thread;
use crate::packets::{Packet, Servers, TARGET, cancel, close, create, fragment, ping, server};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// Names a death in a field, so that one server serves a table.
const DIE: &str = "X-Die";

/// How a connection ends under a packet: before the body is read or after it, by FIN or by RST. Never a byte of an answer.
const DEATHS: [&str; 4] = ["head-fin", "head-reset", "body-fin", "body-reset"];

/// A server that ends a connection under a packet that asks for it, if that connection has served before.
fn mortal(number: usize) -> RawBackend {
    let honest = server(number);
    RawBackend::scripted(move |moment: Moment, request: &Request| {
        let death = request.field(DIE).filter(|_| request.number > 0);
        match (moment, death) {
            (Moment::Head, Some("head-fin")) => Reply::SendAndClose(Vec::new()),
            (Moment::Head, Some("head-reset")) => Reply::SendAndReset(Vec::new()),
            (Moment::Body, Some("body-fin")) => Reply::SendAndClose(Vec::new()),
            (Moment::Body, Some("body-reset")) => Reply::SendAndReset(Vec::new()),
            (Moment::Head, _) => Reply::Wait,
            (Moment::Body, _) => honest(request),
        }
    })
}

fn mortals(count: usize) -> Servers {
    Servers::of((0..count).map(mortal).collect(), on_one_thread)
}

/// One connection in each of the gateway's pools, both of which have served; and a session.
#[track_caller]
fn kept(servers: &Servers) -> String {
    let (id, _) = servers.open(TARGET);
    servers.passes(&ping(TARGET));
    id
}

/// Repeats a case until its packet went over a kept connection first: the gateway keeps a connection only after it has
/// passed on the answer, and the next packet may be faster.
#[track_caller]
fn over_a_kept_connection<T>(case: impl Fn() -> (T, Vec<Request>)) -> (T, Vec<Request>) {
    wait::some("a packet goes over a kept connection", || {
        Some(case()).filter(|(_, copies)| copies.first().is_some_and(|first| first.number > 0))
    })
}

/// The requests that the packet has become at the backend.
fn copies(servers: &Servers, packet: &Packet, before: usize) -> Vec<Request> {
    let new = servers.backends[0].requests().split_off(before);
    let same = |r: &Request| r.packet_type() == packet.kind.title().to_ascii_lowercase();
    assert!(new.iter().all(same), "only the packet reached the backend: {new:?}");
    new
}

fn bytes(length: usize) -> Vec<u8> {
    (0..length as u32)
        .flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes())
        .take(length)
        .collect()
}

/// The first `length` bytes of a larger file.
fn beginning(id: &str, length: usize) -> Packet {
    fragment(TARGET, id, &format!("bytes 0-{}/{}", length - 1, 20 * MIB), &bytes(length))
}

#[test]
fn a_packet_that_may_go_twice_costs_its_client_nothing() {
    let servers = mortals(1);
    for death in DEATHS {
        let packets: [fn(&str) -> Packet; 6] = [
            |_| ping(TARGET),
            |id| cancel(TARGET, id),
            |id| beginning(id, 1),
            |id| beginning(id, 5 * KIB),
            |id| beginning(id, 60 * KIB),
            |id| beginning(id, 64 * KIB),
        ];
        for packet in packets {
            let (packet, copies) = over_a_kept_connection(|| {
                let id = kept(&servers);
                let packet = packet(&id).with(DIE, death);
                let before = servers.counts()[0];
                let answer = servers.ask(&packet);
                assert_eq!(answer.status, 200, "{death}: {:?} became {}", packet.kind, answer.head);
                (packet.clone(), copies(&servers, &packet, before))
            });
            let (alive, dead) = copies.split_last().expect("the packet has reached the backend");
            // More than one connection may have been kept, and each of them dies.
            assert!(dead.iter().all(|copy| copy.number > 0) && !dead.is_empty());
            assert!(
                alive.number == 0,
                "{death}: {:?} went over a new connection at last",
                packet.kind
            );
            let body = packet.bytes();
            assert!(body.ends_with(&alive.body) && alive.complete, "{death}: the body went whole");
            assert_eq!(alive.field("Content-Length"), Some(&*alive.body.len().to_string()));
        }
    }
    let metric = |code| servers.farm.metric("bitsgw_requests_total", &[("code", code)]);
    assert_eq!((metric("502"), metric("none")), (0.0, 0.0), "no client has noticed");
}

#[test]
fn it_does_not_matter_how_many_kept_connections_are_dead() {
    const KEPT: usize = 8;
    let (together, honest) = (Barrier::new(KEPT), server(0));
    let backend = RawBackend::scripted(move |moment, request| match moment {
        Moment::Head if request.field(DIE).is_some() && request.number > 0 => {
            Reply::SendAndReset(Vec::new())
        }
        Moment::Head => Reply::Wait,
        Moment::Body => {
            if request.field("X-Together").is_some() {
                together.wait();
            }
            honest(request)
        }
    });
    let servers = Servers::of(vec![backend], on_one_thread);
    let (id, _) = servers.open(TARGET);
    for packet in [ping(TARGET), beginning(&id, 5 * KIB)] {
        let packet = packet.with(DIE, "all");
        let (answer, _) = over_a_kept_connection(|| {
            std::thread::scope(|scope| {
                for _ in 0..KEPT {
                    // Under way at once, so that each has a connection of its own.
                    scope.spawn(|| servers.ask(&ping(TARGET).with("X-Together", "1")));
                }
            });
            let before = servers.counts()[0];
            let answer = servers.ask(&packet);
            (answer, copies(&servers, &packet, before))
        });
        assert_eq!(answer.status, 200, "{:?} was answered {}", packet.kind, answer.head);
    }
}

/// Fault: a kept connection is dead.
#[test]
fn no_other_packet_goes_twice_and_the_client_is_told_to_come_again() {
    let servers = mortals(1);
    for death in DEATHS {
        let packets: [fn(&str) -> Packet; 6] = [
            |_| create("/in/other.bin"),
            |id| close(TARGET, id),
            |id| fragment(TARGET, id, "bytes 0-4/5", b"hello"),
            |id| fragment(TARGET, id, "bytes 5-9/10", b"world"),
            |id| beginning(id, 64 * KIB + 1),
            |id| beginning(id, MIB),
        ];
        for packet in packets {
            once_and_again(&servers, packet, death);
        }
    }
}

#[test]
fn a_fragment_of_13_mib_on_a_dead_connection_is_not_sent_twice() {
    let servers = mortals(1);
    for death in ["head-fin", "head-reset", "body-reset"] {
        once_and_again(&servers, |id| beginning(id, 13 * MIB), death);
    }
}

/// The packet dies, once, and works when its client sends it again.
#[track_caller]
fn once_and_again(servers: &Servers, packet: impl Fn(&str) -> Packet, death: &str) {
    let ((packet, heard), sent) = over_a_kept_connection(|| {
        let (id, _) = servers.open(TARGET);
        let packet = packet(&id);
        // Made before the connection is used: a slow machine takes longer for many bytes than such
        // a packet trusts a connection.
        let bytes = packet.clone().with(DIE, death).bytes();
        servers.passes(&ping(TARGET));
        let before = servers.counts()[0];
        let heard = servers.connect().exchange(&bytes);
        let sent = copies(servers, &packet, before);
        ((packet, heard), sent)
    });
    expect_come_again(packet.kind, heard, death);
    assert_eq!(sent.len(), 1, "{death}: {:?} went twice", packet.kind);
    servers.passes(&packet);
}

/// 502 without an error code, or the end of the connection: both transient for every client.
#[track_caller]
fn expect_come_again(kind: PacketType, heard: Result<Answer, WireError>, death: &str) {
    match heard {
        Ok(answer) => {
            assert_eq!(answer.status, 502, "{death}: {kind:?} was answered {}", answer.head);
            let ack = AckRules::own_answer().expect(kind, &answer);
            assert_eq!(ack.hresult, None, "{}", answer.head);
        }
        Err(WireError::Closed | WireError::Broken { .. }) => {}
        Err(error) => panic!("{death}: {kind:?}: {error}"),
    }
}

/// Item 58.
#[test]
fn a_close_that_died_with_its_connection_keeps_the_pin() {
    let servers = mortals(2);
    let ((id, owner, answer), _) = over_a_kept_connection(|| {
        let (id, owner) = servers.open(TARGET);
        let answer = servers.ask(&close(TARGET, &id).with(DIE, "body-reset"));
        ((id, owner, answer), vec![servers.last_request(owner)])
    });
    assert_eq!(answer.status, 502, "{}", answer.head);
    let (backend, ..) = servers.passes(&close(TARGET, &id));
    assert_eq!(backend, owner);
}

#[test]
fn a_create_that_died_with_its_connection_opens_no_session_elsewhere() {
    let servers = mortals(2);
    // Both backends keep a connection that has served a Create.
    let ((answer, sessions), _) = over_a_kept_connection(|| {
        let owners = [servers.open("/in/1.bin").1, servers.open("/in/2.bin").1];
        assert_ne!(owners[0], owners[1]);
        let sessions = servers.farm.metric("bitsgw_sessions", &[]);
        let before = servers.counts();
        let answer = servers.ask(&create("/in/3.bin").with(DIE, "body-fin"));
        // Asserts that one backend was asked, once.
        let asked = servers.only_one_since(&before);
        ((answer, sessions), vec![servers.last_request(asked)])
    });
    assert_eq!(answer.status, 502, "{}", answer.head);
    assert_eq!(servers.farm.metric("bitsgw_sessions", &[]), sessions);
}

#[test]
fn a_connection_that_dies_new_is_no_stale_one() {
    // Nothing was kept, so the death says something about the packet or the server.
    let backend = RawBackend::answering(|request| match request.packet_type().as_str() {
        "ping" => Reply::SendAndReset(Vec::new()),
        _ => server(0)(request),
    });
    let servers = Servers::of(vec![backend], on_one_thread);
    let heard = servers.ask(&ping(TARGET));
    assert_eq!(heard.status, 502, "{}", heard.head);
    assert_eq!(servers.counts(), [1]);
}

#[test]
fn a_packet_whose_answer_has_begun_does_not_go_twice() {
    let honest = server(0);
    let backend = RawBackend::answering(move |request| match request.field(DIE) {
        Some(_) => Reply::SendAndClose(b"HTTP/1.1 200 OK\r\nBITS-Pack".to_vec()),
        None => honest(request),
    });
    let servers = Servers::of(vec![backend], on_one_thread);
    let (id, _) = servers.open(TARGET);
    for packet in [ping(TARGET), beginning(&id, 5 * KIB), cancel(TARGET, &id)] {
        let (heard, sent) = over_a_kept_connection(|| {
            servers.passes(&ping(TARGET));
            let before = servers.counts()[0];
            let heard = servers.connect().exchange(&packet.clone().with(DIE, "answer").bytes());
            (heard, copies(&servers, &packet, before))
        });
        expect_come_again(packet.kind, heard, "a begun answer");
        assert_eq!(sent.len(), 1, "{:?}", packet.kind);
    }
}
