//! Guessed and stolen session ids.

use crate::packets::{Servers, TARGET, close, expect_not_found, fragment, of_session};

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
