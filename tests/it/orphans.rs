//! Sessions that a server has opened and no client can know of.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use e2e_tests::client::{Connection, PacketType, exchange};
use e2e_tests::farm::{Farm, StubFault};
use e2e_tests::raw_backend::RawBackend;
use e2e_tests::wait;

use crate::packets::{Servers, TARGET, create, created, expect_not_now, session_of};

fn orphans(farm: &Farm, result: &str) -> f64 {
    farm.metric("bitsgw_orphan_sessions_total", &[("result", result)])
}

/// The place is taken before the server is asked.
#[test]
fn a_session_for_which_there_is_no_room_is_not_opened_at_its_server() {
    let farm = Farm::of_stubs(1).set("sessions.limit", "1").start();
    farm.stub(0).fault(StubFault::on(PacketType::CreateSession, "delay").with("ms", 500).times(2));
    let mut both: Vec<_> = (0..2)
        .map(|_| {
            let mut connection = Connection::open(farm.entrance()).expect("a connection");
            connection.send(&create(TARGET).bytes()).expect("sent");
            connection
        })
        .collect();
    let mut statuses: Vec<_> = both
        .iter_mut()
        .map(|connection| connection.read_answer().expect("an answer").status)
        .collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 503]);
    let stats = farm.stub(0).stats();
    assert_eq!((stats.create_session, stats.cancel_session, stats.sessions), (1, 0, 1));
    farm.expect_healthy();
}

#[test]
fn a_session_whose_client_has_gone_before_the_ack_is_cancelled_at_its_server() {
    let farm = Farm::of_stubs(1).start();
    farm.stub(0).fault(StubFault::on(PacketType::CreateSession, "delay").with("ms", 300).times(1));
    let mut connection = Connection::open(farm.entrance()).expect("a connection");
    connection.send(&create(TARGET).bytes()).expect("sent");
    wait::until("the server has the packet", || farm.stub(0).stats().create_session == 1);
    connection.reset();
    let cancelled = [("result", "cancelled")];
    wait::until("the session is cancelled", || {
        farm.metric("bitsgw_orphan_sessions_total", &cancelled) == 1.0
    });
    assert_eq!(farm.stub(0).stats().sessions, 0);
    assert_eq!(farm.metric("bitsgw_sessions", &[]), 0.0);
}

#[test]
fn a_session_whose_ack_may_have_arrived_is_left_alone() {
    let farm = Farm::of_stubs(1).start();
    let id = session_of(&exchange(farm.entrance(), &create(TARGET).bytes()).expect("an answer"));
    let packet = crate::packets::close(TARGET, &id);
    assert_eq!(exchange(farm.entrance(), &packet.bytes()).expect("an answer").status, 200);
    assert_eq!(farm.metric("bitsgw_orphan_sessions_total", &[]), 0.0);
    assert_eq!(farm.stub(0).stats().cancel_session, 0);
}

#[test]
fn an_id_that_another_session_has_is_not_cancelled() {
    let again = || {
        let agree = e2e_tests::raw_backend::agree();
        RawBackend::answering(move |request| match &*request.packet_type() {
            "create-session" => created("{00000000-0000-4000-8000-000000000001}"),
            _ => agree(request),
        })
    };
    let servers = Servers::of(vec![again()], |farm| farm);
    let (id, _) = servers.open(TARGET);
    servers.passes(&crate::packets::fragment(TARGET, &id, "bytes 0-2/9", b"abc"));
    let packet = create(TARGET);
    expect_not_now(&[502], packet.kind, &servers.ask(&packet));
    // The upload that has the id goes on.
    servers.passes(&crate::packets::fragment(TARGET, &id, "bytes 3-8/9", b"defghi"));
    assert_eq!(servers.farm.metric("bitsgw_orphan_sessions_total", &[]), 0.0);
    let cancelled =
        |request: &e2e_tests::raw_backend::Request| request.packet_type() == "cancel-session";
    assert!(!servers.backends[0].requests().iter().any(cancelled));
}

/// What servers hold of clients that leave before they know their session.
fn at_servers(farm: &Farm) -> u64 {
    farm.stubs().iter().map(|stub| stub.stats().sessions).sum()
}

/// Threat: T7.
#[test]
fn clients_that_leave_at_once_fill_no_server_beyond_the_limit() {
    const LIMIT: u64 = 100;
    const CREATES: usize = 3000;
    let farm = Farm::of_stubs(2)
        .plain()
        .set("sessions.limit", &LIMIT.to_string())
        .set("sessions.limit_per_client", "0")
        .start();
    for stub in farm.stubs() {
        stub.fault(StubFault::on(PacketType::CreateSession, "delay").with("ms", 20));
    }
    let (next, over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let most = std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut most = 0;
            while !over.load(Ordering::SeqCst) {
                most = most.max(at_servers(&farm));
            }
            most
        });
        let flood: Vec<_> = (0..32)
            .map(|_| {
                scope.spawn(|| {
                    loop {
                        let number = next.fetch_add(1, Ordering::SeqCst);
                        if number >= CREATES {
                            return;
                        }
                        let open = Connection::open_plain(farm.entrance());
                        let mut connection = open.expect("a connection");
                        let packet = create(&format!("/in/{number}.bin"));
                        connection.send(&packet.bytes()).expect("sent");
                        connection.reset();
                    }
                })
            })
            .collect();
        flood.into_iter().for_each(|one| one.join().expect("no panic"));
        over.store(true, Ordering::SeqCst);
        watch.join().expect("no panic")
    });
    assert!(most <= LIMIT, "{most} sessions at the servers");
    // Who may have seen a byte of an Ack has a session; all others have none.
    let pinned = || farm.metric("bitsgw_sessions", &[]);
    wait::until("what nobody knows of is cancelled", || {
        farm.metric("bitsgw_requests_in_flight", &[]) == 0.0 && at_servers(&farm) as f64 == pinned()
    });
    assert!(orphans(&farm, "cancelled") > 100.0, "the flood was no flood");
    assert_eq!(orphans(&farm, "dropped"), 0.0);
    farm.expect_healthy();
}

/// A server on which a Cancel-Session is answered once `ready` says so.
fn slow_to_cancel(ready: impl Fn() -> bool + Send + Sync + 'static) -> RawBackend {
    let agree = crate::packets::server(0);
    RawBackend::answering(move |request| {
        match &*request.packet_type() {
            "create-session" => std::thread::sleep(std::time::Duration::from_millis(100)),
            "cancel-session" => wait::until("a cancel may be answered", &ready),
            _ => {}
        }
        agree(request)
    })
}

#[track_caller]
fn leave_before_the_ack(servers: &Servers) {
    let before = servers.backends[0].requests().len();
    let mut connection = Connection::open_plain(servers.farm.entrance()).expect("a connection");
    connection.send(&create(TARGET).bytes()).expect("sent");
    servers.backends[0].request(before);
    connection.reset();
}

#[test]
fn a_server_that_is_slow_to_cancel_is_told_of_several_at_once() {
    let arrived = Arc::new(AtomicUsize::new(0));
    let all = Arc::clone(&arrived);
    let backend = slow_to_cancel(move || all.load(Ordering::SeqCst) >= 4);
    let servers = Servers::of(vec![backend], |farm| farm.plain());
    for _ in 0..4 {
        leave_before_the_ack(&servers);
    }
    wait::until("four cancels are under way", || {
        let requests = servers.backends[0].requests();
        let cancels = requests.iter().filter(|r| r.packet_type() == "cancel-session").count();
        arrived.store(cancels, Ordering::SeqCst);
        cancels >= 4
    });
    wait::until("all are cancelled", || orphans(&servers.farm, "cancelled") == 4.0);
}

#[test]
fn a_place_is_taken_until_its_orphan_is_cancelled() {
    let released = Arc::new(AtomicBool::new(false));
    let release = Arc::clone(&released);
    let backend = slow_to_cancel(move || release.load(Ordering::SeqCst));
    let servers = Servers::of(vec![backend], |farm| farm.plain().set("sessions.limit", "1"));
    leave_before_the_ack(&servers);
    wait::until("it is being cancelled", || {
        let requests = servers.backends[0].requests();
        requests.iter().any(|request| request.packet_type() == "cancel-session")
    });
    assert_eq!(servers.farm.metric("bitsgw_sessions", &[]), 0.0);
    let answer = servers.stays(&create(TARGET));
    expect_not_now(&[503], PacketType::CreateSession, &answer);
    assert_eq!(answer.field("Retry-After"), Some("60"), "{}", answer.head);
    released.store(true, Ordering::SeqCst);
    wait::until("the place is free", || servers.ask(&create(TARGET)).status == 200);
}

#[test]
fn the_place_of_an_orphan_at_a_server_that_is_down_is_free() {
    let farm = Farm::of_stubs(2)
        .plain()
        .set("sessions.limit", "1")
        .set("health.interval", "\"100ms\"")
        .set("health.kind", "\"tcp\"")
        .start();
    for stub in farm.stubs() {
        stub.fault(StubFault::on(PacketType::CreateSession, "delay").with("ms", 300).times(1));
        stub.fault(StubFault::on(PacketType::CancelSession, "delay").with("ms", 8_000));
    }
    let mut connection = Connection::open_plain(farm.entrance()).expect("a connection");
    connection.send(&create(TARGET).bytes()).expect("sent");
    let has = |stub: &&e2e_tests::farm::Stub| stub.stats().create_session == 1;
    let owner = wait::some("a server has the packet", || farm.stubs().iter().find(has));
    connection.reset();
    wait::until("it is being cancelled", || owner.stats().cancel_session == 1);
    let another = create("/in/b.bin").bytes();
    let status = || exchange(farm.entrance(), &another).expect("an answer").status;
    assert_eq!(status(), 503);
    owner.kill();
    wait::until("the place is free", || status() == 200);
}
