//! Two gateways with tables of their own in front of one farm (`sessions.shared_farm`), and every
//! packet over a connection of its own to either.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use e2e_tests::client::{Client, Connections, FragmentSizes, Report, exchange};
use e2e_tests::data::Content;
use e2e_tests::farm::{Farm, FarmBuilder, Gateway, metrics};

use crate::packets::{
    Packet, TARGET, cancel, close, create, expect_not_found, fragment, of_session, session_of,
};

const PIECES: FragmentSizes = FragmentSizes::Fixed(10_000);

fn pair(stubs: usize) -> FarmBuilder {
    Farm::of_stubs(stubs)
        .gateways(2)
        .set("sessions.shared_farm", "true")
        .set("sessions.unknown", "\"ask\"")
        .set("sessions.ask_rate", "10_000")
}

fn entrances(farm: &Farm) -> Vec<SocketAddr> {
    farm.gateways().iter().map(Gateway::address).collect()
}

/// A client whose connections go to one gateway and the other in turn; every second client begins
/// at the second one.
fn client_of(farm: &Farm, number: usize) -> Client {
    let mut entrances = entrances(farm);
    entrances.rotate_left(number % 2);
    Client::new(farm.resolver_to(&entrances)).with(|o| {
        o.fragments = PIECES;
        o.connections = Connections::PerPacket;
    })
}

fn sum(farm: &Farm, name: &str, labels: &[(&str, &str)]) -> f64 {
    let of = |gateway: &Gateway| metrics::sum(&gateway.metrics(), name, labels).unwrap_or(0.0);
    farm.gateways().iter().map(of).sum()
}

/// So many uploads of such sizes, some at a time; each with a resolver of its own, so that its
/// packets alternate strictly.
fn upload_all(farm: &Farm, count: usize, size: fn(usize) -> u64) -> Vec<Report> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut reports = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                return reports;
            }
            let path = format!("/in/{number}.bin");
            let content = Content::seeded(number as u64, size(number));
            let report = client_of(farm, number).begin(&farm.url(&path), &content).run();
            report.expect_complete();
            farm.expect_stored(&path, &content);
            reports.push(report);
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..8).map(|_| scope.spawn(work)).collect();
        let done = workers.into_iter().map(|worker| worker.join().expect("no client panics"));
        done.flatten().collect()
    })
}

/// From one byte and one Fragment to many.
fn mixed(number: usize) -> u64 {
    [25_000, 1, 10_000, 50_007, 2, 9_999, 10_001, 100_000][number % 8] + number as u64 / 8
}

#[track_caller]
fn expect_nothing_left(farm: &Farm) {
    for stub in farm.stubs() {
        let stats = stub.stats();
        assert_eq!((stats.sessions, stats.cancel_session), (0, 0), "{}", stub.name());
    }
    farm.expect_healthy();
}

/// Fault: two gateways with tables of their own.
#[test]
fn forty_uploads_over_two_gateways_end_without_host_ids() {
    let farm = pair(3).without_host_ids().start();
    for report in upload_all(&farm, 40, mixed) {
        report.expect_smooth();
    }
    expect_nothing_left(&farm);
}

/// Fault: two gateways with tables of their own.
#[test]
fn forty_uploads_over_two_gateways_end_with_host_ids() {
    let farm = pair(3).start();
    for report in upload_all(&farm, 40, mixed) {
        report.expect_smooth();
    }
    let asked = sum(&farm, "bitsgw_asks_total", &[("result", "sent")]);
    assert_eq!(asked, 0.0, "the host id says it all");
    expect_nothing_left(&farm);
}

/// Fault: two gateways with tables of their own.
#[test]
fn a_table_full_of_sessions_that_ended_elsewhere_refuses_nobody() {
    for host_ids in [true, false] {
        let farm = pair(2).set("sessions.limit", "50");
        let farm = if host_ids { farm } else { farm.without_host_ids() }.start();
        let reports = upload_all(&farm, 400, |number| 15_000 + number as u64);
        let refused = sum(&farm, "bitsgw_rejected_requests_total", &[("reason", "table_full")]);
        assert_eq!(refused, 0.0);
        for report in reports {
            report.expect_smooth();
        }
        let evicted = sum(&farm, "bitsgw_sessions_ended_total", &[("reason", "evicted")]);
        assert!(evicted > 0.0, "nothing had to make room");
        expect_nothing_left(&farm);
    }
}

/// A pair that speaks packet by packet: to the first or the second gateway.
struct Pair {
    farm: Farm,
    entrances: Vec<SocketAddr>,
}

impl Pair {
    fn start(farm: FarmBuilder) -> Self {
        let farm = farm.start();
        let entrances = entrances(&farm);
        Self { farm, entrances }
    }

    #[track_caller]
    fn ask(&self, gateway: usize, packet: &Packet) -> e2e_tests::client::Answer {
        exchange(self.entrances[gateway], &packet.bytes()).expect("an answer")
    }

    #[track_caller]
    fn open(&self, gateway: usize) -> String {
        session_of(&self.ask(gateway, &create(TARGET)))
    }
}

#[test]
fn every_packet_of_a_session_that_another_gateway_opened_reaches_its_server() {
    let pair = Pair::start(pair(3).without_host_ids());
    // A session without a byte is ended by its own client alone.
    let id = pair.open(0);
    assert_eq!(pair.ask(1, &cancel(TARGET, &id)).status, 200);
    let left = pair.farm.stubs().iter().map(|stub| stub.stats().sessions).sum::<u64>();
    assert_eq!(left, 0);
    for (range, body) in [("0-0/1", "a"), ("0-1/2", "ab"), ("0-2/3", "abc"), ("0-1/3", "ab")] {
        let id = pair.open(0);
        let packet = fragment(TARGET, &id, &format!("bytes {range}"), body.as_bytes());
        assert_eq!(pair.ask(1, &packet).status, 200, "{range}");
        // Its Ack got lost.
        assert_eq!(pair.ask(0, &packet).status, 200, "{range}");
        assert_eq!(pair.ask(1, &cancel(TARGET, &id)).status, 200, "{range}");
    }
    let id = pair.open(1);
    assert_eq!(pair.ask(1, &fragment(TARGET, &id, "bytes 0-2/3", b"abc")).status, 200);
    // Once more, where nothing is known of what its server has.
    assert_eq!(pair.ask(0, &fragment(TARGET, &id, "bytes 0-2/3", b"abc")).status, 200);
    assert_eq!(pair.ask(0, &close(TARGET, &id)).status, 200);
    pair.farm.expect_stored(TARGET, &Content::bytes(b"abc".to_vec()));
}

#[test]
fn a_pin_of_a_session_that_ended_elsewhere_leads_nobody_astray() {
    let pair = Pair::start(pair(2).without_host_ids());
    let id = pair.open(0);
    let whole = fragment(TARGET, &id, "bytes 0-2/9", b"abc");
    assert_eq!(pair.ask(1, &whole).status, 200);
    assert_eq!(pair.ask(1, &cancel(TARGET, &id)).status, 200);
    let sessions = || sum(&pair.farm, "bitsgw_sessions", &[]);
    assert_eq!(sessions(), 1.0, "the first gateway has not heard of it");
    assert_eq!(pair.ask(0, &whole).status, 500, "its server says so");
    assert_eq!(sessions(), 0.0);
    pair.farm.expect_healthy();
}

/// Threat: T1.
#[test]
fn t1_an_id_of_another_gateway_opens_nothing_without_its_path() {
    let pair = Pair::start(pair(2).without_host_ids());
    let id = pair.open(0);
    for packet in of_session("/in/other.bin", &id) {
        for gateway in [1, 0] {
            expect_not_found(packet.kind, &pair.ask(gateway, &packet));
        }
    }
    for (range, body) in [("bytes 0-2/9", "abc"), ("bytes 3-8/9", "defghi")] {
        let packet = fragment(TARGET, &id, range, body.as_bytes());
        assert_eq!(pair.ask(1, &packet).status, 200, "{range}");
    }
    assert_eq!(pair.ask(0, &close(TARGET, &id)).status, 200);
    pair.farm.expect_stored(TARGET, &Content::bytes(b"abcdefghi".to_vec()));
}

#[test]
fn the_uploads_of_a_gateway_that_dies_go_on_at_the_other() {
    for host_ids in [true, false] {
        let farm = pair(3);
        let farm = if host_ids { farm } else { farm.without_host_ids() }.start();
        let first = farm.resolver_to(&entrances(&farm)[..1]);
        let client = Client::new(first.clone()).with(|o| o.fragments = PIECES);
        let begin = |number: u64| {
            let content = Content::seeded(number, 50_000);
            let path = format!("/in/{number}.bin");
            let mut upload = client.begin(&farm.url(&path), &content);
            // Some have not begun to send.
            let wanted = (number % 3) * 10_000;
            assert!(upload.run_until(|u| u.session().is_some() && u.position() >= wanted));
            (upload, path, content)
        };
        let uploads: Vec<_> = (0..9).map(begin).collect();
        farm.gateways()[0].kill();
        for name in ["up.test", "up01.up.test", "up02.up.test", "up03.up.test"] {
            first.set(name, entrances(&farm)[1]);
        }
        for (upload, path, content) in uploads {
            let report = upload.run();
            assert_eq!(report.expect_complete().restarts, 0, "{report}");
            farm.expect_stored(&path, &content);
        }
    }
}
