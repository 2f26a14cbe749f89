//! Counting what must end before the process may.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// A count of things under way (requests, connections) that can be waited for.
///
/// Clones share the count. Cheap enough for every request: two atomic operations, and a lock only
/// when the count falls to zero.
#[derive(Clone, Debug, Default)]
pub struct InFlight {
    shared: Arc<Shared>,
}

/// One thing under way; it ends when this is dropped, also by a panic or a cancelled task.
#[derive(Debug)]
#[must_use = "the count falls again as soon as this is dropped"]
pub struct InFlightGuard {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    count: AtomicUsize,
    idle: Notify,
}

impl InFlight {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn enter(&self) -> InFlightGuard {
        self.shared.count.fetch_add(1, Ordering::SeqCst);
        InFlightGuard { shared: Arc::clone(&self.shared) }
    }

    pub fn count(&self) -> usize {
        self.shared.count.load(Ordering::SeqCst)
    }

    /// Returns when the count is zero, at once if it is already.
    pub async fn idle(&self) {
        loop {
            // The place in the queue is taken before the count is read, or a fall to zero between
            // the two is missed.
            let fell = self.shared.idle.notified();
            if self.count() == 0 {
                return;
            }
            fell.await;
        }
    }
}

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        if self.shared.count.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.shared.idle.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn poll(future: std::pin::Pin<&mut impl Future<Output = ()>>) -> Poll<()> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn nothing_under_way_is_idle_at_once() {
        let requests = InFlight::new();
        assert_eq!(poll(pin!(requests.idle())), Poll::Ready(()));
    }

    #[test]
    fn idle_waits_for_the_last_of_several() {
        let requests = InFlight::new();
        let (first, second) = (requests.enter(), requests.clone().enter());
        let mut idle = pin!(requests.idle());
        assert_eq!(poll(idle.as_mut()), Poll::Pending);
        drop(first);
        assert_eq!(poll(idle.as_mut()), Poll::Pending);
        assert_eq!(requests.count(), 1);
        drop(second);
        assert_eq!(poll(idle.as_mut()), Poll::Ready(()));
    }

    #[test]
    fn a_request_begun_before_idle_is_polled_again_is_waited_for() {
        let requests = InFlight::new();
        let first = requests.enter();
        let mut idle = pin!(requests.idle());
        assert_eq!(poll(idle.as_mut()), Poll::Pending);
        drop(first);
        let second = requests.enter();
        assert_eq!(poll(idle.as_mut()), Poll::Pending);
        drop(second);
        assert_eq!(poll(idle.as_mut()), Poll::Ready(()));
    }

    #[test]
    fn a_panic_ends_what_it_was_doing() {
        let requests = InFlight::new();
        let inside = requests.clone();
        let panicked = std::thread::spawn(move || {
            let _guard = inside.enter();
            panic!("on purpose");
        })
        .join();
        assert!(panicked.is_err());
        assert_eq!(requests.count(), 0);
    }

    #[test]
    fn many_threads_leave_the_count_at_zero() {
        let requests = InFlight::new();
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let requests = requests.clone();
                let first = requests.enter();
                std::thread::spawn(move || {
                    for _ in 0..10_000 {
                        drop(requests.enter());
                    }
                    drop(first);
                })
            })
            .collect();
        // A lost wake-up would hang here: nobody else touches the count afterwards.
        runtime.block_on(requests.idle());
        assert_eq!(requests.count(), 0);
        for thread in threads {
            thread.join().expect("the thread ended");
        }
    }
}
