//! A second opinion on request heads: the rules of the head check, written once more and only to
//! be obvious. It shares nothing with the check but the types of the answer.

use std::net::Ipv6Addr;

use gateway_core::protocol::head::{BodyFraming, HeadLimits};

const ALNUM: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// What is made of a head that passes.
#[derive(Debug, PartialEq, Eq)]
pub struct Verdict {
    pub body: BodyFraming,
    pub http10: bool,
    /// The head as a server gets it.
    pub passed: Vec<u8>,
}

/// `None`: to be refused. Any host may be meant, and no path is escaped.
pub fn judge(head: &[u8], limits: &HeadLimits) -> Option<Verdict> {
    // Latin-1, so that a byte is a character.
    let text: String = head.iter().map(|&byte| char::from(byte)).collect();
    let text = text.strip_suffix("\r\n\r\n")?;
    let mut lines = text.split("\r\n");
    let request_line = lines.next()?;
    let fields: Vec<(&str, &str)> = lines.clone().map(field).collect::<Option<_>>()?;
    let clean = |c: char| c == '\t' || (c >= ' ' && c != '\x7f');
    require(text.split("\r\n").all(|line| line.chars().all(clean)))?;
    require(head.len() <= limits.head_bytes && request_line.len() <= limits.line_bytes)?;
    require(fields.len() <= limits.fields)?;

    let values = |name: &str| -> Vec<&str> {
        fields.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| *v).collect()
    };
    for once in [
        "Host",
        "Content-Length",
        "Transfer-Encoding",
        "Content-Range",
        "Content-Encoding",
        "Content-Name",
        "Authorization",
        "Expect",
        "BITS-Packet-Type",
        "BITS-Session-Id",
        "BITS-Supported-Protocols",
        "X-HTTP-Method-Override",
    ] {
        require(values(once).len() <= 1)?;
    }
    require(!fields.iter().any(|(name, _)| imitates(name)))?;

    let line = request_line_of(request_line)?;
    let old = line.version == "HTTP/1.0";
    let expect = values("Expect").pop();
    require(old || expect.is_none_or(|value| value.eq_ignore_ascii_case("100-continue")))?;

    let mut named = Vec::new();
    let mut close_was_cut = false;
    let mut cut_connections = Vec::new();
    for (at, (name, value)) in fields.iter().enumerate() {
        if !name.eq_ignore_ascii_case("connection") {
            continue;
        }
        let words: Vec<String> = value.split(',').map(|w| trim(w).to_ascii_lowercase()).collect();
        let usual = words.iter().all(|word| ["keep-alive", "close"].contains(&&**word));
        if old || !usual {
            cut_connections.push(at);
            close_was_cut |= words.iter().any(|word| word == "close");
        }
        for word in words.into_iter().filter(|word| is_token(word)) {
            let read = word.replace('_', "-");
            if !next_hop(&read) && word != "close" {
                require(!must_stay(&read))?;
                named.push(read);
            }
        }
    }

    let host = values("Host").pop();
    let mut added_host = None;
    match (host, line.authority) {
        (Some(host), None) => require(is_host(host))?,
        (Some(host), Some((scheme, authority))) => {
            require(is_host(host) && is_host(authority))?;
            require(origin(scheme, host) == origin(scheme, authority))?;
        }
        (None, Some((_, authority))) if old => {
            require(is_host(authority))?;
            added_host = Some(authority);
        }
        (None, None) => require(old && ["GET", "HEAD", "OPTIONS"].contains(&line.method))?,
        (None, Some(_)) => return None,
    }

    let body = match (values("Content-Length").pop(), values("Transfer-Encoding").pop()) {
        (None, None) => BodyFraming::Length(0),
        (Some(length), None) if length.len() <= 19 && all(length, "0123456789") => {
            BodyFraming::Length(length.parse().ok()?)
        }
        (None, Some(coding)) if coding.eq_ignore_ascii_case("chunked") && !old => {
            BodyFraming::Chunked
        }
        _ => return None,
    };

    let mut passed = format!("{} {} HTTP/1.1\r\n", line.method, line.path);
    if let Some(host) = added_host {
        passed += &format!("Host: {host}\r\n");
    }
    if old || close_was_cut {
        passed += "Connection: close\r\n";
    }
    for (at, (line, (name, _))) in lines.zip(&fields).enumerate() {
        let read = name.to_ascii_lowercase().replace('_', "-");
        let connection = name.eq_ignore_ascii_case("connection");
        let gone = match connection {
            true => cut_connections.contains(&at),
            false => next_hop(&read) || (old && name.eq_ignore_ascii_case("expect")),
        };
        if !gone && !named.contains(&read) {
            passed += &format!("{line}\r\n");
        }
    }
    passed += "\r\n";
    let passed = passed.chars().map(|c| u8::try_from(u32::from(c)).expect("Latin-1")).collect();
    Some(Verdict { body, http10: old, passed })
}

/// For the next hop only (RFC 9110 section 7.6.1).
fn next_hop(read: &str) -> bool {
    ["connection", "keep-alive", "proxy-connection", "te", "upgrade", "http2-settings"]
        .contains(&read)
}

/// What `Connection` must not take off, as far as these heads have such words.
fn must_stay(read: &str) -> bool {
    ["host", "transfer-encoding", "authorization", "cookie", "expect", "via", "trailer", "range"]
        .contains(&read)
        || ["bits-", "content-", "proxy-", "if-", "x-http-method", "x-method-override"]
            .iter()
            .any(|start| read.starts_with(start))
}

/// Host and port that are meant.
fn origin(scheme: &str, host: &str) -> (String, String) {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, port),
        _ => (host, ""),
    };
    let default = if scheme.eq_ignore_ascii_case("https") { "443" } else { "80" };
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    let name = match name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => format!("{:?}", address.parse::<Ipv6Addr>()),
        None => name,
    };
    (name, if port.is_empty() { default } else { port }.to_owned())
}

fn require(rule: bool) -> Option<()> {
    rule.then_some(())
}

/// Not empty, and of these characters only.
fn all(text: &str, characters: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| characters.contains(c))
}

fn trim(value: &str) -> &str {
    value.trim_matches(|c| c == ' ' || c == '\t')
}

fn is_token(text: &str) -> bool {
    all(text, &format!("{ALNUM}!#$%&'*+-.^_`|~"))
}

fn field(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.split_once(':')?;
    is_token(name).then_some((name, trim(value)))
}

/// A name that some servers would take for one of ours.
fn imitates(name: &str) -> bool {
    let read = name.to_ascii_lowercase().replace('_', "-");
    let exact = [
        "host",
        "transfer-encoding",
        "authorization",
        "expect",
        "x-http-method-override",
        "x-http-method",
        "x-method-override",
    ];
    let starts = ["content-", "bits-", "proxy-"];
    name.contains('_')
        && !next_hop(&read)
        && (exact.contains(&&*read) || starts.iter().any(|start| read.starts_with(start)))
}

struct RequestLine<'l> {
    method: &'l str,
    /// The scheme and authority of an absolute target.
    authority: Option<(&'l str, &'l str)>,
    path: &'l str,
    version: &'l str,
}

fn request_line_of(line: &str) -> Option<RequestLine<'_>> {
    let parts: Vec<&str> = line.split(' ').collect();
    let [method, target, version @ ("HTTP/1.1" | "HTTP/1.0")] = parts[..] else { return None };
    require(is_token(method) && method != "CONNECT" && method != "TRACE")?;
    if target.starts_with('/') || (target == "*" && method == "OPTIONS") {
        require(target == "*" || is_path(target))?;
        return Some(RequestLine { method, authority: None, path: target, version });
    }
    let (scheme, rest) = target.split_once("://")?;
    require(["http", "https"].contains(&&*scheme.to_ascii_lowercase()))?;
    let (authority, path) = rest.split_at(rest.find('/')?);
    require(is_path(path))?;
    Some(RequestLine { method, authority: Some((scheme, authority)), path, version })
}

fn is_path(path: &str) -> bool {
    let mut pieces = path.split('%');
    let plain = pieces.next().unwrap_or_default();
    let legal =
        |text: &str| text.is_empty() || all(text, &format!("{ALNUM}-._~!$&'()*+,;=:@/?[]{{}}|"));
    let hex = "0123456789abcdefABCDEF";
    legal(plain)
        && pieces.all(|piece| {
            piece.get(..2).is_some_and(|digits| all(digits, hex)) && legal(&piece[2..])
        })
}

fn is_host(value: &str) -> bool {
    if let Some(rest) = value.strip_prefix('[') {
        let Some((address, port)) = rest.split_once(']') else { return false };
        let port = port.strip_prefix(':');
        let closed = value.ends_with(']') && value.matches(']').count() == 1;
        return address.parse::<Ipv6Addr>().is_ok() && (closed || port.is_some_and(is_port));
    }
    let (name, port) = match value.split_once(':') {
        Some((name, port)) => (name, Some(port)),
        None => (value, None),
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    name.split('.').all(|label| all(label, &format!("{ALNUM}-_")))
        && name.len() < 300
        && port.is_none_or(is_port)
}

fn is_port(port: &str) -> bool {
    port.is_empty()
        || all(port, "0123456789") && !port.starts_with('0') && port.parse::<u16>().is_ok()
}
