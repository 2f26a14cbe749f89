//! A second opinion: which requests an honest and strict server would see in a row of bytes.
//!
//! It follows RFC 9112 and the input rules of the threat model, and shares nothing with the gateway. Bytes are kept as
//! bytes; whatever two readers could take for two things is no request.

mod body;
mod hop;

use body::chunks;
use hop::{for_the_server, is_for_next_hop, read};

/// One field line: its name as it stands there, and the value without white space around it.
pub type Field = (Vec<u8>, Vec<u8>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub method: Vec<u8>,
    /// In origin form, whatever form it came in.
    pub target: Vec<u8>,
    pub fields: Vec<Field>,
    /// Decoded; as far as it is there.
    pub body: Vec<u8>,
    /// Whether the body is there to its end.
    pub whole: bool,
    pub chunked: bool,
    /// Its client speaks HTTP/1.0: it is the last of its connection.
    pub old: bool,
    /// Read by [`Rules::More`].
    pub more: bool,
}

/// What counts as a packet, and what a packet may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rules {
    Usual,
    /// Fragments may be chunked, and POST may say that it means BITS_POST.
    More,
    /// Clients come by the PROXY protocol, and backends are told all that there is to tell of them.
    Proxied,
}

/// What a row of bytes holds.
#[derive(Debug, Default)]
pub struct Row {
    pub requests: Vec<Request>,
    /// Behind them stands something that is no request, or half of one.
    pub rest: bool,
}

impl Request {
    pub fn values<'r>(&'r self, name: &str) -> impl Iterator<Item = &'r [u8]> + use<'r> {
        let name = name.to_ascii_lowercase();
        let found = move |(n, _): &&Field| n.eq_ignore_ascii_case(name.as_bytes());
        self.fields.iter().filter(found).map(|(_, value)| &**value)
    }

    pub fn value(&self, name: &str) -> Option<&[u8]> {
        self.values(name).next()
    }

    pub fn text(&self, name: &str) -> String {
        String::from_utf8_lossy(self.value(name).unwrap_or_default()).into_owned()
    }

    pub fn is_packet(&self) -> bool {
        let overrides = self.more
            && self.method == b"POST"
            && self.text("x-http-method-override").eq_ignore_ascii_case("BITS_POST");
        self.method == b"BITS_POST" || overrides
    }

    /// Whether a server that is generous with methods could take it for a packet.
    pub fn hides_a_packet(&self) -> bool {
        let overrides = ["x-http-method-override", "x-method-override", "x-http-method"];
        let values = overrides.iter().flat_map(|name| self.values(name));
        let named = |value: &[u8]| {
            let text = String::from_utf8_lossy(value).to_ascii_uppercase();
            text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').any(|w| w == "BITS_POST")
        };
        self.method.eq_ignore_ascii_case(b"BITS_POST")
            || values.into_iter().any(named)
            || self.value("bits-packet-type").is_some()
    }

    /// Whether its body is as long as its range, where only the body's end tells.
    pub fn fits(&self) -> bool {
        let range = self.value("content-range").and_then(range_length);
        !self.chunked || !self.is_packet() || range == Some(self.body.len() as u64)
    }

    /// The size of the file that a Fragment is of.
    pub fn total(&self) -> Option<u64> {
        let fragment = self.text("bits-packet-type").eq_ignore_ascii_case("fragment");
        let range = self.text("content-range");
        let total = range.rsplit_once('/').and_then(|(_, total)| number(total.as_bytes()));
        total.filter(|_| fragment && self.is_packet())
    }

    /// Nothing may follow it on its connection.
    pub fn closes(&self) -> bool {
        let close = |value: &[u8]| list(value).any(|word| word.eq_ignore_ascii_case(b"close"));
        self.chunked || self.old || self.values("connection").any(close)
    }

    /// Whether no field stands in it that is for the next hop alone, but a plain `Connection`.
    pub fn is_bare(&self) -> bool {
        let plain = |value: &[u8]| {
            list(value).all(|w| [&b"close"[..], b"keep-alive"].contains(&&*w.to_ascii_lowercase()))
        };
        !self.old
            && self.value("host").is_some()
            && self.fields.iter().all(|(name, value)| match &*read(name) {
                b"connection" => plain(value),
                name => !is_for_next_hop(name),
            })
    }

    /// Whether a server of the protocol may see it at all, by what its fields say (MC-BUP 2.2).
    pub fn is_legal_packet(&self) -> bool {
        if self.chunked && !self.more {
            return false;
        }
        let id = self.value("bits-session-id");
        let legal_id = |id: &[u8]| {
            (1..=100).contains(&id.len()) && id.iter().all(|b| (0x21..=0x7e).contains(b))
        };
        let long = |(name, value): &Field| {
            let name = name.to_ascii_lowercase();
            let bits = name.starts_with(b"bits-") || name == b"content-name";
            bits && value.len() > 4096
        };
        if id.is_some_and(|id| !legal_id(id)) || self.fields.iter().any(long) {
            return false;
        }
        let kind = self.text("bits-packet-type").to_ascii_lowercase();
        let length = match self.chunked {
            true => None,
            false => self.value("content-length").map_or(Some(0), number),
        };
        match &*kind {
            "ping" => length == Some(0),
            "create-session" => {
                let known = b"{7df0354d-249b-430f-820d-3d2a9bef4931}";
                let offered = self.value("bits-supported-protocols").unwrap_or_default();
                let mut words = offered.split(|b| b" ,\t".contains(b));
                length == Some(0) && words.any(|word| word.eq_ignore_ascii_case(known))
            }
            "close-session" | "cancel-session" => length == Some(0) && id.is_some(),
            "fragment" => {
                let range = self.value("content-range").and_then(range_length);
                let said = self.value("content-length").is_some() && range == length;
                id.is_some() && range.is_some() && (said || self.chunked)
            }
            _ => false,
        }
    }
}

/// Length of `bytes F-L/T`.
fn range_length(value: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(value).ok()?;
    let (unit, rest) = text.split_once(' ')?;
    let (first, rest) = rest.split_once('-')?;
    let (last, total) = rest.split_once('/')?;
    let [first, last, total] = [first, last, total].map(|n| number(n.as_bytes()));
    let (first, last, total) = (first?, last?, total?);
    if !unit.eq_ignore_ascii_case("bytes") {
        return None;
    }
    match (first, total) {
        (0, 0) if [0, u64::from(u32::MAX), u64::MAX].contains(&last) => Some(0),
        _ => (first <= last && last < total).then(|| last - first + 1),
    }
}

fn number(digits: &[u8]) -> Option<u64> {
    let plain = (1..=20).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    plain.then(|| std::str::from_utf8(digits).ok()?.parse().ok())?
}

fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&b| b == b',').map(trim)
}

pub fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = value {
        value = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

pub fn row(mut bytes: &[u8], rules: Rules) -> Row {
    let mut row = Row::default();
    while !bytes.is_empty() {
        let Some((mut request, used)) = request(behind_empty_lines(bytes)) else {
            row.rest = true;
            return row;
        };
        request.more = rules == Rules::More;
        bytes = &behind_empty_lines(bytes)[used..];
        let last = !request.whole || request.closes();
        row.requests.push(request);
        if last {
            return row;
        }
    }
    row
}

/// A few empty lines before a request are nothing.
fn behind_empty_lines(mut bytes: &[u8]) -> &[u8] {
    for _ in 0..4 {
        bytes = bytes.strip_prefix(b"\r\n").unwrap_or(bytes);
    }
    bytes
}

/// The request that the bytes begin with, and how many it takes.
pub fn request(bytes: &[u8]) -> Option<(Request, usize)> {
    let end = head_end(bytes)?;
    let (mut request, framing) = head(&bytes[..end])?;
    let rest = &bytes[end..];
    let used = match framing {
        Framing::Length(length) => {
            let there = usize::try_from(length).unwrap_or(usize::MAX).min(rest.len());
            request.body = rest[..there].to_vec();
            request.whole = there as u64 == length;
            there
        }
        Framing::Chunked => {
            let (body, used) = chunks(rest);
            request.body = body;
            request.whole = used.is_some();
            used.unwrap_or(rest.len())
        }
    };
    Some((request, end + used))
}

pub fn head_end(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4)
}

#[derive(Clone, Copy)]
pub enum Framing {
    Length(u64),
    Chunked,
}

/// A head with its empty line, within the limits that clients are held to.
fn head(bytes: &[u8]) -> Option<(Request, Framing)> {
    let (request, framing) = any_head(bytes)?;
    let line = bytes.iter().position(|&b| b == b'\r')?;
    let small = bytes.len() <= 80 * 1024 && line <= 8 * 1024 && request.fields.len() <= 100;
    Some((for_the_server(request).filter(|_| small)?, framing))
}

/// A head of any size.
pub fn any_head(bytes: &[u8]) -> Option<(Request, Framing)> {
    let mut lines = bytes.strip_suffix(b"\r\n\r\n")?.split(|&b| b == b'\n').peekable();
    let mut clean = Vec::new();
    while let Some(line) = lines.next() {
        let line = if lines.peek().is_some() { line.strip_suffix(b"\r")? } else { line };
        if line.iter().any(|&b| (b < 0x20 && b != b'\t') || b == 0x7f) {
            return None;
        }
        clean.push(line);
    }
    let (first, rest) = clean.split_first()?;
    let fields: Vec<Field> = rest.iter().map(|line| field(line)).collect::<Option<_>>()?;
    let parts: Vec<&[u8]> = first.split(|&b| b == b' ').collect();
    let [method, target, version] = parts[..] else { return None };
    let old = version == b"HTTP/1.0";
    if !old && version != b"HTTP/1.1" {
        return None;
    }
    if !is_token(method) || [&b"CONNECT"[..], b"TRACE"].contains(&method) {
        return None;
    }
    let mut request = Request {
        method: method.to_vec(),
        target: Vec::new(),
        fields,
        body: Vec::new(),
        whole: false,
        chunked: false,
        old,
        more: false,
    };
    let host = only(&request, "host")?;
    if host.is_some_and(|host| !is_host(host)) {
        return None;
    }
    request.target = match host {
        Some(host) => path_of(target, method, Some(host))?,
        None if old => {
            let absolute = !target.starts_with(b"/") && target != b"*";
            let checks = [&b"GET"[..], b"HEAD", b"OPTIONS"].contains(&method);
            if !absolute && !checks {
                return None;
            }
            path_of(target, method, None)?
        }
        None => return None,
    };
    for name in ONCE {
        only(&request, name)?;
    }
    let legal = request.fields.iter().all(|(name, value)| is_legal(name, value, old));
    let framing = framing(&request).filter(|_| legal)?;
    request.chunked = matches!(framing, Framing::Chunked);
    if request.chunked && old {
        return None;
    }
    Some((request, framing))
}

/// Twice is one time too often.
const ONCE: [&str; 11] = [
    "content-length",
    "transfer-encoding",
    "content-range",
    "content-name",
    "content-encoding",
    "authorization",
    "expect",
    "bits-packet-type",
    "bits-session-id",
    "bits-supported-protocols",
    "x-http-method-override",
];

/// The one value, if there is one; `None` when there are more.
fn only<'r>(request: &'r Request, name: &str) -> Option<Option<&'r [u8]>> {
    let mut values = request.values(name);
    let first = values.next();
    values.next().is_none().then_some(first)
}

fn framing(request: &Request) -> Option<Framing> {
    match (request.value("content-length"), request.value("transfer-encoding")) {
        (None, None) => Some(Framing::Length(0)),
        (Some(digits), None) if digits.len() <= 19 => number(digits).map(Framing::Length),
        (None, Some(coding)) if coding.eq_ignore_ascii_case(b"chunked") => Some(Framing::Chunked),
        _ => None,
    }
}

fn field(line: &[u8]) -> Option<Field> {
    let colon = line.iter().position(|&b| b == b':')?;
    let (name, value) = (&line[..colon], trim(&line[colon + 1..]));
    let small = name.len() <= 256 && value.len() <= 64 * 1024;
    (is_token(name) && small).then(|| (name.to_vec(), value.to_vec()))
}

fn is_legal(name: &[u8], value: &[u8], old: bool) -> bool {
    if name.contains(&b'_') {
        let read = read(name);
        let starts = [&b"bits-"[..], b"content-", b"proxy-"];
        let protected = [&b"host"[..], b"x-http-method", b"x-method-override"].contains(&&*read)
            || ONCE.iter().any(|known| read == known.as_bytes())
            || starts.iter().any(|start| read.starts_with(start));
        return is_for_next_hop(&read) || !protected;
    }
    let expects = name.eq_ignore_ascii_case(b"expect");
    !expects || old || value.eq_ignore_ascii_case(b"100-continue")
}

fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty()
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b))
}

/// The target in origin form; an absolute one names the host that Host names, if there is one.
fn path_of(target: &[u8], method: &[u8], host: Option<&[u8]>) -> Option<Vec<u8>> {
    if target == b"*" && method == b"OPTIONS" {
        return Some(target.to_vec());
    }
    let lower = target.to_ascii_lowercase();
    let scheme = [&b"http://"[..], b"https://"].into_iter().find(|s| lower.starts_with(s));
    let path = match scheme {
        Some(scheme) => {
            let rest = &target[scheme.len()..];
            let slash = rest.iter().position(|&b| b == b'/')?;
            let authority = &rest[..slash];
            let port = if scheme.len() == 7 { "80" } else { "443" };
            let same = host.is_none_or(|host| origin(host, port) == origin(authority, port));
            if is_host(authority) && same { &rest[slash..] } else { return None }
        }
        None => target,
    };
    is_path(path).then(|| path.to_vec())
}

/// Name and port of a host.
fn origin(host: &[u8], default_port: &str) -> (String, String) {
    let host = String::from_utf8_lossy(host).to_ascii_lowercase();
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, port),
        _ => (&*host, ""),
    };
    let literal = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let name = match literal.map(str::parse::<std::net::Ipv6Addr>) {
        Some(address) => format!("{address:?}"),
        None => name.strip_suffix('.').unwrap_or(name).to_owned(),
    };
    (name, if port.is_empty() { default_port } else { port }.to_owned())
}

fn is_path(path: &[u8]) -> bool {
    let hex = |at: usize| path.get(at).is_some_and(u8::is_ascii_hexdigit);
    path.starts_with(b"/")
        && path.iter().enumerate().all(|(at, b)| match b {
            b'%' => hex(at + 1) && hex(at + 2),
            b'"' | b'#' | b'<' | b'>' | b'\\' | b'^' | b'`' => false,
            b => (0x21..=0x7e).contains(b),
        })
}

fn is_host(value: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(value) else { return false };
    let (name, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, port)) => {
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return false;
            }
            ("six", port)
        }
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    let label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let port = port.is_empty()
        || port == ":"
        || port.strip_prefix(':').is_some_and(|digits| {
            digits.bytes().all(|b| b.is_ascii_digit())
                && !digits.starts_with('0')
                && digits.parse::<u16>().is_ok()
        });
    name.len() < 300 && name.split('.').all(label) && port
}

#[test]
fn the_second_opinion_is_strict() {
    let good = "BITS_POST /a HTTP/1.1\r\nHost: up\r\nContent-Length: 2\r\n\r\nhi";
    let count = |bytes: &str| {
        let row = row(bytes.as_bytes(), Rules::Usual);
        (row.requests.len(), row.rest)
    };
    assert_eq!(count(&good.repeat(3)), (3, false));
    assert_eq!(count(&format!("{good}GET / HTTP/1.1\r\n")), (1, true));
    assert_eq!(count("GET / HTTP/1.1\r\nHost: up\r\nConnection: close\r\n\r\nrest"), (1, false));
    let body = "5;x=y\r\nhello\r\n0\r\nT: 1\r\n\r\n";
    let chunked =
        format!("POST / HTTP/1.1\r\nHost: up\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
    let row = row(chunked.as_bytes(), Rules::Usual);
    assert_eq!((&*row.requests[0].body, row.requests[0].whole), (&b"hello"[..], true));
    let old = "POST / HTTP/1.0\r\nHost: up\r\nConnection: keep-alive\r\n\r\n";
    assert_eq!(count(&format!("\r\n\r\n{old}{good}")), (1, false));
    let offer =
        "GET / HTTP/1.1\r\nHost: up\r\nConnection: upgrade, x_y\r\nUpgrade: h2c\r\nX-Y: 1\r\n\r\n";
    let row = super::strict::row(offer.as_bytes(), Rules::Usual);
    let left: Vec<_> = row.requests[0].fields.iter().map(|(name, _)| &**name).collect();
    assert_eq!(left, [&b"Host"[..], b"Connection"]);
    for bad in [
        "GET / HTTP/2.0\r\nHost: up\r\n\r\n",
        "POST / HTTP/1.0\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n X: y\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nContent_Length: 1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: Host\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: close, bits_session_id\r\n\r\n",
        "GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /# HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        assert_eq!(count(bad), (0, true), "{bad:?}");
    }
}
