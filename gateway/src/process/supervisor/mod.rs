//! The life of the process: sockets, services, signals, drain, exit code.
//!
//! Takes the place of `pingora::server::Server`, which binds inside its services (a taken port
//! panics there and the process lives on, deaf), dies of SIGHUP, and sleeps through its whole grace
//! period even when nothing is left to do.
//!
//! ```no_run
//! # use bits_gateway::process::listening::Threads;
//! # use bits_gateway::process::supervisor::{BoxError, Listening, Plan, Services, Supervisor};
//! # use tokio_util::task::TaskTracker;
//! # fn services(_: &[Listening], _: &Threads) -> Result<Services, BoxError> { todo!() }
//! # fn main() -> Result<(), BoxError> {
//! let supervisor = Supervisor::install()?; // first thing in main: from here no signal kills
//! let bound = supervisor.bind(&[("public", "[::]:8080".parse()?), ("ops", "127.0.0.1:9080".parse()?)])?;
//! let (requests, connections) = (TaskTracker::new(), TaskTracker::new());
//! let plan = Plan::new(services) // told the real addresses
//!     .threads(2)
//!     .requests(requests)
//!     .connections(connections)
//!     .side_listener("ops", |listener, stop| async move {
//!         // ... serve `listener` until ...
//!         stop.cancelled().await;
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
//! # What follows when the watch turns true
//! - Each accept loop of a [`listening::Service`](crate::process::listening::Service) breaks out and drops its
//!   duplicate of the socket. With the last one the socket closes: new connections are refused, and
//!   those the kernel had queued, but no loop accepted, are reset. Only `shutdown_delay` helps them.
//! - When all loops have ended, the service calls `Handler::cleanup` once, and `start_service`
//!   returns. What is behind must pass `cleanup` on to Pingora 0.9.1's `http_cleanup`: it sets the
//!   flag behind `Session::is_process_shutting_down` and wakes every connection that waits for a
//!   request head (idle ones, and those with half a head), which is dropped at once, without an
//!   answer. If it is not called, the flag stays false and idle connections live until their
//!   keep-alive timeout. None of this depends on `pingora::server::Server`.
//! - A connection that has not come to Pingora yet (a TLS handshake, a PROXY header) hears nothing
//!   of it: what it waits for must watch `shutdown` itself.
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
//! # Order of a hand-over
//! 1. A successor asks for the sockets on the upgrade socket and gets copies of them
//!    (`handover`). It loads, starts its services on them, and says so. Both accept from here on.
//! 2. The service manager is told who the main process is now.
//! 3. Our side listeners end, so that nobody asks us whether we are ready. Then `on_drain`.
//! 4. The traffic watch turns true: we accept no more, the successor has the queue. Idle
//!    connections live on for `linger`; each gets one more request answered (see [`DrainingService`]).
//! 5. The rest is as in a stop.

mod bind;
mod drain;
mod group;
mod handover;
mod inherit;
mod life;
mod limits;
mod plan;
mod running;
mod shutdown;
mod signals;
mod successor;
mod told;
mod watchdog;

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use tokio::runtime::Runtime;

pub use crate::process::exit::Exit;
pub use bind::{BindError, Bound, Listening};
pub use group::Chain;
pub use handover::{Handover, HandoverSocketError, OldGone, TakeOverError};
pub use limits::{open_files, raise_open_files};
pub use plan::{BoxError, Plan, Services, TaskResult, Waits};
pub use shutdown::{DrainingService, Shutdown};
pub use successor::command as successor_command;

use crate::process::notify_systemd::Notifier;
use inherit::Inherited;
use running::Prepared;
use signals::Signals;

/// Signal handlers in place, nothing else yet.
#[derive(Debug)]
pub struct Supervisor {
    runtime: Runtime,
    signals: Signals,
    notifier: Notifier,
    /// From the service manager.
    inherited: RefCell<Inherited>,
}

/// How a process that was asked to stop did so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// In order. `cut` requests were not finished when the time was over.
    Drained { cut: usize },
    /// In order, while a successor goes on.
    HandedOver { cut: usize },
    /// At once, by a second signal.
    Forced { cut: usize },
}

#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("the services cannot be made")]
    Services(#[source] BoxError),
    #[error("the threads that carry traffic cannot be started")]
    Threads(#[source] io::Error),
    #[error("no listener is named {listener}")]
    NoListener { listener: String },
    #[error("listener {listener} on {address} has no service")]
    NotServed { listener: String, address: SocketAddr },
    #[error("service {service} wants {address}, which is not a socket of its own")]
    NotBound { service: String, address: String },
    #[error("cannot write the ready file {}", path.display())]
    ReadyFile { path: PathBuf, source: io::Error },
    #[error("no successor could be served")]
    UpgradeSocket(#[source] HandoverSocketError),
    #[error("the listening sockets cannot be copied for a successor")]
    Copy(#[source] io::Error),
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
            Self::Drained { .. } | Self::HandedOver { .. } => Exit::Ok,
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
            Self::ReadyFile { .. } | Self::Copy(_) | Self::Threads(_) => Exit::Io,
            Self::UpgradeSocket(error) => error.exit(),
            _ => Exit::Failure,
        }
    }
}

impl Supervisor {
    /// Installs the signal handlers; the first thing `main` does. The calling thread becomes the
    /// supervisor's.
    ///
    /// # Errors
    /// Also when the service manager passes on what is no listening socket.
    pub fn install() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let signals = {
            let _inside = runtime.enter();
            Signals::install()?
        };
        let inherited = RefCell::new(Inherited::from_manager()?);
        Ok(Self { runtime, signals, notifier: Notifier::default(), inherited })
    }

    /// For those who have something to tell the service manager.
    pub fn notifier(&self) -> Notifier {
        self.notifier.clone()
    }

    /// Opens every listening socket, by name. Port 0 takes a free port; `Bound::listening` tells
    /// which. What the service manager has opened for a listener of that name is used as it is.
    pub fn bind<N: AsRef<str>>(&self, listeners: &[(N, SocketAddr)]) -> Result<Bound, BindError> {
        let mut inherited = self.inherited.take();
        let bound = bind::bind(listeners, &mut inherited)?;
        inherited.close();
        Ok(bound)
    }

    /// The same with the sockets of the running process, which it hands over on its upgrade socket.
    /// A listener that it does not have is bound; one that we do not have is closed with it.
    ///
    /// It goes on serving until [`Self::run`] has every listener accept, and loses nothing if that
    /// never happens. Load what it has stored after this, not before: see [`Bound::old_gone`].
    pub fn take_over<N: AsRef<str>>(
        &self,
        upgrade_socket: &Path,
        listeners: &[(N, SocketAddr)],
    ) -> Result<Bound, TakeOverError> {
        let claim = self.runtime.block_on(handover::claim(upgrade_socket))?;
        let sockets = Inherited::from_predecessor(claim.sockets);
        let mut inherited = sockets
            .map_err(|source| TakeOverError::Broken { path: upgrade_socket.to_owned(), source })?;
        let mut bound = bind::bind(listeners, &mut inherited)?;
        inherited.close();
        bound.predecessor = Some(claim.predecessor);
        bound.lock = claim.lock;
        // The one that the service manager knows is still the other.
        self.notifier.mute();
        Ok(bound)
    }

    /// Runs the plan until a signal, a successor or a failure ends it. Must not be called inside a
    /// tokio runtime.
    ///
    /// # Errors
    /// At the start: the plan does not fit the listeners, or the ready file or the upgrade socket
    /// cannot be made. Later: a service, side listener or task ended or panicked, which is logged
    /// when it happens; requests then had a few seconds to finish.
    pub fn run(self, mut bound: Bound, mut plan: Plan) -> Result<Stop, RunError> {
        let Self { runtime, mut signals, notifier, .. } = self;
        limits::warn_of_root();
        let copies = match &plan.upgrade_socket {
            Some(_) => bound.copies().map_err(RunError::Copy)?,
            None => Vec::new(),
        };
        let predecessor = bound.predecessor.take();
        let listening: Vec<Listening> = bound.listening().cloned().collect();
        let mut running = Prepared::new(bound, &mut plan)?.start(&mut plan);
        let start = life::Start { listening, copies, predecessor, notifier };
        let result = runtime.block_on(life::live(&mut running, &mut signals, plan, start));
        running.abandon();
        result
    }
}
