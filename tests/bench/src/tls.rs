//! One way to speak TLS, so that all peers do the same work.

use std::sync::Arc;

use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::version::TLS13;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};

/// One suite and one group, and each handshake a full one.
pub fn client(authority: &str) -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    let certificate = CertificateDer::from_pem_slice(authority.as_bytes());
    roots.add(certificate.map_err(said)?).map_err(said)?;
    let provider = CryptoProvider {
        cipher_suites: vec![ring::cipher_suite::TLS13_AES_128_GCM_SHA256],
        kx_groups: vec![ring::kx_group::X25519],
        ..ring::default_provider()
    };
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&TLS13])
        .map_err(said)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// For the bare relay, from a certificate and its key.
pub fn server(pem: &str) -> Result<Arc<ServerConfig>, String> {
    let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(said)?;
    let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(said)?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(said)?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .map_err(said)?;
    Ok(Arc::new(config))
}

fn said(error: impl std::fmt::Display) -> String {
    error.to_string()
}
