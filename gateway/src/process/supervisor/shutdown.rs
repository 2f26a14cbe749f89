//! Connections that outlive their listener for a while.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pingora::server::ShutdownWatch;
use tokio::sync::watch;

use crate::process::listening::{Accepted, Handler};

/// How far the shutdown has come. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    /// No new connection is accepted. Answers should ask for the end of theirs. Every request asks,
    /// and a token takes a lock to tell.
    leaving: Arc<AtomicBool>,
    /// Idle connections are closed. Each wait for a request looks, and a look at a token takes a
    /// lock that all connections share.
    closes_idle: watch::Sender<bool>,
}

impl Shutdown {
    /// Whether an answer should say `Connection: close`: the client's next request belongs to
    /// another process. Cheap enough for every request.
    pub fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Relaxed)
    }

    pub(super) fn leave(&self) {
        self.leaving.store(true, Ordering::Relaxed);
    }

    /// A signal may do it before the drain comes to that.
    pub(super) fn close_idle(&self) {
        self.leave();
        self.closes_idle.send_replace(true);
    }

    /// Returns when connections that wait for a request are to be closed.
    pub async fn closes_idle(&self) {
        // An error would mean that the sender is gone, and `self` is one.
        let _ = self.closes_idle.subscribe().wait_for(|closes| *closes).await;
    }
}

/// A handler whose idle connections stay until the shutdown closes them.
///
/// Its `cleanup` drops them. Called when the last accept loop has ended, it would lose a request
/// that is on its way then. Left alone, a connection gets its next request answered with
/// `Connection: close` (`HttpProxy` looks at the shutdown watch when it has read a head), and its
/// client opens the next one to whoever listens.
pub struct DrainingService<A> {
    inner: Arc<A>,
    shutdown_state: Shutdown,
}

impl<A> DrainingService<A> {
    pub fn new(inner: A, shutdown_state: Shutdown) -> Self {
        Self { inner: Arc::new(inner), shutdown_state }
    }
}

impl<A: Handler> Handler for DrainingService<A> {
    fn serve(
        self: Arc<Self>,
        connection: Accepted,
        shutdown: ShutdownWatch,
    ) -> impl Future<Output = ()> + Send {
        Arc::clone(&self.inner).serve(connection, shutdown)
    }

    async fn cleanup(&self) {
        self.shutdown_state.closes_idle().await;
        self.inner.cleanup().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_shutdown_never_goes_back_a_step() {
        let shutdown_state = Shutdown::default();
        assert!(!shutdown_state.is_leaving());
        shutdown_state.close_idle();
        shutdown_state.leave();
        assert!(shutdown_state.is_leaving());
        shutdown_state.closes_idle().await;
    }
}
