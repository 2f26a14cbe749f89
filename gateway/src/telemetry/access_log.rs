//! The access log: one JSON object per line for each request, and one for each upload that ends.
//!
//! What it never holds: credentials, query strings, whole session ids. A value that a client
//! chose is cut at 256 bytes, and every byte of it that is not visible ASCII or a space is
//! written as `\u00NN`, so that a line is one line and a terminal shows what is there. Fields
//! that do not apply to a request are left out.

use std::cell::RefCell;
use std::fmt::{self, Display};
use std::io::{self, Write};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use gateway_core::fault::Fault;
use gateway_core::protocol::head::strip_scheme;
use gateway_core::protocol::reply::session_of_path;
use gateway_core::protocol::{ContentRange, HResult, SessionKey};
use gateway_core::routing::Why;
use gateway_core::session::{EndReason, Timestamp};
use uuid::Uuid;

use crate::telemetry::log::{VALUE_LIMIT, rfc3339};
use crate::telemetry::log_writer::{Destination, FlushGuard, LineWriter};
use crate::telemetry::metrics::{Carrier, LogCounters, LogName, PacketLabel};

/// Which requests have a line in the access log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessFilter {
    All,
    SkipSuccessfulFragments,
}

/// Writes lines without ever waiting for what they are written to. Clones share one file.
#[derive(Debug, Clone)]
pub struct AccessLog(Option<Open>);

#[derive(Debug, Clone)]
struct Open {
    writer: LineWriter,
    /// Fragments that went well have no line.
    skips: Arc<AtomicBool>,
}

/// One request that has ended.
#[derive(Debug, Clone)]
pub struct RequestLine<'a> {
    /// When it ended.
    pub ts: Timestamp,
    pub request_id: Uuid,
    pub session: Option<&'a SessionKey>,
    pub packet: PacketLabel,
    pub method: &'a [u8],
    /// The Host field as sent.
    pub host: Option<&'a [u8]>,
    /// The request-target as sent; what must not be logged of it is left out here.
    pub target: &'a [u8],
    pub client: Option<IpAddr>,
    /// "TLSv1.3", where the client speaks TLS.
    pub tls_version: Option<&'static str>,
    pub backend: Option<&'a str>,
    /// `None` for a head that was refused.
    pub carrier: Option<Carrier>,
    /// Which evidence chose the backend.
    pub pin_source: Option<Why>,
    /// What the client was sent; `None` if it was gone before.
    pub status: Option<u16>,
    /// The error code of the answer.
    pub bits_error: Option<HResult>,
    pub fault: Option<Fault>,
    /// The rule of the head check that the request broke.
    pub rule: Option<&'static str>,
    /// Body bytes.
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub range: Option<ContentRange>,
    pub total_time: Duration,
    pub backend_time: Option<Duration>,
    pub retries: u32,
    /// Whether the backend connection was kept from an earlier request.
    pub conn_reused: Option<bool>,
    pub user_agent: Option<&'a [u8]>,
    /// A valid one.
    pub traceparent: Option<&'a [u8]>,
}

/// One upload that has ended, by itself or by time.
#[derive(Debug, Clone)]
pub struct UploadLine<'a> {
    pub ts: Timestamp,
    /// The request that ended it, if one did.
    pub request_id: Option<Uuid>,
    pub session: &'a SessionKey,
    pub client: Option<IpAddr>,
    pub target: Option<&'a [u8]>,
    pub backend: &'a str,
    pub reason: EndReason,
    /// Bytes of the file that the backend has acknowledged.
    pub bytes: u64,
    /// Size of the file; 0 if no Fragment was seen.
    pub total: u64,
    /// Age of the session.
    pub age: Duration,
}

impl AccessLog {
    /// A log that writes nothing.
    pub fn off() -> Self {
        Self(None)
    }

    /// # Errors
    /// The file cannot be opened.
    pub fn open(destination: Destination, counters: LogCounters) -> io::Result<(Self, FlushGuard)> {
        let (writer, guard) = LineWriter::start(destination, LogName::Access, counters)?;
        Ok((Self(Some(Open { writer, skips: Arc::default() })), guard))
    }

    /// Which requests have a line from now on.
    pub fn keep(&self, filter: AccessFilter) {
        if let Some(open) = &self.0 {
            open.skips.store(filter == AccessFilter::SkipSuccessfulFragments, Ordering::Relaxed);
        }
    }

    /// `line` is made only where there is a log.
    pub fn request<'l>(&self, line: impl FnOnce() -> RequestLine<'l>) {
        let Some(open) = &self.0 else { return };
        let line = line();
        if !(open.skips.load(Ordering::Relaxed) && line.is_successful_fragment()) {
            with_line(&open.writer, |out| write_request(out, &line));
        }
    }

    pub fn upload_end(&self, line: &UploadLine<'_>) {
        let Some(open) = &self.0 else { return };
        with_line(&open.writer, |out| write_upload_end(out, line));
    }

    /// For the tools that move log files away: opens the file anew under its name.
    pub fn reopen(&self) {
        if let Some(open) = &self.0 {
            open.writer.reopen();
        }
    }
}

impl RequestLine<'_> {
    /// A Fragment that its server took at the first try: nobody misses its line.
    fn is_successful_fragment(&self) -> bool {
        self.packet == PacketLabel::Fragment
            && self.status.is_some_and(|status| (200..300).contains(&status))
            && self.retries == 0
            && self.fault.is_none()
            && self.bits_error.is_none()
    }
}

/// Every thread formats in one buffer of its own, which soon fits any line.
fn with_line(writer: &LineWriter, format: impl FnOnce(&mut Object<'_>)) {
    thread_local! {
        static BUFFER: RefCell<Vec<u8>> = RefCell::new(Vec::with_capacity(1024));
    }
    BUFFER.with_borrow_mut(|buffer| {
        buffer.clear();
        buffer.push(b'{');
        format(&mut Object(buffer));
        buffer.extend_from_slice(b"}\n");
        writer.line(buffer);
    });
}

fn write_request(out: &mut Object<'_>, line: &RequestLine<'_>) {
    out.plain("ts", &rfc3339(line.ts));
    out.plain("event", &"request");
    out.plain("request_id", &line.request_id.as_hyphenated());
    out.session(line.session);
    out.plain("packet", &line.packet.label());
    out.untrusted("method", Some(line.method));
    out.untrusted("host", line.host);
    out.path(Some(line.target));
    out.optional("client", line.client);
    out.optional("tls_version", line.tls_version);
    out.untrusted("backend", line.backend.map(str::as_bytes));
    out.optional("carrier", line.carrier.map(Carrier::label));
    out.optional("pin_source", line.pin_source.map(Why::label));
    out.optional_number("status", line.status);
    out.optional("bits_error", line.bits_error);
    out.optional("fault", line.fault.map(Fault::label));
    out.optional("rule", line.rule);
    out.number("bytes_in", line.bytes_in);
    out.number("bytes_out", line.bytes_out);
    if let Some(range) = line.range {
        out.number("range_start", range.first());
        // A file of no bytes has no last one.
        out.optional_number("range_end", range.end().checked_sub(1));
        out.number("total", range.total());
    }
    out.number("t_total_ms", Millis(line.total_time));
    out.optional_number("t_backend_ms", line.backend_time.map(Millis));
    out.number("retries", line.retries);
    out.optional_number("conn_reused", line.conn_reused);
    out.untrusted("user_agent", line.user_agent);
    out.untrusted("traceparent", line.traceparent);
}

fn write_upload_end(out: &mut Object<'_>, line: &UploadLine<'_>) {
    out.plain("ts", &rfc3339(line.ts));
    out.plain("event", &"upload_end");
    out.optional("request_id", line.request_id);
    out.session(Some(line.session));
    out.path(line.target);
    out.optional("client", line.client);
    out.untrusted("backend", Some(line.backend.as_bytes()));
    out.plain("reason", &line.reason.label());
    out.number("bytes", line.bytes);
    out.number("total", line.total);
    out.number("t_total_ms", Millis(line.age));
}

/// A JSON object under way. Keys are ours and need no escaping.
struct Object<'b>(&'b mut Vec<u8>);

impl Object<'_> {
    fn key(&mut self, key: &'static str) {
        if self.0.last() != Some(&b'{') {
            self.0.push(b',');
        }
        self.0.push(b'"');
        self.0.extend_from_slice(key.as_bytes());
        self.0.extend_from_slice(b"\":");
    }

    /// A number or a boolean.
    fn number(&mut self, key: &'static str, value: impl Display) {
        self.key(key);
        self.display(&value);
    }

    fn optional_number(&mut self, key: &'static str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.number(key, value);
        }
    }

    /// A text of our own making.
    fn plain(&mut self, key: &'static str, value: &dyn Display) {
        self.key(key);
        self.0.push(b'"');
        self.display(value);
        self.0.push(b'"');
    }

    fn optional(&mut self, key: &'static str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.plain(key, &value);
        }
    }

    fn untrusted(&mut self, key: &'static str, value: Option<&[u8]>) {
        let Some(value) = value else { return };
        self.key(key);
        self.0.push(b'"');
        value.iter().take(VALUE_LIMIT).for_each(|&byte| self.escape(byte));
        self.0.push(b'"');
    }

    fn session(&mut self, key: Option<&SessionKey>) {
        let Some(key) = key else { return };
        self.key("session");
        self.0.push(b'"');
        self.short(key);
        self.0.push(b'"');
    }

    fn path(&mut self, target: Option<&[u8]>) {
        let Some(path) = target.map(path_of) else { return };
        let owner = std::str::from_utf8(path).ok().and_then(session_of_path);
        let Some(owner) = owner else { return self.untrusted("path", Some(path)) };
        self.key("path");
        self.0.extend_from_slice(b"\"/BITS-Sessions/Replies/");
        self.short(&owner);
        self.0.extend_from_slice(b"../\"");
    }

    /// An id may be any visible ASCII, quotes among it.
    fn short(&mut self, key: &SessionKey) {
        struct Escaping<'o, 'b>(&'o mut Object<'b>);
        impl fmt::Write for Escaping<'_, '_> {
            fn write_str(&mut self, text: &str) -> fmt::Result {
                text.bytes().for_each(|byte| self.0.escape(byte));
                Ok(())
            }
        }
        let written = fmt::write(&mut Escaping(self), format_args!("{}", key.short()));
        written.expect(MEMORY);
    }

    fn display(&mut self, value: &dyn Display) {
        write!(self.0, "{value}").expect(MEMORY);
    }

    fn escape(&mut self, byte: u8) {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        match byte {
            b'"' | b'\\' => self.0.extend_from_slice(&[b'\\', byte]),
            b' '..=b'~' => self.0.push(byte),
            _ => {
                self.0.extend_from_slice(b"\\u00");
                self.0.push(HEX[usize::from(byte >> 4)]);
                self.0.push(HEX[usize::from(byte & 15)]);
            }
        }
    }
}

const MEMORY: &str = "memory takes everything, and no Display of ours fails";

/// The path of a request-target: without scheme, authority (which may hold a password), query
/// and fragment.
fn path_of(target: &[u8]) -> &[u8] {
    let end = target.iter().position(|byte| matches!(byte, b'?' | b'#')).unwrap_or(target.len());
    let target = &target[..end];
    if target.first() == Some(&b'/') {
        return target;
    }
    let rest = std::str::from_utf8(target).ok().and_then(strip_scheme).map(str::as_bytes);
    match rest {
        Some(rest) => rest.iter().position(|&b| b == b'/').map_or(b"/", |at| &rest[at..]),
        // Neither a path nor a URL: the authority of a CONNECT, or worse.
        None => b"-",
    }
}

/// Milliseconds with microseconds behind the point.
struct Millis(Duration);

impl Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.0.as_micros();
        write!(f, "{}.{:03}", micros / 1000, micros % 1000)
    }
}

#[cfg(test)]
#[path = "access_log_tests.rs"]
mod tests;
