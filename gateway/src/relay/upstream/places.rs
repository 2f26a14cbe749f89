//! A ceiling for the connections to each server, over all threads.
//!
//! Every connection has a place, from before it is made until after it is closed. Where all places of
//! a server are taken, requests wait in one queue for all threads. A connection that becomes free is
//! handed to a request of its own thread, since it is registered with the runtime of that. Where a
//! request of another thread has waited for much longer, the connection is closed, and its place
//! passes on.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use gateway_core::farm::BackendId;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::connection::IdleConnection;
use super::servers::Servers;
use crate::base::by_id::ById;

/// A request of another thread gets the place of a free connection if it has waited so much longer.
/// A new connection costs its server more than a packet does, so this is not done for a moment.
const FAIR: Duration = Duration::from_millis(250);

/// Which thread; see [`super::pool::Pool`].
pub type ThreadNumber = u64;

/// The places of all servers.
#[derive(Debug, Default)]
pub struct Places {
    /// For each server. 0 is no ceiling.
    ceiling: AtomicUsize,
    servers: ById<Server>,
}

#[derive(Debug, Default)]
struct Server {
    /// The length of the queue.
    waiting: AtomicUsize,
    state: Mutex<State>,
}

/// While somebody waits, as many places are taken as there are.
#[derive(Debug, Default)]
struct State {
    taken: usize,
    /// The oldest first.
    queue: VecDeque<Waiter>,
    tickets: u64,
}

#[derive(Debug)]
struct Waiter {
    ticket: u64,
    thread: ThreadNumber,
    since: Instant,
    grant: oneshot::Sender<Granted>,
}

/// What somebody who waited gets.
#[derive(Debug)]
pub enum Granted {
    Place(Place),
    /// With its place.
    Connection(IdleConnection),
}

impl Granted {
    /// The place alone.
    pub fn into_place(self) -> Place {
        match self {
            Self::Place(place) => place,
            Self::Connection(idle) => idle.into_place(),
        }
    }
}

/// The place of one connection.
#[must_use = "dropping it says that the connection is closed"]
#[derive(Debug)]
pub struct Place {
    servers: Arc<Servers>,
    backend: BackendId,
}

/// A request in the queue. Dropped, it has left it.
#[derive(Debug)]
pub struct Waiting {
    servers: Arc<Servers>,
    backend: BackendId,
    ticket: u64,
    granted: oneshot::Receiver<Granted>,
}

impl Places {
    /// Sets how many connections each server may have; 0 is no ceiling. Those over a lower one stay
    /// until they are closed.
    pub fn set_ceiling(&self, ceiling: usize, servers: &Arc<Servers>) {
        self.ceiling.store(ceiling, Ordering::Relaxed);
        for (backend, server) in self.servers.iter() {
            loop {
                let waiter = server.state.lock().next(ceiling, server);
                let Some(waiter) = waiter else { break };
                waiter.give(Granted::Place(Place::of(servers, backend)));
            }
        }
    }

    /// A place for a new connection, or one in the queue for it.
    pub fn request(
        &self,
        servers: &Arc<Servers>,
        backend: BackendId,
        thread: ThreadNumber,
        now: Instant,
    ) -> Result<Place, Waiting> {
        let server = self.servers.at(backend);
        let mut state = server.state.lock();
        if state.has_room(self.ceiling.load(Ordering::Relaxed)) {
            state.taken += 1;
            return Ok(Place::of(servers, backend));
        }
        let (grant, granted) = oneshot::channel();
        let ticket = state.tickets;
        state.tickets += 1;
        state.queue.push_back(Waiter { ticket, thread, since: now, grant });
        server.waiting.store(state.queue.len(), Ordering::Relaxed);
        Err(Waiting { servers: Arc::clone(servers), backend, ticket, granted })
    }

    pub fn has_ceiling(&self) -> bool {
        self.ceiling.load(Ordering::Relaxed) != 0
    }

    /// Whether somebody waits for a connection to this server.
    pub fn is_wanted(&self, backend: BackendId) -> bool {
        self.servers.get(backend).is_some_and(|server| server.waiting.load(Ordering::Relaxed) > 0)
    }

    /// Connections to this server that are open or are being made.
    pub fn taken(&self, backend: BackendId) -> usize {
        self.servers.get(backend).map_or(0, |server| server.state.lock().taken)
    }

    /// Gives a free connection of `thread` to who waits for one, or closes it for them. Returns it
    /// if nobody waits.
    pub fn hand_over(&self, idle: IdleConnection, thread: ThreadNumber) -> Option<IdleConnection> {
        let backend = idle.endpoint().backend;
        if !self.is_wanted(backend) {
            return Some(idle);
        }
        let server = self.servers.at(backend);
        let mut state = server.state.lock();
        let queue = state.queue.iter().map(|waiter| (waiter.thread, waiter.since));
        let own = choose(queue, thread).and_then(|at| state.remove(at, server));
        // What is dropped below takes this lock.
        drop(state);
        // Without one, the connection is closed, and its place passes on to the oldest.
        if let Some(waiter) = own {
            waiter.give(Granted::Connection(idle));
        }
        None
    }

    /// A connection is closed.
    fn release(&self, servers: &Arc<Servers>, backend: BackendId) {
        let server = self.servers.at(backend);
        let mut state = server.state.lock();
        state.taken -= 1;
        let waiter = state.next(self.ceiling.load(Ordering::Relaxed), server);
        drop(state);
        if let Some(waiter) = waiter {
            waiter.give(Granted::Place(Place::of(servers, backend)));
        }
    }
}

impl State {
    fn has_room(&self, ceiling: usize) -> bool {
        ceiling == 0 || self.taken < ceiling
    }

    /// Takes a place for who has waited longest.
    fn next(&mut self, ceiling: usize, server: &Server) -> Option<Waiter> {
        let waiter = if self.has_room(ceiling) { self.remove(0, server) } else { None };
        self.taken += usize::from(waiter.is_some());
        waiter
    }

    fn remove(&mut self, at: usize, server: &Server) -> Option<Waiter> {
        let waiter = self.queue.remove(at);
        server.waiting.store(self.queue.len(), Ordering::Relaxed);
        waiter
    }
}

impl Waiter {
    /// Who has left the queue meanwhile drops what was sent, and that passes it on.
    fn give(self, granted: Granted) {
        let _ = self.grant.send(granted);
    }
}

/// Who of the queue gets a free connection of a thread, if it is not closed for one of another thread.
/// The oldest is the first of the queue.
fn choose(
    queue: impl Iterator<Item = (ThreadNumber, Instant)>,
    thread: ThreadNumber,
) -> Option<usize> {
    let mut queue = queue.enumerate().peekable();
    let (_, (_, oldest)) = *queue.peek()?;
    let (at, (_, since)) = queue.find(|(_, (other, _))| *other == thread)?;
    (since.saturating_duration_since(oldest) <= FAIR).then_some(at)
}

impl Place {
    fn of(servers: &Arc<Servers>, backend: BackendId) -> Self {
        Self { servers: Arc::clone(servers), backend }
    }

    pub fn servers(&self) -> &Servers {
        &self.servers
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.servers.places.release(&self.servers, self.backend);
    }
}

impl Waiting {
    /// `None` if the deadline is over first.
    pub async fn until(mut self, deadline: Instant) -> Option<Granted> {
        // The other end is in the queue for as long as this one is.
        timeout_at(deadline, &mut self.granted).await.ok()?.ok()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let server = self.servers.places.servers.at(self.backend);
        let mut state = server.state.lock();
        let at = state.queue.iter().position(|waiter| waiter.ticket == self.ticket);
        let left = at.and_then(|at| state.remove(at, server));
        drop(state);
        drop(left);
    }
}

#[cfg(test)]
#[path = "places_tests.rs"]
mod tests;
