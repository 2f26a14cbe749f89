//! What Pingora asks of a stream besides bytes.

use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl,
    TimingDigest, UniqueID, UniqueIDType,
};
use tokio::io::AsyncWriteExt;

use super::stream::GuardStream;

/// For the rest of an answer that broke off, and for the alert by which TLS says goodbye: a client
/// that has stopped reading would hold them up.
const GOODBYE: Duration = Duration::from_secs(1);

#[async_trait]
impl Shutdown for GuardStream {
    async fn shutdown(&mut self) {
        // Whether the client heard it changes nothing.
        let _ = tokio::time::timeout(GOODBYE, AsyncWriteExt::shutdown(self)).await;
    }
}

impl UniqueID for GuardStream {
    fn id(&self) -> UniqueIDType {
        self.socket().as_raw_fd()
    }
}

/// What the handshake has shown is in [`Conn::tls`](super::Conn::tls).
impl Ssl for GuardStream {}

impl GetTimingDigest for GuardStream {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        let established_ts = self.socket().accepted();
        vec![Some(TimingDigest { established_ts, ..TimingDigest::default() })]
    }
}

impl GetProxyDigest for GuardStream {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        None
    }
}

impl GetSocketDigest for GuardStream {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        Some(Arc::new(self.socket().digest()))
    }
}

impl Peek for GuardStream {}
