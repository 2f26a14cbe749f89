//! Which backend a request goes to: what the core is told of it, and what it says.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use gateway_core::farm::{BackendId, Barred};
use gateway_core::fault::Fault;
use gateway_core::protocol::head::RequestHead;
use gateway_core::protocol::host::Host;
use gateway_core::protocol::{Fields, PacketType, RequestPacket, SessionId, headers};
use gateway_core::routing::ownership::visible_to;
use gateway_core::routing::{
    Decision, Evidence, Holder, Lookup, Placement, decide, decide_plain, reassign,
};
use gateway_core::session::fnv1a;
use parking_lot::Mutex;

use super::Exchange;
use super::forwarding::Forwarding;
use super::report::Reporter;
use crate::config::HashKey;
use crate::farm::health::FarmHealth;
use crate::guard::BoundConnections;
use crate::sessions::Sessions;

/// Asks the core where requests go.
pub(super) struct Router {
    sessions: Arc<Sessions>,
    health: FarmHealth,
    reporter: Arc<Reporter>,
    /// Placements of new sessions. A counter of its own, or round-robin would skip backends with
    /// every packet that has nothing to place.
    creates: AtomicU64,
    /// Held while a Create is placed and counted.
    placing: Mutex<()>,
}

impl Router {
    pub fn new(sessions: Arc<Sessions>, health: FarmHealth, reporter: Arc<Reporter>) -> Self {
        let (creates, placing) = (AtomicU64::new(0), Mutex::default());
        Self { sessions, health, reporter, creates, placing }
    }

    /// The backend that the host of a request stands for, if the request is for us.
    pub fn alias_of(
        &self,
        head: &RequestHead,
        exchange: &Exchange,
    ) -> Result<Option<BackendId>, Fault> {
        let farm = &exchange.arrival.farm;
        match host(head, exchange)? {
            Some(host) if farm.accepts(&host) || self.goes_on(head, &host, exchange) => {
                Ok(farm.view.alias(&host))
            }
            // The check of an old balancer names no host.
            None if farm.accepts_any() && !exchange.arrival.is_packet => Ok(None),
            Some(host) => {
                self.reporter.note_unknown_host(host.as_str());
                Err(Fault::UnknownHost)
            }
            None => Err(Fault::BadRequest),
        }
    }

    /// Whether the request is of a session that is under way, under a name that was ours when it
    /// began: any that was configured since, or that of a backend of which nothing is known any
    /// more.
    fn goes_on(&self, head: &RequestHead, host: &Host<'_>, exchange: &Exchange) -> bool {
        let farm = &exchange.arrival.farm;
        let id = head.text(&headers::SESSION_ID);
        let id = id.and_then(SessionId::parse);
        let found =
            id.map(|id| visible_to(&exchange.arrival.asker(), self.sessions.find(Some(id.key()))));
        let Some(Lookup::Pinned(pin)) = found else { return false };
        farm.accepted_before(host) || farm.view.backend(pin.backend).is_none()
    }

    /// Asks the core. Also called for each further try, with the failed backends in
    /// `exchange.tries.avoid`. [`follow`] does what it says.
    pub fn decide(
        &self,
        packet: &RequestPacket,
        lookup: &Lookup,
        exchange: &mut Exchange,
        alias: Option<BackendId>,
    ) -> Decision {
        let farm = Arc::clone(&exchange.arrival.farm);
        let create = matches!(packet, RequestPacket::CreateSession);
        // Of two Creates at once, the second is to see where the first one goes.
        let one_by_one = create.then(|| self.placing.lock());
        let asked = exchange.admitted.creating.create.as_ref();
        let rules = farm.config.health.folder_rules();
        let barred = asked.map(|create| self.health.barred(&create.folder, create.client, &rules));
        let barred = barred.unwrap_or_default();
        let evidence = self.evidence(exchange, lookup, alias, &barred);
        let decision = decide(packet, &evidence, &farm.view, farm.policy, &*self.sessions);
        if let (true, Decision::Forward { backend, .. }) = (create, decision) {
            self.asks(backend, exchange);
        }
        drop(one_by_one);
        // A Ping asks for no session, and fails for other reasons.
        exchange.findings.foreign =
            *lookup == Lookup::Foreign && packet.packet_type() != PacketType::Ping;
        decision
    }

    /// Finds a session whose owner was given up a new one.
    pub fn decide_again(&self, exchange: &mut Exchange) -> Result<(), Denied> {
        let farm = Arc::clone(&exchange.arrival.farm);
        let evidence = self.evidence(exchange, &Lookup::Unknown, None, &[]);
        let placement = farm.policy.placement;
        let decision = reassign(&evidence, &farm.view, placement, &*self.sessions);
        follow(decision, exchange)
    }

    /// Sessions say nothing about the load of a plain request, so those go round.
    pub fn decide_plain(
        &self,
        owner: Option<BackendId>,
        holder: Option<Holder>,
        exchange: &mut Exchange,
        alias: Option<BackendId>,
    ) -> Result<(), Denied> {
        let farm = Arc::clone(&exchange.arrival.farm);
        let evidence = self.evidence(exchange, &Lookup::NotAsked, alias, &[]);
        let (view, sessions) = (&farm.view, &*self.sessions);
        let decision =
            decide_plain(owner, holder, &evidence, view, Placement::RoundRobin, sessions);
        follow(decision, exchange)
    }

    /// A Create goes to `backend`.
    fn asks(&self, backend: BackendId, exchange: &mut Exchange) {
        exchange.admitted.opening = Some(self.sessions.opening(backend));
        if let Some(create) = &exchange.admitted.creating.create {
            exchange.admitted.creating.asking = Some(self.health.asks(
                backend,
                create,
                &exchange.arrival.farm.config.health.folder_rules(),
            ));
        }
    }

    fn evidence<'a>(
        &self,
        exchange: &'a Exchange,
        lookup: &'a Lookup,
        alias: Option<BackendId>,
        barred: &'a [Barred],
    ) -> Evidence<'a> {
        let hash = match exchange.arrival.farm.hash_key {
            HashKey::Target => exchange.arrival.target.hash().0,
            HashKey::Client => exchange.arrival.client.map_or(0, |ip| match ip {
                std::net::IpAddr::V4(ip) => fnv1a(&ip.octets()),
                std::net::IpAddr::V6(ip) => fnv1a(&ip.octets()),
            }),
        };
        let bound_connections = exchange.admitted.login.bound_connections.as_deref();
        let last = exchange.arrival.conn.as_ref().and_then(|conn| conn.backend());
        let connection = bound_connections.and_then(BoundConnections::backend).or(last);
        let login = |backend| {
            bound_connections.is_some_and(|bound_connections| {
                bound_connections.has(backend) || bound_connections.pending() == Some(backend)
            })
        };
        Evidence {
            lookup,
            target: exchange.arrival.target,
            total: exchange.admitted.total,
            alias,
            connection,
            login: connection.is_some_and(login),
            room: exchange.admitted.place.is_some(),
            avoid: &exchange.tries.avoid,
            barred,
            refused: !exchange.admitted.creating.refusers.is_empty(),
            hash,
            turn: match exchange.admitted.kind() {
                Some(PacketType::CreateSession) => self.creates.fetch_add(1, Ordering::Relaxed),
                _ => exchange.arrival.id,
            },
        }
    }
}

/// The host that counts for host ids and for `http.hosts`. It is never what a backend is told.
fn host<'h>(head: &'h RequestHead, exchange: &Exchange) -> Result<Option<Host<'h>>, Fault> {
    let forwarding = Forwarding::of(&exchange.arrival.farm.config.http);
    let named = forwarding.host(exchange.arrival.conn.as_deref(), head).map_err(|unclear| {
        tracing::debug!(error = %unclear, "a request of a trusted proxy is refused");
        Fault::BadRequest
    })?;
    Ok(named.and_then(Host::parse))
}

/// Why no backend was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Denied {
    /// The gateway answers by itself.
    Answer(Fault),
    /// Whose the session is only the backends can say.
    Ask,
}

impl Denied {
    /// The answer where nobody is asked.
    pub fn fault(self) -> Fault {
        match self {
            Self::Answer(fault) => fault,
            Self::Ask => Fault::UnknownSession,
        }
    }
}

impl From<Fault> for Denied {
    fn from(fault: Fault) -> Self {
        Self::Answer(fault)
    }
}

/// Has the request go where it was decided.
pub(super) fn follow(decision: Decision, exchange: &mut Exchange) -> Result<(), Denied> {
    log_decision(decision, exchange);
    apply_decision(decision, exchange)
}

/// The same without a word in the log.
pub(super) fn apply_decision(decision: Decision, exchange: &mut Exchange) -> Result<(), Denied> {
    match decision {
        Decision::Forward { backend, why } => {
            exchange.admitted.backend = Some(backend);
            exchange.admitted.why = Some(why);
            Ok(())
        }
        Decision::Answer(fault) => Err(Denied::Answer(fault)),
        Decision::Ask => Err(Denied::Ask),
    }
}

/// So that an operator can follow a packet.
pub(super) fn log_decision(decision: Decision, exchange: &Exchange) {
    if !tracing::enabled!(tracing::Level::DEBUG) {
        return;
    }
    let name = |id| exchange.arrival.farm.view.backend(id).map(|backend| &*backend.name);
    let (decided, backend, why) = match decision {
        Decision::Forward { backend, why } => ("forward", name(backend), Some(why.label())),
        Decision::Answer(fault) => ("answer", None, Some(fault.label())),
        Decision::Ask => ("ask the backends", None, None),
    };
    let session = exchange.admitted.key.as_ref().map(|key| tracing::field::display(key.short()));
    let packet = exchange.admitted.kind().map(PacketType::label);
    tracing::debug!(packet, session, backend, why, "decided: {decided}");
}

#[cfg(test)]
#[path = "router_tests.rs"]
mod tests;
