//! The network delays, stands still, forgets connections, and calls a server by another address.

use std::net::{Ipv4Addr, SocketAddr};

use e2e_tests::client::{Connection, FragmentSizes};
use e2e_tests::farm::{Farm, Stub};
use e2e_tests::fault_link::{Cut, FaultLink};
use e2e_tests::hosts::Hosts;
use e2e_tests::temp::TempDir;
use e2e_tests::wait;

use crate::packets::{TARGET, ping};

use super::rig::{Midway, job, probed};

const MIB: u64 = 1 << 20;

/// Fault: packets are lost or late.
#[test]
fn uploads_over_a_network_that_stops_and_goes_see_the_same_answers_later() {
    let farm = Farm::of_stubs(2).link_front().link_backends().start();
    let client = farm.client().with(|o| o.fragments = FragmentSizes::Fixed(100_000));
    let midway = Midway::of(&farm, (0..6).map(|number| job(number, 2 * MIB, &client)));
    let fleet = midway.go_on();
    let mut stops = 0;
    // What a lost segment does to a connection: nothing for a while, then all at once.
    for percent in 34..100 {
        fleet.reach(f64::from(percent) / 100.0, || {});
        for link in [farm.front(), farm.link(0), farm.link(1)] {
            link.stall();
            link.resume();
            stops += 1;
        }
    }
    let outcome = fleet.join();
    outcome.expect_whole(&farm);
    assert!(stops > 100);
    for done in &outcome.uploads {
        done.report.expect_smooth();
    }
}

/// Fault: the network goes silent.
#[test]
fn a_way_to_a_server_that_goes_silent_is_given_up_and_another_connection_goes_on() {
    let farm = Farm::of_stubs(2)
        .link_backends()
        .set("timeouts.client_body", "\"1s\"")
        .set("timeouts.answer", "\"2s\"")
        .set("timeouts.answer_long", "\"2s\"")
        .start();
    let midway = Midway::start(&farm, 4);
    // Whatever is kept or under way is dead, and nobody says so.
    farm.link(0).stall();
    farm.link(1).stall();
    let fleet = midway.go_on();
    let timeouts = [("reason", "backend_timeout")];
    wait::until("somebody has waited in vain", || {
        farm.metric("bitsgw_rejected_requests_total", &timeouts) >= 2.0
    });
    for link in [farm.link(0), farm.link(1)] {
        link.cut(Cut::Reset);
        link.resume();
    }
    let outcome = fleet.join();
    outcome.expect_whole(&farm).expect_restarts(0);
    assert!(outcome.retries() >= 2);
}

/// Fault: NAT drops an idle connection.
#[test]
fn a_connection_that_somebody_between_forgot_ends_and_its_client_comes_back_by_another() {
    let farm = Farm::of_stubs(1).link_front().set("timeouts.client_idle", "\"4s\"").start();
    let midway = Midway::start(&farm, 2);
    let mut forgotten = Connection::open(farm.entrance()).expect("a connection");
    assert_eq!(forgotten.exchange(&ping(TARGET).bytes()).expect("an answer").status, 200);
    farm.front().stall();
    let open = || farm.metric("bitsgw_connections", &[]);
    assert!(open() >= 1.0);
    // Neither end hears of the other any more; the gateway's half goes by itself.
    wait::until("the gateway has let go of them", || open() == 0.0);
    farm.front().cut(Cut::Reset);
    farm.front().resume();
    let outcome = midway.finish();
    outcome.expect_restarts(0);
}

/// Fault: backend gets another address.
#[test]
fn the_uploads_of_a_server_go_on_when_its_name_leads_to_another_address() {
    const NAME: &str = "up01.farm.test";
    let (hosts, folder) = (Hosts::default(), TempDir::new("server"));
    let lead_to = |last: &[u8]| {
        let addresses: Vec<_> = last.iter().map(|last| Ipv4Addr::new(127, 0, 0, *last)).collect();
        hosts.set(&[(NAME, &addresses)]);
    };
    let stub = Stub::start_new("up01", &[], folder.path());
    let old = FaultLink::to(stub.address());
    let port = old.address().port();
    let new = FaultLink::at(SocketAddr::from(([127, 0, 0, 2], port)), stub.address());
    lead_to(&[1]);
    let farm = probed(0)
        .backend("up01", stub.address())
        .set_backend("up01", "address", &format!("\"{NAME}:{port}\""))
        .set("health.resolve", "\"1s\"")
        // A busy machine is no dead server.
        .set("health.timeout", "\"10s\"")
        .set("failover.hold", "\"100s\"");
    let farm = hosts.obeyed_by(farm).start();
    let midway = Midway::start(&farm, 3);
    assert!(old.accepted() > 0 && new.accepted() == 0);
    lead_to(&[2, 1]);
    // The old address lives and is still one of them, so nobody moves.
    let mut begun = midway.begun;
    for begun in &mut begun {
        let position = begun.upload.position();
        assert!(begun.upload.run_until(|upload| upload.position() > position));
    }
    assert_eq!(new.accepted(), 0);
    drop(old);
    let outcome = e2e_tests::fleet::Fleet::go_on(begun).join();
    assert!(new.accepted() > 0);
    for done in &outcome.uploads {
        done.report.expect_complete();
        assert_eq!(done.report.restarts, 0, "{}", done.report);
        let sha256 = e2e_tests::data::sha256_file(&stub.file(&done.path)).expect("it is there");
        assert_eq!(sha256, done.content.sha256(), "{}", done.path);
    }
    assert_eq!(stub.foreign_packets(), 0);
    farm.expect_healthy();
}
