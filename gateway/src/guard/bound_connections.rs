//! Connections to backends that belong to one client of a client connection.
//!
//! Some logins count for a connection, so whoever sends the next request over it is taken for the
//! one who logged in. Such a connection serves one client of one client connection and ends with
//! that.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll};

use gateway_core::farm::BackendId;
use gateway_core::protocol::speaker::Speaker;
use parking_lot::Mutex;
use tokio::sync::OwnedSemaphorePermit;

use crate::telemetry::metrics::Gauged;

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// More logins than this that ended half-way are not remembered of one client connection.
const LOST_MOST: usize = 32;

/// What the clients of one client connection own at the backends.
#[derive(Default)]
pub struct ClientBonds(Mutex<Vec<Arc<BoundConnections>>>);

impl ClientBonds {
    pub fn of(&self, speaker: Speaker) -> Option<Arc<BoundConnections>> {
        self.0.lock().iter().find(|bound_connections| bound_connections.speaker == speaker).cloned()
    }

    pub fn bind(&self, speaker: Speaker) -> Arc<BoundConnections> {
        let mut all = self.0.lock();
        if let Some(bound_connections) =
            all.iter().find(|bound_connections| bound_connections.speaker == speaker)
        {
            return Arc::clone(bound_connections);
        }
        // Those of clients whose login never got a connection.
        all.retain(|bound_connections| {
            bound_connections.is_lost() || !bound_connections.owned.lock().is_empty()
        });
        let bound_connections = Arc::new(BoundConnections::new(speaker));
        all.push(Arc::clone(&bound_connections));
        bound_connections
    }

    /// A connection of this one has ended, and so has what its client was logged in to. False if
    /// the client connection is to end with it.
    pub fn lost(&self, lost: &Arc<BoundConnections>) -> bool {
        let mut all = self.0.lock();
        let Some(at) =
            all.iter().position(|bound_connections| Arc::ptr_eq(bound_connections, lost))
        else {
            return true;
        };
        if !matches!(lost.speaker, Speaker::Named(..)) {
            return false;
        }
        // A proxy goes on with the requests of its other clients.
        if lost.pending().is_none() {
            all.swap_remove(at);
            return true;
        }
        // The rest of the login must not begin a new one.
        lost.lost.store(true, Ordering::Release);
        lost.end();
        all.iter().filter(|bound_connections| bound_connections.is_lost()).count() < LOST_MOST
    }

    /// Ready with the first of them of which a connection has ended.
    pub fn poll_ended(&self, cx: &mut Context<'_>) -> Poll<Arc<BoundConnections>> {
        let all = self.0.lock();
        let ended = all.iter().find(|bound_connections| {
            !bound_connections.is_lost() && bound_connections.poll_ended(cx).is_ready()
        });
        ended.map_or(Poll::Pending, |bound_connections| Poll::Ready(Arc::clone(bound_connections)))
    }

    /// Closes the connections of all others. To be called when none of them has a request.
    pub fn keep(&self, these: impl Fn(Speaker) -> bool) {
        let ended: Vec<_> = self
            .0
            .lock()
            .extract_if(.., |bound_connections| !these(bound_connections.speaker))
            .collect();
        // Out of the list by now, so that none of them is taken for lost.
        ended.iter().for_each(|bound_connections| bound_connections.end());
    }

    /// Closes them all. To be called when no request can follow.
    pub fn end(&self) {
        self.keep(|_| false);
    }
}

/// What one client owns at the backends.
pub struct BoundConnections {
    pub speaker: Speaker,
    /// Unique for the life of the process.
    pub id: u64,
    owned: Mutex<Vec<Owned>>,
    /// Backend of a login that has begun and has not ended, plus one; 0 for none.
    pending: AtomicU32,
    /// Backend last used, plus one; 0 for none.
    backend: AtomicU32,
    /// Its login ended half-way.
    lost: AtomicBool,
}

/// A connection to a backend between two requests of its client. Dropped, it is closed.
pub trait Held: Any + Send {
    /// Ready once the backend has ended it, or has said something that nobody asked for.
    fn poll_ended(&mut self, cx: &mut Context<'_>) -> Poll<()>;
}

struct Owned {
    backend: BackendId,
    /// It, while no request is on it.
    held: Option<Box<dyn Held>>,
    _counted: Gauged,
    _permit: OwnedSemaphorePermit,
}

impl BoundConnections {
    fn new(speaker: Speaker) -> Self {
        Self {
            speaker,
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            owned: Mutex::default(),
            pending: AtomicU32::new(0),
            backend: AtomicU32::new(0),
            lost: AtomicBool::new(false),
        }
    }

    /// Whether there is, or was, a connection to that backend. There is never a second one: whom
    /// the backend took the client for on the first would be forgotten in silence.
    pub fn has(&self, backend: BackendId) -> bool {
        self.owned.lock().iter().any(|owned| owned.backend == backend)
    }

    /// Takes a new connection over. False if there was one before.
    pub fn take(&self, backend: BackendId, permit: OwnedSemaphorePermit, counted: Gauged) -> bool {
        let mut all = self.owned.lock();
        if all.iter().any(|owned| owned.backend == backend) {
            return false;
        }
        all.push(Owned { backend, held: None, _counted: counted, _permit: permit });
        true
    }

    /// The connection to that backend, for a request. `None` while a request is on it, and once it has
    /// ended.
    pub fn take_held(&self, backend: BackendId) -> Option<Box<dyn Held>> {
        let mut all = self.owned.lock();
        all.iter_mut().find(|owned| owned.backend == backend)?.held.take()
    }

    /// Keeps it for the next request of its client; closes it if the client has gone.
    pub fn hold(&self, backend: BackendId, held: Box<dyn Held>) {
        let mut all = self.owned.lock();
        if let Some(owned) = all.iter_mut().find(|owned| owned.backend == backend) {
            owned.held = Some(held);
        }
    }

    /// Ready once a connection that is held has ended.
    fn poll_ended(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut all = self.owned.lock();
        let mut held = all.iter_mut().filter_map(|owned| owned.held.as_mut());
        match held.any(|held| held.poll_ended(cx).is_ready()) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }

    fn end(&self) {
        self.owned.lock().clear();
    }

    pub fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }

    /// The backend at which a login is under way.
    pub fn pending(&self) -> Option<BackendId> {
        backend_of(&self.pending)
    }

    pub fn set_pending(&self, backend: Option<BackendId>) {
        self.pending.store(backend.map_or(0, |backend| backend.0 + 1), Ordering::Relaxed);
    }

    /// The backend that this client used last.
    pub fn backend(&self) -> Option<BackendId> {
        backend_of(&self.backend)
    }

    pub fn used_backend(&self, backend: BackendId) {
        self.backend.store(backend.0 + 1, Ordering::Relaxed);
    }
}

fn backend_of(number: &AtomicU32) -> Option<BackendId> {
    number.load(Ordering::Relaxed).checked_sub(1).map(BackendId)
}
