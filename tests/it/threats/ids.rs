//! Guessed and stolen session ids.

use e2e_tests::client::exchange;
use e2e_tests::data::Content;
use e2e_tests::farm::{Farm, ORIGIN};

use crate::packets::{
    Servers, TARGET, close, create, expect_not_found, fragment, of_session, session_of,
};

/// Threat: T1.
#[test]
fn t1_an_id_with_any_digit_changed_opens_nothing() {
    for mode in ["backend", "minted"] {
        let servers = Servers::with(2, |farm| farm.set("sessions.id", &format!("\"{mode}\"")));
        let (id, owner) = servers.open(TARGET);
        for (at, digit) in id.char_indices().filter(|(_, c)| c.is_ascii_hexdigit()) {
            let other = if digit == '0' { "1" } else { "0" };
            let guess = format!("{}{other}{}", &id[..at], &id[at + 1..]);
            let packet = fragment(TARGET, &guess, "bytes 0-2/9", b"abc");
            expect_not_found(packet.kind, &servers.stays(&packet));
        }
        let (served_by, ..) = servers.passes(&fragment(TARGET, &id, "bytes 0-2/9", b"abc"));
        assert_eq!(served_by, owner, "the one who knows the id goes on");
        servers.farm.expect_healthy();
    }
}

/// Threat: T1.
#[test]
fn t1_a_stolen_id_is_worth_nothing_without_its_destination() {
    let servers = Servers::start(2);
    let (id, owner) = servers.open(TARGET);
    for packet in of_session("/in/elsewhere.bin", &id) {
        expect_not_found(packet.kind, &servers.stays(&packet));
    }
    let (served_by, ..) = servers.passes(&close(TARGET, &id));
    assert_eq!(served_by, owner);
}

/// Threat: T1.
#[test]
fn t1_the_id_behind_a_minted_one_opens_nothing_whoever_is_asked() {
    let farm = Farm::of_stubs(2)
        .set("sessions.id", "\"minted\"")
        .set("sessions.unknown", "\"ask\"")
        .start();
    let ask = |packet: &crate::packets::Packet| {
        exchange(farm.entrance(), &packet.bytes()).expect("an answer")
    };
    let id = session_of(&ask(&create(TARGET)));
    assert_eq!(ask(&fragment(TARGET, &id, "bytes 0-2/6", b"abc")).status, 200);
    let told = farm.stubs().iter().find_map(|stub| {
        let mut requests = stub.requests().into_iter();
        let hidden = requests.find_map(|r| Some(r.field("BITS-Session-Id")?.to_owned()))?;
        Some((format!("{}.{ORIGIN}", stub.name()), hidden))
    });
    let (alias, hidden) = told.expect("the backend was told its own id");
    assert_ne!(hidden, id);
    for host in [ORIGIN, &*alias] {
        for packet in of_session(TARGET, &hidden) {
            expect_not_found(packet.kind, &ask(&packet.at(host)));
        }
    }
    assert_eq!(ask(&fragment(TARGET, &id, "bytes 3-5/6", b"def")).status, 200);
    assert_eq!(ask(&close(TARGET, &id)).status, 200);
    farm.expect_stored(TARGET, &Content::bytes(b"abcdef".to_vec()));
    farm.expect_healthy();
}
