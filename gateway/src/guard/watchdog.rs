//! A timer that many requests of one connection share.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::Sleep;

use crate::clock;

/// Wakes whoever polls it when a time has come. It outlives the request that it was set for: the
/// next one seldom needs it to be set anew, because most answers come long before they are due.
#[derive(Default)]
pub(super) struct Watchdog(Option<Armed>);

struct Armed {
    sleep: Pin<Box<Sleep>>,
    /// By the steady clock.
    at: Duration,
}

impl Watchdog {
    /// Until `due`, by the steady clock.
    pub fn poll(&mut self, cx: &mut Context<'_>, due: Duration) -> Poll<()> {
        loop {
            let armed = self.0.get_or_insert_with(|| {
                let left = due.saturating_sub(clock::steady());
                Armed { sleep: Box::pin(tokio::time::sleep(left)), at: due }
            });
            if armed.at <= due {
                ready!(armed.sleep.as_mut().poll(cx));
                if due <= clock::steady() {
                    return Poll::Ready(());
                }
            }
            // It was set for an earlier request.
            self.0 = None;
        }
    }
}
