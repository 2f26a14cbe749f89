//! The one place where the harness reads the clock.

use std::time::{Duration, Instant, SystemTime};

/// Monotonic time, for deadlines and for the client's timers. No test asserts on it.
#[allow(clippy::disallowed_methods)] // this is the clock module that the lint points to
pub fn now() -> Instant {
    Instant::now()
}

/// Since 1970, for certificates that end at some distance from now.
#[allow(clippy::disallowed_methods)] // as above
pub fn since_1970() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock that is set")
}
