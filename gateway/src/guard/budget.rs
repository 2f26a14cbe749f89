//! How much of request bodies the gateway holds in memory, over all connections.
//!
//! Pingora reads ahead of a server: some pieces of a body wait between its two halves. That is
//! fine for one server that pauses, and too much where thousands of bodies do. So every piece
//! counts against one budget from the moment it is read until its server has taken it. While there
//! is room, bodies are read as fast as they come. Above it, a body is read no faster than its server
//! takes it: [`ALLOTMENT`] bytes, and the next when those have gone.
//!
//! So nobody waits for another body: what a body waits for is its own server.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

use super::conn::Conn;

/// What each body may hold, whatever the others do.
pub const ALLOTMENT: usize = 4 * 1024;

/// Bytes of bodies in memory, and how many there may be.
#[derive(Debug)]
pub struct Budget {
    used: AtomicUsize,
    limit: AtomicUsize,
}

impl Default for Budget {
    /// Without a limit.
    fn default() -> Self {
        Self { used: AtomicUsize::new(0), limit: AtomicUsize::new(usize::MAX) }
    }
}

impl Budget {
    /// Counts for what is read from now on.
    pub fn set_limit(&self, bytes: usize) {
        self.limit.store(bytes, Ordering::Relaxed);
    }

    /// Bytes that are in memory now.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    pub fn is_spent(&self) -> bool {
        self.used() >= self.limit.load(Ordering::Relaxed)
    }

    /// Counts so many bytes until the result is dropped.
    pub fn hold(self: &Arc<Self>, bytes: usize) -> Held {
        self.used.fetch_add(bytes, Ordering::Relaxed);
        Held { budget: Arc::clone(self), bytes }
    }
}

/// Bytes that count against the budget.
#[derive(Debug)]
pub struct Held {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A piece of a body on its way to the server.
struct Piece {
    bytes: Bytes,
    conn: Arc<Conn>,
    _held: Held,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.conn.piece_gone();
    }
}

/// The same piece, which counts until the last handle on it is dropped. Nothing is copied.
pub fn counted(bytes: Bytes, conn: &Arc<Conn>) -> Bytes {
    if bytes.is_empty() {
        return bytes;
    }
    let _held = conn.budget().hold(bytes.len());
    conn.piece_read();
    Bytes::from_owner(Piece { bytes, conn: Arc::clone(conn), _held })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_counts_until_it_is_dropped() {
        let budget = Arc::new(Budget::default());
        budget.set_limit(100);
        let first = budget.hold(60);
        assert!(!budget.is_spent());
        let second = budget.hold(40);
        assert!(budget.is_spent());
        drop(first);
        assert_eq!((budget.used(), budget.is_spent()), (40, false));
        budget.set_limit(10);
        assert!(budget.is_spent(), "a limit that was lowered counts at once");
        drop(second);
        assert_eq!((budget.used(), budget.is_spent()), (0, false));
    }
}
