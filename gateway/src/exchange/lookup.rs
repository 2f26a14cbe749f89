//! What the table says of a request's session, as its client may know of it.

use std::sync::Arc;

use gateway_core::protocol::SessionKey;
use gateway_core::routing::Lookup;
use gateway_core::routing::ownership::visible_to;

use super::Exchange;
use super::arrival::Arrival;
use crate::sessions::Sessions;

/// What is known here.
pub(super) fn find(sessions: &Sessions, key: Option<&SessionKey>, arrival: &Arrival) -> Lookup {
    visible_to(&arrival.asker(), sessions.find(key))
}

/// While two processes share the store, an id that is not here may be there.
pub(super) async fn look_up(sessions: &Arc<Sessions>, exchange: &Exchange) -> Lookup {
    let found = sessions.find(exchange.admitted.key.as_ref());
    let found = match &exchange.admitted.key {
        Some(key) if found == Lookup::Unknown && sessions.follows_others() => {
            Box::pin(sessions.find_elsewhere(key)).await
        }
        _ => found,
    };
    visible_to(&exchange.arrival.asker(), found)
}
