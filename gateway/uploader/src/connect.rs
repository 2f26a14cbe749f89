//! Connections: name to address, TCP, TLS.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};

use crate::target::{Mapping, Target};

/// What bytes travel on.
pub trait Transport: AsyncRead + AsyncWrite + Send + Sync + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Transport for T {}

/// How connections are made.
pub struct Connector {
    mappings: Vec<Mapping>,
    tls: Option<TlsConnector>,
}

#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    #[error("cannot read certificates from {}", .0.display())]
    File(PathBuf, #[source] tokio_rustls::rustls::pki_types::pem::Error),
    #[error("{} holds no certificate", .0.display())]
    Empty(PathBuf),
    #[error("the system has no certificates to trust; name some with --ca")]
    NoSystemStore,
    #[error(transparent)]
    Own(Box<dyn Error + Send + Sync>),
}

/// Per address. Windows leaves this to TCP, which takes minutes; a person waits for this one.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

impl Connector {
    /// Roots of trust are only looked for when the destination is https.
    pub fn new(
        target: &Target,
        mappings: Vec<Mapping>,
        ca: Option<&Path>,
        own: Option<Arc<CertifiedKey>>,
    ) -> Result<Self, TrustError> {
        let tls = if target.tls { Some(tls_connector(ca, own)?) } else { None };
        Ok(Self { mappings, tls })
    }

    /// Opens a connection to `host`, under which name its certificate is checked too.
    pub async fn connect(&self, host: &str, port: u16) -> io::Result<Box<dyn Transport>> {
        let stream = self.connect_tcp(host, port).await?;
        stream.set_nodelay(true)?;
        let Some(tls) = &self.tls else { return Ok(Box::new(stream)) };
        let name = bare(host).trim_end_matches('.').to_owned();
        let name = ServerName::try_from(name)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let secured = timeout(CONNECT_TIMEOUT, tls.connect(name, stream)).await;
        Ok(Box::new(secured.map_err(|_| timed_out())??))
    }

    async fn connect_tcp(&self, host: &str, port: u16) -> io::Result<TcpStream> {
        let mut last = None;
        for address in self.addresses(host, port).await? {
            match timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => last = Some(error),
                Err(_) => last = Some(timed_out()),
            }
        }
        Err(last.unwrap_or_else(|| io::Error::other("the name has no address")))
    }

    async fn addresses(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let mapped = self.mappings.iter().find_map(|mapping| mapping.lookup(host, port));
        match mapped {
            Some(address) => Ok(vec![address]),
            None => Ok(lookup_host((bare(host), port)).await?.collect()),
        }
    }
}

/// An IPv6 literal without its brackets.
fn bare(host: &str) -> &str {
    host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host)
}

fn timed_out() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "no answer to the connection attempt")
}

fn tls_connector(
    ca: Option<&Path>,
    own: Option<Arc<CertifiedKey>>,
) -> Result<TlsConnector, TrustError> {
    let mut roots = RootCertStore::empty();
    match ca {
        Some(file) => {
            let unreadable = |error| TrustError::File(file.to_owned(), error);
            for certificate in CertificateDer::pem_file_iter(file).map_err(unreadable)? {
                // A certificate that rustls cannot use counts as absent.
                let _ = roots.add(certificate.map_err(unreadable)?);
            }
            if roots.is_empty() {
                return Err(TrustError::Empty(file.to_owned()));
            }
        }
        None => {
            let system = rustls_native_certs::load_native_certs().certs;
            roots.add_parsable_certificates(system);
            if roots.is_empty() {
                return Err(TrustError::NoSystemStore);
            }
        }
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring serves TLS 1.2 and 1.3")
        .with_root_certificates(roots);
    let config = match own {
        None => builder.with_no_client_auth(),
        Some(own) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(own))),
    };
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Whether a handshake failed because the server's certificate is not trusted: to try again at once
/// makes it no better.
pub fn is_distrust(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    matches!(inner, Some(rustls::Error::InvalidCertificate(_)))
}
