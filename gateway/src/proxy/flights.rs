//! One request per session at a time.
//!
//! A client waits for each Ack before it sends its next packet, so a second request of a session
//! means that the first one's connection is dead and nobody has told us yet. Let both run, and the
//! older one's late bytes reach the backend among the newer one's. So the newest request cancels
//! the one before it and goes on when that one has really ended.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dashmap::DashMap;
use gateway_core::protocol::SessionKey;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::guard::Conn;

/// A cancelled request ends at once; this is for the case that it does not.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Default)]
pub struct Flights {
    newest: DashMap<SessionKey, Arc<Flight>>,
}

#[derive(Default)]
struct Flight {
    /// Where it came from, and which request of that connection it is.
    conn: Option<(Arc<Conn>, u64)>,
    cancelled: AtomicBool,
    has_ended: AtomicBool,
    ended: Notify,
    /// The request before, while it has not ended: who waits for this one waits for it too.
    older: Mutex<Option<Arc<Flight>>>,
    /// The connection to the backend, for a body that may be stuck in it.
    upstream: Mutex<Option<OwnedFd>>,
}

/// The right to be the session's only request, until it is dropped.
pub struct Claim {
    flights: Arc<Flights>,
    key: SessionKey,
    flight: Arc<Flight>,
}

/// A newer request of the same session has come, or the older one would not end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Superseded;

impl Flights {
    /// Takes the place of the session's older request and waits for its end.
    pub async fn enter(
        self: &Arc<Self>,
        key: &SessionKey,
        conn: Option<Arc<Conn>>,
    ) -> Result<Claim, Superseded> {
        let conn = conn.map(|conn| {
            let request = conn.current_request();
            (conn, request)
        });
        let flight = Arc::new(Flight::of(conn));
        let older = self.newest.insert(key.clone(), Arc::clone(&flight));
        let claim = Claim { flights: Arc::clone(self), key: key.clone(), flight };
        if let Some(older) = older {
            older.cancel();
            *claim.flight.older.lock() = Some(Arc::clone(&older));
            // Waits even when cancelled itself: the one that comes next must not start while the
            // first still runs.
            if tokio::time::timeout(PATIENCE, claim.flight.wait()).await.is_err() {
                return Err(Superseded);
            }
        }
        if claim.is_cancelled() { Err(Superseded) } else { Ok(claim) }
    }
}

impl Flight {
    fn of(conn: Option<(Arc<Conn>, u64)>) -> Self {
        let mut flight = Self::default();
        flight.conn = conn;
        flight
    }

    fn cancel(&self) {
        self.cancelled.store(true, Ordering::Release);
        if let Some((conn, request)) = &self.conn {
            conn.kill(*request);
        }
        if let Some(upstream) = self.upstream.lock().take() {
            let socket = socket2::SockRef::from(&upstream);
            // What the kernel still holds must not arrive after the newer request: closing resets.
            // Either call fails only if the connection is gone, which is what we want.
            let _ = socket.set_linger(Some(Duration::ZERO));
            let _ = socket.shutdown(std::net::Shutdown::Both);
        }
    }

    /// Until all requests before this one have ended. Those that have are let go one by one.
    async fn wait(&self) {
        loop {
            let Some(older) = self.older.lock().clone() else { return };
            let notified = older.ended.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            if !older.has_ended.load(Ordering::Acquire) {
                notified.await;
            }
            let before = older.older.lock().clone();
            *self.older.lock() = before;
        }
    }
}

impl Drop for Flight {
    /// One link after the other: requests that gave up waiting leave a chain, and a call for each of
    /// thousands would overflow the stack.
    fn drop(&mut self) {
        let mut older = self.older.get_mut().take();
        while let Some(mut flight) = older.and_then(Arc::into_inner) {
            older = flight.older.get_mut().take();
        }
    }
}

impl Claim {
    pub fn is_cancelled(&self) -> bool {
        self.flight.cancelled.load(Ordering::Acquire)
    }

    /// Lets a cancel reach a request whose body is stuck on its way to the backend: Pingora does
    /// not look at the client then.
    pub fn watch_upstream(&self, upstream: impl AsFd) {
        *self.flight.upstream.lock() = upstream.as_fd().try_clone_to_owned().ok();
        if self.is_cancelled() {
            self.flight.cancel();
        }
    }

    /// The backend answers, so the body is not stuck, and soon its connection may serve somebody
    /// else.
    pub fn unwatch_upstream(&self) {
        self.flight.upstream.lock().take();
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.flight.upstream.lock().take();
        self.flights.newest.remove_if(&self.key, |_, newest| Arc::ptr_eq(newest, &self.flight));
        self.flight.has_ended.store(true, Ordering::Release);
        self.flight.ended.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use gateway_core::protocol::SessionId;

    use super::*;

    fn key() -> SessionKey {
        SessionId::parse("x").unwrap().key().clone()
    }

    #[tokio::test]
    async fn a_newer_request_waits_for_the_older_to_end() {
        let (flights, key) = (Arc::new(Flights::default()), key());
        let older = flights.enter(&key, None).await.ok().unwrap();
        let newer = flights.enter(&key, None);
        tokio::pin!(newer);
        assert!(newer.as_mut().now_or_never().is_none());
        assert!(older.is_cancelled());
        drop(older);
        assert!(newer.await.is_ok());
        assert!(flights.newest.is_empty(), "nothing is kept of requests that ended");
    }

    #[tokio::test]
    async fn of_three_the_newest_goes_on() {
        let (flights, key) = (Arc::new(Flights::default()), key());
        let first = flights.enter(&key, None).await.ok().unwrap();
        let second = flights.enter(&key, None);
        tokio::pin!(second);
        assert!(second.as_mut().now_or_never().is_none());
        let third = flights.enter(&key, None);
        tokio::pin!(third);
        assert!(third.as_mut().now_or_never().is_none());
        drop(first);
        assert!(third.as_mut().now_or_never().is_none(), "the second has not ended yet");
        assert!(second.await.is_err());
        assert!(third.await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn any_number_of_requests_may_give_up_waiting_for_one_that_does_not_end() {
        let (flights, key) = (Arc::new(Flights::default()), key());
        let stuck = flights.enter(&key, None).await.ok().unwrap();
        let mut waiting = Vec::new();
        for _ in 0..100_000 {
            let mut next = Box::pin(flights.enter(&key, None));
            assert!(next.as_mut().now_or_never().is_none());
            waiting.push(next);
        }
        tokio::time::advance(PATIENCE).await;
        for next in waiting {
            assert!(next.await.is_err());
        }
        assert!(flights.newest.is_empty());
        drop(stuck);
    }

    #[test]
    fn a_chain_of_any_length_is_let_go() {
        let mut newest = Flight::default();
        for _ in 0..100_000 {
            let older = Mutex::new(Some(Arc::new(std::mem::take(&mut newest))));
            newest.older = older;
        }
        drop(newest);
    }

    #[tokio::test]
    async fn a_cancel_breaks_the_connection_to_the_backend() {
        use std::io::Read;
        use std::net::{TcpListener, TcpStream};
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let upstream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut backend, _) = listener.accept().unwrap();
        let (flights, key) = (Arc::new(Flights::default()), key());
        let older = flights.enter(&key, None).await.ok().unwrap();
        older.watch_upstream(&upstream);
        assert!(flights.enter(&key, None).now_or_never().is_none());
        assert_eq!(backend.read(&mut [0; 1]).unwrap(), 0);
    }
}
