//! Who may ask, and what for.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use gateway_core::protocol::host::key_of;
use http::header::{AUTHORIZATION, HOST, HeaderName, ORIGIN};
use http::request::Parts;
use http::{HeaderMap, HeaderValue};

use super::refusal::Refusal;
use crate::config::token::Token;

/// Sent by every browser of today, by nothing else.
pub(super) const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Who is at the other end; what the log calls whoever asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    Tcp(SocketAddr),
    /// The permissions of the socket file let it in. `None` if the system does not tell.
    Unix {
        uid: Option<u32>,
    },
}

impl Peer {
    /// That of TCP.
    pub fn ip(self) -> Option<IpAddr> {
        match self {
            Self::Tcp(address) => Some(address.ip()),
            Self::Unix { .. } => None,
        }
    }
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

/// How a request came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entrance {
    pub peer: Peer,
    /// The address here that the other end has reached, of TCP.
    pub local: Option<IpAddr>,
    pub tls: bool,
}

/// What somebody may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// See everything that is shown.
    Viewer,
    /// Change it, too.
    Operator,
}

impl Role {
    pub fn word(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
        }
    }
}

/// Who gets in.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// Names of the listener beyond those of this machine, in the form of [`key_of`].
    pub hosts: Vec<String>,
    /// For requests over TCP; a Unix socket has its permissions.
    pub operator: Option<Token>,
    pub viewer: Option<Token>,
}

impl Access {
    /// Checks what does not depend on who asks: a request is for a name of ours, and no page of
    /// somebody else has made it.
    ///
    /// A page of a stranger can make a browser on this machine send requests here. It can neither
    /// forge `Origin` nor add a token; but a name of its own that resolves to our address makes it
    /// same-origin, and shows in `Host`. The socket is no exception: `ssh -L 9081:/run/.../admin.sock`
    /// puts it on a port of the machine where the browser runs.
    ///
    /// `followed` says that it only opens a page, as a link in a mail does.
    pub fn site(&self, entrance: &Entrance, parts: &Parts, followed: bool) -> Result<(), Refusal> {
        let host = host(parts)?;
        if !self.is_ours(host, entrance.local) {
            let message = "this name is not served: loopback names are, the address of the \
                           listener, and admin.hosts";
            return Err(Refusal::foreign("foreign_host", message));
        }
        let headers = &parts.headers;
        let scheme: &[u8] = if entrance.tls { b"https://" } else { b"http://" };
        let own_origin = |origin: &HeaderValue| {
            let origin = origin.as_bytes().strip_prefix(scheme);
            origin.is_some_and(|origin| origin.eq_ignore_ascii_case(host.as_bytes()))
        };
        let own_site = |site: &HeaderValue| site == "same-origin" || site == "none" || followed;
        if !headers.get_all(ORIGIN).iter().all(own_origin)
            || !headers.get_all(SEC_FETCH_SITE).iter().all(own_site)
        {
            let message = "requests on behalf of another site are not served";
            return Err(Refusal::foreign("foreign_origin", message));
        }
        Ok(())
    }

    /// An address cannot be made to resolve to another one, but for a name of this machine.
    fn is_ours(&self, host: &str, local: Option<IpAddr>) -> bool {
        let own = |key: &str| {
            let bare = key.trim_matches(['[', ']']).parse::<IpAddr>();
            bare.is_ok_and(|bare| local.is_some_and(|ip| ip.to_canonical() == bare.to_canonical()))
        };
        is_loopback(host) || key_of(host).is_some_and(|key| self.hosts.contains(&key) || own(&key))
    }

    /// What a program may do, by the token that it brings.
    pub fn bearer(&self, entrance: &Entrance, headers: &HeaderMap) -> Result<Role, Refusal> {
        if let Peer::Unix { .. } = entrance.peer {
            return Ok(Role::Operator);
        }
        let missing = || {
            let message = "a token is needed: Authorization: Bearer TOKEN";
            Refusal::unauthorized("token_missing", message)
        };
        let secret = credentials(headers, b"Bearer ").ok_or_else(missing)?;
        let wrong = || Refusal::unauthorized("token_wrong", "this is not the token");
        self.role_of(secret).ok_or_else(wrong)
    }

    /// What whoever has this secret may do.
    pub fn role_of(&self, secret: &[u8]) -> Option<Role> {
        // Both are compared always, so the time says nothing of which one was near.
        let is = |token: &Option<Token>| token.as_ref().is_some_and(|token| token.matches(secret));
        let (operator, viewer) = (is(&self.operator), is(&self.viewer));
        operator.then_some(Role::Operator).or(viewer.then_some(Role::Viewer))
    }
}

/// What follows the scheme in the one `Authorization` of a request.
pub(super) fn credentials<'h>(headers: &'h HeaderMap, scheme: &[u8]) -> Option<&'h [u8]> {
    let mut sent = headers.get_all(AUTHORIZATION).iter();
    let (Some(sent), None) = (sent.next(), sent.next()) else { return None };
    let (found, secret) = sent.as_bytes().split_at_checked(scheme.len())?;
    found.eq_ignore_ascii_case(scheme).then(|| secret.trim_ascii())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_the_own_address_are_ours() {
        let hosts = vec!["gw.example.com".to_owned()];
        let access = Access { hosts, ..Access::default() };
        let local = "10.0.0.5".parse().ok();
        for host in ["gw.example.com", "GW.example.com:9443", "10.0.0.5:9443", "localhost"] {
            assert!(access.is_ours(host, local), "{host}");
        }
        for host in ["10.0.0.6:9443", "gw.example.com.evil.test", "evil.test", "[::1", ""] {
            assert!(!access.is_ours(host, local), "{host}");
        }
        assert!(!access.is_ours("10.0.0.5", None), "the socket has no address");
        let mapped = "::ffff:10.0.0.5".parse().ok();
        assert!(access.is_ours("10.0.0.5:9443", mapped), "a listener on [::] serves IPv4");
    }

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
