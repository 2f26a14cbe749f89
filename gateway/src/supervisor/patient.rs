//! Connections that outlive their listener for a while.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pingora::server::ShutdownWatch;
use tokio::sync::watch;

use crate::listening::{Accepted, Handler};

/// How far the process has come with taking leave of its clients. Clones share it.
#[derive(Debug, Clone)]
pub struct Farewell {
    step: watch::Sender<Leave>,
    /// The same for those who ask often: no lock.
    leaving: Arc<AtomicBool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Leave {
    No,
    /// No new connection is accepted. Answers should ask for the end of theirs.
    Leaving,
    /// Idle connections are closed.
    Said,
}

impl Default for Farewell {
    fn default() -> Self {
        Self { step: watch::Sender::new(Leave::No), leaving: Arc::default() }
    }
}

impl Farewell {
    /// Whether an answer should say `Connection: close`: the client's next request belongs to
    /// another process. Cheap enough for every request.
    pub fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Relaxed)
    }

    pub(super) fn leave(&self) {
        self.go_on_to(Leave::Leaving);
    }

    pub(super) fn say(&self) {
        self.go_on_to(Leave::Said);
    }

    /// Never back: a signal may say the farewell before the drain comes to leaving.
    fn go_on_to(&self, step: Leave) {
        self.leaving.store(true, Ordering::Relaxed);
        self.step.send_if_modified(|leave| {
            let further = step > *leave;
            *leave = step.max(*leave);
            further
        });
    }

    /// Returns when connections that wait for a request are to be closed.
    pub async fn said(&self) {
        // The sender is ours, so it cannot be gone.
        let _ = self.step.subscribe().wait_for(|leave| *leave == Leave::Said).await;
    }
}

/// A handler whose idle connections stay until the farewell is said.
///
/// Its `cleanup` drops them. Called when the last accept loop has ended, it would lose a request
/// that is on its way then. Left alone, a connection gets its next request answered with
/// `Connection: close` (`HttpProxy` looks at the shutdown watch when it has read a head), and its
/// client opens the next one to whoever listens.
pub struct Patient<A> {
    inner: Arc<A>,
    farewell: Farewell,
}

impl<A> Patient<A> {
    pub fn new(inner: A, farewell: Farewell) -> Self {
        Self { inner: Arc::new(inner), farewell }
    }
}

impl<A: Handler> Handler for Patient<A> {
    fn serve(
        self: Arc<Self>,
        connection: Accepted,
        shutdown: ShutdownWatch,
    ) -> impl Future<Output = ()> + Send {
        Arc::clone(&self.inner).serve(connection, shutdown)
    }

    async fn cleanup(&self) {
        self.farewell.said().await;
        self.inner.cleanup().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_farewell_said_early_stays_said() {
        let farewell = Farewell::default();
        assert!(!farewell.is_leaving());
        farewell.say();
        farewell.leave();
        assert!(farewell.is_leaving());
        farewell.said().await;
    }
}
