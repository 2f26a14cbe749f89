//! Where new sessions go: the policies as real backends see them, and a Create-Session whose first backend refuses.
//! Items 85 and 86 of the conformance checklist, as far as there are no health checks yet.

mod full;
mod hanging;
mod load;
mod pings;
mod refusals;

use std::collections::BTreeMap;

use e2e_tests::client::{Ack, FragmentSizes, PacketType, exchange};
use e2e_tests::data::Content;
use e2e_tests::farm::{Farm, FarmBuilder, StubFault};
use e2e_tests::ports::Port;
use e2e_tests::wait;

use crate::packets::{
    TARGET, close, create, expect_not_now, fragment, of_session, ping, session_of,
};

/// A session for `target`; returns its id and the name of its backend. The connection is a new one, for a client's
/// connection is a reason of its own to choose a backend.
#[track_caller]
fn open(farm: &Farm, target: &str) -> (String, String) {
    let before: Vec<u64> = farm.stubs().iter().map(|stub| stub.stats().create_session).collect();
    let answer = exchange(farm.entrance(), &create(target).bytes()).expect("an answer");
    let id = session_of(&answer);
    let asked = farm.stubs().iter().zip(before);
    let mut chosen = asked.filter(|(stub, before)| stub.stats().create_session > *before);
    let (stub, _) = chosen.next().expect("some backend was asked");
    assert_eq!(chosen.count(), 0, "no other backend was asked");
    (id, stub.name().to_owned())
}

/// How many of `count` sessions, each for a target of its own, went to each backend.
#[track_caller]
fn spread(farm: &Farm, count: usize) -> BTreeMap<String, usize> {
    let mut sessions = BTreeMap::new();
    for number in 0..count {
        *sessions.entry(open(farm, &format!("/in/{number}.bin")).1).or_default() += 1;
    }
    sessions
}

fn counts(expected: &[(&str, usize)]) -> BTreeMap<String, usize> {
    expected.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
}

#[track_caller]
fn end(farm: &Farm, target: &str, id: &str) {
    let answer = exchange(farm.entrance(), &close(target, id).bytes()).expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.head);
}

fn policy(farm: FarmBuilder, name: &str) -> Farm {
    farm.set("placement.policy", &format!("\"{name}\"")).start()
}

#[test]
fn round_robin_takes_backends_in_turn() {
    let farm = policy(Farm::of_stubs(3), "round-robin");
    let places: Vec<_> = (0..9).map(|_| open(&farm, TARGET).1).collect();
    for turn in places.chunks(3) {
        let mut turn = turn.to_vec();
        turn.sort();
        assert_eq!(turn, ["up01", "up02", "up03"], "{places:?}");
    }
    // Other packets take no turn.
    for _ in 0..2 {
        exchange(farm.entrance(), &ping(TARGET).bytes()).expect("an answer");
    }
    let more: Vec<_> = (0..3).map(|_| open(&farm, TARGET).1).collect();
    assert_eq!(more, places[..3]);
}

#[test]
fn weights_share_the_turns_of_round_robin() {
    let farm = policy(
        Farm::of_stubs(3).set_backend("up01", "weight", "3").set_backend("up03", "weight", "2"),
        "round-robin",
    );
    for _ in 0..2 {
        assert_eq!(spread(&farm, 6), counts(&[("up01", 3), ("up02", 1), ("up03", 2)]));
    }
}

#[test]
fn least_sessions_counts_what_is_open_and_not_what_has_been() {
    let farm = policy(Farm::of_stubs(3).each_stub(&["--allow-overwrites"]), "least-sessions");
    assert_eq!(spread(&farm, 6), counts(&[("up01", 2), ("up02", 2), ("up03", 2)]));
    let mut sessions: Vec<_> = (0..3).map(|_| open(&farm, TARGET)).collect();
    sessions.sort_by(|a, b| a.1.cmp(&b.1));
    // Room is made on one backend, by one close and by one cancel, and new sessions go there.
    let (id, freed) = &sessions[1];
    end(&farm, TARGET, id);
    assert_eq!(&open(&farm, TARGET).1, freed);
    let (id, freed) = &sessions[2];
    let cancel = crate::packets::cancel(TARGET, id);
    assert_eq!(exchange(farm.entrance(), &cancel.bytes()).expect("an answer").status, 200);
    assert_eq!(&open(&farm, TARGET).1, freed);
    // Uploads that are over leave no trace, however many there were on one backend.
    for _ in 0..4 {
        let (id, _) = open(&farm, "/in/short.bin");
        end(&farm, "/in/short.bin", &id);
    }
    assert_eq!(spread(&farm, 3), counts(&[("up01", 1), ("up02", 1), ("up03", 1)]));
}

#[test]
fn least_sessions_is_the_default_and_is_measured_per_weight() {
    let farm = Farm::of_stubs(3)
        .unset("placement.policy")
        .set_backend("up02", "weight", "4")
        .set_backend("up03", "weight", "2")
        .start();
    assert_eq!(spread(&farm, 14), counts(&[("up01", 2), ("up02", 8), ("up03", 4)]));
    // Room for one on each: what is free is taken, and the heavy one gets its share again.
    assert_eq!(spread(&farm, 7), counts(&[("up01", 1), ("up02", 4), ("up03", 2)]));
}

#[test]
fn least_bytes_left_counts_what_is_still_to_come() {
    let farm = policy(Farm::of_stubs(2), "least-bytes-left");
    let send = |target: &str, id: &str, range: &str| {
        let packet = fragment(target, id, range, &[7; 10]);
        let answer = exchange(farm.entrance(), &packet.bytes()).expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.head);
    };
    let (long, full) = open(&farm, "/in/long.bin");
    send("/in/long.bin", &long, "bytes 0-9/1000000");
    // However many small ones there are, the one large file outweighs them.
    let mut small = Vec::new();
    for number in 0..6 {
        let target = format!("/in/{number}.bin");
        let (id, backend) = open(&farm, &target);
        send(&target, &id, "bytes 0-9/1000");
        assert_ne!(backend, full);
        small.push((target, id));
    }
    // When it is over, the other backend has more to do.
    end(&farm, "/in/long.bin", &long);
    assert_eq!(open(&farm, "/in/next.bin").1, full);
}

#[test]
fn hash_sends_one_target_to_one_backend_and_many_to_all() {
    let farm = policy(Farm::of_stubs(3).each_stub(&["--allow-overwrites"]), "hash");
    let mut places = BTreeMap::new();
    for _ in 0..3 {
        for number in 0..24 {
            let target = format!("/in/{number}.bin");
            let (id, backend) = open(&farm, &target);
            // Alone on the farm, so that no backend is fuller than its share.
            end(&farm, &target, &id);
            let before = places.insert(target, backend.clone());
            assert!(before.is_none_or(|before| before == backend), "{number} moved");
        }
    }
    let mut sessions: BTreeMap<_, usize> = BTreeMap::new();
    for backend in places.into_values() {
        *sessions.entry(backend).or_default() += 1;
    }
    assert_eq!(sessions.len(), 3, "{sessions:?}");
    // The gateway's process has nothing to do with it.
    let (id, before) = open(&farm, TARGET);
    end(&farm, TARGET, &id);
    farm.gateway().restart();
    assert_eq!(open(&farm, TARGET).1, before);
}

#[test]
fn hash_does_not_fill_one_backend_with_one_busy_target() {
    let farm = policy(Farm::of_stubs(3).each_stub(&["--allow-overwrites"]), "hash");
    let mut sessions: BTreeMap<_, usize> = BTreeMap::new();
    for _ in 0..24 {
        *sessions.entry(open(&farm, TARGET).1).or_default() += 1;
    }
    // 1.25 times a share of 8.
    assert!(sessions.len() == 3 && sessions.values().all(|&count| count <= 10), "{sessions:?}");
}

#[test]
fn hash_of_the_client_keeps_a_client_together() {
    let farm = policy(Farm::of_stubs(3).set("placement.hash_key", "\"client\""), "hash");
    let mut used = BTreeMap::new();
    for number in 0..8 {
        let target = format!("/in/{number}.bin");
        let (id, backend) = open(&farm, &target);
        end(&farm, &target, &id);
        *used.entry(backend).or_insert(0) += 1;
    }
    assert_eq!(used.len(), 1, "all come from one address: {used:?}");
}

/// Item 85.
#[test]
fn a_create_session_goes_to_the_next_backend_when_one_refuses_the_connection() {
    for name in ["round-robin", "least-sessions", "hash"] {
        let farm = Farm::of_stubs(3).set("health.retry_after", "\"500ms\"");
        let farm = policy(farm, name);
        farm.stub(0).refuse(true);
        farm.stub(2).refuse(true);
        for number in 0..6 {
            let target = format!("/in/{number}.bin");
            let answer = exchange(farm.entrance(), &create(&target).bytes()).expect("an answer");
            // One answer, of the backend that took it: the client hears nothing of the others.
            assert_eq!(Ack::read(&answer).host_id.as_deref(), Some("up02.up.test"), "{name}");
            session_of(&answer);
        }
        let asked: Vec<_> = farm.stubs().iter().map(|s| s.stats().create_session).collect();
        assert_eq!(asked, [0, 6, 0], "{name}");
        let failovers = farm.metric("bitsgw_failovers_total", &[("reason", "connect")]);
        assert!(failovers > 0.0 || name == "hash", "{name}");
        farm.stub(0).refuse(false);
        farm.stub(2).refuse(false);
        wait::until("the others are asked again", || {
            exchange(farm.entrance(), &create(TARGET).bytes()).expect("an answer");
            farm.stub(0).stats().create_session + farm.stub(2).stats().create_session > 0
        });
    }
}

/// Item 85.
#[test]
fn uploads_arrive_while_one_backend_is_down() {
    let farm = Farm::of_stubs(3).start();
    farm.stub(1).kill();
    let content = Content::seeded(1, 30_000);
    let client = farm.client().with(|o| o.fragments = FragmentSizes::Fixed(10_000));
    for number in 0..6 {
        let path = format!("/in/{number}.bin");
        client.upload(&farm.url(&path), &content).expect_smooth();
        assert_ne!(farm.expect_stored(&path, &content), "up02");
    }
    farm.expect_healthy();
}

/// Item 85. A session without an Ack stays at its server either way: its client sends a new Create.
#[test]
fn a_create_session_whose_server_goes_away_is_sent_to_two_more_at_most() {
    for kind in ["reset", "close_after_body", "apply_then_close"] {
        let farm = Farm::of_stubs(4).start();
        for stub in farm.stubs() {
            stub.fault(StubFault::on(PacketType::CreateSession, kind).times(9));
        }
        for number in 1..=3 {
            let answer = exchange(farm.entrance(), &create(TARGET).bytes()).expect("an answer");
            expect_not_now(&[502, 503], PacketType::CreateSession, &answer);
            let asked: u64 = farm.stubs().iter().map(|stub| stub.stats().create_session).sum();
            assert_eq!(asked, 3 * number, "{kind}");
        }
    }
}

/// Item 86.
#[test]
fn without_any_backend_every_packet_is_answered_503() {
    let nobody = [Port::reserve(), Port::reserve()];
    let farm = Farm::of_stubs(0)
        .backend("up01", nobody[0].address())
        .backend("up02", nobody[1].address())
        .set("failover.hold", "\"200ms\"")
        .start();
    for host in ["up.test", "up02.up.test"] {
        for packet in [create(TARGET), ping(TARGET)] {
            let answer = exchange(farm.entrance(), &packet.clone().at(host).bytes());
            expect_not_now(&[503], packet.kind, &answer.expect("an answer"));
        }
    }
    for packet in of_session(TARGET, "x") {
        let answer = exchange(farm.entrance(), &packet.clone().at("up01.up.test").bytes());
        expect_not_now(&[503], packet.kind, &answer.expect("an answer"));
    }
}

/// Item 86.
#[test]
fn a_session_waits_with_its_pin_while_every_backend_is_away() {
    let farm = Farm::of_stubs(2)
        .without_host_ids()
        .set("failover.hold", "\"500ms\"")
        .set("health.retry_after", "\"100ms\"")
        .start();
    let (id, owner) = open(&farm, TARGET);
    for stub in farm.stubs() {
        stub.kill();
    }
    for packet in of_session(TARGET, &id) {
        let answer = exchange(farm.entrance(), &packet.bytes()).expect("an answer");
        expect_not_now(&[503], packet.kind, &answer);
    }
    for packet in [create(TARGET), ping(TARGET)] {
        let answer = exchange(farm.entrance(), &packet.bytes()).expect("an answer");
        expect_not_now(&[503], packet.kind, &answer);
    }
    for stub in farm.stubs() {
        stub.start();
    }
    let before = farm.stub_named(&owner).stats().fragment;
    let packet = &of_session(TARGET, &id)[0];
    wait::until("the session goes on", || {
        exchange(farm.entrance(), &packet.bytes()).expect("an answer").status == 200
    });
    assert_eq!(farm.stub_named(&owner).stats().fragment, before + 1);
}
