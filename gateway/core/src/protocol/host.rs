//! The host part of a request: what a `Host` field or an absolute target may hold.

use std::io::Write;
use std::net::Ipv6Addr;

/// A host as a client named it. It is compared with configured names and never becomes an
/// address.
#[derive(Debug, Clone, Copy)]
pub struct Host<'h> {
    name: &'h [u8],
    /// The address of an IPv6 literal, which has many spellings.
    literal: Option<Ipv6Addr>,
    port: Option<u16>,
}

/// The longest host that IIS lets an operator configure.
pub const HOST_LIMIT: usize = 300;

impl<'h> Host<'h> {
    /// Takes `name`, `name:port`, `address:port`, `[IPv6]:port`. An empty port is none.
    ///
    /// Refused: user information, lists, white space, an empty name, a port that is no number. A
    /// backend might read such a value in another way than we do.
    ///
    /// # Source
    /// RFC 3986 section 3.2.
    pub fn parse<T: AsRef<[u8]> + ?Sized>(value: &'h T) -> Option<Self> {
        let value = value.as_ref();
        let (name, literal, port) = match value.strip_prefix(b"[") {
            Some(rest) => {
                let (literal, after) = split_once(rest, b']')?;
                let port = after.strip_prefix(b":");
                if port.is_none() && !after.is_empty() {
                    return None;
                }
                (&value[..literal.len() + 2], Some(text(literal).parse::<Ipv6Addr>().ok()?), port)
            }
            None => {
                let (name, port) = value.split_at(end_of_name(value)?);
                (name, None, port.strip_prefix(b":"))
            }
        };
        let port = match port {
            None | Some([]) => None,
            Some(port) => Some(read_port(port)?),
        };
        Some(Self { name, literal, port })
    }

    /// Whether both name one host and port. `default` is the port of a host that names none.
    pub fn is_same(&self, other: &Self, default: u16) -> bool {
        let port = |host: &Self| host.port.unwrap_or(default);
        port(self) == port(other) && self.with_key(|key| other.with_key(|other| key == other))
    }

    /// The name as it was sent, without port; an IPv6 literal keeps its brackets.
    pub fn as_str(&self) -> &'h str {
        text(self.name)
    }

    /// Calls `f` with the form in which names are compared: lower case, no final dot, no port, and
    /// the canonical form of an IPv6 literal (RFC 5952).
    ///
    /// Windows repeats a Host-Id in the case in which it came, and names are configured in any.
    pub fn with_key<T>(&self, f: impl FnOnce(&[u8]) -> T) -> T {
        let mut buffer = [0u8; HOST_LIMIT];
        let length = match self.literal {
            Some(address) => {
                let mut rest = &mut buffer[..];
                // The longest literal has 47 characters, so there is room.
                let _ = write!(rest, "[{address}]");
                HOST_LIMIT - rest.len()
            }
            None => {
                let name = self.name.strip_suffix(b".").unwrap_or(self.name);
                buffer[..name.len()].copy_from_slice(name);
                buffer[..name.len()].make_ascii_lowercase();
                name.len()
            }
        };
        f(&buffer[..length])
    }
}

/// A configured name in the form of [`Host::with_key`]; `None` where it could never match.
pub fn key_of(name: &str) -> Option<String> {
    Host::parse(name).map(|host| host.with_key(|key| text(key).to_owned()))
}

/// 1 to 65535, without leading zeros.
pub fn is_port(port: &str) -> bool {
    read_port(port.as_bytes()).is_some()
}

fn read_port(port: &[u8]) -> Option<u16> {
    let digits = (1..=5).contains(&port.len()) && port[0] != b'0';
    let legal = digits && port.iter().all(u8::is_ascii_digit);
    let number =
        legal.then(|| port.iter().fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0')));
    u16::try_from(number?).ok()
}

/// Where the name ends that a value begins with: at a colon, or at the end. `None` if it is no name.
fn end_of_name(value: &[u8]) -> Option<usize> {
    // A name does not begin with a dot, and no dot follows another.
    let mut before = b'.';
    for (at, &byte) in value.iter().enumerate() {
        if !IN_NAME[usize::from(byte)] || (byte == b'.' && before == b'.') {
            return (byte == b':' && (1..=HOST_LIMIT).contains(&at)).then_some(at);
        }
        before = byte;
    }
    (1..=HOST_LIMIT).contains(&value.len()).then_some(value.len())
}

const IN_NAME: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        let mark = matches!(byte, b'-' | b'.' | b'_');
        table[byte as usize] = mark || byte.is_ascii_alphanumeric();
        byte += 1;
    }
    table
};

fn split_once(bytes: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let index = bytes.iter().position(|&byte| byte == at)?;
    Some((&bytes[..index], &bytes[index + 1..]))
}

/// Of bytes that are ASCII.
fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
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
        check("[fe80:0:0:0:0:0:0:1]", Some("[fe80::1]"));
        check("[::ffff:127.0.0.1]", Some("[::ffff:127.0.0.1]"));
        check("up.example.net:", Some("up.example.net"));
        check("[::1]:", Some("[::1]"));
    }

    #[test]
    fn a_missing_port_is_the_default_one() {
        #[track_caller]
        fn same(one: &str, other: &str, port: u16, expected: bool) {
            let (a, b) = (Host::parse(one).unwrap(), Host::parse(other).unwrap());
            assert_eq!(a.is_same(&b, port), expected, "{one} and {other}");
            assert_eq!(b.is_same(&a, port), expected, "{other} and {one}");
        }
        for (one, other) in
            [("up", "up:80"), ("up:", "UP:80"), ("up.", "up"), ("[::1]:80", "[0:0::1]:")]
        {
            same(one, other, 80, true);
        }
        same("up:443", "up", 443, true);
        same("up:443", "up", 80, false);
        same("up:8080", "up:8081", 80, false);
        same("up", "other", 80, false);
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
            "host:80:80",
            "host:0x50",
            "host:65536",
            "host:-1",
            "host:0",
            "host:080",
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
