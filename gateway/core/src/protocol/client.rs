//! Who a client is: by its address, or by what trusted proxies say of it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

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

    /// The address, or the first one of the network.
    pub fn address(self) -> IpAddr {
        match self.0 >> 32 {
            0x0000_ffff => IpAddr::V4(Ipv4Addr::from_bits(self.0 as u32)),
            _ => IpAddr::V6(Ipv6Addr::from_bits(u128::from(self.0) << 64)),
        }
    }

    pub fn to_bits(self) -> u64 {
        self.0
    }

    /// What [`Self::to_bits`] gave.
    pub fn from_bits(bits: u64) -> Self {
        Self(bits)
    }
}

/// The field in which proxies say for whom they speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForwardingHeader {
    /// `X-Forwarded-For`: addresses between commas.
    XForwardedFor,
    /// `Forwarded`.
    ///
    /// # Source
    /// RFC 7239 section 4.
    Forwarded,
}

/// What trusted proxies say of the client behind them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Walk {
    /// The last address in the header that is not a trusted proxy's.
    pub client: IpAddr,
    /// The port that stands beside it.
    pub port: Option<u16>,
    /// How many addresses were read on the way to it.
    pub hops: usize,
    /// Whether a trusted proxy names that client, and the client speaks for itself: before its
    /// address there is no other.
    pub named: bool,
}

/// The client behind `peer`: the last address in the header that is not a trusted proxy's.
///
/// Every address was written by the one after it, so the walk goes from the end to the first that
/// is not trusted. What is no address ends it as well: then nobody can tell more than that proxy.
///
/// `values` are those of the field, in the order in which they stand in the head.
pub fn walk<'v>(
    peer: IpAddr,
    values: impl DoubleEndedIterator<Item = &'v [u8]>,
    header: ForwardingHeader,
    trusted: impl Fn(IpAddr) -> bool,
) -> Walk {
    // A comma in quotes is taken for one between elements: no address has one, so the walk ends
    // there. A list may have empty elements.
    let elements = values.rev().flat_map(|value| value.rsplit(|&byte| byte == b','));
    let mut elements = elements.map(<[u8]>::trim_ascii).filter(|element| !element.is_empty());
    let mut walk = Walk { client: peer.to_canonical(), port: None, hops: 0, named: false };
    while trusted(walk.client) {
        let Some(element) = elements.next() else { return walk };
        let address = match header {
            ForwardingHeader::XForwardedFor => address(element),
            ForwardingHeader::Forwarded => forwarded_for(element).and_then(address),
        };
        let Some((client, port)) = address else { return walk };
        walk = Walk { client: client.to_canonical(), port, hops: walk.hops + 1, ..walk };
    }
    Walk { named: walk.hops > 0 && elements.next().is_none(), ..walk }
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
fn address(text: &[u8]) -> Option<(IpAddr, Option<u16>)> {
    let text = std::str::from_utf8(text.trim_ascii()).ok()?;
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let with_port =
        || text.parse().ok().map(|socket: SocketAddr| (socket.ip(), Some(socket.port())));
    bare.parse().ok().map(|address| (address, None)).or_else(with_port)
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
        for (text, first) in [
            ("192.0.2.7", "192.0.2.7"),
            ("::ffff:192.0.2.7", "192.0.2.7"),
            ("2001:db8::7", "2001:db8::"),
        ] {
            assert_eq!(key(text).address(), ip(first), "{text}");
        }
        assert_eq!(key("192.0.2.1"), key("::ffff:192.0.2.1"));
        assert_ne!(key("192.0.2.1"), key("192.0.2.2"));
        assert_eq!(key("2001:db8:1:2::1"), key("2001:db8:1:2:ffff::9"));
        assert_ne!(key("2001:db8:1:2::1"), key("2001:db8:1:3::1"));
        assert_ne!(key("::1"), key("0.0.0.1"));
    }

    #[track_caller]
    fn check(header: ForwardingHeader, peer: &str, values: &[&str], expected: &str) {
        let trusted = |address: IpAddr| address.to_string().starts_with("10.");
        let values = values.iter().map(|value| value.as_bytes());
        assert_eq!(walk(ip(peer), values, header, trusted).client, ip(expected));
    }

    #[test]
    fn the_client_is_the_last_that_no_proxy_of_ours_is() {
        let x = ForwardingHeader::XForwardedFor;
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
    fn only_a_client_that_speaks_for_itself_is_named() {
        let x = ForwardingHeader::XForwardedFor;
        for (peer, values, named) in [
            ("10.0.0.1", &["203.0.113.5"][..], Some((None, 1))),
            ("10.0.0.1", &["203.0.113.5:4711"], Some((Some(4711), 1))),
            ("10.0.0.1", &["203.0.113.5, 10.0.0.2"], Some((None, 2))),
            ("10.0.0.1", &["203.0.113.5", " , 10.0.0.2:80 ,"], Some((None, 2))),
            ("10.0.0.1", &[" ,203.0.113.5"], Some((None, 1))),
            // Not trusted, so it names no client.
            ("192.0.2.9", &["203.0.113.5"], None),
            // The client is a proxy itself, or pretends to be one.
            ("10.0.0.1", &["1.1.1.1, 203.0.113.5"], None),
            ("10.0.0.1", &["unknown, 203.0.113.5"], None),
            ("10.0.0.1", &["1.1.1.1", "203.0.113.5"], None),
            // No client at all.
            ("10.0.0.1", &[], None),
            ("10.0.0.1", &[""], None),
            ("10.0.0.1", &["10.0.0.2"], None),
            ("10.0.0.1", &["unknown"], None),
            ("10.0.0.1", &["203.0.113.5, unknown"], None),
            ("10.0.0.1", &["203.0.113.5, _hidden, 10.0.0.2"], None),
        ] {
            let bytes = values.iter().map(|value| value.as_bytes());
            let walk = walk(ip(peer), bytes, x, |ip| ip.to_string().starts_with("10."));
            let found = walk.named.then_some((walk.port, walk.hops));
            assert_eq!(found, named, "{peer} {values:?}");
        }
    }

    #[test]
    fn forwarded_says_the_same_in_its_own_words() {
        let f = ForwardingHeader::Forwarded;
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
