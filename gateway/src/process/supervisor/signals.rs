//! Unix signals, as what they ask for.

use std::future::pending;
use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// SIGTERM and SIGINT: drain; when draining already, stop now.
    Stop(&'static str),
    /// SIGQUIT: drain, but leave the sockets to a successor where one may come. It never means
    /// "now".
    Quit,
    /// SIGHUP
    Reload,
    /// SIGUSR1
    ReopenLogs,
    /// SIGUSR2: start a successor.
    Upgrade,
}

/// Handlers for every signal the process answers to.
///
/// From here on none of them kills the process. One that arrives before `next` is called is kept,
/// not lost. SIGPIPE needs no handler: Rust's runtime ignores it from the start, and a broken pipe
/// is an error of the write.
#[derive(Debug)]
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
    hangup: Signal,
    user1: Signal,
    user2: Signal,
}

impl Signals {
    /// Must be called inside the runtime that will wait for them.
    pub fn install() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            hangup: signal(SignalKind::hangup())?,
            user1: signal(SignalKind::user_defined1())?,
            user2: signal(SignalKind::user_defined2())?,
        })
    }

    /// Waits for the next signal; losing the future loses no signal.
    pub async fn next(&mut self) -> Request {
        tokio::select! {
            biased;
            Some(()) = self.terminate.recv() => Request::Stop("SIGTERM"),
            Some(()) = self.interrupt.recv() => Request::Stop("SIGINT"),
            Some(()) = self.quit.recv() => Request::Quit,
            Some(()) = self.hangup.recv() => Request::Reload,
            Some(()) = self.user1.recv() => Request::ReopenLogs,
            Some(()) = self.user2.recv() => Request::Upgrade,
            else => pending().await,
        }
    }
}
