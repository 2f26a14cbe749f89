//! What Pingora asks of a stream besides bytes: the stream below answers.

use std::sync::Arc;

use async_trait::async_trait;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::tls::SslDigest;
use pingora::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl,
    TimingDigest, UniqueID, UniqueIDType,
};

use super::stream::GuardStream;

#[async_trait]
impl Shutdown for GuardStream {
    async fn shutdown(&mut self) {
        // What Pingora wants the client to have was flushed before.
        self.send_last();
        if let Some(io) = self.io.as_mut() {
            Shutdown::shutdown(io.as_mut()).await;
        }
    }
}

impl UniqueID for GuardStream {
    fn id(&self) -> UniqueIDType {
        self.io_ref().id()
    }
}

impl Ssl for GuardStream {
    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        self.io_ref().get_ssl_digest()
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        self.io_ref().selected_alpn_proto()
    }
}

impl GetTimingDigest for GuardStream {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        self.io_ref().get_timing_digest()
    }
}

impl GetProxyDigest for GuardStream {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.io_ref().get_proxy_digest()
    }
}

impl GetSocketDigest for GuardStream {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.io_ref().get_socket_digest()
    }
}

impl Peek for GuardStream {}
