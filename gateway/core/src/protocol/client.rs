//! Who a client is: by its address, or by what trusted proxies say of it.

use std::net::{IpAddr, SocketAddr};

/// What counts as one client where clients are limited: an IPv4 address, or an IPv6 network of 64
/// bits, which is the least that one customer gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClientKey(u64);

impl ClientKey {
    /// Of whom nothing is known. No client has it: it would be in a network of multicast.
    pub const UNKNOWN: Self = Self(u64::MAX);

    pub fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            // No network begins with these bits.
            IpAddr::V4(v4) => 0x0000_ffff_0000_0000 | u64::from(v4.to_bits()),
            IpAddr::V6(v6) => (v6.to_bits() >> 64) as u64,
        })
    }
}

/// The field in which proxies say for whom they speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trail {
    /// `X-Forwarded-For`: addresses between commas.
    XForwardedFor,
    /// `Forwarded`.
    ///
    /// # Source
    /// RFC 7239 section 4.
    Forwarded,
}

/// The client behind `peer`: the last address on the trail that is not a trusted proxy's.
///
/// Every address was written by the one after it, so the walk goes from the end to the first that
/// is not trusted. What is no address ends it as well: then nobody can tell more than that proxy.
///
/// `values` are those of the field, in the order in which they stand in the head.
pub fn behind<'v>(
    peer: IpAddr,
    values: impl DoubleEndedIterator<Item = &'v [u8]>,
    trail: Trail,
    trusted: impl Fn(IpAddr) -> bool,
) -> IpAddr {
    let mut client = peer.to_canonical();
    for value in values.rev() {
        let mut rest = value;
        loop {
            if !trusted(client) {
                return client;
            }
            let (before, last) = split_last(rest);
            let address = match trail {
                Trail::XForwardedFor => address(last),
                Trail::Forwarded => forwarded_for(last).and_then(address),
            };
            match address {
                Some(address) => client = address.to_canonical(),
                // A list may have empty elements.
                None if last.trim_ascii().is_empty() => {}
                None => return client,
            }
            match before {
                Some(before) => rest = before,
                None => break,
            }
        }
    }
    client
}

/// The element after the last comma, and what stands before that comma. A comma in quotes is taken
/// for one between elements: no address has one, so the walk ends there.
fn split_last(value: &[u8]) -> (Option<&[u8]>, &[u8]) {
    match value.iter().rposition(|&byte| byte == b',') {
        Some(comma) => (Some(&value[..comma]), &value[comma + 1..]),
        None => (None, value),
    }
}

/// The value of `for` in one element of `Forwarded`, without its quotes.
fn forwarded_for(element: &[u8]) -> Option<&[u8]> {
    element.split(|&byte| byte == b';').find_map(|pair| {
        let equals = pair.iter().position(|&byte| byte == b'=')?;
        let (name, value) = (pair[..equals].trim_ascii(), pair[equals + 1..].trim_ascii());
        let unquoted = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
        name.eq_ignore_ascii_case(b"for").then(|| unquoted.unwrap_or(value))
    })
}

/// An address with or without brackets and port.
fn address(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text.trim_ascii()).ok()?;
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    bare.parse().ok().or_else(|| text.parse().ok().map(|socket: SocketAddr| socket.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn clients_of_one_network_are_one() {
        let key = |text: &str| ClientKey::of(ip(text));
        assert_eq!(key("192.0.2.1"), key("::ffff:192.0.2.1"));
        assert_ne!(key("192.0.2.1"), key("192.0.2.2"));
        assert_eq!(key("2001:db8:1:2::1"), key("2001:db8:1:2:ffff::9"));
        assert_ne!(key("2001:db8:1:2::1"), key("2001:db8:1:3::1"));
        assert_ne!(key("::1"), key("0.0.0.1"));
    }

    #[track_caller]
    fn check(trail: Trail, peer: &str, values: &[&str], expected: &str) {
        let trusted = |address: IpAddr| address.to_string().starts_with("10.");
        let values = values.iter().map(|value| value.as_bytes());
        assert_eq!(behind(ip(peer), values, trail, trusted), ip(expected));
    }

    #[test]
    fn the_client_is_the_last_that_no_proxy_of_ours_is() {
        let x = Trail::XForwardedFor;
        check(x, "192.0.2.9", &["203.0.113.5"], "192.0.2.9");
        check(x, "10.0.0.1", &[], "10.0.0.1");
        check(x, "10.0.0.1", &["203.0.113.5"], "203.0.113.5");
        check(x, "::ffff:10.0.0.1", &["203.0.113.5"], "203.0.113.5");
        check(x, "10.0.0.1", &["1.1.1.1, 203.0.113.5"], "203.0.113.5");
        check(x, "10.0.0.1", &["1.1.1.1,203.0.113.5 , 10.0.0.2,"], "203.0.113.5");
        check(x, "10.0.0.1", &["1.1.1.1", "203.0.113.5", "10.0.0.2"], "203.0.113.5");
        check(x, "10.0.0.1", &["203.0.113.5, unknown, 10.0.0.2"], "10.0.0.2");
        check(x, "10.0.0.1", &["203.0.113.5:4711"], "203.0.113.5");
        check(x, "10.0.0.1", &["[2001:db8::1]:4711"], "2001:db8::1");
        check(x, "10.0.0.1", &["2001:db8::1"], "2001:db8::1");
        check(x, "10.0.0.1", &["10.0.0.3, 10.0.0.2"], "10.0.0.3");
    }

    #[test]
    fn forwarded_says_the_same_in_its_own_words() {
        let f = Trail::Forwarded;
        check(f, "10.0.0.1", &["for=203.0.113.5;proto=https"], "203.0.113.5");
        check(f, "10.0.0.1", &["For=\"[2001:db8::1]:4711\""], "2001:db8::1");
        check(
            f,
            "10.0.0.1",
            &["for=1.1.1.1, host=a;FOR = 203.0.113.5, for=10.0.0.2"],
            "203.0.113.5",
        );
        check(f, "10.0.0.1", &["for=1.1.1.1, for=_hidden"], "10.0.0.1");
        check(f, "10.0.0.1", &["proto=http"], "10.0.0.1");
        check(f, "10.0.0.1", &["for=1.1.1.1;host=\"a, for=2.2.2.2\""], "10.0.0.1");
    }
}
