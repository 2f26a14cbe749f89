use super::*;
use crate::client::{Connection, WireError};
use crate::raw_backend::{RawBackend, Reply};
use crate::wait;

const PING: &[u8] = b"BITS_POST / HTTP/1.1\r\nBITS-Packet-Type: Ping\r\nContent-Length: 0\r\n\r\n";

fn linked() -> (RawBackend, FaultLink) {
    let backend = RawBackend::agreeable();
    let link = FaultLink::to(backend.address());
    (backend, link)
}

/// A connection that has passed one Ping.
fn connect(link: &FaultLink) -> Connection {
    let mut connection = Connection::open(link.address()).unwrap();
    assert_eq!(connection.exchange(PING).unwrap().status, 200);
    connection
}

#[test]
fn everything_passes_unchanged_without_a_fault() {
    let (backend, link) = linked();
    let body = crate::data::Content::seeded(5, 2_000_000).to_vec();
    let mut sent = b"BITS_POST / HTTP/1.1\r\nContent-Length: 2000000\r\n\r\n".to_vec();
    sent.extend(&body);
    let mut connection = Connection::open(link.address()).unwrap();
    assert_eq!(connection.exchange(&sent).unwrap().status, 200);
    assert!(backend.connections()[0].bytes == sent);
    assert_eq!(link.passed(Direction::ToServer), sent.len() as u64);
    drop(connection);
    backend.ended(0);
    wait::until("the relay has ended", || link.live() == 0);
}

#[test]
fn a_planned_cut_passes_exactly_so_many_bytes() {
    let (backend, link) = linked();
    link.plan_all(Plan::pass().cut_after(Direction::ToServer, 10, Cut::Fin));
    let outcome = crate::client::exchange(link.address(), PING);
    assert!(matches!(outcome, Err(WireError::Closed)), "{outcome:?}");
    assert_eq!(backend.ended(0).bytes, &PING[..10]);
}

#[test]
fn a_cut_towards_the_client_truncates_the_answer() {
    let (_backend, link) = linked();
    link.plan_all(Plan::pass().cut_after(Direction::ToClient, 12, Cut::Fin));
    match crate::client::exchange(link.address(), PING) {
        Err(WireError::Truncated { got }) => assert_eq!(got, "HTTP/1.1 200"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn living_connections_can_be_cut_and_reset() {
    let (_backend, link) = linked();
    let mut connection = connect(&link);
    link.cut(Cut::Fin);
    assert!(matches!(connection.read_answer(), Err(WireError::Closed)));
    let mut connection = connect(&link);
    link.cut(Cut::Reset);
    let outcome = connection.read_answer();
    assert!(matches!(outcome, Err(WireError::Broken { .. })), "{outcome:?}");
}

#[test]
fn a_refused_connection_never_reaches_the_server() {
    let (backend, link) = linked();
    link.plan_all(Plan::refuse());
    assert!(crate::client::exchange(link.address(), PING).is_err());
    assert!(backend.connections().is_empty());
}

#[test]
fn a_stall_holds_bytes_back_and_resuming_delivers_them() {
    let (backend, link) = linked();
    let mut connection = connect(&link);
    link.stall();
    let before = link.passed(Direction::ToServer);
    connection.send(PING).unwrap();
    // A second connection shows that the relay is alive while nothing moves.
    let mut other = Connection::open(link.address()).unwrap();
    other.send(PING).unwrap();
    wait::until("the second connection stands", || link.accepted() == 2);
    assert_eq!(link.passed(Direction::ToServer), before);
    link.resume();
    assert_eq!(connection.read_answer().unwrap().status, 200);
    assert_eq!(other.read_answer().unwrap().status, 200);
    assert_eq!(backend.requests().len(), 3);
}

#[test]
fn a_planned_stall_ends_with_resume() {
    let (_backend, link) = linked();
    link.plan_all(Plan::pass().stall_after(Direction::ToServer, 5));
    let mut connection = Connection::open(link.address()).unwrap();
    connection.send(PING).unwrap();
    wait::until("five bytes passed", || link.passed(Direction::ToServer) == 5);
    link.resume();
    assert_eq!(connection.read_answer().unwrap().status, 200);
}

#[test]
fn a_slow_link_delivers_everything_in_small_portions() {
    let (backend, link) = linked();
    link.plan_all(Plan::pass().slow(20 * PING.len() as u64 / 4));
    let mut connection = Connection::open(link.address()).unwrap();
    assert_eq!(connection.exchange(PING).unwrap().status, 200);
    assert_eq!(backend.connections()[0].bytes, PING);
}

#[test]
fn a_half_close_leaves_the_other_direction_open() {
    let backend = RawBackend::answering(|_| Reply::raw("HTTP/1.1 200 OK\r\n\r\n"));
    let link = FaultLink::to(backend.address());
    let mut connection = Connection::open(link.address()).unwrap();
    connection.send(PING).unwrap();
    backend.request(0);
    link.half_close(Direction::ToServer);
    // The body of this answer ends with the connection, which the backend closes after the client's FIN.
    assert_eq!(connection.read_answer().unwrap().status, 200);
}

#[test]
fn random_cuts_depend_on_the_seed_and_the_number_only() {
    let draw = |seed: u64| -> Vec<Plan> {
        let chance = Chance::new(seed);
        (0..50).map(|n| Plan::random_cut(&mut chance.fork(n), 50, 1_000)).collect()
    };
    assert_eq!(draw(1), draw(1));
    assert_ne!(draw(1), draw(2));
    let cut = draw(1).iter().filter(|plan| plan.cut.is_some()).count();
    assert!((10..40).contains(&cut), "{cut}");
}
