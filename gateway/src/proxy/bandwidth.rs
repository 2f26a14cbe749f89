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

use super::Ctx;

/// So often somebody who waits looks whether the request is still wanted.
const STEP: Duration = Duration::from_secs(1);

/// After so many new clients, those are forgotten that send nothing.
const FORGET_EVERY: u32 = 64;

/// What was let go, of everybody and of each client. The rates are those of each request's
/// configuration.
#[derive(Debug, Default)]
pub struct Bandwidth {
    all: Pace,
    /// Of clients that send, or sent a moment ago.
    clients: DashMap<ClientKey, Arc<Pace>>,
    added: AtomicU32,
}

impl Bandwidth {
    /// The pace of a client that is about to send a body.
    pub fn of(&self, client: Option<IpAddr>, limits: &Limits) -> Option<Arc<Pace>> {
        let client = client.filter(|_| limits.bandwidth_per_client.is_some())?;
        let key = ClientKey::of(client);
        if let Some(pace) = self.clients.get(&key) {
            return Some(Arc::clone(&pace));
        }
        if self.added.fetch_add(1, Ordering::Relaxed).is_multiple_of(FORGET_EVERY) {
            let now = clock::steady();
            self.clients.retain(|_, pace| Arc::strong_count(pace) > 1 || pace.is_owing(now));
        }
        Some(Arc::clone(&self.clients.entry(key).or_default()))
    }

    /// Returns when so many bytes of a request may go, or when nobody waits for them any more.
    pub async fn wait(&self, bytes: usize, ctx: &Ctx) {
        let limits = &ctx.farm.config.limits;
        self.hold(bytes, ctx.pace.as_deref(), limits, ctx.conn.as_deref()).await;
    }

    async fn hold(&self, bytes: usize, own: Option<&Pace>, limits: &Limits, conn: Option<&Conn>) {
        let own = own.zip(limits.bandwidth_per_client);
        let all = limits.bandwidth.map(|rate| (&self.all, rate));
        for (pace, rate) in own.into_iter().chain(all) {
            let mut left = pace.take(bytes, rate, clock::steady());
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

    fn limits(all: Option<u64>, each: Option<u64>) -> Limits {
        let text = "[listeners.a]\naddress = \"127.0.0.1:80\"\n[[backends]]\nname = \"b\"\n\
                    address = \"127.0.0.1:81\"\n";
        let limits = crate::config::Config::from_toml(text).unwrap().limits;
        Limits { bandwidth: all, bandwidth_per_client: each, ..limits }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_takes_its_time() {
        let (bandwidth, watch) = (Bandwidth::default(), clock::stopwatch());
        let limits = limits(Some(1_000_000), None);
        for _ in 0..10 {
            bandwidth.hold(1_000_000, None, &limits, None).await;
        }
        // Nothing here moves the steady clock, so every second asked for comes on top.
        assert!(watch.elapsed() >= Duration::from_secs(8), "{:?}", watch.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_limit_nothing_waits() {
        let (bandwidth, watch) = (Bandwidth::default(), clock::stopwatch());
        let limits = limits(None, None);
        assert!(bandwidth.of(Some("192.0.2.1".parse().unwrap()), &limits).is_none());
        bandwidth.hold(usize::MAX, None, &limits, None).await;
        assert!(watch.elapsed().is_zero());
    }

    #[test]
    fn clients_that_send_nothing_are_forgotten_once_they_have_paid() {
        let (bandwidth, limits) = (Bandwidth::default(), limits(None, Some(1_000)));
        let client = |n: u32| Some(IpAddr::from(n.to_be_bytes()));
        let busy = bandwidth.of(client(0), &limits).unwrap();
        // Owes for longer than this test takes.
        bandwidth.of(client(1), &limits).unwrap().take(1_000_000, 1_000, clock::steady());
        for n in 2..10_000 {
            bandwidth.of(client(n), &limits).unwrap();
        }
        assert!(bandwidth.clients.len() <= 2 + FORGET_EVERY as usize);
        assert!(Arc::ptr_eq(&busy, &bandwidth.of(client(0), &limits).unwrap()));
        assert!(bandwidth.of(client(1), &limits).unwrap().is_owing(clock::steady()));
    }
}
