//! Targets of `gateway-core`: everything that reads what a stranger wrote.

use std::net::IpAddr;

use gateway_core::farm::Announce;
use gateway_core::protocol::answer::{AnswerBody, read_answer};
use gateway_core::protocol::chunked::ChunkScanner;
use gateway_core::protocol::client::{ForwardingHeader, walk};
use gateway_core::protocol::framing::is_framed_once;
use gateway_core::protocol::head::{
    BodyFraming, HeadLimits, HeadPolicy, RequestHead, check_head, end_of_head, fault_of_line,
    find_field, is_hopeless, opens_packet,
};
use gateway_core::protocol::host::{Host, key_of};
use gateway_core::protocol::login::{Challenge, Left, binds, challenge, without_bound};
use gateway_core::protocol::passage::Edit;
use gateway_core::protocol::reply::session_of_path;
use gateway_core::protocol::{
    ChunkedMode, ContentRange, Fields, HResult, PacketType, RequestPacket, SessionId, latin1,
    packet, read_ack, read_request,
};
use gateway_core::rewrite::{Identity, ack_body, edits};
use gateway_core::session::{Observed, Timestamp, observe};
use http::header::WWW_AUTHENTICATE;
use http::{HeaderMap, HeaderName, HeaderValue, Version, response};

const LIMITS: HeadLimits = HeadLimits { head_bytes: 32 * 1024, line_bytes: 8 * 1024, fields: 100 };

/// Whoever accepts a head can write it again, finds the same end in pieces as in the whole, and
/// refuses it with a second length, a second host or a line that is none.
pub fn head(data: &[u8]) {
    let end = end_of_head(data, 0);
    // In two pieces, as they may come.
    let cut = data.len() / 2;
    if let Some(end) = end.filter(|end| *end > cut) {
        assert_eq!(end_of_head(&data[..cut], 0), None);
        assert_eq!(end_of_head(data, cut), Some(end));
    }
    let _ = find_field(data, "bits-session-id");
    let any = HeadPolicy::default();
    let Ok(facts) = check_head(data, &LIMITS, &any) else { return };
    assert_eq!(end, Some(data.len()), "a head is accepted to its end and no further");
    assert!(!is_hopeless(data, 0), "what is accepted was never hopeless");
    assert_eq!(fault_of_line(data, &LIMITS), None);
    assert_eq!(opens_packet(data), data.starts_with(b"BITS_POST "));
    let text: String = latin1::decode(data).into_owned();
    let mut lines: Vec<&str> =
        text.strip_suffix("\r\n\r\n").expect("its end").split("\r\n").collect();
    assert!(!text.contains('\0') && lines.iter().all(|line| !line.contains(['\r', '\n'])));
    let read = |lines: &[&str]| {
        let text = lines.join("\r\n") + "\r\n\r\n";
        check_head(&latin1::encode(&text).expect("it was Latin-1"), &LIMITS, &any)
    };
    if facts.edits.is_empty() {
        let found = RequestHead::new(data.to_vec(), facts.index);
        assert_eq!(Some(found), RequestHead::read(data.to_vec()), "the check finds what is there");
    }
    // What is passed on is a head of the same body, and nothing is left to change in it.
    let passed = facts.edits.apply(data);
    assert_eq!(end_of_head(&passed, 0), Some(passed.len()));
    if let Ok(again) = check_head(&passed, &LIMITS, &any) {
        assert_eq!(again.body, facts.body);
        assert!(again.edits.is_empty() && !again.http10);
    }
    let http10 = facts.http10;
    // Written anew from its parts.
    let fields: Vec<String> = lines[1..]
        .iter()
        .map(|line| line.split_once(':').expect("a field"))
        .map(|(name, value)| format!("{name}: {}", value.trim_matches([' ', '\t'])))
        .collect();
    let anew: Vec<&str> = [lines[0]].into_iter().chain(fields.iter().map(String::as_str)).collect();
    if anew.join("\r\n").len() + 4 <= LIMITS.head_bytes {
        let anew = read(&anew).expect("the same head");
        assert_eq!((anew.body, anew.http10), (facts.body, http10));
    }
    if lines.iter().any(|line| line.len() > 5 && line[..5].eq_ignore_ascii_case("host:")) {
        lines.push("Host: up");
        assert!(read(&lines).is_err(), "a second host in {lines:?}");
        lines.pop();
    }
    let worse = [
        " folded",
        "no colon",
        ": x",
        "X : y",
        "X: \0",
        "Connection: host",
        "Content_Length: 5",
        "Transfer-Encoding: gzip",
    ];
    for line in worse {
        lines.push(line);
        assert!(read(&lines).is_err(), "{line:?} in {lines:?}");
        lines.pop();
    }
    if facts.body != BodyFraming::Length(0) {
        for line in ["Content-Length: 5", "Transfer-Encoding: chunked"] {
            lines.push(line);
            assert!(read(&lines).is_err(), "{line:?} in {lines:?}");
            lines.pop();
        }
    }
}

/// Lines of `name: value` as fields; what is no field is left out.
fn fields(data: &[u8]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for line in data.split(|&b| b == b'\n').take(64) {
        let Some(colon) = line.iter().position(|&b| b == b':') else { continue };
        let name = HeaderName::from_bytes(&line[..colon]);
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (name, value) {
            map.append(name, value);
        }
    }
    map
}

/// A packet that is accepted can be written again from what was read, and says the same.
pub fn packet(data: &[u8]) {
    let map = fields(data);
    let all = map.iter().map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()));
    let head = RequestHead::of(b"BITS_POST", b"/in/a.bin", all).expect("a head");
    assert!(packet::is_packet(&head, false));
    let strict = read_request(&head, ChunkedMode::Refuse);
    assert_eq!(strict, read_request(&map, ChunkedMode::Refuse), "both find the same fields");
    let forwarded = read_request(&head, ChunkedMode::Forward);
    let Ok(read) = read_request(&head, ChunkedMode::Length) else {
        assert!(forwarded.is_err(), "allowing more refuses nothing");
        assert!(strict.is_err(), "allowing more refuses nothing");
        return;
    };
    let chunked = map.contains_key("transfer-encoding");
    assert_eq!(strict.is_ok(), !chunked, "the difference is chunks");
    assert_eq!(forwarded.is_ok(), !chunked || read.range().is_some(), "those of Fragments");
    let mut again = HeaderMap::new();
    let mut put = |name: &'static str, value: &str| {
        again.insert(name, HeaderValue::from_str(value).expect("a legal value"));
    };
    put("bits-packet-type", read.packet_type().wire());
    if let Some(session) = read.session() {
        assert!((1..=100).contains(&session.as_str().len()));
        put("bits-session-id", session.as_str());
    }
    if let Some(range) = read.range() {
        assert!(range.end() <= range.total() && range.first() <= range.end());
        let last = range.end().saturating_sub(1);
        put("content-range", &format!("bytes {}-{last}/{}", range.first(), range.total()));
        put("content-length", &range.len().to_string());
    }
    if read == RequestPacket::CreateSession {
        put("bits-supported-protocols", "{7df0354d-249b-430f-820d-3d2a9bef4931}");
    }
    assert_eq!(
        read_request(&again, ChunkedMode::Refuse).expect("what was read can be written"),
        read
    );
}

/// An answer that is read can be written anew and says the same, ends where it did however its bytes
/// come, and with a second length or a second coding is none.
pub fn answer(data: &[u8]) {
    let read = read_answer(data, &LIMITS);
    let Ok(Some(answer)) = &read else {
        // What is refused stays refused, whatever follows.
        let more = [data, b"\r\n\r\n"].concat();
        assert!(read.is_ok() || read_answer(&more, &LIMITS).is_err());
        return;
    };
    assert!(answer.length <= data.len());
    for cut in [answer.length / 2, answer.length - 1] {
        assert!(matches!(read_answer(&data[..cut], &LIMITS), Ok(None)), "cut at {cut}");
    }
    let write = |more: &str| {
        let version = if answer.head.version == Version::HTTP_10 { "1.0" } else { "1.1" };
        let mut text = format!("HTTP/{version} {}\r\n", answer.head.status.as_u16()).into_bytes();
        for (_, name, value) in answer.head.all() {
            text.extend([name, b": ", value, b"\r\n"].concat());
        }
        text.extend([more.as_bytes(), b"\r\n"].concat());
        text
    };
    let anew = write("");
    if anew.len() <= LIMITS.head_bytes {
        let again = read_answer(&anew, &LIMITS).expect("legal").expect("whole");
        assert_eq!((again.length, again.body), (anew.len(), answer.body));
        assert_eq!(again.head.length, answer.head.length);
        assert!(again.head.all().eq(answer.head.all()));
    }
    let length = match answer.body {
        AnswerBody::Length(length) => length + 1,
        AnswerBody::Chunked => 0,
        AnswerBody::UntilClose => return,
    };
    if answer.head.length.is_some() || answer.body == AnswerBody::Chunked {
        let two = write(&format!("Content-Length: {}\r\n", length.max(1) + 1_000_000));
        assert!(read_answer(&two, &LIMITS).is_err());
    }
}

fn packets() -> [RequestPacket; 5] {
    let session = SessionId::parse("{x}").expect("a legal id");
    let range = ContentRange::parse("bytes 0-4/10").expect("a legal range");
    [
        RequestPacket::CreateSession,
        RequestPacket::Ping { session: None },
        RequestPacket::Fragment { session: session.clone(), range },
        RequestPacket::CloseSession { session: session.clone() },
        RequestPacket::CancelSession { session },
    ]
}

fn apply(head: &mut response::Parts, edits: Vec<Edit>) {
    for edit in edits {
        edit.apply_to(&mut head.headers);
    }
}

/// Whatever a backend answers: a Host-Id of its own never passes, editing twice is editing once, and only a success
/// opens a session.
pub fn ack(data: &[u8]) {
    let [high, low, rest @ ..] = data else { return };
    let status = 100 + u16::from_be_bytes([*high, *low]) % 900;
    let mut head =
        http::Response::builder().status(status).body(()).expect("a status").into_parts().0;
    head.headers = fields(rest);
    let _ = is_framed_once(&head);
    let announce = Announce {
        host_id: HeaderValue::from_static("up01.example.net"),
        fallback_timeout: HeaderValue::from_static("900"),
    };
    for packet in packets() {
        let read = read_ack(head.status, &head.headers);
        let seen = observe(&Observed {
            packet: &packet,
            ack: &read,
            pinned: true,
            doubtful: false,
            moved: false,
            now: Timestamp(1),
        });
        let opened = matches!(seen, gateway_core::session::Effects::Opened(_));
        let creating = packet.packet_type() == PacketType::CreateSession;
        assert!(!opened || (creating && read.is_success() && read.session_id.is_some()));
        let identity = Identity { public_id: None, announce: Some(&announce) };
        let first = edits(&packet, &read, &head.headers, identity);
        let mut once = head.clone();
        apply(&mut once, first);
        let hosts: Vec<_> = once.headers.get_all("bits-host-id").iter().collect();
        let ours = creating && read.is_success();
        assert_eq!(hosts, if ours { vec!["up01.example.net"] } else { vec![] });
        let mut twice = once.clone();
        let second = edits(&packet, &read_ack(once.status, &once.headers), &once.headers, identity);
        apply(&mut twice, second);
        assert_eq!(once.headers, twice.headers);
        let _ =
            ack_body(&packet, &read_ack(once.status, &once.headers), once.version, &once.headers);
    }
}

/// A range is a range when it is written again.
pub fn range(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let code = HResult::parse(text);
    assert_eq!(code, code.and_then(|code| HResult::parse(&code.to_string())));
    let Ok(range) = ContentRange::parse(text) else { return };
    assert!(range.is_empty() == (range.total() == 0));
    assert!(range.is_empty() || (range.first() < range.end() && range.end() <= range.total()));
    assert_eq!(range.is_final(), range.end() == range.total());
    let last = range.end().saturating_sub(1);
    let again = format!("bytes {}-{last}/{}", range.first(), range.total());
    assert_eq!(ContentRange::parse(&again), Ok(range));
}

/// An id is kept byte for byte, and is the same one in every way in which a GUID may be written.
pub fn session_id(data: &[u8]) {
    assert_eq!(latin1::encode(&latin1::decode(data)).as_deref(), Some(data));
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Some(id) = SessionId::parse(text) else { return };
    assert_eq!(id.as_str(), text);
    assert!(HeaderValue::from_str(text).is_ok(), "it can stand in a head");
    let short = id.key().short().to_string();
    assert!(short.len() <= 8 && short.len() < text.len());
    let guid = id.key().guid().is_some();
    for other in [text.to_ascii_uppercase(), text.to_ascii_lowercase()] {
        let same = SessionId::parse(&other).expect("case makes no id illegal");
        assert_eq!(same.key() == id.key(), guid || other == text);
    }
    if guid {
        let bare = text.trim_matches(['{', '}']);
        assert_eq!(SessionId::parse(bare).expect("a legal id").key(), id.key());
    }
}

/// A host has one key, the key is a host, and nothing in it could be read as more than a host.
pub fn host(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Some(host) = Host::parse(text) else { return };
    assert!(!text.contains(['@', '/', '\\', ',', ' ', '\t', '?', '#', '%', ';', '\0', '\r', '\n']));
    let key = key_of(text).expect("a host has a key");
    assert_eq!(host.with_key(<[u8]>::to_vec), key.as_bytes());
    assert_eq!(key_of(&key), Some(key.clone()), "a key is its own key");
    assert_eq!(key, key.to_ascii_lowercase());
    assert!(text.starts_with(host.as_str()));
}

/// The end of a chunked body is the same in pieces of any size, and what it holds can be written anew.
pub fn chunks(data: &[u8]) {
    let [step, data @ ..] = data else { return };
    let step = usize::from(*step).max(1);
    let whole = ChunkScanner::default().scan(data);
    let (mut scanner, mut used) = (ChunkScanner::default(), 0);
    let pieces = data.chunks(step).try_for_each(|piece| {
        let scanned = scanner.scan(piece)?;
        used += scanned.used;
        Ok(())
    });
    assert_eq!(pieces.err(), whole.err());
    let Ok(scanned) = whole else { return };
    assert_eq!(used, scanned.used);
    assert!(scanned.ended || scanned.used == data.len(), "it stops at the end only");
    if !scanned.ended {
        return;
    }
    assert!(data[..used].ends_with(b"\r\n"));
    // One byte less is no end.
    let less = ChunkScanner::default().scan(&data[..used - 1]).expect("it was right so far");
    assert!(!less.ended);
    let again = ChunkScanner::default().scan(&data[..used]);
    assert_eq!(again, Ok(scanned), "what follows changes nothing");
}

/// A path names a session however it is encoded.
pub fn reply_path(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Some(key) = session_of_path(text) else { return };
    let path = text.split(['?', '#']).next().unwrap_or_default();
    let encoded: String = path
        .bytes()
        .map(|b| match b {
            b'{' | b'}' => format!("%{b:02x}"),
            _ => char::from(b).to_string(),
        })
        .collect();
    if encoded.is_ascii() {
        assert_eq!(session_of_path(&encoded), Some(key));
    }
}

/// A login that binds a connection is found by the name of its scheme, whatever else is offered before it, and nowhere
/// but between commas.
pub fn login(data: &[u8]) {
    let names = ["ntlm", "negotiate", "nego2"];
    let lower = data.to_ascii_lowercase();
    let named = names.iter().any(|name| lower.windows(name.len()).any(|w| w == name.as_bytes()));
    let found = challenge(data);
    if !named {
        assert!(found == Challenge::Other && !binds(data), "no scheme of the kind is named");
    }
    // Credentials are one element, so what they are said to be is said of a challenge as well.
    let word = lower.split(|byte| b" \t,".contains(byte)).next().unwrap_or_default();
    if names.iter().any(|name| name.as_bytes() == word) {
        assert_ne!(found, Challenge::Other);
    }
    for before in ["Basic realm=\"x, NTLM\", ", "Digest realm=\"\\\"\" ,"] {
        assert_eq!(challenge(&[before.as_bytes(), data].concat()), found, "behind {before:?}");
    }
    let Ok(value) = HeaderValue::from_bytes(data) else { return };
    let fields = HeaderMap::from_iter([(WWW_AUTHENTICATE, value)]);
    match without_bound(&fields) {
        Left::All => assert_eq!(found, Challenge::Other),
        Left::Nothing => assert_ne!(found, Challenge::Other),
        Left::Some(left) => {
            assert_ne!(found, Challenge::Other);
            let bound = |value: &HeaderValue| challenge(value.as_bytes()) != Challenge::Other;
            assert!(!left.iter().any(bound), "{left:?}");
        }
    }
}

/// The client behind proxies is the peer, or an address that a trusted one wrote.
pub fn trail(data: &[u8]) {
    let peer = IpAddr::from([10, 0, 0, 1]);
    let trusted = |address: IpAddr| matches!(address, IpAddr::V4(v4) if v4.octets()[0] == 10);
    for trail in [ForwardingHeader::XForwardedFor, ForwardingHeader::Forwarded] {
        let read = |value: &[u8]| walk(peer, [value].into_iter(), trail, trusted);
        let find = |value: &[u8]| read(value).client;
        let client = find(data);
        assert_eq!(client, client.to_canonical(), "one client has one address");
        let stranger = walk(peer, [data].into_iter(), trail, |_| false);
        assert!(stranger.client == peer && !stranger.named, "a stranger names no client");
        assert!(!read(data).named || (client != peer && !trusted(client)), "a proxy is no client");
        // What anybody wrote before it makes no difference once there is somebody nobody vouches for.
        if !trusted(client) {
            let before = read(&[b"203.0.113.9, for=203.0.113.9, ", data].concat());
            assert!(before.client == client && !before.named);
        }
        // Two fields are one with a comma between.
        let (first, second) = data.split_at(data.len() / 2);
        let joined = [first, b",", second].concat();
        assert_eq!(walk(peer, [first, second].into_iter(), trail, trusted), read(&joined));
    }
}
