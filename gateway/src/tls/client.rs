//! How a backend is spoken to by https.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::client::{Resumption, WebPkiServerVerifier};
use tokio_rustls::rustls::crypto::{
    CryptoProvider, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::sign::SingleCertAndKey;
use tokio_rustls::rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme, version,
};

use super::certificate_watcher::Reloadable;
use super::contents::{Contents, stamps};
use super::files::{TlsError, authorities};
use super::identity::Identity;
use super::provider;
use super::settings::{self, Verify};
use crate::base::clock;

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// TLS to one backend. One configuration for all its connections, so that they resume each other's
/// sessions.
pub struct BackendTls {
    /// Unique for the life of the process: connections made under one must never serve another.
    pub id: u64,
    backend: String,
    /// Of the backend's address.
    host: String,
    name: ServerName<'static>,
    settings: settings::BackendTlsSettings,
    current: ArcSwap<ClientConfig>,
    pub(super) said: Mutex<Said>,
}

/// What the log has of the handshakes.
#[derive(Debug, Default)]
pub(super) struct Said {
    /// Why the last one failed, as far as that was said.
    pub failing: Option<String>,
    /// When something was said last, by [`clock::steady`].
    at: Option<Duration>,
}

/// Between two lines: some backends do well now and then only.
const PAUSE: Duration = Duration::from_secs(10);

impl BackendTls {
    /// `host` is that of the backend's address.
    pub fn load(
        backend: &str,
        host: &str,
        settings: &settings::BackendTlsSettings,
    ) -> Result<(Arc<Self>, Contents), TlsError> {
        let name = settings.name.as_deref().unwrap_or(host);
        let name = name.trim_matches(['[', ']']).trim_end_matches('.').to_owned();
        let name =
            ServerName::try_from(name.clone()).map_err(|_| TlsError::Name { name })?.to_owned();
        let (current, contents) = build(settings)?;
        let made = Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            backend: backend.to_owned(),
            host: host.to_owned(),
            name,
            settings: settings.clone(),
            current: ArcSwap::from_pointee(current),
            said: Mutex::default(),
        };
        Ok((Arc::new(made), contents))
    }

    /// Whether it is what [`Self::load`] would make for these, whatever is in the files.
    pub fn is_for(&self, host: &str, settings: &settings::BackendTlsSettings) -> bool {
        self.host == host && self.settings == *settings
    }

    /// A handshake over a new connection. Who is late has failed with [`io::ErrorKind::TimedOut`].
    pub async fn connect<S>(&self, stream: S, deadline: Instant) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let connector = TlsConnector::from(self.current.load_full());
        let connecting = connector.connect(self.name.clone(), stream);
        let connected = timeout_at(deadline, connecting).await.unwrap_or_else(|_| {
            Err(io::Error::new(io::ErrorKind::TimedOut, "no handshake in time"))
        });
        self.note(connected.as_ref().err());
        connected
    }

    /// Says once what is the matter, not with every connection.
    fn note(&self, error: Option<&io::Error>) {
        let mut said = self.said.lock();
        if !said.is_news(error.map(ToString::to_string), clock::steady()) {
            return;
        }
        match &said.failing {
            Some(error) => tracing::error!(
                backend = %self.backend,
                name = %self.name.to_str(),
                %error,
                "no TLS connection to a backend can be made"
            ),
            None => tracing::info!(backend = %self.backend, "TLS to a backend works again"),
        }
    }
}

impl Said {
    /// Whether it is time to say how the last handshake went. What is not said now is said with one
    /// of the next, if it is still so.
    pub fn is_news(&mut self, failing: Option<String>, now: Duration) -> bool {
        let too_soon = self.at.is_some_and(|at| now.saturating_sub(at) < PAUSE);
        if self.failing == failing || too_soon {
            return false;
        }
        *self = Self { failing, at: Some(now) };
        true
    }
}

/// Whether a handshake failed for a certificate that is not to be trusted: trying again at once
/// makes it no better.
pub fn is_distrust(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    matches!(inner, Some(Error::InvalidCertificate(_)))
}

impl Reloadable for BackendTls {
    fn title(&self) -> String {
        format!("backend {}", self.backend)
    }

    fn files(&self) -> Vec<PathBuf> {
        files(&self.settings)
    }

    fn reload(&self, before: &Contents) -> Result<Contents, TlsError> {
        let (config, contents) = build(&self.settings)?;
        let now = clock::now();
        contents.identities.iter().try_for_each(|identity| identity.valid_at(now))?;
        if contents.digest != before.digest {
            self.current.store(Arc::new(config));
        }
        Ok(contents)
    }
}

impl std::fmt::Debug for BackendTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BackendTls").field("id", &self.id).field("name", &self.name).finish()
    }
}

impl PartialEq for BackendTls {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

fn files(settings: &settings::BackendTlsSettings) -> Vec<PathBuf> {
    let pair = settings.identity.iter();
    let pair = pair.flat_map(|pair| [pair.certificate.clone(), pair.key.clone()]);
    pair.chain(settings.ca.clone()).collect()
}

fn build(settings: &settings::BackendTlsSettings) -> Result<(ClientConfig, Contents), TlsError> {
    let stamps = stamps(&files(settings));
    let mut roots = Arc::new(RootCertStore::empty());
    let verifier: Arc<dyn ServerCertVerifier> = match settings.verify {
        Verify::Off => Arc::new(Unverified(provider())),
        Verify::Name => {
            roots = Arc::new(match &settings.ca {
                Some(path) => authorities(path)?,
                None => system_authorities()?,
            });
            let trusted = Arc::clone(&roots);
            let verifier = WebPkiServerVerifier::builder_with_provider(trusted, provider());
            verifier.build().map_err(|error| TlsError::Authorities {
                path: settings.ca.clone().unwrap_or_default(),
                reason: error.to_string(),
            })?
        }
    };
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&version::TLS13, &version::TLS12])?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let identity = settings.identity.as_ref().map(Identity::load).transpose()?;
    let mut config = match &identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let own = SingleCertAndKey::from(Arc::clone(&identity.certified));
            builder.with_client_cert_resolver(Arc::new(own))
        }
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // One name, so a few tickets are enough; as many as rustls keeps for a name.
    config.resumption = Resumption::in_memory_sessions(8);
    Ok((config, Contents::new(stamps, identity.into_iter().collect(), &roots)))
}

/// For a program that speaks to somebody of its own accord: who may have signed the certificate at the
/// other end, in place of those whom the system trusts.
pub fn trusting(ca: Option<&Path>) -> Result<ClientConfig, TlsError> {
    let ca = ca.map(Path::to_path_buf);
    let settings =
        settings::BackendTlsSettings { name: None, ca, identity: None, verify: Verify::Name };
    build(&settings).map(|(config, _)| config)
}

fn system_authorities() -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(TlsError::NoSystemStore);
    }
    Ok(roots)
}

/// Takes any certificate, because the operator said so.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
