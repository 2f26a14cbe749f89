//! What a client hears of each kind of server's refusals.

use e2e_tests::client::{Ack, Answer, Connection, End, Framing, PacketType, exchange};
use e2e_tests::data::Content;
use e2e_tests::farm::Farm;

use super::{FLAVOURS, Flavour, PIECES};
use crate::packets::{Packet, TARGET, create, fragment, session_of};

/// The error fields and the offset of an answer, under any name and in any spelling.
fn errors(answer: &Answer) -> Vec<(String, String)> {
    let error = |(name, _): &&(String, String)| {
        let name = name.to_ascii_lowercase();
        name.starts_with("bits-error") || name.starts_with("x-") || name == "bits-packet-type"
    };
    let mut fields: Vec<_> = answer.fields.iter().filter(error).cloned().collect();
    fields.sort();
    fields
}

/// The answer to `packet` through the gateway, held against what the server itself says.
#[track_caller]
fn as_the_server_says(
    flavour: Flavour,
    farm: &Farm,
    client: &mut Connection,
    packet: &Packet,
) -> Answer {
    let answer = client.exchange(&packet.bytes()).expect("an answer");
    match flavour.name {
        "simplebits-py3" => {
            // It says nothing at all and keeps the connection open.
            assert_eq!(answer.status, 504, "{}", answer.head);
            crate::packets::expect_not_now(&[504], packet.kind, &answer);
        }
        "simplebits" => {
            // It says nothing about the length and keeps the connection open: its client would wait for ever.
            assert_eq!((answer.status, answer.framing), (500, Framing::ContentLength));
            assert_eq!(answer.field("BITS-Error-Code"), Some("0x1"), "{}", answer.head);
        }
        _ => {
            let said = exchange(farm.stub(0).address(), &packet.bytes()).expect("an answer");
            assert_eq!((answer.status, errors(&answer)), (said.status, errors(&said)));
            assert!(answer.status >= 400, "{}", answer.head);
        }
    }
    answer
}

#[test]
fn a_file_that_exists_is_refused_as_each_kind_of_server_refuses_it() {
    for flavour in FLAVOURS {
        println!("{}", flavour.name);
        let farm = impatient(flavour);
        let content = Content::seeded(1, 10);
        flavour.client(&farm).upload(&farm.url(TARGET), &content).expect_smooth();
        let answer = as_the_server_says(flavour, &farm, &mut connect(&farm), &create(TARGET));
        // A refusal opens nothing.
        assert_eq!(Ack::read(&answer).host_id, None, "{}", answer.head);
        assert_eq!(farm.metric("bitsgw_sessions", &[]), 0.0);
        farm.expect_stored(TARGET, &content);
        // And the gateway serves the next one.
        let next = flavour.client(&farm).upload(&farm.url("/in/next.bin"), &content);
        next.expect_smooth();
    }
}

#[test]
fn a_lost_session_is_told_as_each_kind_of_server_tells_it() {
    // This one starts a session under any id.
    for flavour in FLAVOURS.into_iter().filter(|flavour| flavour.name != "transfervm") {
        println!("{}", flavour.name);
        let farm = impatient(flavour);
        let mut client = connect(&farm);
        let id = session_of(&client.exchange(&create(TARGET).bytes()).expect("an answer"));
        farm.stub(0).lose_sessions();
        let packet = fragment(TARGET, &id, "bytes 0-2/9", b"abc");
        let answer = as_the_server_says(flavour, &farm, &mut client, &packet);
        // Only who says so in the words of the protocol ends the session.
        let pinned = farm.metric("bitsgw_sessions", &[]);
        let said = Ack::read(&answer).is_session_not_found();
        assert_eq!(pinned, if said { 0.0 } else { 1.0 }, "{}", answer.head);
        let expected = ["iis", "usis", "onedrive", "path-id"].contains(&flavour.name);
        assert_eq!(said, expected, "{}", answer.head);
    }
}

#[test]
fn a_hole_is_told_as_each_kind_of_server_tells_it_and_the_misspelt_offset_is_put_right() {
    for flavour in FLAVOURS {
        println!("{}", flavour.name);
        let farm = impatient(flavour);
        let mut client = connect(&farm);
        let id = session_of(&client.exchange(&create(TARGET).bytes()).expect("an answer"));
        // Larger than what may go over another connection than Create-Session.
        let body = vec![7; PIECES as usize];
        let range = format!("bytes 0-{}/{}", PIECES - 1, 9 * PIECES);
        let first = fragment(TARGET, &id, &range, &body);
        assert_eq!(client.exchange(&first.bytes()).expect("an answer").status, 200);
        let range = format!("bytes {}-{}/{}", 2 * PIECES, 3 * PIECES - 1, 9 * PIECES);
        let hole = fragment(TARGET, &id, &range, &body);
        let next = PIECES.to_string();
        match flavour.name {
            // Takes parts in any order.
            "transfervm" => {
                let answer = client.exchange(&hole.bytes()).expect("an answer");
                assert_eq!(answer.status, 200, "{}", answer.head);
            }
            "simplebits" | "simplebits-py3" => {
                as_the_server_says(flavour, &farm, &mut client, &hole);
            }
            _ => {
                let answer = as_the_server_says(flavour, &farm, &mut client, &hole);
                let said = (answer.status, answer.field("BITS-Received-Content-Range"));
                assert_eq!(said, (416, Some(&*next)), "{}", answer.head);
                assert_eq!(answer.framing, Framing::ContentLength);
            }
        }
    }
}

#[test]
fn a_file_that_is_too_large_ends_the_upload_where_the_server_says_so() {
    for name in ["iis", "transfervm", "usis", "onedrive", "path-id"] {
        let flavour = FLAVOURS.into_iter().find(|flavour| flavour.name == name);
        let flavour = flavour.expect("one of them");
        let farm = flavour.farm(1).each_stub(&["--max-upload-size", "250000"]).start();
        let report = flavour.client(&farm).upload(&farm.url(TARGET), &Content::seeded(1, 250_001));
        let End::Fatal(fatal) = &report.end else { panic!("{name}: {report}") };
        let said = (fatal.packet, fatal.status, fatal.hresult);
        assert_eq!(said, (PacketType::Fragment, Some(500), Some(0x8020_0020)), "{name}: {report}");
        flavour
            .client(&farm)
            .upload(&farm.url("/in/smaller.bin"), &Content::seeded(1, 250_000))
            .expect_smooth();
    }
}

/// One server behind a gateway that does not wait long for those that never answer.
#[track_caller]
fn impatient(flavour: Flavour) -> Farm {
    flavour
        .farm(1)
        .set("timeouts.answer", "\"1s\"")
        .set("timeouts.answer_long", "\"4s\"")
        .set("timeouts.client_body", "\"3s\"")
        .start()
}

#[track_caller]
fn connect(farm: &Farm) -> Connection {
    Connection::open(farm.entrance()).expect("the gateway accepts connections")
}
