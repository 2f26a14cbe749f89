//! Traffic: the threads that carry it, and the service that accepts connections on all of them.
//!
//! Takes the place of Pingora's `listening::Service`. On a runtime that steals work the task of a
//! connection moves between threads. On Pingora's other kind a connection is served by any thread,
//! while its socket stays with the thread that accepted it, so each event wakes two of them. Here
//! each thread accepts on a duplicate of each listening descriptor and serves what it accepts, to
//! the end ([decision 0058](../../../docs/decisions/0058-a-thread-serves-what-it-accepts.md)).
//!
//! What is absent: `SO_REUSEPORT`. Each thread would have a queue of its own, and what waits in the
//! queue of a socket that is closed, at an upgrade, is reset.

mod accept;
mod balance;
mod threads;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::Arc;

use async_trait::async_trait;
use pingora::server::{ListenFds, ShutdownWatch};
use pingora::services::{ServiceReadyNotifier, ServiceWithDependents};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use accept::{Acceptor, Failures};
pub use balance::Load;
pub use threads::{Threads, thread_number};

/// What serves accepted connections.
pub trait Handler: Send + Sync + 'static {
    /// Serves a connection, in a task of the thread that has accepted it. Others of the thread wait
    /// for as long as this blocks.
    fn serve(
        self: Arc<Self>,
        connection: Accepted,
        shutdown: ShutdownWatch,
    ) -> impl Future<Output = ()> + Send;

    /// Called once, when no thread accepts any more. Connections may be open still.
    fn cleanup(&self) -> impl Future<Output = ()> + Send;
}

/// A connection that was just accepted. What is written goes out at once (`TCP_NODELAY`).
#[derive(Debug)]
pub struct Accepted {
    pub socket: TcpStream,
    pub peer: SocketAddr,
    /// To be held until the connection has ended: by this the thread knows how many it has.
    pub load: Load,
}

/// Accepts on every thread, until the shutdown watch turns true.
pub struct Service<H> {
    name: String,
    addresses: Vec<SocketAddr>,
    handler: Arc<H>,
    threads: Threads,
}

impl<H: Handler> Service<H> {
    pub fn new(name: String, handler: H, threads: &Threads) -> Self {
        let (addresses, handler) = (Vec::new(), Arc::new(handler));
        Self { name, addresses, handler, threads: threads.clone() }
    }

    /// Has the service take the socket of that address from the table it is started with.
    pub fn listen(&mut self, address: SocketAddr) {
        self.addresses.push(address);
    }

    /// Starts the loops of all threads. One that accepts drops its `started`.
    fn start(
        &self,
        fds: Option<&ListenFds>,
        shutdown: &ShutdownWatch,
        started: &mpsc::Sender<std::convert::Infallible>,
    ) -> io::Result<JoinSet<()>> {
        let failures = Arc::new(Failures::new(&self.name));
        let mut sockets = Vec::new();
        for &address in &self.addresses {
            let socket = fds
                .and_then(|fds| take(fds, address))
                .ok_or_else(|| io::Error::other(format!("there is no socket for {address}")))?;
            for handle in self.threads.handles() {
                sockets.push(register(socket.try_clone()?, handle)?);
            }
        }
        let mut loops = JoinSet::new();
        let of_threads = self.threads.handles().iter().enumerate().cycle();
        for (socket, (thread, handle)) in sockets.into_iter().zip(of_threads) {
            let acceptor = Acceptor {
                handler: Arc::clone(&self.handler),
                loads: Arc::clone(self.threads.loads()),
                thread,
                failures: Arc::clone(&failures),
                shutdown: shutdown.clone(),
            };
            loops.spawn_on(acceptor.run(socket, started.clone()), handle);
        }
        Ok(loops)
    }
}

#[async_trait]
impl<H: Handler> ServiceWithDependents for Service<H> {
    async fn start_service(
        &mut self,
        fds: Option<ListenFds>,
        shutdown: ShutdownWatch,
        _: usize,
        ready: ServiceReadyNotifier,
    ) {
        let (started, mut all_started) = mpsc::channel(1);
        let mut loops = match self.start(fds.as_ref(), &shutdown, &started) {
            Ok(loops) => loops,
            Err(error) => {
                let listener = &self.name;
                tracing::error!(%listener, %error, "connections cannot be accepted");
                return;
            }
        };
        drop(started);
        // Nothing is ever sent: this ends when the last loop has dropped its end.
        all_started.recv().await;
        ready.notify_ready();
        while let Some(ended) = loops.join_next().await {
            // The panic is the service's, whose others end with it. A loop is cancelled only by the
            // end of its thread.
            if let Some(panic) = ended.err().and_then(|error| error.try_into_panic().ok()) {
                std::panic::resume_unwind(panic);
            }
        }
        self.handler.cleanup().await;
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn listen_addresses(&self) -> Option<Vec<String>> {
        Some(self.addresses.iter().map(ToString::to_string).collect())
    }
}

/// Takes a socket over from the table of descriptors, which goes by their addresses as text.
fn take(fds: &ListenFds, address: SocketAddr) -> Option<TcpListener> {
    let fd = *fds.lock().get(&address.to_string())?;
    // SAFETY: who put the descriptor into the table has given it away (`into_raw_fd`), and each
    // address has one service, which is started once: the supervisor checks the first and does the
    // second. So nobody else owns or closes it.
    Some(TcpListener::from(unsafe { OwnedFd::from_raw_fd(fd) }))
}

/// Has the thread be woken when somebody connects.
fn register(socket: TcpListener, thread: &Handle) -> io::Result<AsyncFd<TcpListener>> {
    // Whoever passed the socket on may have changed it, and a thread must not wait inside a call.
    socket.set_nonblocking(true)?;
    let _inside = thread.enter();
    // SAFETY: a listener owns its descriptor, returns the same one always, and keeps it open until
    // it is dropped; only shared references to it are handed out.
    Ok(unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }?)
}

#[cfg(test)]
mod tests;
