//! The connections of one thread to the servers.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use gateway_core::farm::BackendId;
use gateway_core::protocol::keep_alive::SWEEP;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

use super::connect::{Unconnected, connect};
use super::connection::{Connection, FRESH, IdleConnection, Reuse};
use super::places::{Granted, Place, ThreadNumber};
use super::servers::Servers;
use super::socket::ServerSocket;
use crate::base::clock;
use crate::farm::{Endpoint, Farm};

static NEXT: AtomicU64 = AtomicU64::new(0);

/// Gives packets their connections, and keeps those that are idle.
///
/// Its lock is taken by its own thread, and by others where a server has no place left.
pub struct Pool {
    thread: ThreadNumber,
    servers: Arc<Servers>,
    farm: Arc<ArcSwap<Farm>>,
    /// Idle connections kept at most.
    most: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// By server, the one used last at the end. None is empty.
    idle: HashMap<BackendId, VecDeque<IdleConnection>>,
    count: usize,
    /// A task looks at them once a second.
    swept: bool,
}

impl Pool {
    /// One for each thread. It keeps `most` idle connections.
    pub fn new(servers: &Arc<Servers>, farm: Arc<ArcSwap<Farm>>, most: usize) -> Arc<Self> {
        let pool = Arc::new(Self {
            thread: NEXT.fetch_add(1, Ordering::Relaxed),
            servers: Arc::clone(servers),
            farm,
            most,
            state: Mutex::default(),
        });
        servers.add(&pool);
        pool
    }

    /// A connection that is open, for one packet: the one that its client holds, or another one.
    /// `None` if a new one is to be made.
    ///
    /// `repeatable` says that the packet may go again where its connection turns out to be dead. Any
    /// other goes over a connection that was used within [`FRESH`].
    pub fn take(
        self: &Arc<Self>,
        held: Option<IdleConnection>,
        endpoint: &Endpoint,
        repeatable: bool,
        now: Instant,
    ) -> Option<Connection> {
        match held.map(|held| held.reuse(endpoint, repeatable, now)) {
            Some(Reuse::Ready(connection)) => return Some(connection),
            Some(Reuse::Unfit(idle)) => self.give_back(idle, now),
            Some(Reuse::Ended(_)) | None => {}
        }
        loop {
            let idle = self.state.lock().remove_newest(endpoint, repeatable, now);
            let Some(idle) = idle else { break };
            // Out of the lock: closing one that has ended takes time.
            if let Reuse::Ready(connection) = idle.reuse(endpoint, repeatable, now) {
                return Some(connection);
            }
        }
        if !repeatable {
            // A new one follows, and there must not be one more after each such packet.
            let replaced = self.state.lock().remove_stale(endpoint, now);
            drop(replaced);
        }
        None
    }

    /// Makes a new connection. Where all places of the server are taken, it waits for one until the
    /// deadline, and may get a connection that has become free.
    pub async fn connect(
        &self,
        endpoint: &Arc<Endpoint>,
        repeatable: bool,
        deadline: Instant,
    ) -> Result<Connection, Unconnected> {
        let place = match self.place(endpoint.backend, deadline).await? {
            Granted::Place(place) => place,
            Granted::Connection(idle) => match idle.reuse(endpoint, repeatable, clock::stopwatch())
            {
                Reuse::Ready(connection) => return Ok(connection),
                Reuse::Unfit(idle) => idle.into_place(),
                Reuse::Ended(place) => place,
            },
        };
        self.connect_in(place, endpoint).await
    }

    /// Makes a new connection, whatever becomes free meanwhile: for a request that must have one which
    /// nobody used before.
    pub async fn connect_anew(
        &self,
        endpoint: &Arc<Endpoint>,
        deadline: Instant,
    ) -> Result<Connection, Unconnected> {
        let place = self.place(endpoint.backend, deadline).await?.into_place();
        self.connect_in(place, endpoint).await
    }

    /// The same for a connection that is its client's own.
    pub async fn connect_own(
        &self,
        endpoint: &Endpoint,
        deadline: Instant,
    ) -> Result<(ServerSocket, Place), Unconnected> {
        let place = self.place(endpoint.backend, deadline).await?.into_place();
        Ok((connect(endpoint).await?, place))
    }

    async fn connect_in(
        &self,
        place: Place,
        endpoint: &Arc<Endpoint>,
    ) -> Result<Connection, Unconnected> {
        let socket = connect(endpoint).await?;
        let share = self.servers.open.count();
        Ok(Connection::new(socket, Arc::clone(endpoint), share, place))
    }

    /// Returns a connection that its client may hold for [`super::HOLD`] after a packet. `None` if
    /// another one waits for it.
    pub fn hold(self: &Arc<Self>, idle: IdleConnection, now: Instant) -> Option<IdleConnection> {
        if self.servers.places.is_wanted(idle.endpoint().backend) {
            self.give_back(idle, now);
            return None;
        }
        Some(idle)
    }

    /// Keeps a connection for whoever comes next, if it is of any use.
    pub fn give_back(self: &Arc<Self>, idle: IdleConnection, now: Instant) {
        if let Some(idle) = self.servers.places.hand_over(idle, self.thread) {
            self.keep(idle, now);
        }
    }

    pub(super) fn keep(self: &Arc<Self>, mut idle: IdleConnection, now: Instant) {
        let backend = idle.endpoint().backend;
        let useful = idle.look(self.farm.load().endpoint(backend).map(Arc::as_ref), now);
        let Some(runtime) = tokio::runtime::Handle::try_current().ok().filter(|_| useful) else {
            return;
        };
        let mut state = self.state.lock();
        state.insert(idle);
        let too_many = state.count > self.most || self.servers.open.is_full();
        let surplus = if too_many { state.remove_oldest_of_all() } else { None };
        let starts = !std::mem::replace(&mut state.swept, true);
        drop(state);
        drop(surplus);
        if starts {
            runtime.spawn(sweep(Arc::downgrade(self)));
        }
        // A request that began to wait before it was here has not found it.
        if self.servers.places.is_wanted(backend) {
            drop(self.remove_oldest(backend));
        }
    }

    /// Idle connections to this server.
    pub fn idle(&self, backend: BackendId) -> usize {
        self.state.lock().idle.get(&backend).map_or(0, VecDeque::len)
    }

    pub(super) fn remove_oldest(&self, backend: BackendId) -> Option<IdleConnection> {
        self.state.lock().remove_at(backend, 0)
    }

    async fn place(&self, backend: BackendId, deadline: Instant) -> Result<Granted, Unconnected> {
        let granted = self.servers.place(backend, self.thread, deadline).await;
        granted.ok_or(Unconnected::NoPlace)
    }

    /// Closes what is of no more use. False if nothing is left, and the task ends.
    fn look(&self, farm: &Farm, now: Instant) -> bool {
        let mut state = self.state.lock();
        let mut count = 0;
        state.idle.retain(|backend, idle| {
            let endpoint = farm.endpoint(*backend).map(Arc::as_ref);
            // What is closed here takes no lock of a pool.
            idle.retain_mut(|idle| idle.look(endpoint, now));
            count += idle.len();
            !idle.is_empty()
        });
        state.count = count;
        state.swept = count > 0;
        state.swept
    }
}

async fn sweep(pool: std::sync::Weak<Pool>) {
    loop {
        sleep(SWEEP).await;
        let Some(pool) = pool.upgrade() else { return };
        if !pool.look(&pool.farm.load(), clock::stopwatch()) {
            return;
        }
    }
}

impl State {
    fn insert(&mut self, idle: IdleConnection) {
        let all = self.idle.entry(idle.endpoint().backend).or_default();
        // Mostly at the end.
        let at = all.partition_point(|other| other.last_used() <= idle.last_used());
        all.insert(at, idle);
        self.count += 1;
    }

    /// The one used last, if it may be used. Then those used before it may not either.
    fn remove_newest(
        &mut self,
        endpoint: &Endpoint,
        repeatable: bool,
        now: Instant,
    ) -> Option<IdleConnection> {
        let all = self.idle.get(&endpoint.backend)?;
        let newest = all.iter().rposition(|idle| idle.endpoint().is_same_as(endpoint))?;
        let usable = all[newest].is_usable(endpoint, repeatable, now);
        if usable { self.remove_at(endpoint.backend, newest) } else { None }
    }

    /// The oldest, where all are too old for a packet that must not go twice.
    ///
    /// One that is not used for another reason stays: it is needed to see how long servers keep them.
    fn remove_stale(&mut self, endpoint: &Endpoint, now: Instant) -> Option<IdleConnection> {
        let newest = self.idle.get(&endpoint.backend)?.back()?;
        let stale = now.saturating_duration_since(newest.last_used()) >= FRESH;
        if stale { self.remove_at(endpoint.backend, 0) } else { None }
    }

    fn remove_at(&mut self, backend: BackendId, at: usize) -> Option<IdleConnection> {
        let all = self.idle.get_mut(&backend)?;
        let removed = all.remove(at)?;
        if all.is_empty() {
            self.idle.remove(&backend);
        }
        self.count -= 1;
        Some(removed)
    }

    fn remove_oldest_of_all(&mut self) -> Option<IdleConnection> {
        let oldest = self.idle.values().filter_map(VecDeque::front);
        let oldest = oldest.min_by_key(|idle| idle.last_used())?;
        self.remove_at(oldest.endpoint().backend, 0)
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("thread", &self.thread).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "pool_tests.rs"]
mod tests;
