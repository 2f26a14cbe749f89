//! One probe of one address.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use gateway_core::farm::ProbeFailure;
use gateway_core::protocol::answer::{AnswerHead, read_answer};
use gateway_core::protocol::head::HeadLimits;
use gateway_core::protocol::read_ack;
use rustix::io::Errno;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::spec::Ask;
use crate::base::clock;
use crate::tls::BackendTls;

/// Why nothing good can be said.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    #[error("{0}")]
    Failed(ProbeFailure),
    /// There was no probe, for want of something on this side. Says nothing about the backend.
    #[error("a probe could not be made")]
    Local(#[source] io::Error),
}

/// Heads of answers are a few hundred bytes; more is not from a server that we want.
const LIMITS: HeadLimits = HeadLimits { head_bytes: 16 * 1024, line_bytes: 0, fields: 100 };

/// Passes or fails within `timeout`. [`Ask::Nothing`] makes a connection all the same.
pub async fn probe(
    ask: Ask,
    tls: Option<Arc<BackendTls>>,
    address: SocketAddr,
    timeout: Duration,
) -> Result<(), ProbeError> {
    let deadline = clock::stopwatch() + timeout;
    let run = async {
        let stream = TcpStream::connect(address).await.map_err(connect_error)?;
        let Some(tls) = tls else { return converse(&ask, stream).await };
        // A backend that no request could be sent to is not up, whatever it would answer.
        let failed = |error: io::Error| {
            let late = error.kind() == io::ErrorKind::TimedOut;
            ProbeError::Failed(if late { ProbeFailure::Timeout } else { ProbeFailure::Tls })
        };
        converse(&ask, tls.connect(stream, deadline).await.map_err(failed)?).await
    };
    match tokio::time::timeout_at(deadline, run).await {
        Ok(outcome) => outcome,
        Err(_) => Err(ProbeError::Failed(ProbeFailure::Timeout)),
    }
}

async fn converse(
    ask: &Ask,
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
) -> Result<(), ProbeError> {
    match ask {
        Ask::Nothing | Ask::Connection => Ok(()),
        Ask::Page(request) => {
            let head = exchange(&mut stream, request).await.map_err(ProbeError::Failed)?;
            let status = head.status.as_u16();
            let good = matches!(status, 200..=399 | 401);
            if good { Ok(()) } else { Err(ProbeError::Failed(ProbeFailure::Status(status))) }
        }
        Ask::Ping(request) => {
            let head = exchange(&mut stream, request).await.map_err(ProbeError::Failed)?;
            ping_answer(&head).map_err(ProbeError::Failed)
        }
    }
}

/// A server that wants to know who we are is alive, and its uploads are switched on as far as it
/// tells strangers.
fn ping_answer(head: &AnswerHead) -> Result<(), ProbeFailure> {
    let ack = read_ack(head.status, head);
    match ack.status.as_u16() {
        401 => Ok(()),
        _ if ack.is_success() => Ok(()),
        status @ 200..=299 => Err(ProbeFailure::NoAck(status)),
        status => Err(ProbeFailure::Status(status)),
    }
}

/// Sends the request and reads the head of its answer. What follows is left unread: the
/// connection is not used again.
async fn exchange(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    request: &[u8],
) -> Result<AnswerHead, ProbeFailure> {
    stream.write_all(request).await.map_err(|_| ProbeFailure::Closed)?;
    stream.flush().await.map_err(|_| ProbeFailure::Closed)?;
    let mut read = Vec::with_capacity(1024);
    loop {
        match read_answer(&read, &LIMITS) {
            Ok(Some(answer)) if answer.head.status.is_informational() => {
                read.drain(..answer.length);
            }
            Ok(Some(answer)) => return Ok(answer.head),
            Ok(None) => match stream.read_buf(&mut read).await {
                Ok(0) | Err(_) => return Err(ProbeFailure::Closed),
                Ok(_) => {}
            },
            Err(_) => return Err(ProbeFailure::Garbage),
        }
    }
}

fn connect_error(error: io::Error) -> ProbeError {
    let ours = [
        Errno::MFILE,
        Errno::NFILE,
        Errno::NOBUFS,
        Errno::NOMEM,
        // No local port is left.
        Errno::ADDRNOTAVAIL,
    ];
    match Errno::from_io_error(&error) {
        Some(errno) if ours.contains(&errno) => ProbeError::Local(error),
        Some(Errno::CONNREFUSED) => ProbeError::Failed(ProbeFailure::Refused),
        Some(Errno::TIMEDOUT) => ProbeError::Failed(ProbeFailure::Timeout),
        _ => ProbeError::Failed(ProbeFailure::Unreachable),
    }
}

#[cfg(test)]
#[path = "probe_tests.rs"]
mod tests;
