//! For which host a request is, and whether that is ours.

use gateway_core::farm::BackendId;
use gateway_core::fault::Fault;
use gateway_core::protocol::head::RequestHead;
use gateway_core::protocol::host::Host;
use gateway_core::protocol::{Fields, SessionId, headers};
use gateway_core::routing::Lookup;
use gateway_core::routing::ownership::visible_to;

use super::forwarding::Forwarding;
use super::{Exchange, Gateway};

/// The host that counts for host ids and for `http.hosts`. It is never what a backend is told.
fn host<'h>(head: &'h RequestHead, exchange: &Exchange) -> Result<Option<Host<'h>>, Fault> {
    let forwarding = Forwarding::of(&exchange.arrival.farm.config.http);
    let named = forwarding.host(exchange.arrival.conn.as_deref(), head).map_err(|unclear| {
        tracing::debug!(error = %unclear, "a request of a trusted proxy is refused");
        Fault::BadRequest
    })?;
    Ok(named.and_then(Host::parse))
}

impl Gateway {
    /// The backend that the host of a request stands for, if the request is for us.
    pub(super) fn alias_of(
        &self,
        head: &RequestHead,
        exchange: &Exchange,
    ) -> Result<Option<BackendId>, Fault> {
        let farm = &exchange.arrival.farm;
        match host(head, exchange)? {
            Some(host) if farm.accepts(&host) || self.goes_on(head, &host, exchange) => {
                Ok(farm.view.alias(&host))
            }
            // The check of an old balancer names no host.
            None if farm.accepts_any() && !exchange.arrival.is_packet => Ok(None),
            Some(host) => {
                self.reporter.note_unknown_host(host.as_str());
                Err(Fault::UnknownHost)
            }
            None => Err(Fault::BadRequest),
        }
    }

    /// Whether the request is of a session that is under way, under a name that was ours when it
    /// began: any that was configured since, or that of a backend of which nothing is known any
    /// more.
    fn goes_on(&self, head: &RequestHead, host: &Host<'_>, exchange: &Exchange) -> bool {
        let farm = &exchange.arrival.farm;
        let id = head.text(&headers::SESSION_ID);
        let id = id.and_then(SessionId::parse);
        let found =
            id.map(|id| visible_to(&exchange.arrival.asker(), self.sessions.find(Some(id.key()))));
        let Some(Lookup::Pinned(pin)) = found else { return false };
        farm.accepted_before(host) || farm.view.backend(pin.backend).is_none()
    }
}
