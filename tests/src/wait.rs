//! Waiting for a condition with a deadline: the only kind of waiting that a test does.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::clock;

/// Ample for anything that happens on loopback, also on a busy machine. A test that runs into it has failed.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// Short enough not to matter, long enough not to steal the processor from what is waited for.
const INTERVAL: Duration = Duration::from_millis(5);

/// Polls until `condition` holds; panics with `what` after [`DEADLINE`].
#[track_caller]
pub fn until(what: &str, condition: impl FnMut() -> bool) {
    until_within(what, DEADLINE, condition);
}

/// As [`until`] with a deadline of one's own.
#[track_caller]
pub fn until_within(what: &str, deadline: Duration, mut condition: impl FnMut() -> bool) {
    some_within(what, deadline, || condition().then_some(()));
}

/// Polls until `look` finds something and returns it; panics with `what` after [`DEADLINE`].
#[track_caller]
pub fn some<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    some_within(what, DEADLINE, look)
}

/// As [`some`] with a deadline of one's own.
#[track_caller]
pub fn some_within<T>(what: &str, deadline: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let end = clock::now() + deadline;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(clock::now() < end, "waited {deadline:?} in vain until {what}");
        std::thread::sleep(INTERVAL);
    }
}

/// Says that somebody need not go on, also when the one who would say so panics.
pub struct SetOnDrop<'a>(pub &'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}
