//! What a request head asks for, read without looking at any session.

use crate::http::{Framing, Head};
use crate::refusal::Refusal;

/// The five packets of MC-BUP 2.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Ping,
    CreateSession,
    Fragment,
    CloseSession,
    CancelSession,
}

/// What kind of request a head is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    Packet(Kind),
    /// A BITS_POST without a packet type, or with one that no client sends.
    Unknown {
        typed: bool,
    },
    /// GET or HEAD.
    Download,
    Other,
}

/// A part of the file, as `Content-Range` gives it.
///
/// # Units
/// Bytes; `first + length <= total`. A total of 0 always has length 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    pub first: u64,
    pub length: u64,
    pub total: u64,
}

/// MC-BUP 2.2.1: a header value should not exceed 4 KiB.
const MAX_VALUE: usize = 4096;

const UPLOAD_PROTOCOL: &str = "{7df0354d-249b-430f-820d-3d2a9bef4931}";

impl Kind {
    /// The name in statistics and faults.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ping => "ping",
            Self::CreateSession => "create_session",
            Self::Fragment => "fragment",
            Self::CloseSession => "close_session",
            Self::CancelSession => "cancel_session",
        }
    }
}

impl Class {
    pub fn name(self) -> &'static str {
        match self {
            Self::Packet(kind) => kind.name(),
            _ => "other",
        }
    }

    pub fn is_bits(self) -> bool {
        matches!(self, Self::Packet(_) | Self::Unknown { .. })
    }
}

/// Tells packets from ordinary HTTP.
///
/// `method_override` accepts `POST` with `X-Http-Method-Override: BITS_POST`, which OneDrive took.
pub fn classify(head: &Head, method_override: bool) -> Class {
    let overridden = method_override
        && head.method == "POST"
        && head
            .text("x-http-method-override")
            .is_some_and(|value| value.eq_ignore_ascii_case("BITS_POST"));
    if head.method == "BITS_POST" || overridden {
        return match head.text("bits-packet-type") {
            None => Class::Unknown { typed: false },
            Some(value) => read_kind(value).map_or(Class::Unknown { typed: true }, Class::Packet),
        };
    }
    match head.method.as_str() {
        "GET" | "HEAD" => Class::Download,
        _ => Class::Other,
    }
}

/// The checks that hold for every packet, MC-BUP 2.2.1 and 3.2.5.2.3.
pub fn check_values(head: &Head) -> Result<(), Refusal> {
    for (name, value) in &head.headers {
        let ours = name.get(..5).is_some_and(|p| p.eq_ignore_ascii_case("bits-"))
            || name.eq_ignore_ascii_case("content-name")
            || name.eq_ignore_ascii_case("content-range");
        if ours && value.len() > MAX_VALUE {
            return Err(Refusal::InvalidArgument("a header value over 4096 bytes"));
        }
    }
    for name in ["bits-packet-type", "bits-session-id", "content-range"] {
        if head.all(name).count() > 1 {
            return Err(Refusal::InvalidArgument("a header sent twice"));
        }
    }
    Ok(())
}

/// The session id that a packet names, if it names one that could exist.
pub fn session_id(head: &Head) -> Option<&str> {
    head.text("bits-session-id").filter(|id| !id.is_empty())
}

/// True when the upload protocol is among those the client offers.
///
/// IIS reads the list separated by spaces or commas in any letter case; `last_exact` compares only the last entry,
/// byte for byte, as GoBITS does.
pub fn offers_upload_protocol(list: &str, last_exact: bool) -> bool {
    if last_exact {
        return list.split(' ').next_back() == Some(UPLOAD_PROTOCOL);
    }
    list.split([' ', ','])
        .filter(|guid| !guid.is_empty())
        .take(100)
        .any(|guid| guid.eq_ignore_ascii_case(UPLOAD_PROTOCOL))
}

/// Reads `Content-Range` and holds it against the length of the body, MC-BUP 2.2.6.1 and 2.2.1.2.
pub fn read_range(head: &Head) -> Result<Range, Refusal> {
    let value = head.text("content-range").ok_or(Refusal::InvalidArgument("no content-range"))?;
    let range = parse_range(value).ok_or(Refusal::InvalidArgument("malformed content-range"))?;
    match head.framing {
        Framing::Length(length) if length != range.length => {
            Err(Refusal::InvalidArgument("content-length does not match content-range"))
        }
        Framing::None if range.length > 0 => Err(Refusal::LengthRequired),
        _ => Ok(range),
    }
}

fn read_kind(value: &str) -> Option<Kind> {
    const NAMES: [(&str, Kind); 5] = [
        ("ping", Kind::Ping),
        ("create-session", Kind::CreateSession),
        ("fragment", Kind::Fragment),
        ("close-session", Kind::CloseSession),
        ("cancel-session", Kind::CancelSession),
    ];
    NAMES.iter().find(|(name, _)| name.eq_ignore_ascii_case(value)).map(|(_, kind)| *kind)
}

fn parse_range(value: &str) -> Option<Range> {
    let unit = value.get(..5)?;
    let rest = value.get(5..)?;
    if !unit.eq_ignore_ascii_case("bytes") || !rest.starts_with(' ') {
        return None;
    }
    let (span, total) = rest.trim_start_matches(' ').split_once('/')?;
    let total = decimal(total)?;
    if total == 0 {
        // Nobody knows what a client sends for an empty file, because no range can be written for
        // it; these are the forms that the grammar of others produces.
        let empty = matches!(span, "" | "*" | "0-" | "0-0" | "0--1");
        return empty.then_some(Range { first: 0, length: 0, total: 0 });
    }
    let (first, last) = span.split_once('-')?;
    let (first, last) = (decimal(first)?, decimal(last)?);
    (first <= last && last < total).then(|| Range { first, length: last - first + 1, total })
}

fn decimal(text: &str) -> Option<u64> {
    // `u64::from_str` would take a leading plus sign.
    (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()))
        .then(|| text.parse().ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(lines: &str) -> Head {
        let raw =
            format!("BITS_POST /x HTTP/1.1\r\nHost: h\r\n{}\r\n\r\n", lines.replace('\n', "\r\n"));
        Head::parse(raw.into_bytes()).unwrap()
    }

    #[track_caller]
    fn check_range(value: &str, expected: Option<(u64, u64, u64)>) {
        let got = parse_range(value).map(|r| (r.first, r.length, r.total));
        assert_eq!(got, expected, "{value}");
    }

    #[test]
    fn ranges_are_read_as_the_wire_writes_them() {
        check_range("bytes 0-5119/10000", Some((0, 5120, 10000)));
        check_range("Bytes 5120-9999/10000", Some((5120, 4880, 10000)));
        check_range("bytes 0-0/1", Some((0, 1, 1)));
        check_range(
            "bytes 4294967296-4294967296/18446744073709551615",
            Some((4_294_967_296, 1, u64::MAX)),
        );
    }

    #[test]
    fn malformed_ranges_are_not_read() {
        for value in [
            "",
            "bytes",
            "bytes=0-1/2",
            "bytes0-1/2",
            "bytes 1-0/2",
            "bytes 0-2/2",
            "bytes 0-1/*",
            "bytes */2",
            "bytes +0-1/2",
            "bytes 0-1/18446744073709551616",
            "bytes 0-1",
            "bytes a-b/c",
            "chars 0-1/2",
            "bytes -1/2",
            "bytes 0 - 1/2",
        ] {
            check_range(value, None);
        }
    }

    #[test]
    fn a_total_of_zero_is_an_empty_range() {
        for value in ["bytes */0", "bytes 0-0/0", "bytes 0--1/0", "bytes 0-/0"] {
            check_range(value, Some((0, 0, 0)));
        }
        check_range("bytes 1-0/0", None);
    }

    #[test]
    fn packet_types_are_compared_without_case() {
        for value in ["create-session", "CREATE-SESSION", "Create-Session", "CreatE-SEssION "] {
            let head = head(&format!("BITS-Packet-Type: {value}"));
            assert_eq!(classify(&head, false), Class::Packet(Kind::CreateSession), "{value}");
        }
        assert_eq!(classify(&head("bits-packet-type: Ack"), false), Class::Unknown { typed: true });
        assert_eq!(classify(&head("x: y"), false), Class::Unknown { typed: false });
    }

    #[test]
    fn protocol_lists_are_split_on_spaces_and_commas() {
        let upper = UPLOAD_PROTOCOL.to_uppercase();
        let other = "{00000000-0000-0000-0000-000000000001}";
        assert!(offers_upload_protocol(&format!("{other}, {upper}"), false));
        assert!(offers_upload_protocol(&format!("{upper} {other}"), false));
        assert!(!offers_upload_protocol(other, false));
        assert!(!offers_upload_protocol("", false));
        let mut many = format!("{other} ").repeat(99);
        many.push_str(UPLOAD_PROTOCOL);
        assert!(offers_upload_protocol(&many, false));
        assert!(!offers_upload_protocol(&format!("{other} {many}"), false));
        assert!(!offers_upload_protocol(&upper, true));
        assert!(!offers_upload_protocol(&format!("{UPLOAD_PROTOCOL} {other}"), true));
        assert!(offers_upload_protocol(UPLOAD_PROTOCOL, true));
    }

    #[test]
    fn values_over_four_kibibytes_are_refused() {
        assert!(check_values(&head(&format!("BITS-Session-Id: {}", "i".repeat(4096)))).is_ok());
        assert!(check_values(&head(&format!("BITS-Session-Id: {}", "i".repeat(4097)))).is_err());
        assert!(check_values(&head(&format!("Content-Name: {}", "i".repeat(4097)))).is_err());
        assert!(check_values(&head("BITS-Session-Id: a\nbits-session-id: b")).is_err());
    }
}
