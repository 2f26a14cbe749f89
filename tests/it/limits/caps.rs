//! The connection cap and the fragment limit.

use e2e_tests::client::{AckRules, Connection, Event, FragmentSizes, PacketType};
use e2e_tests::data::Content;
use e2e_tests::farm::Farm;
use e2e_tests::wait;

use crate::packets::{Packet, Servers, TARGET, expect_not_now, fragment, ping};

const LIMIT: usize = 64 * 1024;

/// Item 88.
///
/// Threat: T8.
///
/// Fault: too many connections.
#[test]
fn an_upload_goes_on_while_connections_over_the_cap_are_turned_away() {
    let servers = Servers::with(1, |farm| {
        farm.set("limits.connections", "4").set("limits.connections_per_address", "0").plain()
    });
    let (id, _) = servers.open(TARGET);
    let packet = fragment(TARGET, &id, "bytes 0-99999/200000", &[7; 100_000]).bytes();
    let (start, rest) = packet.split_at(50_000);
    let mut upload = servers.connect();
    upload.send(start).expect("half a fragment is taken");
    servers.backends[0].request(1);
    // The connection of the Create may still be on its way out.
    let idle: Vec<Connection> = wait::some("the cap is reached", || {
        let three: Vec<_> = (0..3).map(|_| servers.connect()).collect();
        (open_connections(&servers) >= 4.0).then_some(three)
    });
    for _ in 0..20 {
        let answer = servers.connect().read_answer().expect("an answer before any request");
        expect_not_now(&[503], PacketType::Ping, &answer);
        assert!(answer.closes(), "{}", answer.head);
    }
    let answer = upload.exchange(rest).expect("an answer");
    assert_eq!(answer.field("BITS-Received-Content-Range"), Some("100000"), "{}", answer.head);
    drop(idle);
    wait::until("there is room again", || open_connections(&servers) <= 1.0);
    servers.passes(&ping(TARGET));
    let turned_away = [("reason", "connection_limit")];
    assert!(servers.farm.metric("bitsgw_rejected_requests_total", &turned_away) >= 20.0);
}

fn open_connections(servers: &Servers) -> f64 {
    servers.farm.metric("bitsgw_connections", &[])
}

fn of_size(id: &str, size: usize) -> Packet {
    fragment(TARGET, id, &format!("bytes 0-{}/{}", size - 1, 10 * LIMIT), &vec![7; size])
}

/// Items 74, 88.
#[test]
fn a_fragment_over_the_limit_is_answered_413_and_its_connection_goes_on() {
    let servers = Servers::with(1, |farm| farm.set("limits.fragment", "\"64KiB\""));
    let (id, _) = servers.open(TARGET);
    servers.passes(&of_size(&id, LIMIT));
    let mut client = servers.connect();
    for size in [LIMIT + 1, 2 * LIMIT, 5 << 20] {
        let heard = servers.counts();
        let range = format!("bytes 0-{}/{}", size - 1, 10 << 20);
        let packet = fragment(TARGET, &id, &range, &vec![7; size]);
        let answer = client.exchange(&packet.bytes()).expect("an answer");
        assert_eq!((answer.status, answer.closes()), (413, false), "{}", answer.head);
        let ack = AckRules::own_answer().expect(PacketType::Fragment, &answer);
        assert_eq!((ack.hresult, ack.session.as_deref()), (None, Some(&*id)));
        assert_eq!(servers.counts(), heard, "the backend heard of it");
        let next = client.exchange(&of_size(&id, 5).bytes()).expect("an answer");
        assert_eq!((next.status, next.closes()), (200, false), "{}", next.head);
    }
}

/// Item 74.
#[test]
fn a_client_with_too_large_fragments_goes_on_with_smaller_ones() {
    let farm = Farm::of_stubs(1).set("limits.fragment", "\"64KiB\"").start();
    let content = Content::seeded(1, 300_000);
    let client = farm.client().with(|o| o.fragments = FragmentSizes::Fixed(200_000));
    let report = client.upload(&farm.url("/in/a.bin"), &content);
    report.expect_complete();
    assert_eq!((report.restarts, report.retries), (0, 0), "{report}");
    let refused = |event: &&Event| matches!(event, Event::Answered { status: 413, .. });
    assert!(report.events.iter().filter(refused).count() > 0, "{report}");
    farm.expect_stored("/in/a.bin", &content);
    farm.expect_healthy();
}
