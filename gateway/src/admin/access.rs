//! Who may ask.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use http::header::{AUTHORIZATION, HOST, HeaderName, ORIGIN};
use http::request::Parts;
use http::{HeaderMap, HeaderValue};

use super::refusal::Refusal;
use crate::config::token::Token;

/// Sent by every browser of today, by nothing else.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Who is at the other end; what the log calls whoever asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    Tcp(SocketAddr),
    /// The permissions of the socket file let it in. `None` if the system does not tell.
    Unix {
        uid: Option<u32>,
    },
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix { uid: Some(uid) } => write!(f, "uid {uid}"),
            Self::Unix { uid: None } => f.write_str("local"),
        }
    }
}

/// Checks everything about a request that does not depend on what it asks.
///
/// A page of a stranger can make a browser on this machine send requests here. It can neither
/// forge `Origin` nor add a token; but a name of its own that resolves to 127.0.0.1 makes it
/// same-origin, and shows in `Host`. The socket is no exception: `ssh -L 9081:/run/.../admin.sock`
/// puts it on a port of the machine where the browser runs.
pub fn check(peer: &Peer, token: Option<&Token>, parts: &Parts) -> Result<(), Refusal> {
    let host = host(parts)?;
    if !is_loopback(host) {
        let message = "only loopback names are served: 127.0.0.1, [::1] or localhost";
        return Err(Refusal::foreign("foreign_host", message));
    }
    let headers = &parts.headers;
    let own_origin = |origin: &HeaderValue| {
        let origin = origin.as_bytes().strip_prefix(b"http://");
        origin.is_some_and(|origin| origin.eq_ignore_ascii_case(host.as_bytes()))
    };
    let own_site = |site: &HeaderValue| site == "same-origin" || site == "none";
    if !headers.get_all(ORIGIN).iter().all(own_origin)
        || !headers.get_all(SEC_FETCH_SITE).iter().all(own_site)
    {
        let message = "requests on behalf of another site are not served";
        return Err(Refusal::foreign("foreign_origin", message));
    }
    match (peer, token) {
        (Peer::Unix { .. }, _) => Ok(()),
        (Peer::Tcp(_), Some(token)) => authorized(token, headers),
        // The configuration does not allow it; a mistake in wiring must not open a door.
        (Peer::Tcp(_), None) => Err(Refusal::unauthorized("token_missing", "there is no token")),
    }
}

/// The one name that the request is for.
fn host(parts: &Parts) -> Result<&str, Refusal> {
    let wrong = || Refusal::invalid("invalid_host", "a request has one Host");
    let mut hosts = parts.headers.get_all(HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return Err(wrong()) };
    let host = host.to_str().map_err(|_| wrong())?;
    match parts.uri.authority() {
        // `GET http://name/path`: two names would be one too many.
        Some(authority) if authority.as_str() != host => Err(wrong()),
        _ => Ok(host),
    }
}

fn is_loopback(host: &str) -> bool {
    let port = |text: &str| {
        text.is_empty() || text.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok())
    };
    if let Some(inner) = host.strip_prefix('[') {
        let Some((address, rest)) = inner.split_once(']') else { return false };
        let address = address.parse::<IpAddr>();
        return port(rest) && address.is_ok_and(|address| address.is_ipv6() && loops(address));
    }
    let (name, rest) = host.split_at(host.find(':').unwrap_or(host.len()));
    let address = name.parse::<Ipv4Addr>();
    port(rest)
        && (name.eq_ignore_ascii_case("localhost")
            || address.is_ok_and(|address| address.is_loopback()))
}

fn loops(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

fn authorized(token: &Token, headers: &HeaderMap) -> Result<(), Refusal> {
    let mut sent = headers.get_all(AUTHORIZATION).iter();
    let (Some(sent), None) = (sent.next(), sent.next()) else {
        let message = "a token is needed: Authorization: Bearer TOKEN";
        return Err(Refusal::unauthorized("token_missing", message));
    };
    let secret = match sent.as_bytes().split_at_checked(7) {
        Some((scheme, secret)) if scheme.eq_ignore_ascii_case(b"Bearer ") => secret,
        _ => {
            let message = "a token is needed: Authorization: Bearer TOKEN";
            return Err(Refusal::unauthorized("token_missing", message));
        }
    };
    if token.matches(secret.trim_ascii()) {
        Ok(())
    } else {
        Err(Refusal::unauthorized("token_wrong", "this is not the token"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_names_are_ours() {
        for host in [
            "localhost",
            "LOCALHOST:9081",
            "127.0.0.1",
            "127.0.0.1:9081",
            "127.1.2.3:1",
            "[::1]",
            "[::1]:9081",
            "[::ffff:127.0.0.1]:1",
        ] {
            assert!(is_loopback(host), "{host}");
        }
        for host in [
            "",
            "evil.test",
            "evil.test:9081",
            "localhost.evil.test",
            "127.0.0.1.evil.test",
            "evil.test#localhost",
            "evil@localhost",
            "localhost@evil",
            "localhost:evil",
            "localhost:1:2",
            "127.1",
            "2130706433",
            "0.0.0.0",
            "10.0.0.1",
            "::1",
            "[::1",
            "[::1]evil",
            "[::2]:1",
            "[127.0.0.1]",
            "[::]",
        ] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
