//! Telling backends of the client, and believing proxies that tell us.
//!
//! A field of this kind is an assertion. From a trusted proxy it is kept and ours is appended; from
//! anybody else it never passes, whatever is configured.

use std::fmt::Write;
use std::net::IpAddr;

use gateway_core::protocol::client::{Trail, Walk, walk};
use gateway_core::protocol::forwarded_host::{self, Unclear};
use gateway_core::protocol::host::{Host, is_port};
use gateway_core::protocol::network::Network;
use gateway_core::protocol::speaker::{Peer, Speaker, speaker};
use gateway_core::protocol::spoken;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use pingora::Result;
use pingora::http::RequestHeader;

use crate::config::{ForwardedMode, Http};
use crate::guard::Conn;

const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

pub struct Forwarding<'a> {
    mode: ForwardedMode,
    trusted: &'a [Network],
    /// Whether the host that a trusted proxy names counts.
    host_counts: bool,
}

impl<'a> Forwarding<'a> {
    pub fn of(http: &'a Http) -> Self {
        let host_counts = http.forwarded_host;
        Self { mode: http.forwarded, trusted: &http.trusted_proxies, host_counts }
    }

    pub fn trusts(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(address))
    }

    /// The client of a request, and who speaks on its connection.
    ///
    /// The client is the other end of the connection, unless that is a trusted proxy.
    pub fn client(&self, conn: &Conn, head: &HeaderMap) -> (Option<IpAddr>, Speaker) {
        let peer = conn.client.map(|client| client.ip());
        let trusted = peer.filter(|peer| !self.trusted.is_empty() && self.trusts(*peer));
        let walk = trusted.map(|peer| self.walk(peer, head));
        let shared = conn.is_shared();
        let by = walk.as_ref().map_or(Peer::Stranger { shared }, Peer::Trusted);
        let speaker = speaker(by, head);
        if speaker != Speaker::Peer {
            conn.share(trusted.is_some());
        }
        (walk.map(|walk| walk.client).or(peer), speaker)
    }

    fn walk(&self, peer: IpAddr, head: &HeaderMap) -> Walk {
        let (name, trail) = match self.mode {
            ForwardedMode::Forwarded => (header::FORWARDED, Trail::Forwarded),
            _ => (FOR, Trail::XForwardedFor),
        };
        let values = head.get_all(name).iter().map(HeaderValue::as_bytes);
        walk(peer, values, trail, |address| self.trusts(address))
    }

    /// The host that counts for host ids and for `http.hosts`, with its port: that of `Host`, or
    /// the one that a trusted proxy names where that is configured.
    ///
    /// # Errors
    /// The proxy does not name one host.
    pub fn host<'h>(
        &self,
        conn: Option<&Conn>,
        head: &'h HeaderMap,
    ) -> std::result::Result<Option<&'h str>, Unclear> {
        let said = || head.get(header::HOST)?.to_str().ok();
        let peer = conn.and_then(|conn| conn.client).filter(|_| self.host_counts);
        if peer.is_none_or(|peer| !self.trusts(peer.ip())) {
            return Ok(said());
        }
        let values = |name| head.get_all(name).iter().map(HeaderValue::as_bytes);
        let named = forwarded_host::named(values(HOST), values(header::FORWARDED))?;
        Ok(named.or_else(said))
    }

    /// The scheme of the client's URL: what a trusted proxy says of it counts.
    pub fn scheme(&self, conn: &Conn, head: &HeaderMap) -> &'static str {
        let said = conn.client.filter(|peer| self.trusts(peer.ip())).and_then(|_| {
            let proto = head.get_all(PROTO).iter().next_back()?.to_str().ok()?;
            let last = proto.rsplit(',').next()?.trim();
            ["http", "https"].into_iter().find(|scheme| last.eq_ignore_ascii_case(scheme))
        });
        said.unwrap_or(conn.scheme())
    }

    /// Replaces what the client said by what is true. To be called before Host is changed.
    pub fn write(&self, request: &mut RequestHeader, conn: Option<&Conn>) -> Result<()> {
        let peer = conn.and_then(|conn| conn.client);
        let kept = match peer {
            Some(peer) if self.trusts(peer.ip()) => Kept::of(&request.headers),
            _ => Kept::default(),
        };
        remove(request, spoken::by_proxies);
        let Some(conn) = conn else { return Ok(()) };
        use ForwardedMode as M;
        if matches!(self.mode, M::Forwarded | M::Both) {
            let element = element(conn, request.headers.get(header::HOST));
            request.insert_header("Forwarded", appended(kept.forwarded, element))?;
        }
        if matches!(self.mode, M::XForwardedFor | M::XForwarded | M::Both)
            && let Some(client) = conn.forwarded_for.clone()
        {
            request.insert_header("X-Forwarded-For", appended(kept.trail, client))?;
        }
        if matches!(self.mode, M::XForwarded | M::Both) {
            if let Some(host) = kept.host.or_else(|| request.headers.get(header::HOST).cloned()) {
                request.insert_header("X-Forwarded-Host", host)?;
            }
            if let Some(port) = kept.port.or_else(|| conn.port.clone()) {
                request.insert_header("X-Forwarded-Port", port)?;
            }
            let proto = kept.proto.unwrap_or_else(|| HeaderValue::from_static(conn.scheme()));
            request.insert_header("X-Forwarded-Proto", proto)?;
        }
        Ok(())
    }
}

/// Takes off every field whose name, in lower case, is one of `these`.
pub fn remove(request: &mut RequestHeader, these: fn(&str) -> bool) {
    // Honest requests have none, and an empty vector no memory.
    let names: Vec<HeaderName> =
        request.headers.keys().filter(|name| these(name.as_str())).cloned().collect();
    for name in &names {
        request.remove_header(name);
    }
}

/// What a request of the gateway's own says of the client in whose name it is made.
pub fn told_with(
    request: &RequestHeader,
    conn: Option<&Conn>,
    http: &Http,
) -> Result<Vec<(HeaderName, HeaderValue)>> {
    let mut told = RequestHeader::build("GET", b"/", None)?;
    for (name, value) in &request.headers {
        if *name == header::HOST || spoken::by_proxies(name.as_str()) {
            told.append_header(name.clone(), value.clone())?;
        }
    }
    Forwarding::of(http).write(&mut told, conn)?;
    told.remove_header(&header::HOST);
    Ok(told.headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect())
}

/// What a trusted proxy said.
#[derive(Default)]
struct Kept {
    forwarded: Option<HeaderValue>,
    trail: Option<HeaderValue>,
    host: Option<HeaderValue>,
    port: Option<HeaderValue>,
    proto: Option<HeaderValue>,
}

impl Kept {
    fn of(headers: &HeaderMap) -> Self {
        // A proxy may hand on what its client wrote, so what makes no sense is not kept. Some
        // append to these as to a list.
        let one = |name: HeaderName, makes_sense: fn(&str) -> bool| {
            let value = headers.get(name)?;
            let all = |text: &str| text.split(',').all(|element| makes_sense(element.trim()));
            value.to_str().is_ok_and(all).then(|| value.clone())
        };
        Self {
            forwarded: joined(headers, &header::FORWARDED).filter(ends_outside_quotes),
            trail: joined(headers, &FOR),
            host: one(HOST, |host| Host::parse(host).is_some()),
            port: one(PORT, is_port),
            proto: one(PROTO, |proto| {
                ["http", "https"].iter().any(|p| proto.eq_ignore_ascii_case(p))
            }),
        }
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
fn joined(headers: &HeaderMap, name: &HeaderName) -> Option<HeaderValue> {
    let values = headers.get_all(name).iter().cloned();
    values.reduce(|list, more| appended(Some(list), more))
}

fn appended(list: Option<HeaderValue>, element: HeaderValue) -> HeaderValue {
    let Some(list) = list.filter(|list| !list.is_empty()) else { return element };
    let bytes = [list.as_bytes(), b", ", element.as_bytes()].concat();
    // Two legal values with a comma between are one; the newer counts should that ever change.
    HeaderValue::from_bytes(&bytes).unwrap_or(element)
}

/// Our element of `Forwarded`.
fn element(conn: &Conn, host: Option<&HeaderValue>) -> HeaderValue {
    let mut text = String::from("for=");
    // Writing to a string cannot fail.
    let _ = match conn.client.map(|client| client.ip()) {
        Some(IpAddr::V4(v4)) => write!(text, "{v4}"),
        Some(IpAddr::V6(v6)) => write!(text, "\"[{v6}]\""),
        None => write!(text, "unknown"),
    };
    if let Some(host) = host.and_then(|host| host.to_str().ok()) {
        // Only what was read as a host gets here, and no host has a quote in it.
        let _ = write!(text, ";host=\"{host}\"");
    }
    let _ = write!(text, ";proto={}", conn.scheme());
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("for=unknown"))
}
