//! The server that has the file is away for a moment, for long, or for good; and Acks get lost.

use e2e_tests::client::{FragmentSizes, Upload, exchange};
use e2e_tests::data::Content;
use e2e_tests::farm::{Farm, FarmBuilder, Stub};
use e2e_tests::fault_link::{Cut, FaultLink, Plan};
use e2e_tests::raw_backend::RawBackend;
use e2e_tests::wait;

use crate::packets::{
    Packet, Servers, TARGET, cancel, close, create, expect_not_found, expect_not_now, fragment,
    server, session_of,
};

const PIECES: FragmentSizes = FragmentSizes::Fixed(10_000);

/// A farm whose gateway soon sees that a server is back.
fn probed(stubs: usize) -> FarmBuilder {
    Farm::of_stubs(stubs).set("health.kind", "\"tcp\"").set("health.interval", "\"200ms\"")
}

/// An upload that has begun, and the stub that has it.
#[track_caller]
fn begun<'f>(farm: &'f Farm, content: &Content) -> (Upload, &'f Stub) {
    let client = farm.client().with(|o| o.fragments = PIECES);
    let mut upload = client.begin(&farm.url(TARGET), content);
    assert!(upload.run_until(|upload| upload.position() >= 20_000));
    let mut owners = farm.stubs().iter().filter(|stub| stub.stats().sessions == 1);
    let owner = owners.next().expect("one stub has the session");
    (upload, owner)
}

/// Items 55, 56.
/// Fault: the Ack of an end is lost.
#[test]
fn an_end_whose_ack_got_lost_is_acknowledged_again() {
    let servers = Servers::start(2);
    for end in [close, cancel] {
        let (id, _) = servers.open(TARGET);
        servers.passes(&fragment(TARGET, &id, "bytes 0-2/3", b"abc"));
        servers.passes(&end(TARGET, &id));
        for again in [close, cancel] {
            let packet = again(TARGET, &id);
            let answer = servers.stays(&packet);
            assert_eq!(answer.status, 200, "{}", answer.head);
            assert_eq!(answer.field("BITS-Packet-Type"), Some("Ack"));
            assert_eq!(answer.field("BITS-Session-Id"), Some(&*id));
        }
        // Nothing else of the session is left, and nobody else hears of it.
        let more = fragment(TARGET, &id, "bytes 0-2/3", b"abc");
        expect_not_found(more.kind, &servers.stays(&more));
        let elsewhere = close("/in/b.bin", &id);
        expect_not_found(elsewhere.kind, &servers.stays(&elsewhere));
    }
}

/// Item 82.
/// Fault: backend is away for a while.
#[test]
fn a_packet_whose_server_is_away_is_told_to_wait_and_keeps_its_pin() {
    let farm = probed(2).set("failover.hold", "\"300ms\"").start();
    let content = Content::seeded(1, 50_000);
    let (upload, owner) = begun(&farm, &content);
    owner.kill();
    let id = upload.session().expect("a session").to_owned();
    for packet in [fragment(TARGET, &id, "bytes 20000-20002/50000", b"abc"), close(TARGET, &id)] {
        let answer = exchange(farm.entrance(), &packet.bytes());
        expect_not_now(&[503], packet.kind, &answer.expect("an answer"));
    }
    owner.start();
    let report = upload.run();
    assert_eq!(report.expect_complete().restarts, 0, "{report}");
    farm.expect_stored(TARGET, &content);
    farm.expect_healthy();
}

#[test]
fn a_server_that_is_back_within_the_hold_costs_the_client_nothing() {
    let farm = probed(2).set("failover.hold", "\"100s\"").start();
    let content = Content::seeded(1, 50_000);
    let (upload, owner) = begun(&farm, &content);
    let refused = |farm: &Farm| farm.metric("bitsgw_backend_connection_errors_total", &[]);
    owner.kill();
    let report = std::thread::scope(|scope| {
        let upload = scope.spawn(|| upload.run());
        wait::until("the gateway holds the packet", || refused(&farm) >= 2.0);
        owner.start();
        upload.join().expect("the client does not panic")
    });
    report.expect_complete();
    // The connection that died with the server may cost a retry; the outage itself costs nothing.
    assert!(report.restarts == 0 && report.retries <= 1, "{report}");
    farm.expect_stored(TARGET, &content);
    farm.expect_healthy();
}

/// Item 83.
#[test]
fn the_uploads_of_a_server_that_is_gone_for_good_start_over_once_elsewhere() {
    let farm = probed(2).set("failover.restart_after", "\"0s\"").start();
    let content = Content::seeded(1, 50_000);
    let (upload, owner) = begun(&farm, &content);
    owner.kill();
    let report = upload.run();
    assert_eq!(report.expect_complete().restarts, 1, "{report}");
    assert_ne!(farm.expect_stored(TARGET, &content), owner.name());
    assert_eq!(farm.metric("bitsgw_sessions_ended_total", &[("reason", "lost")]), 1.0);
}

/// Each of the two times is for its own end of a wait.
#[test]
fn a_server_is_given_up_by_the_time_for_what_follows() {
    for (key, then, status) in [
        ("failover.reassign_after", "restart", 503),
        ("failover.restart_after", "restart", 500),
        ("failover.restart_after", "reassign", 503),
        ("failover.reassign_after", "reassign", 200),
    ] {
        let backends = [RawBackend::answering(server(0)), RawBackend::answering(server(1))];
        let links = backends.each_ref().map(|backend| FaultLink::to(backend.address()));
        let farm = Farm::of_stubs(0)
            .backend("up01", links[0].address())
            .backend("up02", links[1].address())
            .without_host_ids()
            .set("failover.hold", "\"0s\"")
            .set("failover.then", &format!("{then:?}"))
            .set(key, "\"0s\"")
            .start();
        let ask = |packet: &Packet| exchange(farm.entrance(), &packet.bytes()).expect("an answer");
        let id = session_of(&ask(&create(TARGET)));
        let owner = backends.iter().position(|b| !b.requests().is_empty()).expect("an owner");
        links[owner].plan_all(Plan::refuse());
        links[owner].cut(Cut::Fin);
        let next = fragment(TARGET, &id, "bytes 0-2/9", b"abc");
        // The connection that was cut may still be in the pool, and costs a retry then.
        let answer = wait::some("a clear answer", || Some(ask(&next)).filter(|a| a.status != 502));
        assert_eq!(answer.status, status, "{key} = 0s, then = {then}: {}", answer.head);
    }
}

#[test]
fn a_farm_with_shared_storage_goes_on_at_another_server() {
    let backends = [RawBackend::answering(server(0)), RawBackend::answering(server(1))];
    let links = backends.each_ref().map(|backend| FaultLink::to(backend.address()));
    let farm = Farm::of_stubs(0)
        .backend("up01", links[0].address())
        .backend("up02", links[1].address())
        .without_host_ids()
        .set("failover.reassign_after", "\"0s\"")
        .set("failover.then", "\"reassign\"")
        .start();
    let counts = || backends.each_ref().map(|backend| backend.requests().len());
    let ask = |packet: &Packet| exchange(farm.entrance(), &packet.bytes()).expect("an answer");
    let id = session_of(&ask(&create(TARGET)));
    let owner = counts().iter().position(|&count| count == 1).expect("one has the session");
    links[owner].plan_all(Plan::refuse());
    links[owner].cut(Cut::Fin);
    let next = fragment(TARGET, &id, "bytes 0-2/9", b"abc");
    // The connection that was cut may still be in the pool, and costs a retry then.
    wait::until("another server has the session", || ask(&next).status == 200);
    let ended = farm.metric("bitsgw_sessions_ended_total", &[]);
    let moved = farm.metric("bitsgw_failovers_total", &[("backend", ["up01", "up02"][owner])]);
    assert!(ended == 0.0 && moved >= 1.0, "{ended} ended, {moved} moved");
    // It stays there, also when the first one is back.
    links[owner].plan_all(Plan::pass());
    let before = counts();
    for packet in [fragment(TARGET, &id, "bytes 3-8/9", b"defghi"), close(TARGET, &id)] {
        assert_eq!(ask(&packet).status, 200);
    }
    assert_eq!(counts()[owner], before[owner]);
}

/// Fault: backend is away when an upload begins.
#[test]
fn a_server_that_answers_nothing_gets_no_new_sessions_after_a_while() {
    let backends = [RawBackend::silent(), RawBackend::answering(server(1))];
    let farm = Farm::of_stubs(0)
        .backend("up01", backends[0].address())
        .backend("up02", backends[1].address())
        .set("placement.policy", "\"least-sessions\"")
        .set("health.kind", "\"tcp\"")
        .set("health.interval", "\"200ms\"")
        .set("health.passive_errors", "2")
        .set("health.retry_after", "\"1h\"")
        .set("timeouts.answer", "\"200ms\"")
        .start();
    let open = || exchange(farm.entrance(), &create(TARGET).bytes()).expect("an answer").status;
    wait::until("the silent server is spared", || {
        open();
        backends[0].requests().len() == 2
    });
    for _ in 0..6 {
        assert_eq!(open(), 200);
    }
    assert_eq!(backends[0].requests().len(), 2);
    // It takes connections, so its sessions still have it.
    assert_eq!(farm.metric("bitsgw_backend_up", &[("backend", "up01")]), 1.0);
}

#[test]
fn a_server_whose_application_takes_too_long_still_gets_new_sessions() {
    let agree = server(0);
    let slow = RawBackend::answering(move |request| match &*request.packet_type() {
        "create-session" => agree(request),
        _ => e2e_tests::raw_backend::Reply::Wait,
    });
    let farm = Farm::of_stubs(0)
        .backend("up01", slow.address())
        .backend("up02", RawBackend::silent().address())
        .set("placement.policy", "\"hash\"")
        .set("health.passive_errors", "1")
        .set("health.retry_after", "\"1h\"")
        .set("timeouts.client_body", "\"100ms\"")
        .set("timeouts.answer_long", "\"200ms\"")
        .set_backend("up02", "weight", "1")
        .set_backend("up01", "weight", "1000")
        .start();
    let ask = |packet: &Packet| exchange(farm.entrance(), &packet.bytes()).expect("an answer");
    for _ in 0..3 {
        let id = session_of(&ask(&create(TARGET)));
        assert_eq!(ask(&close(TARGET, &id)).status, 504);
    }
}

#[test]
fn a_new_session_never_waits_for_a_server_that_is_away() {
    let farm = probed(3).set("failover.hold", "\"100s\"").start();
    farm.stubs()[0].kill();
    farm.stubs()[1].kill();
    for _ in 0..6 {
        let answer = exchange(farm.entrance(), &create(TARGET).bytes());
        session_of(&answer.expect("an answer"));
    }
    assert_eq!(farm.stubs()[2].stats().sessions, 6);
}

#[test]
fn a_server_that_dies_is_seen_and_gets_no_new_sessions_until_it_is_back() {
    let farm = probed(2).start();
    let up = |name: &str| farm.metric("bitsgw_backend_up", &[("backend", name)]);
    let created = |name: &str| farm.metric("bitsgw_sessions_created_total", &[("backend", name)]);
    let open = || {
        session_of(&exchange(farm.entrance(), &create(TARGET).bytes()).expect("an answer"));
    };
    let [dying, living] = farm.stubs() else { panic!("two stubs") };
    dying.kill();
    wait::until("the dead server is seen", || up(dying.name()) == 0.0);
    (0..4).for_each(|_| open());
    assert_eq!((created(dying.name()), created(living.name())), (0.0, 4.0));
    // Nobody had to find out at its own expense.
    assert_eq!(farm.metric("bitsgw_failovers_total", &[]), 0.0);
    dying.start();
    wait::until("the server is seen to be back", || up(dying.name()) == 1.0);
    (0..4).for_each(|_| open());
    assert!(created(dying.name()) > 0.0);
}

#[test]
fn a_session_moves_on_when_the_second_server_refuses_too() {
    let backends = [0, 1, 2].map(|number| RawBackend::answering(server(number)));
    let links = backends.each_ref().map(|backend| FaultLink::to(backend.address()));
    let mut farm = Farm::of_stubs(0);
    for (name, link) in ["up01", "up02", "up03"].into_iter().zip(&links) {
        farm = farm.backend(name, link.address());
    }
    let farm = farm
        .without_host_ids()
        .set("failover.reassign_after", "\"0s\"")
        .set("failover.then", "\"reassign\"")
        // One that refuses stays a choice, or the second one would soon be none.
        .set("health.passive_failures", "1000")
        .start();
    let ask = |packet: &Packet| exchange(farm.entrance(), &packet.bytes()).expect("an answer");
    let ids: Vec<_> = (0..6).map(|_| session_of(&ask(&create(TARGET)))).collect();
    for link in &links[..2] {
        link.plan_all(Plan::refuse());
        link.cut(Cut::Fin);
    }
    for id in &ids {
        let next = fragment(TARGET, id, "bytes 0-2/9", b"abc");
        wait::until("the living server has the session", || {
            let answer = ask(&next);
            assert_ne!(answer.status, 500, "nobody has to start over: {}", answer.head);
            answer.status == 200
        });
    }
}
