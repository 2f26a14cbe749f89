//! Two servers of one kind behind the gateway.

use std::collections::BTreeSet;

use e2e_tests::data::Content;

use super::{FLAVOURS, PIECES};
use crate::packets::TARGET;

#[test]
fn a_farm_of_two_of_a_kind_keeps_its_uploads_apart() {
    for flavour in FLAVOURS {
        println!("{}", flavour.name);
        let farm = flavour.farm(2).without_host_ids().start();
        let contents: Vec<_> =
            (0..4).map(|seed| Content::seeded(seed, 3 * PIECES + seed)).collect();
        let path = |number: usize| format!("/in/{number}.bin");
        let upload = |number: usize| {
            flavour.client(&farm).upload(&farm.url(&path(number)), &contents[number])
        };
        let reports: Vec<_> = match flavour.one_connection {
            true => (0..contents.len()).map(upload).collect(),
            false => std::thread::scope(|scope| {
                let upload = &upload;
                let running: Vec<_> =
                    (0..contents.len()).map(|number| scope.spawn(move || upload(number))).collect();
                running.into_iter().map(|upload| upload.join().expect("no panic")).collect()
            }),
        };
        for report in &reports {
            report.expect_smooth();
        }
        let used: BTreeSet<_> = contents
            .iter()
            .enumerate()
            .map(|(number, content)| farm.expect_stored(&path(number), content))
            .collect();
        assert_eq!(used.len(), 2, "{used:?}");
        farm.expect_healthy();
    }
}

#[test]
fn colliding_ids_of_two_servers_of_a_kind_do_not_mix_their_uploads() {
    for flavour in FLAVOURS.into_iter().filter(|flavour| flavour.same_ids) {
        println!("{}", flavour.name);
        let farm = flavour.farm(2).without_host_ids().start();
        let contents = [Content::seeded(1, 4 * PIECES + 1), Content::seeded(2, 4 * PIECES + 2)];
        let client = flavour.client(&farm);
        let url = farm.url(TARGET);
        let mut uploads: Vec<_> =
            contents.iter().map(|content| client.begin(&url, content)).collect();
        // Packet by packet in turn.
        while uploads.iter_mut().map(|upload| upload.step()).filter(|&on| on).count() > 0 {}
        let reports: Vec<_> = uploads.into_iter().map(|upload| upload.run()).collect();
        for report in &reports {
            report.expect_smooth();
        }
        assert_ne!(reports[0].sessions, reports[1].sessions, "two public ids");
        // The servers gave one id to both.
        let ids: BTreeSet<_> = farm
            .stubs()
            .iter()
            .flat_map(|stub| stub.requests())
            .filter_map(|seen| seen.field("BITS-Session-Id").map(str::to_owned))
            .collect();
        assert_eq!(ids.len(), 1, "{ids:?}");
        let mut stored: Vec<_> = farm.stored(TARGET).into_iter().map(|file| file.sha256).collect();
        let mut sent: Vec<_> = contents.iter().map(Content::sha256).collect();
        stored.sort();
        sent.sort();
        assert_eq!(stored, sent, "each server has one of the two files");
        farm.expect_healthy();
    }
}
