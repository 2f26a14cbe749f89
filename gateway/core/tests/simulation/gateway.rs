//! A gateway without sockets: asks the core, obeys it, keeps a table.

use std::collections::HashMap;
use std::time::Duration;

use gateway_core::farm::{Announce, Backend, BackendId, Barred, FarmView, Health};
use gateway_core::fault::{Fault, ack_headers};
use gateway_core::protocol::host::{Host, key_of};
use gateway_core::protocol::{
    ChunkedMode, PacketType, RequestPacket, SessionId, SessionKey, packet, read_request,
};
use gateway_core::routing::failover::{Distrust, Held, Owner, ends_or_moves, try_another};
use gateway_core::routing::ownership::{
    Asker, ended_by_refusal, may_speak, must_not_be_hidden, owner, visible_to,
};
use gateway_core::routing::recovery::UnclearBackends;
use gateway_core::routing::retry::{MAX_REPEATS, is_repeatable};
use gateway_core::routing::{
    Absence, Decision, Evidence, Failure, Lookup, Refusers, Step, Why, decide, may_retry, reassign,
};
use gateway_core::session::limits::Sizes;
use gateway_core::session::{EndReason, Target};
use http::{HeaderValue, response};

use crate::ask::Found;
use crate::creates::Creates;
use crate::learn::{Newborn, Place};
pub use crate::network::{Connection, Fate, Network, Slot, Time};
use crate::rng::Rng;
use crate::scenario::{HostIds, Scenario};
use crate::server::Request;
use crate::table::{Stop, Table};

/// A session was cancelled because its file is too large.
pub const ENDED_BY_SIZE: &str = "ended by its size";

pub struct Gateway {
    pub view: FarmView,
    slots: Vec<Slot>,
    /// What its probes say.
    pub health: Vec<Health>,
    /// Since when each backend has been away.
    down_since: Vec<Option<u64>>,
    /// Since when this process runs.
    begun: u64,
    /// Sessions that were told to start over because their backend was away for too long.
    pub given_up: Vec<(SessionKey, BackendId, Owner)>,
    /// The session that the last request opened.
    pub opened: Option<Newborn>,
    /// What has happened since somebody looked.
    pub notes: Vec<&'static str>,
    pub sizes: Sizes,
    turn: u64,
    pub unclear: UnclearBackends,
    pub creates: Creates,
    pub scenario: Scenario,
}

impl Gateway {
    pub fn new(scenario: &Scenario, slots: &[Slot], now: u64) -> Self {
        let health = vec![Health::Up; slots.len()];
        let view = FarmView::default();
        let mut gateway = Self {
            view,
            slots: Vec::new(),
            health,
            down_since: vec![None; slots.len()],
            begun: now,
            given_up: Vec::new(),
            opened: None,
            notes: Vec::new(),
            sizes: scenario.sizes,
            turn: 0,
            unclear: UnclearBackends::default(),
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
        let packet = read_request(&request.head.headers, ChunkedMode::Refuse)
            .expect("an honest client is understood");
        self.opened = None;
        match self.forward(&packet, request, connection, table, rng, time, network) {
            Ok(answer) => Some(answer),
            Err(Stop::Died) => None,
            Err(Stop::Fault(fault)) => Some(answer_of(fault, request)),
        }
    }

    /// The client, as sessions are shown to it.
    pub fn asker<'r>(&self, request: &'r Request) -> Asker<'r> {
        let subject = request.subject.as_ref();
        Asker { target: request.target(), subject, binds: self.scenario.binds }
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
        let (kind, target) = (packet.packet_type(), request.target());
        let asker = self.asker(request);
        self.check_sizes(packet, request, table, rng, network)?;
        let mut lookup = visible_to(&asker, table.find(packet.session()));
        if lookup == Lookup::Foreign {
            self.notes.push("shown to its client alone");
        }
        if let (Some(alias), Some(id)) = (self.alias(request), packet.session())
            && must_not_be_hidden(kind, &lookup, target)
            && table.is_hidden(alias, id)
        {
            self.notes.push("hidden id refused");
            return Err(Fault::UnknownSession.into());
        }
        let mut newborn_at = None;
        let mut avoid = Vec::new();
        let mut moved = false;
        let create = (kind == PacketType::CreateSession).then(|| request.create());
        let mut refusers = Refusers::default();
        self.creates.settle(time.steady);
        for tries in 1.. {
            let alias = newborn_at.or_else(|| self.alias(request));
            let owner = owner(kind, &lookup, target, alias);
            if may_speak(kind, &lookup, target, alias) {
                table.touch(packet.session());
            }
            let decision = match moved {
                false => {
                    let barred = self.creates.barred(create.as_ref(), time.steady);
                    let about = (&lookup, target, &*avoid);
                    let bars = (&*barred, !refusers.is_empty());
                    self.decide(packet, alias, connection, table, about, bars)
                }
                true => self.decide_again(connection, table, (target, &avoid)),
            };
            let (backend, why) = match (decision, owner) {
                (Decision::Forward { backend, why }, _) => (backend, why),
                (Decision::Answer(fault), Some(owner)) if !moved => {
                    let absent = self.absent(owner, fault, time.steady)?;
                    moved = self.wait_for(owner, absent, packet, table, rng, time, network)?;
                    avoid.extend(moved.then_some(owner));
                    continue;
                }
                (Decision::Answer(fault), _) => return Err(fault.into()),
                (Decision::Ask, _) => {
                    let found = match self.ask(packet, request, table, rng, time, network)? {
                        Found::Owner(found) => found,
                        Found::Newborn(found) => {
                            newborn_at = Some(found);
                            continue;
                        }
                    };
                    let subject = asker.bound_to();
                    let place = Place { backend: found, target, subject, pin: None, moved, time };
                    let key = packet.session().map(SessionId::key).expect("it has an id");
                    table.pin(key, place.new_pin(None), time.steady)?;
                    lookup = visible_to(&asker, table.find(packet.session()));
                    if !matches!(&lookup, Lookup::Pinned(pin) if target.is(pin.binding.target)) {
                        return Err(Fault::UnknownSession.into());
                    }
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
                sent.name(id);
            }
            let asked = create.as_ref().map(|c| self.creates.asked(backend, c, time.steady));
            let fate = network.send(backend, &sent, rng);
            let lost = matches!(fate, Fate::Unreachable | Fate::Broken { .. });
            if let Some(asked) = asked.as_ref().filter(|_| lost) {
                self.creates.gone(asked, time.steady);
            }
            match fate {
                Fate::Answered(answer) => {
                    self.probed(backend.0 as usize, true, time.steady);
                    connection.backend = Some(backend);
                    if let Some(asked) = asked
                        && self.creates.judge(&asked, &answer, &mut refusers, time.steady)
                    {
                        avoid.push(backend);
                        let barred = self.creates.barred(create.as_ref(), time.steady);
                        let about = (&lookup, target, &*avoid);
                        let next =
                            self.decide(packet, alias, connection, table, about, (&barred, true));
                        if matches!(next, Decision::Forward { .. }) {
                            self.creates.moved += 1;
                            continue;
                        }
                        if !refusers.include_all(&avoid) {
                            return Err(Fault::NoBackend.into());
                        }
                    }
                    let subject = asker.bound_to();
                    let place = Place { backend, target, subject, pin, moved, time };
                    return self.learn(packet, request, answer, place, table, rng, network);
                }
                Fate::Unreachable if owner == Some(backend) && !moved => {
                    let since = *self.down_since[backend.0 as usize].get_or_insert(time.steady);
                    let absence = Absence::of(Duration::from_secs(time.steady - since), false);
                    let refuses = Owner::Refuses { absence, tries };
                    moved = self.wait_for(backend, refuses, packet, table, rng, time, network)?;
                    avoid.extend(moved.then_some(backend));
                }
                Fate::Unreachable => {
                    avoid.push(backend);
                    try_another(tries, Distrust::default())?;
                }
                Fate::Silent => {
                    // It still waits while others come and go.
                    self.creates.waits(asked.expect("only Creates hang"), time.steady);
                    return Err(Fault::BackendTimeout.into());
                }
                Fate::Broken { reused } => {
                    let failure = Failure { reused, answered: false, body_whole: true };
                    if !may_retry(is_repeatable(packet), failure) || tries >= MAX_REPEATS {
                        return Err(Fault::BackendFailed.into());
                    }
                }
            }
        }
        unreachable!("the last try returns")
    }

    /// Refuses what is larger than the limits. A session that waits for its first byte ends by that.
    fn check_sizes(
        &mut self,
        packet: &RequestPacket,
        request: &Request,
        table: &mut Table,
        rng: &mut Rng,
        network: &mut dyn Network,
    ) -> Result<(), Stop> {
        let (Some(range), Some(id)) = (packet.range(), packet.session()) else { return Ok(()) };
        let sizes = self.sizes;
        let found = visible_to(&self.asker(request), table.find(Some(id)));
        let own = may_speak(packet.packet_type(), &found, request.target(), None);
        let known = || table.progress_of(id.key()).filter(|_| own);
        let Err(fault) = sizes.check(&range, known) else {
            let above = sizes.upload.is_some_and(|limit| range.total() > limit);
            self.notes.extend(above.then_some("above a limit that was lowered"));
            return Ok(());
        };
        if fault == Fault::FragmentTooLarge {
            self.notes.push("fragment above the limit");
            return Err(fault.into());
        }
        self.notes.push("upload above the limit");
        let untouched = table.is_untouched(id.key());
        if let Some(pin) = ended_by_refusal(&range, &found, request.target(), untouched)
            && self.reaches(pin.backend)
        {
            let named = pin.backend_session.as_deref().unwrap_or(id.as_str());
            if self.cancel(pin.backend, &request.cancel(named), rng, network) {
                self.notes.push(ENDED_BY_SIZE);
                table.end(id.key(), EndReason::Cancelled)?;
            }
        }
        Err(fault.into())
    }

    /// Why the owner of a packet was not chosen.
    ///
    /// # Errors
    /// The fault itself, if it does not say that the owner is away.
    fn absent(&self, owner: BackendId, fault: Fault, steady: u64) -> Result<Owner, Fault> {
        match fault {
            Fault::BackendDown => Ok(Owner::Down(self.absence(owner, steady))),
            Fault::BackendRemoved => {
                let missing = Duration::from_secs(steady - self.begun);
                Ok(Owner::Missing(Absence::of(missing, false)))
            }
            fault => Err(fault),
        }
    }

    pub fn absence(&self, backend: BackendId, steady: u64) -> Absence {
        match self.down_since[backend.0 as usize] {
            Some(since) => Absence::of(Duration::from_secs(steady - since), false),
            // It is there, and an operator keeps it from serving.
            None => Absence::Kept,
        }
    }

    /// The one right backend does not serve: `Ok(false)` if it came back while the request was held,
    /// `Ok(true)` if another one is to take the session.
    #[expect(clippy::too_many_arguments, reason = "all of them are one request")]
    fn wait_for(
        &mut self,
        owner: BackendId,
        absent: Owner,
        packet: &RequestPacket,
        table: &mut Table,
        rng: &mut Rng,
        time: Time,
        network: &mut dyn Network,
    ) -> Result<bool, Stop> {
        let key = packet.session().map(SessionId::key);
        let held = Held {
            waited: Duration::ZERO,
            ends_or_moves: ends_or_moves(Some(packet.packet_type()), key.is_some()),
            superseded: false,
        };
        match self.scenario.failover.rule().step(absent, &held) {
            Step::Reassign => Ok(true),
            Step::Restart => {
                let key = key.expect("no upload ends by what names none");
                self.given_up.push((key.clone(), owner, absent));
                table.end(key, EndReason::Lost)?;
                Err(Fault::BackendGivenUp.into())
            }
            Step::Wait(_) if network.comes_back(owner, rng) => {
                self.came_back(owner, time.steady);
                Ok(false)
            }
            Step::Wait(_) => Err(Fault::BackendDown.into()),
            Step::Later(fault) => Err(fault.into()),
        }
    }

    pub fn came_back(&mut self, backend: BackendId, steady: u64) {
        self.probed(backend.0 as usize, true, steady);
        self.revise();
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
}

fn loads(table: &Table) -> impl Fn(BackendId) -> u64 {
    move |id| {
        let pins = table.pins.values().filter(|(pin, _)| pin.backend == id);
        pins.count() as u64
    }
}

/// An answer of the gateway's own.
pub fn answer_of(fault: Fault, request: &Request) -> response::Parts {
    let mut answer = http::Response::builder().status(fault.row().status);
    let session = packet::session_of(&request.head.headers);
    for (field, value) in ack_headers(fault, session.as_ref()) {
        answer = answer.header(&field.name, value);
    }
    answer.body(()).expect("legal head").into_parts().0
}
