//! The life of a connection: wait for a request, have it served, wait again.
//!
//! A connection that waits holds its socket and little else. Pingora would hold the buffers and
//! the state of a whole request meanwhile, 40 KiB of it, so it gets to see a connection only once
//! there is a head to read.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;

use futures_util::future::BoxFuture;
use pingora::apps::{HttpPersistentSettings, HttpServerApp};
use pingora::protocols::Stream;
use pingora::protocols::http::ServerSession;
use pingora::server::ShutdownWatch;

use super::{Conn, GuardStream};
use crate::base::clock;
use crate::base::deadline::Deadline;
use crate::process::supervisor::Shutdown;

/// A client sends its next packet at once, or keeps us waiting for long: the head of the last one is kept
/// for so long.
const KEPT: Duration = Duration::from_secs(5);

/// Carries requests in Pingora's place.
pub trait Carrier: Send + Sync {
    /// Serves the request whose head is here; true if another may follow on the connection. `None`
    /// if Pingora is to serve it.
    fn carry<'g>(
        &'g self,
        guard: &'g mut GuardStream,
        stop: &'g ShutdownWatch,
    ) -> Option<BoxFuture<'g, bool>>;

    /// The connection has ended.
    fn ended(&self, conn: &Conn);
}

/// Tells the carrier of the end of a connection, however that comes.
struct Told(Option<Arc<dyn Carrier>>, Arc<Conn>);

impl Drop for Told {
    fn drop(&mut self) {
        if let Some(carrier) = &self.0 {
            carrier.ended(&self.1);
        }
    }
}

/// Serves the connection in a task of its own, or the one that accepted it, which has room for a
/// handshake, would stay around.
pub(super) fn spawn<A>(
    app: Arc<A>,
    guard: Box<GuardStream>,
    shutdown: ShutdownWatch,
    shutdown_state: Shutdown,
    carrier: Option<Arc<dyn Carrier>>,
) where
    A: HttpServerApp + Send + Sync + 'static,
{
    tokio::spawn(async move {
        let mut serving = pin!(serve(app, guard, shutdown, shutdown_state, carrier));
        poll_fn(|cx| clock::hold(|| serving.as_mut().poll(cx))).await;
    });
}

async fn serve<A>(
    app: Arc<A>,
    mut guard: Box<GuardStream>,
    shutdown: ShutdownWatch,
    shutdown_state: Shutdown,
    carrier: Option<Arc<dyn Carrier>>,
) where
    A: HttpServerApp + Send + Sync + 'static,
{
    let told = Told(carrier, Arc::clone(guard.conn()));
    let mut settings = None;
    let mut closes_idle = pin!(shutdown_state.closes_idle());
    let mut silence = Deadline::default();
    loop {
        let idle = guard.limits().idle;
        let mut left = idle;
        let waits = poll_fn(|cx| {
            loop {
                ready!(match guard.poll_request(cx) {
                    Poll::Ready(ready) => return Poll::Ready(ready),
                    // A head that has begun has a deadline of its own, and may outlast the time to be idle.
                    Poll::Pending if guard.is_inside_head() => Poll::Pending,
                    Poll::Pending =>
                        silence.poll(cx, || if guard.keeps_last() { left.min(KEPT) } else { left }),
                });
                if !guard.keeps_last() {
                    return Poll::Ready(false);
                }
                guard.forget_last();
                left = left.saturating_sub(KEPT);
                if left.is_zero() {
                    return Poll::Ready(false);
                }
                silence.stop();
            }
        });
        let ready = tokio::select! {
            biased;
            ready = waits => ready,
            () = &mut closes_idle => return,
        };
        if !ready {
            return;
        }
        silence.stop();
        if let Some(carried) = told.0.as_ref().and_then(|c| c.carry(&mut guard, &shutdown)) {
            // What was promised to its client: a connection that is to stay is not closed because the
            // process has begun to leave since.
            if carried.await {
                continue;
            }
            return;
        }
        let mut session = ServerSession::new_http1(guard);
        match settings.take() {
            Some(settings) => HttpPersistentSettings::apply_to_session(settings, &mut session),
            None => session.set_keepalive(Some(idle.as_secs().max(1))),
        }
        let Some(reused) = app.process_new_http(session, &shutdown).await else { return };
        let (stream, next) = reused.consume();
        let Some(same) = back(stream) else { return };
        (guard, settings) = (same, next);
    }
}

/// The stream that Pingora was given.
fn back(stream: Stream) -> Option<Box<GuardStream>> {
    stream.into_any().downcast().ok()
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use pingora::apps::ReusedHttpStream;

    use super::*;

    /// Serves nothing.
    struct Nothing;

    #[async_trait]
    impl HttpServerApp for Nothing {
        async fn process_new_http(
            self: &Arc<Self>,
            _session: ServerSession,
            _shutdown: &ShutdownWatch,
        ) -> Option<ReusedHttpStream> {
            None
        }
    }

    fn size_of_task<F: Future>(
        _: impl FnOnce(
            Arc<Nothing>,
            Box<GuardStream>,
            ShutdownWatch,
            Shutdown,
            Option<Arc<dyn Carrier>>,
        ) -> F,
    ) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_connection_that_waits_takes_little_room() {
        let task = size_of_task(serve::<Nothing>);
        let whole = task + size_of::<GuardStream>();
        assert!(
            whole <= 2 * 1024,
            "what most connections lack belongs in a box: {task}, {whole} bytes"
        );
    }
}
