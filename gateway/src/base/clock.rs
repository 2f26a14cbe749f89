//! The one place that reads a clock.
#![allow(clippy::disallowed_methods, reason = "everybody else takes the time as an argument")]

use std::cell::Cell;
use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use gateway_core::session::Timestamp;

#[derive(Clone, Copy)]
enum Held {
    No,
    Unread,
    At(tokio::time::Instant),
}

thread_local! {
    static HELD: Cell<Held> = const { Cell::new(Held::No) };
}

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Wall clock, Unix milliseconds: for what is stored and shown.
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Starts a stopwatch that never jumps, and that stands still while a test has paused tokio's time.
pub fn stopwatch() -> tokio::time::Instant {
    HELD.with(|held| match held.get() {
        Held::No => tokio::time::Instant::now(),
        Held::At(now) => now,
        Held::Unread => {
            let now = tokio::time::Instant::now();
            held.set(Held::At(now));
            now
        }
    })
}

/// Runs one step of a task, during which the clock is read once at most: a packet asks for the time in
/// many places, of which most are microseconds apart. What is measured within a step is nothing.
pub fn hold<T>(step: impl FnOnce() -> T) -> T {
    /// Also where the step panics.
    struct Released;
    impl Drop for Released {
        fn drop(&mut self) {
            HELD.set(Held::No);
        }
    }
    HELD.set(Held::Unread);
    let _released = Released;
    step()
}

/// Time since the process first asked, by a clock that never jumps: for deadlines and durations. It
/// is that of [`stopwatch`].
pub fn steady() -> Duration {
    stopwatch().into_std().saturating_duration_since(*START)
}

/// When [`steady`] is so much.
pub fn at(steady: Duration) -> tokio::time::Instant {
    (*START + steady).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn time_stands_still_in_a_step_and_goes_on_behind_it() {
        let first = stopwatch();
        let mut step = Box::pin(async {
            let begun = stopwatch();
            tokio::time::advance(Duration::from_secs(1)).await;
            (begun, stopwatch())
        });
        let (begun, then) = std::future::poll_fn(|cx| hold(|| step.as_mut().poll(cx))).await;
        assert_eq!(begun, first);
        assert_eq!(hold(|| [stopwatch(), stopwatch()]), [then; 2]);
        assert!(std::panic::catch_unwind(|| hold(|| panic!("in a step"))).is_err());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(stopwatch() - then, Duration::from_secs(1));
    }
}
