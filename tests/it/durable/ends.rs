//! Ends of sessions, and decisions of operators, across the death of the process.

use e2e_tests::client::{AckRules, PacketType};
use e2e_tests::data::Content;
use e2e_tests::farm::Farm;

use super::{PIECES, ask, begin};
use crate::operator::Operated;
use crate::packets::{Packet, TARGET, cancel, close, expect_not_found, fragment};

/// Ends a session, kills the gateway, and ends the session again.
#[track_caller]
fn answered_again(end: fn(&str, &str) -> Packet) {
    let farm = Farm::of_stubs(2).start();
    let id = begin(&farm, TARGET);
    let whole = fragment(TARGET, &id, "bytes 3-8/9", b"defghi");
    assert_eq!(ask(&farm, &whole).status, 200);
    let packet = end(TARGET, &id);
    assert_eq!(ask(&farm, &packet).status, 200);
    let seen = || farm.stubs().iter().map(|stub| stub.requests().len()).sum::<usize>();
    let before = seen();
    for _ in 0..2 {
        farm.gateway().restart();
        let answer = ask(&farm, &packet);
        assert_eq!(answer.status, 200, "{}", answer.head);
        AckRules::own_answer().expect(packet.kind, &answer);
    }
    // To anything else, and for any other destination, the session is as unknown as any.
    expect_not_found(PacketType::Fragment, &ask(&farm, &whole));
    expect_not_found(packet.kind, &ask(&farm, &end("/in/other.bin", &id)));
    assert_eq!(seen(), before, "no backend was asked");
}

/// Fault: the Ack of an end is lost, and the gateway is killed.
#[test]
fn a_close_whose_ack_was_lost_is_answered_200_again_after_the_gateway_was_killed() {
    answered_again(close);
}

/// Fault: the Ack of an end is lost, and the gateway is killed.
#[test]
fn a_cancel_whose_ack_was_lost_is_answered_200_again_after_the_gateway_was_killed() {
    answered_again(cancel);
}

/// Fault: the Ack of an end is lost, and the gateway is killed.
#[test]
fn the_end_of_a_session_that_only_its_alias_leads_to_is_remembered_as_well() {
    for end in [close, cancel] {
        let farm = Farm::of_stubs(2).start();
        let client = farm.client().with(|o| o.fragments = PIECES);
        let content = Content::seeded(1, 20_000);
        let mut upload = client.begin(&farm.url(TARGET), &content);
        assert!(upload.run_until(|upload| upload.position() == content.len()));
        let id = upload.session().expect("a session").to_owned();
        farm.gateway().terminate();
        std::fs::remove_dir_all(farm.directory().join("store")).expect("there is a store");
        farm.gateway().start();
        // Its host id is all that is left.
        let owner = (0..2).find(|&index| farm.stub(index).stats().sessions == 1);
        let host = format!("up0{}.up.test", owner.expect("it is somewhere") + 1);
        let packet = end(TARGET, &id).at(&host);
        assert_eq!(ask(&farm, &packet).status, 200);
        let seen = || farm.stubs().iter().map(|stub| stub.requests().len()).sum::<usize>();
        let before = seen();
        for _ in 0..2 {
            let answer = ask(&farm, &packet);
            assert_eq!(answer.status, 200, "{}", answer.head);
            AckRules::own_answer().expect(packet.kind, &answer);
            farm.gateway().restart();
        }
        assert_eq!(seen(), before, "no backend was asked");
    }
}

#[test]
fn an_id_whose_end_is_remembered_is_not_given_out_after_the_gateway_was_killed() {
    // This one makes ids of the path, so the same one comes up again.
    let farm = Farm::of_stubs(1).each_stub(&["--flavour", "path-id", "--allow-overwrites"]).start();
    let first = begin(&farm, TARGET);
    ask(&farm, &fragment(TARGET, &first, "bytes 3-8/9", b"defghi"));
    assert_eq!(ask(&farm, &close(TARGET, &first)).status, 200);
    farm.gateway().restart();
    assert_ne!(begin(&farm, TARGET), first);
    assert_eq!(ask(&farm, &close(TARGET, &first)).status, 200);
}

#[test]
fn a_drain_survives_the_death_of_the_gateway() {
    let operated = Operated::start();
    let farm = &operated.farm;
    operated.type_in(&["backends", "drain", "up01"]);
    farm.gateway().restart();
    let client = farm.client().with(|o| o.fragments = PIECES);
    for number in 0..4 {
        let (path, content) = (format!("/in/{number}.bin"), Content::seeded(number, 20_000));
        client.upload(&farm.url(&path), &content).expect_smooth();
        assert_eq!(farm.expect_stored(&path, &content), "up02");
    }
    operated.type_in(&["backends", "ready", "up01"]);
    operated.type_in(&["backends", "maintenance", "up02"]);
    farm.gateway().restart();
    let content = Content::seeded(9, 20_000);
    client.upload(&farm.url("/in/last.bin"), &content).expect_smooth();
    assert_eq!(farm.expect_stored("/in/last.bin", &content), "up01");
    let states = operated.type_in(&["backends", "list", "--json"]);
    let states: serde_json::Value = serde_json::from_slice(&states.stdout).expect("JSON");
    assert_eq!(states["backends"][1]["admin_state"], "maintenance", "{states}");
    assert!(states["backends"][1]["admin_since"].is_string(), "{states}");
}

#[test]
fn a_session_that_an_operator_forgot_stays_forgotten_after_the_gateway_was_killed() {
    let operated = Operated::start();
    let farm = &operated.farm;
    let id = begin(farm, TARGET);
    let owner = farm.stubs().iter().find(|stub| stub.stats().sessions == 1).expect("an owner");
    operated.type_in(&["sessions", "forget", &id]);
    farm.gateway().restart();
    // Not even by the alias that its client remembers.
    let host = format!("{}.up.test", owner.name());
    let packet = fragment(TARGET, &id, "bytes 3-8/9", b"defghi").at(&host);
    expect_not_found(PacketType::Fragment, &ask(farm, &packet));
}
