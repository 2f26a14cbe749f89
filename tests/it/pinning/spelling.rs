//! A proxy between client and gateway writes the target of some packets anew: items 44 and 51.

use e2e_tests::client::{Ack, exchange};
use e2e_tests::data::Content;
use e2e_tests::farm::{Farm, FarmBuilder};
use rusqlite::Connection;

use crate::packets::{
    Packet, Servers, cancel, close, create, expect_not_found, fragment, of_session, session_of,
};

/// One target, by the escapes that are none.
const SPELLINGS: [&str; 5] = [
    "/in/a%20b~{1}.bin",
    "/in/a%20b~%7B1%7D.bin",
    "/in/%61%20b%7e%7b1%7d%2ebin",
    "/%69n/a%20b~{1%7D.bin?",
    "/in/a%20b~%7b1}.bin",
];

/// The file of all of them.
const STORED: &str = "/in/a b~{1}.bin";

/// Others: the escapes in them are separators, or percent signs, or no characters.
const OTHERS: [&str; 5] = [
    "/in%2Fa%20b~%7B1%7D.bin",
    "/in/a%2520b~%7B1%7D.bin",
    "/in/A%20b~%7B1%7D.bin",
    "/in/./a%20b~%7B1%7D.bin",
    "/in/a%20b~%7B1%7D.bin?x",
];

#[track_caller]
fn ask(farm: &Farm, packet: &Packet) -> Ack {
    let answer = exchange(farm.entrance(), &packet.bytes()).expect("an answer");
    assert_eq!(answer.status, 200, "{packet:?} was answered {}", answer.head);
    Ack::read(&answer)
}

/// It makes room for the next upload.
#[track_caller]
fn expect_stored(farm: &Farm, content: &Content) {
    let name = farm.expect_stored(STORED, content);
    std::fs::remove_file(farm.stub_named(&name).file(STORED)).expect("it is there");
}

/// An upload in five Fragments, each in the next spelling, and one that `between` comes in the midst of.
#[track_caller]
fn upload(farm: &Farm, first: usize, between: impl FnOnce()) {
    let content = Content::seeded(first as u64, 5_000);
    let spelling = |number: usize| SPELLINGS[(first + number) % SPELLINGS.len()];
    let answer = exchange(farm.entrance(), &create(spelling(0)).bytes()).expect("an answer");
    let id = session_of(&answer);
    let send = |numbers: std::ops::Range<usize>| {
        for number in numbers {
            let mut body = vec![0; 1_000];
            let at = number as u64 * 1_000;
            content.read_at(at, &mut body);
            let range = format!("bytes {at}-{}/5000", at + 999);
            let ack = ask(farm, &fragment(spelling(number + 1), &id, &range, &body));
            assert_eq!(ack.received, Some(at + 1_000));
        }
    };
    send(0..2);
    between();
    send(2..5);
    ask(farm, &close(spelling(1), &id));
    // Its Ack may have been lost.
    ask(farm, &close(spelling(2), &id));
    expect_stored(farm, &content);
}

fn farm(change: impl FnOnce(FarmBuilder) -> FarmBuilder) -> Farm {
    change(Farm::of_stubs(3).without_host_ids()).start()
}

#[test]
fn an_upload_whose_packets_come_in_several_spellings_arrives() {
    let farm = farm(|farm| farm);
    for first in 0..SPELLINGS.len() {
        upload(&farm, first, || {});
    }
    farm.expect_healthy();
}

#[test]
fn it_does_so_over_a_restart_of_the_gateway() {
    let farm = farm(|farm| farm);
    for first in 0..SPELLINGS.len() {
        upload(&farm, first, || farm.gateway().restart());
    }
    farm.expect_healthy();
}

/// Not every server takes two spellings for one target.
///
/// Threat: T17.
#[test]
fn a_server_sees_the_spelling_of_the_create_in_all_packets_of_a_session() {
    let servers = Servers::with(2, FarmBuilder::without_host_ids);
    for created in SPELLINGS {
        let (id, owner) = servers.open(created);
        for spelling in SPELLINGS {
            let (backend, seen, _) =
                servers.passes(&fragment(spelling, &id, "bytes 0-2/9", b"abc"));
            assert_eq!((backend, seen.target()), (owner, created), "{spelling}");
        }
        for other in OTHERS {
            for packet in of_session(other, &id) {
                expect_not_found(packet.kind, &servers.stays(&packet));
            }
        }
        let (backend, seen, _) = servers.passes(&cancel(SPELLINGS[0], &id));
        assert_eq!((backend, seen.target()), (owner, created));
    }
}

/// FNV-1a, 64 bits, of the bytes as they were sent: to that older versions have bound sessions.
fn hash(target: &str) -> i64 {
    let hash = target.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    hash as i64
}

/// What an older version has stored of a session is its row without the spelling beside it.
#[test]
fn a_session_that_an_older_version_has_stored_goes_on_in_its_spelling() {
    let farm = farm(|farm| farm);
    let content = Content::seeded(9, 6);
    let mut bytes = vec![0; 6];
    content.read_at(0, &mut bytes);
    for target in SPELLINGS {
        let answer = exchange(farm.entrance(), &create(target).bytes()).expect("an answer");
        let id = session_of(&answer);
        ask(&farm, &fragment(target, &id, "bytes 0-2/6", &bytes[..3]));
        farm.gateway().terminate();
        let file = farm.directory().join("store/sessions.db");
        let database = Connection::open(file).expect("the store opens");
        let row = |sql: &str| database.query_row(sql, [], |row| row.get::<_, i64>(0));
        assert_eq!(row("SELECT target FROM pins").expect("one pin"), hash(target), "{target}");
        database.execute_batch("DROP TABLE IF EXISTS spellings").expect("dropped");
        drop(database);
        farm.gateway().start();
        ask(&farm, &fragment(target, &id, "bytes 3-5/6", &bytes[3..]));
        ask(&farm, &close(target, &id));
        ask(&farm, &close(target, &id));
        expect_stored(&farm, &content);
    }
    farm.expect_healthy();
}
