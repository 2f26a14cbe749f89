//! Learning from a backend's answer, and making it fit for the client.

use std::sync::Arc;

use gateway_core::farm::health::Answer;
use gateway_core::fault::Fault;
use gateway_core::protocol::answer::AnswerHead;
use gateway_core::protocol::head::RequestHead;
use gateway_core::protocol::passage::Edit;
use gateway_core::protocol::{PacketType, SessionId, SessionKey, ids, read_ack};
use gateway_core::rewrite::{AckBody, Identity, ack_body, edits};
use gateway_core::routing::Why;
use gateway_core::routing::ownership::Shared;
use gateway_core::session::opening::{self, Candidate};
use gateway_core::session::{Effects, EndReason, Observed, Opened, Pin, Progress, observe};
use http::HeaderValue;
use uuid::Uuid;

use super::cancellation::Cancellation;
use super::creates::{Creates, Follows};
use super::ends::Ends;
use super::lost_close::LostCloses;
use super::report::Reporter;
use super::session_turns::shares;
use super::told::Loss;
use super::{Exchange, live, reply_url};
use crate::base::clock;
use crate::farm::health::FarmHealth;
use crate::sessions::{Birth, PinError, Pinned, Sessions};
use crate::telemetry::metrics::{FailoverReason, ProtocolError};

/// What becomes of the answer to a packet.
#[derive(Debug)]
pub struct Learned {
    /// Changes to its head.
    pub edits: Vec<Edit>,
    pub body: AckBody,
    /// What those that have joined the packet get of it, by [`super::Gateway::share`].
    pub shared: Shared,
}

/// Why a client does not get the answer of its backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotPassed {
    /// The packet goes to another backend, which was chosen.
    Elsewhere,
    /// The client is told of the fault that the findings hold.
    Refused,
}

/// Keeps of the answers to packets what they teach.
pub(super) struct Learning {
    pub health: FarmHealth,
    pub sessions: Arc<Sessions>,
    pub reporter: Arc<Reporter>,
    pub ends: Arc<Ends>,
    pub creates: Arc<Creates>,
    pub lost_closes: LostCloses,
    pub cancellation: Arc<Cancellation>,
}

impl Learning {
    /// Applies what the answer teaches, then edits it. When this returns, the pin of a new
    /// session is as durable as it gets, so the client may learn its id.
    ///
    /// # Errors
    /// The client does not get this answer.
    pub async fn learn(
        &self,
        head: &RequestHead,
        response: &AnswerHead,
        exchange: &mut Exchange,
    ) -> Result<Option<Learned>, NotPassed> {
        let Some(packet) = exchange.admitted.packet.clone() else { return Ok(None) };
        let ack = read_ack(response.status, response);
        exchange.answered.backend_error = ack.error;
        exchange.answered.protocol_error = ProtocolError::of(&ack);
        if let Some(backend) = exchange.admitted.backend {
            let answer = Answer::of(&ack, packet.packet_type());
            self.health.answered(backend, answer, || exchange.arrival.counted_client());
            if let Some(address) =
                exchange.arrival.farm.address(backend).filter(|_| ack.is_success())
            {
                self.health.acknowledged(backend, address);
            }
            self.creates.judge_disk(head, &ack, backend, exchange);
        }
        match self.creates.judge(head, response, &ack, exchange) {
            Follows::Answer => {}
            Follows::Elsewhere => return Err(NotPassed::Elsewhere),
            Follows::Later => {
                exchange.findings.fault = Some(Fault::NoBackend);
                return Err(NotPassed::Refused);
            }
        }
        let pinned = exchange.admitted.why == Some(Why::Pin);
        let doubtful = exchange.admitted.doubtful;
        let moved = ack.is_session_not_found()
            && exchange
                .admitted
                .backend
                .is_some_and(|id| exchange.arrival.farm.has_moved_lately(id, &self.health));
        let observed = Observed {
            packet: &packet,
            ack: &ack,
            pinned,
            doubtful,
            moved,
            now: exchange.arrival.now,
        };
        let close = exchange.admitted.kind() == Some(PacketType::CloseSession);
        let outcome = match observe(&observed) {
            // Where one storage is shared, the backend before may have delivered the file.
            Effects::Nothing if exchange.admitted.moved && close && ack.is_session_not_found() => {
                Box::pin(self.lost_closes.close_not_found(head, exchange)).await
            }
            // It was to move here. Nobody has it now, and its pin leads to one that was given up.
            Effects::Nothing if exchange.admitted.moved && ack.is_session_not_found() => {
                Box::pin(self.ends.end_as_lost(Loss::NotFound, head, exchange)).await;
                Ok(())
            }
            Effects::Nothing => Ok(()),
            Effects::Progress(progress) => {
                let key = exchange.admitted.key.as_ref();
                let now = exchange.answered.first_byte.unwrap_or_else(clock::steady);
                let there = key.is_some_and(|key| self.sessions.progress(key, progress, now));
                // A Fragment may outlast the idle timeout; its session is as live as can be.
                if there { Ok(()) } else { Box::pin(self.adopt(progress, exchange)).await }
            }
            Effects::Opened(opened) => {
                let outcome = Box::pin(self.open_session(&opened, head, exchange)).await;
                match outcome {
                    Ok(()) => exchange.answered.opened = Some(opened.backend_session.into()),
                    Err(_) => {
                        let place = exchange.admitted.place.take();
                        self.cancellation.orphan(head, exchange, opened.backend_session, place);
                    }
                }
                outcome
            }
            Effects::Adopt(progress) => Box::pin(self.adopt(progress, exchange)).await,
            Effects::Ended(reason) => {
                Box::pin(self.ends.end(reason, head, exchange)).await;
                Ok(())
            }
            Effects::CloseNotFound => {
                Box::pin(self.lost_closes.close_not_found(head, exchange)).await
            }
            Effects::Refuse(fault) => Err(fault),
        };
        exchange.admitted.opening = None;
        // Where no session came of it, the next Create may follow as soon as this is answered.
        exchange.admitted.place = None;
        if let Err(fault) = outcome {
            exchange.findings.fault = Some(fault);
            return Err(NotPassed::Refused);
        }
        let announce =
            exchange.admitted.backend.and_then(|id| exchange.arrival.farm.view.backend(id));
        let identity = Identity {
            public_id: exchange.admitted.public_session.as_ref(),
            announce: announce.and_then(|backend| backend.announce.as_ref()),
        };
        let mut edits = edits(&packet, &ack, response, identity);
        edits.extend(reply_url::edit(head, response, exchange));
        let body = ack_body(&packet, &ack, response.version, response);
        let shared = shares(&ack, exchange);
        Ok(Some(Learned { edits, body, shared }))
    }

    /// Pins a new session under the id that its client will know.
    async fn open_session(
        &self,
        opened: &Opened<'_>,
        head: &RequestHead,
        exchange: &mut Exchange,
    ) -> Result<(), Fault> {
        let backend = exchange.admitted.backend.ok_or(Fault::Internal)?;
        let holder = opened.id.as_ref().and_then(|id| self.sessions.holder(backend, id.key()));
        let older = holder.as_ref().map(|key| self.sessions.progress_of(key).unwrap_or_default());
        let mut naming = opening::name(
            opened,
            exchange.arrival.farm.config.sessions.id,
            older,
            exchange.arrival.now,
        )?;
        if let Some(holder) = holder.filter(|_| naming.ends_older)
            && let Some(ended) =
                self.sessions.unpin(&holder, EndReason::Lost, clock::steady()).await
        {
            self.reporter.ended(&ended, None);
            self.reporter.lost(&ended, Loss::Reissued);
        }
        let id = opened.backend_session.to_owned();
        let birth = Birth { target: head.target().to_vec(), id };
        loop {
            let (id, hidden, public) = match (naming.next_candidate()?, &opened.id) {
                (Candidate::Backends, Some(id)) => (id.key().clone(), None, None),
                _ => {
                    let public = ids::mint(Uuid::new_v4());
                    let id = SessionId::parse(&public).ok_or(Fault::Internal)?.key().clone();
                    (id, Some(opened.backend_session.into()), HeaderValue::from_str(&public).ok())
                }
            };
            if self.pin(&id, exchange.arrival.pin(backend, hidden), &birth, exchange).await?
                == Pinned::New
            {
                exchange.admitted.public_session = public;
                let create = PacketType::CreateSession;
                live::show(&self.sessions, head, create, &id, backend, exchange);
                break;
            }
        }
        if naming.is_conflict() {
            self.reporter.metrics.session_id_conflict();
        }
        self.reporter.metrics.session_created(backend);
        Ok(())
    }

    async fn pin(
        &self,
        key: &SessionKey,
        pin: Pin,
        birth: &Birth,
        exchange: &mut Exchange,
    ) -> Result<Pinned, Fault> {
        let opened = key.clone();
        let (seen, steady) = (exchange.arrival.now, clock::steady());
        let pinned =
            self.sessions.pin_opened(&mut exchange.admitted.place, opened, pin, seen, steady).await;
        let pinned = pinned.map_err(not_pinned)?;
        if pinned == Pinned::New {
            self.sessions.keep_birth(key, birth);
            exchange.admitted.key = Some(key.clone());
        }
        Ok(pinned)
    }

    /// A session that an alias brought back gets its pin again, so that it also survives the
    /// client's way back to the origin name. Failing to is no reason to refuse its Ack.
    async fn adopt(&self, progress: Progress, exchange: &mut Exchange) -> Result<(), Fault> {
        if let (Some(key), Some(backend)) = (&exchange.admitted.key, exchange.admitted.backend) {
            let pin = exchange.arrival.pin(backend, exchange.admitted.backend_session.clone());
            let steady = clock::steady();
            if !exchange.admitted.moved {
                let _ = self.sessions.adopt(key.clone(), pin, progress, steady).await;
            } else if let Ok(Some(from)) = self.sessions.repin(key, pin, progress, steady).await {
                self.reporter.metrics.failover(from.backend, FailoverReason::Connect);
                self.reporter.moved(key, from.backend, backend);
            }
        }
        Ok(())
    }
}

pub(super) fn not_pinned(error: PinError) -> Fault {
    match error {
        PinError::Full { .. } => Fault::TableFull,
        PinError::Store(_) => Fault::StoreDown,
    }
}

#[cfg(test)]
#[path = "learning_tests.rs"]
mod tests;
