//! Believing proxies that tell of the client, and what the backends are told of it: see
//! [`gateway_core::protocol::passage`].

use std::net::IpAddr;

use gateway_core::protocol::client::{ForwardingHeader, Walk, walk};
use gateway_core::protocol::fields::text;
use gateway_core::protocol::forwarded_host::{self, Unclear};
use gateway_core::protocol::head::RequestHead;
use gateway_core::protocol::network::Network;
use gateway_core::protocol::passage::{self, Edit, Onward, Sender};
use gateway_core::protocol::speaker::{Peer, Speaker, speaker};
use gateway_core::protocol::{Fields, headers};
use http::{HeaderName, HeaderValue};

use crate::config::{ForwardedMode, Http};
use crate::guard::Conn;

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
    pub fn client(&self, conn: &Conn, head: &RequestHead) -> (Option<IpAddr>, Speaker) {
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

    fn walk(&self, peer: IpAddr, head: &RequestHead) -> Walk {
        let (name, header) = match self.mode {
            ForwardedMode::Forwarded => (&headers::FORWARDED, ForwardingHeader::Forwarded),
            _ => (&headers::FORWARDED_FOR, ForwardingHeader::XForwardedFor),
        };
        walk(peer, head.values(name), header, |address| self.trusts(address))
    }

    /// The host that counts for host ids and for `http.hosts`, with its port: that of `Host`, or
    /// the one that a trusted proxy names where that is configured.
    ///
    /// # Errors
    /// The proxy does not name one host.
    pub fn host<'h>(
        &self,
        conn: Option<&Conn>,
        head: &'h RequestHead,
    ) -> std::result::Result<Option<&'h [u8]>, Unclear> {
        let said = || head.first(&headers::HOST);
        let peer = conn.and_then(|conn| conn.client).filter(|_| self.host_counts);
        if peer.is_none_or(|peer| !self.trusts(peer.ip())) {
            return Ok(said());
        }
        let (hosts, elements) = (&headers::FORWARDED_HOST, &headers::FORWARDED);
        let named = forwarded_host::named(head.values(hosts), head.values(elements))?;
        Ok(named.map(str::as_bytes).or_else(said))
    }

    /// The scheme of the client's URL: what a trusted proxy says of it counts.
    pub fn scheme(&self, conn: &Conn, head: &RequestHead) -> &'static str {
        let said = conn.client.filter(|peer| self.trusts(peer.ip())).and_then(|_| {
            let proto = text(head.values(&headers::FORWARDED_PROTO).last()?)?;
            let last = proto.rsplit(',').next()?.trim();
            ["http", "https"].into_iter().find(|scheme| last.eq_ignore_ascii_case(scheme))
        });
        said.unwrap_or(conn.scheme())
    }

    /// Who sends a request, for its backend.
    pub fn sender<'c>(&self, conn: &'c Conn) -> Sender<'c> {
        let address = conn.client.map(|client| client.ip());
        Sender {
            address,
            address_value: conn.forwarded_for.as_ref(),
            trusted: address.is_some_and(|address| self.trusts(address)),
            port: conn.port.as_ref(),
            scheme: conn.scheme(),
        }
    }
}

/// What a request of the gateway's own says of the client in whose name it is made.
pub fn told_with(
    head: &RequestHead,
    conn: Option<&Conn>,
    http: &Http,
) -> Vec<(HeaderName, HeaderValue)> {
    let forwarding = Forwarding::of(http);
    let onward = Onward {
        forwarded: http.forwarded,
        sender: conn.map(|conn| forwarding.sender(conn)),
        host: None,
        loop_entry: None,
        via: None,
        session: None,
        length: None,
        own_id: false,
    };
    let edits = passage::request(head, onward).into_iter();
    let told = edits.filter_map(|edit| match edit {
        Edit::Set(field, value) => Some((field.name.clone(), value)),
        Edit::Drop(_) | Edit::Append(..) => None,
    });
    told.collect()
}

#[cfg(test)]
#[path = "forwarding_tests.rs"]
mod tests;
