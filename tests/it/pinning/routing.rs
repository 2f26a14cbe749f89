//! Where packets of known and unknown sessions go: items 44 and 48 to 51.

use std::collections::BTreeSet;

use e2e_tests::client::{Connections, FragmentSizes, Report};
use e2e_tests::data::Content;
use e2e_tests::farm::{Farm, ORIGIN};

use crate::packets::{
    Servers, TARGET, close, create, expect_not_found, fragment, of_session, ping, session_of,
};

const PIECES: FragmentSizes = FragmentSizes::Fixed(10_000);

/// Six uploads at once, each packet on a connection of its own, and files on three backends.
#[track_caller]
fn stay_together(farm: &Farm, ignore_host_id: bool) {
    let client = farm.client().with(|o| {
        o.fragments = PIECES;
        o.connections = Connections::PerPacket;
        o.ignore_host_id = ignore_host_id;
    });
    let reports: Vec<(String, Content, Report)> = std::thread::scope(|scope| {
        let running: Vec<_> = (0..6)
            .map(|number| {
                let path = format!("/in/{ignore_host_id}-{number}.bin");
                let content = Content::seeded(number, 45_000 + number);
                let (client, url) = (&client, farm.url(&path));
                scope.spawn(move || {
                    let report = client.upload(&url, &content);
                    (path, content, report)
                })
            })
            .collect();
        running.into_iter().map(|upload| upload.join().expect("an upload does not panic")).collect()
    });
    let mut used = BTreeSet::new();
    for (path, content, report) in &reports {
        report.expect_smooth();
        assert!(report.connections >= 7, "one connection per packet\n{report}");
        used.insert(farm.expect_stored(path, content));
    }
    // One backend for all would show nothing.
    assert_eq!(used.len(), 3, "{used:?}");
    farm.expect_healthy();
}

/// Item 44.
#[test]
fn every_packet_reaches_the_backend_of_its_session_over_any_number_of_connections() {
    let farm = Farm::of_stubs(3).start();
    stay_together(&farm, false);
    // The table alone decides where a client knows of no host id or does not obey it.
    stay_together(&farm, true);
}

/// Item 44.
#[test]
fn packets_of_many_sessions_find_their_backends_in_any_order() {
    let servers = Servers::with(3, |farm| farm.without_host_ids());
    let sessions: Vec<(String, String, usize)> = (0..9)
        .map(|number| {
            let target = format!("/in/{number}.bin");
            let (id, backend) = servers.open(&target);
            (target, id, backend)
        })
        .collect();
    let used: BTreeSet<_> = sessions.iter().map(|(_, _, backend)| backend).collect();
    assert_eq!(used.len(), 3);
    for round in 0..2 {
        for (target, id, owner) in sessions.iter().rev() {
            let range = format!("bytes {}-{}/6", round * 3, round * 3 + 2);
            let (backend, ..) = servers.passes(&fragment(target, id, &range, b"abc"));
            assert_eq!(backend, *owner, "{target}");
        }
    }
    for (target, id, owner) in &sessions {
        assert_eq!(servers.passes(&close(target, id)).0, *owner, "{target}");
    }
}

/// Item 44.
#[test]
fn a_ping_with_a_session_id_goes_to_the_backend_of_that_session() {
    let servers = Servers::with(3, |farm| farm.without_host_ids());
    let sessions: Vec<_> = (0..3).map(|_| servers.open(TARGET)).collect();
    for (id, owner) in sessions.iter().chain(&sessions) {
        let packet = ping(TARGET).with("BITS-Session-Id", id);
        assert_eq!(servers.passes(&packet).0, *owner);
    }
}

/// Item 48.
#[test]
fn two_clients_on_one_path_have_separate_pins() {
    let farm = Farm::of_stubs(2).without_host_ids().start();
    let contents = [Content::seeded(1, 50_000), Content::seeded(2, 60_000)];
    let client = farm.client().with(|o| o.fragments = PIECES);
    let url = farm.url("/in/same.bin");
    let mut uploads: Vec<_> = contents.iter().map(|content| client.begin(&url, content)).collect();
    // Packet by packet in turn, so that both sessions live at the same time.
    while uploads.iter_mut().map(|upload| upload.step()).filter(|&goes_on| goes_on).count() > 0 {}
    let reports: Vec<_> = uploads.into_iter().map(|upload| upload.run()).collect();
    for report in &reports {
        report.expect_smooth();
    }
    assert_ne!(reports[0].sessions, reports[1].sessions);
    let mut stored: Vec<_> = farm.stored("/in/same.bin").into_iter().map(|s| s.sha256).collect();
    let mut sent: Vec<_> = contents.iter().map(Content::sha256).collect();
    stored.sort();
    sent.sort();
    assert_eq!(stored, sent, "each backend has one of the two files");
    farm.expect_healthy();
}

/// Item 49.
#[test]
fn acks_without_a_session_id_are_normal_and_get_none() {
    let servers = Servers::start(2);
    let (id, owner) = servers.open(TARGET);
    for packet in [
        fragment(TARGET, &id, "bytes 0-2/6", b"abc"),
        ping(TARGET).with("BITS-Session-Id", &id),
        fragment(TARGET, &id, "bytes 3-5/6", b"def"),
        close(TARGET, &id),
    ] {
        let (backend, _, answer) = servers.passes(&packet);
        assert_eq!(backend, owner);
        assert_eq!(answer.field("BITS-Session-Id"), None, "{}", answer.head);
    }
    // A server that gives its id with the Ack of Create-Session only, as IIS does, and a real client.
    let farm = Farm::of_stubs(2).each_stub(&["--flavour", "iis"]).start();
    let content = Content::seeded(1, 50_000);
    let report = farm.client().with(|o| o.fragments = PIECES).upload(&farm.url(TARGET), &content);
    report.expect_smooth();
    farm.expect_stored(TARGET, &content);
}

/// Item 50.
/// Fault: no backend knows the session.
#[test]
fn fragment_close_and_cancel_of_an_unknown_session_are_answered_session_not_found() {
    let servers = Servers::with(2, |farm| farm.without_host_ids());
    let (known, _) = servers.open(TARGET);
    for id in [
        "{3F9C1E52-7B0D-4E7A-9C44-0D5B6A1E8F21}",
        "3f9c1e52-7b0d-4e7a-9c44-0d5b6a1e8f21",
        "-4902601953962343072",
        "/in/a.bin",
        &"x".repeat(100),
        // One character of a living id is not enough of it.
        &known[..known.len() - 1],
    ] {
        for packet in of_session(TARGET, id) {
            let answer = servers.stays(&packet);
            let ack = expect_not_found(packet.kind, &answer);
            assert_eq!(ack.session.as_deref(), Some(id), "the id is echoed");
        }
    }
    servers.passes(&fragment(TARGET, &known, "bytes 0-2/6", b"abc"));
}

/// Item 50.
#[test]
fn the_connection_lives_on_after_an_unknown_session() {
    let servers = Servers::with(1, |farm| farm.without_host_ids());
    let mut client = servers.connect();
    for packet in of_session(TARGET, "{3F9C1E52-7B0D-4E7A-9C44-0D5B6A1E8F21}") {
        let answer = client.exchange(&packet.bytes()).expect("an answer");
        expect_not_found(packet.kind, &answer);
    }
    // What a client does next, on the same connection.
    session_of(&client.exchange(&create(TARGET).bytes()).expect("an answer"));
}

/// Item 51.
#[test]
fn a_known_session_on_another_path_is_answered_like_an_unknown_one() {
    let servers = Servers::start(2);
    let target = "/in/a.bin?site=7";
    let (id, owner) = servers.open(target);
    let alias = format!("up{:02}.{ORIGIN}", owner + 1);
    let stranger = "{3F9C1E52-7B0D-4E7A-9C44-0D5B6A1E8F21}";
    for other in ["/in/b.bin?site=7", "/in/a.bin?site=8", "/in/a.bin", "/IN/a.bin?site=7"] {
        for (known, unknown) in of_session(other, &id).iter().zip(of_session(other, stranger)) {
            let answer = servers.stays(known);
            expect_not_found(known.kind, &answer);
            // To whoever tries an id, nothing tells a living one from a dead one.
            let same = |head: &str| without_date(&head.replace(&id, stranger));
            assert_eq!(same(&answer.head), same(&servers.stays(&unknown).head), "{other}");
        }
        for packet in of_session(other, &id) {
            let kind = packet.kind;
            expect_not_found(kind, &servers.stays(&packet.at(&alias)));
        }
    }
    // The session has not suffered.
    let packet = fragment(target, &id, "bytes 0-2/3", b"abc");
    assert_eq!(servers.passes(&packet).0, owner);
}

fn without_date(head: &str) -> String {
    head.split("\r\n").filter(|line| !line.to_ascii_lowercase().starts_with("date:")).collect()
}
