//! What all threads know of the servers and of the connections to them.

use std::sync::{Arc, Weak};

use gateway_core::farm::BackendId;
use parking_lot::Mutex;

use super::lives::IdleLives;
use super::places::Places;
use super::pool::Pool;
use crate::pool::OpenConnections;

/// Shared by the threads that carry packets.
#[derive(Debug)]
pub struct Servers {
    pub(super) lives: IdleLives,
    pub(super) places: Places,
    pub(super) open: &'static OpenConnections,
    pools: Mutex<Vec<Weak<Pool>>>,
}

/// Connections to one server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connections {
    /// They carry a packet, are being made, or were used a moment ago.
    pub used: usize,
    /// They wait for a packet of any client.
    pub idle: usize,
}

impl Servers {
    /// `open` counts the connections of the process that are nobody's own.
    pub fn new(open: &'static OpenConnections) -> Arc<Self> {
        let (lives, places) = (IdleLives::default(), Places::default());
        Arc::new(Self { lives, places, open, pools: Mutex::default() })
    }

    /// Sets how many connections each server may have, over all threads; 0 is no ceiling. Those over
    /// a lower one stay until they are closed.
    pub fn set_ceiling(self: &Arc<Self>, ceiling: usize) {
        self.places.set_ceiling(ceiling, self);
    }

    pub fn connections(&self, backend: BackendId) -> Connections {
        // In this order, or one that becomes idle meanwhile would be missing.
        let open = self.places.taken(backend);
        let idle = self.all().iter().map(|pool| pool.idle(backend)).sum();
        Connections { used: open.saturating_sub(idle), idle }
    }

    pub(super) fn add(&self, pool: &Arc<Pool>) {
        self.pools.lock().push(Arc::downgrade(pool));
    }

    /// Closes an idle connection to this server, of any thread, if there is one.
    pub(super) fn make_room(&self, backend: BackendId) {
        // Found first and closed afterwards: closing one may need the list.
        let oldest = self.all().iter().find_map(|pool| pool.remove_oldest(backend));
        drop(oldest);
    }

    fn all(&self) -> Vec<Arc<Pool>> {
        let mut pools = self.pools.lock();
        pools.retain(|pool| pool.strong_count() > 0);
        pools.iter().filter_map(Weak::upgrade).collect()
    }
}
