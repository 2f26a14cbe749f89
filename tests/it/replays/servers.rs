//! Servers seen in the field take uploads through the gateway: P1 to P9.

use e2e_tests::client::{AckRules, FragmentSizes, Framing};
use e2e_tests::data::Content;
use e2e_tests::farm::Farm;

use crate::bench::{create, fragment, ping};

/// Two uploads through a farm of two such servers, in small fragments and in ones too large to be sent again.
#[track_caller]
fn takes_uploads(flavour: &str) {
    let farm = Farm::of_stubs(2).each_stub(&["--flavour", flavour]).start();
    for (path, piece) in [("/in/a%20b.bin", 10_000), ("/in/large.bin", 100_000)] {
        let content = Content::seeded(piece, piece * 5 / 2);
        let client = farm.client().with(|o| {
            o.fragments = FragmentSizes::Fixed(piece);
            // Its Acks break rules that the gateway does not enforce.
            o.acks = AckRules::off();
        });
        let report = client.upload(&farm.url(path), &content);
        report.expect_complete();
        assert_eq!((report.restarts, report.resyncs), (0, 0), "{report}");
        farm.expect_stored(&path.replace("%20", " "), &content);
    }
    farm.expect_healthy();
}

#[test]
fn iis_takes_uploads() {
    takes_uploads("iis");
}

/// As published it forgets a session with the TCP connection, and writes errors without a length.
#[test]
fn simple_bits_server_is_heard_whether_it_kept_its_session_or_not() {
    let farm = Farm::of_stubs(1).each_stub(&["--flavour", "simplebits"]).start();
    let exchange = |bytes: &[u8]| {
        e2e_tests::client::exchange(farm.entrance(), bytes).expect("an answer comes in time")
    };
    let opened = exchange(&create().to_bytes());
    let id = opened.field("BITS-Session-Id").expect("an id");
    assert!(id.parse::<i64>().is_ok(), "{id}");
    let pinged = exchange(&ping().to_bytes());
    assert_eq!((pinged.status, pinged.field("BITS-Error-Code")), (200, Some("1")));
    let taken = exchange(&fragment(id, b"abc"));
    match taken.status {
        200 => assert_eq!(taken.field("BITS-Received-Content-Range"), Some("3")),
        status => {
            assert_eq!((status, taken.field("BITS-Error-Code")), (500, Some("0x1")));
            assert_eq!(taken.framing, Framing::ContentLength, "{}", taken.head);
        }
    }
}

#[test]
fn forks_of_simple_bits_server_take_uploads() {
    takes_uploads("simplebits-py3");
}

#[test]
fn go_bits_takes_uploads() {
    takes_uploads("gobits");
}

#[test]
fn transfer_vm_takes_uploads() {
    takes_uploads("transfervm");
    takes_uploads("transfervm-vhd");
}

#[test]
fn usis_takes_uploads() {
    takes_uploads("usis");
}

#[test]
fn the_former_onedrive_takes_uploads() {
    takes_uploads("onedrive");
}

#[test]
fn servers_whose_ids_are_paths_take_uploads() {
    takes_uploads("path-id");
}

#[test]
fn the_lab_server_takes_uploads() {
    takes_uploads("lab");
}
