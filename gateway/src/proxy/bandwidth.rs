//! Holding request bodies back to the configured rate.
//!
//! A piece that may not go yet waits in its request's task, and nothing is read after it, so the
//! client's own window fills and it sends no faster. No timeout runs meanwhile: those of the client
//! count while we wait for its bytes, and that of the backend starts again with every piece.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use dashmap::DashMap;
use gateway_core::pace::Pace;
use gateway_core::protocol::client::ClientKey;

use crate::clock;
use crate::config::Limits;
use crate::guard::Conn;

/// So often somebody who waits looks whether the request is still wanted.
const STEP: Duration = Duration::from_secs(1);

/// After so many new clients, those are forgotten that send nothing.
const FORGET_EVERY: u32 = 64;

/// The rates in force.
#[derive(Debug)]
pub struct Bandwidth {
    all: Option<Pace>,
    /// Bytes a second for each client.
    each: Option<u64>,
    /// Of clients that send, or sent a moment ago.
    clients: DashMap<ClientKey, Arc<Pace>>,
    added: AtomicU32,
}

impl Bandwidth {
    pub fn new(limits: &Limits) -> Self {
        Self {
            all: limits.bandwidth.map(Pace::new),
            each: limits.bandwidth_per_client,
            clients: DashMap::new(),
            added: AtomicU32::new(0),
        }
    }

    /// The pace of a client that is about to send a body.
    pub fn of(&self, client: Option<IpAddr>) -> Option<Arc<Pace>> {
        let (rate, client) = self.each.zip(client)?;
        let key = ClientKey::of(client);
        if let Some(pace) = self.clients.get(&key) {
            return Some(Arc::clone(&pace));
        }
        if self.added.fetch_add(1, Ordering::Relaxed).is_multiple_of(FORGET_EVERY) {
            let now = clock::steady();
            self.clients.retain(|_, pace| Arc::strong_count(pace) > 1 || pace.is_owing(now));
        }
        let pace = self.clients.entry(key).or_insert_with(|| Arc::new(Pace::new(rate)));
        Some(Arc::clone(&pace))
    }

    /// Returns when so many bytes may go, or when nobody waits for them any more.
    pub async fn wait(&self, bytes: usize, own: Option<&Pace>, conn: Option<&Conn>) {
        for pace in own.into_iter().chain(&self.all) {
            let mut left = pace.take(bytes, clock::steady());
            while !left.is_zero() && !conn.is_some_and(Conn::is_killed) {
                let step = left.min(STEP);
                tokio::time::sleep(step).await;
                left -= step;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bandwidth(all: Option<u64>, each: Option<u64>) -> Bandwidth {
        Bandwidth {
            all: all.map(Pace::new),
            each,
            clients: DashMap::new(),
            added: AtomicU32::new(0),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_takes_its_time() {
        let (bandwidth, watch) = (bandwidth(Some(1_000_000), None), clock::stopwatch());
        for _ in 0..10 {
            bandwidth.wait(1_000_000, None, None).await;
        }
        // Nothing here moves the steady clock, so every second asked for comes on top.
        assert!(watch.elapsed() >= Duration::from_secs(8), "{:?}", watch.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_limit_nothing_waits() {
        let (bandwidth, watch) = (bandwidth(None, None), clock::stopwatch());
        assert!(bandwidth.of(Some("192.0.2.1".parse().unwrap())).is_none());
        bandwidth.wait(usize::MAX, None, None).await;
        assert!(watch.elapsed().is_zero());
    }

    #[test]
    fn clients_that_send_nothing_are_forgotten_once_they_have_paid() {
        let bandwidth = bandwidth(None, Some(1_000));
        let client = |n: u32| Some(IpAddr::from(n.to_be_bytes()));
        let busy = bandwidth.of(client(0)).unwrap();
        // Owes for longer than this test takes.
        bandwidth.of(client(1)).unwrap().take(1_000_000, clock::steady());
        for n in 2..10_000 {
            bandwidth.of(client(n)).unwrap();
        }
        assert!(bandwidth.clients.len() <= 2 + FORGET_EVERY as usize);
        assert!(Arc::ptr_eq(&busy, &bandwidth.of(client(0)).unwrap()));
        assert!(bandwidth.of(client(1)).unwrap().is_owing(clock::steady()));
    }
}
