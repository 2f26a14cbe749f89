//! What the service manager is told (`sd_notify(3)`). Nothing is sent where nobody listens.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use sd_notify::NotifyState;

/// The voice of the process towards systemd. Clones share it.
///
/// The service manager believes the main process only. A successor is silent until its
/// predecessor has made it the main process, and the predecessor is silent from then on.
#[derive(Debug, Clone, Default)]
pub struct Notifier(Arc<AtomicU8>);

const LOUD: u8 = 0;
const MUTE: u8 = 1;

impl Notifier {
    /// Every listener accepts, or a reload has ended.
    pub fn ready(&self, status: &str) {
        self.send(&[NotifyState::Ready, NotifyState::Status(status)]);
    }

    /// A reload begins; [`Self::ready`] ends it. With the time, as `Type=notify-reload` wants it.
    pub fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.send(&[NotifyState::Reloading, now]),
            Err(error) => tracing::warn!(%error, "the service manager cannot be told"),
        }
    }

    pub fn stopping(&self, status: &str) {
        self.send(&[NotifyState::Stopping, NotifyState::Status(status)]);
    }

    /// One line for people: what `systemctl status` shows.
    pub fn status(&self, text: &str) {
        self.send(&[NotifyState::Status(text)]);
    }

    /// We are alive.
    pub fn watchdog(&self) {
        self.send(&[NotifyState::Watchdog]);
    }

    /// Another process is the main one from now on.
    pub fn main_pid(&self, pid: u32) {
        self.send(&[NotifyState::MainPid(pid)]);
    }

    /// Says nothing until [`Self::unmute`].
    pub fn mute(&self) {
        self.0.store(MUTE, Ordering::Release);
    }

    pub fn unmute(&self) {
        self.0.store(LOUD, Ordering::Release);
    }

    fn send(&self, state: &[NotifyState<'_>]) {
        if self.0.load(Ordering::Acquire) == MUTE {
            return;
        }
        if let Err(error) = sd_notify::notify(state) {
            tracing::warn!(%error, "the service manager cannot be told");
        }
    }
}

/// How often the service manager wants to hear that we are alive, at least.
pub fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled().filter(|period| !period.is_zero())
}
