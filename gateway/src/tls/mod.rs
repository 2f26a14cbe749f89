//! Certificates and keys, from files to what rustls works with, and again when the files change.
//!
//! `files` reads them, `exposed` knows who else can replace them, `identity` is a certificate with its key, `contents` what was read, `server` and `client` make of them
//! what a listener and a backend need, `certificate_watcher` does so again, `stream` carries bytes and
//! `connector` opens connections to backends for Pingora, with TLS and without.
//!
//! What is absent: the handshake with clients, which is the guard's.

mod certificate_watcher;
pub mod certificates;
mod client;
mod connector;
mod contents;
mod exposed;
mod files;
mod identity;
mod server;
pub mod settings;
mod stream;
#[cfg(test)]
pub(crate) mod test_pki;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use tokio_rustls::rustls::crypto::{CryptoProvider, ring};

pub use certificate_watcher::{CertificateWatcher, Reloadable};
pub use client::{BackendTls, is_distrust, trusting};
pub use connector::{Connector, NO_PLACE, TakePlace, is_backends_fault, own, peer, proxy, secure};
pub use contents::Contents;
pub use exposed::{Exposed, What, exposed};
pub use files::TlsError;
pub use identity::{Identity, subject_of};
pub use server::ListenerTls;

/// Named rather than taken from the process, where another library may have set another one.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}
