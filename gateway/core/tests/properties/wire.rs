//! Readers and writers of the wire.

use gateway_core::farm::Announce;
use gateway_core::fault::{Fault, ack_headers};
use gateway_core::protocol::head::{
    HeadLimits, HeadPolicy, RequestHead, check_head, end_of_head, find_field,
};
use gateway_core::protocol::host::{Host, key_of};
use gateway_core::protocol::passage::Edit;
use gateway_core::protocol::reply::session_of_path;
use gateway_core::protocol::{
    Ack, ChunkedMode, ContentRange, HResult, PacketType, RequestPacket, SessionId, ids, packet,
    range, read_ack, read_request,
};
use gateway_core::rewrite::{Identity, ack_body, edits};
use gateway_core::session::{Effects, Observed, Timestamp, observe};
use http::{HeaderValue, StatusCode, request, response};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use uuid::Uuid;

const NAMES: &[&str] = &[
    "BITS-Packet-Type",
    "BITS-Session-Id",
    "BITS-Supported-Protocols",
    "BITS-Protocol",
    "BITS-Host-Id",
    "BITS-Host-Id-Fallback-Timeout",
    "BITS-Received-Content-Range",
    "BITS-Recieved-Content-Range",
    "BITS-Error",
    "BITS-Error-Code",
    "BITS-Error-Context",
    "BITS-Reply-URL",
    "Content-Name",
    "Content-Range",
    "Content-Length",
    "Transfer-Encoding",
    "Accept-Encoding",
    "X-Http-Method-Override",
];

/// Values that mean something somewhere, and values that mean nothing anywhere.
fn value() -> impl Strategy<Value = Vec<u8>> {
    let known = select(
        &[
            "Ack",
            "ACK",
            "Create-Session",
            "ping",
            "Fragment",
            "Close-Session",
            "Cancel-Session",
            "{7df0354d-249b-430f-820d-3d2a9bef4931}",
            "{3F9C1E52-7B0D-4E7A-9C44-0D5B6A1E8F21}",
            "-42",
            "bytes 0-4/5",
            "bytes 5-9/10",
            "bytes 0-0/0",
            "5",
            "0",
            "18446744073709551615",
            "0x8020001F",
            "8020001f",
            "0x5",
            "none",
            "chunked",
            "BITS_POST",
            "",
        ][..],
    );
    prop_oneof![
        6 => known.prop_map(|text| text.as_bytes().to_vec()),
        1 => vec(prop_oneof![Just(b'\t'), b' '..=b'~', 0x80..=0xff_u8], 0..40),
        1 => (4090..4100usize).prop_map(|count| vec![b'x'; count]),
    ]
}

fn fields() -> impl Strategy<Value = Vec<(&'static str, Vec<u8>)>> {
    vec((select(NAMES), value()), 0..8)
}

fn request(method: &str, fields: &[(&str, Vec<u8>)]) -> request::Parts {
    let mut request = http::Request::builder().method(method).uri("/in/a.bin");
    for (name, value) in fields {
        request = request.header(*name, HeaderValue::from_bytes(value).expect("legal value"));
    }
    request.body(()).expect("legal head").into_parts().0
}

fn response(status: u16, fields: &[(&str, Vec<u8>)]) -> response::Parts {
    let mut response = http::Response::builder().status(status);
    for (name, value) in fields {
        response = response.header(*name, HeaderValue::from_bytes(value).expect("legal value"));
    }
    response.body(()).expect("legal head").into_parts().0
}

fn packets() -> impl Strategy<Value = RequestPacket> {
    let session = || SessionId::parse("{3F9C1E52-7B0D-4E7A-9C44-0D5B6A1E8F21}").expect("legal id");
    let ranges = select(&["bytes 0-4/10", "bytes 5-9/10", "bytes 0-0/0"][..]);
    prop_oneof![
        Just(RequestPacket::CreateSession),
        Just(RequestPacket::Ping { session: None }),
        Just(RequestPacket::Ping { session: Some(session()) }),
        ranges.prop_map(move |range| {
            let range = ContentRange::parse(range).expect("legal range");
            RequestPacket::Fragment { session: session(), range }
        }),
        Just(RequestPacket::CloseSession { session: session() }),
        Just(RequestPacket::CancelSession { session: session() }),
    ]
}

fn statuses() -> impl Strategy<Value = u16> {
    prop_oneof![
        3 => select(&[200u16, 201, 416, 500][..]),
        1 => 200..600u16,
    ]
}

fn apply(head: &mut response::Parts, edits: Vec<Edit>) {
    for edit in edits {
        edit.apply_to(&mut head.headers);
    }
}

proptest! {
    #![proptest_config(crate::cases(2000))]

    #[test]
    fn no_bytes_make_a_reader_panic(
        bytes in vec(any::<u8>(), 0..200),
        from in 0..300usize,
        head_bytes in 0..300usize,
    ) {
        let limits = HeadLimits { head_bytes, line_bytes: head_bytes / 2, fields: 3 };
        let _ = check_head(&bytes, &limits, &HeadPolicy::default());
        let _ = end_of_head(&bytes, from);
        let _ = find_field(&bytes, "host");
    }

    #[test]
    fn no_text_makes_a_reader_panic(
        text in prop_oneof![
            any::<String>(),
            "[a-zA-Z0-9.:\\[\\]%-]{0,330}",
            "(bytes|Bytes)? ?[0-9*+-]{0,22}-?[0-9]{0,22}/?[0-9*]{0,22}",
            "(0|0x|0X|x)?[0-9a-fA-F]{0,12}",
            "[{]?[0-9a-fA-F-]{30,40}[}]?",
            "(/|\\\\)?(BITS-Sessions|bits-sessions|%42ITS-sessions)(/|\\\\)?(Replies)?(/|%|%7|%7B|%C3|%c3%a9|[{]x[}]){0,4}",
        ],
    ) {
        let _ = (ContentRange::parse(&text), HResult::parse(&text), range::next_offset(text.as_bytes()));
        let _ = session_of_path(&text);
        if let Some(host) = Host::parse(&text) {
            let key = key_of(&text).expect("a host has a key");
            prop_assert_eq!(host.with_key(<[u8]>::to_vec), key.as_bytes());
            prop_assert_eq!(key_of(&key), Some(key.clone()), "a key is its own key");
        }
        if let Some(id) = SessionId::parse(&text) {
            prop_assert_eq!(id.as_str(), &text);
            prop_assert!(HeaderValue::from_str(id.as_str()).is_ok());
            let _ = format!("{id:?} {}", id.key().short());
        }
    }

    #[test]
    fn no_head_makes_the_packet_reader_panic(fields in fields(), mode in 0..3_usize) {
        let mode = [ChunkedMode::Refuse, ChunkedMode::Forward, ChunkedMode::Length][mode];
        for method in ["BITS_POST", "POST"] {
            let head = request(method, &fields);
            let values = head.headers.iter();
            let values = values.map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()));
            let read = RequestHead::of(method.as_bytes(), b"/", values).expect("a head");
            let _ = (packet::is_packet(&read, true), packet::hidden_packet(&read));
            prop_assert_eq!(read_request(&read, mode), read_request(&head.headers, mode));
            if let Ok(packet) = read_request(&head.headers, mode) {
                let body = packet.range().map_or(0, |range| range.len());
                let length = head.headers.get("content-length").map(|v| v.to_str().unwrap());
                let chunked = mode != ChunkedMode::Refuse && head.headers.contains_key("transfer-encoding");
                prop_assert!(chunked || length.unwrap_or("0").parse() == Ok(body));
                let needs_session =
                    !matches!(packet.packet_type(), PacketType::CreateSession | PacketType::Ping);
                prop_assert!(!needs_session || packet.session().is_some());
            }
        }
    }

    #[test]
    fn an_answer_of_ours_is_read_back_as_it_was_written(
        index in 0..Fault::ALL.len(),
        id in proptest::option::of("[!-~]{1,100}"),
    ) {
        let fault = Fault::ALL[index];
        let session = id.as_deref().map(|id| SessionId::parse(id).expect("legal id"));
        let mut response = http::Response::builder().status(fault.row().status);
        for (field, value) in ack_headers(fault, session.as_ref()) {
            response = response.header(&field.name, value);
        }
        let head = response.body(()).expect("legal head").into_parts().0;
        let expected = Ack {
            status: fault.row().status,
            is_ack: true,
            session_id: id.as_deref().map(Into::into),
            next_offset: None,
            offsets_differ: false,
            error: fault.row().hresult,
            error_context: fault.row().hresult.map(|_| HResult(5)),
        };
        prop_assert_eq!(read_ack(head.status, &head.headers), expected);
    }

    #[test]
    fn a_code_is_read_back_as_it_was_written(code: u32) {
        let text = HResult(code).to_string();
        prop_assert_eq!(text.len(), 10);
        for spelling in [&text, &text[1..], &text[2..], &text.to_lowercase()] {
            prop_assert_eq!(HResult::parse(spelling), Some(HResult(code)));
        }
    }

    #[test]
    fn a_range_is_read_back_as_it_was_written(first: u64, len in 1..u64::MAX, rest: u64) {
        let last = first.saturating_add(len - 1).min(u64::MAX - 1);
        let total = (last + 1).saturating_add(rest);
        if first <= last {
            let range = ContentRange::parse(&format!("bytes {first}-{last}/{total}")).unwrap();
            prop_assert_eq!((range.first(), range.end(), range.total()), (first, last + 1, total));
            prop_assert_eq!(range.len(), last - first + 1);
            prop_assert_eq!(range.is_final(), last + 1 == total);
        }
    }

    #[test]
    fn a_guid_is_one_key_however_it_is_written(guid in any::<u128>().prop_map(Uuid::from_u128)) {
        let minted = ids::mint(guid);
        let key = |text: &str| SessionId::parse(text).expect("legal id").key().clone();
        prop_assert_eq!(key(&minted), key(&guid.to_string()));
        prop_assert_eq!(key(&minted), key(&minted.to_lowercase()));
        let path = format!("/in/BITS-Sessions/Replies/{}/r", minted.replace('{', "%7b"));
        prop_assert_eq!(session_of_path(&path), Some(key(&minted)));
    }

    #[test]
    fn rewriting_twice_is_once(
        packet in packets(),
        status in statuses(),
        fields in fields(),
        minted: bool,
        announced: bool,
    ) {
        let announce = Announce {
            host_id: HeaderValue::from_static("up01.example.net"),
            fallback_timeout: HeaderValue::from_static("900"),
        };
        let id = HeaderValue::from_static("{public}");
        let identity =
            Identity { public_id: minted.then_some(&id), announce: announced.then_some(&announce) };
        let mut head = response(status, &fields);
        let opening = packet == RequestPacket::CreateSession && read_ack(head.status, &head.headers).is_success();
        let first = edits(&packet, &read_ack(head.status, &head.headers), &head.headers, identity);
        apply(&mut head, first);
        let once = head.clone();
        let second = edits(&packet, &read_ack(head.status, &head.headers), &head.headers, identity);
        apply(&mut head, second);
        prop_assert_eq!(&once.headers, &head.headers);
        let ack = read_ack(head.status, &head.headers);
        let _ = ack_body(&packet, &ack, head.version, &head.headers);
        // Both or neither, ours or none.
        let pair = ["bits-host-id", "bits-host-id-fallback-timeout"]
            .map(|name| once.headers.get_all(name).iter().map(|v| v.to_str().unwrap()).collect::<Vec<_>>());
        if opening && announced {
            prop_assert_eq!(pair, [vec!["up01.example.net"], vec!["900"]]);
        } else {
            prop_assert_eq!(pair, [vec![""; 0], vec![]]);
        }
        if minted && (opening || read_ack(once.status, &once.headers).session_id.is_some()) {
            let shown: Vec<_> = once.headers.get_all("bits-session-id").iter().collect();
            prop_assert_eq!(shown, ["{public}"]);
        }
        prop_assert_eq!(once.status.as_u16(), status);
    }

    #[test]
    fn a_session_ends_only_by_an_answer_of_the_protocol(
        packet in packets(),
        status in statuses(),
        fields in fields(),
        pinned: bool,
        doubtful: bool,
        moved: bool,
    ) {
        let head = response(status, &fields);
        let ack = read_ack(head.status, &head.headers);
        let now = Timestamp(1);
        let observed = Observed { packet: &packet, ack: &ack, pinned, doubtful, moved, now };
        let effects = observe(&observed);
        let success = ack.status.is_success();
        let kind = packet.packet_type();
        if ack.status.is_redirection() {
            prop_assert_eq!(&effects, &Effects::Refuse(Fault::BackendAnswer));
            return Ok(());
        }
        if !ack.is_protocol() {
            prop_assert_eq!(&effects, &Effects::Nothing);
        }
        match effects {
            Effects::Nothing => {}
            Effects::Opened(opened) => {
                prop_assert!(success && kind == PacketType::CreateSession);
                prop_assert_eq!(Some(opened.backend_session), ack.session_id.as_deref());
            }
            Effects::Refuse(Fault::BackendMoved) => {
                prop_assert!(moved && ack.is_session_not_found());
            }
            Effects::Refuse(Fault::StoreDown) => {
                prop_assert!(!moved && doubtful && !pinned && ack.is_session_not_found());
            }
            Effects::Refuse(fault) => {
                let beyond = packet.range().zip(ack.next_offset);
                let beyond = beyond.is_some_and(|(range, next)| next > range.total().max(1));
                let misplaced = beyond || ack.offsets_differ;
                let nameless = success && kind == PacketType::CreateSession;
                prop_assert!(nameless || (kind == PacketType::Fragment && misplaced));
                prop_assert_eq!(fault, Fault::BackendAnswer);
            }
            Effects::Progress(progress) | Effects::Adopt(progress) => {
                let resync = ack.status == StatusCode::RANGE_NOT_SATISFIABLE;
                prop_assert!(kind == PacketType::Fragment && (success || resync));
                prop_assert_eq!(progress.seen, now);
                let total = packet.range().map_or(0, |range| range.total());
                let agreed = success || progress.next_offset == total;
                prop_assert_eq!(progress.total, if agreed { total } else { 0 });
            }
            Effects::CloseNotFound => {
                let not_found = ack.error == Some(HResult::SESSION_NOT_FOUND) && !success;
                prop_assert!(not_found && pinned && kind == PacketType::CloseSession);
            }
            Effects::Ended(_) => {
                let closing = [PacketType::CloseSession, PacketType::CancelSession].contains(&kind);
                let not_found = ack.error == Some(HResult::SESSION_NOT_FOUND) && !success;
                prop_assert!((success && closing) || (not_found && pinned));
            }
        }
    }
}
