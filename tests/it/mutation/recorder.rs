//! A backend that judges every byte as it comes: each request is well-formed, was sent by one client, and is what that
//! client sent, no more and no less.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use e2e_tests::client::packet::PROTOCOL;

use super::strict::{self, Field, Framing, Request};

/// Addresses of conversations begin here: `127.1.0.0` and so on, so that whatever a client says, the gateway's own
/// X-Forwarded-For tells whose request it is.
const FIRST: u32 = 0x7F01_0000;

pub fn address_of(number: u32) -> Ipv4Addr {
    Ipv4Addr::from(FIRST + number)
}

/// The port that a proxy in front says the clients of conversations have connected to.
pub const PORT: u16 = 8443;

/// What a conversation may make the backend see.
struct Expected {
    requests: Vec<Request>,
    next: usize,
}

#[derive(Default)]
pub struct Watch {
    /// Whether the gateway tells of clients in every field there is.
    tells_all: bool,
    expected: Mutex<HashMap<u32, Expected>>,
    wrong: Mutex<Vec<(u32, String)>>,
    /// Requests that came through.
    pub seen: AtomicU64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Watch {
    pub fn expect(&self, number: u32, requests: Vec<Request>) {
        lock(&self.expected).insert(number, Expected { requests, next: 0 });
    }

    pub fn forget_all(&self) {
        lock(&self.expected).clear();
    }

    pub fn report(&self, number: u32, what: String) {
        lock(&self.wrong).push((number, what));
    }

    pub fn wrong(&self) -> Vec<(u32, String)> {
        std::mem::take(&mut lock(&self.wrong))
    }

    fn ours(&self) -> Vec<&'static str> {
        [OURS, if self.tells_all { TOLD } else { &[] }].concat()
    }

    /// Whether what the gateway says of a client is true, and said once.
    fn is_told_well(&self, got: &Request, number: Option<u32>) -> bool {
        if !self.tells_all {
            return true;
        }
        let client = got.text("x-forwarded-for");
        if got.value("x-forwarded-host").is_none() && !got.is_packet() {
            // A check of HTTP/1.0 that named no host.
            return got.text("forwarded") == format!("for={client};proto=http");
        }
        let host = got.text("x-forwarded-host");
        let forwarded = format!("for={client};host=\"{host}\";proto=http");
        let once = TOLD.iter().all(|name| got.values(name).count() == 1);
        let port = number.is_none() || got.text("x-forwarded-port") == PORT.to_string();
        let scheme = got.text("x-forwarded-proto") == "http";
        once && port && scheme && got.text("forwarded") == forwarded && host == got.text("host")
    }

    /// The place of a request in its conversation, and the request as its client sent it.
    fn place(&self, number: u32, got: &Request) -> Result<(usize, Request), String> {
        let mut expected = lock(&self.expected);
        let Some(known) = expected.get_mut(&number) else {
            // A cancel may come when its conversation is over.
            let ours = got.text("bits-session-id").starts_with(&format!("{{new-{number}."));
            let late = ends_for_nobody(got) && ours;
            return late.then(|| (usize::MAX, got.clone())).ok_or("nobody sent it now".to_owned());
        };
        let mut why = "there is no such request".to_owned();
        for (at, sent) in known.requests.iter().enumerate() {
            match same(sent, got, &self.ours()) {
                // Another one, equal to it, may follow.
                Ok(()) if at < known.next => why = "it came twice, or out of turn".to_owned(),
                Ok(()) => {
                    known.next = at + 1;
                    return Ok((at, sent.clone()));
                }
                Err(difference) => {
                    if sent.value("x-mark") == got.value("x-mark") {
                        why = difference;
                    }
                }
            }
        }
        let opened = known.requests.iter().find(|sent| may_end(sent, got, &self.ours()));
        opened.map(|sent| (usize::MAX, Request { body: Vec::new(), ..sent.clone() })).ok_or(why)
    }
}

/// The gateway writes these itself.
const OURS: &[&str] = &[
    "cdn-loop",
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "x-forwarded-for",
    "x-request-id",
];

/// And these, where backends are told all.
const TOLD: &[&str] = &["forwarded", "x-forwarded-host", "x-forwarded-port", "x-forwarded-proto"];

/// What a client says in these goes no further.
const GONE: [&str; 57] = [
    "bits-host-id",
    "bits-host-id-fallback-timeout",
    "connection",
    "expect",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "upgrade",
    "bits-original-request-url",
    "bits-request-datafile-name",
    "bits-response-datafile-name",
    "bits-static-response-url",
    "bits-copy-file-to-destination",
    "bits-error",
    "bits-error-code",
    "bits-error-context",
    "bits-protocol",
    "bits-received-content-range",
    "bits-reply-url",
    "proxy-authenticate",
    "proxy-authorization",
    // What only proxies may say of a client.
    "cf-connecting-ip",
    "cf-connecting-ipv6",
    "cf-pseudo-ipv4",
    "client-ip",
    "fastly-client-ip",
    "fastly-ssl",
    "front-end-https",
    "proxy",
    "remote-addr",
    "remote-user",
    "true-client-ip",
    "x-azure-clientip",
    "x-azure-socketip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-host",
    "x-http-destinationurl",
    "x-http-host-override",
    "x-original-for",
    "x-original-forwarded-for",
    "x-original-host",
    "x-original-method",
    "x-original-proto",
    "x-original-remote-addr",
    "x-original-uri",
    "x-original-url",
    "x-originating-ip",
    "x-proxyuser-ip",
    "x-real-ip",
    "x-real-port",
    "x-remote-addr",
    "x-remote-ip",
    "x-remote-user",
    "x-rewrite-url",
    "x-url-scheme",
];

/// Proxies write whole families of fields; these starts stand for any member of one.
const GONE_STARTS: [&str; 8] = [
    "client-cert",
    "forwarded",
    "ssl-client-",
    "x-arr-",
    "x-client-cert",
    "x-envoy-",
    "x-forward",
    "x-ssl-client-",
];

fn without<'r>(request: &'r Request, names: &[&str]) -> Vec<&'r Field> {
    let is = |field: &Field| names.iter().any(|n| field.0.eq_ignore_ascii_case(n.as_bytes()));
    let mut fields: Vec<_> = request.fields.iter().filter(|field| !is(field)).collect();
    fields.sort();
    fields
}

/// Whether the backend got what the client sent, but for what the gateway adds and takes away.
fn same(sent: &Request, got: &Request, ours: &[&str]) -> Result<(), String> {
    if (&sent.method, &sent.target) != (&got.method, &got.target) {
        return Err("the request line differs".to_owned());
    }
    if !sent.is_packet() && sent.hides_a_packet() {
        return Err("a server could take it for a packet".to_owned());
    }
    if sent.is_packet() && !sent.is_legal_packet() {
        return Err("it breaks a rule of the protocol".to_owned());
    }
    let (mut before, after) = (without(sent, ours), without(got, ours));
    before.retain(|field| {
        // As some servers read them.
        let name = String::from_utf8_lossy(&field.0).to_ascii_lowercase().replace('_', "-");
        !GONE.contains(&&*name) && !GONE_STARTS.iter().any(|start| name.starts_with(start))
    });
    if before != after {
        let extra: Vec<_> = after.iter().filter(|f| !before.contains(f)).collect();
        let lost: Vec<_> = before.iter().filter(|f| !after.contains(f)).collect();
        return Err(format!("fields differ: more {}, less {}", shown(&extra), shown(&lost)));
    }
    let number = |r: &Request| r.text("content-length").parse::<u64>().unwrap_or(0);
    if sent.chunked != got.chunked || number(sent) != number(got) {
        return Err("the framing differs".to_owned());
    }
    Ok(())
}

/// Whether this is the gateway cancelling the session that a client had opened and then left without its Ack.
fn may_end(sent: &Request, got: &Request, ours: &[&str]) -> bool {
    let opens = sent.text("bits-packet-type").eq_ignore_ascii_case("create-session");
    let written = ["user-agent", "bits-session-id", "bits-packet-type"];
    let taken_over = without(got, &[ours, &written[..]].concat());
    let from_the_client = taken_over.iter().all(|(name, value)| {
        let same = |field: &&Field| field.0.eq_ignore_ascii_case(name) && field.1 == *value;
        sent.fields.iter().any(|field| same(&field))
    });
    let same_file = sent.target == got.target && sent.method == got.method;
    opens && ends_for_nobody(got) && same_file && from_the_client
}

fn ends_for_nobody(got: &Request) -> bool {
    got.text("bits-packet-type") == "Cancel-Session"
        && got.text("user-agent").starts_with("bits-gateway/")
        && got.text("connection") == "close"
        && got.text("content-length") == "0"
}

fn shown(fields: &[&&Field]) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    fields.iter().map(|(name, value)| format!("[{}: {}]", text(name), text(value))).collect()
}

pub struct Recorder {
    pub address: SocketAddr,
    pub watch: Arc<Watch>,
}

impl Recorder {
    /// Serves until the process ends: one thread per connection of the gateway's pool.
    pub fn start(tells_all: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
        let address = listener.local_addr().expect("a bound socket has an address");
        let watch = Arc::new(Watch { tells_all, ..Watch::default() });
        let accepting = Arc::clone(&watch);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let watch = Arc::clone(&accepting);
                let _ = stream.set_nodelay(true);
                std::thread::spawn(move || {
                    Serving { stream, watch, buffer: Vec::new(), was_reset: false }.serve();
                });
            }
        });
        Self { address, watch }
    }
}

/// As much of a head goes in one piece, whatever the socket.
const AT_ONCE: usize = 16 * 1024;

struct Serving {
    stream: TcpStream,
    watch: Arc<Watch>,
    buffer: Vec<u8>,
    /// The connection has ended by a reset.
    was_reset: bool,
}

impl Serving {
    fn serve(mut self) {
        loop {
            let end = loop {
                match strict::head_end(&self.buffer) {
                    Some(end) => break end,
                    None if self.fill() => {}
                    // A connection may end between requests; a head is written at once.
                    None if self.buffer.is_empty() => return,
                    // Unless a socket does not take all of it, and the client leaves meanwhile. The
                    // connection is reset then, so no server takes the request for whole.
                    None if self.was_reset && self.buffer.len() > AT_ONCE => return,
                    None => {
                        let rest = String::from_utf8_lossy(&self.buffer).into_owned();
                        return self.watch.report(0, format!("half a head: {rest:?}"));
                    }
                }
            };
            let head: Vec<u8> = self.buffer.drain(..end).collect();
            if !self.one(&head) {
                return;
            }
        }
    }

    fn one(&mut self, head: &[u8]) -> bool {
        self.watch.seen.fetch_add(1, Ordering::Relaxed);
        let text = String::from_utf8_lossy(head).into_owned();
        let Some((got, framing)) = strict::any_head(head).filter(|(got, _)| got.is_bare()) else {
            self.watch.report(0, format!("not well-formed: {text:?}"));
            return false;
        };
        let client: Vec<_> = got.values("x-forwarded-for").collect();
        let [client] = client[..] else {
            self.watch.report(0, format!("whose is it? {text:?}"));
            return false;
        };
        let client = std::str::from_utf8(client).ok().and_then(|c| c.parse::<Ipv4Addr>().ok());
        let number = client.and_then(|client| u32::from(client).checked_sub(FIRST));
        if !self.watch.is_told_well(&got, number) {
            self.watch.report(number.unwrap_or(0), format!("not true of its client: {text:?}"));
            return false;
        }
        let Some(number) = number else {
            // The honest client has no number.
            return self.body(0, framing, None, &text) && self.answer(&got, None);
        };
        match self.watch.place(number, &got) {
            Ok((at, sent)) => {
                self.body(number, framing, Some(&sent), &text)
                    && self.answer(&got, Some((number, at)))
            }
            Err(why) => {
                self.watch.report(number, format!("{why}: {text:?}"));
                false
            }
        }
    }

    /// Reads the body as it is framed, and compares.
    fn body(&mut self, number: u32, framing: Framing, sent: Option<&Request>, head: &str) -> bool {
        let (body, whole) = match framing {
            Framing::Length(length) => {
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                while self.buffer.len() < length && self.fill() {}
                let there = length.min(self.buffer.len());
                (self.buffer.drain(..there).collect::<Vec<u8>>(), there == length)
            }
            Framing::Chunked => match self.chunks() {
                Ok(read) => read,
                Err(why) => {
                    self.watch.report(number, format!("{why} in the body of {head:?}"));
                    return false;
                }
            },
        };
        let Some(sent) = sent else { return whole };
        if whole && !sent.fits() {
            self.watch.report(number, format!("a body that does not fit its range: {head:?}"));
        }
        if !sent.body.starts_with(&body) || (whole && (!sent.whole || body != sent.body)) {
            let (got, sent) = (String::from_utf8_lossy(&body), String::from_utf8_lossy(&sent.body));
            let what = format!("body {got:?}, whole: {whole}, of {sent:?} for {head:?}");
            self.watch.report(number, what);
            return false;
        }
        whole
    }

    /// Chunks as they are written by somebody who has nothing to hide: no extensions, no trailers.
    fn chunks(&mut self) -> Result<(Vec<u8>, bool), String> {
        let mut body = Vec::new();
        loop {
            let line = loop {
                match self.buffer.windows(2).position(|w| w == b"\r\n") {
                    Some(at) => break at,
                    None if self.fill() => {}
                    None => return Ok((body, false)),
                }
            };
            let text = String::from_utf8_lossy(&self.buffer[..line]).into_owned();
            let hex = !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit());
            let size = usize::from_str_radix(&text, 16).ok().filter(|_| hex);
            let size = size.ok_or_else(|| format!("chunk {text:?}"))?;
            self.buffer.drain(..line + 2);
            while self.buffer.len() < size + 2 && self.fill() {}
            if self.buffer.len() < size + 2 {
                body.extend(self.buffer.drain(..).take(size));
                return Ok((body, false));
            }
            body.extend(self.buffer.drain(..size));
            let end: Vec<u8> = self.buffer.drain(..2).collect();
            if end != b"\r\n" {
                return Err("the end of a chunk is missing".to_owned());
            }
            if size == 0 {
                return Ok((body, true));
            }
        }
    }

    fn answer(&mut self, got: &Request, place: Option<(u32, usize)>) -> bool {
        let echo = place.map_or("honest".to_owned(), |(number, at)| format!("{number}.{at}"));
        let mut head = format!("HTTP/1.1 200 OK\r\nX-Echo: {echo}\r\n");
        if !got.is_packet() {
            head += &format!("Content-Length: {}\r\n\r\n", echo.len());
            let body = if got.method == b"HEAD" { "" } else { &*echo };
            return self.stream.write_all((head + body).as_bytes()).is_ok();
        }
        head += "BITS-Packet-Type: Ack\r\n";
        match &*got.text("bits-packet-type").to_ascii_lowercase() {
            "create-session" => {
                let id = match got.value("x-want") {
                    Some(_) => got.text("x-want"),
                    None => format!("{{new-{echo}}}"),
                };
                head += &format!("BITS-Protocol: {PROTOCOL}\r\nBITS-Session-Id: {id}\r\n");
            }
            "fragment" => {
                let range = got.text("content-range");
                let last = range.split(['-', '/']).nth(1).and_then(|l| l.parse::<u64>().ok());
                let next = last.unwrap_or(0).saturating_add(1);
                head += &format!("BITS-Received-Content-Range: {next}\r\n");
            }
            _ => {}
        }
        head += "Content-Length: 0\r\n\r\n";
        self.stream.write_all(head.as_bytes()).is_ok()
    }

    fn fill(&mut self) -> bool {
        let mut chunk = [0; 16 * 1024];
        match self.stream.read(&mut chunk) {
            Ok(n) if n > 0 => {
                self.buffer.extend(&chunk[..n]);
                true
            }
            Ok(_) => false,
            Err(error) => {
                self.was_reset = error.kind() == io::ErrorKind::ConnectionReset;
                false
            }
        }
    }
}
