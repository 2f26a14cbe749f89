//! A server dies, hangs, or is slow in the middle of its work.

use std::collections::HashSet;

use e2e_tests::client::{FragmentSizes, PacketType};
use e2e_tests::farm::{Farm, Stub, StubFault};
use e2e_tests::fault_link::Plan;
use e2e_tests::wait;

use super::rig::{Midway, job, probed, statuses};

const MIB: u64 = 1 << 20;

/// Fault: backend dies inside a fragment.
#[test]
fn a_server_killed_inside_a_fragment_goes_on_where_it_was_once_it_is_back() {
    let farm = probed(2).link_backends().set("failover.hold", "\"100s\"").start();
    let client = farm.client().with(|o| o.fragments = FragmentSizes::Fixed(MIB));
    let midway = Midway::of(&farm, (0..4).map(|number| job(number, 4 * MIB, &client)));
    let (owner, sessions) = midway.busiest();
    let index = farm.stubs().iter().position(|stub| stub.name() == owner.name());
    let link = farm.link(index.expect("one of them"));
    // So slow that the kill finds every fragment of it in its middle.
    link.plan_all(Plan::pass().slow(200_000));
    link.slow(Some(200_000));
    let before = owner.stats().fragment;
    let fleet = midway.go_on();
    wait::until("its fragments are under way", || owner.stats().fragment >= before + sessions);
    owner.kill();
    link.plan_all(Plan::pass());
    owner.start();
    let outcome = fleet.join();
    outcome.expect_whole(&farm).expect_restarts(0);
    assert!(outcome.retries() >= 1, "nobody was hit");
}

/// Fault: backend dies before its Ack.
#[test]
fn a_server_that_has_the_whole_fragment_and_does_not_say_so_is_asked_for_its_offset() {
    let farm = probed(2).stub(0, &["--strict-ranges"]).set("failover.hold", "\"100s\"").start();
    for kind in ["apply_then_close", "close_after_body", "die"] {
        let midway = Midway::start(&farm, 4);
        for stub in farm.stubs() {
            stub.fault(StubFault::on(PacketType::Fragment, kind).skip(1));
        }
        let fleet = midway.go_on();
        // Who dies has to be there again.
        let fallen = |stub: &&Stub| !stub.is_running();
        if kind == "die" {
            wait::until("both have died", || farm.stubs().iter().filter(fallen).count() == 2);
            farm.stubs().iter().for_each(Stub::restart);
        }
        let outcome = fleet.join();
        outcome.expect_whole(&farm).expect_restarts(0);
        for done in &outcome.uploads {
            std::fs::remove_file(
                farm.stub_named(&farm.expect_stored(&done.path, &done.content)).file(&done.path),
            )
            .expect("a file can be removed");
        }
    }
}

/// Fault: backend hangs.
#[test]
fn a_server_that_hangs_costs_its_own_clients_a_wait_and_nobody_else_anything() {
    let farm = probed(2)
        .set("timeouts.client_body", "\"3s\"")
        .set("timeouts.answer", "\"4s\"")
        .set("timeouts.answer_long", "\"4s\"")
        .set("failover.hold", "\"0s\"")
        .start();
    let midway = Midway::start(&farm, 6);
    let (owner, sessions) = midway.busiest();
    owner.freeze();
    let (mut hanging, mut others) = (Vec::new(), Vec::new());
    for begun in midway.begun {
        let there = begun.upload.host_id().is_some_and(|host| host.starts_with(owner.name()));
        if there { hanging.push(begun) } else { others.push(begun) }
    }
    assert_eq!(hanging.len() as u64, sessions);
    let hanging = e2e_tests::fleet::Fleet::go_on(hanging);
    let others = e2e_tests::fleet::Fleet::go_on(others).join();
    for done in &others.uploads {
        done.report.expect_smooth();
    }
    // The kernel of a server that hangs takes connections, and a handshake of TLS over one never ends: such a server
    // does not answer late, it cannot be reached.
    let verdicts: &[u16] = if farm.tls().reaches_stubs() { &[503, 504] } else { &[504] };
    wait::until("those who wait are told to come again", || {
        let told = farm.gateway().access_log().into_iter().filter(|line| {
            line["status"].as_u64().is_some_and(|status| verdicts.contains(&(status as u16)))
        });
        let told: HashSet<_> = told.map(|line| line["session"].to_string()).collect();
        told.len() as u64 == sessions
    });
    owner.thaw();
    let outcome = hanging.join();
    outcome.expect_whole(&farm).expect_restarts(0);
    for done in &outcome.uploads {
        let seen = statuses(&done.report.events);
        assert!(verdicts.iter().any(|verdict| seen.contains(verdict)), "{}", done.report);
    }
}

/// Fault: backend is slow.
#[test]
fn a_fragment_may_take_longer_than_an_answer_while_its_bytes_move() {
    // More than the kernel keeps for the connections on the way, several times.
    const LENGTH: u64 = 36 * MIB;
    const SPEED: u64 = 6_000_000;
    for slow in ["the backend", "the client"] {
        let farm = Farm::of_stubs(1)
            .link_front()
            .link_backends()
            .set("timeouts.client_body", "\"3s\"")
            .set("timeouts.answer", "\"4s\"")
            .set("timeouts.answer_long", "\"4s\"")
            .set("timeouts.backend_write", "\"3s\"")
            .start();
        let link = if slow == "the backend" { farm.link(0) } else { farm.front() };
        link.plan_all(Plan::pass().slow(SPEED));
        let client = farm.client().with(|o| o.fragments = FragmentSizes::Whole);
        let outcome = e2e_tests::fleet::Fleet::start([job(0, LENGTH, &client)]).join();
        outcome.expect_whole(&farm);
        println!("{slow} is slow");
        outcome.uploads[0].report.expect_smooth();
    }
}
