//! The farm as the shell needs it: the core's picture of it, and how to reach each backend.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;

use std::time::Duration;

use gateway_core::farm::{AdminState, Announce, Backend, BackendId, FarmView, Health};
use gateway_core::protocol::host::{Host, key_of};
use gateway_core::routing::Policy;
use http::HeaderValue;
use pingora::protocols::TcpKeepalive;
use pingora::upstreams::peer::{HttpPeer, HttpUpstreamRequestPolicy};
use tokio::net::lookup_host;

use crate::config::{
    BackendAddress, BackendConfig, BackendConnections, Config, HashKey, HostIdMode, Http, Timeouts,
    UpstreamHost,
};
use crate::health::FarmHealth;
use crate::pool;
use crate::tls::{self, BackendTls, Expiry, Identity, Renewable, TlsError};

/// A connection that was used so recently is very unlikely to have been closed by its server
/// meanwhile. For packets that cannot be sent twice.
const FRESH: Duration = Duration::from_secs(5);

/// A dead backend host must not hold a request for the kernel's two hours.
const KEEPALIVE: TcpKeepalive = TcpKeepalive {
    idle: Duration::from_secs(60),
    interval: Duration::from_secs(10),
    count: 3,
    #[cfg(target_os = "linux")]
    user_timeout: Duration::from_secs(0),
};

/// An immutable picture of the farm; one request sees one picture.
#[derive(Clone)]
pub struct Farm {
    pub view: FarmView,
    pub policy: Policy,
    pub hash_key: HashKey,
    links: Vec<Link>,
    hosts: Hosts,
}

/// How to reach one backend.
#[derive(Clone)]
struct Link {
    address: SocketAddr,
    named: BackendAddress,
    timeouts: Arc<Timeouts>,
    /// For packets that may be sent again when a pooled connection turns out to be dead.
    pooled: HttpPeer,
    tls: Option<Secured>,
    /// For packets that may not: its connections are dropped after a few idle seconds.
    fresh: HttpPeer,
    authority: HeaderValue,
    per_client: bool,
}

/// TLS to a backend, and the certificate that is shown to it.
type Secured = (Arc<BackendTls>, Option<Identity>);

#[derive(Clone)]
struct Hosts {
    /// Names we answer to, empty for any, in the form of [`Host::with_key`].
    accepted: HashSet<String>,
    /// The name that backends see in place of an alias.
    origin: Option<HeaderValue>,
    origin_keys: HashSet<String>,
    upstream: UpstreamHost,
}

/// The farm cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum FarmError {
    #[error("backend {name}: the address {address} cannot be resolved: {source}")]
    Resolve { name: String, address: String, source: std::io::Error },
    #[error("backend {name}: the address {address} has no addresses")]
    NoAddress { name: String, address: String },
    #[error("backend {name}: {source}")]
    Tls { name: String, source: TlsError },
}

impl Farm {
    /// Resolves every backend and prepares what each request needs of it. Backends get their ids
    /// in the order of the configuration.
    pub async fn build(config: &Config) -> Result<Self, FarmError> {
        let mut backends = Vec::new();
        let mut links = Vec::new();
        let mut aliases = HashMap::new();
        let timeouts = Arc::new(config.timeouts.clone());
        for (id, backend) in (0u32..).map(BackendId).zip(&config.backends) {
            let address = resolve(&backend.name, &backend.address).await?;
            let tls = secured(backend)?;
            let mut link = Link::new(address, &backend.address, &timeouts, tls);
            link.per_client = backend.connections == BackendConnections::PerClient;
            links.push(link);
            let host_id = match config.affinity.host_id {
                HostIdMode::Backend => backend.alias.as_deref(),
                HostIdMode::Gateway => config.affinity.gateway_name.as_deref(),
                HostIdMode::Direct => backend.public_name.as_deref(),
                HostIdMode::None => None,
            };
            // An alias is obeyed in every mode: a client may remember it from another one.
            if let Some(key) = backend.alias.as_deref().and_then(key_of) {
                aliases.insert(key, id);
            }
            backends.push(Backend {
                id,
                name: backend.name.as_str().into(),
                weight: backend.weight,
                admin: AdminState::Ready,
                health: Health::Up,
                announce: host_id.and_then(|name| announce(name, config.affinity.fallback_timeout)),
            });
        }
        let hosts = Hosts::new(&config.http, config.affinity.gateway_name.as_deref(), &aliases);
        let policy =
            Policy { placement: config.placement.policy, unknown: config.sessions.unknown };
        let hash_key = config.placement.hash_key;
        Ok(Self { view: FarmView::new(backends, aliases), policy, hash_key, links, hosts })
    }

    /// The same farm as it stands now: states, health, weights and addresses.
    pub fn revised(&self, health: &FarmHealth) -> Self {
        let mut farm = self.clone();
        farm.view = self.view.revised(|id| health.standing(id));
        for (id, link) in (0u32..).map(BackendId).zip(&mut farm.links) {
            if let Some(address) = health.current_address(id).filter(|now| *now != link.address) {
                let (per_client, tls) = (link.per_client, link.tls.clone());
                *link = Link { per_client, ..Link::new(address, &link.named, &link.timeouts, tls) };
            }
        }
        farm
    }

    /// Where each backend was found when the farm was built, by its id.
    pub fn address(&self, id: BackendId) -> Option<SocketAddr> {
        self.links.get(id.0 as usize).map(|link| link.address)
    }

    /// How a backend is spoken to by TLS, if it is.
    pub fn tls(&self, id: BackendId) -> Option<&Arc<BackendTls>> {
        self.links.get(id.0 as usize)?.tls.as_ref().map(|(tls, _)| tls)
    }

    /// What is made of certificate files, for [`tls::Keeper::watch`].
    pub fn renewables(&self) -> Vec<(Arc<dyn Renewable>, Vec<Expiry>)> {
        let one = |(tls, identity): &Secured| {
            let thing: Arc<dyn Renewable> = tls.clone();
            (thing, identity.iter().map(Expiry::of).collect())
        };
        self.links.iter().filter_map(|link| link.tls.as_ref()).map(one).collect()
    }

    /// Whether a request for this host is ours.
    pub fn accepts(&self, host: &Host<'_>) -> bool {
        self.hosts.accepted.is_empty() || host.with_key(|key| self.hosts.accepted.contains(key))
    }

    /// A peer for one request. `repeatable` says that a stale connection costs nothing.
    pub fn peer(&self, id: BackendId, repeatable: bool) -> Option<&HttpPeer> {
        let link = self.links.get(id.0 as usize)?;
        Some(if repeatable { &link.pooled } else { &link.fresh })
    }

    /// Whether each client connection has a connection of its own to the backend.
    pub fn is_per_client(&self, id: BackendId) -> bool {
        self.links.get(id.0 as usize).is_some_and(|link| link.per_client)
    }

    /// The Host for the backend where it is not the client's.
    ///
    /// The default shows backends one stable name whatever alias the client uses: IIS bindings
    /// and the URL given to applications depend on it.
    pub fn upstream_host(&self, id: BackendId, host: &Host<'_>) -> Option<&HeaderValue> {
        match self.hosts.upstream {
            UpstreamHost::Preserve => None,
            UpstreamHost::Backend => self.links.get(id.0 as usize).map(|link| &link.authority),
            UpstreamHost::Origin => {
                let known = host.with_key(|key| self.hosts.origin_keys.contains(key));
                if known { None } else { self.hosts.origin.as_ref() }
            }
        }
    }
}

impl Hosts {
    fn new(http: &Http, gateway: Option<&str>, aliases: &HashMap<String, BackendId>) -> Self {
        let origin_keys: HashSet<String> = http.hosts.iter().cloned().collect();
        let mut accepted = origin_keys.clone();
        if !accepted.is_empty() {
            accepted.extend(gateway.and_then(key_of));
            accepted.extend(aliases.keys().cloned());
        }
        let origin = http.origin.as_deref().and_then(|name| HeaderValue::from_str(name).ok());
        Self { accepted, origin, origin_keys, upstream: http.upstream_host }
    }
}

impl Link {
    fn new(
        address: SocketAddr,
        named: &BackendAddress,
        timeouts: &Arc<Timeouts>,
        tls: Option<Secured>,
    ) -> Self {
        let mut pooled = HttpPeer::new(address, tls.is_some(), String::new());
        let options = &mut pooled.options;
        options.connection_timeout = Some(timeouts.connect);
        options.total_connection_timeout = Some(timeouts.connect);
        options.read_timeout = Some(timeouts.answer);
        options.write_timeout = Some(timeouts.backend_write);
        options.idle_timeout = Some(timeouts.backend_idle);
        options.tcp_keepalive = Some(KEEPALIVE);
        options.http_upstream_request_policy = HttpUpstreamRequestPolicy::deny_upgrades();
        pool::share(&mut pooled);
        if let Some((tls, _)) = &tls {
            tls::secure(&mut pooled, tls);
        }
        let mut fresh = pooled.clone();
        // A pool of its own: a connection goes back to the pool of the key it came from.
        fresh.group_key = 1;
        fresh.options.idle_timeout = Some(timeouts.backend_idle.min(FRESH));
        let authority = HeaderValue::from_str(&named.authority(tls.is_some()))
            .unwrap_or_else(|_| HeaderValue::from_static("backend"));
        let (named, timeouts) = (named.clone(), Arc::clone(timeouts));
        Self { address, named, timeouts, pooled, tls, fresh, authority, per_client: false }
    }
}

fn secured(backend: &BackendConfig) -> Result<Option<Secured>, FarmError> {
    let Some(settings) = &backend.tls else { return Ok(None) };
    let loaded = BackendTls::load(&backend.name, &backend.address.host, settings);
    loaded.map(Some).map_err(|source| FarmError::Tls { name: backend.name.clone(), source })
}

async fn resolve(name: &str, address: &BackendAddress) -> Result<SocketAddr, FarmError> {
    let text = format!("{}:{}", address.host, address.port);
    let named = || (name.to_owned(), text.clone());
    let mut found = lookup_host(&text).await.map_err(|source| {
        let (name, address) = named();
        FarmError::Resolve { name, address, source }
    })?;
    found.next().ok_or_else(|| {
        let (name, address) = named();
        FarmError::NoAddress { name, address }
    })
}

fn announce(name: &str, fallback_timeout: Duration) -> Option<Announce> {
    let host_id = HeaderValue::from_str(name).ok()?;
    let fallback_timeout = HeaderValue::from(fallback_timeout.as_secs());
    Some(Announce { host_id, fallback_timeout })
}
