//! Networks as people write them: an address, or an address and the length of its prefix.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// The addresses that share a prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    /// Without bits beyond the prefix. An IPv4 network is never written as a mapped IPv6 one.
    address: IpAddr,
    prefix: u8,
}

/// Why a text names no network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    #[error("not an IP address")]
    Address,
    #[error("the prefix is longer than the address")]
    Prefix,
    #[error("the address has bits beyond the prefix")]
    Bits,
}

impl Network {
    /// Every address, family by family.
    pub const EVERYTHING: [Self; 2] = [
        Self { address: IpAddr::V4(Ipv4Addr::UNSPECIFIED), prefix: 0 },
        Self { address: IpAddr::V6(Ipv6Addr::UNSPECIFIED), prefix: 0 },
    ];

    /// Whether an address belongs to it. A mapped IPv4 address is the IPv4 address it maps: a
    /// listener on `[::]` sees IPv4 clients that way.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                network.to_bits() == address.to_bits() & mask(self.prefix, 32) as u32
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                network.to_bits() == address.to_bits() & mask(self.prefix, 128)
            }
            _ => false,
        }
    }

    /// Whether every address of the other one belongs to it.
    pub fn covers(&self, other: &Self) -> bool {
        self.prefix <= other.prefix && self.contains(other.address)
    }

    /// Whether it is every address of its family.
    pub fn is_everything(&self) -> bool {
        self.prefix == 0
    }

    /// Whether its addresses are this machine's own.
    pub fn is_loopback(&self) -> bool {
        match self.address {
            IpAddr::V4(address) => address.is_loopback() && self.prefix >= 8,
            IpAddr::V6(address) => address.is_loopback() && self.prefix == 128,
        }
    }
}

/// The low `bits` of the result hold a mask for a prefix of that length.
fn mask(prefix: u8, bits: u8) -> u128 {
    let host = u32::from(bits - prefix);
    let all = u128::MAX >> (128 - u32::from(bits));
    u128::MAX.checked_shl(host).unwrap_or(0) & all
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| NetworkError::Address)?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let digits =
            |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok());
        let prefix = match prefix {
            None => most,
            Some(text) => digits(text).flatten().ok_or(NetworkError::Prefix)?,
        };
        if prefix > most {
            return Err(NetworkError::Prefix);
        }
        let network = match address {
            IpAddr::V4(v4) => {
                let masked = v4.to_bits() & mask(prefix, 32) as u32;
                Self { address: IpAddr::V4(Ipv4Addr::from_bits(masked)), prefix }
            }
            IpAddr::V6(v6) => {
                let masked = v6.to_bits() & mask(prefix, 128);
                Self { address: IpAddr::V6(Ipv6Addr::from_bits(masked)), prefix }
            }
        };
        if network.address != address {
            return Err(NetworkError::Bits);
        }
        Ok(network)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn holds(network: &str, inside: &[&str], outside: &[&str]) {
        let network: Network = network.parse().unwrap();
        let contains = |text: &&str| network.contains(text.parse().unwrap());
        assert!(inside.iter().all(contains), "{network}");
        assert!(!outside.iter().any(contains), "{network}");
    }

    #[test]
    fn a_network_holds_the_addresses_with_its_prefix() {
        holds("10.0.0.0/8", &["10.0.0.0", "10.255.1.2", "::ffff:10.1.1.1"], &["11.0.0.0", "::1"]);
        holds("192.0.2.7", &["192.0.2.7"], &["192.0.2.6"]);
        holds("0.0.0.0/0", &["1.2.3.4", "255.255.255.255"], &["2001:db8::1"]);
        holds("2001:db8::/32", &["2001:db8:1::1"], &["2001:db9::", "32.1.13.184"]);
        holds("::1", &["::1"], &["::2", "127.0.0.1"]);
        holds("::/0", &["::", "ffff::"], &["1.2.3.4"]);
    }

    #[test]
    fn networks_compare_with_each_other() {
        let network = |text: &str| text.parse::<Network>().unwrap();
        let covers = |one: &str, other: &str| network(one).covers(&network(other));
        assert!(covers("10.0.0.0/8", "10.1.0.0/16") && covers("10.0.0.0/8", "10.0.0.0/8"));
        assert!(covers("10.0.0.0/8", "10.0.0.4") && covers("::/0", "2001:db8::/32"));
        assert!(!covers("10.1.0.0/16", "10.0.0.0/8") && !covers("10.0.0.0/8", "11.0.0.0/16"));
        assert!(!covers("0.0.0.0/0", "::/0") && !covers("::/0", "10.0.0.4"));
        let all = ["0.0.0.0/0", "::/0", "0.0.0.0/1"].map(|text| network(text).is_everything());
        assert_eq!(all, [true, true, false]);
        let texts = ["127.0.0.1", "127.0.0.0/8", "::1", "126.0.0.0/7", "::/0", "10.0.0.4"];
        let own = texts.map(|text| network(text).is_loopback());
        assert_eq!(own, [true, true, true, false, false, false]);
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for (text, error) in [
            ("", NetworkError::Address),
            ("up01", NetworkError::Address),
            ("10.0.0", NetworkError::Address),
            ("10.0.0.0/33", NetworkError::Prefix),
            ("10.0.0.0/", NetworkError::Prefix),
            ("10.0.0.0/+8", NetworkError::Prefix),
            ("10.0.0.0/256", NetworkError::Prefix),
            ("::/129", NetworkError::Prefix),
            ("10.0.0.1/8", NetworkError::Bits),
            ("2001:db8::1/32", NetworkError::Bits),
        ] {
            assert_eq!(text.parse::<Network>(), Err(error), "{text:?}");
        }
    }
}
