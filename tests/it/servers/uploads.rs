//! Complete and resumed uploads to one server of each kind.

use e2e_tests::client::PacketType;
use e2e_tests::data::Content;
use e2e_tests::farm::StubFault;
use e2e_tests::fault_link::Cut;

use super::{FLAVOURS, Flavour, PIECES};
use crate::packets::TARGET;

#[test]
fn an_upload_arrives_at_every_kind_of_server() {
    for flavour in FLAVOURS {
        println!("{}", flavour.name);
        let mut farm = flavour.farm(1);
        if flavour.one_connection {
            // Each upload has a connection of its own, and another's may not be back in the pool yet.
            farm = farm.set_backend("up01", "connections", "\"per-client\"");
        }
        let farm = farm.start();
        for (number, size) in [0, 1, 5_120, 4 * PIECES + 1].into_iter().enumerate() {
            let content = Content::seeded(size, size);
            let path = format!("/in/{number}.bin");
            let report = flavour.client(&farm).upload(&farm.url(&path), &content);
            report.expect_smooth();
            assert_eq!(report.host_ids, ["up01.up.test"], "{report}");
            // A server that closes its connections does not close the client's.
            let connections = match flavour {
                Flavour { one_connection: true, .. } => 1,
                _ => 2,
            };
            assert_eq!(report.connections, connections, "{report}");
            // The Ping that follows the host id went well too.
            assert_eq!(report.sent(PacketType::Ping), u64::from(!flavour.one_connection));
            farm.expect_stored(&path, &content);
        }
        farm.expect_healthy();
    }
}

#[test]
fn an_interrupted_upload_goes_on_at_every_kind_of_server() {
    for flavour in lasting() {
        println!("{}", flavour.name);
        let farm = flavour.farm(1).link_front().start();
        let content = Content::seeded(1, 5 * PIECES);
        let client = flavour.client(&farm);
        let mut upload = client.begin(&farm.url(TARGET), &content);
        assert!(upload.run_until(|upload| upload.position() >= 2 * PIECES));
        upload.interrupt();
        assert!(upload.run_until(|upload| upload.position() >= 3 * PIECES));
        farm.front().cut(Cut::Reset);
        let report = upload.run();
        report.expect_complete();
        assert_eq!((report.restarts, report.resyncs), (0, 0), "{report}");
        farm.expect_stored(TARGET, &content);
        farm.expect_healthy();
    }
}

#[test]
fn an_upload_whose_ack_was_lost_goes_on_at_every_kind_of_server() {
    for flavour in lasting() {
        println!("{}", flavour.name);
        let farm = flavour.farm(1).start();
        farm.stub(0).fault(StubFault::on(PacketType::Fragment, "apply_then_close").skip(1));
        let content = Content::seeded(1, 4 * PIECES);
        let report = flavour.client(&farm).upload(&farm.url(TARGET), &content);
        report.expect_complete();
        assert_eq!((report.retries, report.restarts), (1, 0), "{report}");
        farm.expect_stored(TARGET, &content);
        farm.expect_healthy();
    }
}

/// Where a lost connection takes the session with it, only a new session helps.
fn lasting() -> impl Iterator<Item = Flavour> {
    FLAVOURS.into_iter().filter(|flavour| !flavour.one_connection)
}
