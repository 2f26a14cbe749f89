//! The certificates of the listeners, their handshakes, and the watch over the files.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::watch;

use crate::base::clock;
use crate::config::{Config, Listener};
use crate::farm::Farm;
use crate::guard::Handshake;
use crate::process::supervisor::TaskResult;
use crate::telemetry::events::Events;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::problems::Certificate;
use crate::tls::{CertificateWatcher, Contents, ListenerTls, Renewable, TlsError};

/// TLS of a listener with what it was made of, where it has any.
pub type Loaded = Option<(Arc<ListenerTls>, Contents)>;

#[derive(Debug, thiserror::Error)]
#[error("listener {name}: {source} ({})", source.help())]
pub struct CertificateError {
    name: String,
    pub source: TlsError,
}

/// Reads the certificates of all listeners, in their order.
pub fn load(listeners: &[Listener]) -> Result<Vec<Loaded>, CertificateError> {
    let one = |listener: &Listener| {
        let Some(settings) = &listener.tls else { return Ok(None) };
        let loaded = ListenerTls::load(&listener.name, settings);
        loaded.map(Some).map_err(|source| CertificateError { name: listener.name.clone(), source })
    };
    listeners.iter().map(one).collect()
}

/// Everything that is made of certificate files, looked after. Clones are one and the same.
#[derive(Clone)]
pub struct Certificates {
    certificate_watcher: CertificateWatcher,
    listeners: Arc<[Loaded]>,
}

impl Certificates {
    /// Looks after those of the listeners and of the backends.
    pub fn keep(
        metrics: &Arc<Metrics>,
        events: &Events,
        listeners: &[Loaded],
        farm: &Farm,
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
        kept.watch(farm);
        kept
    }

    /// The backends are these now.
    pub fn watch(&self, farm: &Farm) {
        let one = |(tls, contents): &(Arc<ListenerTls>, Contents)| {
            let thing: Arc<dyn Renewable> = tls.clone();
            (thing, contents.clone())
        };
        let listeners = self.listeners.iter().flatten().map(one);
        self.certificate_watcher.watch(listeners.chain(farm.renewables()));
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
    pub async fn run(self, stop: watch::Receiver<bool>) -> TaskResult {
        self.certificate_watcher.run(stop).await
    }
}

/// The handshakes in the order of the listeners.
pub fn handshakes(config: &Config, listeners: &[Loaded]) -> Vec<Handshake> {
    let handshake = |(listener, loaded): (&Listener, &Loaded)| {
        let tls = loaded.as_ref().map(|(tls, _)| Arc::clone(tls));
        Handshake::new(tls, listener.proxy_protocol.clone())
    };
    config.listeners.iter().zip(listeners).map(handshake).collect()
}
