//! Connections to backends that belong to one client connection.
//!
//! Some logins count for a connection, so whoever sends the next request over it is taken for the
//! one who logged in. Such a connection serves one client connection and ends with it.

use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};

use gateway_core::farm::BackendId;
use parking_lot::Mutex;
use tokio::sync::OwnedSemaphorePermit;

use crate::metrics::Gauged;

/// What a client connection owns at the backends.
#[derive(Default)]
pub struct Bond {
    owned: Mutex<Vec<Owned>>,
    /// Backend of a login that has begun and has not ended, plus one; 0 for none.
    pending: AtomicU32,
}

struct Owned {
    backend: BackendId,
    /// A second handle on the socket, by which it is closed when the client leaves. Without one,
    /// for want of descriptors, it is closed when it has been idle for too long.
    socket: Option<OwnedFd>,
    _counted: Gauged,
    _permit: OwnedSemaphorePermit,
}

impl Bond {
    /// Whether there is, or was, a connection to that backend. There is never a second one: whom
    /// the backend took the client for on the first would be forgotten in silence.
    pub fn has(&self, backend: BackendId) -> bool {
        self.owned.lock().iter().any(|owned| owned.backend == backend)
    }

    /// Takes a new connection over. False if there was one before.
    pub fn take(
        &self,
        backend: BackendId,
        socket: impl AsFd,
        permit: OwnedSemaphorePermit,
        counted: Gauged,
    ) -> bool {
        let mut all = self.owned.lock();
        if all.iter().any(|owned| owned.backend == backend) {
            return false;
        }
        let socket = socket.as_fd().try_clone_to_owned().ok();
        all.push(Owned { backend, socket, _counted: counted, _permit: permit });
        true
    }

    /// Closes them all. To be called when no request can follow.
    pub fn end(&self) {
        self.owned.lock().clear();
    }

    /// The backend at which a login is under way.
    pub fn pending(&self) -> Option<BackendId> {
        self.pending.load(Ordering::Relaxed).checked_sub(1).map(BackendId)
    }

    pub fn set_pending(&self, backend: Option<BackendId>) {
        self.pending.store(backend.map_or(0, |backend| backend.0 + 1), Ordering::Relaxed);
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        if let Some(socket) = &self.socket {
            // Fails only if it is closed already. The pool notices, and drops its own handle.
            let _ = socket2::SockRef::from(socket).shutdown(Shutdown::Both);
        }
    }
}
