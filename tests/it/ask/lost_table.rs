//! The whole table is lost while uploads run, and no name of a host says where they are.

use e2e_tests::client::{FragmentSizes, Upload, exchange};
use e2e_tests::data::Content;
use e2e_tests::farm::{Farm, FarmBuilder};

use crate::packets::{
    TARGET, close, create, expect_not_found, expect_not_now, fragment, session_of,
};

const PIECES: FragmentSizes = FragmentSizes::Fixed(10_000);

/// A farm that has nothing but its backends to ask.
pub fn asking(stubs: usize) -> FarmBuilder {
    Farm::of_stubs(stubs).forgetful().without_host_ids().set("sessions.unknown", "\"ask\"")
}

/// Uploads that have begun, with their paths and files.
#[track_caller]
pub fn begun(farm: &Farm, count: u64) -> Vec<(Upload, String, Content)> {
    let client = farm.client().with(|o| o.fragments = PIECES);
    let begin = |number| {
        let content = Content::seeded(number, 50_000 + number * 7);
        let path = format!("/in/{number}.bin");
        let mut upload = client.begin(&farm.url(&path), &content);
        assert!(upload.run_until(|upload| upload.position() >= 20_000));
        (upload, path, content)
    };
    (0..count).map(begin).collect()
}

/// Fault: all the gateway knew is lost.
#[test]
fn every_upload_goes_on_when_the_whole_table_is_lost() {
    let farm = asking(3).start();
    let uploads = begun(&farm, 9);
    farm.gateway().restart();
    for (upload, path, content) in uploads {
        let report = upload.run();
        assert_eq!(report.expect_complete().restarts, 0, "{report}");
        farm.expect_stored(&path, &content);
    }
    assert_eq!(
        farm.metric("bitsgw_affinity_lookups_total", &[("source", "ask"), ("result", "hit")]),
        9.0
    );
    // Once each, and never more: the pins are back.
    assert_eq!(farm.metric("bitsgw_asks_total", &[("result", "sent")]), 27.0);
    farm.expect_healthy();
}

/// Fault: all the gateway knew is lost.
#[test]
fn a_complete_upload_whose_table_is_lost_is_closed() {
    let farm = asking(3).start();
    let ask = |packet: &crate::packets::Packet| {
        exchange(farm.entrance(), &packet.bytes()).expect("an answer")
    };
    let id = session_of(&ask(&create(TARGET)));
    assert_eq!(ask(&fragment(TARGET, &id, "bytes 0-2/3", b"abc")).status, 200);
    farm.gateway().restart();
    // The Ack of the last Fragment got lost as well.
    assert_eq!(ask(&fragment(TARGET, &id, "bytes 0-2/3", b"abc")).status, 200);
    farm.gateway().restart();
    assert_eq!(ask(&close(TARGET, &id)).status, 200);
    farm.expect_stored(TARGET, &Content::bytes(b"abc".to_vec()));
    farm.expect_healthy();
}

/// Fault: all the gateway knew is lost, and the session has no byte.
#[test]
fn an_upload_that_has_not_begun_to_send_goes_on_when_the_whole_table_is_lost() {
    let farm = asking(2).start();
    let content = Content::seeded(3, 30_000);
    let client = farm.client().with(|o| o.fragments = PIECES);
    let mut upload = client.begin(&farm.url(TARGET), &content);
    assert!(upload.run_until(|upload| upload.session().is_some()));
    assert_eq!(upload.position(), 0);
    farm.gateway().restart();
    let report = upload.run();
    assert_eq!(report.expect_complete().restarts, 0, "{report}");
    farm.expect_stored(TARGET, &content);
    expect_nothing_cancelled(&farm);
    farm.expect_healthy();
}

/// Fault: all the gateway knew is lost, and the session has no byte.
#[test]
fn a_small_upload_that_has_not_begun_to_send_starts_over_when_the_whole_table_is_lost() {
    let farm = asking(2).start();
    for (number, size) in [1, 2, 3, 9_999, 10_000].into_iter().enumerate() {
        let path = format!("/in/{number}.bin");
        let content = Content::seeded(3, size);
        let client = farm.client().with(|o| o.fragments = PIECES);
        let mut upload = client.begin(&farm.url(&path), &content);
        assert!(upload.run_until(|upload| upload.session().is_some()));
        farm.gateway().restart();
        let report = upload.run();
        assert_eq!(report.expect_complete().restarts, 1, "{report}");
        farm.expect_stored(&path, &content);
    }
    expect_nothing_cancelled(&farm);
    farm.expect_healthy();
}

#[track_caller]
pub fn expect_nothing_cancelled(farm: &Farm) {
    assert!(farm.stubs().iter().all(|stub| stub.stats().cancel_session == 0));
}

/// Fault: all the gateway knew is lost.
#[test]
fn an_upload_waits_for_a_server_that_is_away_and_may_have_it() {
    let farm = asking(2).set("failover.hold", "\"100ms\"").start();
    let uploads = begun(&farm, 4);
    farm.gateway().kill();
    farm.stub(0).kill();
    farm.gateway().start();
    for (upload, path, _) in &uploads {
        let id = upload.session().expect("a session");
        for packet in [fragment(path, id, "bytes 0-2/9", b"abc"), close(path, id)] {
            let answer = exchange(farm.entrance(), &packet.bytes()).expect("an answer");
            expect_not_now(&[503], packet.kind, &answer);
        }
    }
    farm.stub(0).start();
    for (upload, path, content) in uploads {
        let report = upload.run();
        assert_eq!(report.expect_complete().restarts, 0, "{report}");
        farm.expect_stored(&path, &content);
    }
    farm.expect_healthy();
}

#[test]
fn a_packet_is_held_while_a_server_that_may_have_its_session_starts() {
    let farm = asking(2)
        .set("failover.hold", "\"60s\"")
        .set("health.kind", "\"tcp\"")
        .set("health.interval", "\"200ms\"")
        .start();
    let mut uploads = begun(&farm, 1);
    let (upload, path, content) = uploads.remove(0);
    farm.gateway().kill();
    farm.stub(0).kill();
    farm.gateway().start();
    let up = |farm: &Farm| farm.metric("bitsgw_backend_up", &[("backend", "up01")]);
    e2e_tests::wait::until("the dead server is seen", || up(&farm) == 0.0);
    let report = std::thread::scope(|scope| {
        let upload = scope.spawn(|| upload.run());
        let waiting = || farm.metric("bitsgw_requests_in_flight", &[]) >= 1.0;
        e2e_tests::wait::until("the packet is held", waiting);
        farm.stub(0).start();
        upload.join().expect("the client does not panic")
    });
    assert_eq!(report.expect_complete().restarts, 0, "{report}");
    farm.expect_stored(&path, &content);
}

#[test]
fn the_sessions_of_a_server_that_is_given_up_start_over() {
    let farm =
        asking(2).set("failover.restart_after", "\"0s\"").set("failover.hold", "\"0s\"").start();
    let uploads = begun(&farm, 2);
    farm.gateway().kill();
    farm.stub(0).kill();
    farm.gateway().start();
    let mut restarts = 0;
    for (upload, path, content) in uploads {
        let report = upload.run();
        restarts += report.expect_complete().restarts;
        assert_eq!(farm.expect_stored(&path, &content), "up02");
    }
    assert_eq!(restarts, 1, "one of the two was on the server that is gone");
}

/// Fault: no backend knows the session.
#[test]
fn a_session_that_nobody_has_starts_over() {
    let farm = asking(3).start();
    for packet in crate::packets::of_session(TARGET, "{3F9C1E52-7B0D-4E7A-9C44-0D5B6A1E8F21}") {
        let answer = exchange(farm.entrance(), &packet.bytes()).expect("an answer");
        expect_not_found(packet.kind, &answer);
    }
    let sent = farm.metric("bitsgw_asks_total", &[("result", "sent")]);
    assert!((3.0..=9.0).contains(&sent), "{sent} questions");
    farm.expect_healthy();
}

#[test]
fn with_the_id_alone_nobody_gets_at_a_session() {
    let farm = asking(2).start();
    let uploads = begun(&farm, 1);
    for lost in [false, true] {
        if lost {
            farm.gateway().restart();
        }
        let id = uploads[0].0.session().expect("a session");
        for packet in crate::packets::of_session("/in/other.bin", id) {
            let answer = exchange(farm.entrance(), &packet.bytes()).expect("an answer");
            expect_not_found(packet.kind, &answer);
        }
    }
    for (upload, path, content) in uploads {
        assert_eq!(upload.run().expect_complete().restarts, 0);
        farm.expect_stored(&path, &content);
    }
}
