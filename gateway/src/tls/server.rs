//! What a listener shows to clients.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio_rustls::rustls::crypto::ring::Ticketer;
use tokio_rustls::rustls::server::{
    ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier,
};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{RootCertStore, ServerConfig, version};

use super::certificate_watcher::Reloadable;
use super::contents::{Contents, stamps};
use super::files::{TlsError, authorities};
use super::identity::Identity;
use super::provider;
use super::settings;
use crate::base::clock;

/// BITS is HTTP/1.1, and a login that binds a connection cannot share it with others.
const ALPN: &[u8] = b"http/1.1";

/// TLS of one listener. Every handshake takes the configuration of its moment; connections keep
/// theirs.
pub struct ListenerTls {
    listener: String,
    settings: settings::ListenerTlsSettings,
    current: ArcSwap<ServerConfig>,
}

impl ListenerTls {
    /// Reads the files. One that has expired is used all the same: what else is there to show.
    pub fn load(
        listener: &str,
        settings: &settings::ListenerTlsSettings,
    ) -> Result<(Arc<Self>, Contents), TlsError> {
        let (current, contents) = build(settings)?;
        let made = Self {
            listener: listener.to_owned(),
            settings: settings.clone(),
            current: ArcSwap::from_pointee(current),
        };
        Ok((Arc::new(made), contents))
    }

    pub fn current(&self) -> Arc<ServerConfig> {
        self.current.load_full()
    }
}

impl Reloadable for ListenerTls {
    fn title(&self) -> String {
        format!("listener {}", self.listener)
    }

    fn files(&self) -> Vec<PathBuf> {
        files(&self.settings)
    }

    fn reload(&self, before: &Contents) -> Result<Contents, TlsError> {
        let (config, contents) = build(&self.settings)?;
        let now = clock::now();
        contents.identities.iter().try_for_each(|identity| identity.valid_at(now))?;
        // Nobody loses a ticket for nothing.
        if contents.digest != before.digest {
            self.current.store(Arc::new(config));
        }
        Ok(contents)
    }
}

fn files(settings: &settings::ListenerTlsSettings) -> Vec<PathBuf> {
    let pairs = settings.certificates.iter();
    let pairs = pairs.flat_map(|pair| [pair.certificate.clone(), pair.key.clone()]);
    pairs.chain(settings.client_ca.clone()).collect()
}

fn build(settings: &settings::ListenerTlsSettings) -> Result<(ServerConfig, Contents), TlsError> {
    let stamps = stamps(&files(settings));
    let identities: Vec<_> =
        settings.certificates.iter().map(Identity::load).collect::<Result<_, _>>()?;
    let builder = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&version::TLS13, &version::TLS12])?;
    let mut roots = Arc::new(RootCertStore::empty());
    let builder = match &settings.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            roots = Arc::new(authorities(path)?);
            let trusted = Arc::clone(&roots);
            let verifier = WebPkiClientVerifier::builder_with_provider(trusted, provider());
            let verifier = verifier.build().map_err(|error| {
                let reason = error.to_string();
                TlsError::Authorities { path: path.clone(), reason }
            })?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_cert_resolver(Arc::new(ByName::new(&identities)));
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    // Tickets cost no memory here and their keys rotate. But none for clients with certificates:
    // rustls asks for no certificate when a session is resumed and gives a new ticket for each that
    // is used, so a certificate that has expired would be good for ever.
    if settings.client_ca.is_none() {
        config.ticketer = Ticketer::new()?;
    } else {
        config.send_tls13_tickets = 0;
    }
    Ok((config, Contents::new(stamps, identities, &roots)))
}

/// Chooses a certificate by the name that a client asks for.
#[derive(Debug)]
struct ByName {
    /// In the order of the settings; names and wildcards in lower case.
    names: HashMap<String, Vec<Arc<CertifiedKey>>>,
    all: Vec<Arc<CertifiedKey>>,
}

impl ByName {
    fn new(identities: &[Identity]) -> Self {
        let mut names: HashMap<String, Vec<_>> = HashMap::new();
        for identity in identities {
            for name in &identity.names {
                names.entry(name.clone()).or_default().push(Arc::clone(&identity.certified));
            }
        }
        let all = identities.iter().map(|identity| Arc::clone(&identity.certified)).collect();
        Self { names, all }
    }

    fn named(&self, name: &str) -> Option<&[Arc<CertifiedKey>]> {
        let name = name.to_ascii_lowercase();
        let parent = name.split_once('.').map(|(_, parent)| format!("*.{parent}"));
        let found = self.names.get(&name).or_else(|| self.names.get(&parent?));
        found.map(Vec::as_slice)
    }
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let named = hello.server_name().and_then(|name| self.named(name));
        let shown = named.unwrap_or(&self.all);
        // Of an RSA and an ECDSA certificate for one name, the one that the client understands.
        let fits =
            |key: &&Arc<CertifiedKey>| key.key.choose_scheme(hello.signature_schemes()).is_some();
        shown.iter().find(fits).or(shown.first()).cloned()
    }
}
