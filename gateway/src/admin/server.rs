//! Sockets and connections of the admin listener.
//!
//! As on the ops listener, a connection carries one request, lives for a bounded time, and there
//! are not many of them.

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use http::Request;
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::ADMIN;
use super::access::Peer;
use super::api::Api;
use super::unix::UnixSocket;
use crate::process::supervisor::{BoxError, Plan, told_to_stop};

/// A page of 10,000 sessions is about 3 MiB.
pub const CONNECTIONS: usize = 32;

/// From the first byte of a connection to the last one. A reload may have to wait for names to be
/// resolved.
pub const EXCHANGE: Duration = Duration::from_secs(60);

const HEAD: Duration = Duration::from_secs(5);
const HEAD_BYTES: usize = 16 * 1024;
const HEAD_FIELDS: usize = 64;

/// After an accept that failed for want of descriptors, others need time to give some back.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long answers that have begun may go on after the end of the process was decided.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Adds to a plan what serves the interface: on the listener named [`ADMIN`], if `address` says that
/// there is one, and on a socket.
pub fn attach(mut plan: Plan, api: &Api, address: bool, socket: Option<UnixSocket>) -> Plan {
    if address {
        let api = api.clone();
        plan = plan.side_listener(ADMIN, move |listener, stop| async move {
            serve_tcp(listener, api, stop).await.map_err(BoxError::from)
        });
    }
    if let Some(socket) = socket {
        let api = api.clone();
        plan = plan.task("admin socket", move |stop| async move {
            serve_unix(socket, api, stop).await.map_err(BoxError::from)
        });
    }
    let api = api.clone();
    plan.task("admin drains", move |stop| api.watch_backends(stop))
}

/// Answers on a TCP socket until `shutdown` becomes true or its sender is gone.
///
/// # Errors
/// Only if the listener cannot be used with this runtime.
pub async fn serve_tcp(
    listener: std::net::TcpListener,
    api: Api,
    shutdown: watch::Receiver<bool>,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    serve(Listener::Tcp(TcpListener::from_std(listener)?), api, shutdown).await;
    Ok(())
}

/// Answers on a Unix socket, and removes its file in the end if it is still the same.
///
/// # Errors
/// Only if the listener cannot be used with this runtime.
pub async fn serve_unix(
    socket: UnixSocket,
    api: Api,
    shutdown: watch::Receiver<bool>,
) -> io::Result<()> {
    let (listener, file) = socket.into_parts();
    listener.set_nonblocking(true)?;
    serve(Listener::Unix(UnixListener::from_std(listener)?), api, shutdown).await;
    drop(file);
    Ok(())
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

enum Accepted {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Listener {
    async fn accept(&self) -> io::Result<(Accepted, Peer)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                Ok((Accepted::Tcp(stream), Peer::Tcp(address)))
            }
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                let uid = stream.peer_cred().ok().map(|peer| peer.uid());
                Ok((Accepted::Unix(stream), Peer::Unix { uid }))
            }
        }
    }
}

async fn serve(listener: Listener, api: Api, mut shutdown: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = told_to_stop(&mut shutdown) => break,
        };
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok(_) if connections.len() >= CONNECTIONS => {
                tracing::warn!("too many connections to the admin listener");
            }
            Ok((Accepted::Tcp(stream), peer)) => {
                connections.spawn(exchange(stream, peer, api.clone()));
            }
            Ok((Accepted::Unix(stream), peer)) => {
                connections.spawn(exchange(stream, peer, api.clone()));
            }
            Err(error) => {
                tracing::warn!(%error, "the admin listener cannot accept");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    let _ = timeout(LAST_WORDS, async { while connections.join_next().await.is_some() {} }).await;
}

async fn exchange(stream: impl AsyncRead + AsyncWrite + Unpin, peer: Peer, api: Api) {
    let service = service_fn(|request: Request<Incoming>| {
        let (parts, body) = request.into_parts();
        let api = api.clone();
        async move { Ok::<_, Infallible>(api.handle(peer, parts, !body.is_end_stream()).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(HEAD_BYTES)
        .max_headers(HEAD_FIELDS)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    // A peer that breaks off or is too slow has nobody to be told.
    let _ = timeout(EXCHANGE, connection).await;
}
