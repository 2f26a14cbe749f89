//! The only place of this program that reads a clock; everywhere else the time is an argument.

use std::time::{SystemTime, UNIX_EPOCH};

/// Wall clock, Unix milliseconds: session times go to disk and must mean the same after a restart.
#[allow(clippy::disallowed_methods)] // this module is the one place for it
pub fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
