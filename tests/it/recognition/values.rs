//! Values of BITS header fields: items 15 to 20.

use e2e_tests::client::packet::PROTOCOL;
use e2e_tests::client::{Head, PacketType};

use crate::bench::{Bench, close, create, packet, ping, untyped};

/// The longest value that a BITS field may have (MC-BUP 2.2.1).
const LONGEST: usize = 4096;

const OTHER: &str = "{0B7A2D1C-5C0E-4D5B-9F63-1E2A7C9D4B58}";

fn offer(protocols: &str) -> Vec<u8> {
    packet(PacketType::CreateSession)
        .field("BITS-Supported-Protocols", protocols)
        .field("Content-Length", 0)
        .to_bytes()
}

/// Items 15, 16.
#[test]
fn a_create_session_without_a_common_protocol_is_refused() {
    let bench = Bench::start();
    let none = packet(PacketType::CreateSession).field("Content-Length", 0);
    bench.refuses(PacketType::CreateSession, &none.to_bytes());
    let bare = PROTOCOL.trim_matches(['{', '}']);
    for protocols in [
        "",
        OTHER,
        &format!("{OTHER} {OTHER},{OTHER}"),
        // A GUID that only begins or ends like ours.
        &PROTOCOL.replace("7df0354d", "7df0354e"),
        &format!("{PROTOCOL}{OTHER}"),
        bare,
    ] {
        bench.refuses(PacketType::CreateSession, &offer(protocols));
    }
    bench.passes(&offer(PROTOCOL));
}

/// Item 17.
#[test]
fn the_protocol_is_found_in_any_case_and_place_and_behind_either_separator() {
    let bench = Bench::start();
    let upper = PROTOCOL.to_ascii_uppercase();
    for protocols in [
        PROTOCOL.to_owned(),
        upper.clone(),
        "{7DF0354d-249B-430f-820D-3D2A9BEF4931}".to_owned(),
        format!("{PROTOCOL} {OTHER}"),
        format!("{OTHER} {PROTOCOL}"),
        format!("{OTHER},{PROTOCOL},{OTHER}"),
        format!("{OTHER}, {upper}"),
        format!("{OTHER} ,  {PROTOCOL} , {OTHER}"),
    ] {
        let (request, _) = bench.passes(&offer(&protocols));
        assert_eq!(request.field("BITS-Supported-Protocols"), Some(&*protocols));
    }
}

/// Item 18.
#[test]
fn the_hundredth_protocol_of_a_list_counts() {
    let bench = Bench::start();
    for separator in [" ", ","] {
        let mut list = vec![OTHER; 99];
        list.push(PROTOCOL);
        bench.passes(&offer(&list.join(separator)));
        // Nothing in a list of that length makes it acceptable by itself.
        list[99] = OTHER;
        bench.refuses(PacketType::CreateSession, &offer(&list.join(separator)));
    }
}

/// A packet that is right but for a value of `length` bytes.
type OneLongValue = fn(&Bench, usize) -> (PacketType, Vec<u8>);

/// Fields that every gateway reads, and one that none does.
const LONG_VALUES: [OneLongValue; 3] = [
    |_, length| {
        let mut list = format!("{PROTOCOL} ");
        while list.len() < length {
            list.push_str(OTHER);
            list.push(' ');
        }
        list.truncate(length);
        (PacketType::CreateSession, offer(&list.replace(' ', ",")))
    },
    |bench, length| {
        let head = Head::bits(crate::bench::TARGET)
            .field("Host", e2e_tests::farm::ORIGIN)
            .field("BITS-Packet-Type", "Fragment")
            .field("BITS-Session-Id", bench.session())
            .field("Content-Name", "n".repeat(length))
            .field("Content-Range", "bytes 0-2/3")
            .field("Content-Length", 3);
        (PacketType::Fragment, head.with_body(b"abc"))
    },
    |_, length| (PacketType::Ping, ping().field("BITS-Vendor", "v".repeat(length)).to_bytes()),
];

/// Item 19.
#[test]
fn a_bits_value_beyond_4096_bytes_is_refused() {
    let bench = Bench::start();
    for long_value in LONG_VALUES {
        let (kind, bytes) = long_value(&bench, LONGEST + 1);
        bench.refuses(kind, &bytes);
    }
    let long = "x".repeat(LONGEST + 1);
    let typed = untyped().field("BITS-Packet-Type", &long).field("Content-Length", 0);
    bench.refuses(PacketType::Ping, &typed.to_bytes());
    bench.refuses(PacketType::CloseSession, &close(&long).to_bytes());
}

/// Item 20.
#[test]
fn a_bits_value_of_4096_bytes_passes() {
    let bench = Bench::start();
    for long_value in LONG_VALUES {
        let (_, bytes) = long_value(&bench, LONGEST);
        let (request, _) = bench.passes(&bytes);
        let longest = request.field_lines().filter_map(|line| line.split_once(": "));
        let longest = longest.map(|(_, value)| value.len()).max();
        assert_eq!(longest, Some(LONGEST), "the value arrived as it was sent");
    }
    // The limit is for values of the protocol; others have only that of the head.
    bench.passes(&create().field("Cookie", "c".repeat(LONGEST + 1)).to_bytes());
}
