//! Where the connections to a backend lead.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use gateway_core::farm::BackendId;

use crate::tls::BackendTls;

/// A dead backend host must not hold a request for the kernel's two hours. First probe.
pub const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);

/// Between two probes.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// Probes without an answer.
pub const KEEPALIVE_COUNT: u32 = 3;

/// One address of a backend, and how a connection to it is made and kept.
#[derive(Debug, Clone, PartialEq)]
pub struct Endpoint {
    pub backend: BackendId,
    pub address: SocketAddr,
    pub tls: Option<Arc<BackendTls>>,
    /// `timeouts.connect`: TCP and the TLS handshake together.
    pub connect_timeout: Duration,
    /// `timeouts.backend_idle`.
    pub idle_timeout: Duration,
}

impl Endpoint {
    /// Whether a connection that was made to the one may serve the other: same backend, address and
    /// TLS settings.
    pub fn is_same_as(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
            || (self.backend == other.backend
                && self.address == other.address
                && self.tls == other.tls)
    }
}
