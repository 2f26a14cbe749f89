use super::*;
use std::sync::Arc;

use log::Log;
use parking_lot::Mutex;

#[derive(Clone, Default)]
struct Page(Arc<Mutex<Vec<u8>>>);

impl io::Write for Page {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let line = one_line(bytes).map_or_else(|| bytes.to_vec(), String::into_bytes);
        self.0.lock().extend_from_slice(&line);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What is logged while `body` runs.
fn logged(format: Format, level: LogLevel, body: impl FnOnce(&LogCounters)) -> String {
    let page = Page::default();
    let counters = LogCounters::detached();
    let writer = page.clone();
    let (subscriber, _) = subscriber(format, level, counters.clone(), move || writer.clone());
    tracing::subscriber::with_default(subscriber, || body(&counters));
    let bytes = page.0.lock().clone();
    String::from_utf8(bytes).unwrap()
}

fn complain(library: &Library, target: &str, level: log::Level, text: &str) {
    let args = format_args!("{text}");
    library.log(&log::Record::builder().target(target).level(level).args(args).build());
}

#[test]
fn an_event_is_one_json_object_with_its_fields() {
    let text = logged(Format::Json, LogLevel::Info, |_| {
        tracing::info!(target: "bits_gateway::x", backend = "up01", bytes = 7, "session opened");
    });
    let event: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(event["level"], "INFO");
    assert_eq!(event["message"], "session opened");
    assert_eq!(event["backend"], "up01");
    assert_eq!(event["bytes"], 7);
    let time = event["timestamp"].as_str().unwrap();
    assert!(time.ends_with('Z') && time.len() == "2026-01-01T00:00:00.000Z".len(), "{time}");
}

#[test]
fn hostile_values_cannot_start_a_line_or_steer_a_terminal() {
    let hostile = "a\r\n{\"level\":\"ERROR\"}\u{1b}[31m\u{9b}31m\u{7f}";
    for format in [Format::Json, Format::Text] {
        let text = logged(format, LogLevel::Info, |_| {
            tracing::info!(target: "bits_gateway", value = %Untrusted(hostile.as_bytes()), "x");
            // Somebody forgot the helper.
            tracing::info!(target: "bits_gateway", value = %hostile, "{hostile}");
        });
        assert_eq!(text.lines().count(), 2, "{text:?}");
        assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
    }
}

#[test]
fn an_untrusted_value_is_escaped_and_cut() {
    let show = |bytes: &[u8]| Untrusted(bytes).to_string();
    assert_eq!(show(b"plain /path \"quoted\""), "plain /path \"quoted\"");
    assert_eq!(show(b"a\nb\\c\x00\xff"), "a\\x0ab\\\\c\\x00\\xff");
    assert_eq!(show(&[b'x'; 300]), "x".repeat(VALUE_LIMIT));
    // What stands for a byte is not cut.
    assert_eq!(show(&[0xe9; 300]), "\\xe9".repeat(VALUE_LIMIT / 4));
    assert_eq!(show(&[b"x", &[b'\\'; 300][..]].concat()), format!("x{}", "\\".repeat(254)));
    assert_eq!(show(&[b"xyz", &[0; 300][..]].concat()), format!("xyz{}", "\\x00".repeat(63)));
    let of_length = |length| show(&[&vec![b'x'; length][..], b"\n"].concat()).len();
    assert_eq!([251, 252, 253].map(of_length), [255, 256, 253]);
}

#[test]
fn the_level_holds_for_our_own_events_only() {
    let text = logged(Format::Text, LogLevel::Debug, |_| {
        tracing::debug!(target: "bits_gateway::proxy", "ours");
        tracing::trace!(target: "bits_gateway::proxy", "too fine");
        tracing::info!(target: "h2", "theirs");
    });
    assert!(text.contains("ours"));
    assert_eq!(text.lines().count(), 1, "{text}");
}

#[test]
fn messages_are_counted_by_level_whatever_becomes_of_them() {
    let metrics = crate::telemetry::metrics::Metrics::new(&[], &[]);
    let (subscriber, _) = subscriber(Format::Json, LogLevel::Info, metrics.logs(), io::sink);
    tracing::subscriber::with_default(subscriber, || {
        tracing::warn!(target: "bits_gateway", "one");
        tracing::warn!(target: "bits_gateway", "two");
        tracing::debug!(target: "bits_gateway", "not logged, not counted");
    });
    let text = metrics.encode();
    assert!(text.contains("bitsgw_log_messages_total{level=\"warn\"} 2"));
    assert!(text.contains("bitsgw_log_messages_total{level=\"debug\"} 0"));
}

#[test]
fn libraries_are_heard_from_warnings_upwards_and_the_proxy_library_never() {
    let text = logged(Format::Json, LogLevel::Trace, |counters| {
        let library = Library::new(counters.clone());
        complain(&library, "pingora_core::services", log::Level::Error, "Accept() failed\n");
        complain(&library, "pingora_core::protocols", log::Level::Info, "head: secret");
        complain(&library, "pingora_core::protocols", log::Level::Trace, "head: secret");
        complain(&library, "pingora_proxy", log::Level::Error, "GET /?password=secret");
        complain(&library, "pingora_proxy::proxy_h1", log::Level::Warn, "buf: secret");
    });
    assert_eq!(text.lines().count(), 1, "{text}");
    let event: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(event["library"], "pingora_core::services");
    assert_eq!(event["text"], "Accept() failed\\x0a");
    assert!(!text.contains("secret"));
}

#[test]
fn libraries_that_say_too_much_are_cut_and_the_rest_is_counted() {
    let library = Library::new(LogCounters::detached());
    let second = Duration::from_secs(7);
    let heard = (0..100).filter(|_| library.may_speak(second)).count();
    assert_eq!(heard, LIBRARY_LINES_PER_SECOND as usize);
    assert!(library.may_speak(Duration::from_secs(8)));

    let text = logged(Format::Json, LogLevel::Info, |counters| {
        let library = Library::new(counters.clone());
        complain(&library, "pingora_core", log::Level::Warn, &"y".repeat(5000));
        // More than two seconds can hold, should the clock tick on the way.
        for _ in 0..3 * LIBRARY_LINES_PER_SECOND {
            complain(&library, "pingora_core", log::Level::Warn, "again");
        }
        assert!(counters.lost(LogName::Operational) > 0);
    });
    let first: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!(first["text"].as_str().unwrap().len(), VALUE_LIMIT);
}

#[test]
fn a_time_beyond_the_calendar_is_still_a_time() {
    assert_eq!(rfc3339(Timestamp(0)).to_string(), "1970-01-01T00:00:00.000Z");
    assert_eq!(rfc3339(Timestamp(1_782_828_000_123)).to_string(), "2026-06-30T14:00:00.123Z");
    assert_eq!(rfc3339(Timestamp(u64::MAX)).to_string(), "9999-12-31T23:59:59.999Z");
}

#[test]
fn a_line_that_clients_provoke_is_written_now_and_then() {
    let (line, at) = (NowAndThen::default(), Duration::from_secs);
    let due: Vec<u64> = (0..200).filter(|&second| line.is_due(at(second))).collect();
    assert_eq!(due, [0, 60, 120, 180]);
}
