//! Which thread takes a connection.
//!
//! A connection stays with the thread that accepts it, so threads that take what they find drift
//! apart. One that has more connections than another leaves new ones to it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

/// The least loaded thread may be exceeded by one part in so many: 20 %.
const PART: usize = 5;

/// And by so many connections, whatever their number.
const SLACK: usize = 1;

/// So long a connection waits for a thread that has fewer. That thread takes some microseconds; one
/// that takes longer is busy, and then the client is better off with another.
pub(super) const PAUSE: Duration = Duration::from_millis(5);

/// Whether a thread with `own` connections leaves new ones to a thread with `least`.
fn is_ahead(own: usize, least: usize) -> bool {
    own >= least + least / PART + SLACK
}

/// How many connections each thread has open.
#[derive(Debug)]
pub(super) struct Loads {
    threads: Box<[Count]>,
    /// Threads that give way at the moment.
    waiting: AtomicUsize,
    changed: Notify,
    pause: Duration,
}

/// In a cache line of its own: each thread changes its count all the time.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Count(AtomicUsize);

/// One connection of a thread, until it is dropped.
#[derive(Debug)]
pub struct Load {
    loads: Arc<Loads>,
    thread: usize,
}

impl Loads {
    pub fn new(threads: usize, pause: Duration) -> Self {
        let threads = (0..threads).map(|_| Count::default()).collect();
        Self { threads, waiting: AtomicUsize::new(0), changed: Notify::new(), pause }
    }

    pub fn enter(self: &Arc<Self>, thread: usize) -> Load {
        self.threads[thread].0.fetch_add(1, Ordering::SeqCst);
        self.tell();
        Load { loads: Arc::clone(self), thread }
    }

    pub fn of(&self, thread: usize) -> usize {
        self.threads[thread].0.load(Ordering::SeqCst)
    }

    pub fn is_ahead(&self, thread: usize) -> bool {
        let least = (0..self.threads.len()).map(|other| self.of(other)).min();
        is_ahead(self.of(thread), least.unwrap_or(0))
    }

    /// Returns when the thread is not ahead any more, or after the pause: a connection that is here
    /// still is one that the others have no time for.
    pub async fn give_way(&self, thread: usize) {
        let _waiting = Waiting::new(&self.waiting);
        let pause = tokio::time::sleep(self.pause);
        tokio::pin!(pause);
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // From here on no change is missed, also one between the look and the wait.
            changed.as_mut().enable();
            if !self.is_ahead(thread) {
                return;
            }
            tokio::select! {
                () = changed => {}
                () = &mut pause => return,
            }
        }
    }

    fn tell(&self) {
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.changed.notify_waiters();
        }
    }
}

#[cfg(test)]
impl Load {
    /// Of a connection that no thread has accepted.
    pub fn of_none() -> Self {
        Arc::new(Loads::new(1, PAUSE)).enter(0)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.loads.threads[self.thread].0.fetch_sub(1, Ordering::SeqCst);
        self.loads.tell();
    }
}

struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(waiting: &'a AtomicUsize) -> Self {
        waiting.fetch_add(1, Ordering::SeqCst);
        Self(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn a_thread_is_ahead_from_a_fifth_and_one_more_on() {
        for (own, least, ahead) in [
            (0, 0, false),
            (1, 0, true),
            (1, 1, false),
            (2, 1, true),
            (4, 4, false),
            (5, 4, true),
            (6, 5, false),
            (7, 5, true),
            (12, 10, false),
            (13, 10, true),
            (120, 100, false),
            (121, 100, true),
            (12_000, 10_000, false),
            (12_001, 10_000, true),
        ] {
            assert_eq!(is_ahead(own, least), ahead, "{own} beside {least}");
        }
    }

    #[test]
    fn the_least_loaded_thread_is_never_ahead() {
        for threads in 1..5 {
            let loads = Arc::new(Loads::new(threads, PAUSE));
            let mut open = Vec::new();
            for _ in 0..1000 {
                let thread = (0..threads).find(|&thread| !loads.is_ahead(thread));
                open.push(loads.enter(thread.expect("somebody takes the connection")));
            }
            let counts = || (0..threads).map(|thread| loads.of(thread));
            let (least, most) = (counts().min().unwrap(), counts().max().unwrap());
            assert!(most <= least + least / PART + SLACK, "{most} beside {least}");
            drop(open);
            assert_eq!(counts().sum::<usize>(), 0);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_thread_gives_way_until_another_takes_the_connection() {
        let loads = Arc::new(Loads::new(2, PAUSE));
        let _ours = loads.enter(0);
        let mut waits = Box::pin(loads.give_way(0));
        assert!(waits.as_mut().now_or_never().is_none());
        let _other = loads.enter(1);
        assert!(waits.now_or_never().is_some());
        assert_eq!(loads.waiting.load(Ordering::SeqCst), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_thread_gives_way_until_one_of_its_own_connections_ends() {
        let loads = Arc::new(Loads::new(2, PAUSE));
        let ours = loads.enter(0);
        let mut waits = Box::pin(loads.give_way(0));
        assert!(waits.as_mut().now_or_never().is_none());
        drop(ours);
        assert!(waits.now_or_never().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_thread_does_not_wait_for_one_that_is_busy() {
        let loads = Arc::new(Loads::new(2, PAUSE));
        let _ours = loads.enter(0);
        loads.give_way(0).await;
        assert!(loads.is_ahead(0));
    }
}
