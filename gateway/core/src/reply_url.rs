//! `BITS-Reply-URL` as a client of the gateway can use it.

use crate::protocol::head::strip_scheme;
use crate::protocol::host::Host;

/// How the client reaches the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GatewayUrl<'a> {
    pub scheme: &'a str,
    /// A name, and a port if the client said one.
    pub authority: &'a str,
}

/// The URL of a reply at the gateway, where it was one at the server itself. `None` for every other
/// URL, and for what is none: relative ones lead to the gateway already, and what an application
/// keeps elsewhere stays there.
///
/// `own` are the authorities of the server, each with its port.
///
/// # Source
/// MC-BUP 2.2.3.7 (the URL may be relative or absolute).
pub fn at_gateway(url: &str, own: &[&str], gateway_url: GatewayUrl<'_>) -> Option<String> {
    let rest = strip_scheme(url)?;
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let port = if url.len() - rest.len() == "https://".len() { 443 } else { 80 };
    let host = Host::parse(authority)?;
    let is_own = |own: &&str| Host::parse(own).is_some_and(|own| own.is_same(&host, port));
    if !own.iter().any(is_own) {
        return None;
    }
    let GatewayUrl { scheme, authority } = gateway_url;
    Some(format!("{scheme}://{authority}{path}")).filter(|rewritten| rewritten != url)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GATEWAY_URL: GatewayUrl<'_> =
        GatewayUrl { scheme: "https", authority: "uploads.example.com:8443" };

    #[track_caller]
    fn check(url: &str, expected: Option<&str>) {
        let own = ["up01.example.net:80", "10.0.0.1:8080", "[fd00::1]:443"];
        assert_eq!(at_gateway(url, &own, GATEWAY_URL).as_deref(), expected, "{url}");
    }

    #[test]
    fn the_servers_own_authority_becomes_the_clients() {
        check(
            "http://up01.example.net/in/r?x=y#z",
            Some("https://uploads.example.com:8443/in/r?x=y#z"),
        );
        check("HTTP://UP01.example.net.:80/r", Some("https://uploads.example.com:8443/r"));
        check("http://10.0.0.1:8080/%7B1%7D", Some("https://uploads.example.com:8443/%7B1%7D"));
        check("https://[fd00:0::1]/r", Some("https://uploads.example.com:8443/r"));
        check("http://up01.example.net", Some("https://uploads.example.com:8443"));
        check("http://up01.example.net?x", Some("https://uploads.example.com:8443?x"));
    }

    #[test]
    fn every_other_url_stays() {
        for url in [
            "",
            "BITS-Sessions\\Replies\\{1}\\responsefile.bin",
            "/in/BITS-Sessions/Replies/1/responsefile.bin",
            "//up01.example.net/r",
            "http://static.example.com/r",
            "http://up01.example.net:81/r",
            "https://up01.example.net/r",
            "http://10.0.0.1/r",
            "http://user@up01.example.net/r",
            "http://up01.example.net\\r",
            "http:///r",
            "http:up01.example.net/r",
            "ftp://up01.example.net/r",
            "x http://up01.example.net/r",
            "https://uploads.example.com:8443/r",
        ] {
            check(url, None);
        }
        let same = GatewayUrl { scheme: "http", authority: "up01.example.net" };
        assert_eq!(at_gateway("http://up01.example.net/r", &["up01.example.net"], same), None);
    }
}
