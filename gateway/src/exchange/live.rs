//! What is shown of an upload while a packet of it is here.

use gateway_core::farm::BackendId;
use gateway_core::protocol::head::RequestHead;
use gateway_core::protocol::{PacketType, SessionKey, headers};
use gateway_core::session::live::Wait;

use super::Exchange;
use crate::sessions::Sessions;
use crate::sessions::live_uploads::{LiveRequest, Packet};

/// The packet has the turn of a pinned session, or has opened one.
pub(super) fn show(
    sessions: &Sessions,
    head: &RequestHead,
    kind: PacketType,
    key: &SessionKey,
    backend: BackendId,
    exchange: &Exchange,
) -> Option<LiveRequest> {
    let packet = Packet {
        kind,
        range: exchange.admitted.range(),
        path: head.path(),
        user_agent: head.first(&headers::USER_AGENT),
        client: exchange.arrival.client,
        backend,
        arrived: exchange.arrival.started,
    };
    sessions.show_live(key, &packet, || exchange.arrival.counted_client())
}

impl Exchange {
    /// The packet waits for that now.
    pub(super) fn waits_for(&self, wait: Wait) {
        if let Some(live) = &self.admitted.live {
            live.waits_for(wait);
        }
    }
}
