//! The HTTP service behind both listeners for operators, ops and admin.
//!
//! A connection carries one request and lives for a bounded time, and there are not many of them: a
//! peer that reads slowly, or never, holds a bounded piece of memory for a bounded time. Only one that
//! keeps a page up to date stays. What is answered, how many may ask and for how long is each
//! listener's to say.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use gateway_core::session::limits::PerClient;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;
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
use super::body::AnswerBody;
use super::stay::{LAST_WORDS, Stay};
use crate::guard::{Addresses, Room};
use crate::tls::ListenerTls;

/// Time for the TLS handshake, and for the head of a request.
const HEAD: Duration = Duration::from_secs(5);
const HEAD_BYTES: usize = 16 * 1024;
const HEAD_FIELDS: usize = 64;

/// After an accept that failed for want of descriptors, others need time to give some back.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The kind of most answers.
pub(super) const JSON: &str = "application/json";

/// What two listeners differ in, beside what they answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    /// As the log calls it.
    pub name: &'static str,
    /// In all.
    pub connections: usize,
    /// Of these, those of one client.
    pub of_one_client: PerClient,
    /// From the first byte of a connection to the last one.
    pub exchange: Duration,
    /// What waits in the kernel for a slow reader, where the system is not to decide.
    pub send_buffer: Option<usize>,
}

/// One request, and how it came in.
pub(super) struct Asked {
    pub request: Request<Incoming>,
    pub entrance: Entrance,
    /// By which the connection may stay.
    pub stay: Stay,
}

/// Where connections come from.
pub(super) enum Socket {
    Tcp(TcpListener, Option<Arc<ListenerTls>>),
    Unix(UnixListener),
}

enum Accepted {
    Tcp(TcpStream),
    Tls(TcpStream, TlsAcceptor),
    Unix(UnixStream),
}

impl Socket {
    /// # Errors
    /// Only if the listener cannot be used with this runtime.
    pub fn tcp(listener: std::net::TcpListener, tls: Option<Arc<ListenerTls>>) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self::Tcp(TcpListener::from_std(listener)?, tls))
    }

    /// # Errors
    /// Only if the listener cannot be used with this runtime.
    pub fn unix(listener: std::os::unix::net::UnixListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self::Unix(UnixListener::from_std(listener)?))
    }

    async fn accept(&self, rules: &Rules) -> io::Result<(Accepted, Entrance)> {
        match self {
            Self::Tcp(listener, tls) => {
                let (stream, address) = listener.accept().await?;
                if let Some(size) = rules.send_buffer {
                    let _ = SockRef::from(&stream).set_send_buffer_size(size);
                }
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

/// Answers until told to stop.
pub(super) async fn serve<A, F>(socket: Socket, rules: Rules, answer: A, stop: CancellationToken)
where
    A: Fn(Asked) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<AnswerBody>> + Send + 'static,
{
    let listener = rules.name;
    let (room, clients) = (Arc::new(Room::of(rules.connections)), Arc::new(Addresses::default()));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = socket.accept(&rules) => accepted,
            () = stop.cancelled() => break,
        };
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((accepted, entrance)) => {
                let place = room.enter();
                let Some((place, of_client)) = place.and_then(|place| {
                    let most = rules.of_one_client;
                    let of_client = clients.enter(entrance.peer.ip(), most, &room).ok()?;
                    Some((place, of_client))
                }) else {
                    // Closing at once is kinder to a probe than silence.
                    clients.warned.warn(|| {
                        let by = entrance.peer;
                        tracing::warn!(%by, "too many connections to the {listener} listener");
                    });
                    continue;
                };
                let answer = answer.clone();
                connections.spawn(async move {
                    converse(accepted, entrance, rules.exchange, answer).await;
                    drop((place, of_client));
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the {listener} listener cannot accept");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(socket);
    let _ = timeout(LAST_WORDS, async { while connections.join_next().await.is_some() {} }).await;
}

async fn converse<A, F>(accepted: Accepted, entrance: Entrance, limit: Duration, answer: A)
where
    A: Fn(Asked) -> F,
    F: Future<Output = Response<AnswerBody>>,
{
    match accepted {
        Accepted::Tcp(stream) => exchange(stream, entrance, limit, answer).await,
        Accepted::Unix(stream) => exchange(stream, entrance, limit, answer).await,
        Accepted::Tls(stream, acceptor) => {
            // After a handshake that failed there is no way to answer.
            if let Ok(Ok(stream)) = timeout(HEAD, acceptor.accept(stream)).await {
                exchange(stream, entrance, limit, answer).await;
            }
        }
    }
}

async fn exchange<A, F>(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    entrance: Entrance,
    limit: Duration,
    answer: A,
) where
    A: Fn(Asked) -> F,
    F: Future<Output = Response<AnswerBody>>,
{
    let stay = Stay::default();
    let service = service_fn(|request| {
        let answer = answer(Asked { request, entrance, stay: stay.clone() });
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(HEAD_BYTES)
        .max_headers(HEAD_FIELDS)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    // A peer that breaks off or is too slow gets no answer.
    tokio::select! {
        _ = connection => {}
        () = stay.limit(limit) => {}
    }
    stay.ended();
}

/// An answer with what every answer has. `allow` is for 405.
pub(super) fn respond(
    status: StatusCode,
    content_type: &'static str,
    allow: Option<&'static str>,
    body: impl Into<AnswerBody>,
) -> Response<AnswerBody> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    let allow = allow.map(|methods| (ALLOW, methods));
    let fixed = [
        (CONTENT_TYPE, content_type),
        (CACHE_CONTROL, "no-store"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    for (name, value) in fixed.into_iter().chain(allow) {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}
