//! Telling a server of the client.
//!
//! A field of this kind is an assertion. From a trusted proxy it is kept and ours is appended; from
//! anybody else it never passes, whatever is configured.

use std::fmt::Write;
use std::net::IpAddr;

use http::HeaderValue;

use super::Edit;
use crate::protocol::Fields;
use crate::protocol::fields::text;
use crate::protocol::headers::{self, Field};
use crate::protocol::host::{Host, is_port};

/// Which fields tell a server of its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForwardedMode {
    Off,
    XForwardedFor,
    /// `X-Forwarded-For`, `-Host`, `-Port` and `-Proto`.
    XForwarded,
    /// RFC 7239.
    Forwarded,
    /// All of them.
    Both,
}

/// The other end of the client's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sender<'a> {
    pub address: Option<IpAddr>,
    /// The same as a value.
    pub address_value: Option<&'a HeaderValue>,
    /// It is a proxy that is believed.
    pub trusted: bool,
    /// The port that it connected to.
    pub port: Option<&'a HeaderValue>,
    /// The scheme of the URL that it meant.
    pub scheme: &'static str,
}

/// Adds what is true of the client. What it says itself is taken off elsewhere.
pub(super) fn forwarding(
    fields: &impl Fields,
    mode: ForwardedMode,
    sender: &Sender<'_>,
    edits: &mut Vec<Edit>,
) {
    use ForwardedMode as M;
    let host = fields.values(&headers::HOST).next();
    if matches!(mode, M::Forwarded | M::Both) {
        let kept = sender.trusted.then(|| joined(fields, &headers::FORWARDED)).flatten();
        let kept = kept.filter(ends_outside_quotes);
        edits.push(Edit::Set(&headers::FORWARDED, appended(kept, element(sender, host))));
    }
    if matches!(mode, M::XForwardedFor | M::XForwarded | M::Both)
        && let Some(client) = sender.address_value
    {
        let kept = sender.trusted.then(|| joined(fields, &headers::FORWARDED_FOR)).flatten();
        edits.push(Edit::Set(&headers::FORWARDED_FOR, appended(kept, client.clone())));
    }
    if matches!(mode, M::XForwarded | M::Both) {
        // A proxy may hand on what its client wrote, so what makes no sense is not kept. Some
        // append to these as to a list.
        let kept = |field: &'static Field, makes_sense: fn(&str) -> bool| {
            let value = fields.values(field).next().filter(|_| sender.trusted)?;
            let all = |text: &str| text.split(',').all(|element| makes_sense(element.trim()));
            if text(value).is_some_and(all) { HeaderValue::from_bytes(value).ok() } else { None }
        };
        let own = || HeaderValue::from_bytes(host?).ok();
        let host = kept(&headers::FORWARDED_HOST, |host| Host::parse(host).is_some()).or_else(own);
        edits.extend(host.map(|host| Edit::Set(&headers::FORWARDED_HOST, host)));
        let port = kept(&headers::FORWARDED_PORT, is_port).or_else(|| sender.port.cloned());
        edits.extend(port.map(|port| Edit::Set(&headers::FORWARDED_PORT, port)));
        let is_scheme = |text: &str| ["http", "https"].iter().any(|s| text.eq_ignore_ascii_case(s));
        let proto = kept(&headers::FORWARDED_PROTO, is_scheme);
        let proto = proto.unwrap_or_else(|| HeaderValue::from_static(sender.scheme));
        edits.push(Edit::Set(&headers::FORWARDED_PROTO, proto));
    }
}

/// Whether an element that is appended to the list is one: behind an open quote it would be a part
/// of the client's.
fn ends_outside_quotes(list: &HeaderValue) -> bool {
    let (mut quoted, mut escaped) = (false, false);
    for &byte in list.as_bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ => {}
        }
    }
    !quoted
}

/// A list that was spread over several fields, as one.
fn joined(fields: &impl Fields, field: &'static Field) -> Option<HeaderValue> {
    let values = fields.values(field).filter_map(|value| HeaderValue::from_bytes(value).ok());
    values.reduce(|list, more| appended(Some(list), more))
}

fn appended(list: Option<HeaderValue>, element: HeaderValue) -> HeaderValue {
    let Some(list) = list.filter(|list| !list.is_empty()) else { return element };
    let bytes = [list.as_bytes(), b", ", element.as_bytes()].concat();
    // Two legal values with a comma between are one; the newer counts should that ever change.
    HeaderValue::from_bytes(&bytes).unwrap_or(element)
}

/// Our element of `Forwarded`.
fn element(sender: &Sender<'_>, host: Option<&[u8]>) -> HeaderValue {
    let mut element = String::from("for=");
    // Writing to a string cannot fail.
    let _ = match sender.address {
        Some(IpAddr::V4(v4)) => write!(element, "{v4}"),
        Some(IpAddr::V6(v6)) => write!(element, "\"[{v6}]\""),
        None => write!(element, "unknown"),
    };
    if let Some(host) = host.and_then(text) {
        // Only what was read as a host gets here, and no host has a quote in it.
        let _ = write!(element, ";host=\"{host}\"");
    }
    let _ = write!(element, ";proto={}", sender.scheme);
    HeaderValue::try_from(element).unwrap_or_else(|_| HeaderValue::from_static("for=unknown"))
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderName};

    use super::*;
    use crate::protocol::passage::{Onward, request};

    /// What a server is told of a client at 192.0.2.7 that says `fields`.
    #[track_caller]
    fn check(
        mode: ForwardedMode,
        trusted: bool,
        fields: &[(&'static str, &'static str)],
        expected: &[&str],
    ) {
        let (address, port) = (HeaderValue::from_static("192.0.2.7"), HeaderValue::from(8080));
        let mut map = HeaderMap::new();
        for (name, value) in [("Host", "up.test")].iter().chain(fields) {
            map.append(HeaderName::try_from(*name).unwrap(), HeaderValue::from_static(value));
        }
        let sender = Sender {
            address: Some([192, 0, 2, 7].into()),
            address_value: Some(&address),
            trusted,
            port: Some(&port),
            scheme: "http",
        };
        let onward = Onward {
            own_id: false,
            forwarded: mode,
            sender: Some(sender),
            host: None,
            loop_entry: None,
            via: None,
            session: None,
            length: None,
        };
        for edit in request(&map, onward) {
            edit.apply_to(&mut map);
        }
        map.remove("host");
        let mut told: Vec<_> =
            map.iter().map(|(n, v)| format!("{n}: {}", v.to_str().unwrap())).collect();
        told.sort();
        assert_eq!(told, expected, "{mode:?} {trusted} {fields:?}");
    }

    #[test]
    fn a_stranger_is_not_believed() {
        let lies = [
            ("X-Forwarded-For", "192.0.2.1"),
            ("X-Forwarded-Host", "evil.test"),
            ("X-Forwarded-Proto", "https"),
            ("Forwarded", "for=192.0.2.1"),
        ];
        for lies in [&lies[..], &[]] {
            check(ForwardedMode::Off, false, lies, &[]);
            check(ForwardedMode::XForwardedFor, false, lies, &["x-forwarded-for: 192.0.2.7"]);
            let element = "forwarded: for=192.0.2.7;host=\"up.test\";proto=http";
            check(ForwardedMode::Forwarded, false, lies, &[element]);
            let more = [
                "x-forwarded-for: 192.0.2.7",
                "x-forwarded-host: up.test",
                "x-forwarded-port: 8080",
                "x-forwarded-proto: http",
            ];
            check(ForwardedMode::XForwarded, false, lies, &more);
            let all: Vec<_> = [element].into_iter().chain(more).collect();
            check(ForwardedMode::Both, false, lies, &all);
        }
    }

    #[test]
    fn what_a_trusted_proxy_says_is_kept_and_appended_to() {
        let said = [
            ("X-Forwarded-For", "192.0.2.1"),
            ("X-Forwarded-For", "192.0.2.2"),
            ("X-Forwarded-Host", "front.test, up.test"),
            ("X-Forwarded-Port", "443"),
            ("X-Forwarded-Proto", "HTTPS"),
            ("Forwarded", "for=192.0.2.1;by=\"a,b\""),
        ];
        check(
            ForwardedMode::Both,
            true,
            &said,
            &[
                "forwarded: for=192.0.2.1;by=\"a,b\", for=192.0.2.7;host=\"up.test\";proto=http",
                "x-forwarded-for: 192.0.2.1, 192.0.2.2, 192.0.2.7",
                "x-forwarded-host: front.test, up.test",
                "x-forwarded-port: 443",
                "x-forwarded-proto: HTTPS",
            ],
        );
        check(ForwardedMode::Off, true, &said, &[]);
    }

    #[test]
    fn an_address_is_written_as_rfc_7239_says() {
        for (address, expected) in [
            (Some("192.0.2.7"), "for=192.0.2.7;proto=https"),
            (Some("2001:db8::7"), "for=\"[2001:db8::7]\";proto=https"),
            (None, "for=unknown;proto=https"),
        ] {
            let sender = Sender {
                address: address.map(|address| address.parse().unwrap()),
                address_value: None,
                trusted: false,
                port: None,
                scheme: "https",
            };
            assert_eq!(element(&sender, None), expected);
        }
    }

    #[test]
    fn what_makes_no_sense_is_not_kept() {
        check(
            ForwardedMode::XForwarded,
            true,
            &[
                ("X-Forwarded-For", ""),
                ("X-Forwarded-Host", "a b"),
                ("X-Forwarded-Port", "x"),
                ("X-Forwarded-Proto", "gopher"),
            ],
            &[
                "x-forwarded-for: 192.0.2.7",
                "x-forwarded-host: up.test",
                "x-forwarded-port: 8080",
                "x-forwarded-proto: http",
            ],
        );
        for open in ["for=\"192.0.2.1", "for=\"a\\\"", "for=x;by=\""] {
            let element = "forwarded: for=192.0.2.7;host=\"up.test\";proto=http";
            check(ForwardedMode::Forwarded, true, &[("Forwarded", open)], &[element]);
        }
    }
}
