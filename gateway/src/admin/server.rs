//! Sockets and connections of the admin listener.
//!
//! As on the ops listener, a connection carries one request, lives for a bounded time, and there
//! are not many of them. Only one that keeps a page up to date stays, and there are
//! `live::PLACES` for these.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use gateway_core::session::limits::PerClient;
use http::{Request, Response};
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::access::{Entrance, Peer};
use super::api::Api;
use super::body::AnswerBody;
use super::stay::{LAST_WORDS, Stay};
use super::unix::UnixSocket;
use super::{ADMIN, page};
use crate::guard::{Addresses, Room};
use crate::process::supervisor::{BoxError, Plan};
use crate::tls::ListenerTls;

/// In all: those that keep pages up to date, `page::PLACES` requests of browsers, and 24 more
/// of which browsers cannot take one for longer than `HEAD`, so that commands get in. A page of
/// 10,000 sessions is about 3 MiB.
pub const CONNECTIONS: usize = 64;

/// Of these, those of one client, so that its open pages leave room for commands from elsewhere: as
/// many as browsers can take, and eight commands. The socket is for people of this machine.
pub const OF_ONE_CLIENT: u64 = 48;

/// What waits in the kernel for a slow reader. The system would let it grow to megabytes, and an open
/// page that stands still would be found out after an hour.
const SEND_BUFFER: usize = 64 * 1024;

const HEAD: Duration = Duration::from_secs(5);
const HEAD_BYTES: usize = 16 * 1024;
const HEAD_FIELDS: usize = 64;

/// After an accept that failed for want of descriptors, others need time to give some back.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Adds to a plan what serves the interface: on the listener named [`ADMIN`], if `address` says that
/// there is one, and on a socket.
pub fn attach(
    mut plan: Plan,
    api: &Api,
    address: bool,
    tls: Option<Arc<ListenerTls>>,
    socket: Option<UnixSocket>,
) -> Plan {
    if address {
        let api = api.clone();
        plan = plan.side_listener(ADMIN, move |listener, stop| async move {
            serve_tcp(listener, tls, api, stop).await.map_err(BoxError::from)
        });
    }
    if let Some(socket) = socket {
        let api = api.clone();
        plan = plan.task("admin socket", move |stop| async move {
            serve_unix(socket, api, stop).await.map_err(BoxError::from)
        });
    }
    let (pages, api) = (api.clone(), api.clone());
    plan.task("admin drains", move |stop| api.watch_backends(stop))
        .task("admin pages", move |stop| page::keep_up_to_date(pages, stop))
}

/// The address of a socket that was handed over is not that of the configuration, which was checked.
fn check_address(listener: &std::net::TcpListener, tls: bool) -> io::Result<()> {
    let address = listener.local_addr()?;
    if tls || address.ip().to_canonical().is_loopback() {
        return Ok(());
    }
    let message = format!(
        "the admin listener was handed over at {address}, where others can read tokens: set \
         admin.tls, or have it listen on 127.0.0.1 or [::1]"
    );
    Err(io::Error::new(io::ErrorKind::PermissionDenied, message))
}

/// Answers on a TCP socket until told to stop.
///
/// # Errors
/// The listener cannot be used with this runtime, or must not be used without TLS.
pub async fn serve_tcp(
    listener: std::net::TcpListener,
    tls: Option<Arc<ListenerTls>>,
    api: Api,
    stop: CancellationToken,
) -> io::Result<()> {
    check_address(&listener, tls.is_some())?;
    listener.set_nonblocking(true)?;
    serve(Listener::Tcp(TcpListener::from_std(listener)?, tls), api, stop).await;
    Ok(())
}

/// Answers on a Unix socket, and removes its file in the end if it is still the same.
///
/// # Errors
/// Only if the listener cannot be used with this runtime.
pub async fn serve_unix(socket: UnixSocket, api: Api, stop: CancellationToken) -> io::Result<()> {
    let (listener, file) = socket.into_parts();
    listener.set_nonblocking(true)?;
    serve(Listener::Unix(UnixListener::from_std(listener)?), api, stop).await;
    drop(file);
    Ok(())
}

enum Listener {
    Tcp(TcpListener, Option<Arc<ListenerTls>>),
    Unix(UnixListener),
}

enum Accepted {
    Tcp(TcpStream),
    Tls(TcpStream, TlsAcceptor),
    Unix(UnixStream),
}

impl Listener {
    async fn accept(&self) -> io::Result<(Accepted, Entrance)> {
        match self {
            Self::Tcp(listener, tls) => {
                let (stream, address) = listener.accept().await?;
                let _ = SockRef::from(&stream).set_send_buffer_size(SEND_BUFFER);
                let local = stream.local_addr().ok().map(|local| local.ip());
                let entrance = Entrance { peer: Peer::Tcp(address), local, tls: tls.is_some() };
                let accepted = match tls {
                    Some(tls) => Accepted::Tls(stream, TlsAcceptor::from(tls.current())),
                    None => Accepted::Tcp(stream),
                };
                Ok((accepted, entrance))
            }
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                let uid = stream.peer_cred().ok().map(|peer| peer.uid());
                let peer = Peer::Unix { uid };
                Ok((Accepted::Unix(stream), Entrance { peer, local: None, tls: false }))
            }
        }
    }
}

async fn serve(listener: Listener, api: Api, stop: CancellationToken) {
    let (room, clients) = (Arc::new(Room::of(CONNECTIONS)), Arc::new(Addresses::default()));
    let most = PerClient::Most(OF_ONE_CLIENT);
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((accepted, entrance)) => {
                let place = room.enter();
                let Some((place, of_client)) = place.and_then(|place| {
                    let of_client = clients.enter(entrance.peer.ip(), most, &room).ok()?;
                    Some((place, of_client))
                }) else {
                    clients.warned.warn(|| {
                        let by = entrance.peer;
                        tracing::warn!(%by, "too many connections to the admin listener");
                    });
                    continue;
                };
                let api = api.clone();
                connections.spawn(async move {
                    converse(accepted, entrance, api).await;
                    drop((place, of_client));
                });
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

async fn converse(accepted: Accepted, entrance: Entrance, api: Api) {
    match accepted {
        Accepted::Tcp(stream) => exchange(stream, entrance, api).await,
        Accepted::Unix(stream) => exchange(stream, entrance, api).await,
        Accepted::Tls(stream, acceptor) => {
            // Who cannot make a handshake has nobody to be told, either.
            if let Ok(Ok(stream)) = timeout(HEAD, acceptor.accept(stream)).await {
                exchange(stream, entrance, api).await;
            }
        }
    }
}

async fn exchange(stream: impl AsyncRead + AsyncWrite + Unpin, entrance: Entrance, api: Api) {
    let stay = Stay::default();
    let service = service_fn(|request: Request<Incoming>| {
        let (api, stay) = (api.clone(), stay.clone());
        async move { Ok::<_, Infallible>(answer(&api, entrance, request, stay).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(HEAD_BYTES)
        .max_headers(HEAD_FIELDS)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    // A peer that breaks off or is too slow has nobody to be told.
    tokio::select! {
        _ = connection => {}
        () = stay.limit() => {}
    }
    stay.ended();
}

async fn answer(
    api: &Api,
    entrance: Entrance,
    request: Request<Incoming>,
    stay: Stay,
) -> Response<AnswerBody> {
    if !request.uri().path().starts_with("/api/") {
        return page::handle(api, entrance, request, stay).await;
    }
    let (parts, body) = request.into_parts();
    api.handle(entrance, parts, !body.is_end_stream()).await.map(AnswerBody::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_that_others_reach_is_not_served_in_the_clear() {
        let bind = |address: &str| std::net::TcpListener::bind(address).expect("a free port");
        let (all, own) = (bind("0.0.0.0:0"), bind("127.0.0.1:0"));
        assert!(check_address(&own, false).is_ok() && check_address(&all, true).is_ok());
        let refused = check_address(&all, false).expect_err("others can read it");
        assert!(refused.to_string().contains("set admin.tls"), "{refused}");
    }
}
