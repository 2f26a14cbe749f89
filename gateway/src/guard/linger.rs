//! Ending a connection so that the client can still read the last answer.
//!
//! A socket that is closed with unread bytes sends a reset, and a Windows client then throws away
//! what it has not read yet. So we close our half, read the rest and throw it away.

use std::sync::Arc;
use std::time::Duration;

use gateway_core::fault::Fault;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::conn::Conn;
use super::prefixed::Prefixed;
use super::refusal::ack_bytes;
use super::socket::ClientSocket;

/// Long enough for a client that sends its whole Fragment before it reads; a peer that trickles
/// must not hold a socket for longer.
const LINGER: Duration = Duration::from_secs(30);

/// The rest of what a rejected client has under way; a Fragment is not worth more.
const REJECTED: u64 = 256 * 1024;

/// Drains in the background. The connection counts until it is over.
pub(super) fn linger(mut stream: ClientSocket, conn: Arc<Conn>, limit: u64) {
    let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
    runtime.spawn(async move {
        let _ = tokio::time::timeout(LINGER, drain(&mut stream, limit)).await;
        drop(conn);
    });
}

async fn drain(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), limit: u64) {
    if stream.shutdown().await.is_err() {
        return;
    }
    let mut buffer = vec![0; 16 * 1024];
    let mut left = limit;
    while left > 0 {
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(count) => left = left.saturating_sub(count as u64),
        }
    }
}

/// Says 503, and when to come back, to a connection over a cap. Nothing is read and nothing waits:
/// whoever is turned away must not cost what the cap is there to save.
pub(super) async fn turn_away(stream: Prefixed) {
    // Which request would have come is unknown; the Ack for "not now" is right for a packet, and
    // for anything else its status is.
    say(stream, &ack_bytes(Fault::TableFull, None)).await;
}

/// As [`say`], to somebody who is still sending; for a moment only.
pub(super) async fn say_and_drain(mut stream: Prefixed, answer: &[u8]) {
    let _ = tokio::time::timeout(Duration::from_secs(1), async {
        stream.write_all(answer).await?;
        stream.flush().await?;
        drain(&mut stream, REJECTED).await;
        std::io::Result::Ok(())
    })
    .await;
}

/// Writes a last answer and closes.
async fn say(mut stream: Prefixed, answer: &[u8]) {
    let _ = tokio::time::timeout(Duration::from_secs(1), async {
        stream.write_all(answer).await?;
        stream.flush().await?;
        stream.shutdown().await
    })
    .await;
}
