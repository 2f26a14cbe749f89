//! Deadlines that count only if a second look finds nothing.
//!
//! The hazard: a process that was stopped (a virtual machine that was paused, SIGSTOP) finds its
//! timers over when it wakes, and what came meanwhile unread in its sockets. The runtime may run the
//! timers first: after SIGCONT its wait for events returns without any. A client would be cut off as
//! stalled whose bytes are here. So a timer that is over gets `SECOND_LOOK_AFTER` more, within which the
//! runtime asks the kernel for events before it runs the next timer.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::error::Elapsed;
use tokio::time::{Instant, Sleep};

use crate::base::clock;

/// Enough for one turn of the runtime. What counts is that a turn is between the two looks.
const SECOND_LOOK_AFTER: Duration = Duration::from_millis(50);

/// As [`tokio::time::timeout`], with a second look.
///
/// # Errors
/// The time is over.
pub async fn within<F: Future>(limit: Duration, future: F) -> Result<F::Output, Elapsed> {
    tokio::pin!(future);
    match tokio::time::timeout(limit, &mut future).await {
        Ok(done) => Ok(done),
        Err(_) => tokio::time::timeout(SECOND_LOOK_AFTER, future).await,
    }
}

/// A deadline that is set again and again; its timer is made once. A timer that stands at an earlier
/// time stays there, and is moved when it goes off: nearly every deadline is stopped long before.
#[derive(Default)]
pub struct Deadline {
    timer: Option<Pin<Box<Sleep>>>,
    /// When the time is over.
    due: Option<Instant>,
    state: State,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Off,
    Running,
    /// The time is over but for the second look.
    Looking,
}

impl Deadline {
    /// Ready once nothing has come for `limit`. It runs from the first call after [`Self::stop`].
    pub fn poll(&mut self, cx: &mut Context<'_>, limit: impl FnOnce() -> Duration) -> Poll<()> {
        self.poll_until(cx, || clock::stopwatch() + limit())
    }

    /// Ready once it is `due` and nothing has come. That is asked for at the first call after
    /// [`Self::stop`].
    pub fn poll_until(&mut self, cx: &mut Context<'_>, due: impl FnOnce() -> Instant) -> Poll<()> {
        if self.state == State::Off {
            self.set(due(), State::Running);
        }
        while let Some(timer) = &mut self.timer {
            ready!(timer.as_mut().poll(cx));
            if let Some(due) = self.due.filter(|due| *due > timer.deadline()) {
                timer.as_mut().reset(due);
                continue;
            }
            if self.state == State::Looking {
                break;
            }
            self.set(clock::stopwatch() + SECOND_LOOK_AFTER, State::Looking);
        }
        Poll::Ready(())
    }

    pub fn stop(&mut self) {
        self.state = State::Off;
    }

    fn set(&mut self, due: Instant, state: State) {
        self.state = state;
        self.due = Some(due);
        match &mut self.timer {
            Some(timer) if timer.deadline() <= due && !timer.is_elapsed() => {}
            Some(timer) => timer.as_mut().reset(due),
            none => *none = Some(Box::pin(tokio::time::sleep_until(due))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use futures_util::FutureExt;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn a_deadline_counts_at_the_second_look() {
        let mut deadline = Deadline::default();
        for _ in 0..3 {
            let begun = clock::stopwatch();
            poll_fn(|cx| deadline.poll(cx, || LIMIT)).await;
            assert!(
                begun.elapsed() >= LIMIT + SECOND_LOOK_AFTER
                    && begun.elapsed() < LIMIT + SECOND_LOOK_AFTER * 2
            );
            deadline.stop();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_between_the_looks_begins_the_time_anew() {
        let mut deadline = Deadline::default();
        assert!(poll_fn(|cx| deadline.poll(cx, || LIMIT)).now_or_never().is_none());
        // The process stands still for far longer.
        tokio::time::advance(LIMIT * 100).await;
        assert!(poll_fn(|cx| deadline.poll(cx, || LIMIT)).now_or_never().is_none());
        deadline.stop();
        let begun = clock::stopwatch();
        poll_fn(|cx| deadline.poll(cx, || LIMIT)).await;
        assert!(begun.elapsed() >= LIMIT);
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_that_is_set_again_counts_from_then() {
        let mut deadline = Deadline::default();
        let begun = clock::stopwatch();
        for step in 1..=5 {
            assert!(poll_fn(|cx| deadline.poll(cx, || LIMIT)).now_or_never().is_none());
            tokio::time::advance(LIMIT * 7 / 10).await;
            deadline.stop();
            assert_eq!(begun.elapsed(), LIMIT * 7 / 10 * step);
        }
        // A shorter one moves the timer, a longer one leaves it.
        for limit in [LIMIT, LIMIT / 10, LIMIT * 3] {
            let begun = clock::stopwatch();
            poll_fn(|cx| deadline.poll(cx, || limit)).await;
            assert!(
                begun.elapsed() >= limit + SECOND_LOOK_AFTER
                    && begun.elapsed() < limit + SECOND_LOOK_AFTER * 2
            );
            deadline.stop();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_future_that_is_ready_at_the_second_look_is_in_time() {
        let mut looks = 0;
        let late = poll_fn(|_| {
            looks += 1;
            // Once before it waits, once when the time is over.
            if looks > 2 { Poll::Ready(()) } else { Poll::Pending }
        });
        assert!(within(LIMIT, late).await.is_ok());
        assert!(within(LIMIT, std::future::pending::<()>()).await.is_err());
    }
}
