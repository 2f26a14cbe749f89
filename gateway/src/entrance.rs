//! The doors of the listeners, and who looks after the certificates on them.

use std::sync::Arc;

use crate::clock;
use crate::config::{Config, Listener};
use crate::farm::Farm;
use crate::guard::Door;
use crate::metrics::Metrics;
use crate::tls::{Expiry, Identity, Keeper, ListenerTls, Renewable, TlsError};

/// TLS of a listener with the certificates it was made of, where it has any.
pub type Loaded = Option<(Arc<ListenerTls>, Vec<Identity>)>;

#[derive(Debug, thiserror::Error)]
#[error("listener {name}: {source} ({})", source.help())]
pub struct EntranceError {
    name: String,
    source: TlsError,
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

/// Whoever reads the certificates of listeners and backends again when they change.
pub fn keep(metrics: &Arc<Metrics>, listeners: &[Loaded], farm: &Farm) -> Keeper {
    let keeper = Keeper::new(Arc::clone(metrics));
    watch(&keeper, listeners, farm);
    keeper
}

/// Has the keeper look after these, and no others.
pub fn watch(keeper: &Keeper, listeners: &[Loaded], farm: &Farm) {
    for identity in listeners.iter().flatten().flat_map(|(_, identities)| identities) {
        if let Err(error) = identity.valid_at(clock::now()) {
            tracing::error!(%error, help = %error.help(), "clients will not accept a certificate");
        }
    }
    let one = |(tls, identities): &(Arc<ListenerTls>, Vec<Identity>)| {
        let thing: Arc<dyn Renewable> = tls.clone();
        (thing, identities.iter().map(Expiry::of).collect())
    };
    keeper.watch(listeners.iter().flatten().map(one).chain(farm.renewables()));
}

/// The doors in the order of the listeners.
pub fn doors(config: &Config, listeners: Vec<Loaded>) -> Vec<Door> {
    let door = |(listener, loaded): (&Listener, Loaded)| {
        let tls = loaded.map(|(tls, _)| tls);
        Door::new(tls, listener.proxy_protocol.clone(), config.timeouts.handshake)
    };
    config.listeners.iter().zip(listeners).map(door).collect()
}
