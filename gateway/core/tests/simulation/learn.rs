//! What a gateway does with an answer: the rules of the core, applied to a table.

use std::time::Duration;

use gateway_core::farm::BackendId;
use gateway_core::fault::Fault;
use gateway_core::protocol::{PacketType, RequestPacket, SessionId, SessionKey, ids, read_ack};
use gateway_core::rewrite::{Identity, edits};
use gateway_core::session::lost_close::{
    Conclusion, Evidence, Expected, Next, conclude, judge, next,
};
use gateway_core::session::opening::{self, Candidate, IdPolicy};
use gateway_core::session::{
    Binding, Effects, EndReason, Observed, Opened, Pin, Subject, Target, observe,
};
use http::{HeaderValue, response};

use crate::gateway::{Fate, Gateway, Network, Time};
use crate::rng::Rng;
use crate::server::Request;
use crate::table::{Stop, Table};

/// `sessions.lost_close_after`, in steps.
const DOUBT: Duration = Duration::from_secs(100);

/// How often a gateway tries to cancel an orphan.
const CANCELS: u32 = 3;

/// A session that a backend has just opened.
#[derive(Debug, Clone)]
pub struct Newborn {
    /// The id that its client knows; `None` where it was not pinned.
    pub key: Option<SessionKey>,
    pub backend: BackendId,
    /// The id that its backend knows.
    pub id: String,
}

impl Gateway {
    #[expect(clippy::too_many_arguments, reason = "all of them are one request")]
    pub fn learn(
        &mut self,
        packet: &RequestPacket,
        request: &Request,
        mut answer: response::Parts,
        place: Place<'_>,
        table: &mut Table,
        rng: &mut Rng,
        network: &mut dyn Network,
    ) -> Result<response::Parts, Stop> {
        let ack = read_ack(answer.status, &answer.headers);
        let pinned = place.pin.is_some() && !place.moved;
        let Time { wall, steady } = place.time;
        let doubtful = table.down;
        let observed = Observed { packet, ack: &ack, pinned, doubtful, moved: false, now: wall };
        let key = packet.session().map(SessionId::key);
        let mut public_id = None;
        match (observe(&observed), key) {
            (Effects::Opened(opened), _) => {
                let id = opened.backend_session.to_owned();
                public_id = match self.open(&opened, &place, table, rng) {
                    Err(Stop::Fault(fault)) => {
                        let newborn = Newborn { key: None, backend: place.backend, id };
                        self.cancel_orphan(&newborn, request, table, rng, network)?;
                        return Err(fault.into());
                    }
                    opened => opened?,
                };
            }
            (Effects::Refuse(fault), _) => return Err(fault.into()),
            (Effects::Progress(progress), Some(key)) => table.progress(key, progress, steady),
            (Effects::Adopt(progress), Some(key)) => {
                let id = place.pin.and_then(|pin| pin.backend_session.as_deref());
                let pin = place.new_pin(id);
                let adopted = match place.moved && place.pin.is_some() {
                    true => table.put(key, pin, steady),
                    false => table.pin(key, pin, steady).map(|_| ()),
                };
                // It goes on without the pin, should there be no table to write it to.
                if adopted == Err(Stop::Died) {
                    return Err(Stop::Died);
                }
                table.progress(key, progress, steady);
            }
            // Nor does the one to whom it was to move know it.
            (Effects::Nothing, Some(key)) if place.moved && ack.is_session_not_found() => {
                match packet.packet_type() {
                    PacketType::CloseSession => {
                        self.close_not_found(key, request, &place, table, rng, network)?;
                    }
                    _ => table.end(key, EndReason::Lost)?,
                }
            }
            (Effects::CloseNotFound, Some(key)) if !table.down => {
                self.close_not_found(key, request, &place, table, rng, network)?;
            }
            // A pin that cannot be removed now lingers until it expires.
            (Effects::Ended(reason), Some(key)) if !table.down => {
                let acknowledged = matches!(reason, EndReason::Closed | EndReason::Cancelled);
                match table.pins.contains_key(key) || !acknowledged {
                    true => table.end(key, reason)?,
                    false => table.remember_end(key, place.new_pin(None).target_digest())?,
                }
            }
            _ => {}
        }
        if place.pin.is_some_and(|pin| pin.backend_session.is_some()) {
            public_id = packet.session().map(|id| id.as_str().to_owned());
        }
        let public_id = public_id.map(|id| HeaderValue::from_str(&id).expect("a legal id"));
        let backend = self.view.backend(place.backend).expect("it was just chosen");
        let identity =
            Identity { public_id: public_id.as_ref(), announce: backend.announce.as_ref() };
        for edit in edits(packet, &ack, &answer.headers, identity) {
            edit.apply_to(&mut answer.headers);
        }
        Ok(answer)
    }

    /// Pins a new session; the id to show in place of the backend's, if there must be one.
    fn open(
        &mut self,
        opened: &Opened<'_>,
        place: &Place<'_>,
        table: &mut Table,
        rng: &mut Rng,
    ) -> Result<Option<String>, Stop> {
        let policy = if self.scenario.minted { IdPolicy::Minted } else { IdPolicy::Backend };
        let older = opened.id.as_ref().and_then(|id| table.holder(place.backend, id));
        let progress = older.as_ref().map(|(_, progress)| *progress);
        if older.is_some() {
            self.notes.push("id given out again");
        }
        let naming = opening::name(opened, policy, progress, place.time.wall);
        if naming.is_err() {
            self.notes.push("id of a running upload given out again");
        }
        let mut naming = naming?;
        if let Some((key, _)) = older.filter(|_| naming.ends_older) {
            self.notes.push("older session ended by its id");
            table.end(&key, EndReason::Lost)?;
        }
        loop {
            let (id, hidden, public) = match (naming.next_candidate()?, &opened.id) {
                (Candidate::Backends, Some(id)) => (id.key().clone(), None, None),
                _ => {
                    let minted = ids::mint(rng.guid());
                    let id = SessionId::parse(&minted).expect("a minted id is legal").key().clone();
                    (id, Some(opened.backend_session), Some(minted))
                }
            };
            if table.pin(&id, place.new_pin(hidden), place.time.steady)? {
                table.untouched.insert(id.clone());
                let (backend, named) = (place.backend, opened.backend_session.to_owned());
                self.opened = Some(Newborn { key: Some(id), backend, id: named });
                return Ok(public);
            }
        }
    }

    /// The backend does not know the session of a Close.
    fn close_not_found(
        &mut self,
        key: &SessionKey,
        request: &Request,
        place: &Place<'_>,
        table: &mut Table,
        rng: &mut Rng,
        network: &mut dyn Network,
    ) -> Result<(), Stop> {
        let progress = table.progress_of(key).unwrap_or_default();
        let conclusion = match next(self.scenario.lost_close, progress) {
            Next::StartOver(_) => Conclusion::StartOver,
            Next::Acknowledge => Conclusion::Acknowledge,
            Next::Look { total } => {
                let created = place.pin.map(|pin| pin.created).unwrap_or_default();
                let wall = place.time.wall;
                let expected = Expected { total, created, asked: wall, answered: wall };
                let head = network.look(place.backend, request, rng);
                let evidence = head.map_or(Evidence::Unclear, |head| judge(&head, &expected));
                let unclear_since = match evidence {
                    Evidence::Unclear => table.unclear_for(key, place.time.steady),
                    _ => Duration::ZERO,
                };
                self.notes.push(match evidence {
                    Evidence::Delivered => "lost close found delivered",
                    Evidence::NotDelivered => "lost close found lost",
                    Evidence::Unclear => "lost close unclear",
                });
                conclude(evidence, unclear_since, DOUBT)
            }
        };
        match conclusion {
            Conclusion::Acknowledge => {
                table.end(key, EndReason::Closed)?;
                Err(Fault::AlreadyEnded.into())
            }
            Conclusion::StartOver | Conclusion::GiveUp => table.end(key, EndReason::Lost),
            Conclusion::Wait => Err(Fault::CloseUnverified.into()),
        }
    }

    /// The client has gone before a byte of the Ack of its Create-Session was sent.
    pub fn cancel_undelivered(
        &mut self,
        request: &Request,
        table: &mut Table,
        rng: &mut Rng,
        network: &mut dyn Network,
    ) -> Result<(), Stop> {
        let Some(newborn) = self.opened.take() else { return Ok(()) };
        if !opening::is_orphan(false, false) {
            return Ok(());
        }
        self.notes.push("opened behind a client that has gone");
        if let Some(key) = &newborn.key {
            table.end(key, EndReason::Cancelled)?;
        }
        self.cancel_orphan(&newborn, request, table, rng, network)
    }

    /// Cancels a session of which no client knows. Not if the backend has given its id out twice, and
    /// another client uploads under it.
    fn cancel_orphan(
        &mut self,
        newborn: &Newborn,
        request: &Request,
        table: &Table,
        rng: &mut Rng,
        network: &mut dyn Network,
    ) -> Result<(), Stop> {
        let id = SessionId::parse(&newborn.id);
        if id.is_some_and(|id| table.holder(newborn.backend, &id).is_some()) {
            self.notes.push("orphan left to the client that has its id");
            return Ok(());
        }
        let cancel = request.cancel(&newborn.id);
        if (0..CANCELS).any(|_| self.cancel(newborn.backend, &cancel, rng, network)) {
            self.notes.push("orphan cancelled");
        }
        Ok(())
    }

    /// Whether the backend says that it has the session no more.
    pub fn cancel(
        &self,
        backend: BackendId,
        cancel: &Request,
        rng: &mut Rng,
        network: &mut dyn Network,
    ) -> bool {
        if !self.reaches(backend) {
            return false;
        }
        match network.send(backend, cancel, rng) {
            Fate::Answered(answer) => {
                let ack = read_ack(answer.status, &answer.headers);
                ack.is_protocol() && (ack.is_success() || ack.is_session_not_found())
            }
            _ => false,
        }
    }
}

/// Where a packet went and what is written down about that.
pub struct Place<'a> {
    pub backend: BackendId,
    pub target: Target,
    pub subject: Option<Subject>,
    pub pin: Option<&'a Pin>,
    /// Away from the backend that had the session.
    pub moved: bool,
    pub time: Time,
}

impl Place<'_> {
    pub fn new_pin(&self, backend_session: Option<&str>) -> Pin {
        Pin {
            backend: self.backend,
            backend_session: backend_session.map(Into::into),
            binding: Binding::unspelled(self.target.hash()),
            created: self.time.wall,
            subject: self.subject.clone(),
        }
    }
}
