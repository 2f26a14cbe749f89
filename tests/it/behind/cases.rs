//! What has to work through every proxy.

use std::process::Command;
use std::thread;

use e2e_tests::binaries;
use e2e_tests::client::{AckRules, Connections, FragmentSizes, exchange};
use e2e_tests::data::Content;
use e2e_tests::farm::ORIGIN;
use e2e_tests::wait;

use super::front::{Front, in_front};
use crate::packets::{TARGET, create, ping};

/// Tickets of Windows have up to 48,000 bytes, which are these in base64.
const LARGEST_TICKET: usize = 64_000;

/// What proxies add to an Ack.
fn acks() -> AckRules {
    let added = ["Age", "Via", "X-Cache", "X-Cache-Lookup", "X-Varnish"];
    added.iter().fold(AckRules::farm(), |rules, name| rules.allow(name))
}

/// Several clients at once, with kept connections and with one for each packet, with small Fragments and large ones.
#[track_caller]
pub fn uploads_arrive(name: &str) {
    let (farm, front) = in_front(name, 3);
    let kinds = [
        (Connections::Reuse, FragmentSizes::Fixed(100_000)),
        (Connections::PerPacket, FragmentSizes::Fixed(500_000)),
        (Connections::Reuse, FragmentSizes::Whole),
    ];
    thread::scope(|scope| {
        for (number, (connections, fragments)) in (0..).zip(kinds) {
            let (farm, front): (_, &Front) = (&farm, &front);
            scope.spawn(move || {
                let client = front.client(farm).with(|o| {
                    o.connections = connections;
                    o.fragments = fragments;
                    o.acks = acks();
                });
                let content = Content::seeded(number, 3_000_000 + number);
                let path = format!("/in/{number}.bin");
                let report = client.upload(&farm.url(&path), &content);
                report.expect_smooth();
                let backend = farm.expect_stored(&path, &content);
                assert_eq!(report.host_ids, [format!("{backend}.up.test")]);
            });
        }
    });
    farm.expect_healthy();
}

/// A packet that finds the gateway away is answered "not now", by the gateway's or the proxy's word, and comes again.
#[track_caller]
pub fn uploads_outlive_a_crash_of_the_gateway(name: &str) {
    let (farm, front) = in_front(name, 2);
    let client = front.client(&farm).with(|o| {
        o.fragments = FragmentSizes::Fixed(100_000);
        o.acks = acks();
    });
    let content = Content::seeded(7, 1_000_000);
    let mut upload = client.begin(&farm.url(TARGET), &content);
    assert!(upload.run_until(|upload| upload.position() >= 300_000));
    farm.gateway().kill();
    assert!(upload.run_until(|upload| upload.report().retries > 0));
    farm.gateway().start();
    // Proxies look in their own time whether it is back.
    wait::until("the proxy has seen it", || {
        exchange(front.address(), &ping(TARGET).bytes()).is_ok_and(|answer| answer.status == 200)
    });
    let report = upload.run();
    report.expect_complete();
    assert_eq!(report.restarts, 0, "{report}");
    farm.expect_stored(TARGET, &content);
    farm.expect_healthy();
}

#[track_caller]
pub fn the_largest_ticket_passes(name: &str) {
    let (farm, front) = in_front(name, 1);
    let ticket = format!("Negotiate {}", "A".repeat(LARGEST_TICKET));
    let packet = create(TARGET).with("Authorization", &ticket);
    let answer = exchange(front.address(), &packet.bytes()).expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.head);
    let seen = farm.stub(0).requests();
    assert_eq!(seen.last().expect("a request").field("Authorization"), Some(&*ticket));
}

/// Whatever they say of themselves.
#[track_caller]
pub fn clients_are_told_apart(name: &str) {
    let (farm, front) = in_front(name, 1);
    for client in ["127.0.0.2", "127.0.0.3"] {
        let output = Command::new(binaries::foreign("curl"))
            .args(["--silent", "--show-error", "--fail", "--request", "BITS_POST"])
            .args(["--interface", client, "--noproxy", "*"])
            .args(["--header", &format!("Host: {ORIGIN}")])
            .args(["--header", "BITS-Packet-Type: Ping"])
            .args(["--header", "X-Forwarded-For: 192.0.2.66"])
            .arg(format!("http://{}/", front.address()))
            .output()
            .expect("curl runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        wait::until("the log has it", || {
            farm.gateway().access_log().last().is_some_and(|line| line["client"] == client)
        });
    }
}
