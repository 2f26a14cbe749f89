//! The operational log: what an operator has to know, one event per line on stderr.
//!
//! Three rules keep it safe to read and to keep:
//!
//! - A value that came from the network is written through [`Untrusted`]. Whatever slips past it
//!   still cannot start a line of its own or steer a terminal: control characters are escaped
//!   once more on the way out.
//! - Libraries are heard from `warn` upwards only, whatever level is configured: below it they
//!   print whole request heads, with passwords and session ids in them. They get
//!   [`LIBRARY_LINES_PER_SECOND`], so that no client can fill the disk through them.
//! - `pingora_proxy` is not heard at all. Each of its messages is about one request and quotes
//!   its URL with the query string, or the raw bytes of a head that it could not parse. The
//!   access log has a line for that request, and the metrics count it.

use std::any::Any;
use std::fmt::{self, Write as _};
use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use gateway_core::session::Timestamp;
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::{Registry, reload};

use crate::base::clock;
use crate::telemetry::journal::{self, Priority};
use crate::telemetry::log_writer::{Destination, FlushGuard, LineWriter};
use crate::telemetry::metrics::{LogCounters, LogLevel, LogName};

/// Bytes of an untrusted value that a log shows.
pub const VALUE_LIMIT: usize = 256;

/// Lines that all libraries together may write.
pub const LIBRARY_LINES_PER_SECOND: u32 = 20;

/// How an event looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One JSON object per line.
    Json,
    /// One line for human eyes.
    Text,
}

#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    #[error("cannot start the writer of the log")]
    Writer(#[source] io::Error),
    #[error("this process has a log already")]
    Taken,
}

/// Sends every event of this process, and the records that libraries write through the `log`
/// crate, to stderr. `level` is that of the gateway's own events. Also catches the messages of
/// panics.
pub fn init(
    format: Format,
    level: LogLevel,
    counters: LogCounters,
) -> Result<FlushGuard, TelemetryError> {
    let (writer, guard) =
        LineWriter::start(Destination::Stderr, LogName::Operational, counters.clone())
            .map_err(TelemetryError::Writer)?;
    let (subscriber, filter) = subscriber(
        format,
        level,
        counters.clone(),
        EventWriter { writer, is_journal: journal::has_stderr() },
    );
    tracing::subscriber::set_global_default(subscriber).map_err(|_| TelemetryError::Taken)?;
    log::set_boxed_logger(Box::new(Library::new(counters))).map_err(|_| TelemetryError::Taken)?;
    log::set_max_level(log::LevelFilter::Warn);
    // There is one log, and this is it.
    let _ = FILTER.set(filter);
    std::panic::set_hook(Box::new(|panic| {
        let message = panic_message(panic.payload());
        let place = panic.location().map(tracing::field::display);
        tracing::error!(message = "a thread panicked", place, panic = %Untrusted(message.as_bytes()));
    }));
    Ok(guard)
}

/// Sets the level of the gateway's own events anew.
pub fn set_level(level: LogLevel) {
    if let Some(filter) = FILTER.get() {
        // An error means that the log has ended.
        let _ = filter.reload(targets(level));
    }
}

/// Of the one log.
static FILTER: OnceLock<Filter> = OnceLock::new();

type Filter = reload::Handle<Targets, Registry>;

/// A value that somebody else chose, fit to stand in a log.
///
/// Visible ASCII and spaces stand for themselves; a backslash is doubled and every other byte
/// becomes `\xNN`, so that nothing is hidden and nothing is ambiguous. Cut at [`VALUE_LIMIT`]
/// bytes, and never inside what stands for a byte.
#[derive(Clone, Copy)]
pub struct Untrusted<'a>(pub &'a [u8]);

impl fmt::Display for Untrusted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = VALUE_LIMIT;
        for &byte in self.0 {
            let Some(rest) = left.checked_sub(escaped_len(byte)) else { break };
            left = rest;
            escape(byte, f)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Untrusted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// A point in time as both logs write it: RFC 3339, UTC, milliseconds.
pub fn rfc3339(at: Timestamp) -> impl fmt::Display {
    // The last millisecond that has four digits of year.
    let at = at.0.min(253_402_300_799_999);
    humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(at))
}

/// Lets a line that clients can provoke into the log once in [`NOW_AND_THEN`].
#[derive(Debug, Default)]
pub struct NowAndThen {
    /// Milliseconds of the steady clock at the next line; 0 before the first.
    next: AtomicU64,
}

/// Often enough to be found, too rare to fill a disk.
pub const NOW_AND_THEN: Duration = Duration::from_secs(60);

impl NowAndThen {
    /// Whether a line may be written now.
    pub fn is_due(&self, steady: Duration) -> bool {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let (now, next) = (millis(steady), millis(steady + NOW_AND_THEN));
        let due = |at: u64| (now >= at).then_some(next);
        self.next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, due).is_ok()
    }
}

fn panic_message(payload: &dyn Any) -> &str {
    match payload.downcast_ref::<String>() {
        Some(message) => message,
        None => payload.downcast_ref::<&str>().unwrap_or(&"not a text"),
    }
}

fn escape(byte: u8, out: &mut impl fmt::Write) -> fmt::Result {
    match byte {
        b'\\' => out.write_str("\\\\"),
        b' '..=b'~' => out.write_char(char::from(byte)),
        _ => write!(out, "\\x{byte:02x}"),
    }
}

/// How many bytes [`escape`] writes.
fn escaped_len(byte: u8) -> usize {
    match byte {
        b'\\' => 2,
        b' '..=b'~' => 1,
        _ => 4,
    }
}

fn subscriber<W>(
    format: Format,
    level: LogLevel,
    counters: LogCounters,
    writer: W,
) -> (Box<dyn Subscriber + Send + Sync>, Filter)
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let (targets, filter) = reload::Layer::new(targets(level));
    let base = tracing_subscriber::registry().with(targets).with(Count(counters));
    let events = tracing_subscriber::fmt::layer().with_timer(Clock).with_writer(writer);
    match format {
        Format::Json => (Box::new(base.with(events.json().flatten_event(true))), filter),
        Format::Text => (Box::new(base.with(events.with_ansi(false))), filter),
    }
}

fn targets(level: LogLevel) -> Targets {
    let level = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    Targets::new()
        .with_default(LevelFilter::WARN)
        .with_target("bits_gateway", level)
        .with_target("gateway_core", level)
}

/// Counts events by level.
struct Count(LogCounters);

impl<S: Subscriber> Layer<S> for Count {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        self.0.message(match *event.metadata().level() {
            Level::ERROR => LogLevel::Error,
            Level::WARN => LogLevel::Warn,
            Level::INFO => LogLevel::Info,
            Level::DEBUG => LogLevel::Debug,
            Level::TRACE => LogLevel::Trace,
        });
    }
}

struct Clock;

impl FormatTime for Clock {
    fn format_time(&self, w: &mut Writer<'_>) -> fmt::Result {
        write!(w, "{}", rfc3339(clock::now()))
    }
}

/// Takes one formatted event per call to `write`, as the fmt layer makes them.
struct EventWriter {
    writer: LineWriter,
    /// Lines say how bad they are.
    is_journal: bool,
}

/// The same, for one event.
struct OneEvent<'w> {
    writer: &'w LineWriter,
    priority: Option<Priority>,
}

impl<'w> MakeWriter<'w> for EventWriter {
    type Writer = OneEvent<'w>;

    fn make_writer(&'w self) -> OneEvent<'w> {
        OneEvent { writer: &self.writer, priority: None }
    }

    fn make_writer_for(&'w self, metadata: &tracing::Metadata<'_>) -> OneEvent<'w> {
        let priority = self.is_journal.then(|| priority(*metadata.level()));
        OneEvent { writer: &self.writer, priority }
    }
}

fn priority(level: Level) -> Priority {
    match level {
        Level::ERROR => Priority::Error,
        Level::WARN => Priority::Warning,
        Level::INFO => Priority::Info,
        _ => Priority::Debug,
    }
}

impl io::Write for OneEvent<'_> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let cleaned = one_line(event);
        let line = cleaned.as_ref().map_or(event, |line| line.as_bytes());
        match self.priority {
            None => self.writer.line(line),
            // In one piece: another thread may write a line between two.
            Some(priority) => {
                self.writer.line(&[priority.prefix().as_bytes(), line].concat());
            }
        }
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The event without control characters, but for the line feed at its end; `None` if it has no
/// other.
fn one_line(event: &[u8]) -> Option<String> {
    let text = event.strip_suffix(b"\n").unwrap_or(event);
    if !text.iter().any(u8::is_ascii_control) && !has_c1_controls(text) {
        return None;
    }
    let mut line = String::with_capacity(event.len() + 16);
    for c in String::from_utf8_lossy(text).chars() {
        if c.is_control() {
            write!(line, "\\x{:02x}", u32::from(c)).expect("a String takes everything");
        } else {
            line.push(c);
        }
    }
    line.push('\n');
    Some(line)
}

/// U+0080 to U+009F in UTF-8; some terminals obey them as they do ESC.
fn has_c1_controls(text: &[u8]) -> bool {
    text.windows(2).any(|pair| pair[0] == 0xc2 && (0x80..0xa0).contains(&pair[1]))
}

/// Receives what libraries write through the `log` crate.
struct Library {
    counters: LogCounters,
    /// Second for which `used` counts.
    second: AtomicU64,
    used: AtomicU32,
}

impl Library {
    fn new(counters: LogCounters) -> Self {
        Self { counters, second: AtomicU64::new(0), used: AtomicU32::new(0) }
    }

    /// Two threads that enter a new second together may both reset the count: a few lines more.
    fn may_speak(&self, now: Duration) -> bool {
        if self.second.swap(now.as_secs(), Ordering::Relaxed) != now.as_secs() {
            self.used.store(0, Ordering::Relaxed);
        }
        self.used.fetch_add(1, Ordering::Relaxed) < LIBRARY_LINES_PER_SECOND
    }
}

impl log::Log for Library {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() <= log::Level::Warn && !metadata.target().starts_with("pingora_proxy")
    }

    fn log(&self, record: &log::Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        if !self.may_speak(clock::steady()) {
            self.counters.dropped(LogName::Operational, 1);
            return;
        }
        let mut text = Cut { text: String::new(), left: VALUE_LIMIT };
        // `Cut` ends the formatting with an error when it is full, which is what it is for.
        let _ = text.write_fmt(*record.args());
        let (library, text) = (record.target(), text.text);
        match record.level() {
            log::Level::Error => {
                tracing::error!(target: "library", library, text, "a library complains")
            }
            _ => tracing::warn!(target: "library", library, text, "a library complains"),
        }
    }

    fn flush(&self) {}
}

/// Escapes and cuts like [`Untrusted`], without the whole text in memory.
struct Cut {
    text: String,
    left: usize,
}

impl fmt::Write for Cut {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            self.left = self.left.checked_sub(escaped_len(byte)).ok_or(fmt::Error)?;
            escape(byte, &mut self.text)?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;
