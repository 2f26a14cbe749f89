//! Whose a request is, on a connection that may carry the requests of many clients.
//!
//! A login by NTLM or Negotiate counts for a connection. That is safe only where it is known who
//! speaks on the connection: a proxy in front may send the requests of all its clients over one.
//! Any doubt means [`Speaker::Unnamed`], and such a request takes part in no login of a connection.

use std::net::IpAddr;

use super::client::Walk;
use super::headers::{self, Id};
use super::{Fields, reserved};

/// Who speaks on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaker {
    /// The other end of the connection, which has only its own requests.
    Peer,
    /// A client that a trusted proxy names, with its port if that is named too.
    Named(IpAddr, Option<u16>),
    /// One of several clients. No trusted proxy says which.
    Unnamed,
}

/// What is known of the other end of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer<'w> {
    /// It is no trusted proxy. `shared` says whether any request on the connection has come from a
    /// proxy so far.
    Stranger { shared: bool },
    /// It is a trusted proxy, and this is what it says of its client.
    Trusted(&'w Walk),
}

/// Who speaks in a request with these fields.
pub fn speaker(peer: Peer<'_>, fields: &impl Fields) -> Speaker {
    match peer {
        Peer::Stranger { shared } if shared || comes_from_proxy(fields) => Speaker::Unnamed,
        Peer::Stranger { .. } => Speaker::Peer,
        // The peer itself and each address but the last are trusted proxies. One `Via` more than
        // there are of these was written by another proxy, which may have clients of its own.
        Peer::Trusted(walk) if walk.named && vias(fields) <= walk.hops => {
            Speaker::Named(walk.client, walk.port)
        }
        Peer::Trusted(_) => Speaker::Unnamed,
    }
}

/// Whether a request says that it came over a proxy.
fn comes_from_proxy(fields: &impl Fields) -> bool {
    fields.all().any(|(id, name, _)| match id {
        Id::VIA | Id::CDN_LOOP => true,
        id => reserved::is_proxy_field(id, name),
    })
}

/// How many proxies `Via` lists.
fn vias(fields: &impl Fields) -> usize {
    fields.values(&headers::VIA).map(elements).sum()
}

/// A comma in a comment ends no element. Behind a comment that does not end, each comma counts: the
/// next proxy may have appended to what its client left open.
fn elements(list: &[u8]) -> usize {
    let (mut depth, mut escaped) = (0_usize, false);
    let ends = |&byte: &u8| {
        if escaped {
            escaped = false;
            return false;
        }
        match byte {
            b'\\' => escaped = depth > 0,
            b'(' => depth += 1,
            b')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        byte == b',' && depth == 0
    };
    let count = count(list.split(ends));
    if depth == 0 { count } else { self::count(list.split(|&byte| byte == b',')) }
}

fn count<'v>(elements: impl Iterator<Item = &'v [u8]>) -> usize {
    elements.filter(|element| !element.trim_ascii().is_empty()).count()
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;
    use crate::protocol::client::{ForwardingHeader, walk};

    fn fields(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut fields = HeaderMap::new();
        for (name, value) in lines {
            fields.append(*name, value.parse().unwrap());
        }
        fields
    }

    fn named(text: &str) -> Speaker {
        Speaker::Named(text.parse().unwrap(), None)
    }

    #[test]
    fn a_stranger_that_shows_any_word_of_a_proxy_is_shared() {
        let packet =
            [("host", "up.test"), ("authorization", "NTLM x"), ("bits-packet-type", "Ping")];
        let stranger = |shared, lines: &[_]| speaker(Peer::Stranger { shared }, &fields(lines));
        assert_eq!(stranger(false, &packet), Speaker::Peer);
        // It was shared before, whatever this request says.
        assert_eq!(stranger(true, &packet), Speaker::Unnamed);
        for word in [
            ("x-forwarded-for", "203.0.113.5"),
            ("x-forwarded-for", ""),
            ("x_forwarded_for", "203.0.113.5"),
            ("forwarded", "for=unknown"),
            ("forwarded", "for=_hidden"),
            ("via", "1.1 squid"),
            ("via", ""),
            ("cdn-loop", "bits-gateway;id=1.0"),
            ("x-real-ip", "203.0.113.5"),
            ("x-forwarded-proto", "https"),
            ("cf-connecting-ip", "203.0.113.5"),
        ] {
            let lines = [&packet[..], &[word]].concat();
            assert_eq!(stranger(false, &lines), Speaker::Unnamed, "{word:?}");
        }
    }

    #[test]
    fn a_trusted_proxy_names_its_client_or_nobody() {
        for (header, via, expected) in [
            (&["203.0.113.5"][..], &[][..], named("203.0.113.5")),
            (&["203.0.113.5"], &["1.1 varnish"], named("203.0.113.5")),
            (&["203.0.113.5"], &["1.1 front (Varnish, 7.1)"], named("203.0.113.5")),
            (&["203.0.113.5, 10.0.0.2"], &["1.1 a, 1.1 b"], named("203.0.113.5")),
            (&["203.0.113.5, 10.0.0.2"], &["1.1 a", "1.1 b"], named("203.0.113.5")),
            // One proxy more than those that are trusted: the client is one.
            (&["203.0.113.5"], &["1.1 squid, 1.1 varnish"], Speaker::Unnamed),
            (&["203.0.113.5"], &["1.1 squid", "1.1 varnish"], Speaker::Unnamed),
            (&["203.0.113.5"], &["1.1 squid (a), 1.1 varnish (b)"], Speaker::Unnamed),
            (&["1.1.1.1, 203.0.113.5"], &[], Speaker::Unnamed),
            (&[], &[], Speaker::Unnamed),
            (&[], &["1.1 varnish"], Speaker::Unnamed),
            (&["unknown"], &[], Speaker::Unnamed),
            (&["10.0.0.7"], &[], Speaker::Unnamed),
        ] {
            let trusted = |address: IpAddr| address.to_string().starts_with("10.");
            let values = header.iter().map(|value| value.as_bytes());
            let peer = "10.0.0.1".parse().unwrap();
            let walk = walk(peer, values, ForwardingHeader::XForwardedFor, trusted);
            let lines: Vec<_> = via.iter().map(|via| ("via", *via)).collect();
            let found = speaker(Peer::Trusted(&walk), &fields(&lines));
            assert_eq!(found, expected, "{header:?} {via:?}");
        }
    }

    #[test]
    fn commas_in_the_comments_of_via_count_nothing() {
        for (list, expected) in [
            ("", 0),
            (" , ,", 0),
            ("1.1 a", 1),
            ("1.1 a, 1.0 b", 2),
            ("1.1 a (x, y), 1.0 b", 2),
            (r"1.1 a (x (y, z), \), w)", 1),
            ("1.1 a), 1.1 b", 2),
            ("1.1 a (x, 1.1 b", 2),
            ("1.1 a (x, y, 1.1 b", 3),
            (r"1.1 a \(, 1.1 b", 2),
        ] {
            assert_eq!(elements(list.as_bytes()), expected, "{list}");
        }
    }
}
