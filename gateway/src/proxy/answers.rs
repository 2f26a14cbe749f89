//! Learning from a backend's answer, and making it fit for the client.

use std::time::Duration;

use gateway_core::farm::BackendId;
use gateway_core::farm::health::Answer;
use gateway_core::fault::Fault;
use gateway_core::protocol::passage::{self, Edit, Recipient};
use gateway_core::protocol::{PacketType, SessionId, SessionKey, ids, read_ack};
use gateway_core::rewrite::{AckBody, Identity, ack_body, edits};
use gateway_core::routing::Why;
use gateway_core::session::opening::{self, Candidate};
use gateway_core::session::{Effects, EndReason, Observed, Opened, Pin, Progress, observe};
use http::{HeaderValue, Version, header};
use pingora::http::ResponseHeader;
use pingora::proxy::Session;
use pingora::{Error, Result};
use uuid::Uuid;

use crate::clock;
use crate::farm::Farm;
use crate::metrics::ProtocolError;
use crate::sessions::{Birth, Pinned, Place, StoreError};

use super::creates::{Follows, GOES_ELSEWHERE};
use super::errors::REFUSED_ANSWER;
use super::{Ctx, Gateway, reply_url};

/// So long may the rest of a body that is dropped take, for the sake of the connection. The client
/// has its Ack; its next packet on the same connection waits for this.
const REST: Duration = Duration::from_millis(250);

impl Gateway {
    /// Applies what the answer teaches, then edits it. When this returns, the pin of a new
    /// session is as durable as it gets, so the client may learn its id.
    pub(super) async fn learn(
        &self,
        downstream: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut Ctx,
    ) -> Result<()> {
        let Some(packet) = ctx.admitted.packet.clone() else { return Ok(()) };
        let ack = read_ack(response.status, &response.headers);
        ctx.answered.backend_error = ack.error;
        ctx.answered.protocol_error = ProtocolError::of(&ack);
        if let Some(backend) = ctx.admitted.backend {
            let answer = Answer::of(&ack, packet.packet_type());
            self.health.answered(backend, answer, || ctx.arrival.counted_client());
            if let Some(address) = ctx.arrival.farm.address(backend).filter(|_| ack.is_success()) {
                self.health.acknowledged(backend, address);
            }
            self.judge_disk(downstream, &ack, backend, ctx);
        }
        match self.judge_create(downstream, response, &ack, ctx) {
            Follows::Answer => {}
            Follows::Elsewhere => return Err(Error::new(GOES_ELSEWHERE)),
            Follows::Later => {
                ctx.findings.fault = Some(Fault::NoBackend);
                return Err(Error::new(REFUSED_ANSWER));
            }
        }
        let pinned = ctx.admitted.why == Some(Why::Pin);
        let doubtful = ctx.admitted.doubtful;
        let moved = ack.is_session_not_found()
            && ctx
                .admitted
                .backend
                .is_some_and(|backend| self.has_moved(backend, &ctx.arrival.farm));
        let observed =
            Observed { packet: &packet, ack: &ack, pinned, doubtful, moved, now: ctx.arrival.now };
        let close = ctx.admitted.kind == Some(PacketType::CloseSession);
        let outcome = match observe(&observed) {
            // Where one storage is shared, the backend before may have delivered the file.
            Effects::Nothing if ctx.admitted.moved && close && ack.is_session_not_found() => {
                self.close_not_found(downstream, ctx).await
            }
            // It was to move here. Nobody has it now, and its pin leads to one that was given up.
            Effects::Nothing if ctx.admitted.moved && ack.is_session_not_found() => {
                self.release(downstream, ctx).await;
                Ok(())
            }
            Effects::Nothing => Ok(()),
            Effects::Progress(progress) => {
                let key = ctx.admitted.key.as_ref();
                let there =
                    key.is_some_and(|key| self.sessions.progress(key, progress, clock::steady()));
                // A Fragment may outlast the idle timeout; its session is as live as can be.
                if there { Ok(()) } else { self.adopt(progress, ctx).await }
            }
            Effects::Opened(opened) => {
                let target = downstream.req_header().raw_path();
                let outcome = self.open(&opened, target, ctx).await;
                match outcome {
                    Ok(()) => ctx.answered.opened = Some(opened.backend_session.into()),
                    Err(_) => {
                        let place = ctx.admitted.place.take();
                        self.orphan(downstream, ctx, opened.backend_session, place);
                    }
                }
                outcome
            }
            Effects::Adopt(progress) => self.adopt(progress, ctx).await,
            Effects::Ended(reason) => {
                self.end(reason, downstream, ctx).await;
                Ok(())
            }
            Effects::CloseNotFound => self.close_not_found(downstream, ctx).await,
            Effects::Refuse(fault) => Err(fault),
        };
        ctx.admitted.opening = None;
        // Where no session came of it, the next Create may follow as soon as this is answered.
        ctx.admitted.place = None;
        if let Err(fault) = outcome {
            ctx.findings.fault = Some(fault);
            return Err(Error::new(REFUSED_ANSWER));
        }
        let announce = ctx.admitted.backend.and_then(|id| ctx.arrival.farm.view.backend(id));
        let identity = Identity {
            public_id: ctx.admitted.public_session.as_ref(),
            announce: announce.and_then(|backend| backend.announce.as_ref()),
        };
        let mut edits = edits(&packet, &ack, response, identity);
        edits.extend(reply_url::edit(downstream, response, ctx));
        let body = ack_body(&packet, &ack, response);
        let shared = self.shares(&ack, ctx);
        apply(edits, response)?;
        self.share(shared, response, ctx);
        self.fit_body(downstream, response, ctx, body).await
    }

    /// Whether the backend came to its address so lately that its name may lead elsewhere again with
    /// the next look.
    pub(super) fn has_moved(&self, backend: BackendId, farm: &Farm) -> bool {
        self.health.has_moved_within(backend, farm.config.health.resolve)
    }

    /// An end that came without a pin is remembered like any.
    pub(super) async fn end(&self, reason: EndReason, downstream: &Session, ctx: &Ctx) {
        let Some(key) = &ctx.admitted.key else { return };
        if let (EndReason::Closed, Some(backend)) = (reason, ctx.admitted.backend) {
            self.deliveries.note(downstream.req_header().raw_path(), backend);
        }
        let steady = clock::steady();
        if let Some(ended) = self.sessions.unpin(key, reason, steady).await {
            self.reporter.ended(&ended, Some((&ctx.arrival, downstream.req_header().raw_path())));
        } else if let Some(backend) = ctx.admitted.backend {
            let pin = ctx.arrival.pin(backend, None);
            self.sessions.bury(key, &pin, reason, steady).await;
        }
    }

    /// Pins a new session under the id that its client will know.
    async fn open(
        &self,
        opened: &Opened<'_>,
        target: &[u8],
        ctx: &mut Ctx,
    ) -> std::result::Result<(), Fault> {
        let backend = ctx.admitted.backend.ok_or(Fault::Internal)?;
        let holder = opened.id.as_ref().and_then(|id| self.sessions.holder(backend, id.key()));
        let older = holder.as_ref().map(|key| self.sessions.progress_of(key).unwrap_or_default());
        let mut naming =
            opening::name(opened, ctx.arrival.farm.config.sessions.id, older, ctx.arrival.now)?;
        if let Some(holder) = holder.filter(|_| naming.ends_older)
            && let Some(ended) =
                self.sessions.unpin(&holder, EndReason::Lost, clock::steady()).await
        {
            self.reporter.ended(&ended, None);
        }
        let id = opened.backend_session.to_owned();
        let birth = Birth { target: target.to_vec(), id };
        loop {
            let (id, hidden, public) = match (naming.next_candidate()?, &opened.id) {
                (Candidate::Backends, Some(id)) => (id.key().clone(), None, None),
                _ => {
                    let public = ids::mint(Uuid::new_v4());
                    let id = SessionId::parse(&public).ok_or(Fault::Internal)?.key().clone();
                    (id, Some(opened.backend_session.into()), HeaderValue::from_str(&public).ok())
                }
            };
            if self.pin(&id, ctx.arrival.pin(backend, hidden), &birth, ctx).await? == Pinned::New {
                ctx.admitted.public_session = public;
                break;
            }
        }
        if naming.is_conflict() {
            self.reporter.metrics.session_id_conflict();
        }
        self.note_created(backend);
        Ok(())
    }

    async fn pin(
        &self,
        key: &SessionKey,
        pin: Pin,
        birth: &Birth,
        ctx: &mut Ctx,
    ) -> std::result::Result<Pinned, Fault> {
        let opened = key.clone();
        let (seen, steady) = (ctx.arrival.now, clock::steady());
        let pinned =
            self.sessions.pin_opened(&mut ctx.admitted.place, opened, pin, seen, steady).await;
        let pinned = pinned.map_err(not_pinned)?;
        if pinned == Pinned::New {
            self.sessions.keep_birth(key, birth);
            ctx.admitted.key = Some(key.clone());
        }
        Ok(pinned)
    }

    pub(super) async fn pin_session(
        &self,
        place: &mut Option<Place>,
        key: SessionKey,
        pin: Pin,
        progress: Progress,
    ) -> std::result::Result<Pinned, Fault> {
        let pinned = self.sessions.pin_in(place, key, pin, progress, clock::steady()).await;
        pinned.map_err(not_pinned)
    }

    /// A session that an alias brought back gets its pin again, so that it also survives the
    /// client's way back to the origin name. Failing to is no reason to refuse its Ack.
    async fn adopt(&self, progress: Progress, ctx: &mut Ctx) -> std::result::Result<(), Fault> {
        if let (Some(key), Some(backend)) = (&ctx.admitted.key, ctx.admitted.backend) {
            let pin = ctx.arrival.pin(backend, ctx.admitted.backend_session.clone());
            let steady = clock::steady();
            if !ctx.admitted.moved {
                let _ = self.sessions.adopt(key.clone(), pin, progress, steady).await;
            } else if let Ok(Some(from)) = self.sessions.repin(key, pin, progress, steady).await {
                self.note_moved(from.backend);
            }
        }
        Ok(())
    }

    async fn fit_body(
        &self,
        downstream: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut Ctx,
        body: AckBody,
    ) -> Result<()> {
        match body {
            AckBody::Keep => Ok(()),
            AckBody::UntilClose => {
                ctx.answered.until_close = true;
                Ok(())
            }
            AckBody::Drain | AckBody::Cut => {
                response.remove_header(&header::TRANSFER_ENCODING);
                response.insert_header("Content-Length", "0")?;
                ctx.answered.drop_body = true;
                if !ctx.arrival.has_body || ctx.attempt.body_done.is_some() {
                    let patience = if body == AckBody::Drain { REST } else { Duration::ZERO };
                    ctx.early.drop_rest(patience);
                    return Ok(());
                }
                if body == AckBody::Drain {
                    return Ok(());
                }
                // The rest of the request could not follow over a connection that is given up.
                ctx.replaced = true;
                downstream.set_keepalive(None);
                make_ours(response, Recipient { packet: true, chunks: true })?;
                downstream.write_response_header(Box::new(response.clone()), true).await?;
                Err(Error::new(REFUSED_ANSWER))
            }
        }
    }
}

fn not_pinned(error: StoreError) -> Fault {
    match error {
        StoreError::Full { .. } => Fault::TableFull,
        StoreError::Store(_) => Fault::StoreDown,
    }
}

/// Last edits to every answer of a backend.
pub(super) fn finish_head(
    downstream: &mut Session,
    response: &mut ResponseHeader,
    ctx: &Ctx,
) -> Result<()> {
    let http10 = ctx.arrival.conn.as_ref().is_some_and(|conn| conn.is_http10());
    let until_close = ctx.answered.until_close || http10;
    make_ours(response, Recipient { packet: ctx.arrival.is_packet, chunks: !until_close })?;
    if until_close {
        downstream.set_keepalive(None);
    }
    if ctx.admitted.login.ends {
        downstream.set_keepalive(None);
    }
    Ok(())
}

/// A Windows client works with HTTP/1.1 only (MC-BUP 2.2.1).
fn make_ours(response: &mut ResponseHeader, to: Recipient) -> Result<()> {
    response.set_version(Version::HTTP_11);
    apply(passage::answer(response.status, &response.headers, to), response)
}

fn apply(edits: Vec<Edit>, response: &mut ResponseHeader) -> Result<()> {
    for edit in edits {
        match edit {
            Edit::Remove(name) => _ = response.remove_header(&name),
            Edit::Set(field, value) => response.insert_header(field.wire, value)?,
            Edit::Append(field, value) => _ = response.append_header(field.wire, value)?,
        }
    }
    Ok(())
}
