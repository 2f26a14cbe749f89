//! New connections to servers.

use std::io;

use rustix::io::Errno;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::time::timeout_at;

use super::socket::ServerSocket;
use crate::base::clock;
use crate::farm::{Endpoint, KEEPALIVE_COUNT, KEEPALIVE_IDLE, KEEPALIVE_INTERVAL};
use crate::telemetry::metrics::ConnectError;
use crate::tls::is_distrust;

/// Why there is no connection to a server.
#[derive(Debug, thiserror::Error)]
pub enum Unconnected {
    /// Nothing listens at the address.
    #[error("the server refuses connections")]
    Refused(#[source] io::Error),
    /// TCP, or the TLS handshake, took longer than `timeouts.connect`.
    #[error("no connection in time")]
    TimedOut,
    #[error("no way leads to the server")]
    NoRoute(#[source] io::Error),
    #[error("no TCP connection to the server")]
    Tcp(#[source] io::Error),
    #[error("no TLS with the server")]
    Handshake(#[source] io::Error),
    /// No wait makes it better.
    #[error("the server's certificate is not to be trusted")]
    Distrusted(#[source] io::Error),
    /// Descriptors, ports or memory are short here.
    #[error("this machine can make no connection")]
    Local(#[source] io::Error),
    /// As many connections to the server are open as may be, and none became free in time.
    #[error("the server has as many connections as it may have")]
    NoPlace,
}

impl Unconnected {
    /// Whether it says something of the server. That descriptors are short here must not take the
    /// farm down.
    pub fn is_backends_fault(&self) -> bool {
        match self {
            Self::Local(_) | Self::NoPlace => false,
            Self::Refused(_)
            | Self::TimedOut
            | Self::NoRoute(_)
            | Self::Tcp(_)
            | Self::Handshake(_)
            | Self::Distrusted(_) => true,
        }
    }

    /// Whether the server showed a certificate that is not to be trusted.
    pub fn is_distrust(&self) -> bool {
        matches!(self, Self::Distrusted(_))
    }

    /// As the metrics name it.
    pub fn label(&self) -> ConnectError {
        match self {
            Self::Refused(_) => ConnectError::Refused,
            Self::TimedOut => ConnectError::Timeout,
            Self::Tcp(error) | Self::Handshake(error) if is_reset(error) => ConnectError::Reset,
            Self::Tcp(_)
            | Self::Handshake(_)
            | Self::NoRoute(_)
            | Self::Distrusted(_)
            | Self::Local(_)
            | Self::NoPlace => ConnectError::Other,
        }
    }

    fn of_tcp(error: io::Error) -> Self {
        match Errno::from_io_error(&error) {
            Some(Errno::CONNREFUSED) => Self::Refused(error),
            Some(Errno::TIMEDOUT) => Self::TimedOut,
            Some(Errno::NETUNREACH | Errno::HOSTUNREACH) => Self::NoRoute(error),
            Some(
                Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM | Errno::ADDRNOTAVAIL,
            ) => Self::Local(error),
            _ => Self::Tcp(error),
        }
    }

    fn of_tls(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::TimedOut => Self::TimedOut,
            _ if is_distrust(&error) => Self::Distrusted(error),
            _ => Self::Handshake(error),
        }
    }
}

fn is_reset(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::UnexpectedEof
    )
}

/// Connects within `timeouts.connect`, the TLS handshake included.
pub async fn connect(endpoint: &Endpoint) -> Result<ServerSocket, Unconnected> {
    let deadline = clock::stopwatch() + endpoint.connect_timeout;
    let connected = timeout_at(deadline, TcpStream::connect(endpoint.address)).await;
    let tcp = connected.map_err(|_| Unconnected::TimedOut)?.map_err(Unconnected::of_tcp)?;
    tcp.set_nodelay(true).map_err(Unconnected::Local)?;
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_COUNT);
    SockRef::from(&tcp).set_tcp_keepalive(&keepalive).map_err(Unconnected::Local)?;
    let Some(tls) = &endpoint.tls else { return Ok(ServerSocket::Tcp(tcp)) };
    let secured = tls.connect(tcp, deadline).await.map_err(Unconnected::of_tls)?;
    Ok(ServerSocket::Tls(Box::new(secured)))
}

#[cfg(test)]
#[path = "connect_tests.rs"]
mod tests;
