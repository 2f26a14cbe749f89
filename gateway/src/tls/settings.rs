//! What a configuration says of TLS. What is in the files has not been looked at.

use std::path::PathBuf;

/// What a listener shows and demands.
#[derive(Debug, Clone, PartialEq)]
pub struct ListenerTlsSettings {
    /// At least one; the first is for clients that name no host, or one that none is for.
    pub certificates: Vec<CertificateFiles>,
    /// Whose certificates clients must have; without it they are not asked for any.
    pub client_ca: Option<PathBuf>,
}

/// A certificate with its chain, and its key, both PEM.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CertificateFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// How a backend is reached by https.
#[derive(Debug, Clone, PartialEq)]
pub struct BackendTlsSettings {
    /// The name in its certificate, where that is not the host of its address.
    pub name: Option<String>,
    /// In place of the system's certificates.
    pub ca: Option<PathBuf>,
    /// For a backend that wants to know who we are.
    pub identity: Option<CertificateFiles>,
    pub verify: Verify,
}

/// How much of a backend's certificate is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verify {
    Name,
    Off,
}
