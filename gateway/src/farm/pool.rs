//! How many idle connections to backends are kept.
//!
//! Those that are open are counted for both carriers. Where there are enough, none is kept after its
//! request, so that no pool has to choose which of its own it closes.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use pingora::prelude::HttpPeer;
use pingora::upstreams::peer::{Tracer, Tracing};

use crate::config::Config;
use crate::process::listening::thread_number;

/// Idle connections kept per worker thread for everybody, over all backends.
const SHARED: usize = 1024;

/// Those of this process, whoever made them.
pub static OPEN: OpenConnections = OpenConnections::new();

/// Connections that are nobody's own, in use or idle.
#[derive(Debug)]
pub struct OpenConnections {
    open: AtomicUsize,
    /// How many of them are kept.
    most: AtomicUsize,
}

impl OpenConnections {
    pub const fn new() -> Self {
        Self { open: AtomicUsize::new(0), most: AtomicUsize::new(usize::MAX) }
    }

    /// One more, until what is returned is dropped.
    pub fn count(&'static self) -> Share {
        self.open.fetch_add(1, Ordering::Relaxed);
        Share(self)
    }

    /// Whether none is kept after its request.
    pub fn is_full(&self) -> bool {
        self.open.load(Ordering::Relaxed) >= self.most.load(Ordering::Relaxed)
    }

    /// From so many on, in use or idle, none is kept after its request.
    pub fn keep_at_most(&self, most: usize) {
        self.most.store(most, Ordering::Relaxed);
    }
}

impl Default for OpenConnections {
    fn default() -> Self {
        Self::new()
    }
}

/// One open connection that is nobody's own.
#[must_use = "dropping it says that the connection is closed"]
#[derive(Debug)]
pub struct Share(&'static OpenConnections);

impl Drop for Share {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Has no size, so that a clone for each request costs no allocation.
#[derive(Debug)]
struct Counted;

impl Tracing for Counted {
    fn on_connected(&self) {
        std::mem::forget(OPEN.count());
    }

    fn on_disconnected(&self) {
        drop(Share(&OPEN));
    }

    fn boxed_clone(&self) -> Box<dyn Tracing> {
        Box::new(Self)
    }
}

/// The connections made for this peer count as shared.
pub fn share(peer: &mut HttpPeer) {
    peer.options.tracer = Some(Tracer(Box::new(Counted)));
}

/// Has a request use connections of the thread that serves it, and leave its own to that thread.
///
/// Another thread could not wait for one without the thread that made it: the socket is registered
/// there. And Pingora gives up a connection that a thread takes while the one that has watched it
/// still holds it (`failed to acquire reusable stream`).
pub fn keep_to_thread(peer: &mut HttpPeer) {
    peer.group_key = thread_number() as u64;
}

/// Has a shared connection closed after its request when enough of them are open.
pub fn spare(peer: &mut HttpPeer) {
    if OPEN.is_full() {
        peer.options.idle_timeout = Some(Duration::ZERO);
    }
}

/// Every client connection uses one connection at most, so from here on some are idle.
pub fn shared_most(config: &Config) -> usize {
    config.limits.connections + SHARED * config.process.threads
}

/// Size of the pool for each worker thread: Pingora multiplies it by their number.
///
/// Idle can be those that are kept, and those that requests under way made before enough were open.
pub fn size_per_thread(config: &Config) -> usize {
    let limits = &config.limits;
    (shared_most(config) + limits.connections).div_ceil(config.process.threads)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::listening::Threads;

    #[test]
    fn the_pool_has_room_for_all_that_can_be_idle() {
        let config = |threads: usize, connections: usize| {
            let text = format!(
                "[listeners.a]\naddress = \"127.0.0.1:80\"\n[[backends]]\nname = \"b\"\n\
                 address = \"127.0.0.1:81\"\n[process]\nthreads = {threads}\n[limits]\n\
                 connections = {connections}\n"
            );
            Config::from_toml(&text).unwrap()
        };
        for (threads, connections) in [(1, 1), (2, 20_000), (7, 100)] {
            let config = config(threads, connections);
            let size = size_per_thread(&config) * threads;
            assert!(size >= 2 * connections + SHARED * threads);
            assert!(size < 2 * connections + SHARED * threads + threads);
        }
    }

    #[test]
    fn each_thread_has_a_pool_of_its_own() {
        let keys = |threads: &Threads| {
            threads
                .handles()
                .iter()
                .map(|handle| {
                    let (tell, told) = std::sync::mpsc::channel();
                    handle.spawn(async move {
                        let mut peer = HttpPeer::new("127.0.0.1:1", false, String::new());
                        keep_to_thread(&mut peer);
                        tell.send(peer.group_key)
                    });
                    told.recv().unwrap()
                })
                .collect::<Vec<_>>()
        };
        let threads = Threads::start(2).unwrap();
        assert_eq!(keys(&threads), [1, 2]);
        threads.end(Duration::ZERO);
    }

    #[test]
    fn connections_are_kept_until_there_are_enough() {
        let open: &OpenConnections = Box::leak(Box::default());
        open.keep_at_most(2);
        let first = open.count();
        assert!(!open.is_full());
        let second = open.count();
        assert!(open.is_full());
        drop(first);
        assert!(!open.is_full());
        drop(second);
        open.keep_at_most(0);
        assert!(open.is_full());
    }

    #[test]
    fn a_clone_of_the_counter_has_no_size() {
        assert_eq!(size_of::<Counted>(), 0);
    }
}
