//! Connections that are lost in the middle of a fragment: items 80 and 81.

use e2e_tests::client::{Answer, Connection, FragmentSizes, PacketType, exchange};
use e2e_tests::data::Content;
use e2e_tests::farm::{Farm, StubFault};
use e2e_tests::fault_link::{Cut, Direction, Plan};
use e2e_tests::wait;

use crate::packets::{TARGET, create, expect_not_now, fragment, session_of};

const MIB: u64 = 1 << 20;

const PIECES: FragmentSizes = FragmentSizes::Fixed(10_000);

/// A session of its own for `target`, opened by hand.
#[track_caller]
fn open(farm: &Farm, target: &str) -> String {
    session_of(&exchange(farm.entrance(), &create(target).bytes()).expect("an answer"))
}

/// The whole content in one fragment.
fn whole(target: &str, id: &str, content: &Content) -> Vec<u8> {
    let range = format!("bytes 0-{}/{}", content.len() - 1, content.len());
    fragment(target, id, &range, &content.to_vec()).bytes()
}

/// Item 80.
/// Fault: client cuts, resets or half-closes.
#[test]
fn a_client_lost_in_mid_fragment_hurts_no_other_session_and_keeps_its_pin() {
    let farm = Farm::of_stubs(1).without_host_ids().start();
    let (content, other) = (Content::seeded(1, 3 * MIB), Content::seeded(2, 60_000));
    let client = farm.client().with(|o| o.fragments = PIECES);
    let mut neighbour = client.begin(&farm.url("/in/other.bin"), &other);
    assert!(neighbour.run_until(|upload| upload.position() >= 20_000));
    let id = open(&farm, TARGET);
    let bytes = whole(TARGET, &id, &content);
    let reset: fn(Connection) = Connection::reset;
    for lose in [reset, drop] {
        let before = farm.stub(0).stats().fragment;
        let mut lost = Connection::open(farm.entrance()).expect("a connection");
        lost.send(&bytes[..bytes.len() / 2]).expect("half a fragment is taken");
        wait::until("the backend has begun to take it", || {
            farm.stub(0).stats().fragment == before + 1
        });
        lose(lost);
        let position = neighbour.position();
        assert!(neighbour.run_until(|upload| upload.position() > position));
    }
    assert_eq!(farm.metric("bitsgw_sessions", &[]), 2.0);
    neighbour.run().expect_smooth();
    farm.expect_stored("/in/other.bin", &other);
    // The lost one comes again with the same session and the whole fragment.
    let answer = exchange(farm.entrance(), &bytes).expect("an answer");
    let next = content.len().to_string();
    let said = (answer.status, answer.field("BITS-Received-Content-Range"));
    assert_eq!(said, (200, Some(&*next)), "{}", answer.head);
    let packet = crate::packets::close(TARGET, &id);
    assert_eq!(exchange(farm.entrance(), &packet.bytes()).expect("an answer").status, 200);
    farm.expect_stored(TARGET, &content);
    farm.expect_healthy();
}

/// Item 80.
#[test]
fn a_backend_connection_lost_in_mid_fragment_hurts_no_other_session_and_keeps_the_pin() {
    let farm = Farm::of_stubs(1).without_host_ids().link_backends().start();
    let content = Content::seeded(1, 3 * MIB);
    let client = farm.client().with(|o| o.fragments = FragmentSizes::Fixed(MIB));
    let mut upload = client.begin(&farm.url(TARGET), &content);
    assert!(upload.run_until(|upload| upload.position() >= MIB));
    // From here on connections to the backend break in the middle of what is left, one after the other.
    let begin = farm.link(0).accepted();
    farm.link(0).plan(move |n| match n < begin + 3 {
        true => Plan::pass().cut_after(Direction::ToServer, 300_000, Cut::Reset),
        false => Plan::pass(),
    });
    farm.link(0).cut(Cut::Reset);
    let other = Content::seeded(2, 60_000);
    let small = farm.client().with(|o| o.fragments = PIECES);
    small.upload(&farm.url("/in/other.bin"), &other).expect_complete();
    let report = upload.run();
    report.expect_complete();
    assert_eq!(report.restarts, 0, "{report}");
    farm.expect_stored(TARGET, &content);
    farm.expect_stored("/in/other.bin", &other);
}

/// Item 81.
/// Fault: backend dies inside a fragment.
#[test]
fn a_backend_lost_in_mid_fragment_is_told_by_a_transient_status_after_the_whole_body() {
    let content = Content::seeded(1, 13 * MIB);
    let faults: [(&str, StubFault); 7] = [
        ("reset at the head", StubFault::on(PacketType::Fragment, "reset")),
        ("end at the head", StubFault::on(PacketType::Fragment, "close")),
        ("end after the body", StubFault::on(PacketType::Fragment, "close_after_body")),
        ("end after the work", StubFault::on(PacketType::Fragment, "apply_then_close")),
        ("reset at once", StubFault::on(PacketType::Fragment, "reset_after_bytes").with("n", 1)),
        (
            "reset in the middle",
            StubFault::on(PacketType::Fragment, "reset_after_bytes").with("n", 5_000_000),
        ),
        (
            "death in the middle",
            StubFault::on(PacketType::Fragment, "die_after_bytes").with("n", 9_000_000),
        ),
    ];
    let farm = Farm::of_stubs(1).without_host_ids().start();
    for (number, (what, fault)) in faults.into_iter().enumerate() {
        let target = format!("/in/{number}.bin");
        let id = open(&farm, &target);
        farm.stub(0).fault(fault);
        let mut client = Connection::open(farm.entrance()).expect("a connection");
        let bytes = whole(&target, &id, &content);
        // Nothing breaks while the client sends, or it would never read the status.
        client.send(&bytes).unwrap_or_else(|error| panic!("{what}: {error}"));
        let answer = client.read_answer().unwrap_or_else(|error| panic!("{what}: {error}"));
        expect_transient(what, &answer);
        assert!(
            ends_cleanly(client, &answer),
            "{what}: the connection is neither usable nor closed"
        );
        if what.starts_with("death") {
            // Its sockets end before it does.
            wait::until("the server has ended", || !farm.stub(0).is_running());
            farm.stub(0).restart();
        }
        // The pin has stayed: the same packet goes to the same backend, which takes it now.
        let answer = exchange(farm.entrance(), &bytes).expect("an answer");
        let next = content.len().to_string();
        let said = (answer.status, answer.field("BITS-Received-Content-Range"));
        assert_eq!(said, (200, Some(&*next)), "{what}: {}", answer.head);
    }
}

/// Item 81.
#[test]
fn an_upload_goes_on_after_its_backend_died_in_mid_fragment() {
    let farm = std::sync::Arc::new(Farm::of_stubs(2).start());
    let content = Content::seeded(1, 6 * MIB);
    let repair = std::sync::Arc::downgrade(&farm);
    let client = farm.client().with(|o| {
        o.fragments = FragmentSizes::Fixed(2 * MIB);
        o.wait = std::sync::Arc::new(move |_| {
            let farm = repair.upgrade().expect("the farm outlives the upload");
            for stub in farm.stubs().iter().filter(|stub| !stub.is_running()) {
                stub.restart();
            }
        });
    });
    for stub in farm.stubs() {
        let die = StubFault::on(PacketType::Fragment, "die_after_bytes");
        stub.fault(die.with("n", 700_000).skip(1));
    }
    let report = client.upload(&farm.url(TARGET), &content);
    report.expect_complete();
    assert_eq!(report.restarts, 0, "{report}");
    assert!(report.retries >= 1, "nothing broke\n{report}");
    farm.expect_stored(TARGET, &content);
}

#[track_caller]
fn expect_transient(what: &str, answer: &Answer) {
    println!("{what}: {}", answer.status);
    expect_not_now(&[502, 503, 504], PacketType::Fragment, answer);
}

/// The connection serves another packet, or it ends without a reset before one was sent.
fn ends_cleanly(mut client: Connection, answer: &Answer) -> bool {
    match answer.closes() {
        true => matches!(client.read_answer(), Err(e2e_tests::client::WireError::Closed)),
        false => client.exchange(&crate::packets::ping(TARGET).bytes()).is_ok(),
    }
}
