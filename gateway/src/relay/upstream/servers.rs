//! What all threads know of the servers and of the connections to them.

use std::sync::{Arc, Weak};

use gateway_core::farm::BackendId;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::lives::IdleLives;
use super::places::{Granted, Place, Places, ThreadNumber};
use super::pool::Pool;
use crate::base::clock;
use crate::farm::pool::OpenConnections;

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

    /// Whether a server may have no more than some connections.
    pub fn has_ceiling(&self) -> bool {
        self.places.has_ceiling()
    }

    /// A place for a connection of another carrier, which has no pool here. `None` if none became free
    /// in time.
    pub async fn place_elsewhere(
        self: &Arc<Self>,
        backend: BackendId,
        deadline: Instant,
    ) -> Option<Place> {
        Some(self.place(backend, ThreadNumber::MAX, deadline).await?.into_place())
    }

    /// A place for a request of `thread`, or a connection that has become free there.
    pub(super) async fn place(
        self: &Arc<Self>,
        backend: BackendId,
        thread: ThreadNumber,
        deadline: Instant,
    ) -> Option<Granted> {
        let waiting = match self.places.request(self, backend, thread, clock::stopwatch()) {
            Ok(place) => return Some(Granted::Place(place)),
            Err(waiting) => waiting,
        };
        self.make_room(backend);
        waiting.until(deadline).await
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
