//! The admin listener: its sockets and its limits, and which part of the interface answers.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use gateway_core::session::limits::PerClient;
use http::Response;
use hyper::body::Body;
use tokio_util::sync::CancellationToken;

use super::api::Api;
use super::body::AnswerBody;
use super::service::{self, Asked, Rules, Socket};
use super::unix::UnixSocket;
use super::{ADMIN, page};
use crate::process::supervisor::{BoxError, Plan};
use crate::tls::ListenerTls;

const RULES: Rules = Rules {
    name: ADMIN,
    // Those that keep pages up to date (`live::PLACES`), `page::PLACES` requests of browsers, and
    // 24 more of which browsers cannot take one for longer than its head, so that commands get in.
    // A page of 10,000 sessions is about 3 MiB.
    connections: 64,
    // So that the open pages of one client leave room for commands from elsewhere: as many as browsers
    // can take, and eight commands. The socket is for people of this machine.
    of_one_client: PerClient::Most(48),
    // A reload may have to wait for names to be resolved.
    exchange: Duration::from_secs(60),
    // The system would let it grow to megabytes, and an open page that stands still would be found
    // out after an hour.
    send_buffer: Some(64 * 1024),
};

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
    serve(Socket::tcp(listener, tls)?, api, stop).await;
    Ok(())
}

/// Answers on a Unix socket, and removes its file in the end if it is still the same.
///
/// # Errors
/// Only if the listener cannot be used with this runtime.
pub async fn serve_unix(socket: UnixSocket, api: Api, stop: CancellationToken) -> io::Result<()> {
    let (listener, file) = socket.into_parts();
    serve(Socket::unix(listener)?, api, stop).await;
    drop(file);
    Ok(())
}

async fn serve(socket: Socket, api: Api, stop: CancellationToken) {
    let answer = move |asked| {
        let api = api.clone();
        async move { answer(&api, asked).await }
    };
    service::serve(socket, RULES, answer, stop).await;
}

async fn answer(api: &Api, asked: Asked) -> Response<AnswerBody> {
    let Asked { request, entrance, stay } = asked;
    if !request.uri().path().starts_with("/api/") {
        return page::handle(api, entrance, request, stay).await;
    }
    let (parts, body) = request.into_parts();
    api.handle(entrance, parts, !body.is_end_stream()).await
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
