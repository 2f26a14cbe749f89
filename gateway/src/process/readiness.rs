//! Where a process is in its life, as `/readyz`, balancers and clients are told.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// Whether this process should be given work. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Readiness(Arc<AtomicU8>);

/// Life goes through these in order and never back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Not every listener accepts yet.
    Starting,
    Ready,
    /// Finishes what it has, takes nothing new.
    Draining,
}

impl Readiness {
    /// Every listener accepts. Says nothing any more once [`Self::drain`] was called.
    pub fn ready(&self) {
        self.0.fetch_max(Phase::Ready as u8, Ordering::Release);
    }

    pub fn drain(&self) {
        self.0.fetch_max(Phase::Draining as u8, Ordering::Release);
    }

    pub fn phase(&self) -> Phase {
        match self.0.load(Ordering::Acquire) {
            0 => Phase::Starting,
            1 => Phase::Ready,
            _ => Phase::Draining,
        }
    }
}
