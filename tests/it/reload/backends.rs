//! Servers that leave the file, come back into it, and move.

use e2e_tests::data::Content;
use e2e_tests::farm::{Farm, FarmBuilder, Stub};
use e2e_tests::fault_link::Plan;
use e2e_tests::wait;

use super::{Operated, PIECES};

/// Round-robin over two stubs, whose names are the only ones that the gateway answers to.
fn two() -> FarmBuilder {
    Farm::of_stubs(2).set("http.hosts", "[\"up.test\"]")
}

#[track_caller]
fn owner(farm: &Farm) -> &Stub {
    farm.stubs().iter().find(|stub| stub.stats().sessions == 1).expect("an owner")
}

#[test]
fn a_removed_backend_finishes_its_uploads_and_leaves() {
    for ignore_host_id in [false, true] {
        let operated = Operated::start(two());
        let farm = &operated.farm;
        let client = farm.client().with(|o| {
            o.fragments = PIECES;
            o.ignore_host_id = ignore_host_id;
        });
        let content = Content::seeded(1, 50_000);
        let mut upload = client.begin(&farm.url("/in/old.bin"), &content);
        assert!(upload.run_until(|upload| upload.position() >= 20_000));
        let owner = owner(farm).name();
        farm.gateway().remove_backend(owner);
        assert!(farm.gateway().reload());
        for number in 0..4 {
            let path = format!("/in/new-{number}.bin");
            client.upload(&farm.url(&path), &content).expect_smooth();
            assert_ne!(farm.expect_stored(&path, &content), owner);
        }
        let shown = operated.backend(owner).expect("it still has an upload");
        assert_eq!(shown["configured"], false);
        assert_eq!(shown["admin_state"], "drain");
        assert_eq!(shown["sessions"], 1);
        let removed = operated.type_in(&["backends", "ready", owner]);
        assert!(!removed.status.success(), "only the file brings it back");
        upload.run().expect_smooth();
        assert_eq!(farm.expect_stored("/in/old.bin", &content), owner);
        wait::until("the backend has left", || operated.backend(owner).is_none());
        assert!(
            !farm
                .gateway()
                .metrics()
                .iter()
                .any(|s| s.labels.contains(&("backend".to_owned(), owner.to_owned()))),
            "its series are deleted"
        );
        farm.expect_healthy();
    }
}

#[test]
fn a_removed_backend_that_dies_gets_its_packets_again_when_it_is_back() {
    let operated = Operated::start(two().set("failover.hold", "\"60s\""));
    let farm = &operated.farm;
    let content = Content::seeded(2, 50_000);
    let client = farm.client().with(|o| o.fragments = PIECES);
    let mut upload = client.begin(&farm.url("/in/a.bin"), &content);
    assert!(upload.run_until(|upload| upload.position() >= 20_000));
    let owner = owner(farm);
    farm.gateway().remove_backend(owner.name());
    assert!(farm.gateway().reload());
    owner.kill();
    std::thread::scope(|scope| {
        let rest = scope.spawn(|| upload.run());
        wait::until("the packet is held", || {
            let labels = [("backend", owner.name())];
            farm.metric("bitsgw_backend_connection_errors_total", &labels) > 0.0
        });
        owner.start();
        rest.join().expect("the upload does not panic").expect_smooth();
    });
    assert_eq!(farm.expect_stored("/in/a.bin", &content), owner.name());
    farm.expect_healthy();
}

#[test]
fn a_backend_that_comes_back_has_its_uploads_and_gets_new_ones() {
    let operated = Operated::start(two());
    let farm = &operated.farm;
    let content = Content::seeded(3, 50_000);
    let client = farm.client().with(|o| {
        o.fragments = PIECES;
        o.ignore_host_id = true;
    });
    let mut upload = client.begin(&farm.url("/in/old.bin"), &content);
    assert!(upload.run_until(|upload| upload.position() >= 20_000));
    let owner = owner(farm);
    farm.gateway().remove_backend(owner.name());
    assert!(farm.gateway().reload());
    assert_eq!(operated.backend(owner.name()).expect("it stays")["configured"], false);
    // At the end of the file, where it was not before.
    farm.gateway().set_backend(owner.name(), owner.address());
    assert!(farm.gateway().reload());
    let back = operated.backend(owner.name()).expect("it is back");
    assert_eq!((&back["configured"], &back["admin_state"]), (&true.into(), &"ready".into()));
    assert_eq!(back["sessions"], 1);
    for number in 0..2 {
        client.upload(&farm.url(&format!("/in/new-{number}.bin")), &content).expect_smooth();
    }
    assert!(owner.stats().create_session > 1, "it gets new uploads");
    upload.run().expect_smooth();
    assert_eq!(farm.expect_stored("/in/old.bin", &content), owner.name());
    farm.expect_healthy();
}

#[test]
fn a_backend_that_moves_is_found_at_its_new_address() {
    let operated = Operated::start(Farm::of_stubs(1).link_backends());
    let farm = &operated.farm;
    let content = Content::seeded(4, 50_000);
    let client = farm.client().with(|o| o.fragments = PIECES);
    let mut upload = client.begin(&farm.url("/in/a.bin"), &content);
    assert!(upload.run_until(|upload| upload.position() >= 20_000));
    farm.gateway().set_backend("up01", farm.stub(0).address());
    assert!(farm.gateway().reload());
    let shown = operated.backend("up01").expect("it is there");
    assert_eq!(shown["address"], farm.stub(0).address().to_string());
    // Nothing leads over the old way any more.
    farm.link(0).plan_all(Plan::refuse());
    upload.run().expect_smooth();
    farm.expect_stored("/in/a.bin", &content);
    farm.expect_healthy();
}

#[test]
fn names_that_clients_were_told_stay_good() {
    let operated = Operated::start(two());
    let farm = &operated.farm;
    let content = Content::seeded(5, 50_000);
    let client = farm.client().with(|o| o.fragments = PIECES);
    let mut uploads: Vec<_> =
        (0..2).map(|n| client.begin(&farm.url(&format!("/in/{n}.bin")), &content)).collect();
    for upload in &mut uploads {
        assert!(upload.run_until(|upload| upload.position() >= 20_000));
        assert!(upload.host_id().is_some_and(|name| name.ends_with(".up.test")));
    }
    farm.gateway().configure(|settings| {
        settings.set("affinity.host_id_domain", "\"new.test\"");
        settings.set("http.hosts", "[\"new.test\"]");
    });
    assert!(farm.gateway().reload());
    // One goes back to the name that it began with, which is not ours any more.
    uploads[1].interrupt();
    for upload in uploads {
        upload.run().expect_smooth();
    }
    let stranger = client.upload(&farm.url("/in/late.bin"), &content);
    assert_eq!(stranger.expect_fatal().status, Some(400), "a new upload under the old name");
    for number in 0..2 {
        farm.expect_stored(&format!("/in/{number}.bin"), &content);
    }
    farm.expect_healthy();
}
