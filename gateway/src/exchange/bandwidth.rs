//! Holding request bodies back to the configured rate.
//!
//! A piece that may not go yet waits in its request's task, and nothing is read after it, so the
//! client's own window fills and it sends no faster. No timeout runs meanwhile: those of the client
//! count while we wait for its bytes, and that of the backend starts again with every piece.
//!
//! Pieces are of many sizes: what was read at once, which over TLS is a record. So bodies take turns
//! for `TURN` bytes each, whatever their pieces, in the order in which they queue.

use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use dashmap::DashMap;
use gateway_core::protocol::client::ClientKey;
use gateway_core::rate_limiter::RateLimiter;
use tokio::sync::Mutex;

use crate::base::clock;
use crate::config::Limits;
use crate::guard::Conn;

/// So often somebody who waits looks whether the request is still wanted.
const STEP: Duration = Duration::from_secs(1);

/// Bytes of a turn: small beside a piece, or large pieces would get more.
const TURN: usize = 8 * 1024;

/// After so many new clients, those are forgotten that send nothing.
const FORGET_EVERY: u32 = 64;

/// A rate that several bodies share.
#[derive(Debug, Default)]
pub struct Share {
    pace: RateLimiter,
    /// Held by the one that takes its turn. Whoever queues has taken nothing yet, so one that gives
    /// up leaves nothing to the others that they would have to wait for.
    turn: Mutex<()>,
}

impl Share {
    async fn take(&self, bytes: usize, rate: u64, conn: Option<&Conn>) {
        let is_killed = || conn.is_some_and(Conn::is_killed);
        let mut queued = pin!(self.turn.lock());
        let _turn = loop {
            match tokio::time::timeout(STEP, &mut queued).await {
                _ if is_killed() => return,
                Ok(turn) => break turn,
                Err(_) => {}
            }
        };
        let mut left = self.pace.take(bytes, rate, clock::steady());
        while !left.is_zero() && !is_killed() {
            let step = left.min(STEP);
            tokio::time::sleep(step).await;
            left -= step;
        }
    }
}

/// The body of one request on its way.
#[derive(Debug, Default)]
pub struct BodyPace {
    /// What its client may send, where that is limited.
    own: Option<Arc<Share>>,
    /// Bytes of it that have gone and have had no turn yet.
    unpaid: usize,
}

/// What was let go, of everybody and of each client. The rates are those of each request's
/// configuration.
#[derive(Debug, Default)]
pub struct Bandwidth {
    all: Share,
    /// Of clients that send, or sent a moment ago.
    clients: DashMap<ClientKey, Arc<Share>>,
    added: AtomicU32,
}

impl Bandwidth {
    /// The pace of a client that is about to send a body.
    pub fn of(&self, client: Option<IpAddr>, limits: &Limits) -> BodyPace {
        BodyPace { own: self.share(client, limits), unpaid: 0 }
    }

    fn share(&self, client: Option<IpAddr>, limits: &Limits) -> Option<Arc<Share>> {
        let client = client.filter(|_| limits.bandwidth_per_client.is_some())?;
        let key = ClientKey::of(client);
        if let Some(share) = self.clients.get(&key) {
            return Some(Arc::clone(&share));
        }
        if self.added.fetch_add(1, Ordering::Relaxed).is_multiple_of(FORGET_EVERY) {
            let now = clock::steady();
            self.clients
                .retain(|_, share| Arc::strong_count(share) > 1 || share.pace.is_owing(now));
        }
        Some(Arc::clone(&self.clients.entry(key).or_default()))
    }

    /// Returns when so many bytes more of a request may go, or when nobody waits for them any more.
    /// What is less than a turn waits for more, or for the `end` of the body.
    pub async fn wait(
        &self,
        bytes: usize,
        end: bool,
        body: &mut BodyPace,
        limits: &Limits,
        conn: Option<&Conn>,
    ) {
        let BodyPace { own, unpaid } = body;
        let own = own.as_deref().zip(limits.bandwidth_per_client);
        let all = limits.bandwidth.map(|rate| (&self.all, rate));
        if own.is_none() && all.is_none() {
            return;
        }
        *unpaid += bytes;
        while *unpaid >= TURN || (end && *unpaid > 0) {
            let turn = TURN.min(*unpaid);
            for (share, rate) in own.into_iter().chain(all) {
                // Hardly anybody is limited: the state of waiting is made for those who are.
                Box::pin(share.take(turn, rate, conn)).await;
            }
            *unpaid -= turn;
            if conn.is_some_and(Conn::is_killed) {
                return;
            }
        }
    }

    /// What has gone of a body without its end is paid for by those who come next.
    pub fn settle(&self, body: &mut BodyPace, limits: &Limits) {
        let unpaid = std::mem::take(&mut body.unpaid).min(TURN);
        let own = body.own.as_deref().zip(limits.bandwidth_per_client);
        let all = limits.bandwidth.map(|rate| (&self.all, rate));
        for (share, rate) in own.into_iter().chain(all).filter(|_| unpaid > 0) {
            share.pace.take(unpaid, rate, clock::steady());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

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
            bandwidth.wait(1_000_000, true, &mut BodyPace::default(), &limits, None).await;
        }
        // Nothing here moves the steady clock, so every second asked for comes on top.
        assert!(watch.elapsed() >= Duration::from_secs(8), "{:?}", watch.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn bodies_share_evenly_whatever_their_pieces() {
        let bandwidth = Arc::new(Bandwidth::default());
        let limits = Arc::new(limits(Some(1 << 20), None));
        let sent: Arc<[AtomicUsize; 4]> = Arc::default();
        // What a pause has earned goes to whoever comes first.
        bandwidth.all.pace.take(1 << 20, 1 << 20, clock::steady());
        const PIECES: [usize; 4] = [64 * 1024, 4 * 1024, 16 * 1024 - 100, 9 * 1024];
        let tasks = PIECES.iter().enumerate().map(|(body, &piece)| {
            let (bandwidth, limits, sent) = (bandwidth.clone(), limits.clone(), sent.clone());
            tokio::spawn(async move {
                let mut pace = BodyPace::default();
                loop {
                    bandwidth.wait(piece, false, &mut pace, &limits, None).await;
                    sent[body].fetch_add(piece, Ordering::Relaxed);
                }
            })
        });
        let tasks: Vec<_> = tasks.collect();
        while sent.iter().map(|sent| sent.load(Ordering::Relaxed)).sum::<usize>() < 8 << 20 {
            tokio::time::sleep(STEP).await;
        }
        tasks.iter().for_each(tokio::task::JoinHandle::abort);
        let sent = sent.each_ref().map(|sent| sent.load(Ordering::Relaxed));
        let (least, most) = (sent.iter().min().unwrap(), sent.iter().max().unwrap());
        // Each may be ahead by a piece and a turn.
        assert!(most - least <= 64 * 1024 + 2 * TURN, "{sent:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn who_gives_up_in_the_queue_leaves_no_debt() {
        let (bandwidth, limits) = (Bandwidth::default(), limits(Some(1 << 20), None));
        let _turn = bandwidth.all.turn.lock().await;
        let mut pace = BodyPace::default();
        let waits = bandwidth.wait(1 << 30, true, &mut pace, &limits, None);
        assert!(tokio::time::timeout(Duration::from_secs(5), waits).await.is_err());
        assert!(!bandwidth.all.pace.is_owing(clock::steady()));
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_limit_nothing_waits() {
        let (bandwidth, watch) = (Bandwidth::default(), clock::stopwatch());
        let limits = limits(None, None);
        let mut pace = bandwidth.of(Some("192.0.2.1".parse().unwrap()), &limits);
        assert!(pace.own.is_none());
        bandwidth.wait(usize::MAX, true, &mut pace, &limits, None).await;
        assert!(watch.elapsed().is_zero());
    }

    #[test]
    fn clients_that_send_nothing_are_forgotten_once_they_have_paid() {
        let (bandwidth, limits) = (Bandwidth::default(), limits(None, Some(1_000)));
        let client = |n: u32| Some(IpAddr::from(n.to_be_bytes()));
        let busy = bandwidth.share(client(0), &limits).unwrap();
        // Owes for longer than this test takes.
        bandwidth.share(client(1), &limits).unwrap().pace.take(1_000_000, 1_000, clock::steady());
        for n in 2..10_000 {
            bandwidth.share(client(n), &limits).unwrap();
        }
        assert!(bandwidth.clients.len() <= 2 + FORGET_EVERY as usize);
        assert!(Arc::ptr_eq(&busy, &bandwidth.share(client(0), &limits).unwrap()));
        assert!(bandwidth.share(client(1), &limits).unwrap().pace.is_owing(clock::steady()));
    }
}
