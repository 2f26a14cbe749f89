//! The certificates of the listeners, and the watch over all files that TLS is made of.

use std::path::PathBuf;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::base::clock;
use crate::process::supervisor::TaskResult;
use crate::telemetry::events::Events;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::problems::Certificate;
use crate::tls::settings::ListenerTlsSettings;
use crate::tls::{CertificateWatcher, Contents, ListenerTls, Reloadable, TlsError};

/// TLS of a listener with what it was made of, where it has any.
pub type LoadedCertificates = Option<(Arc<ListenerTls>, Contents)>;

#[derive(Debug, thiserror::Error)]
#[error("listener {name}: {source} ({})", source.help())]
pub struct CertificateError {
    name: String,
    pub source: TlsError,
}

/// Reads the certificates of listeners, in their order: each has a name, and settings where it
/// speaks TLS.
pub fn load<'a>(
    listeners: impl IntoIterator<Item = (&'a str, Option<&'a ListenerTlsSettings>)>,
) -> Result<Vec<LoadedCertificates>, CertificateError> {
    let one = |(name, settings): (&str, Option<&ListenerTlsSettings>)| {
        let Some(settings) = settings else { return Ok(None) };
        let loaded = ListenerTls::load(name, settings);
        loaded.map(Some).map_err(|source| CertificateError { name: name.to_owned(), source })
    };
    listeners.into_iter().map(one).collect()
}

/// Everything that is made of certificate files, looked after. Clones are one and the same.
#[derive(Clone)]
pub struct Certificates {
    certificate_watcher: CertificateWatcher,
    listeners: Arc<[LoadedCertificates]>,
}

impl Certificates {
    /// Looks after those of the listeners and of the backends.
    pub fn start_watching(
        metrics: &Arc<Metrics>,
        events: &Events,
        listeners: &[LoadedCertificates],
        backends: Vec<(Arc<dyn Reloadable>, Contents)>,
    ) -> Self {
        let shown = listeners.iter().flatten().flat_map(|(_, contents)| &contents.identities);
        for identity in shown {
            if let Err(error) = identity.valid_at(clock::now()) {
                let help = error.help();
                tracing::error!(%error, %help, "clients will not accept a certificate");
            }
        }
        let certificate_watcher = CertificateWatcher::new(Arc::clone(metrics), events.clone());
        let kept = Self { certificate_watcher, listeners: listeners.into() };
        kept.watch(backends);
        kept
    }

    /// What the backends are made of is this now.
    pub fn watch(&self, backends: Vec<(Arc<dyn Reloadable>, Contents)>) {
        let one = |(tls, contents): &(Arc<ListenerTls>, Contents)| {
            let thing: Arc<dyn Reloadable> = tls.clone();
            (thing, contents.clone())
        };
        let listeners = self.listeners.iter().flatten().map(one);
        self.certificate_watcher.watch(listeners.chain(backends));
    }

    /// When each file ends to be of use, and why new ones are not in use.
    pub fn state(&self) -> (Vec<Certificate>, Option<String>) {
        let (ends, failing) = self.certificate_watcher.state();
        let one =
            |(path, ends): (PathBuf, i64)| Certificate { path: path.display().to_string(), ends };
        (ends.into_iter().map(one).collect(), failing)
    }

    /// Reads all files again, changed or not. What cannot be used is in the log, and what there
    /// was goes on; returns the first such mistake.
    pub fn reload(&self) -> Option<String> {
        self.certificate_watcher.reload_certificates().err()
    }

    /// Looks at the files until told to stop.
    pub async fn run(self, stop: CancellationToken) -> TaskResult {
        self.certificate_watcher.run(stop).await
    }
}
