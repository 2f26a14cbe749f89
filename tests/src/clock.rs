//! The one place where the harness reads the clock.

use std::time::Instant;

/// Monotonic time, for deadlines and for the client's timers. No test asserts on it.
#[allow(clippy::disallowed_methods)] // this is the clock module that the lint points to
pub fn now() -> Instant {
    Instant::now()
}
