//! The doors of the listeners, and who looks after the certificates on them.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::watch;

use crate::clock;
use crate::config::{Config, Listener};
use crate::farm::Farm;
use crate::guard::Door;
use crate::metrics::Metrics;
use crate::problems::Certificate;
use crate::supervisor::TaskResult;
use crate::tls::{Contents, Keeper, ListenerTls, Renewable, TlsError};

/// TLS of a listener with what it was made of, where it has any.
pub type Loaded = Option<(Arc<ListenerTls>, Contents)>;

#[derive(Debug, thiserror::Error)]
#[error("listener {name}: {source} ({})", source.help())]
pub struct EntranceError {
    name: String,
    pub source: TlsError,
}

/// Reads the certificates of all listeners, in their order.
pub fn load(listeners: &[Listener]) -> Result<Vec<Loaded>, EntranceError> {
    let one = |listener: &Listener| {
        let Some(settings) = &listener.tls else { return Ok(None) };
        let loaded = ListenerTls::load(&listener.name, settings);
        loaded.map(Some).map_err(|source| EntranceError { name: listener.name.clone(), source })
    };
    listeners.iter().map(one).collect()
}

/// Everything that is made of certificate files, looked after. Clones are one and the same.
#[derive(Clone)]
pub struct Certificates {
    keeper: Keeper,
    listeners: Arc<[Loaded]>,
}

impl Certificates {
    /// Looks after those of the listeners and of the backends.
    pub fn keep(metrics: &Arc<Metrics>, listeners: &[Loaded], farm: &Farm) -> Self {
        let shown = listeners.iter().flatten().flat_map(|(_, contents)| &contents.identities);
        for identity in shown {
            if let Err(error) = identity.valid_at(clock::now()) {
                let help = error.help();
                tracing::error!(%error, %help, "clients will not accept a certificate");
            }
        }
        let keeper = Keeper::new(Arc::clone(metrics));
        let kept = Self { keeper, listeners: listeners.into() };
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
        self.keeper.watch(listeners.chain(farm.renewables()));
    }

    /// When each file ends to be of use, and why new ones are not in use.
    pub fn state(&self) -> (Vec<Certificate>, Option<String>) {
        let (ends, failing) = self.keeper.state();
        let one =
            |(path, ends): (PathBuf, i64)| Certificate { path: path.display().to_string(), ends };
        (ends.into_iter().map(one).collect(), failing)
    }

    /// Reads all files again, changed or not. What cannot be used is in the log, and what there
    /// was goes on; returns the first such mistake.
    pub fn reload(&self) -> Option<String> {
        self.keeper.reload_certificates().err()
    }

    /// Looks at the files until told to stop.
    pub async fn run(self, stop: watch::Receiver<bool>) -> TaskResult {
        self.keeper.run(stop).await
    }
}

/// The doors in the order of the listeners.
pub fn doors(config: &Config, listeners: &[Loaded]) -> Vec<Door> {
    let door = |(listener, loaded): (&Listener, &Loaded)| {
        let tls = loaded.as_ref().map(|(tls, _)| Arc::clone(tls));
        Door::new(tls, listener.proxy_protocol.clone())
    };
    config.listeners.iter().zip(listeners).map(door).collect()
}
