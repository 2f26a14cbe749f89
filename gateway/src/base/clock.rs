//! The one place that reads a clock.
#![allow(clippy::disallowed_methods, reason = "everybody else takes the time as an argument")]

use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use gateway_core::session::Timestamp;

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Wall clock, Unix milliseconds: for what is stored and shown.
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Starts a stopwatch that never jumps, and that stands still while a test has paused tokio's time.
pub fn stopwatch() -> tokio::time::Instant {
    tokio::time::Instant::now()
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
