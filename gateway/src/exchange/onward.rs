//! What the backend of a request is sent.

use gateway_core::fault::Fault;
use gateway_core::protocol::head::RequestHead;
use gateway_core::protocol::latin1;
use gateway_core::protocol::passage::{self, Edit, Onward, Via};
use http::HeaderValue;

use super::Exchange;
use super::forwarding::Forwarding;
use super::head::host_of;
use crate::config::RequestId;
use crate::guard::Conn;

/// What the backend sees differs from what the client sent only here, and in the target, which
/// `admitted.spelling` says. `request` is the head as it would go out.
///
/// All that decides the edits has to stand in the `Cause` of `relay::previous`, which has the head of one
/// packet go again for the next.
pub fn onward(request: &RequestHead, exchange: &Exchange) -> Result<Vec<Edit>, Fault> {
    let backend = exchange.admitted.backend.ok_or(Fault::Internal)?;
    let farm = &exchange.arrival.farm;
    let forwarding = Forwarding::of(&farm.config.http);
    let host = match host_of(request) {
        Some(host) => farm.upstream_host(backend, &host),
        None => farm.authority(backend),
    };
    let session = match &exchange.admitted.backend_session {
        Some(id) => {
            let id = latin1::encode(id).and_then(|id| HeaderValue::from_bytes(&id).ok());
            Some(id.ok_or(Fault::Internal)?)
        }
        None => None,
    };
    let empty_packet = exchange.arrival.is_packet && !exchange.arrival.has_body;
    let onward = Onward {
        own_id: farm.config.http.request_id == RequestId::Own,
        forwarded: farm.config.http.forwarded,
        sender: exchange.arrival.conn.as_deref().map(|conn| forwarding.sender(conn)),
        host,
        loop_entry: farm.loop_entry(backend),
        via: farm.config.http.via.then(|| via(exchange)),
        session,
        length: exchange.admitted.length.or_else(|| empty_packet.then_some(0)),
    };
    Ok(passage::request(request, onward))
}

fn via(exchange: &Exchange) -> Via {
    let is_old = exchange.arrival.conn.as_deref().is_some_and(Conn::is_http10);
    if is_old { Via::Http10 } else { Via::Http11 }
}
