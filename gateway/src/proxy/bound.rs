//! Connections to backends that belong to one client, in Pingora's pool.

use std::sync::{Arc, Weak};

use pingora::prelude::HttpPeer;
use pingora::upstreams::peer::{Tracer, Tracing};

use crate::exchange::Exchange;
use crate::guard::{Bond, Conn};

/// Tells a client connection of the end of a connection that one of its clients owns.
#[derive(Clone)]
struct Tie(Weak<Conn>, Weak<Bond>);

impl std::fmt::Debug for Tie {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Tie").finish_non_exhaustive()
    }
}

impl Tracing for Tie {
    fn on_connected(&self) {}

    fn on_disconnected(&self) {
        if let (Some(conn), Some(bond)) = (self.0.upgrade(), self.1.upgrade()) {
            conn.lost(&bond);
        }
    }

    fn boxed_clone(&self) -> Box<dyn Tracing> {
        Box::new(self.clone())
    }
}

/// Has a request go over a connection that its client owns, or makes it the client's.
pub(super) fn bind(peer: &mut HttpPeer, bond: &Arc<Bond>, exchange: &Exchange) {
    let Some(conn) = &exchange.arrival.conn else { return };
    peer.group_key = bond.key;
    peer.options.idle_timeout = Some(exchange.arrival.farm.config.timeouts.backend_idle);
    let tie = Tie(Arc::downgrade(conn), Arc::downgrade(bond));
    peer.options.tracer = Some(Tracer(Box::new(tie)));
}
