//! Who has been silent for too long.

use std::time::Duration;

/// Whether a session that has been silent for so long has outlived `idle_timeout`.
///
/// `wall` is silence by the clock on the wall, `steady` by one that never jumps. Both must agree:
/// a wall clock set forward must not end every upload at once, and a steady clock says nothing
/// about the time before this process started.
pub fn is_expired(wall: Duration, steady: Duration, idle_timeout: Duration) -> bool {
    wall.min(steady) >= idle_timeout
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(wall_days: u64, steady_days: u64, expired: bool) {
        let days = |n| Duration::from_secs(n * 24 * 3600);
        assert_eq!(is_expired(days(wall_days), days(steady_days), days(14)), expired);
    }

    /// Threat: T21.
    #[test]
    fn t21_a_session_ends_when_both_clocks_say_so() {
        check(14, 14, true);
        check(13, 20, false);
        check(20, 13, false);
        check(0, 20, false);
    }
}
