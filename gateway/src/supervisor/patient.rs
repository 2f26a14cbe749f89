//! Connections that outlive their listener for a while.

use std::sync::Arc;

use async_trait::async_trait;
use pingora::apps::ServerApp;
use pingora::protocols::Stream;
use pingora::server::ShutdownWatch;
use tokio::sync::watch;

/// The moment from which idle connections are closed; see [`Patient`]. Clones share it.
#[derive(Debug, Clone)]
pub struct Farewell(watch::Sender<bool>);

impl Default for Farewell {
    fn default() -> Self {
        Self(watch::Sender::new(false))
    }
}

impl Farewell {
    pub(super) fn say(&self) {
        self.0.send_replace(true);
    }

    pub(super) async fn said(&self) {
        // The sender is ours, so it cannot be gone.
        let _ = self.0.subscribe().wait_for(|said| *said).await;
    }
}

/// A server application whose idle connections stay until the farewell is said.
///
/// Pingora drops them when the last accept loop has ended, and a request that is on its way then
/// is lost. Left alone, a connection gets its next request answered with `Connection: close`
/// (`HttpProxy` looks at the shutdown watch when it has read a head), and its client opens the next
/// one to whoever listens.
pub struct Patient<A> {
    inner: Arc<A>,
    farewell: Farewell,
}

impl<A> Patient<A> {
    pub fn new(inner: A, farewell: Farewell) -> Self {
        Self { inner: Arc::new(inner), farewell }
    }
}

#[async_trait]
impl<A: ServerApp + Send + Sync + 'static> ServerApp for Patient<A> {
    async fn process_new(
        self: &Arc<Self>,
        stream: Stream,
        shutdown: &ShutdownWatch,
    ) -> Option<Stream> {
        self.inner.process_new(stream, shutdown).await
    }

    async fn cleanup(&self) {
        self.farewell.said().await;
        self.inner.cleanup().await;
    }
}
