//! The forms of single values: names, hosts, addresses, durations, sizes.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use gateway_core::protocol::host::{HOST_LIMIT, Host};
use gateway_core::protocol::network::Network;

use super::address::BackendAddress;
use super::value::{Refusal, out_of_bounds};

/// A method of requests that are no packets: packets always pass, and `CONNECT` and `TRACE` never do.
pub fn method(text: &str) -> Result<(), Refusal> {
    let refuse = |label: &str| Refusal::new("is no method", label);
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_alphabetic() || b"-_".contains(&b)) {
        return Err(refuse("a method is a word such as GET").help("for example \"GET\""));
    }
    let upper = text.to_ascii_uppercase();
    match upper.as_str() {
        "CONNECT" | "TRACE" => Err(refuse("this one is never served")),
        "BITS_POST" => Err(refuse("packets always pass").help("leave it out")),
        _ if upper != text => {
            Err(refuse("methods have upper-case letters").help(format!("\"{upper}\"")))
        }
        _ => Ok(()),
    }
}

/// An IP address, or a network with the length of its prefix.
pub fn network(text: &str) -> Result<Network, Refusal> {
    text.parse::<Network>().map_err(|error| {
        Refusal::new("is no IP address and no network", error.to_string())
            .help("such as \"10.0.0.0/8\" or \"2001:db8::1\"")
    })
}

/// A host as `BITS-Host-Id` and `Host` may name it: neither scheme nor port nor path.
///
/// # Source
/// MC-BUP 2.2.3.2: the grammar of the header has no port.
pub fn host(text: &str) -> Result<(), Refusal> {
    let refuse = |label: &str| Refusal::new("is no host name", label);
    let right = |better: &str| match Host::parse(better) {
        Some(host) => format!("the host alone: \"{}\"", host.as_str()),
        None => "the host alone, such as \"uploads.example.com\"".to_owned(),
    };
    if text.is_empty() {
        return Err(refuse("empty"));
    }
    if let Some((_, rest)) = text.split_once("://") {
        let bare = rest.split(['/', '?']).next().unwrap_or(rest);
        return Err(refuse("this has a scheme").help(right(bare)));
    }
    if let Some((bare, _)) = text.split_once(['/', '?', '#']) {
        return Err(refuse("this has a path").help(right(bare)));
    }
    if text.parse::<Ipv6Addr>().is_ok() {
        return Err(refuse("an IPv6 address stands in brackets").help(format!("\"[{text}]\"")));
    }
    if text.len() > HOST_LIMIT {
        let label = format!("{} characters, and {HOST_LIMIT} is the limit", text.len());
        return Err(Refusal::new("is no host name", label));
    }
    if text.contains('*') {
        return Err(refuse("wildcards are not understood here"));
    }
    if !text.is_ascii() {
        return Err(refuse("letters beyond ASCII").help("write the name in its \"xn--\" form"));
    }
    match Host::parse(text) {
        Some(host) if host.as_str() == text => Ok(()),
        Some(_) => Err(refuse("this has a port").help(right(text))),
        None => Err(refuse("letters, digits, `-`, `_` and single dots make a host name")),
    }
}

/// The name of a backend: it becomes a metric label and the first part of an alias.
pub fn name(text: &str) -> Result<(), Refusal> {
    // Longer could not be a label of a DNS name, which `<name>.<host_id_domain>` needs.
    const LIMIT: usize = 63;
    let refuse = |label: String| Err(Refusal::new("is no name", label).help("such as \"up01\""));
    if text.is_empty() || text.len() > LIMIT {
        return refuse(format!("a name has 1 to {LIMIT} characters"));
    }
    if !text.starts_with(|first: char| first.is_ascii_alphanumeric()) {
        return refuse("a name starts with a letter or a digit".into());
    }
    let legal = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
    match text.chars().find(|letter| !legal(*letter)) {
        Some(letter) => refuse(format!("`{}` cannot be in a name", letter.escape_default())),
        None => Ok(()),
    }
}

/// `host:port`, an IPv6 address in brackets.
pub fn host_port(text: &str) -> Result<BackendAddress, Refusal> {
    let refuse = |label: &str| Refusal::new("must be a host and a port", label);
    let sample = "such as \"10.0.0.11:80\" or \"up01.internal:80\"";
    if let Some((scheme, rest)) = text.split_once("://") {
        if scheme.eq_ignore_ascii_case("https") {
            let bare = rest.split(['/', '?']).next().unwrap_or(rest);
            let bare = if has_port(bare) { bare.to_owned() } else { format!("{bare}:443") };
            let help = format!("\"{bare}\", and tls = {{}} on a line of its own");
            return Err(refuse("this has a scheme").help(help));
        }
        let bare = rest.split(['/', '?']).next().unwrap_or(rest);
        let bare = if has_port(bare) { bare.to_owned() } else { format!("{bare}:80") };
        return Err(refuse("this has a scheme").help(format!("without it: \"{bare}\"")));
    }
    if let Some((bare, _)) = text.split_once('/') {
        return Err(refuse("this has a path").help(format!("without it: \"{bare}\"")));
    }
    if let Ok(address) = text.parse::<Ipv6Addr>() {
        return Err(refuse("the port is missing").help(format!("\"[{address}]:80\"")));
    }
    let Some(host) = Host::parse(text) else {
        let zero = text.ends_with(":0");
        let label = if zero { "a port is 1 to 65535" } else { "not host:port" };
        return Err(refuse(label).help(sample));
    };
    // What follows the host is a colon and a port, or nothing; `Host` has checked it.
    let port = match text[host.as_str().len()..].strip_prefix(':').map(str::parse::<u16>) {
        None => {
            return Err(refuse("the port is missing").help(format!("\"{text}:80\"")));
        }
        Some(Err(_)) => return Err(refuse("a port is 1 to 65535").help(sample)),
        Some(Ok(port)) => port,
    };
    Ok(BackendAddress { host: host.as_str().to_owned(), port })
}

/// An address to listen on: an IP address and a port, which may be 0.
pub fn socket(text: &str) -> Result<SocketAddr, Refusal> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let refuse = |label: &str| Refusal::new("must be an IP address and a port", label);
    let all = "for all addresses: ";
    if let Ok(address) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
        let right = SocketAddr::new(address, 8080);
        return Err(refuse("the port is missing").help(format!("such as \"{right}\"")));
    }
    if let Some(port) = text.strip_prefix(':').or_else(|| text.strip_prefix("*:"))
        && port.parse::<u16>().is_ok()
    {
        return Err(refuse("the address is missing").help(format!("{all}\"[::]:{port}\"")));
    }
    if text.parse::<u16>().is_ok() {
        return Err(refuse("the address is missing").help(format!("{all}\"[::]:{text}\"")));
    }
    if let Some(("localhost", port)) = text.split_once(':') {
        return Err(refuse("names are not resolved here").help(format!("\"127.0.0.1:{port}\"")));
    }
    if Host::parse(text).is_some() && text.contains(':') {
        return Err(refuse("names are not resolved here").help(format!("{all}\"[::]:8080\"")));
    }
    Err(refuse("not address:port").help("such as \"[::]:8080\" or \"127.0.0.1:8080\""))
}

/// The path of a file; relative ones begin beside the configuration.
pub fn path(text: &str) -> Result<PathBuf, Refusal> {
    match text {
        "" => Err(Refusal::new("must be the path of a file", "this is empty")),
        _ if text.contains('\0') => {
            Err(Refusal::new("must be the path of a file", "no file has a NUL in its name"))
        }
        _ => Ok(PathBuf::from(text)),
    }
}

/// A path where words stand as well, recognised by its slash: else a slip in a word would quietly
/// become a file.
pub fn path_beside_words(text: &str) -> Result<PathBuf, Refusal> {
    if text.contains('/') {
        return path(text);
    }
    Err(Refusal::new("is neither a known word nor a path", "a path has a slash")
        .help(format!("for a file beside this one: \"./{}\"", text.escape_default())))
}

/// What stands in a request line: a path, with a query or without.
pub fn url_path(text: &str) -> Result<(), Refusal> {
    let refuse = |label: &str| Err(Refusal::new("must be the path of a URL", label));
    match text.bytes().find(|byte| !byte.is_ascii_graphic()) {
        _ if text.contains("://") => refuse("this is a whole URL"),
        _ if !text.starts_with('/') => refuse("no slash at its beginning"),
        Some(_) => refuse("write spaces and letters beyond ASCII in their %-form"),
        None if text.contains('#') => refuse("what follows a `#` is never sent"),
        None => Ok(()),
    }
}

pub fn duration(
    text: &str,
    min: Duration,
    max: Duration,
    whole_seconds: bool,
) -> Result<Duration, Refusal> {
    let sample = "a number and a unit, such as \"90s\", \"15m\", \"12h\" or \"14d\"";
    let refuse = |label: String| Refusal::new("is not a duration", label).help(sample);
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        let help = format!("seconds are \"{text}s\", minutes \"{text}m\"");
        return Err(refuse("the unit is missing".into()).help(help));
    }
    let value = humantime::parse_duration(text).map_err(|_| refuse("not understood".into()))?;
    if value < min || value > max {
        return Err(out_of_bounds(value < min, &show_duration(min), &show_duration(max)));
    }
    if whole_seconds && value.subsec_nanos() != 0 {
        let label = "parts of a second cannot be expressed here";
        return Err(Refusal::new("must be whole seconds", label));
    }
    Ok(value)
}

/// Bytes.
pub fn size(text: &str) -> Result<u64, Refusal> {
    text.parse::<ByteSize>().map(|size| size.as_u64()).map_err(|_| {
        Refusal::new("is not a size", "not understood")
            .help("a number and a unit, such as \"512KiB\", \"64MiB\" or \"2GB\"")
    })
}

/// In the largest unit that leaves no rest, which a file may hold as it is.
pub fn show_duration(value: Duration) -> String {
    const UNITS: [(u128, &str); 6] = [
        (86_400_000_000_000, "d"),
        (3_600_000_000_000, "h"),
        (60_000_000_000, "m"),
        (1_000_000_000, "s"),
        (1_000_000, "ms"),
        (1_000, "us"),
    ];
    let nanos = value.as_nanos();
    match UNITS.iter().find(|(unit, _)| nanos != 0 && nanos.is_multiple_of(*unit)) {
        // 60 s reads better beside 75 s.
        Some((unit, "m")) if nanos == *unit => "60s".into(),
        Some((unit, suffix)) => format!("{}{suffix}", nanos / unit),
        None if nanos == 0 => "0s".into(),
        None => format!("{nanos}ns"),
    }
}

/// In the largest unit that leaves no rest, which a file may hold as it is.
pub fn show_size(bytes: u64) -> String {
    const UNITS: [(u64, &str); 4] =
        [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match UNITS.iter().find(|(unit, _)| bytes != 0 && bytes.is_multiple_of(*unit)) {
        Some((unit, suffix)) => format!("{}{suffix}", bytes / unit),
        None => format!("{bytes}B"),
    }
}

fn has_port(authority: &str) -> bool {
    let after = authority.rsplit_once(']').map_or(authority, |(_, after)| after);
    after.contains(':')
}
