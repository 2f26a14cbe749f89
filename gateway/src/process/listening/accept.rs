//! The loop of one thread that accepts on one socket.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pingora::server::ShutdownWatch;
use rustix::io::Errno;
use rustix::net::{SocketFlags, acceptfrom_with};
use tokio::io::unix::AsyncFd;
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::balance::Loads;
use super::{Accepted, Handler};
use crate::base::clock;

/// Nothing is accepted for so long when there is no descriptor, or no memory, for a connection: it
/// waits in the kernel's queue, and what is open goes on.
const WANT: Duration = Duration::from_millis(250);

/// A line at most in so many milliseconds.
const COMPLAIN: u64 = 1000;

/// What accepts on one socket, for each thread one.
pub(super) struct Acceptor<H> {
    pub handler: Arc<H>,
    pub loads: Arc<Loads>,
    /// In the order of the threads.
    pub thread: usize,
    pub failures: Arc<Failures>,
    pub shutdown: ShutdownWatch,
}

impl<H: Handler> Acceptor<H> {
    /// Accepts until the watch turns true. `started` is dropped when the loop runs.
    pub async fn run(self, listener: AsyncFd<TcpListener>, started: mpsc::Sender<Infallible>) {
        drop(started);
        let mut shutdown = self.shutdown.clone();
        let mut told = pin!(async move {
            // An error means that the supervisor has gone, which comes to the same.
            let _ = shutdown.wait_for(|stop| *stop).await;
        });
        loop {
            let next = tokio::select! {
                biased;
                () = &mut told => return,
                next = self.next(&listener) => next,
            };
            match next.and_then(|(socket, peer)| open(socket, peer)) {
                Ok((socket, peer)) => {
                    let load = self.loads.enter(self.thread);
                    let accepted = Accepted { socket, peer, load };
                    let handler = Arc::clone(&self.handler);
                    tokio::spawn(handler.serve(accepted, self.shutdown.clone()));
                }
                Err(error) if concerns_one_connection(&error) => {}
                Err(error) => {
                    self.failures.note(&error);
                    tokio::select! {
                        () = &mut told => return,
                        () = tokio::time::sleep(WANT) => {}
                    }
                }
            }
            // New connections must not keep open ones waiting.
            tokio::task::coop::consume_budget().await;
        }
    }

    async fn next(
        &self,
        listener: &AsyncFd<TcpListener>,
    ) -> io::Result<(std::net::TcpStream, SocketAddr)> {
        loop {
            let mut ready = listener.readable().await?;
            if self.loads.is_ahead(self.thread) {
                self.loads.give_way(self.thread).await;
            }
            // Another thread, or another process, may have been quicker.
            if let Ok(accepted) = ready.try_io(|listener| accept(listener.get_ref())) {
                return accepted;
            }
        }
    }
}

fn accept(listener: &TcpListener) -> io::Result<(std::net::TcpStream, SocketAddr)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (socket, peer) = acceptfrom_with(listener, flags)?;
    let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok());
    // A connection without an address has ended meanwhile.
    let peer = peer.ok_or(io::ErrorKind::ConnectionAborted)?;
    Ok((socket.into(), peer))
}

fn open(socket: std::net::TcpStream, peer: SocketAddr) -> io::Result<(TcpStream, SocketAddr)> {
    let socket = TcpStream::from_std(socket)?;
    // An answer is written in one piece. Where this fails the connection is gone, which its first
    // read shows.
    let _ = socket.set_nodelay(true);
    Ok((socket, peer))
}

/// Whether accepting failed for a connection alone, so that the next one can be tried at once.
///
/// # Source
/// accept(2): Linux passes on what the network has said of the new connection, and a filter may have
/// refused it.
fn concerns_one_connection(error: &io::Error) -> bool {
    const OF_THE_CONNECTION: [Errno; 12] = [
        Errno::CONNABORTED,
        Errno::INTR,
        Errno::PERM,
        Errno::PROTO,
        Errno::NOPROTOOPT,
        Errno::NETDOWN,
        Errno::NETUNREACH,
        Errno::NONET,
        Errno::HOSTDOWN,
        Errno::HOSTUNREACH,
        Errno::CONNRESET,
        Errno::TIMEDOUT,
    ];
    error.kind() == io::ErrorKind::ConnectionAborted
        || Errno::from_io_error(error).is_some_and(|errno| OF_THE_CONNECTION.contains(&errno))
}

/// Failures to accept, of all threads of a service.
pub(super) struct Failures {
    service: String,
    /// Since the last line.
    count: AtomicU64,
    /// Milliseconds of the steady clock when the next line may be written.
    next: AtomicU64,
}

impl Failures {
    pub fn new(service: &str) -> Self {
        let (count, next) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { service: service.to_owned(), count, next }
    }

    fn note(&self, error: &io::Error) {
        self.count.fetch_add(1, Ordering::Relaxed);
        let now = u64::try_from(clock::steady().as_millis()).unwrap_or(u64::MAX);
        let due = |next: u64| (now >= next).then(|| now.saturating_add(COMPLAIN));
        if self.next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, due).is_ok() {
            let failures = self.count.swap(0, Ordering::Relaxed);
            let listener = &self.service;
            tracing::error!(%listener, %error, failures, "connections cannot be accepted, they wait");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_want_of_the_process_pauses_accepting() {
        for (errno, passes) in [
            (Errno::CONNABORTED, true),
            (Errno::PROTO, true),
            (Errno::PERM, true),
            (Errno::HOSTUNREACH, true),
            (Errno::MFILE, false),
            (Errno::NFILE, false),
            (Errno::NOBUFS, false),
            (Errno::NOMEM, false),
            (Errno::INVAL, false),
            (Errno::NOSPC, false),
        ] {
            assert_eq!(concerns_one_connection(&errno.into()), passes, "{errno}");
        }
        assert!(concerns_one_connection(&io::ErrorKind::ConnectionAborted.into()));
    }
}
