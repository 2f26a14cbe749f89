//! From a request head to a decision.

use std::sync::Arc;

use gateway_core::farm::BackendId;
use gateway_core::fault::Fault;
use gateway_core::protocol::cdn_loop;
use gateway_core::protocol::{
    PacketError, PacketType, RequestPacket, headers, packet, read_request, reply,
};
use gateway_core::routing::ownership::{may_speak, must_not_be_hidden, owner, visible_to};
use gateway_core::routing::retry::is_repeatable;
use gateway_core::routing::{
    Decision, Holder, Lookup, Placement, Why, decide, decide_plain, reassign,
};
use gateway_core::session::{Binding, Subject, Target, lost_close};
use http::{HeaderValue, Method};
use pingora::http::RequestHeader;
use pingora::proxy::Session;

use crate::clock;
use crate::config::{ChunkedMode, Http, Then};
use crate::farm::Farm;
use crate::instance;
use crate::sessions::ReplyOwner;

use super::failover::Went;
use super::head::{body_length, expects_continue, is_chunked};
use super::{Ctx, Gateway, answer};
use crate::exchange::turns::Answer;

/// Pingora keeps so much of a body for a second try.
const REPLAY_LIMIT: u64 = 64 * 1024;

/// What becomes of a request that is not refused.
pub(super) enum Admission {
    /// It goes to a backend.
    Goes,
    /// It is the packet that came before it, and gets the answer to that.
    Joined(Arc<Answer>),
}

impl Gateway {
    /// Decides where the request goes and leaves that in `ctx`, or says why it is answered.
    pub(super) async fn admit(
        &self,
        downstream: &mut Session,
        ctx: &mut Ctx,
    ) -> Result<Admission, Fault> {
        let head = downstream.req_header();
        ctx.arrival.is_packet =
            packet::is_packet(head, ctx.arrival.farm.config.http.method_override);
        ctx.arrival.target = Target::of(head.raw_path());
        ctx.arrival.binding = Binding::to(ctx.arrival.target, head.raw_path());
        ctx.arrival.has_body = body_length(head) > 0 || is_chunked(head);
        let farm = Arc::clone(&ctx.arrival.farm);
        let passed = head.headers.get_all(cdn_loop::CDN_LOOP).iter().map(HeaderValue::as_bytes);
        if let Some(backend) = cdn_loop::came_back(passed, instance::id()) {
            self.reporter.note_loop(BackendId(backend));
            return Err(Fault::Loop);
        }
        let alias = self.alias_of(head, ctx)?;
        if ctx.arrival.is_packet {
            let admitted = self.admit_packet(downstream, ctx, alias).await?;
            if matches!(admitted, Admission::Joined(_)) {
                return Ok(admitted);
            }
        } else {
            self.may_pass(head, &farm.config.http)?;
            self.admit_plain(downstream, ctx, alias)?;
        }
        if ctx.arrival.has_body {
            ctx.admitted.pace =
                self.bandwidth.of(ctx.arrival.client, &ctx.arrival.farm.config.limits);
        }
        if expects_continue(downstream) {
            // The body is wanted now, so the client need not wait for a backend's 100. One that
            // has gone is found out by whoever reads its body.
            let _ = downstream.as_downstream_mut().write_continue_response().await;
        }
        Ok(Admission::Goes)
    }

    async fn admit_packet(
        &self,
        downstream: &Session,
        ctx: &mut Ctx,
        alias: Option<BackendId>,
    ) -> Result<Admission, Fault> {
        let packet = read_packet(downstream, &ctx.arrival.farm).map_err(fault_of)?;
        ctx.admitted.packet = Some(packet.clone());
        ctx.admitted.kind = Some(packet.packet_type());
        ctx.admitted.range = packet.range();
        ctx.admitted.key = packet.session().map(|session| session.key().clone());
        self.check_sizes(downstream, ctx).await?;
        let mut lookup = self.look_up(ctx).await;
        if matches!(packet, RequestPacket::CreateSession) && self.sessions.store().refuses_pins() {
            // Before a backend opens a session that nobody could be told of.
            lookup = Lookup::StoreDown;
        }
        if matches!(packet, RequestPacket::CreateSession) {
            ctx.admitted.creating.create = Some(self.create_of(downstream, ctx));
        }
        if matches!(packet, RequestPacket::CreateSession) && lookup != Lookup::StoreDown {
            ctx.admitted.place = self.find_place(ctx).await?;
        }
        if alias.is_some_and(|alias| self.is_hidden(alias, &lookup, ctx)) {
            return Err(Fault::UnknownSession);
        }
        if let Some(answer) = self.speak(downstream, &packet, &mut lookup, alias, ctx).await? {
            return Ok(Admission::Joined(answer));
        }
        ctx.findings.pin_found =
            ctx.admitted.key.as_ref().map(|_| matches!(lookup, Lookup::Pinned(_)));
        if ctx.findings.pin_found == Some(false) {
            ctx.findings.alias_found = Some(alias.is_some());
        }
        ctx.admitted.doubtful = lookup == Lookup::StoreDown;
        let mut decided = self.decide_or_hold(downstream, &packet, &lookup, ctx, alias).await;
        if ctx.findings.unasked {
            let (found, owner) = self.find_lost(downstream, &packet, ctx).await?;
            lookup = found;
            let owner = Some(owner);
            if let Some(answer) = self.speak(downstream, &packet, &mut lookup, owner, ctx).await? {
                return Ok(Admission::Joined(answer));
            }
            decided = self.decide_or_hold(downstream, &packet, &lookup, ctx, owner).await;
            if ctx.admitted.why == Some(Why::Alias) {
                ctx.admitted.why = Some(Why::Asked);
            }
        }
        decided?;
        if ctx.admitted.kind == Some(PacketType::CloseSession)
            && let Some(key) = &ctx.admitted.key
        {
            self.sessions.settle(key).await;
        }
        let small = ctx.admitted.range.is_none_or(|range| range.len() <= REPLAY_LIMIT);
        ctx.admitted.repeatable = is_repeatable(&packet) && small;
        if let Lookup::Pinned(pin) = lookup
            && (ctx.admitted.why == Some(Why::Pin) || ctx.admitted.moved)
        {
            let head = downstream.req_header();
            ctx.admitted.spelling = pin.binding.onward(ctx.arrival.target, head.raw_path());
            if let Some(backend_session) = pin.backend_session {
                ctx.admitted.backend_session = Some(backend_session);
                ctx.admitted.public_session = head.headers.get(&headers::SESSION_ID.name).cloned();
            }
        }
        Ok(Admission::Goes)
    }

    /// Takes the turn of the packet's session, if the packet may have it. The request that had to
    /// end first may have closed the session, so it is looked up anew.
    async fn speak(
        &self,
        downstream: &Session,
        packet: &RequestPacket,
        lookup: &mut Lookup,
        alias: Option<BackendId>,
        ctx: &mut Ctx,
    ) -> Result<Option<Arc<Answer>>, Fault> {
        let Some(key) = ctx.admitted.key.clone() else { return Ok(None) };
        if !may_speak(packet.packet_type(), lookup, ctx.arrival.target, alias) {
            return Ok(None);
        }
        if ctx.admitted.turn.is_none()
            && let Some(answer) = self.take_turn(downstream, packet, &key, ctx).await?
        {
            return Ok(Some(answer));
        }
        let (found, total) = self.sessions.find_and_touch(Some(&key), clock::steady());
        if let Some(total) = packet.range().as_ref().and_then(lost_close::ending) {
            self.sessions.ends(&key, total);
        }
        (*lookup, ctx.admitted.total) = (visible_to(&ctx.arrival.asker(), found), total);
        Ok(None)
    }

    /// Whether a packet for `backend` has an id by which only that backend and the gateway know the
    /// session.
    fn is_hidden(&self, backend: BackendId, lookup: &Lookup, ctx: &Ctx) -> bool {
        let (Some(kind), Some(key)) = (ctx.admitted.kind, &ctx.admitted.key) else { return false };
        must_not_be_hidden(kind, lookup, ctx.arrival.target)
            && self.sessions.is_hidden(backend, key)
    }

    /// Refuses what is larger than the limits. A session that waits for its first byte ends by that.
    async fn check_sizes(&self, downstream: &Session, ctx: &mut Ctx) -> Result<(), Fault> {
        let Some(range) = ctx.admitted.range else { return Ok(()) };
        let known = || {
            let (kind, key) = (ctx.admitted.kind?, ctx.admitted.key.as_ref()?);
            let found = visible_to(&ctx.arrival.asker(), self.sessions.find(Some(key)));
            // The id may be another session's by now.
            let own = may_speak(kind, &found, ctx.arrival.target, None);
            self.sessions.progress_of(key).filter(|_| own)
        };
        let checked = ctx.arrival.farm.config.limits.sizes().check(&range, known);
        if checked == Err(Fault::UploadTooLarge) {
            self.end_refused(downstream, ctx).await;
        }
        checked
    }

    /// While two processes share the store, an id that is not here may be there.
    pub(super) async fn look_up(&self, ctx: &Ctx) -> Lookup {
        let found = self.sessions.find(ctx.admitted.key.as_ref());
        let found = match &ctx.admitted.key {
            Some(key) if found == Lookup::Unknown && self.sessions.follows_others() => {
                self.sessions.find_elsewhere(key).await
            }
            _ => found,
        };
        visible_to(&ctx.arrival.asker(), found)
    }

    /// Asks the core, and while the one right backend does not serve the packet, does what the rule
    /// of failover says.
    async fn decide_or_hold(
        &self,
        downstream: &Session,
        packet: &RequestPacket,
        lookup: &Lookup,
        ctx: &mut Ctx,
        alias: Option<BackendId>,
    ) -> Result<(), Fault> {
        loop {
            let owner = owner(packet.packet_type(), lookup, ctx.arrival.target, alias);
            // Before the farm is looked at, or a change between the two would be missed.
            let changed = owner.map(|owner| self.health.changed(owner));
            ctx.arrival.farm = self.farm.load_full();
            let decided = self.decide(packet, lookup, ctx, alias);
            let (Err(fault), Some(owner), Some(changed)) = (decided, owner, changed) else {
                return decided;
            };
            let Some(absent) = self.absent(owner, fault) else { return decided };
            let step = ctx.arrival.farm.config.failover.step(absent, &self.held(ctx));
            if self.carry_out(step, owner, changed, downstream, ctx).await? == Went::Elsewhere {
                return Ok(());
            }
        }
    }

    /// Asks the core. Also called for each further try, with the failed backends in `ctx.attempt.avoid`.
    pub(super) fn decide(
        &self,
        packet: &RequestPacket,
        lookup: &Lookup,
        ctx: &mut Ctx,
        alias: Option<BackendId>,
    ) -> Result<(), Fault> {
        let farm = Arc::clone(&ctx.arrival.farm);
        let create = matches!(packet, RequestPacket::CreateSession);
        // Of two Creates at once, the second is to see where the first one goes.
        let one_by_one = create.then(|| self.placing.lock());
        let folder = ctx.admitted.creating.create.as_ref().map(|create| &create.folder);
        let barred =
            folder.map(|folder| self.health.barred(folder, &farm.config.health.folder_rules()));
        let barred = barred.unwrap_or_default();
        let evidence = self.evidence(ctx, lookup, alias, &barred);
        let decision = decide(packet, &evidence, &farm.view, farm.policy, &*self.sessions);
        if let (true, Decision::Forward { backend, .. }) = (create, decision) {
            self.asks(backend, ctx);
        }
        drop(one_by_one);
        // A Ping asks for no session, and fails for other reasons.
        ctx.findings.foreign =
            *lookup == Lookup::Foreign && packet.packet_type() != PacketType::Ping;
        obey(decision, ctx)
    }

    /// Finds a session whose owner was given up a new one.
    pub(super) fn decide_again(&self, ctx: &mut Ctx) -> Result<(), Fault> {
        let farm = Arc::clone(&ctx.arrival.farm);
        let evidence = self.evidence(ctx, &Lookup::Unknown, None, &[]);
        let placement = farm.policy.placement;
        let decision = reassign(&evidence, &farm.view, placement, &*self.sessions);
        obey(decision, ctx)
    }

    /// Whether a request that is no packet may pass at all.
    fn may_pass(&self, head: &http::request::Parts, http: &Http) -> Result<(), Fault> {
        if let Some(hidden) = packet::hidden_packet(head) {
            self.reporter.note_hidden(hidden);
            return Err(Fault::BadRequest);
        }
        let served = http.methods.is_empty() || http.methods.contains(&head.method);
        if served { Ok(()) } else { Err(Fault::MethodNotServed) }
    }

    fn admit_plain(
        &self,
        downstream: &Session,
        ctx: &mut Ctx,
        alias: Option<BackendId>,
    ) -> Result<(), Fault> {
        let path = downstream.req_header().uri.path();
        let last = ctx.arrival.conn.as_ref().and_then(|conn| conn.backend());
        let reply = reply::session_of_path(path);
        let may_have = |subject: Option<&Subject>| !ctx.arrival.asker().is_foreign(subject);
        let owner = reply.map(|id| self.sessions.reply_owner(&id, alias.or(last), may_have));
        let owner = match owner.unwrap_or(ReplyOwner::Unknown) {
            ReplyOwner::Foreign => {
                ctx.findings.foreign = true;
                return Err(Fault::UnknownSession);
            }
            ReplyOwner::Unknown => None,
            ReplyOwner::Backend(owner) => Some(owner),
        };
        let holder = self.holder(downstream.req_header(), ctx);
        self.decide_plain(owner, holder, ctx, alias)
    }

    /// Who has the file that is asked for.
    fn holder(&self, head: &RequestHeader, ctx: &Ctx) -> Option<Holder> {
        if ![Method::GET, Method::HEAD].contains(&head.method) {
            return None;
        }
        let backend = self.deliveries.holder(head.raw_path())?;
        let shared = ctx.arrival.farm.config.failover.then == Then::Reassign;
        Some(Holder { backend, shared })
    }

    /// Sessions say nothing about the load of a plain request, so those go round.
    pub(super) fn decide_plain(
        &self,
        owner: Option<BackendId>,
        holder: Option<Holder>,
        ctx: &mut Ctx,
        alias: Option<BackendId>,
    ) -> Result<(), Fault> {
        let farm = Arc::clone(&ctx.arrival.farm);
        let evidence = self.evidence(ctx, &Lookup::NotAsked, alias, &[]);
        let (view, sessions) = (&farm.view, &*self.sessions);
        let decision =
            decide_plain(owner, holder, &evidence, view, Placement::RoundRobin, sessions);
        obey(decision, ctx)
    }

    /// Writes an answer of our own. Whatever the client still sends of its body is drained after
    /// it, on this connection where that is quick, else while the connection closes.
    pub(super) async fn answer(
        &self,
        downstream: &mut Session,
        ctx: &Ctx,
        fault: Fault,
    ) -> pingora::Result<()> {
        let head = downstream.req_header();
        let response = match ctx.arrival.is_packet {
            true => answer::ack(fault, head)?,
            false => answer::plain(fault, &ctx.arrival.farm.config.http.methods)?,
        };
        // A body that waits for a 100 which will not come cannot be drained.
        let too_long = body_length(head) > ctx.arrival.farm.config.limits.drain_bytes;
        if expects_continue(downstream) || is_chunked(head) || too_long {
            downstream.set_keepalive(None);
        }
        self.take_leave(downstream);
        if fault == Fault::LengthRequired {
            // Whatever follows is a body of unknown length, not a request.
            downstream.set_keepalive(None);
            if let Some(conn) = &ctx.arrival.conn {
                conn.body_follows();
            }
        }
        downstream.write_response_header(Box::new(response), true).await
    }
}

fn obey(decision: Decision, ctx: &mut Ctx) -> Result<(), Fault> {
    log_decision(decision, ctx);
    match decision {
        Decision::Forward { backend, why } => {
            ctx.admitted.backend = Some(backend);
            ctx.admitted.why = Some(why);
            Ok(())
        }
        Decision::Answer(fault) => Err(fault),
        Decision::Ask => {
            ctx.findings.unasked = true;
            Err(Fault::UnknownSession)
        }
    }
}

/// So that an operator can follow a packet.
fn log_decision(decision: Decision, ctx: &Ctx) {
    if !tracing::enabled!(tracing::Level::DEBUG) {
        return;
    }
    let name = |id| ctx.arrival.farm.view.backend(id).map(|backend| &*backend.name);
    let (decided, backend, why) = match decision {
        Decision::Forward { backend, why } => ("forward", name(backend), Some(why.label())),
        Decision::Answer(fault) => ("answer", None, Some(fault.label())),
        Decision::Ask => ("ask the backends", None, None),
    };
    let session = ctx.admitted.key.as_ref().map(|key| tracing::field::display(key.short()));
    let packet = ctx.admitted.kind.map(PacketType::label);
    tracing::debug!(packet, session, backend, why, "decided: {decided}");
}

fn read_packet(downstream: &Session, farm: &Farm) -> Result<RequestPacket, PacketError> {
    let chunked = farm.config.limits.chunked == ChunkedMode::Forward;
    read_request(&downstream.req_header().headers, chunked)
}

fn fault_of(error: PacketError) -> Fault {
    match error {
        PacketError::LengthRequired => Fault::LengthRequired,
        _ => Fault::BadRequest,
    }
}
