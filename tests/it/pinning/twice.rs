//! A packet that must not reach its server twice, and comes a second time while the first is under way: its client has
//! lost the connection, not the patience.

use std::sync::Mutex;

use e2e_tests::client::{Ack, AckRules, Answer, Connection, PacketType, Secure, WireError};
use e2e_tests::farm::{ORIGIN, Tls};
use e2e_tests::pki;
use e2e_tests::raw_backend::{RawBackend, Reply};
use e2e_tests::wait;

use crate::packets::{
    Packet, Servers, TARGET, cancel, close, create, expect_not_found, fragment, ping, server,
};
use crate::slow::{Gate, Slow, last, not_found, ok, took_all};

fn middle(id: &str) -> Packet {
    fragment(TARGET, id, "bytes 3-5/9", b"def")
}

/// A packet of the session with that id.
type Make = fn(&str) -> Packet;

fn ends() -> [(PacketType, Make, Reply); 2] {
    let close: Make = |id| close(TARGET, id);
    let cancel: Make = |id| cancel(TARGET, id);
    [(PacketType::CloseSession, close, ok()), (PacketType::CancelSession, cancel, ok())]
}

/// How the client of the first packet loses its connection.
#[derive(Clone, Copy, Debug)]
enum Loss {
    Silent,
    Reset,
    HalfClosed,
    Closed,
}

const LOSSES: [Loss; 4] = [Loss::Silent, Loss::Reset, Loss::HalfClosed, Loss::Closed];

impl Loss {
    fn of(self, mut connection: Connection) -> Option<Connection> {
        match self {
            Self::Silent => Some(connection),
            Self::Reset => {
                connection.reset();
                None
            }
            Self::HalfClosed => {
                connection.finish().expect("it is still there");
                Some(connection)
            }
            Self::Closed => None,
        }
    }
}

/// Fault: an end is repeated while it is under way.
#[test]
fn an_end_that_comes_again_while_it_is_under_way_is_acknowledged_and_reaches_its_server_once() {
    for loss in LOSSES {
        for (kind, end, answer) in ends() {
            let slow = Slow::to(kind, answer);
            let (id, _) = slow.servers.open(TARGET);
            let first = loss.of(slow.send_first(&end(&id)));
            let again = slow.meanwhile(&[end(&id)]).remove(0);
            assert_eq!(again.status, 200, "{loss:?}: {}", again.head);
            AckRules::own_answer().expect(kind, &again);
            assert_eq!(slow.seen(), 1, "{loss:?}");
            if let Some(mut first) = first {
                let answer = first.read_answer().expect("the first one is served, too");
                assert_eq!(answer.status, 200, "{loss:?}: {}", answer.head);
            }
            assert_eq!(slow.servers.stays(&end(&id)).status, 200, "it is remembered");
        }
    }
}

/// Fault: an end is repeated while it is under way.
#[test]
fn it_is_acknowledged_where_no_end_is_remembered() {
    for (kind, end, answer) in ends() {
        let slow = Slow::with(kind, answer, |farm| farm.set("sessions.tombstone", "\"0s\""));
        let (id, _) = slow.servers.open(TARGET);
        let _first = slow.send_first(&end(&id));
        assert_eq!(slow.meanwhile(&[end(&id)])[0].status, 200);
        assert_eq!(slow.seen(), 1);
    }
}

/// Fault: an end is repeated while it is under way.
#[test]
fn all_of_three_get_the_answer() {
    let slow = Slow::to(PacketType::CloseSession, ok());
    let (id, _) = slow.servers.open(TARGET);
    let _first = slow.send_first(&close(TARGET, &id));
    for answer in slow.meanwhile(&[close(TARGET, &id), close(TARGET, &id)]) {
        assert_eq!(answer.status, 200, "{}", answer.head);
    }
    assert_eq!(slow.seen(), 1);

    let slow = Slow::to(PacketType::Fragment, took_all());
    let (id, _) = slow.servers.open(TARGET);
    let _first = slow.send_first(&last(&id));
    for answer in slow.meanwhile(&[last(&id), last(&id)]) {
        assert_eq!(answer.status, 200, "{}", answer.head);
    }
    assert_eq!(slow.seen(), 1);
}

/// Fault: an end is repeated while it is under way.
#[test]
fn the_answer_is_learned_though_its_client_has_gone() {
    for loss in [Loss::Reset, Loss::Closed] {
        for (kind, end, answer) in ends() {
            let slow = Slow::to(kind, answer);
            let (id, _) = slow.servers.open(TARGET);
            assert!(loss.of(slow.send_first(&end(&id))).is_none());
            slow.gate.open();
            wait::until("the session is over", || {
                slow.servers.farm.metric("bitsgw_sessions", &[]) == 0.0
            });
            assert_eq!(slow.servers.stays(&end(&id)).status, 200);
            assert_eq!(slow.seen(), 1);
        }
        let slow = Slow::to(PacketType::Fragment, took_all());
        let (id, _) = slow.servers.open(TARGET);
        assert!(loss.of(slow.send_first(&last(&id))).is_none());
        slow.gate.open();
        slow.expect_in_flight(0);
        // Its total is known from that answer alone.
        let other = fragment(TARGET, &id, "bytes 0-2/10", b"abc");
        assert_eq!(slow.servers.stays(&other).status, 400);
    }
}

/// Fault: the final Fragment is repeated while it is under way.
#[test]
fn a_final_fragment_that_comes_again_gets_the_answer_to_the_first() {
    let overlong = Reply::ack("416 No", &[("BITS-Received-Content-Range", "4")]);
    let denied = Reply::raw(
        "HTTP/1.1 403 No\r\nBITS-Packet-Type: Ack\r\nBITS-Error-Code: 0x80070005\r\n\
         BITS-Error-Context: 0x5\r\nX-Page: 1\r\nContent-Length: 5\r\n\r\nsorry",
    );
    for loss in LOSSES {
        for (reply, status, offset) in [
            (took_all(), 200, Some(9)),
            (overlong.clone(), 416, Some(4)),
            (denied.clone(), 403, None),
        ] {
            let slow = Slow::to(PacketType::Fragment, reply);
            let (id, _) = slow.servers.open(TARGET);
            let _first = loss.of(slow.send_first(&last(&id)));
            let again = slow.meanwhile(&[last(&id)]).remove(0);
            assert_eq!(again.status, status, "{loss:?}: {}", again.head);
            let ack = Ack::read(&again);
            assert_eq!(ack.received, offset, "{}", again.head);
            assert_eq!(ack.hresult, (status == 403).then_some(0x8007_0005), "{}", again.head);
            assert_eq!(again.field("X-Page"), None, "nothing else of it");
            assert_eq!(again.field("Content-Length"), Some("0"));
            let said = again.field("BITS-Session-Id");
            assert!(said.is_none_or(|said| said == id), "as its client knows it: {}", again.head);
            assert_eq!(slow.seen(), 1, "{loss:?}");
        }
    }
}

/// Fault: the final Fragment is repeated while it is under way.
#[test]
fn the_body_of_one_that_has_joined_is_read_and_its_connection_goes_on() {
    let size: usize = 3 << 20;
    let range = format!("bytes 0-{}/{size}", size - 1);
    let (agree, gate) = (server(0), Gate::default());
    let held = gate.clone();
    let backend = RawBackend::answering(move |request| {
        if request.packet_type() == "fragment" {
            held.wait();
        }
        agree(request)
    });
    let servers = Servers::of(vec![backend], |farm| farm);
    let (id, _) = servers.open(TARGET);
    let whole = fragment(TARGET, &id, &range, &vec![7; size]);
    let got = || servers.backends[0].requests().iter().filter(|r| r.body.len() == size).count();
    let mut first = servers.connect();
    first.send(&whole.bytes()).expect("it is taken");
    wait::until("the server has it", || got() == 1);
    let mut second = servers.connect();
    let bytes = whole.bytes();
    std::thread::scope(|scope| {
        let second = scope.spawn(|| {
            second.send(&bytes).expect("all of it is taken");
            let answer = second.read_answer().expect("an answer");
            assert_eq!((answer.status, answer.closes()), (200, false), "{}", answer.head);
            assert_eq!(answer.field("BITS-Received-Content-Range"), Some(&*size.to_string()));
            second.exchange(&close(TARGET, &id).bytes()).expect("an answer")
        });
        wait::until("the gateway has both", || {
            servers.farm.metric("bitsgw_requests_in_flight", &[]) == 2.0
        });
        gate.open();
        assert_eq!(second.join().expect("no panic").status, 200);
    });
    assert_eq!(got(), 1);
    assert_eq!(first.read_answer().expect("an answer").status, 200);
}

/// Fault: an end is repeated while it is under way, and fails.
#[test]
fn a_failure_is_not_shared_and_the_next_one_goes_on_by_itself() {
    let failures = [
        (Reply::ack("500 X", &[("BITS-Error-Code", "0x80004005")]), 500),
        (Reply::ack("503 X", &[]), 503),
        (Reply::raw("HTTP/1.1 401 X\r\nWWW-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n"), 401),
        (Reply::SendAndClose(Vec::new()), 502),
        (Reply::SendAndReset(Vec::new()), 502),
    ];
    for (failure, status) in failures {
        let packets: [(PacketType, Make); 3] = [
            (PacketType::CloseSession, |id| close(TARGET, id)),
            (PacketType::CancelSession, |id| cancel(TARGET, id)),
            (PacketType::Fragment, last),
        ];
        for (kind, packet) in packets {
            let slow = Slow::with(kind, failure.clone(), |farm| farm.set("process.threads", "1"));
            let (id, _) = slow.servers.open(TARGET);
            let mut first = slow.send_first(&packet(&id));
            let again = slow.meanwhile(&[packet(&id)]).remove(0);
            expect_lost(&again);
            let answer = first.read_answer().expect("the first one gets its own answer");
            // It went over the connection of the Create, and a Cancel may go twice: what the server
            // then says of it counts for the second as well.
            let repeated = kind == PacketType::CancelSession && status == 502;
            let status = if repeated { 500 } else { status };
            assert_eq!(answer.status, status, "{}", answer.head);
            assert_eq!(slow.seen(), 2, "{failure:?}");
        }
    }
}

#[track_caller]
fn expect_lost(answer: &Answer) {
    assert!(Ack::read(answer).is_session_not_found(), "{}", answer.head);
}

/// Fault: another packet comes while an end is under way.
#[test]
fn another_packet_waits_for_the_end_and_is_decided_anew() {
    for (kind, end, answer) in ends() {
        let others: [Make; 3] = [
            middle,
            last,
            if kind == PacketType::CloseSession {
                |id| cancel(TARGET, id)
            } else {
                |id| close(TARGET, id)
            },
        ];
        for other in others {
            let slow = Slow::to(kind, answer.clone());
            let (id, _) = slow.servers.open(TARGET);
            let mut first = slow.send_first(&end(&id));
            let other = other(&id);
            let before = slow.servers.counts();
            let answer = slow.meanwhile(std::slice::from_ref(&other)).remove(0);
            assert_eq!(slow.servers.counts(), before, "nothing of it reached the server");
            match other.kind {
                PacketType::Fragment => _ = expect_not_found(other.kind, &answer),
                _ => assert_eq!(answer.status, 200, "{}", answer.head),
            }
            assert_eq!(first.read_answer().expect("an answer").status, 200);
        }
    }
}

/// Fault: another packet comes while an end is under way.
#[test]
fn another_packet_waits_for_the_final_fragment() {
    let others: [Make; 4] = [
        |id| close(TARGET, id),
        |id| cancel(TARGET, id),
        middle,
        |id| fragment(TARGET, id, "bytes 7-8/9", b"hi"),
    ];
    for other in others {
        let slow = Slow::to(PacketType::Fragment, took_all());
        let (id, _) = slow.servers.open(TARGET);
        let mut first = slow.send_first(&last(&id));
        let before = slow.servers.counts()[0];
        let other = other(&id);
        std::thread::scope(|scope| {
            let asking = scope.spawn(|| slow.servers.ask(&other));
            slow.expect_in_flight(2);
            assert_eq!(slow.servers.counts()[0], before, "it waits");
            slow.gate.open();
            assert_eq!(asking.join().expect("an answer").status, 200);
        });
        assert_eq!(slow.servers.counts()[0], before + 1, "it went on then");
        assert_eq!(first.read_answer().expect("an answer").status, 200);
    }
}

#[test]
fn a_ping_does_not_wait_and_neither_does_who_does_not_know_the_destination() {
    let slow = Slow::to(PacketType::CloseSession, ok());
    let (id, _) = slow.servers.open(TARGET);
    let mut first = slow.send_first(&close(TARGET, &id));
    let (named, plain) = (ping(TARGET).with("BITS-Session-Id", &id), ping(TARGET));
    for ping in [named, plain] {
        assert_eq!(slow.servers.ask(&ping).status, 200);
    }
    expect_not_found(PacketType::CloseSession, &slow.servers.ask(&close("/in/other.bin", &id)));
    assert_eq!(slow.servers.ask(&create(TARGET)).status, 200);
    assert_eq!(slow.seen(), 1);
    slow.gate.open();
    assert_eq!(first.read_answer().expect("an answer").status, 200);
}

#[test]
fn with_other_credentials_it_is_another_packet() {
    let (one, other) = ("Basic YTpi", "Basic YTpj");
    // An end is remembered for all who know the destination, as after it.
    let slow = Slow::to(PacketType::CloseSession, ok());
    let (id, _) = slow.servers.open(TARGET);
    let _first = slow.send_first(&close(TARGET, &id).with("Authorization", one));
    let again = close(TARGET, &id).with("Authorization", other);
    assert_eq!(slow.meanwhile(&[again])[0].status, 200);
    assert_eq!(slow.seen(), 1);
    // The answer to a Fragment is for whom it was given.
    for (first, second) in [(Some(one), Some(other)), (Some(one), None), (None, Some(one))] {
        let with = |packet: Packet, credentials: Option<&str>| match credentials {
            Some(credentials) => packet.with("Authorization", credentials),
            None => packet,
        };
        let slow = Slow::to(PacketType::Fragment, took_all());
        let (id, _) = slow.servers.open(TARGET);
        let _first = slow.send_first(&with(last(&id), first));
        expect_lost(&slow.meanwhile(&[with(last(&id), second)])[0]);
        assert_eq!(slow.seen(), 2);
    }
}

/// Threat: T1.
#[test]
fn t1_with_another_certificate_it_is_another_packet() {
    let other = pki::clients().issue_to("laptop-2");
    let other = Secure::new(&pki::servers().pem(), ORIGIN, Some(&other));
    for bind in ["none", "certificate"] {
        for kind in [PacketType::CloseSession, PacketType::Fragment] {
            let (packet, answer): (Make, _) = match kind {
                PacketType::Fragment => (last, took_all()),
                _ => (|id| close(TARGET, id), ok()),
            };
            let slow = Slow::with(kind, answer, |farm| {
                farm.tls(Tls::Mutual).set("sessions.bind", &format!("{bind:?}"))
            });
            let (id, _) = slow.servers.open(TARGET);
            let mut first = slow.send_first(&packet(&id));
            let ask = || {
                let entrance = slow.servers.farm.entrance();
                let mut stranger = Connection::open_secure(entrance, &other).expect("a handshake");
                stranger.exchange(&packet(&id).bytes()).expect("an answer")
            };
            if bind == "certificate" {
                // It hears nothing of the session, and does not wait for it.
                expect_not_found(kind, &ask());
                assert_eq!(slow.seen(), 1);
                slow.gate.open();
            } else {
                let answer = std::thread::scope(|scope| {
                    let asking = scope.spawn(ask);
                    slow.expect_in_flight(2);
                    slow.gate.open();
                    asking.join().expect("an answer")
                });
                // The end is remembered for all who know the destination; a Fragment goes out again.
                match kind {
                    PacketType::Fragment => expect_lost(&answer),
                    _ => assert_eq!(answer.status, 200, "{}", answer.head),
                }
                assert_eq!(slow.seen(), if kind == PacketType::Fragment { 2 } else { 1 });
            }
            assert_eq!(first.read_answer().expect("an answer").status, 200);
        }
    }
}

#[test]
fn a_login_that_is_bound_to_a_connection_shares_no_answer_but_an_end() {
    for scheme in ["NTLM TlRMTVNTUAADAAAA", "Negotiate YIIB"] {
        let slow = Slow::to(PacketType::Fragment, took_all());
        let (id, _) = slow.servers.open(TARGET);
        let packet = last(&id).with("Authorization", scheme);
        let _first = slow.send_first(&packet);
        expect_lost(&slow.meanwhile(&[packet])[0]);
        assert_eq!(slow.seen(), 2);

        let slow = Slow::to(PacketType::CloseSession, ok());
        let (id, _) = slow.servers.open(TARGET);
        let packet = close(TARGET, &id).with("Authorization", scheme);
        let _first = slow.send_first(&packet);
        assert_eq!(slow.meanwhile(&[packet])[0].status, 200);
        assert_eq!(slow.seen(), 1);
    }
}

/// Fault: an end is repeated while it is under way.
#[test]
fn in_a_tight_race_nobody_starts_over() {
    // It forgets a session with its first end, and says so to the second.
    let closed = Mutex::new(std::collections::HashSet::new());
    let agree = server(0);
    let backend = RawBackend::answering(move |request| {
        let id = request.field("BITS-Session-Id").unwrap_or_default().to_owned();
        let end = request.packet_type() == "close-session";
        if end && !closed.lock().expect("no panic").insert(id) {
            not_found()
        } else {
            agree(request)
        }
    });
    let servers = Servers::of(vec![backend], |farm| farm.without_host_ids());
    for round in 0..300 {
        let (id, _) = servers.open(TARGET);
        let packet = close(TARGET, &id).bytes();
        let before = servers.counts()[0];
        let (mut first, mut second) = (servers.connect(), servers.connect());
        first.send(&packet).expect("it is taken");
        // At every moment between the arrival here and the answer from there.
        match round % 3 {
            0 => wait::until("the server has it", || servers.counts()[0] > before),
            1 => std::thread::yield_now(),
            _ => {}
        }
        second.send(&packet).expect("it is taken");
        if round % 2 == 0 {
            first.reset();
        }
        let answer: Result<Answer, WireError> = second.read_answer();
        let answer = answer.expect("an answer");
        assert_eq!(answer.status, 200, "round {round}: {}", answer.head);
    }
}
