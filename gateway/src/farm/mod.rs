//! The farm as the shell needs it: the core's picture of it, and how to reach each backend.

pub mod backend_client;
pub mod backend_registry;
mod endpoint;
pub mod health;
pub mod pool;

use std::collections::{HashMap, HashSet};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::Arc;

use std::time::Duration;

use gateway_core::farm::{AdminState, Announce, Backend, BackendId, FarmView, Health};
use gateway_core::protocol::cdn_loop;
use gateway_core::protocol::host::{Host, key_of};
use gateway_core::routing::Policy;
use http::HeaderValue;
use pingora::protocols::TcpKeepalive;
use pingora::upstreams::peer::{HttpPeer, HttpUpstreamRequestPolicy};

use crate::base::backend_ids::BackendIds;
use crate::base::instance;
use crate::config::{
    BackendAddress, BackendConfig, BackendConnections, Config, HashKey, HostIdMode, Http, Timeouts,
    UpstreamHost,
};
use crate::farm::health::FarmHealth;
use crate::tls::{self, BackendTls, Contents, Reloadable, TlsError};

pub use endpoint::{Endpoint, KEEPALIVE_COUNT, KEEPALIVE_IDLE, KEEPALIVE_INTERVAL};

/// A connection that was used so recently is very unlikely to have been closed by its server
/// meanwhile. For requests that are no packets, none of which is sent twice.
const FRESH: Duration = Duration::from_secs(5);

/// Of a name with several addresses, the first that takes a connection within this time is used.
const FIRST_LOOK: Duration = Duration::from_secs(1);

/// So many are looked at.
const ADDRESSES: usize = 4;

const KEEPALIVE: TcpKeepalive = TcpKeepalive {
    idle: KEEPALIVE_IDLE,
    interval: KEEPALIVE_INTERVAL,
    count: KEEPALIVE_COUNT as usize,
    #[cfg(target_os = "linux")]
    user_timeout: Duration::from_secs(0),
};

/// An immutable picture of the farm; one request sees one picture.
#[derive(Clone)]
pub struct Farm {
    /// What everything here was made of; what a request needs besides stands in it.
    pub config: Arc<Config>,
    pub view: FarmView,
    pub policy: Policy,
    pub hash_key: HashKey,
    /// By id.
    links: Vec<Option<Link>>,
    /// Not configured any more.
    leaving: Vec<BackendId>,
    /// Those of the view, the ones included that only older clients know.
    aliases: HashMap<String, BackendId>,
    hosts: Hosts,
}

/// How to reach one backend.
#[derive(Clone)]
struct Link {
    /// Nothing while its name has no address.
    peers: Option<Peers>,
    /// What its name stood for when the farm was built.
    found: Vec<SocketAddr>,
    named: BackendAddress,
    timeouts: Arc<Timeouts>,
    tls: Option<Secured>,
    authority: HeaderValue,
    /// What a request says when it goes there, see [`cdn_loop`].
    loop_entry: HeaderValue,
    per_client: bool,
}

/// One address of a backend.
#[derive(Clone)]
struct Peers {
    /// For packets.
    endpoint: Arc<Endpoint>,
    /// For all else.
    plain: HttpPeer,
}

/// TLS to a backend, and the certificate that is shown to it.
type Secured = (Arc<BackendTls>, Contents);

#[derive(Clone)]
struct Hosts {
    /// Names we answer to, empty for any, in the form of [`Host::with_key`].
    accepted: HashSet<Vec<u8>>,
    /// Names that we once answered to, and do not any more.
    before: HashSet<Vec<u8>>,
    /// Once any name would do.
    any_before: bool,
    /// The name that backends see in place of an alias.
    origin: Option<HeaderValue>,
    origin_keys: HashSet<Vec<u8>>,
    upstream: UpstreamHost,
}

/// The farm cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum FarmError {
    #[error("backend {name}: {source}")]
    Tls { name: String, source: TlsError },
}

/// A backend that the configuration does not name any more, and that is kept for its sessions.
#[derive(Debug, Clone, PartialEq)]
pub struct Leaving {
    pub id: BackendId,
    /// As it was when it was last named.
    pub backend: BackendConfig,
}

impl Farm {
    /// Prepares what each request needs of every backend. Blocks: a name that `before` does not
    /// know is looked up. One that has no address is a backend that is down.
    pub fn build(
        config: Arc<Config>,
        ids: &BackendIds,
        leaving: &[Leaving],
        before: Option<&Self>,
    ) -> Result<Self, FarmError> {
        let mut backends = Vec::new();
        let mut links = Vec::new();
        let mut aliases = HashMap::new();
        let timeouts = Arc::new(config.timeouts.clone());
        let named = config.backends.iter().map(|backend| (ids.intern(&backend.name), backend));
        let leave = leaving.iter().map(|leaving| (leaving.id, &leaving.backend));
        let configured = config.backends.len();
        for (at, (id, backend)) in named.chain(leave).enumerate() {
            let before = before.and_then(|before| before.link(id));
            let known = before.filter(|link| link.named == backend.address);
            let known = known.map(|link| (link.found.clone(), link.address()));
            let (found, address) = known.unwrap_or_else(|| {
                let found = resolve(&backend.address, config.timeouts.connect);
                let first = found.first().copied();
                (found, first)
            });
            let tls = secured(backend, before.and_then(|link| link.tls.as_ref()))?;
            let mut link = Link::new(id, address, &backend.address, &timeouts, tls);
            link.found = found;
            link.per_client = backend.connections == BackendConnections::PerClient;
            let slot = id.0 as usize;
            if slot >= links.len() {
                links.resize(slot + 1, None);
            }
            links[slot] = Some(link);
            let host_id = match config.affinity.host_id {
                HostIdMode::Backend => backend.alias.as_deref(),
                HostIdMode::Gateway => config.affinity.gateway_name.as_deref(),
                HostIdMode::Direct => backend.public_name.as_deref(),
                HostIdMode::None => None,
            };
            // An alias is obeyed in every mode: a client may remember it from another one.
            if let Some(key) = backend.alias.as_deref().and_then(key_of).filter(|_| at < configured)
            {
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
        if let Some(before) = before {
            // Clients go on with the name that they were told, whatever was configured since.
            for (key, id) in &before.aliases {
                let stays = links.get(id.0 as usize).is_some_and(Option::is_some);
                if stays && !aliases.contains_key(key) {
                    aliases.insert(key.clone(), *id);
                }
            }
        }
        let gateway = config.affinity.gateway_name.as_deref();
        let hosts = Hosts::new(&config.http, gateway, &aliases, before.map(|before| &before.hosts));
        let policy =
            Policy { placement: config.placement.policy, unknown: config.sessions.unknown };
        let hash_key = config.placement.hash_key;
        let leaving = leaving.iter().map(|leaving| leaving.id).collect();
        let view = FarmView::new(backends, aliases.clone());
        Ok(Self { config, view, policy, hash_key, links, leaving, aliases, hosts })
    }

    /// The same farm as it stands now: states, health, weights and addresses.
    pub fn revised(&self, health: &FarmHealth) -> Self {
        let mut farm = self.clone();
        farm.view = self.view.revised(|id| health.standing(id));
        for (id, link) in (0u32..).map(BackendId).zip(&mut farm.links) {
            let Some(link) = link else { continue };
            let now = health.current_address(id);
            if now.is_some() && now != link.address() {
                let (per_client, tls) = (link.per_client, link.tls.clone());
                let new = Link::new(id, now, &link.named, &link.timeouts, tls);
                *link = Link { per_client, found: std::mem::take(&mut link.found), ..new };
            }
        }
        farm
    }

    /// Where a backend is; `None` while its name has no address.
    pub fn address(&self, id: BackendId) -> Option<SocketAddr> {
        self.link(id)?.address()
    }

    /// Whether a backend came to its address so lately that its name may lead elsewhere again with
    /// the next look.
    pub fn has_moved_lately(&self, id: BackendId, health: &FarmHealth) -> bool {
        health.has_moved_within(id, self.config.health.resolve)
    }

    /// What the name of a backend stood for when the farm was built.
    pub fn found(&self, id: BackendId) -> &[SocketAddr] {
        self.link(id).map_or(&[], |link| &link.found)
    }

    /// How the configuration writes the address of a backend.
    pub fn named(&self, id: BackendId) -> Option<&BackendAddress> {
        self.link(id).map(|link| &link.named)
    }

    /// Whether a backend is only here for the sessions that it has.
    pub fn is_leaving(&self, id: BackendId) -> bool {
        self.leaving.contains(&id)
    }

    pub fn leaving(&self) -> &[BackendId] {
        &self.leaving
    }

    fn link(&self, id: BackendId) -> Option<&Link> {
        self.links.get(id.0 as usize)?.as_ref()
    }

    /// How a backend is spoken to by TLS, if it is.
    pub fn tls(&self, id: BackendId) -> Option<&Arc<BackendTls>> {
        self.link(id)?.tls.as_ref().map(|(tls, _)| tls)
    }

    /// What is made of certificate files, for [`tls::CertificateWatcher::watch`].
    pub fn reloadables(&self) -> Vec<(Arc<dyn Reloadable>, Contents)> {
        let one = |(tls, contents): &Secured| {
            let thing: Arc<dyn Reloadable> = tls.clone();
            (thing, contents.clone())
        };
        self.links.iter().flatten().filter_map(|link| link.tls.as_ref()).map(one).collect()
    }

    /// Whether a request may be for any host.
    pub fn accepts_any(&self) -> bool {
        self.hosts.accepted.is_empty()
    }

    /// Whether a request for this host is ours.
    pub fn accepts(&self, host: &Host<'_>) -> bool {
        self.accepts_any() || host.with_key(|key| self.hosts.accepted.contains(key))
    }

    /// The same for a packet of a session that is known: such a one also goes on under a name that
    /// was ours before the configuration changed.
    pub fn accepted_before(&self, host: &Host<'_>) -> bool {
        self.hosts.any_before || host.with_key(|key| self.hosts.before.contains(key))
    }

    /// A backend as Pingora reaches it; `None` while the backend's name has no address.
    pub fn peer(&self, id: BackendId) -> Option<&HttpPeer> {
        self.link(id)?.peers.as_ref().map(|peers| &peers.plain)
    }

    /// Where connections to a backend lead; `None` while its name has no address.
    pub fn endpoint(&self, id: BackendId) -> Option<&Arc<Endpoint>> {
        self.link(id)?.peers.as_ref().map(|peers| &peers.endpoint)
    }

    /// Whether each client connection has a connection of its own to the backend.
    pub fn is_per_client(&self, id: BackendId) -> bool {
        self.link(id).is_some_and(|link| link.per_client)
    }

    /// Whether that is so for any backend.
    pub fn has_per_client(&self) -> bool {
        self.links.iter().flatten().any(|link| link.per_client)
    }

    /// What a request for the backend says of its way here.
    pub fn loop_entry(&self, id: BackendId) -> Option<&HeaderValue> {
        self.link(id).map(|link| &link.loop_entry)
    }

    /// The backend as its address is written in the configuration: its Host for a request that
    /// names none.
    pub fn authority(&self, id: BackendId) -> Option<&HeaderValue> {
        self.link(id).map(|link| &link.authority)
    }

    /// The Host for the backend where it is not the client's.
    ///
    /// The default shows backends one stable name whatever alias the client uses: IIS bindings
    /// and the URL given to applications depend on it.
    pub fn upstream_host(&self, id: BackendId, host: &Host<'_>) -> Option<&HeaderValue> {
        match self.hosts.upstream {
            UpstreamHost::Preserve => None,
            UpstreamHost::Backend => self.authority(id),
            UpstreamHost::Origin => {
                let known = host.with_key(|key| self.hosts.origin_keys.contains(key));
                if known { None } else { self.hosts.origin.as_ref() }
            }
        }
    }

    /// The Host of a request that no client has sent.
    pub fn default_host(&self, id: BackendId) -> Option<&HeaderValue> {
        match self.hosts.upstream {
            UpstreamHost::Backend => self.link(id).map(|link| &link.authority),
            UpstreamHost::Preserve | UpstreamHost::Origin => {
                self.hosts.origin.as_ref().or_else(|| self.link(id).map(|link| &link.authority))
            }
        }
    }
}

impl Hosts {
    fn new(
        http: &Http,
        gateway: Option<&str>,
        aliases: &HashMap<String, BackendId>,
        earlier: Option<&Self>,
    ) -> Self {
        let origin_keys: HashSet<_> =
            http.hosts.iter().map(|name| name.clone().into_bytes()).collect();
        let mut accepted = origin_keys.clone();
        if !accepted.is_empty() {
            accepted.extend(gateway.and_then(key_of).map(String::into_bytes));
            accepted.extend(aliases.keys().map(|name| name.clone().into_bytes()));
        }
        let origin = http.origin.as_deref().and_then(|name| HeaderValue::from_str(name).ok());
        let mut before = HashSet::new();
        let mut any_before = false;
        if let Some(earlier) = earlier {
            before.extend(earlier.before.iter().chain(&earlier.accepted).cloned());
            before.retain(|key| !accepted.contains(key));
            any_before = earlier.any_before || earlier.accepted.is_empty();
        }
        let upstream = http.upstream_host;
        Self { accepted, before, any_before, origin, origin_keys, upstream }
    }
}

impl Peers {
    fn new(
        backend: BackendId,
        address: SocketAddr,
        timeouts: &Timeouts,
        tls: Option<&Secured>,
    ) -> Self {
        let endpoint = Arc::new(Endpoint {
            backend,
            address,
            tls: tls.map(|(tls, _)| Arc::clone(tls)),
            connect_timeout: timeouts.connect,
            idle_timeout: timeouts.backend_idle,
        });
        let mut plain = tls::peer(backend, address, tls.is_some());
        let options = &mut plain.options;
        options.connection_timeout = Some(timeouts.connect);
        options.total_connection_timeout = Some(timeouts.connect);
        options.read_timeout = Some(timeouts.answer);
        options.write_timeout = Some(timeouts.backend_write);
        options.idle_timeout = Some(timeouts.backend_idle.min(FRESH));
        options.tcp_keepalive = Some(KEEPALIVE);
        options.http_upstream_request_policy = HttpUpstreamRequestPolicy::deny_upgrades();
        pool::share(&mut plain);
        match tls {
            Some((tls, _)) => tls::secure(&mut plain, tls),
            None => tls::own(&mut plain),
        }
        Self { endpoint, plain }
    }
}

impl Link {
    fn new(
        id: BackendId,
        address: Option<SocketAddr>,
        named: &BackendAddress,
        timeouts: &Arc<Timeouts>,
        tls: Option<Secured>,
    ) -> Self {
        let peers = address.map(|address| Peers::new(id, address, timeouts, tls.as_ref()));
        let authority = HeaderValue::from_str(&named.authority(tls.is_some()))
            .unwrap_or_else(|_| HeaderValue::from_static("backend"));
        let (named, timeouts) = (named.clone(), Arc::clone(timeouts));
        let entry = cdn_loop::entry(instance::id(), id.0);
        let loop_entry = HeaderValue::from_str(&entry)
            .unwrap_or_else(|_| HeaderValue::from_static("bits-gateway"));
        let per_client = false;
        let found = Vec::new();
        Self { peers, found, named, timeouts, tls, authority, loop_entry, per_client }
    }

    fn address(&self) -> Option<SocketAddr> {
        self.peers.as_ref().map(|peers| peers.endpoint.address)
    }
}

/// Goes on with the TLS there was, if it is the same: its connections are kept, and whoever watches
/// its files knows it.
fn secured(
    backend: &BackendConfig,
    before: Option<&Secured>,
) -> Result<Option<Secured>, FarmError> {
    let Some(settings) = &backend.tls else { return Ok(None) };
    if let Some(same) = before.filter(|(tls, _)| tls.is_for(&backend.address.host, settings)) {
        return Ok(Some(same.clone()));
    }
    let loaded = BackendTls::load(&backend.name, &backend.address.host, settings);
    loaded.map(Some).map_err(|source| FarmError::Tls { name: backend.name.clone(), source })
}

/// What a name stands for now, first an address that can be reached. Who follows the name says it if
/// there is none.
fn resolve(address: &BackendAddress, timeout: Duration) -> Vec<SocketAddr> {
    let mut found: Vec<SocketAddr> = Vec::new();
    for address in address.to_string().to_socket_addrs().into_iter().flatten() {
        if !found.contains(&address) {
            found.push(address);
        }
    }
    if found.len() > 1 {
        let timeout = timeout.min(FIRST_LOOK);
        let reached = |address: &SocketAddr| TcpStream::connect_timeout(address, timeout).is_ok();
        if let Some(at) = found.iter().take(ADDRESSES).position(reached) {
            found[..=at].rotate_right(1);
        }
    }
    found
}

fn announce(name: &str, fallback_timeout: Duration) -> Option<Announce> {
    let host_id = HeaderValue::from_str(name).ok()?;
    let fallback_timeout = HeaderValue::from(fallback_timeout.as_secs());
    Some(Announce { host_id, fallback_timeout })
}
