//! Where an upload goes: the URL as it was given, and names that are not in DNS.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use gateway_core::protocol::host;

/// A destination, in the parts that packets are made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub tls: bool,
    /// Host as given; an IPv6 literal keeps its brackets.
    pub host: String,
    /// Only where the URL names one: a Host field without it must not get it.
    pub port: Option<u16>,
    /// Path and query byte for byte as given.
    pub path: String,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    #[error("{0:?} is not a URL that starts with http:// or https://")]
    Scheme(String),
    #[error("{0:?} names no host")]
    Host(String),
    #[error("{0:?} holds a user name; give it with --user")]
    User(String),
    #[error("{0:?} holds a character that must be percent-encoded")]
    Character(String),
    #[error("{0:?} ends in a fragment, which is never sent")]
    Fragment(String),
}

impl Target {
    /// Reads a URL. One that ends in `/` is a folder, and gets `file_name` appended, encoded.
    pub fn parse(url: &str, file_name: &str) -> Result<Self, TargetError> {
        let (scheme, rest) =
            url.split_once("://").ok_or_else(|| TargetError::Scheme(url.to_owned()))?;
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "http" => false,
            "https" => true,
            _ => return Err(TargetError::Scheme(url.to_owned())),
        };
        if url.contains('#') {
            return Err(TargetError::Fragment(url.to_owned()));
        }
        if !url.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(TargetError::Character(url.to_owned()));
        }
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        if authority.contains('@') {
            return Err(TargetError::User(url.to_owned()));
        }
        let parsed =
            host::Host::parse(authority).ok_or_else(|| TargetError::Host(url.to_owned()))?;
        let host = parsed.as_str().to_owned();
        let port = authority[host.len()..].strip_prefix(':').and_then(|port| port.parse().ok());
        let mut path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        if path.ends_with('/') && !path.contains('?') {
            encode_into(&mut path, file_name);
        }
        Ok(Self { tls, host, port, path })
    }

    /// The port that a connection is made to.
    pub fn effective_port(&self) -> u16 {
        self.port.unwrap_or(if self.tls { 443 } else { 80 })
    }

    /// The value of the Host field when packets go to `host`: a Host-Id replaces the host alone
    /// (MC-BUP 2.2.3.2), so the port stays.
    pub fn host_field(&self, host: &str) -> String {
        match self.port {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        }
    }

    /// The URL of a reply as the server named it (MC-BUP 2.2.7): absolute, or relative to the
    /// folder of the destination, which IIS writes with backslashes.
    pub fn join(&self, reference: &str) -> Result<Self, TargetError> {
        if reference.contains("://") {
            return Self::parse(reference, "");
        }
        let mut encoded = String::with_capacity(reference.len() + 16);
        for byte in reference.bytes() {
            match byte {
                b'\\' => encoded.push('/'),
                b'{' => encoded.push_str("%7B"),
                b'}' => encoded.push_str("%7D"),
                b' ' => encoded.push_str("%20"),
                other if other.is_ascii_graphic() => encoded.push(char::from(other)),
                other => encoded.push_str(&format!("%{other:02X}")),
            }
        }
        let path = if encoded.starts_with('/') {
            encoded
        } else {
            let own = self.path.split('?').next().unwrap_or("/");
            let folder = own.rfind('/').map_or("/", |end| &own[..=end]);
            format!("{folder}{encoded}")
        };
        Ok(Self { path, ..self.clone() })
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.host_field(&self.host), self.path)
    }
}

/// A host out of `BITS-Host-Id`: a name, an IPv4 or a bare IPv6 address (MC-BUP 2.2.3.2). A port
/// is not in the grammar and is dropped where somebody adds it.
pub fn host_id(value: &str) -> Option<String> {
    if value.parse::<Ipv6Addr>().is_ok() {
        return Some(format!("[{value}]"));
    }
    host::Host::parse(value).map(|host| host.as_str().to_owned())
}

/// `HOST:ADDRESS[:PORT]`: connect to that address when a packet goes to that host.
///
/// `HOST` may be `*` or start with `*.`, for host ids of a domain without DNS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    pattern: String,
    address: IpAddr,
    port: Option<u16>,
}

impl Mapping {
    /// The address for a connection to `host`, whose port would have been `port`.
    pub fn lookup(&self, host: &str, port: u16) -> Option<SocketAddr> {
        let key = host::key_of(host)?;
        let matches = match self.pattern.strip_prefix('*') {
            Some("") => true,
            // The dot is part of the rest, so that `*.a.test` leaves `ba.test` alone.
            Some(rest) => key.len() > rest.len() && key.ends_with(rest),
            None => key == self.pattern,
        };
        matches.then(|| SocketAddr::new(self.address, self.port.unwrap_or(port)))
    }
}

impl FromStr for Mapping {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not HOST:ADDRESS or HOST:ADDRESS:PORT");
        let (pattern, rest) = text.split_once(':').ok_or_else(wrong)?;
        let name = pattern.strip_prefix("*.").unwrap_or(pattern);
        if pattern != "*" && host::key_of(name).is_none() {
            return Err(wrong());
        }
        let pattern = pattern.trim_end_matches('.').to_ascii_lowercase();
        if let Ok(address) = rest.parse::<SocketAddr>() {
            return Ok(Self { pattern, address: address.ip(), port: Some(address.port()) });
        }
        let literal = rest.strip_prefix('[').and_then(|r| r.strip_suffix(']')).unwrap_or(rest);
        let address = literal.parse().map_err(|_| wrong())?;
        Ok(Self { pattern, address, port: None })
    }
}

/// Appends a file name as one path segment.
fn encode_into(path: &mut String, name: &str) {
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            path.push(char::from(byte));
        } else {
            path.push_str(&format!("%{byte:02X}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(url: &str, expected: Result<(bool, &str, Option<u16>, &str), TargetError>) {
        let parsed = Target::parse(url, "a b.bin");
        let parsed = parsed.as_ref().map(|t| (t.tls, t.host.as_str(), t.port, t.path.as_str()));
        assert_eq!(parsed, expected.as_ref().copied(), "{url}");
    }

    #[test]
    fn urls_are_split_and_kept_as_given() {
        check("http://Up.test/in/%7ex.bin?a=1", Ok((false, "Up.test", None, "/in/%7ex.bin?a=1")));
        check("HTTPS://up.test:8443/x", Ok((true, "up.test", Some(8443), "/x")));
        check("http://[::1]:81/x", Ok((false, "[::1]", Some(81), "/x")));
        check("http://up.test?x", Ok((false, "up.test", None, "/?x")));
    }

    #[test]
    fn a_folder_gets_the_name_of_the_file() {
        check("http://up.test/in/", Ok((false, "up.test", None, "/in/a%20b.bin")));
        check("http://up.test", Ok((false, "up.test", None, "/a%20b.bin")));
    }

    #[test]
    fn what_is_no_destination_is_refused() {
        for (url, error) in [
            ("up.test/x", TargetError::Scheme as fn(String) -> TargetError),
            ("ftp://up.test/x", TargetError::Scheme),
            ("http:///x", TargetError::Host),
            ("http://up.test:99999/x", TargetError::Host),
            ("http://joe:pw@up.test/x", TargetError::User),
            ("http://up.test/a b", TargetError::Character),
            ("http://up.test/é", TargetError::Character),
            ("http://up.test/x#y", TargetError::Fragment),
        ] {
            check(url, Err(error(url.to_owned())));
        }
    }

    #[test]
    fn a_reply_of_iis_lies_below_the_folder_of_the_destination() {
        let target = Target::parse("http://up.test/in/a.bin?x=1", "").unwrap();
        let reply = target.join("BITS-Sessions\\Replies\\{AB}\\responsefile.bin").unwrap();
        assert_eq!(reply.path, "/in/BITS-Sessions/Replies/%7BAB%7D/responsefile.bin");
        assert_eq!(reply.host, "up.test");
        let absolute = target.join("http://other.test/reply").unwrap();
        assert_eq!((absolute.host.as_str(), absolute.path.as_str()), ("other.test", "/reply"));
    }

    #[test]
    fn host_ids_are_hosts_without_a_port() {
        assert_eq!(host_id("UP01.up.test").as_deref(), Some("UP01.up.test"));
        assert_eq!(host_id("fe80::1").as_deref(), Some("[fe80::1]"));
        assert_eq!(host_id("up01:8080").as_deref(), Some("up01"));
        assert_eq!(host_id("http://up01"), None);
        assert_eq!(host_id(""), None);
    }

    #[test]
    fn mappings_replace_dns() {
        let lookup = |mapping: &str, host: &str| {
            mapping.parse::<Mapping>().unwrap().lookup(host, 80).map(|a| a.to_string())
        };
        assert_eq!(lookup("up.test:127.0.0.1", "UP.test").as_deref(), Some("127.0.0.1:80"));
        assert_eq!(lookup("up.test:127.0.0.1:81", "up.test").as_deref(), Some("127.0.0.1:81"));
        assert_eq!(lookup("up.test:[::1]:81", "up.test").as_deref(), Some("[::1]:81"));
        assert_eq!(lookup("up.test:::1", "up.test").as_deref(), Some("[::1]:80"));
        assert_eq!(lookup("*.up.test:127.0.0.1", "n1.up.test").as_deref(), Some("127.0.0.1:80"));
        assert_eq!(lookup("*.up.test:127.0.0.1", "up.test"), None);
        assert_eq!(lookup("*:127.0.0.1", "any").as_deref(), Some("127.0.0.1:80"));
        assert_eq!(lookup("up.test:127.0.0.1", "other.test"), None);
        assert!("up.test".parse::<Mapping>().is_err());
        assert!("up.test:nowhere".parse::<Mapping>().is_err());
    }
}
