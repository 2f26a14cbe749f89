//! What the supervisor is given to run.

use std::future::Future;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::pin::Pin;
use std::process::Command;
use std::time::Duration;

use pingora::services::ServiceWithDependents;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::bind::Listening;
use super::handover::{Handover, MakeLock};
use super::shutdown::Shutdown;
use crate::process::listening::Threads;
use crate::telemetry::events::Events;

pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// How a task ended. It runs until its token is cancelled; an earlier end, even with `Ok`, ends the
/// process.
pub type TaskResult = Result<(), BoxError>;

/// The services of the traffic listeners.
pub type Services = Vec<Box<dyn ServiceWithDependents>>;

pub(super) type TaskFuture = Pin<Box<dyn Future<Output = TaskResult> + Send>>;
type MakeServices = Box<dyn FnOnce(&[Listening], &Threads) -> Result<Services, BoxError>>;
type MakeSide = Box<dyn FnOnce(TcpListener, CancellationToken) -> TaskFuture + Send>;
type ReadyHook = Box<dyn FnMut(&[Listening])>;
pub(super) type MakeCommand = Box<dyn FnMut() -> Command>;
type MakeTask = Box<dyn FnOnce(CancellationToken) -> TaskFuture + Send>;

/// The times of a drain; see the methods of [`Plan`] with these names.
#[derive(Debug, Clone, Copy)]
pub struct Waits {
    pub shutdown_delay: Duration,
    pub shutdown_timeout: Duration,
    pub linger: Duration,
}

/// The traffic services, what runs beside them, and what is done on which occasion.
pub struct Plan {
    pub(super) threads: usize,
    pub(super) traffic: MakeServices,
    pub(super) sides: Vec<(String, MakeSide)>,
    pub(super) tasks: Vec<(String, MakeTask)>,
    pub(super) requests: TaskTracker,
    pub(super) connections: TaskTracker,
    pub(super) shutdown_delay: Duration,
    pub(super) shutdown_timeout: Duration,
    pub(super) shutdown_state: Shutdown,
    pub(super) linger: Duration,
    pub(super) waits: Option<Box<dyn Fn() -> Waits>>,
    pub(super) ready_file: Option<PathBuf>,
    pub(super) upgrade_socket: Option<PathBuf>,
    pub(super) successor: Option<MakeCommand>,
    pub(super) hooks: Hooks,
    pub(super) events: Events,
    pub(super) handover: Box<dyn FnMut(Handover)>,
    pub(super) lock: MakeLock,
    pub(super) old_gone: Box<dyn FnOnce() + Send>,
}

/// Called on the supervisor's thread, between signals: they must not block.
pub(super) struct Hooks {
    pub ready: ReadyHook,
    pub draining: Box<dyn FnMut()>,
    pub reload: Box<dyn FnMut()>,
    pub reopen_logs: Box<dyn FnMut()>,
}

impl Plan {
    /// `traffic` is called once, with the listeners that no side listener takes and the threads
    /// that are to serve them, before anything is served.
    ///
    /// Each of its services must listen on `Listening::address`, and between them they must serve
    /// every one. Make one service per listener, or one for all: the process ends when any of them
    /// does.
    pub fn new(
        traffic: impl FnOnce(&[Listening], &Threads) -> Result<Services, BoxError> + 'static,
    ) -> Self {
        Self {
            threads: 1,
            traffic: Box::new(traffic),
            sides: Vec::new(),
            tasks: Vec::new(),
            requests: TaskTracker::new(),
            connections: TaskTracker::new(),
            shutdown_delay: Duration::ZERO,
            shutdown_timeout: Duration::from_secs(300),
            shutdown_state: Shutdown::default(),
            linger: Duration::ZERO,
            waits: None,
            ready_file: None,
            upgrade_socket: None,
            successor: None,
            handover: Box::new(|_| ()),
            lock: Box::new(|| None),
            old_gone: Box::new(|| ()),
            events: Events::default(),
            hooks: Hooks {
                ready: Box::new(|_| ()),
                draining: Box::new(|| ()),
                reload: Box::new(|| {
                    tracing::info!("reload is not supported yet, restart to apply")
                }),
                reopen_logs: Box::new(|| tracing::info!("no log file is open, nothing to reopen")),
            },
        }
    }

    /// Threads that carry traffic. Give Pingora's `ServerConf::threads` the same number: it sizes
    /// pools by it.
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads.max(1);
        self
    }

    /// Serves the listener of this name by `serve`, on one thread of its own, to the very end of
    /// the drain.
    ///
    /// The socket is non-blocking already. The token is cancelled when the traffic has drained and the
    /// tasks have ended.
    pub fn side_listener<F, S>(mut self, name: &str, serve: F) -> Self
    where
        F: FnOnce(TcpListener, CancellationToken) -> S + Send + 'static,
        S: Future<Output = TaskResult> + Send + 'static,
    {
        self.sides.push((
            name.to_owned(),
            Box::new(move |listener, stop| Box::pin(serve(listener, stop))),
        ));
        self
    }

    /// Runs `task` on the thread that all tasks share. Its token is cancelled when the traffic has
    /// drained.
    pub fn task<F, T>(mut self, name: &str, task: F) -> Self
    where
        F: FnOnce(CancellationToken) -> T + Send + 'static,
        T: Future<Output = TaskResult> + Send + 'static,
    {
        self.tasks.push((name.to_owned(), Box::new(move |stop| Box::pin(task(stop)))));
        self
    }

    /// The drain ends with the last of these. Hold the token in the request's context
    /// (`ProxyHttp::CTX`), which Pingora drops after the answer has been handed to the kernel.
    pub fn requests(mut self, requests: TaskTracker) -> Self {
        self.requests = requests;
        self
    }

    /// Connections accepted and not closed. Without them a request that is accepted, but whose
    /// context is not made yet, is invisible when the drain asks whether anything is left.
    pub fn connections(mut self, connections: TaskTracker) -> Self {
        self.connections = connections;
        self
    }

    /// How long the listeners go on accepting after readiness has turned, so that balancers notice
    /// first.
    pub fn shutdown_delay(mut self, delay: Duration) -> Self {
        self.shutdown_delay = delay;
        self
    }

    /// How long requests may take to finish once the listeners are closed; the rest is cut.
    pub fn shutdown_timeout(mut self, timeout: Duration) -> Self {
        self.shutdown_timeout = timeout;
        self
    }

    /// Says when the idle connections of [`DrainingService`](super::DrainingService) are closed: at once in a
    /// drain, late after a hand-over.
    pub fn shutdown_state(mut self, shutdown_state: Shutdown) -> Self {
        self.shutdown_state = shutdown_state;
        self
    }

    /// How long idle connections live on after a hand-over. As long as they may be idle anyway
    /// is right: then none is closed in the face of a request.
    pub fn linger(mut self, linger: Duration) -> Self {
        self.linger = linger;
        self
    }

    /// What the three above are when the drain begins, where that may change meanwhile.
    pub fn waits(mut self, waits: impl Fn() -> Waits + 'static) -> Self {
        self.waits = Some(Box::new(waits));
        self
    }

    pub fn ready_file(mut self, path: Option<PathBuf>) -> Self {
        self.ready_file = path;
        self
    }

    /// Where a successor asks for the sockets, at any time until the drain begins.
    pub fn upgrade_socket(mut self, path: Option<PathBuf>) -> Self {
        self.upgrade_socket = path;
        self
    }

    /// What SIGUSR2 starts: a process that will ask for the sockets.
    pub fn successor(mut self, command: impl FnMut() -> Command + 'static) -> Self {
        self.successor = Some(Box::new(command));
        self
    }

    /// When a successor has asked for the sockets and will load its state next: what others can
    /// see of ours should be up to date. And when it has ended instead of taking over. May happen
    /// several times.
    pub fn on_handover(mut self, hook: impl FnMut(Handover) + 'static) -> Self {
        self.handover = Box::new(hook);
        self
    }

    /// A descriptor that a successor gets besides the sockets, copied when one asks: that of a lock
    /// on what both will use.
    pub fn lock(mut self, copy: impl Fn() -> Option<OwnedFd> + 'static) -> Self {
        self.lock = Box::new(copy);
        self
    }

    /// When the processes that we took over from have ended; never without any.
    pub fn on_old_gone(mut self, hook: impl FnOnce() + Send + 'static) -> Self {
        self.old_gone = Box::new(hook);
        self
    }

    /// Where the life of the process is told.
    pub fn events(mut self, events: Events) -> Self {
        self.events = events;
        self
    }

    /// When every listener accepts and the ready file is written.
    pub fn on_ready(mut self, hook: impl FnMut(&[Listening]) + 'static) -> Self {
        self.hooks.ready = Box::new(hook);
        self
    }

    /// When the process begins to stop, whatever the reason: readiness turns here.
    pub fn on_drain(mut self, hook: impl FnMut() + 'static) -> Self {
        self.hooks.draining = Box::new(hook);
        self
    }

    /// On SIGHUP.
    pub fn on_reload(mut self, hook: impl FnMut() + 'static) -> Self {
        self.hooks.reload = Box::new(hook);
        self
    }

    /// On SIGUSR1.
    pub fn on_reopen_logs(mut self, hook: impl FnMut() + 'static) -> Self {
        self.hooks.reopen_logs = Box::new(hook);
        self
    }
}
