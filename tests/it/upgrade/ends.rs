//! One end, two processes: it is under way in one of them when it comes to the other.

use e2e_tests::client::{AckRules, Answer, Connection, PacketType};
use e2e_tests::farm::FarmBuilder;
use e2e_tests::raw_backend::Reply;
use e2e_tests::wait;

use super::handover::upgradable;
use crate::packets::{Packet, TARGET, cancel, close, expect_not_found, ping};
use crate::slow::{Slow, last, ok, took_all};

type End = (PacketType, fn(&str) -> Packet);

const ENDS: [End; 2] = [
    (PacketType::CloseSession, |id| close(TARGET, id)),
    (PacketType::CancelSession, |id| cancel(TARGET, id)),
];

fn slow(kind: PacketType, answer: Reply) -> Slow {
    Slow::with(kind, answer, |farm: FarmBuilder| upgradable(farm))
}

/// Sends `packet` while the first one is under way in the other process, and opens the gate when this process has it.
#[track_caller]
fn meanwhile(slow: &Slow, send: impl FnOnce() -> Answer + Send) -> Answer {
    std::thread::scope(|scope| {
        let asking = scope.spawn(send);
        slow.expect_in_flight(1);
        assert_eq!(slow.seen(), 1, "it waits");
        slow.gate.open();
        asking.join().expect("an answer")
    })
}

/// Fault: an end is repeated while it is under way, and the gateway is upgraded.
#[test]
fn an_end_that_is_under_way_in_the_process_before_is_waited_for() {
    for (kind, end) in ENDS {
        for reset in [true, false] {
            let slow = slow(kind, ok());
            let (id, _) = slow.servers.open(TARGET);
            let mut first = Some(slow.send_first(&end(&id)));
            if reset {
                first.take().expect("a connection").reset();
            }
            let mut old = slow.servers.farm.gateway().upgrade();
            let answer = meanwhile(&slow, || slow.servers.ask(&end(&id)));
            assert_eq!(answer.status, 200, "{}", answer.head);
            AckRules::own_answer().expect(kind, &answer);
            assert_eq!(slow.seen(), 1, "its server has heard of it once");
            if let Some(mut first) = first {
                assert_eq!(first.read_answer().expect("an answer").status, 200);
            }
            assert_eq!(old.wait().code(), Some(0));
            assert_eq!(slow.servers.stays(&end(&id)).status, 200, "it is remembered");
        }
    }
}

/// Fault: an end is repeated while it is under way, and the gateway is upgraded.
#[test]
fn an_end_that_is_under_way_in_the_successor_is_waited_for() {
    for (kind, end) in ENDS {
        let slow = slow(kind, ok());
        let (id, _) = slow.servers.open(TARGET);
        let mut kept = slow.servers.connect();
        assert_eq!(kept.exchange(&ping(TARGET).bytes()).expect("an answer").status, 200);
        let mut old = slow.servers.farm.gateway().upgrade();
        let mut first = slow.send_first(&end(&id));
        let answer = std::thread::scope(|scope| {
            let asking = scope.spawn(|| kept.exchange(&end(&id).bytes()).expect("an answer"));
            // The process before has no ops listener any more that would say what it does, and whichever
            // comes first, there is one end.
            slow.gate.open();
            asking.join().expect("no panic")
        });
        assert_eq!(answer.status, 200, "{}", answer.head);
        assert_eq!(first.read_answer().expect("an answer").status, 200);
        assert_eq!(slow.seen(), 1);
        assert_eq!(old.wait().code(), Some(0));
    }
}

/// Fault: another packet comes while an end is under way.
#[test]
fn another_packet_waits_for_an_end_in_the_process_before() {
    let slow = slow(PacketType::CloseSession, ok());
    let (id, _) = slow.servers.open(TARGET);
    let mut first = slow.send_first(&close(TARGET, &id));
    let _old = slow.servers.farm.gateway().upgrade();
    let before = slow.servers.counts();
    let answer = meanwhile(&slow, || slow.servers.ask(&last(&id)));
    expect_not_found(PacketType::Fragment, &answer);
    assert_eq!(slow.servers.counts(), before, "nothing of it reached the server");
    assert_eq!(first.read_answer().expect("an answer").status, 200);
}

/// Fault: an end is repeated while it is under way, and the gateway is upgraded.
#[test]
fn a_final_fragment_is_sent_again_only_when_the_process_before_has_its_answer() {
    let slow = slow(PacketType::Fragment, took_all());
    let (id, _) = slow.servers.open(TARGET);
    let mut first = slow.send_first(&last(&id));
    let _old = slow.servers.farm.gateway().upgrade();
    let answer = meanwhile(&slow, || slow.servers.ask(&last(&id)));
    // What the server says to the second one.
    assert_eq!(answer.status, 500, "{}", answer.head);
    assert_eq!(slow.seen(), 2);
    assert_eq!(first.read_answer().expect("an answer").status, 200);
}

/// Fault: an end is repeated while it is under way, and the gateway is upgraded.
#[test]
fn a_process_that_is_killed_keeps_nobody_waiting() {
    let slow = slow(PacketType::CloseSession, ok());
    let (id, _) = slow.servers.open(TARGET);
    let _first: Connection = slow.send_first(&close(TARGET, &id));
    let old = slow.servers.farm.gateway().upgrade();
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| slow.servers.ask(&close(TARGET, &id)));
        slow.expect_in_flight(1);
        assert_eq!(slow.seen(), 1, "it waits");
        // Dropping it kills it.
        drop(old);
        // Nobody knows what became of the first one, so the server is asked.
        wait::until("the server has the second one", || slow.seen() == 2);
        slow.gate.open();
        asking.join().expect("an answer");
    });
}
