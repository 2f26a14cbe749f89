//! What has to work through every proxy.

use std::thread;

use e2e_tests::client::{AckRules, Connections, FragmentSizes};
use e2e_tests::data::Content;

use super::front::{Front, in_front};

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
