//! A full disk costs a server the new sessions of one folder.

use e2e_tests::client::{PacketType, exchange};
use e2e_tests::farm::{Farm, FarmBuilder, StubFault};
use e2e_tests::wait;

use super::open;
use crate::packets::{create, fragment, session_of};

fn farm(stubs: usize) -> FarmBuilder {
    Farm::of_stubs(stubs).set("placement.policy", "\"round-robin\"")
}

fn full(packet: PacketType) -> StubFault {
    StubFault::on(packet, "disk_full").times(1_000_000)
}

/// The Fragment of a session at the first server is refused.
fn fill(farm: &Farm, folder: &str) {
    farm.stub(0).fault(full(PacketType::Fragment));
    for number in 0..farm.stubs().len() {
        let target = format!("{folder}fill{number}.bin");
        let (id, owner) = open(farm, &target);
        if owner == "up01" {
            let packet = fragment(&target, &id, "bytes 0-2/9", b"abc");
            let answer = exchange(farm.entrance(), &packet.bytes()).expect("an answer");
            assert_eq!(answer.status, 500, "{}", answer.head);
        }
    }
    farm.stub(0).clear_faults();
}

#[test]
fn a_full_disk_counts_for_its_folder() {
    let farm = farm(3).start();
    fill(&farm, "/in/");
    for number in 0..6 {
        assert_ne!(open(&farm, &format!("/in/{number}.bin")).1, "up01");
    }
    let others: Vec<_> =
        (0..6).map(|number| open(&farm, &format!("/other/{number}.bin")).1).collect();
    assert_eq!(others.iter().filter(|owner| *owner == "up01").count(), 2, "{others:?}");
    farm.gateway().expect_logged("it says that its disk is full");
}

#[test]
fn a_server_with_room_again_gets_its_share() {
    let farm = farm(2).set("health.disk_full_for", "\"300ms\"").start();
    fill(&farm, "/in/");
    let mut number = 0;
    wait::until("its share", || {
        number += 1;
        open(&farm, &format!("/in/{number}.bin")).1 == "up01"
    });
    let owners: Vec<_> = (0..6).map(|n| open(&farm, &format!("/in/after{n}.bin")).1).collect();
    assert_eq!(owners.iter().filter(|owner| *owner == "up01").count(), 3, "{owners:?}");
}

#[test]
fn where_all_are_full_the_least_recently_full_is_tried() {
    let farm = farm(3).start();
    for stub in farm.stubs() {
        stub.fault(full(PacketType::CreateSession));
    }
    for number in 0..9 {
        let packet = create(&format!("/in/{number}.bin"));
        let answer = exchange(farm.entrance(), &packet.bytes()).expect("an answer");
        // The last server's own words.
        assert_eq!(answer.status, 500, "{}", answer.head);
        assert_eq!(answer.field("BITS-Error"), Some("0x80070070"), "{}", answer.head);
    }
    for stub in farm.stubs() {
        stub.clear_faults();
    }
    // Fragments tell of full disks one after the other.
    let mut sessions = vec![];
    for number in 0..3 {
        let target = format!("/in/a{number}.bin");
        sessions.push((open(&farm, &target), target));
    }
    for ((id, owner), target) in &sessions {
        farm.stub_named(owner).fault(StubFault::on(PacketType::Fragment, "disk_full"));
        let packet = fragment(target, id, "bytes 0-2/9", b"abc");
        assert_eq!(exchange(farm.entrance(), &packet.bytes()).expect("an answer").status, 500);
    }
    for number in 0..4 {
        let first = &sessions[0].0.1;
        assert_eq!(&open(&farm, &format!("/in/b{number}.bin")).1, first);
    }
}

#[test]
fn three_requests_of_one_client_do_not_stop_new_uploads() {
    let farm = farm(3).start();
    for stub in farm.stubs() {
        stub.fault(StubFault::on(PacketType::CreateSession, "disk_full"));
    }
    let answer = exchange(farm.entrance(), &create("/in/a.bin").bytes()).expect("an answer");
    assert_eq!(answer.status, 500);
    for number in 0..30 {
        session_of(
            &exchange(farm.entrance(), &create(&format!("/in/{number}.bin")).bytes())
                .expect("an answer"),
        );
    }
    assert!(farm.stubs().iter().all(|stub| stub.stats().sessions == 10));
}
