//! The threads that carry traffic.

use std::cell::Cell;
use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

use super::balance::{Loads, PAUSE};

/// Threads of all runtimes together for calls that block, as many as one runtime has by default.
const BLOCKING: usize = 512;

/// One in so many tasks that a busy thread runs is one that another thread has woken: the writer of the
/// store, a timer of Pingora's. With tokio's 31 these would wait for all that clients want.
const WOKEN_ELSEWHERE: u32 = 3;

thread_local! {
    static NUMBER: Cell<usize> = const { Cell::new(0) };
}

/// Which of the threads that carry traffic this is, from 1 on; 0 is any other thread.
pub fn thread_number() -> usize {
    NUMBER.get()
}

/// Threads with a runtime each. What is started on one of them stays there: nothing is handed over
/// from one to another. Clones share them.
#[derive(Clone)]
pub struct Threads(Arc<Inner>);

struct Inner {
    handles: Box<[Handle]>,
    loads: Arc<Loads>,
    ends: Mutex<Vec<End>>,
}

/// How a thread is told to end, with the time that its runtime may take.
struct End {
    tell: oneshot::Sender<Duration>,
    thread: JoinHandle<()>,
}

impl Threads {
    /// # Errors
    /// A thread, or what it is woken by, cannot be had.
    pub fn start(count: usize) -> io::Result<Self> {
        Self::giving_way_for(count, PAUSE)
    }

    pub(super) fn giving_way_for(count: usize, pause: Duration) -> io::Result<Self> {
        let (mut handles, mut ends) = (Vec::new(), Vec::new());
        for number in 1..=count {
            let runtime = Builder::new_current_thread()
                .enable_all()
                .global_queue_interval(WOKEN_ELSEWHERE)
                .thread_name("traffic blocks")
                .max_blocking_threads((BLOCKING / count).max(1))
                .build()?;
            handles.push(runtime.handle().clone());
            let (tell, told) = oneshot::channel();
            let run = move || {
                NUMBER.set(number);
                match runtime.block_on(told) {
                    Ok(limit) => runtime.shutdown_timeout(limit),
                    // The threads were dropped: nobody waits.
                    Err(_) => runtime.shutdown_background(),
                }
            };
            let thread = thread::Builder::new().name(format!("traffic {number}")).spawn(run)?;
            ends.push(End { tell, thread });
        }
        let loads = Arc::new(Loads::new(count, pause));
        let handles = handles.into();
        Ok(Self(Arc::new(Inner { handles, loads, ends: Mutex::new(ends) })))
    }

    /// In the order of their numbers.
    pub fn handles(&self) -> &[Handle] {
        &self.0.handles
    }

    pub(super) fn loads(&self) -> &Arc<Loads> {
        &self.0.loads
    }

    /// Ends all threads, and with them what runs on them. Blocks until they have ended; a call that
    /// blocks a thread of the pool beside them is given up after `limit`.
    pub fn end(&self, limit: Duration) {
        let ends = std::mem::take(&mut *self.0.ends.lock());
        let told: Vec<_> = ends
            .into_iter()
            .map(|End { tell, thread }| {
                // Fails if the thread has ended, which it does not by itself.
                let _ = tell.send(limit);
                thread
            })
            .collect();
        for thread in told {
            // A panic is in the log.
            let _ = thread.join();
        }
    }
}

impl std::fmt::Debug for Threads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Threads").field("count", &self.0.handles.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_started_on_a_thread_stays_there() {
        let threads = Threads::start(3).unwrap();
        for (at, handle) in threads.handles().iter().enumerate() {
            let numbers = async {
                let before = thread_number();
                tokio::task::yield_now().await;
                let child = tokio::spawn(async { thread_number() }).await.unwrap();
                [before, thread_number(), child]
            };
            let (tell, told) = std::sync::mpsc::channel();
            handle.spawn(async move { tell.send(numbers.await) });
            assert_eq!(told.recv().unwrap(), [at + 1; 3]);
        }
        assert_eq!(thread_number(), 0);
        threads.end(Duration::ZERO);
    }

    #[test]
    fn what_runs_on_the_threads_ends_with_them() {
        let threads = Threads::start(2).unwrap();
        let held = Arc::new(());
        for handle in threads.handles() {
            let held = Arc::clone(&held);
            handle.spawn(async move {
                std::future::pending::<()>().await;
                drop(held);
            });
        }
        threads.end(Duration::ZERO);
        assert_eq!(Arc::strong_count(&held), 1);
        // Nothing is left to end.
        threads.end(Duration::ZERO);
    }
}
