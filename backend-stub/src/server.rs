//! Connections: accepting them, and what comes after each request on them.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio_rustls::TlsAcceptor;

use crate::conn::{Conn, NoHead};
use crate::faults::Faults;
use crate::http::Answer;
use crate::log::{self, Level};
use crate::options::Options;
use crate::records::{Requests, Stats};
use crate::request::Request;
use crate::transport::Transport;
use crate::uploads::Uploads;

/// Connections served at once; more wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 8192;

/// How long to swallow what a peer still sends after our side is closed. Closing with unread bytes
/// would send a reset, which may destroy the answer on its way.
const LINGER: Duration = Duration::from_secs(10);
const LINGER_AT_END: Duration = Duration::from_secs(1);

/// Everything that the connections share.
pub struct Server {
    pub options: Arc<Options>,
    pub uploads: Uploads,
    pub stats: Stats,
    pub requests: Requests,
    pub faults: Faults,
    tls: Option<TlsAcceptor>,
    gate: mpsc::Sender<(bool, oneshot::Sender<io::Result<()>>)>,
}

/// What comes after a request.
pub enum Next {
    /// Another request on the same connection.
    KeepAlive,
    /// FIN; nothing is on its way.
    Drop,
    /// FIN, after swallowing what still comes.
    Finish,
    Reset,
    /// Silence until the peer gives up.
    Stall,
}

/// The commands of the accept loop.
pub type Gate = mpsc::Receiver<(bool, oneshot::Sender<io::Result<()>>)>;

impl Server {
    pub fn new(
        options: Arc<Options>,
        uploads: Uploads,
        tls: Option<TlsAcceptor>,
    ) -> (Arc<Self>, Gate) {
        let (gate, commands) = mpsc::channel(1);
        let server = Arc::new(Self {
            requests: Requests::new(options.control.is_some()),
            options,
            uploads,
            stats: Stats::default(),
            faults: Faults::default(),
            tls,
            gate,
        });
        (server, commands)
    }

    /// Closes the upload listener, or opens it again on the same port. Done when this returns.
    pub async fn refuse(&self, on: bool) -> io::Result<()> {
        let (done, result) = oneshot::channel();
        let gone = || io::Error::other("the server is ending");
        self.gate.send((on, done)).await.map_err(|_| gone())?;
        result.await.map_err(|_| gone())?
    }

    /// Accepts connections until `stop`, then waits for the requests in flight.
    pub async fn run(
        self: Arc<Self>,
        listener: TcpListener,
        mut gate: Gate,
        mut stop: watch::Receiver<bool>,
    ) -> io::Result<()> {
        let address = listener.local_addr()?;
        let mut listener = Some(listener);
        // A closed listener leaves its port to others; a socket bound to it keeps it ours.
        let mut placeholder = None;
        let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut number = 0;
        let connections_stop = stop.clone();
        loop {
            tokio::select! {
                () = stopped(&mut stop) => break,
                Some((on, done)) = gate.recv() => {
                    let result = if on {
                        listener = None;
                        reserve(address).map(|socket| placeholder = Some(socket))
                    } else if listener.is_none() {
                        placeholder
                            .take()
                            .map_or_else(|| reserve(address), Ok)
                            .and_then(|socket| socket.listen(1024))
                            .map(|open| listener = Some(open))
                    } else {
                        Ok(())
                    };
                    let _ = done.send(result);
                }
                (permit, accepted) = accept(&room, listener.as_ref()) => match accepted {
                    Ok((stream, peer)) => {
                        number += 1;
                        let (server, stop) = (Arc::clone(&self), connections_stop.clone());
                        let connection = number;
                        tokio::spawn(async move {
                            server.serve(stream, peer.ip(), connection, stop).await;
                            drop(permit);
                        });
                    }
                    Err(error) => {
                        log::line(
                            Level::Warn,
                            "accept_failed",
                            format_args!("error={:?}", error.to_string()),
                        );
                        // Out of file descriptors, most likely: give the open ones time to end.
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                },
            }
        }
        drop((listener, placeholder));
        let _ = room.acquire_many(u32::try_from(MAX_CONNECTIONS).unwrap_or(u32::MAX)).await;
        Ok(())
    }

    async fn serve(
        &self,
        stream: TcpStream,
        peer: IpAddr,
        connection: u64,
        mut stop: watch::Receiver<bool>,
    ) {
        let _ = stream.set_nodelay(true);
        self.stats.connections.fetch_add(1, Relaxed);
        self.stats.open_connections.fetch_add(1, Relaxed);
        let stream = match Transport::accept(stream, self.tls.as_ref()).await {
            Ok(stream) => stream,
            Err(error) => {
                let error = error.to_string();
                log::line(Level::Warn, "no_tls", format_args!("error={error:?}"));
                self.stats.open_connections.fetch_sub(1, Relaxed);
                return;
            }
        };
        match stream.is_resumed() {
            None => {}
            Some(false) => _ = self.stats.full_handshakes.fetch_add(1, Relaxed),
            Some(true) => _ = self.stats.resumed_handshakes.fetch_add(1, Relaxed),
        }
        let mut conn = Conn::new(stream);
        let next = loop {
            let idle = self.options.idle_timeout;
            tokio::select! {
                // A request that is here already is served, also while the server ends.
                biased;
                waited = conn.wait_for_request(idle) => if waited.is_err() { break Next::Drop },
                () = stopped(&mut stop) => break Next::Drop,
            }
            let next = match conn.read_head(idle).await {
                Ok(raw) => {
                    let request = Request { server: self, peer, connection, stop: &stop };
                    request.serve(&mut conn, raw).await
                }
                Err(error) => self.no_head(&mut conn, connection, error).await,
            };
            match next {
                Next::KeepAlive => {}
                next => break next,
            }
        };
        match next {
            Next::KeepAlive | Next::Drop => drop(conn),
            Next::Finish => {
                let ending = *stop.borrow();
                conn.finish(if ending { LINGER_AT_END } else { LINGER }).await;
            }
            Next::Reset => conn.reset(),
            Next::Stall => tokio::select! {
                () = conn.stall() => {}
                () = stopped(&mut stop) => {}
            },
        }
        self.stats.open_connections.fetch_sub(1, Relaxed);
    }

    async fn no_head(&self, conn: &mut Conn, connection: u64, error: NoHead) -> Next {
        let (bytes, status) = match &error {
            NoHead::Closed | NoHead::Idle => return Next::Drop,
            NoHead::Cut(bytes) => (bytes, None),
            NoHead::TooLarge(bytes) => (bytes, Some(431)),
        };
        let record = self.requests.begin(connection, bytes);
        if let Some(status) = status {
            let mut answer = Answer::new(status);
            answer.close = Some("close");
            let _ = conn.write_answer(&answer, None).await;
            self.requests.update(record, |r| r.status = Some(status));
        }
        Next::Finish
    }
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // The other end is gone only when the process ends anyway.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Waits for room, then for a connection; for ever while the listener is closed.
async fn accept(
    room: &Arc<Semaphore>,
    listener: Option<&TcpListener>,
) -> (tokio::sync::OwnedSemaphorePermit, io::Result<(TcpStream, SocketAddr)>) {
    let Some(listener) = listener else {
        return std::future::pending().await;
    };
    let permit = Arc::clone(room).acquire_owned().await.expect("the semaphore is never closed");
    (permit, listener.accept().await)
}

/// A socket that holds the port without listening: connections to it are refused.
fn reserve(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}
