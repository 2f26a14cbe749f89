//! From a request head to a decision.

use std::sync::Arc;

use arc_swap::ArcSwap;
use gateway_core::farm::BackendId;
use gateway_core::fault::Fault;
use gateway_core::protocol::cdn_loop;
use gateway_core::protocol::head::RequestHead;
use gateway_core::protocol::{
    Fields, PacketError, PacketType, RequestPacket, SessionKey, headers, packet, read_request,
    reply,
};
use gateway_core::routing::ownership::{may_speak, must_not_be_hidden, owner, visible_to};
use gateway_core::routing::retry::is_repeatable;
use gateway_core::routing::{Holder, Lookup, Why};
use gateway_core::session::live::Wait;
use gateway_core::session::{Binding, Pin, Subject, Target, lost_close};
use http::Method;

use crate::base::clock;
use crate::base::instance;
use crate::config::{Http, Then};
use crate::farm::Farm;
use crate::farm::health::FarmHealth;
use crate::sessions::{ReplyOwner, Sessions};

use super::Exchange;
use super::bodies::Bodies;
use super::cancellation::Cancellation;
use super::creates::create_of;
use super::deliveries::Deliveries;
use super::failover::{FailoverRunner, Went};
use super::head::{body_length, is_chunked};
use super::live;
use super::lookup::{find, look_up};
use super::recovery::Recovery;
use super::report::Reporter;
use super::room::Room;
use super::router::{Denied, Router, apply_decision, log_decision};
use super::session_turns::SessionTurns;
use super::turns::SharedAnswer;

/// So much of a body is kept for a second try.
const REPLAY_LIMIT: u64 = 64 * 1024;

/// What becomes of a request that is not refused.
pub enum Course {
    /// It goes to a backend.
    Goes,
    /// It is the packet that came before it, and gets the answer to that.
    Joined(Arc<SharedAnswer>),
}

/// Decides what becomes of a request whose head is here.
pub(super) struct Admission {
    pub farm: Arc<ArcSwap<Farm>>,
    pub health: FarmHealth,
    pub sessions: Arc<Sessions>,
    pub reporter: Arc<Reporter>,
    pub router: Arc<Router>,
    pub failover: Arc<FailoverRunner>,
    pub turns: Arc<SessionTurns>,
    pub bodies: Arc<Bodies>,
    pub deliveries: Arc<Deliveries>,
    pub cancellation: Arc<Cancellation>,
    pub room: Room,
    pub recovery: Recovery,
}

impl Admission {
    /// Decides where the request goes and leaves that in `exchange`, or says why it is answered.
    pub async fn admit(
        &self,
        head: &RequestHead,
        exchange: &mut Exchange,
    ) -> Result<Course, Fault> {
        exchange.arrival.is_packet =
            packet::is_packet(head, exchange.arrival.farm.config.http.method_override);
        let alias = self.look_at_head(head, exchange)?;
        if exchange.arrival.is_packet {
            let admitted = self.admit_packet(head, exchange, alias).await?;
            if matches!(admitted, Course::Joined(_)) {
                return Ok(admitted);
            }
        } else {
            self.route_plain(head, exchange, alias)?;
        }
        if exchange.arrival.has_body {
            self.bodies.begin(exchange);
        }
        Ok(Course::Goes)
    }

    /// The same for the carrier of plain HTTP, where no packet ever comes.
    pub fn admit_plain(&self, head: &RequestHead, exchange: &mut Exchange) -> Result<(), Fault> {
        // By its method. Another is one as the configuration says, and what it said when the carrier was
        // chosen holds: a packet under another method that came before the key was set is refused.
        if packet::is_packet(head, false) {
            debug_assert!(false, "a packet on the carrier of plain HTTP");
            exchange.arrival.is_packet = true;
            return Err(Fault::Internal);
        }
        let alias = self.look_at_head(head, exchange)?;
        self.route_plain(head, exchange, alias)?;
        if exchange.arrival.has_body {
            self.bodies.begin(exchange);
        }
        Ok(())
    }

    /// Notes what the head says whatever the request is. Returns the backend whose alias it names.
    fn look_at_head(
        &self,
        head: &RequestHead,
        exchange: &mut Exchange,
    ) -> Result<Option<BackendId>, Fault> {
        if !exchange.arrival.is_admitted() {
            return Err(Fault::AccessDenied);
        }
        let reading = exchange.arrival.reading.as_ref();
        exchange.arrival.target =
            reading.map_or_else(|| Target::of(head.target()), |reading| reading.target);
        exchange.arrival.binding = Binding::to(exchange.arrival.target, head.target());
        exchange.arrival.has_body = body_length(head) > 0 || is_chunked(head);
        let passed = head.values(&headers::CDN_LOOP);
        if let Some(backend) = cdn_loop::came_back(passed, instance::id()) {
            self.reporter.note_loop(BackendId(backend));
            return Err(Fault::Loop);
        }
        self.router.alias_of(head, exchange)
    }

    async fn admit_packet(
        &self,
        head: &RequestHead,
        exchange: &mut Exchange,
        alias: Option<BackendId>,
    ) -> Result<Course, Fault> {
        let packet = match exchange.arrival.reading.take() {
            Some(reading) => packet::read_again(reading.packet, head),
            None => read_request(head, exchange.arrival.farm.config.limits.chunked),
        };
        let packet = packet.map_err(fault_of)?;
        if is_chunked(head) {
            let mode = exchange.arrival.farm.config.limits.chunked;
            exchange.admitted.length = mode.length_of(&packet);
            exchange.arrival.has_body = packet.range().is_some();
        }
        exchange.admitted.packet = Some(packet.clone());
        exchange.admitted.key = packet.session().map(|session| session.key().clone());
        self.check_sizes(head, exchange).await?;
        let mut lookup = match self.find_free(head, &packet, exchange)? {
            Some(pin) => Lookup::Pinned(pin),
            None => look_up(&self.sessions, exchange).await,
        };
        let at_once = exchange.admitted.turn.is_some();
        if matches!(packet, RequestPacket::CreateSession) && self.sessions.store().refuses_pins() {
            // Before a backend opens a session that nobody could be told of.
            lookup = Lookup::StoreDown;
        }
        if matches!(packet, RequestPacket::CreateSession) {
            exchange.admitted.creating.create = Some(create_of(head, exchange));
        }
        if matches!(packet, RequestPacket::CreateSession) && lookup != Lookup::StoreDown {
            exchange.admitted.place = Box::pin(self.room.find_place(exchange)).await?;
        }
        if alias.is_some_and(|alias| self.is_hidden(alias, &lookup, exchange)) {
            return Err(Fault::UnknownSession);
        }
        if exchange.admitted.turn.is_none()
            && let Some(answer) = self.speak(head, &packet, &mut lookup, alias, exchange).await?
        {
            return Ok(Course::Joined(answer));
        }
        exchange.findings.pin_found =
            exchange.admitted.key.as_ref().map(|_| matches!(lookup, Lookup::Pinned(_)));
        if exchange.findings.pin_found == Some(false) {
            exchange.findings.alias_found = Some(alias.is_some());
        }
        exchange.admitted.doubtful = lookup == Lookup::StoreDown;
        self.show_live(head, &packet, &lookup, exchange);
        let mut decided =
            self.decide_or_hold(head, &packet, &lookup, exchange, alias, at_once).await;
        if decided == Err(Denied::Ask) {
            let (found, owner) = Box::pin(self.recovery.find_lost(head, &packet, exchange)).await?;
            lookup = found;
            let owner = Some(owner);
            if let Some(answer) = self.speak(head, &packet, &mut lookup, owner, exchange).await? {
                return Ok(Course::Joined(answer));
            }
            self.show_live(head, &packet, &lookup, exchange);
            decided = self.decide_or_hold(head, &packet, &lookup, exchange, owner, false).await;
            if exchange.admitted.why == Some(Why::Alias) {
                exchange.admitted.why = Some(Why::Asked);
            }
        }
        decided.map_err(Denied::fault)?;
        if exchange.admitted.kind() == Some(PacketType::CloseSession)
            && let Some(key) = &exchange.admitted.key
        {
            Box::pin(self.sessions.settle(key)).await;
        }
        let small = exchange.admitted.range().is_none_or(|range| range.len() <= REPLAY_LIMIT);
        exchange.admitted.repeatable = is_repeatable(&packet) && small;
        if let Lookup::Pinned(pin) = lookup
            && (exchange.admitted.why == Some(Why::Pin) || exchange.admitted.moved)
        {
            exchange.admitted.spelling = pin.binding.onward(exchange.arrival.target, head.target());
            if let Some(backend_session) = pin.backend_session {
                exchange.admitted.backend_session = Some(backend_session);
                exchange.admitted.public_session = head.value(&headers::SESSION_ID);
            }
        }
        Ok(Course::Goes)
    }

    /// The pin of the packet's session, where the packet may speak for it and no other request does:
    /// it is asked for once, with the turn in hand.
    ///
    /// A packet of somebody else has the turn for the time of this look, and hands it back.
    fn find_free(
        &self,
        head: &RequestHead,
        packet: &RequestPacket,
        exchange: &mut Exchange,
    ) -> Result<Option<Pin>, Fault> {
        let Some(key) = &exchange.admitted.key else { return Ok(None) };
        let (kind, arrival) = (packet.packet_type(), &exchange.arrival);
        if kind == PacketType::Ping {
            return Ok(None);
        }
        let Some(turn) = self.turns.try_take(head, packet, key, exchange) else { return Ok(None) };
        let own = |pin: &Pin| {
            let foreign = arrival.asker().is_foreign(pin.subject.as_ref());
            !foreign && arrival.target.is(pin.binding.target)
        };
        let found = self.sessions.find_own(key, arrival.started, own);
        let Some((pin, total)) = found else { return Ok(None) };
        self.note_end(packet, key);
        exchange.admitted.total = total;
        exchange.admitted.turn = Some(turn);
        self.turns.begin(exchange)?;
        Ok(Some(pin))
    }

    /// Shows the upload of a packet that has the turn of its session.
    fn show_live(
        &self,
        head: &RequestHead,
        packet: &RequestPacket,
        lookup: &Lookup,
        exchange: &mut Exchange,
    ) {
        let admitted = &exchange.admitted;
        let (Lookup::Pinned(pin), Some(key), Some(_)) = (lookup, &admitted.key, &admitted.turn)
        else {
            return;
        };
        let kind = packet.packet_type();
        exchange.admitted.live = live::show(&self.sessions, head, kind, key, pin.backend, exchange);
    }

    /// The end of a file is about to be passed on.
    fn note_end(&self, packet: &RequestPacket, key: &SessionKey) {
        if let Some(total) = packet.range().as_ref().and_then(lost_close::ending) {
            self.sessions.ends(key, total);
        }
    }

    /// Takes the turn of the packet's session, if the packet may have it. The request that had to
    /// end first may have closed the session, so it is looked up anew.
    async fn speak(
        &self,
        head: &RequestHead,
        packet: &RequestPacket,
        lookup: &mut Lookup,
        alias: Option<BackendId>,
        exchange: &mut Exchange,
    ) -> Result<Option<Arc<SharedAnswer>>, Fault> {
        let Some(key) = exchange.admitted.key.clone() else { return Ok(None) };
        if !may_speak(packet.packet_type(), lookup, exchange.arrival.target, alias) {
            return Ok(None);
        }
        if exchange.admitted.turn.is_none() {
            let _in_line = self.sessions.live_uploads().wait_in_line(&key);
            if let Some(answer) = self.turns.take(head, packet, &key, exchange).await? {
                return Ok(Some(answer));
            }
        }
        let (found, total) = self.sessions.find_and_touch(Some(&key), clock::steady());
        self.note_end(packet, &key);
        (*lookup, exchange.admitted.total) = (visible_to(&exchange.arrival.asker(), found), total);
        Ok(None)
    }

    /// Whether a packet for `backend` has an id by which only that backend and the gateway know the
    /// session.
    fn is_hidden(&self, backend: BackendId, lookup: &Lookup, exchange: &Exchange) -> bool {
        let (Some(kind), Some(key)) = (exchange.admitted.kind(), &exchange.admitted.key) else {
            return false;
        };
        must_not_be_hidden(kind, lookup, exchange.arrival.target)
            && self.sessions.is_hidden(backend, key)
    }

    /// Refuses what is larger than the limits. A session that waits for its first byte ends by that.
    async fn check_sizes(&self, head: &RequestHead, exchange: &mut Exchange) -> Result<(), Fault> {
        let Some(range) = exchange.admitted.range() else { return Ok(()) };
        let known = || {
            let (kind, key) = (exchange.admitted.kind()?, exchange.admitted.key.as_ref()?);
            let found = find(&self.sessions, Some(key), &exchange.arrival);
            // The id may be another session's by now.
            let own = may_speak(kind, &found, exchange.arrival.target, None);
            self.sessions.progress_of(key).filter(|_| own)
        };
        let checked = exchange.arrival.farm.config.limits.sizes().check(&range, known);
        if checked == Err(Fault::UploadTooLarge) {
            Box::pin(self.cancellation.end_refused(head, exchange)).await;
        }
        checked
    }

    /// Asks the core, and while the one right backend does not serve the packet, does what the rule
    /// of failover says.
    async fn decide_or_hold(
        &self,
        head: &RequestHead,
        packet: &RequestPacket,
        lookup: &Lookup,
        exchange: &mut Exchange,
        alias: Option<BackendId>,
        at_once: bool,
    ) -> Result<(), Denied> {
        let owner = owner(packet.packet_type(), lookup, exchange.arrival.target, alias);
        let mut awaited = None;
        let mut told = None;
        // A packet that waited for nothing keeps the farm with which it came.
        let mut waited = !at_once;
        loop {
            if waited {
                exchange.arrival.farm = self.farm.load_full();
            }
            waited = true;
            let decision = self.router.decide(packet, lookup, exchange, alias);
            if told.replace(decision) != Some(decision) {
                log_decision(decision, exchange);
            }
            let decided = apply_decision(decision, exchange);
            let (Err(Denied::Answer(fault)), Some(owner)) = (decided, owner) else {
                return decided;
            };
            let Some(absent) = self.failover.absent(owner, fault) else { return decided };
            let Some(changed) = awaited.take() else {
                // The farm is looked at again, or a change before this would be missed.
                awaited = Some(self.health.changed(owner));
                continue;
            };
            let step = exchange.arrival.farm.config.failover.step(absent, &exchange.held());
            exchange.waits_for(Wait::Backend);
            let carried_out = self.failover.carry_out(step, owner, changed, head, exchange);
            if Box::pin(carried_out).await? == Went::Elsewhere {
                return Ok(());
            }
        }
    }

    /// Whether a request that is no packet may pass at all.
    fn may_pass(&self, head: &RequestHead, http: &Http) -> Result<(), Fault> {
        if let Some(hidden) = packet::hidden_packet(head) {
            self.reporter.note_hidden(hidden);
            return Err(Fault::BadRequest);
        }
        let served = http.methods.is_empty() || names(head, &http.methods);
        if served { Ok(()) } else { Err(Fault::MethodNotServed) }
    }

    fn route_plain(
        &self,
        head: &RequestHead,
        exchange: &mut Exchange,
        alias: Option<BackendId>,
    ) -> Result<(), Fault> {
        self.may_pass(head, &exchange.arrival.farm.config.http)?;
        let path = std::str::from_utf8(head.path()).unwrap_or_default();
        let last = exchange.arrival.conn.as_ref().and_then(|conn| conn.backend());
        let reply = reply::session_of_path(path);
        let may_have = |subject: Option<&Subject>| !exchange.arrival.asker().is_foreign(subject);
        let owner = reply.map(|id| self.sessions.reply_owner(&id, alias.or(last), may_have));
        let owner = match owner.unwrap_or(ReplyOwner::Unknown) {
            ReplyOwner::Foreign => {
                exchange.findings.foreign = true;
                return Err(Fault::UnknownSession);
            }
            ReplyOwner::Unknown => None,
            ReplyOwner::Backend(owner) => Some(owner),
        };
        let holder = self.holder(head, exchange);
        let decided = self.router.decide_plain(owner, holder, exchange, alias);
        decided.map_err(Denied::fault)
    }

    /// Who has the file that is asked for.
    fn holder(&self, head: &RequestHead, exchange: &Exchange) -> Option<Holder> {
        if !names(head, &[Method::GET, Method::HEAD]) {
            return None;
        }
        let backend = self.deliveries.holder(head.target())?;
        let shared = exchange.arrival.farm.config.failover.then == Then::Reassign;
        Some(Holder { backend, shared })
    }
}

fn names(head: &RequestHead, methods: &[Method]) -> bool {
    methods.iter().any(|method| method.as_str().as_bytes() == head.method())
}

fn fault_of(error: PacketError) -> Fault {
    match error {
        PacketError::LengthRequired => Fault::LengthRequired,
        _ => Fault::BadRequest,
    }
}

#[cfg(test)]
#[path = "admission_tests.rs"]
mod tests;
