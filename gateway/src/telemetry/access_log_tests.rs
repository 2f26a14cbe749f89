use super::*;
use gateway_core::protocol::SessionId;
use serde_json::{Value, json};

const ID: &str = "{3F9C1E52-7B0D-4E7A-9C44-0D5B6A1E8F21}";

fn key(text: &str) -> SessionKey {
    SessionId::parse(text).unwrap().key().clone()
}

fn request() -> RequestLine<'static> {
    RequestLine {
        ts: Timestamp(1_782_828_000_123),
        request_id: Uuid::from_u128(7),
        session: None,
        packet: PacketLabel::Other,
        method: b"GET",
        host: None,
        target: b"/",
        client: None,
        tls_version: None,
        backend: None,
        carrier: None,
        pin_source: None,
        status: None,
        bits_error: None,
        rule: None,
        fault: None,
        bytes_in: 0,
        bytes_out: 0,
        range: None,
        total_time: Duration::ZERO,
        backend_time: None,
        retries: 0,
        conn_reused: None,
        user_agent: None,
        traceparent: None,
    }
}

fn written(format: impl FnOnce(&mut Object<'_>)) -> (String, Value) {
    let mut line = vec![b'{'];
    format(&mut Object(&mut line));
    line.push(b'}');
    let text = String::from_utf8(line).unwrap();
    let value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    (text, value)
}

#[track_caller]
fn check_path(target: &[u8], path: &str) {
    let (_, line) = written(|out| out.path(Some(target)));
    assert_eq!(line["path"], path);
}

#[test]
fn a_line_holds_every_field_that_applies() {
    let session = key(ID);
    let line = RequestLine {
        session: Some(&session),
        packet: PacketLabel::Fragment,
        method: b"BITS_POST",
        host: Some(b"up01.example.com"),
        target: b"/in/a.bin?token=secret",
        client: Some("2001:db8::1".parse().unwrap()),
        tls_version: Some("TLSv1.3"),
        backend: Some("up01"),
        carrier: Some(Carrier::Relay),
        pin_source: Some(Why::Pin),
        status: Some(500),
        bits_error: Some(HResult::SESSION_NOT_FOUND),
        fault: Some(Fault::UnknownSession),
        bytes_in: 10,
        bytes_out: 20,
        range: Some(ContentRange::new(100, 109, 200).unwrap()),
        total_time: Duration::from_micros(12_345),
        backend_time: Some(Duration::from_micros(1_002)),
        retries: 1,
        conn_reused: Some(true),
        user_agent: Some(b"Microsoft BITS/7.8"),
        traceparent: Some(b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
        ..request()
    };
    let (_, value) = written(|out| write_request(out, &line));
    assert_eq!(
        value,
        json!({
            "ts": "2026-06-30T14:00:00.123Z",
            "event": "request",
            "request_id": "00000000-0000-0000-0000-000000000007",
            "session": "3f9c1e52",
            "packet": "fragment",
            "method": "BITS_POST",
            "host": "up01.example.com",
            "path": "/in/a.bin",
            "client": "2001:db8::1",
            "tls_version": "TLSv1.3",
            "backend": "up01",
            "carrier": "relay",
            "pin_source": "pin",
            "status": 500,
            "bits_error": "0x8020001F",
            "fault": "unknown_session",
            "bytes_in": 10,
            "bytes_out": 20,
            "range_start": 100,
            "range_end": 109,
            "total": 200,
            "t_total_ms": 12.345,
            "t_backend_ms": 1.002,
            "retries": 1,
            "conn_reused": true,
            "user_agent": "Microsoft BITS/7.8",
            "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        })
    );
}

#[test]
fn fields_that_do_not_apply_are_left_out() {
    let (_, value) = written(|out| write_request(out, &request()));
    let keys: Vec<_> = value.as_object().unwrap().keys().map(String::as_str).collect();
    let mut expected = [
        "ts",
        "event",
        "request_id",
        "packet",
        "method",
        "path",
        "bytes_in",
        "bytes_out",
        "t_total_ms",
        "retries",
    ];
    expected.sort_unstable();
    let mut keys = keys;
    keys.sort_unstable();
    assert_eq!(keys, expected);
}

#[test]
fn the_range_of_an_empty_file_has_no_end() {
    let range = Some(ContentRange::new(0, 0, 0).unwrap());
    let (_, value) = written(|out| write_request(out, &RequestLine { range, ..request() }));
    assert_eq!(value["range_start"], 0);
    assert_eq!(value["total"], 0);
    assert!(value.get("range_end").is_none());
}

#[test]
fn an_ended_upload_is_summed_up() {
    let session = key(ID);
    let line = UploadLine {
        ts: Timestamp(0),
        request_id: None,
        session: &session,
        client: None,
        target: Some(b"/in/a.bin"),
        backend: "up01",
        reason: EndReason::Closed,
        bytes: 100,
        total: 100,
        age: Duration::from_secs(2),
    };
    let (text, value) = written(|out| write_upload_end(out, &line));
    assert_eq!(
        value,
        json!({
            "ts": "1970-01-01T00:00:00.000Z",
            "event": "upload_end",
            "session": "3f9c1e52",
            "path": "/in/a.bin",
            "backend": "up01",
            "reason": "closed",
            "bytes": 100,
            "total": 100,
            "t_total_ms": 2000.0,
        })
    );
    assert!(!text.to_lowercase().contains("7b0d"));
}

#[test]
fn a_path_loses_its_query_and_everything_before_it() {
    check_path(b"/in/a.bin?token=secret", "/in/a.bin");
    check_path(b"/in/a.bin#x?y", "/in/a.bin");
    check_path(b"http://user:secret@host/in/a?b", "/in/a");
    check_path(b"HTTPS://user:secret@host", "/");
    check_path(b"http://user:secret@host?x", "/");
    check_path(b"user:secret@host:443", "-");
    check_path(b"", "-");
}

#[test]
fn a_path_that_names_a_session_shows_the_short_id_only() {
    for target in [
        format!("/in/BITS-Sessions/Replies/{ID}/reply.bin"),
        "/in/bits-sessions%2freplies/%7B3f9c1e52-7b0d-4e7a-9c44-0d5b6a1e8f21%7D/r?x".to_owned(),
        format!("http://host/BITS-Sessions\\Replies\\{ID}"),
    ] {
        check_path(target.as_bytes(), "/BITS-Sessions/Replies/3f9c1e52../");
    }
}

#[test]
fn no_byte_breaks_a_line_or_hides_in_it() {
    let every: Vec<u8> = (0..=255).collect();
    let line = RequestLine { user_agent: Some(&every), host: Some(&every), ..request() };
    let (text, value) = written(|out| write_request(out, &line));
    assert!(text.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
    let shown: Vec<u32> = value["user_agent"].as_str().unwrap().chars().map(u32::from).collect();
    assert_eq!(shown, (0..=255).collect::<Vec<u32>>());
}

#[test]
fn ids_with_quotes_do_not_break_a_line() {
    let session = key(&"\"\\".repeat(20));
    let (_, value) = written(|out| out.session(Some(&session)));
    assert_eq!(value["session"], "\"\\".repeat(4));
}

#[test]
fn values_are_cut() {
    let long = vec![b'x'; 5000];
    let target = [b"/".as_slice(), &long].concat();
    let line =
        RequestLine { target: &target, host: Some(&long), user_agent: Some(&long), ..request() };
    let (_, value) = written(|out| write_request(out, &line));
    for field in ["path", "host", "user_agent"] {
        assert_eq!(value[field].as_str().unwrap().len(), VALUE_LIMIT, "{field}");
    }
}

#[test]
fn a_file_is_appended_to_and_opened_anew_on_demand() {
    let folder = std::env::temp_dir().join(format!("access-log-{}", Uuid::new_v4()));
    std::fs::create_dir(&folder).unwrap();
    let (path, moved) = (folder.join("access.log"), folder.join("access.log.1"));
    let counters = LogCounters::detached();
    let open = || AccessLog::open(Destination::File(path.clone()), counters.clone()).unwrap();

    let (log, guard) = open();
    log.request(request);
    drop(guard);
    let (log, guard) = open();
    std::fs::rename(&path, &moved).unwrap();
    log.reopen();
    // The thread takes requests in order: once the new file is there, lines go to it.
    while !path.exists() {
        std::thread::yield_now();
    }
    log.request(request);
    log.request(request);
    drop(guard);

    let lines = |path| std::fs::read_to_string(path).unwrap().lines().count();
    assert_eq!((lines(&moved), lines(&path)), (1, 2));
    assert_eq!(counters.lost(LogName::Access), 0);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o027, 0, "{mode:o}");
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_log_that_is_off_writes_nothing() {
    let log = AccessLog::off();
    log.request(request);
    log.reopen();
    assert!(log.0.is_none());
}

#[test]
fn a_file_that_cannot_be_opened_is_an_error() {
    let nowhere = Destination::File("/nonexistent/folder/access.log".into());
    assert!(AccessLog::open(nowhere, LogCounters::detached()).is_err());
}

/// The kept lines of a log with that filter, by their packet and status.
fn kept(filter: AccessFilter, lines: &[RequestLine<'_>]) -> Vec<String> {
    let folder = std::env::temp_dir().join(format!("access-filter-{}", Uuid::new_v4()));
    std::fs::create_dir(&folder).unwrap();
    let path = folder.join("access.log");
    let metrics = crate::telemetry::metrics::Metrics::new(&[], &[]);
    let opened = AccessLog::open(Destination::File(path.clone()), metrics.logs());
    let (log, guard) = opened.unwrap();
    log.clone().keep(filter);
    lines.iter().for_each(|line| log.request(|| line.clone()));
    drop(guard);
    let text = std::fs::read_to_string(path).unwrap();
    std::fs::remove_dir_all(folder).unwrap();
    let line = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        format!("{} {}", line["packet"].as_str().unwrap(), line["status"])
    };
    text.lines().map(line).collect()
}

#[test]
fn the_filter_skips_fragments_that_went_well_and_nothing_else() {
    let of = |packet, status| RequestLine { packet, status, ..request() };
    let fragment = |status| of(PacketLabel::Fragment, Some(status));
    let successful = [fragment(200), fragment(201)];
    let others = [
        fragment(416),
        fragment(503),
        of(PacketLabel::Fragment, None),
        RequestLine { retries: 1, ..fragment(200) },
        RequestLine { bits_error: Some(HResult::DISK_FULL), ..fragment(200) },
        RequestLine { fault: Some(Fault::AlreadyEnded), ..fragment(200) },
        of(PacketLabel::CreateSession, Some(200)),
        of(PacketLabel::Ping, Some(200)),
        of(PacketLabel::CloseSession, Some(200)),
        of(PacketLabel::CancelSession, Some(200)),
        of(PacketLabel::Other, Some(200)),
        of(PacketLabel::Unknown, Some(400)),
    ];
    let all = [&successful[..], &others[..]].concat();
    assert_eq!(kept(AccessFilter::All, &all).len(), all.len());
    let skipping = AccessFilter::SkipSuccessfulFragments;
    assert_eq!(kept(skipping, &all), kept(AccessFilter::All, &others));
}
