//! A second opinion on request heads: the rules of the head check, written once more and only to
//! be obvious. It shares nothing with the check but the types of the answer.

use std::net::Ipv6Addr;

use gateway_core::protocol::head::{BodyFraming, HeadFacts, HeadLimits};

const ALNUM: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// `None`: to be refused.
pub fn judge(head: &[u8], limits: &HeadLimits) -> Option<HeadFacts> {
    // Latin-1, so that a byte is a character.
    let text: String = head.iter().map(|&byte| char::from(byte)).collect();
    let text = text.strip_suffix("\r\n\r\n")?;
    let mut lines = text.split("\r\n");
    let request_line = lines.next()?;
    let fields: Vec<(&str, &str)> = lines.map(field).collect::<Option<_>>()?;
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
    require(values("Upgrade").is_empty() && values("HTTP2-Settings").is_empty())?;
    for list in [values("Connection"), values("Proxy-Connection")].concat() {
        let known = ["keep-alive", "close"];
        require(list.split(',').all(|w| known.contains(&&*trim(w).to_ascii_lowercase())))?;
    }
    let expect = values("Expect").pop();
    require(expect.is_none_or(|value| value.eq_ignore_ascii_case("100-continue")))?;

    let host = values("Host").pop()?;
    require(is_host(host))?;
    let authority = authority_of(request_line)?;
    require(authority.is_none_or(|authority| authority.eq_ignore_ascii_case(host)))?;

    let body = match (values("Content-Length").pop(), values("Transfer-Encoding").pop()) {
        (None, None) => BodyFraming::Length(0),
        (Some(length), None) if length.len() <= 19 && all(length, "0123456789") => {
            BodyFraming::Length(length.parse().ok()?)
        }
        (None, Some(coding)) if coding.eq_ignore_ascii_case("chunked") => BodyFraming::Chunked,
        _ => return None,
    };
    let start = request_line.find(' ')? + 1;
    let redundant = authority.map(|authority| {
        let scheme = request_line[start..].find("://").map_or(0, |at| at + 3);
        (start, start + scheme + authority.len())
    });
    Some(HeadFacts { body, redundant })
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
        "connection",
        "upgrade",
        "http2-settings",
        "keep-alive",
    ];
    let starts = ["content-", "bits-", "proxy-"];
    name.contains('_')
        && (exact.contains(&&*read) || starts.iter().any(|start| read.starts_with(start)))
}

/// The authority of the target, `Some(None)` for a bare path.
fn authority_of(line: &str) -> Option<Option<&str>> {
    let parts: Vec<&str> = line.split(' ').collect();
    let [method, target, "HTTP/1.1"] = parts[..] else { return None };
    require(is_token(method) && method != "CONNECT" && method != "TRACE")?;
    if target.starts_with('/') {
        return is_path(target).then_some(None);
    }
    let (scheme, rest) = target.split_once("://")?;
    require(["http", "https"].contains(&&*scheme.to_ascii_lowercase()))?;
    let slash = rest.find('/')?;
    is_path(&rest[slash..]).then_some(Some(&rest[..slash]))
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
    all(port, "0123456789") && !port.starts_with('0') && port.parse::<u16>().is_ok()
}
