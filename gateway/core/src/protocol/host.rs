//! The host part of a request: what a `Host` field or an absolute target may hold.

use std::net::Ipv6Addr;

/// A host as a client named it. It is compared with configured names and never becomes an
/// address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Host<'h> {
    name: &'h str,
}

/// The longest host that IIS lets an operator configure.
pub const HOST_LIMIT: usize = 300;

impl<'h> Host<'h> {
    /// Takes `name`, `name:port`, `address:port`, `[IPv6]:port`.
    ///
    /// Refused: user information, lists, white space, an empty name, a port that is none. A
    /// backend might read such a value in another way than we do.
    pub fn parse(value: &'h str) -> Option<Self> {
        let (name, port): (_, Option<&str>) = match value.strip_prefix('[') {
            Some(rest) => {
                let (literal, after) = rest.split_once(']')?;
                literal.parse::<Ipv6Addr>().ok()?;
                let port = after.strip_prefix(':');
                if port.is_none() && !after.is_empty() {
                    return None;
                }
                (&value[..literal.len() + 2], port)
            }
            None => match value.split_once(':') {
                Some((name, port)) => (name, Some(port)),
                None => (value, None),
            },
        };
        let legal_port = port.is_none_or(is_port);
        let legal_name = value.starts_with('[') || is_name(name);
        (legal_port && legal_name).then_some(Self { name })
    }

    /// The name as it was sent, without port; an IPv6 literal keeps its brackets.
    pub fn as_str(&self) -> &'h str {
        self.name
    }

    /// Calls `f` with the form in which names are compared: lower case, no final dot, no port.
    ///
    /// Windows repeats a Host-Id in the case in which it came, and names are configured in any.
    pub fn with_key<T>(&self, f: impl FnOnce(&str) -> T) -> T {
        let name = self.name.strip_suffix('.').unwrap_or(self.name);
        let mut buffer = [0u8; HOST_LIMIT];
        let buffer = &mut buffer[..name.len()];
        buffer.copy_from_slice(name.as_bytes());
        buffer.make_ascii_lowercase();
        f(std::str::from_utf8(buffer).unwrap_or_default())
    }
}

/// A configured name in the form of [`Host::with_key`]; `None` where it could never match.
pub fn key_of(name: &str) -> Option<String> {
    Host::parse(name).map(|host| host.with_key(str::to_owned))
}

/// 1 to 65535, without leading zeros.
pub fn is_port(port: &str) -> bool {
    let digits = port.bytes().all(|b| b.is_ascii_digit()) && !port.starts_with('0');
    digits && port.parse::<u16>().is_ok()
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name != "."
        && name.len() <= HOST_LIMIT
        && !name.starts_with('.')
        && !name.contains("..")
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(value: &str, key: Option<&str>) {
        assert_eq!(key_of(value).as_deref(), key, "{value:?}");
    }

    #[test]
    fn names_compare_without_case_final_dot_and_port() {
        check("up.example.net", Some("up.example.net"));
        check("UP01.Example.NET:8080", Some("up01.example.net"));
        check("up.example.net.", Some("up.example.net"));
        check("127.0.0.1:80", Some("127.0.0.1"));
        check("[::1]", Some("[::1]"));
        check("[FE80::1]:8080", Some("[fe80::1]"));
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for value in [
            "",
            ".",
            "a b",
            "a,b",
            "user@host",
            "host/path",
            "host:",
            "host:80:80",
            "host:0x50",
            "host:65536",
            "host:-1",
            "host:0",
            "host:080",
            "[::1]:",
            "[::1]:0",
            "[::1",
            "[::1]80",
            "[nonsense]",
            "a..b",
            "ho%73t",
            "höst",
            "host?x",
            "host#x",
            "host\\x",
            ":80",
        ] {
            check(value, None);
        }
        check(&"x".repeat(301), None);
    }
}
