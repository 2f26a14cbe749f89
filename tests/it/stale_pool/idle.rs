//! A kept connection between two packets: it may end, or grow old.

use std::time::Duration;

use e2e_tests::client::FragmentSizes;
use e2e_tests::data::Content;
use e2e_tests::farm::Farm;
use e2e_tests::fault_link::Cut;
use e2e_tests::raw_backend::{RawBackend, Reply};
use e2e_tests::{clock, wait};

use super::on_one_thread;
use crate::packets::{Packet, Servers, TARGET, cancel, close, create, fragment, ping, server};

const LARGE: usize = 1 << 20;

/// The size of the file.
const TOTAL: usize = 2 * LARGE;

fn large(id: &str) -> Packet {
    let range = format!("bytes 0-{}/{}", LARGE - 1, TOTAL);
    fragment(TARGET, id, &range, &vec![7; LARGE])
}

fn last(id: &str) -> Packet {
    fragment(TARGET, id, &format!("bytes {}-{}/{TOTAL}", TOTAL - 1, TOTAL - 1), b"x")
}

/// The connection that carried the last request of the only backend.
fn last_connection(servers: &Servers) -> usize {
    servers.last_request(0).connection
}

#[test]
fn connections_that_their_server_has_ended_are_not_used_for_any_packet() {
    // Closes after each answer without having said so.
    let honest = server(0);
    let backend = RawBackend::answering(move |request| match honest(request) {
        Reply::Send(answer) => Reply::SendAndClose(answer),
        other => other,
    });
    let servers = Servers::of(vec![backend], on_one_thread);
    let (id, _) = servers.open(TARGET);
    let packets = [
        ping(TARGET),
        create("/in/b.bin"),
        large(&id),
        fragment(TARGET, &id, &format!("bytes 0-0/{TOTAL}"), b"x"),
        last(&id),
        close(TARGET, &id),
    ];
    for packet in packets {
        // The gateway has seen the end of the connection, or it would not have ended its own half.
        servers.backends[0].ended(last_connection(&servers));
        let (_, request, _) = servers.passes(&packet);
        assert_eq!(request.number, 0, "{:?} went over a new connection", packet.kind);
    }
}

/// Fault: a kept connection is dead.
#[test]
fn a_client_notices_nothing_of_connections_that_break_between_its_packets() {
    for cut in [Cut::Fin, Cut::Reset] {
        let farm = Farm::of_stubs(1).link_backends().start();
        let content = Content::seeded(1, 700_000);
        let client = farm.client().with(|o| o.fragments = FragmentSizes::Fixed(100_000));
        let mut upload = client.begin(&farm.url("/in/a.bin"), &content);
        let mut more = true;
        let mut cuts = 0;
        while more {
            more = upload.step();
            cuts += farm.link(0).live();
            farm.link(0).cut(cut);
            wait::until("the connections are gone", || farm.link(0).live() == 0);
        }
        upload.report().expect_smooth();
        assert!(cuts >= 8, "{cuts} connections were cut between packets");
        farm.expect_stored("/in/a.bin", &content);
        farm.expect_healthy();
    }
}

/// By default connections are kept for 90 s; a second is what a packet that may not go twice trusts.
#[test]
fn a_large_fragment_goes_over_a_connection_that_was_used_within_a_second_or_a_new_one() {
    let servers = Servers::with(1, on_one_thread);
    let (id, _) = servers.open(TARGET);
    for packet in [large(&id), last(&id), close(TARGET, &id), create(TARGET)] {
        servers.passes(&ping(TARGET));
        let used = last_connection(&servers);
        let begun = clock::now();
        wait::until("a second has passed", || begun.elapsed() > Duration::from_millis(1100));
        assert!(!servers.backends[0].connections()[used].ended);
        servers.passes(&packet);
        assert_ne!(last_connection(&servers), used, "{:?}", packet.kind);
        // What replaces it is not one more.
        servers.backends[0].ended(used);
    }
}

#[test]
fn no_connection_is_kept_longer_than_configured() {
    let servers =
        Servers::with(1, |farm| on_one_thread(farm).set("timeouts.backend_idle", "\"300ms\""));
    let (id, _) = servers.open(TARGET);
    servers.passes(&ping(TARGET));
    let made = servers.backends[0].connections().len();
    for connection in 0..made {
        servers.backends[0].ended(connection);
    }
    for packet in [ping(TARGET), large(&id), cancel(TARGET, &id)] {
        let (_, request, _) = servers.passes(&packet);
        assert!(request.connection >= made, "{:?}", packet.kind);
    }
}

#[test]
fn a_server_that_restarts_costs_an_upload_nothing_once_it_is_back() {
    let farm = Farm::of_stubs(1).start();
    let content = Content::seeded(3, 400_000);
    let client = farm.client().with(|o| o.fragments = FragmentSizes::Fixed(100_000));
    let mut upload = client.begin(&farm.url("/in/a.bin"), &content);
    assert!(upload.run_until(|upload| upload.position() >= 200_000));
    // All kept connections are dead, whatever pool they are in.
    farm.stub(0).restart();
    let report = upload.run();
    report.expect_smooth();
    farm.expect_stored("/in/a.bin", &content);
    // Nor does it cost a new one.
    farm.stub(0).restart();
    let report = farm.client().upload(&farm.url("/in/b.bin"), &content);
    report.expect_smooth();
    farm.expect_healthy();
}
