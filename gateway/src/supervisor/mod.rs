//! The life of the process: sockets, services, signals, drain, exit code.
//!
//! Takes the place of `pingora::server::Server`, which binds inside its services (a taken port
//! panics there and the process lives on, deaf), dies of SIGHUP, and sleeps through its whole grace
//! period even when nothing is left to do.
//!
//! ```no_run
//! # use bits_gateway::supervisor::{BoxError, InFlight, Listening, Plan, Services, Supervisor, told_to_stop};
//! # fn services(_: &[Listening]) -> Result<Services, BoxError> { todo!() }
//! # fn main() -> Result<(), BoxError> {
//! let supervisor = Supervisor::install()?; // first thing in main: from here no signal kills
//! let bound = supervisor.bind(&[("public", "[::]:8080".parse()?), ("ops", "127.0.0.1:9080".parse()?)])?;
//! let (requests, connections) = (InFlight::new(), InFlight::new());
//! let plan = Plan::new(services) // told the real addresses
//!     .threads(2)
//!     .requests(requests)
//!     .connections(connections)
//!     .side_listener("ops", |listener, mut stop| async move {
//!         // ... serve `listener` until ...
//!         told_to_stop(&mut stop).await;
//!         drop(listener);
//!         Ok(())
//!     });
//! let exit = match supervisor.run(bound, plan) {
//!     Ok(stop) => stop.exit(),
//!     Err(error) => error.exit(),
//! };
//! # Ok(())
//! # }
//! ```
//!
//! # Order of a stop
//! 1. `on_drain`: readiness turns; everything is served as before for `shutdown_delay`.
//! 2. The traffic watch turns true: listening sockets close, idle connections close, requests
//!    finish.
//! 3. The last request ends, or `shutdown_timeout` is over and the rest is cut.
//! 4. Tasks are told and joined, then side listeners (so `/metrics` answers to the end), then the
//!    runtimes end.
//!
//! # What Pingora 0.9.1 does when the watch turns true
//! - Each accept loop of a `Service` breaks out and drops its listener, which closes the socket:
//!   new connections are refused, and those the kernel had queued, but no loop accepted, are reset.
//!   Only `shutdown_delay` helps them.
//! - When all loops have ended, the service calls `ServerApp::cleanup` once, and `start_service`
//!   returns. For an `HttpProxy` that is `http_cleanup`: it sets the flag behind
//!   `Session::is_process_shutting_down` and wakes every connection that waits for a request head
//!   (idle ones, and those with half a head), which is dropped at once, without an answer. None of
//!   this depends on `pingora::server::Server`.
//! - A `ServerApp` of our own around `HttpProxy` must pass `cleanup` on. If it does not, the flag
//!   stays false and idle connections live until their keep-alive timeout. A connection that sits
//!   in such a wrapper before it reaches `HttpProxy` (a TLS handshake, a PROXY header) hears
//!   nothing either: the wrapper must watch `shutdown` itself. Pingora's own TLS handshake does not
//!   watch it; the connection is closed once the handshake is over.
//! - A whole head that has arrived when its connection is woken is still read and served, with
//!   `Connection: close` (unless the connection is so new that the runtime has not noticed the
//!   head: then it is reset, like one in the kernel's queue). A request in flight at that moment
//!   goes on untouched. Its answer says keep-alive, unless a filter sees `is_process_shutting_down`
//!   and calls `set_keepalive(None)`, but its connection closes after it anyway.
//! - Connections run in tasks that nobody holds. `start_service` returns without them, so who is
//!   left must be counted: hence `Plan::requests` and `Plan::connections`.
//! - `ProxyHttp::CTX` is dropped after `Session::finish`, when the answer is in the kernel's hands
//!   and, without keep-alive, the stream is shut down. A guard held there ends neither too early
//!   nor late.
//!
//! A systemd notification belongs where the ready file is written and where `on_drain` is called; a
//! hand-over of the sockets, on SIGQUIT, before the traffic watch turns.

mod bind;
mod group;
mod in_flight;
mod limits;
mod plan;
mod running;
mod signals;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::time::timeout;

pub use crate::exit::Exit;
pub use bind::{BindError, Bound, Listening};
pub use in_flight::{InFlight, InFlightGuard};
pub use plan::{BoxError, Plan, Services, TaskResult, told_to_stop};

use crate::ready_file::{self, ReadyFile};
use group::{Chain, Group};
use plan::Hooks;
use running::{Prepared, Running};
use signals::{Request, Signals};

/// With a listener or a task lost, requests under way get this long: enough for most, and the
/// restart is near.
const FAILURE_DRAIN: Duration = Duration::from_secs(10);
/// After the last request, connections get this long to close. Idle ones do at once; one whose client
/// is still sending must be read on until it has the answer, for which the connection guard takes
/// 30 s at most.
const CLOSING: Duration = Duration::from_secs(30);
/// Tasks have this long to end after they are told (the last rows of a store, an answer to a
/// scrape).
const TASKS_END: Duration = Duration::from_secs(10);
const SIDES_END: Duration = Duration::from_secs(2);
const RUNTIMES_END: Duration = Duration::from_secs(1);

/// Signal handlers in place, nothing else yet.
#[derive(Debug)]
pub struct Supervisor {
    runtime: Runtime,
    signals: Signals,
}

/// How a process that was asked to stop did so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// In order. `cut` requests were not finished when the time was over.
    Drained { cut: usize },
    /// At once, by a second signal.
    Forced { cut: usize },
}

#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("the services cannot be made")]
    Services(#[source] BoxError),
    #[error("no listener is named {listener}")]
    NoListener { listener: String },
    #[error("listener {listener} on {address} has no service")]
    NotServed { listener: String, address: SocketAddr },
    #[error("service {service} wants {address}, which is not a socket of its own")]
    NotBound { service: String, address: String },
    #[error("cannot write the ready file {}", path.display())]
    ReadyFile { path: PathBuf, source: io::Error },
    #[error("{task} ended unexpectedly")]
    Ended {
        task: String,
        #[source]
        cause: Option<BoxError>,
    },
    #[error("{task} panicked: {message}")]
    Panicked { task: String, message: String },
}

impl Stop {
    /// A forced stop is a failure: somebody's work was thrown away.
    pub fn exit(self) -> Exit {
        match self {
            Self::Drained { .. } => Exit::Ok,
            Self::Forced { .. } => Exit::Failure,
        }
    }
}

impl RunError {
    pub fn exit(&self) -> Exit {
        match self {
            Self::ReadyFile { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Exit::Permission
            }
            Self::ReadyFile { .. } => Exit::Io,
            _ => Exit::Failure,
        }
    }
}

impl Supervisor {
    /// Installs the signal handlers; the first thing `main` does. The calling thread becomes the
    /// supervisor's.
    pub fn install() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let signals = {
            let _inside = runtime.enter();
            Signals::install()?
        };
        Ok(Self { runtime, signals })
    }

    /// Opens every listening socket, by name. Port 0 takes a free port; `Bound::listening` tells
    /// which.
    pub fn bind<N: AsRef<str>>(&self, listeners: &[(N, SocketAddr)]) -> Result<Bound, BindError> {
        bind::bind(listeners)
    }

    /// Runs the plan until a signal or a failure ends it. Must not be called inside a tokio
    /// runtime.
    ///
    /// # Errors
    /// At the start: the plan does not fit the listeners, or the ready file cannot be written.
    /// Later: a service, side listener or task ended or panicked, which is logged when it happens;
    /// requests then had a few seconds to finish.
    pub fn run(self, bound: Bound, mut plan: Plan) -> Result<Stop, RunError> {
        let Self { runtime, mut signals } = self;
        limits::raise_open_files();
        let listening: Vec<Listening> = bound.listening().cloned().collect();
        let mut running = Prepared::new(bound, &mut plan)?.start(&mut plan);
        let result = runtime.block_on(live(&mut running, &mut signals, plan, &listening));
        running.abandon();
        result
    }
}

/// From the first accepted connection to the last joined task.
async fn live(
    running: &mut Running,
    signals: &mut Signals,
    plan: Plan,
    listening: &[Listening],
) -> Result<Stop, RunError> {
    let Plan {
        requests,
        connections,
        mut shutdown_delay,
        mut shutdown_timeout,
        ready_file,
        mut hooks,
        ..
    } = plan;
    let left = Left { requests, connections };

    let mut ours = None;
    let served = tokio::select! {
        biased;
        begun = ready(running, ready_file, listening) => match begun {
            Ok(file) => {
                ours = file;
                (hooks.ready)(listening);
                tokio::select! {
                    error = running.failed() => Err(error),
                    () = asked_to_stop(signals, &mut hooks) => Ok(()),
                }
            }
            Err(error) => Err(error),
        },
        () = asked_to_stop(signals, &mut hooks) => Ok(()),
    };
    if let Err(error) = &served {
        tracing::error!(error = %Chain(error), "stopping after a failure");
        shutdown_delay = Duration::ZERO;
        shutdown_timeout = shutdown_timeout.min(FAILURE_DRAIN);
    }

    (hooks.draining)();
    let stopped = tokio::select! {
        biased;
        () = forced(signals, &mut hooks) => {
            let cut = left.requests.count();
            tracing::warn!(requests = cut, "stopped at once by a second signal, requests were cut");
            Ok(Stop::Forced { cut })
        }
        stopped = drain(running, &left, shutdown_delay, shutdown_timeout) => stopped,
    };
    served?;
    if let (Ok(Stop::Drained { .. }), Some(file)) = (&stopped, ours)
        && let Err(error) = file.remove_if_ours()
    {
        tracing::warn!(%error, "cannot remove the ready file");
    }
    stopped
}

async fn ready(
    running: &mut Running,
    path: Option<PathBuf>,
    listening: &[Listening],
) -> Result<Option<ReadyFile>, RunError> {
    running.started().await?;
    let Some(path) = path else { return Ok(None) };
    let listeners = listening.iter().map(|listening| (listening.name.as_str(), listening.address));
    match ready_file::write(&path, std::process::id(), listeners) {
        Ok(file) => Ok(Some(file)),
        Err(source) => Err(RunError::ReadyFile { path, source }),
    }
}

/// Returns when a signal asks for a drain.
async fn asked_to_stop(signals: &mut Signals, hooks: &mut Hooks) {
    let signal = loop {
        match signals.next().await {
            Request::Stop(signal) => break signal,
            Request::Quit => break "SIGQUIT",
            Request::Reload => (hooks.reload)(),
            Request::ReopenLogs => (hooks.reopen_logs)(),
        }
    };
    tracing::info!(signal, "draining");
}

/// Returns when a signal says that the drain has lasted long enough.
async fn forced(signals: &mut Signals, hooks: &mut Hooks) {
    loop {
        match signals.next().await {
            Request::Stop(_) => return,
            Request::Quit => tracing::info!(signal = "SIGQUIT", "already draining"),
            Request::Reload => (hooks.reload)(),
            Request::ReopenLogs => (hooks.reopen_logs)(),
        }
    }
}

async fn drain(
    running: &mut Running,
    left: &Left,
    delay: Duration,
    limit: Duration,
) -> Result<Stop, RunError> {
    tokio::time::sleep(delay).await;
    running.traffic.stop();
    let mut result = Ok(());
    let in_time = timeout(limit, async {
        result = running.traffic.join().await;
        tracing::info!(
            requests = left.requests.count(),
            "listeners are closed, requests are finishing"
        );
        left.idle().await;
    })
    .await;
    let cut = if in_time.is_ok() { 0 } else { left.requests.count() };
    if cut > 0 {
        tracing::warn!(requests = cut, "the time to drain is over, requests were cut");
    }
    // Before the tasks end, so that no request under way finds them gone.
    running.end_traffic(RUNTIMES_END).await;
    result = result.and(end(&mut running.tasks, TASKS_END).await);
    result = result.and(end(&mut running.sides, SIDES_END).await);
    running.end_others(RUNTIMES_END).await;
    result.map(|()| Stop::Drained { cut })
}

async fn end(group: &mut Group, limit: Duration) -> Result<(), RunError> {
    group.stop();
    match timeout(limit, group.join()).await {
        Ok(result) => result,
        Err(_) => {
            tracing::warn!(tasks = ?group.left(), "tasks did not end when told, giving up on them");
            Ok(())
        }
    }
}

/// What a drain waits for.
struct Left {
    requests: InFlight,
    connections: InFlight,
}

impl Left {
    /// Returns when no request is under way and none can begin.
    async fn idle(&self) {
        loop {
            self.requests.idle().await;
            // A connection accepted in the last moment may turn out to carry a request, and one
            // that is closing may hold the end of an answer that its client has not read. One that
            // does neither (a TLS handshake that does not get on) is not waited for to its end.
            let _ = timeout(CLOSING, self.connections.idle()).await;
            if self.requests.count() == 0 {
                return;
            }
        }
    }
}
