//! A gateway without sockets: asks the core, obeys it, keeps a table.

use std::collections::HashMap;
use std::time::Duration;

use gateway_core::farm::{Announce, Backend, BackendId, Barred, FarmView, Health};
use gateway_core::fault::{Fault, ack_headers};
use gateway_core::protocol::host::{Host, key_of};
use gateway_core::protocol::{
    PacketType, RequestPacket, SessionId, SessionKey, ids, packet, read_ack, read_request,
};
use gateway_core::rewrite::{Identity, edits};
use gateway_core::routing::ask::Doubts;
use gateway_core::routing::failover::{Held, Owner, ends_or_moves};
use gateway_core::routing::retry::is_repeatable;
use gateway_core::routing::{
    Absence, Decision, Evidence, Failure, Lookup, Refusers, Step, Why, decide, may_retry, reassign,
};
use gateway_core::session::opening::{self, Candidate, IdPolicy};
use gateway_core::session::{Binding, Effects, EndReason, Observed, Opened, Pin, Target, observe};
use http::{HeaderValue, response};

use crate::ask::Found;
use crate::creates::Creates;
pub use crate::network::{Connection, Fate, Network, Slot, Time};
use crate::rng::Rng;
use crate::scenario::{HostIds, Scenario};
use crate::server::Request;
use crate::table::{Stop, Table};

pub struct Gateway {
    pub view: FarmView,
    slots: Vec<Slot>,
    /// What its probes say.
    pub health: Vec<Health>,
    /// Since when each backend has been away.
    down_since: Vec<Option<u64>>,
    /// Sessions that were told to start over because their backend was away for too long.
    pub given_up: Vec<(SessionKey, BackendId)>,
    turn: u64,
    pub doubts: Doubts,
    pub creates: Creates,
    scenario: Scenario,
}

impl Gateway {
    pub fn new(scenario: &Scenario, slots: &[Slot]) -> Self {
        let health = vec![Health::Up; slots.len()];
        let view = FarmView::default();
        let mut gateway = Self {
            view,
            slots: Vec::new(),
            health,
            down_since: vec![None; slots.len()],
            given_up: Vec::new(),
            turn: 0,
            doubts: Doubts::default(),
            creates: Creates::default(),
            scenario: scenario.clone(),
        };
        gateway.reload(slots);
        gateway
    }

    /// What a probe of the backend found.
    pub fn probed(&mut self, backend: usize, alive: bool, now: u64) {
        self.health[backend] = if alive { Health::Up } else { Health::Down };
        match alive {
            true => self.down_since[backend] = None,
            false => _ = self.down_since[backend].get_or_insert(now),
        }
    }

    pub fn reload(&mut self, slots: &[Slot]) {
        self.slots = slots.to_vec();
        self.revise();
    }

    fn revise(&mut self) {
        let slots = self.slots.clone();
        let mut backends = Vec::new();
        let mut aliases = HashMap::new();
        for (number, slot) in slots.iter().enumerate().filter(|(_, slot)| slot.configured) {
            let id = BackendId(u32::try_from(number).expect("few backends"));
            let name = format!("up{number}.test");
            let announces = match self.scenario.host_ids {
                HostIds::All => true,
                HostIds::Some => number < slots.len().div_ceil(2),
                HostIds::None => false,
            };
            if announces {
                aliases.insert(key_of(&name).expect("a host"), id);
            }
            backends.push(Backend {
                id,
                name: name.as_str().into(),
                weight: slot.weight,
                admin: slot.admin,
                health: self.health[number],
                announce: announces.then(|| Announce {
                    host_id: HeaderValue::from_str(&name.to_uppercase()).expect("a host"),
                    fallback_timeout: HeaderValue::from_static("40"),
                }),
            });
        }
        self.view = FarmView::new(backends, aliases);
    }

    /// `sessions.shared_farm`.
    pub fn shares_its_farm(&self) -> bool {
        self.scenario.shared_farm
    }

    pub fn has(&self, backend: BackendId) -> bool {
        self.view.backend(backend).is_some()
    }

    pub fn reaches(&self, backend: BackendId) -> bool {
        self.view.backend(backend).is_some_and(Backend::is_reachable)
    }

    pub fn alias(&self, request: &Request) -> Option<BackendId> {
        let host = request.head.headers.get("Host").expect("a Host").to_str().expect("text");
        self.view.alias(&Host::parse(host).expect("a host"))
    }

    /// One request from its head to its answer; `None` if the process dies over it.
    pub fn handle(
        &mut self,
        request: &Request,
        connection: &mut Connection,
        table: &mut Table,
        rng: &mut Rng,
        time: Time,
        network: &mut dyn Network,
    ) -> Option<response::Parts> {
        let packet =
            read_request(&request.head.headers, false).expect("an honest client is understood");
        match self.forward(&packet, request, connection, table, rng, time, network) {
            Ok(answer) => Some(answer),
            Err(Stop::Died) => None,
            Err(Stop::Fault(fault)) => {
                let mut answer = http::Response::builder().status(fault.row().status);
                let session = packet::session_of(&request.head.headers);
                for (field, value) in ack_headers(fault, session.as_ref()) {
                    answer = answer.header(&field.name, value);
                }
                Some(answer.body(()).expect("legal head").into_parts().0)
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "all of them are one request")]
    fn forward(
        &mut self,
        packet: &RequestPacket,
        request: &Request,
        connection: &mut Connection,
        table: &mut Table,
        rng: &mut Rng,
        time: Time,
        network: &mut dyn Network,
    ) -> Result<response::Parts, Stop> {
        let mut lookup = table.find(packet.session());
        let target = Target::of(request.head.uri.path().as_bytes());
        let mut owner = match &lookup {
            Lookup::Pinned(pin) if target.is(pin.binding.target) => Some(pin.backend),
            _ => self.alias(request),
        };
        owner = owner.filter(|_| packet.packet_type() != PacketType::CreateSession);
        let mut avoid = Vec::new();
        let mut moved = false;
        let create = (packet.packet_type() == PacketType::CreateSession).then(|| request.create());
        let mut refusers = Refusers::default();
        self.creates.settle(time.steady);
        let mut newborn_at = None;
        for attempt in 1.. {
            let decision = match moved {
                false => {
                    let alias = newborn_at.or_else(|| self.alias(request));
                    let barred = self.creates.barred(create.as_ref(), time.steady);
                    let about = (&lookup, target, &*avoid);
                    let bars = (&*barred, !refusers.is_empty());
                    self.decide(packet, alias, connection, table, about, bars)
                }
                true => self.decide_again(connection, table, (target, &avoid)),
            };
            let (backend, why) = match (decision, owner) {
                (Decision::Forward { backend, why }, _) => (backend, why),
                (Decision::Answer(Fault::BackendDown), Some(owner)) if !moved => {
                    moved = self.wait_for(owner, packet, table, rng, time, network)?;
                    avoid.extend(moved.then_some(owner));
                    continue;
                }
                (Decision::Answer(fault), _) => {
                    (refusers.ask_again().ok_or(fault)?, Why::Placement)
                }
                (Decision::Ask, _) => {
                    let found = match self.ask(packet, request, rng, time.steady, network)? {
                        Found::Owner(found) => found,
                        Found::Newborn(found) => {
                            (newborn_at, owner) = (Some(found), Some(found));
                            continue;
                        }
                    };
                    let place = Place { backend: found, target, pin: None, moved, time };
                    let key = packet.session().map(SessionId::key).expect("it has an id");
                    table.pin(key, place.new_pin(None), time.steady)?;
                    lookup = table.find(packet.session());
                    if !matches!(&lookup, Lookup::Pinned(pin) if target.is(pin.binding.target)) {
                        return Err(Fault::UnknownSession.into());
                    }
                    owner = Some(found);
                    continue;
                }
            };
            let mut sent = request.clone();
            let pin = match &lookup {
                Lookup::Pinned(pin)
                    if why == Why::Pin || (moved && target.is(pin.binding.target)) =>
                {
                    Some(pin)
                }
                _ => None,
            };
            if let Some(id) = pin.and_then(|pin| pin.backend_session.as_deref()) {
                let id = HeaderValue::from_str(id).expect("it came in a header");
                sent.head.headers.insert("BITS-Session-Id", id);
            }
            let asked = create.as_ref().map(|c| self.creates.asked(backend, c, time.steady));
            let fate = network.send(backend, &sent, rng);
            let lost = matches!(fate, Fate::Unreachable | Fate::Broken { .. });
            if let Some(asked) = asked.as_ref().filter(|_| lost) {
                self.creates.gone(asked, time.steady);
            }
            let again = match fate {
                Fate::Answered(answer) => {
                    self.probed(backend.0 as usize, true, time.steady);
                    connection.backend = Some(backend);
                    if let Some(asked) = asked
                        && self.creates.judge(&asked, &answer, &mut refusers, time.steady)
                    {
                        avoid.push(backend);
                        let barred = self.creates.barred(create.as_ref(), time.steady);
                        let alias = self.alias(request);
                        let about = (&lookup, target, &*avoid);
                        let next =
                            self.decide(packet, alias, connection, table, about, (&barred, true));
                        if matches!(next, Decision::Forward { .. }) {
                            self.creates.moved += 1;
                            continue;
                        }
                    }
                    let place = Place { backend, target, pin, moved, time };
                    return self.learn(packet, answer, place, table, rng);
                }
                Fate::Unreachable if owner == Some(backend) && !moved => {
                    self.down_since[backend.0 as usize].get_or_insert(time.steady);
                    moved = self.wait_for(backend, packet, table, rng, time, network)?;
                    avoid.extend(moved.then_some(backend));
                    true
                }
                Fate::Unreachable => {
                    avoid.push(backend);
                    true
                }
                Fate::Silent => {
                    // It still waits while others come and go.
                    self.creates.waits(asked.expect("only Creates hang"), time.steady);
                    return Err(Fault::BackendTimeout.into());
                }
                Fate::Broken { reused } => may_retry(
                    is_repeatable(packet),
                    Failure { reused, answered: false, body_whole: true },
                ),
            };
            if !again || attempt == 6 {
                return Err(Fault::BackendFailed.into());
            }
        }
        unreachable!("the last attempt returns")
    }

    /// The one right backend is away: `Ok(false)` if it came back while the request was held,
    /// `Ok(true)` if another one is to take the session.
    fn wait_for(
        &mut self,
        owner: BackendId,
        packet: &RequestPacket,
        table: &mut Table,
        rng: &mut Rng,
        time: Time,
        network: &mut dyn Network,
    ) -> Result<bool, Stop> {
        let failover = self.scenario.failover;
        // It is there, and an operator keeps it from serving.
        let since = self.down_since[owner.0 as usize].ok_or(Fault::BackendDown)?;
        let away = Duration::from_secs(time.steady - since);
        let key = packet.session().map(SessionId::key);
        let held = Held {
            waited: Duration::ZERO,
            ends_or_moves: ends_or_moves(Some(packet.packet_type()), key.is_some()),
            superseded: false,
        };
        match failover.rule().step(Owner::Down(Absence::For(away)), &held) {
            Step::Reassign => Ok(true),
            Step::Restart => {
                let key = key.expect("no upload ends by what names none");
                self.given_up.push((key.clone(), owner));
                table.end(key, EndReason::Lost)?;
                Err(Fault::BackendGivenUp.into())
            }
            Step::Wait(_) if network.comes_back(owner, rng) => {
                self.probed(owner.0 as usize, true, time.steady);
                self.revise();
                Ok(false)
            }
            Step::Wait(_) => Err(Fault::BackendDown.into()),
            Step::Later(fault) => Err(fault.into()),
        }
    }

    fn decide(
        &mut self,
        packet: &RequestPacket,
        alias: Option<BackendId>,
        connection: &Connection,
        table: &Table,
        (lookup, target, avoid): (&Lookup, Target, &[BackendId]),
        (barred, refused): (&[Barred], bool),
    ) -> Decision {
        let known = packet.session().and_then(|id| table.pins.get(id.key()));
        let total = known.map_or(0, |(_, progress)| progress.total);
        let evidence = Evidence {
            lookup,
            target,
            total,
            alias,
            connection: connection.backend,
            login: false,
            room: true,
            avoid,
            barred,
            refused,
            hash: target.hash().0,
            turn: self.turn,
        };
        self.turn += 1;
        let loads = loads(table);
        decide(packet, &evidence, &self.view, self.scenario.policy, &loads)
    }

    fn decide_again(
        &mut self,
        connection: &Connection,
        table: &Table,
        (target, avoid): (Target, &[BackendId]),
    ) -> Decision {
        let evidence = Evidence {
            lookup: &Lookup::Unknown,
            target,
            total: 0,
            alias: None,
            connection: connection.backend,
            login: false,
            room: true,
            avoid,
            barred: &[],
            refused: false,
            hash: target.hash().0,
            turn: self.turn,
        };
        self.turn += 1;
        let loads = loads(table);
        reassign(&evidence, &self.view, self.scenario.policy.placement, &loads)
    }

    fn learn(
        &self,
        packet: &RequestPacket,
        mut answer: response::Parts,
        place: Place<'_>,
        table: &mut Table,
        rng: &mut Rng,
    ) -> Result<response::Parts, Stop> {
        let ack = read_ack(answer.status, &answer.headers);
        let pinned = place.pin.is_some() && !place.moved;
        let Time { wall, steady } = place.time;
        let doubtful = table.down;
        let observed = Observed { packet, ack: &ack, pinned, doubtful, moved: false, now: wall };
        let key = packet.session().map(SessionId::key);
        let mut public_id = None;
        match (observe(&observed), key) {
            (Effects::Opened(opened), _) => public_id = self.open(&opened, &place, table, rng)?,
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
                table.end(key, EndReason::Lost)?;
            }
            // As with `sessions.lost_close = "restart"`.
            (Effects::CloseNotFound, Some(key)) if !table.down => {
                table.end(key, EndReason::Lost)?;
            }
            // A pin that cannot be removed now lingers until it expires.
            (Effects::Ended(reason), Some(key)) if !table.down => {
                let acknowledged = matches!(reason, EndReason::Closed | EndReason::Cancelled);
                match table.pins.contains_key(key) || !acknowledged {
                    true => table.end(key, reason)?,
                    false => table.bury(key, place.target.hash())?,
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
        for edit in edits(packet, &ack, &answer, identity) {
            edit.apply_to(&mut answer.headers);
        }
        Ok(answer)
    }

    /// Pins a new session; the id to show in place of the backend's, if there must be one.
    fn open(
        &self,
        opened: &Opened<'_>,
        place: &Place<'_>,
        table: &mut Table,
        rng: &mut Rng,
    ) -> Result<Option<String>, Stop> {
        let policy = if self.scenario.minted { IdPolicy::Minted } else { IdPolicy::Backend };
        let older = opened.id.as_ref().and_then(|id| table.holder(place.backend, id));
        let progress = older.as_ref().map(|(_, progress)| *progress);
        let mut naming = opening::name(opened, policy, progress, place.time.wall)?;
        if let Some((key, _)) = older.filter(|_| naming.ends_older) {
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
                return Ok(public);
            }
        }
    }
}

fn loads(table: &Table) -> impl Fn(BackendId) -> u64 {
    move |id| {
        let pins = table.pins.values().filter(|(pin, _)| pin.backend == id);
        pins.count() as u64
    }
}

/// Where a packet went and what is written down about that.
struct Place<'a> {
    backend: BackendId,
    target: Target,
    pin: Option<&'a Pin>,
    /// Away from the backend that had the session.
    moved: bool,
    time: Time,
}

impl Place<'_> {
    fn new_pin(&self, backend_session: Option<&str>) -> Pin {
        Pin {
            backend: self.backend,
            backend_session: backend_session.map(Into::into),
            binding: Binding::unspelled(self.target.hash()),
            created: self.time.wall,
            subject: None,
        }
    }
}
