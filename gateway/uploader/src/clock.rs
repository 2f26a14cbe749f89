//! The one place of this client that reads a clock.
#![allow(clippy::disallowed_methods, reason = "the rest of the client asks this module")]

use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use gateway_core::session::Timestamp;

static START: LazyLock<Instant> = LazyLock::new(|| tokio::time::Instant::now().into_std());

/// Wall clock, Unix milliseconds: for what outlives the process.
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Time since the client first asked, by a clock that never jumps and that a test can pause.
pub fn steady() -> Duration {
    tokio::time::Instant::now().into_std().saturating_duration_since(*START)
}
