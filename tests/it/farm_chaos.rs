//! Many uploads at once over a network that breaks: nothing may be lost, nothing may land elsewhere.

use std::net::SocketAddr;

use e2e_tests::client::{Client, CloseNotFound, Connections, FragmentSizes, Report, Resolver};
use e2e_tests::data::{Chance, Content};
use e2e_tests::farm::{Farm, ORIGIN};
use e2e_tests::fault_link::FaultLink;

const UPLOADS: u64 = 64;

/// Of 100 connections, so many are cut somewhere.
const CUT_PERCENT: u64 = 60;

/// Fault: connections are cut.
#[test]
fn uploads_over_cut_connections_arrive_whole_at_one_backend_each() {
    let seed = e2e_tests::data::seed("farm chaos");
    let chance = Chance::new(seed);
    let farm = Farm::of_stubs(4)
        .stub(0, &["--strict-ranges"])
        .stub(1, &["--strict-ranges"])
        .link_backends()
        .start();
    for index in 0..4 {
        // Connections to backends serve many uploads: cut later, and less often.
        let seed = chance.fork(1_000 + index as u64).next_u64();
        farm.link(index).random_cuts(seed, CUT_PERCENT / 2, 3_000_000);
    }
    let reports: Vec<(String, Content, Report)> = std::thread::scope(|scope| {
        let running: Vec<_> = (0..UPLOADS)
            .map(|number| {
                let (entrance, names) = (farm.entrance(), farm.resolver());
                let chance = chance.fork(number);
                scope
                    .spawn(move || upload(entrance, &names, number, chance, CloseNotFound::Restart))
            })
            .collect();
        running.into_iter().map(|upload| upload.join().expect("an upload does not panic")).collect()
    });
    let mut broken = 0;
    for (path, content, report) in &reports {
        report.expect_complete();
        assert_eq!(report.restarts, 0, "{path}: no backend lost a session\n{report}");
        farm.expect_stored(path, content);
        broken += report.retries;
    }
    farm.expect_healthy();
    // Otherwise this test would show nothing.
    assert!(broken > 0, "no connection was cut");
}

#[test]
fn uploads_over_cut_connections_arrive_whole_without_a_gateway() {
    let chance = Chance::new(e2e_tests::data::seed("chaos without a gateway"));
    let farm = Farm::of_stubs(1).without_gateway().start();
    let entrance = farm.stub(0).address();
    let names = Resolver::new().with(ORIGIN, entrance);
    let mut broken = 0;
    // So many that a seed under which all are spared will not come up.
    for number in 0..24 {
        // When the Ack of a Close is cut off, the file is in place and the session gone, and here nobody looks for it.
        // What remains to be checked is the file, and that is.
        let not_found = CloseNotFound::Accept;
        let (path, content, report) =
            upload(entrance, &names, number, chance.fork(number), not_found);
        report.expect_complete();
        assert_eq!(report.restarts, 0, "{path}\n{report}");
        farm.expect_stored(&path, &content);
        broken += report.retries;
    }
    farm.expect_healthy();
    assert!(broken > 0, "no connection was cut");
}

/// One client with a link of its own, so that its fate depends on the seed and its number.
fn upload(
    entrance: SocketAddr,
    names: &Resolver,
    number: u64,
    mut chance: Chance,
    not_found: CloseNotFound,
) -> (String, Content, Report) {
    let link = FaultLink::to(entrance);
    link.random_cuts(chance.next_u64(), CUT_PERCENT, 600_000);
    let content = Content::seeded(chance.next_u64(), chance.between(0, 2_000_000));
    let high = chance.between(6_000, 400_000);
    let fragments = FragmentSizes::Random { seed: chance.next_u64(), low: 5 * 1024, high };
    let per_packet = chance.percent(25);
    let client = Client::new(names.via(link.address())).with(|o| {
        o.fragments = fragments;
        o.ignore_host_id = number % 2 == 1;
        if per_packet {
            o.connections = Connections::PerPacket;
        }
        o.close_not_found = not_found;
    });
    let path = format!("/in/{number}.bin");
    let report = client.upload(&format!("http://{ORIGIN}{path}"), &content);
    (path, content, report)
}
