//! Sessions that a server has opened and no client can know of.

use e2e_tests::client::{Connection, PacketType, exchange};
use e2e_tests::farm::{Farm, StubFault};
use e2e_tests::raw_backend::RawBackend;
use e2e_tests::wait;

use crate::packets::{Servers, TARGET, create, created, expect_not_now, session_of};

fn orphans(farm: &Farm, result: &str) -> f64 {
    farm.metric("bitsgw_orphan_sessions_total", &[("result", result)])
}

#[test]
fn a_session_for_which_there_is_no_room_is_cancelled_at_its_server() {
    let farm = Farm::of_stubs(1).set("sessions.limit", "1").start();
    // Two at once: both find room, and one of them finds none when the server has answered.
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
    wait::until("the other session is cancelled", || orphans(&farm, "cancelled") == 1.0);
    let stats = farm.stub(0).stats();
    assert_eq!((stats.cancel_session, stats.sessions), (1, 1));
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
