//! A gateway without sockets: asks the core, obeys it, keeps a table.

use std::collections::HashMap;
use std::time::Duration;

use gateway_core::farm::{AdminState, Announce, Backend, BackendId, FarmView, Health};
use gateway_core::fault::{Fault, ack_headers};
use gateway_core::protocol::host::{Host, key_of};
use gateway_core::protocol::{
    RequestPacket, SessionId, SessionKey, ids, packet, read_ack, read_request,
};
use gateway_core::rewrite::{Edit, Identity, edits};
use gateway_core::routing::ask::{Doubts, Said, Verdict, judge, question};
use gateway_core::routing::retry::is_repeatable;
use gateway_core::routing::{Decision, Evidence, Failure, Lookup, Why, decide, may_retry};
use gateway_core::session::{
    Effects, Observed, Opened, Pin, Progress, TargetHash, Timestamp, observe,
};
use http::{HeaderValue, response};

use crate::farm::ASKED;
use crate::rng::Rng;
use crate::scenario::{HostIds, Scenario};
use crate::server::Request;

/// The pins, with what is known of each upload.
#[derive(Default)]
pub struct Table {
    pub pins: HashMap<SessionKey, (Pin, Progress)>,
    /// Cannot be asked or written to.
    pub down: bool,
}

impl Table {
    fn find(&self, id: Option<&SessionId<'_>>) -> Lookup {
        match id {
            None => Lookup::NotAsked,
            Some(_) if self.down => Lookup::StoreDown,
            Some(id) => match self.pins.get(id.key()) {
                Some((pin, _)) => Lookup::Pinned(pin.clone()),
                None => Lookup::Unknown,
            },
        }
    }

    /// Insert if absent; whether it was.
    fn pin(&mut self, key: &SessionKey, pin: Pin) -> Result<bool, Fault> {
        if self.down {
            return Err(Fault::StoreDown);
        }
        let absent = !self.pins.contains_key(key);
        if absent {
            self.pins.insert(key.clone(), (pin, Progress::default()));
        }
        Ok(absent)
    }

    fn progress(&mut self, key: &SessionKey, progress: Progress) {
        if let Some((_, known)) = self.pins.get_mut(key) {
            *known = progress;
        }
    }
}

/// What the operator has configured and switched.
#[derive(Debug, Clone, Copy)]
pub struct Slot {
    pub configured: bool,
    pub admin: AdminState,
    pub weight: u32,
}

/// What the network made of a try to reach a server.
pub enum Fate {
    Unreachable,
    /// The connection broke; whether it came from the pool is the server's to abuse.
    Broken {
        reused: bool,
    },
    Answered(response::Parts),
}

/// A client's connection, as the gateway remembers it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Connection {
    pub gateway: usize,
    pub backend: Option<BackendId>,
}

pub struct Gateway {
    view: FarmView,
    /// What its probes say.
    pub health: Vec<Health>,
    turn: u64,
    doubts: Doubts,
    scenario: Scenario,
}

impl Gateway {
    pub fn new(scenario: &Scenario, slots: &[Slot]) -> Self {
        let health = vec![Health::Up; slots.len()];
        let view = FarmView::default();
        let mut gateway =
            Self { view, health, turn: 0, doubts: Doubts::default(), scenario: scenario.clone() };
        gateway.reload(slots);
        gateway
    }

    pub fn reload(&mut self, slots: &[Slot]) {
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

    /// One request from its head to its answer.
    pub fn handle(
        &mut self,
        request: &Request,
        connection: &mut Connection,
        table: &mut Table,
        rng: &mut Rng,
        now: u64,
        send: &mut dyn FnMut(BackendId, &Request, &mut Rng) -> Fate,
    ) -> response::Parts {
        let packet = read_request(&request.head, false).expect("an honest client is understood");
        match self.forward(&packet, request, connection, table, rng, now, send) {
            Ok(answer) => answer,
            Err(fault) => {
                let mut answer = http::Response::builder().status(fault.row().status);
                let session = packet::session_of(&request.head.headers);
                for (field, value) in ack_headers(fault, session.as_ref()) {
                    answer = answer.header(&field.name, value);
                }
                answer.body(()).expect("legal head").into_parts().0
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "all of them are one request")]
    fn forward(
        &mut self,
        packet: &RequestPacket<'_>,
        request: &Request,
        connection: &mut Connection,
        table: &mut Table,
        rng: &mut Rng,
        now: u64,
        send: &mut dyn FnMut(BackendId, &Request, &mut Rng) -> Fate,
    ) -> Result<response::Parts, Fault> {
        let mut lookup = table.find(packet.session());
        let target = TargetHash::of(request.head.uri.path().as_bytes());
        let mut avoid = Vec::new();
        for attempt in 1.. {
            let decision =
                self.decide(packet, request, connection, table, (&lookup, target, &avoid));
            let (backend, why) = match decision {
                Decision::Forward { backend, why } => (backend, why),
                Decision::Answer(fault) => return Err(fault),
                Decision::Ask => {
                    let owner = self.ask(packet, request, rng, now, send)?;
                    let place = Place { backend: owner, target, pin: None, now };
                    let key = packet.session().map(SessionId::key).expect("it has an id");
                    table.pin(key, place.new_pin(None))?;
                    lookup = table.find(packet.session());
                    if !matches!(&lookup, Lookup::Pinned(pin) if pin.target == target) {
                        return Err(Fault::UnknownSession);
                    }
                    continue;
                }
            };
            let mut sent = request.clone();
            let pin = match &lookup {
                Lookup::Pinned(pin) if why == Why::Pin => Some(pin),
                _ => None,
            };
            if let Some(id) = pin.and_then(|pin| pin.backend_session.as_deref()) {
                let id = HeaderValue::from_str(id).expect("it came in a header");
                sent.head.headers.insert("BITS-Session-Id", id);
            }
            let again = match send(backend, &sent, rng) {
                Fate::Answered(answer) => {
                    connection.backend = Some(backend);
                    let place = Place { backend, target, pin, now };
                    return self.learn(packet, answer, place, table, rng);
                }
                Fate::Unreachable => {
                    avoid.push(backend);
                    true
                }
                Fate::Broken { reused } => may_retry(
                    is_repeatable(packet),
                    Failure { reused, answered: false, body_whole: true },
                ),
            };
            if !again || attempt == 4 {
                return Err(Fault::BackendFailed);
            }
        }
        unreachable!("the last attempt returns")
    }

    fn decide(
        &mut self,
        packet: &RequestPacket<'_>,
        request: &Request,
        connection: &Connection,
        table: &Table,
        (lookup, target, avoid): (&Lookup, TargetHash, &[BackendId]),
    ) -> Decision {
        let evidence = Evidence {
            lookup,
            target,
            alias: self.alias(request),
            connection: connection.backend,
            room: true,
            avoid,
            hash: target.0,
            turn: self.turn,
        };
        self.turn += 1;
        let loads = |id| {
            let pins = table.pins.values().filter(|(pin, _)| pin.backend == id);
            pins.count() as u64
        };
        decide(packet, &evidence, &self.view, self.scenario.policy, &loads)
    }

    /// Asks every backend whether it has the session of a packet that nothing else tells of.
    fn ask(
        &mut self,
        packet: &RequestPacket<'_>,
        request: &Request,
        rng: &mut Rng,
        now: u64,
        send: &mut dyn FnMut(BackendId, &Request, &mut Rng) -> Fate,
    ) -> Result<BackendId, Fault> {
        let range = question(packet).expect("a small file");
        let mut asked = request.clone();
        asked.body = vec![0];
        let fields = &mut asked.head.headers;
        let value = |text: String| HeaderValue::from_str(&text).expect("legal");
        fields.insert("BITS-Packet-Type", HeaderValue::from_static("Fragment"));
        fields.insert("Content-Length", HeaderValue::from_static("1"));
        fields.insert(ASKED, HeaderValue::from_static("yes"));
        let written = format!("bytes {}-{}/{}", range.first(), range.first(), range.total());
        fields.insert("Content-Range", value(written));
        let said: Vec<_> = self
            .view
            .backends()
            .iter()
            .map(|backend| {
                let fate = if backend.is_reachable() {
                    send(backend.id, &asked, rng)
                } else {
                    Fate::Unreachable
                };
                let said = match fate {
                    Fate::Answered(answer) => Said::of(&read_ack(&answer)),
                    _ => Said::Unclear(Duration::ZERO),
                };
                (backend.id, said)
            })
            .collect();
        let now = Duration::from_secs(now);
        match judge(&said, &mut self.doubts, now, Duration::MAX) {
            Verdict::Owner(owner, _) => Ok(owner),
            Verdict::Nobody => Err(Fault::UnknownSession),
            Verdict::Unclear => Err(Fault::SessionNotHere),
            Verdict::Empty(owner) => {
                let mut cancel = request.clone();
                cancel.body.clear();
                let fields = &mut cancel.head.headers;
                fields.insert("BITS-Packet-Type", HeaderValue::from_static("Cancel-Session"));
                fields.insert("Content-Length", HeaderValue::from_static("0"));
                fields.remove("Content-Range");
                match send(owner, &cancel, rng) {
                    Fate::Answered(answer) => {
                        let ack = read_ack(&answer);
                        let gone = ack.is_success() || ack.is_session_not_found();
                        Err(if gone { Fault::UnknownSession } else { Fault::SessionNotHere })
                    }
                    _ => Err(Fault::SessionNotHere),
                }
            }
        }
    }

    fn learn(
        &self,
        packet: &RequestPacket<'_>,
        mut answer: response::Parts,
        place: Place<'_>,
        table: &mut Table,
        rng: &mut Rng,
    ) -> Result<response::Parts, Fault> {
        let ack = read_ack(&answer);
        let pinned = place.pin.is_some();
        let observed =
            Observed { packet, ack: &ack, pinned, doubtful: table.down, now: Timestamp(place.now) };
        let key = packet.session().map(SessionId::key);
        let mut public_id = None;
        match (observe(&observed), key) {
            (Effects::Opened(opened), _) => public_id = self.open(&opened, &place, table, rng)?,
            (Effects::Refuse(fault), _) => return Err(fault),
            (Effects::Progress(progress), Some(key)) => table.progress(key, progress),
            (Effects::Adopt(progress), Some(key)) => {
                // It goes on without the pin, should there be no table to write it to.
                let _ = table.pin(key, place.new_pin(None));
                table.progress(key, progress);
            }
            // A pin that cannot be removed now lingers until it expires.
            (Effects::Ended(_), Some(key)) if !table.down => {
                table.pins.remove(key);
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
            match edit {
                Edit::Remove(field) => {
                    answer.headers.remove(&field.name);
                }
                Edit::Set(field, value) => {
                    answer.headers.insert(&field.name, value);
                }
            }
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
    ) -> Result<Option<String>, Fault> {
        if let Some(id) = opened.id.as_ref().filter(|_| !self.scenario.minted)
            && table.pin(id.key(), place.new_pin(None))?
        {
            return Ok(None);
        }
        let minted = ids::mint(rng.guid());
        let key = SessionId::parse(&minted).expect("a minted id is legal").key().clone();
        let absent = table.pin(&key, place.new_pin(Some(opened.backend_session)))?;
        assert!(absent, "a minted id is new");
        Ok(Some(minted))
    }
}

/// Where a packet went and what is written down about that.
struct Place<'a> {
    backend: BackendId,
    target: TargetHash,
    pin: Option<&'a Pin>,
    now: u64,
}

impl Place<'_> {
    fn new_pin(&self, backend_session: Option<&str>) -> Pin {
        Pin {
            backend: self.backend,
            backend_session: backend_session.map(Into::into),
            target: self.target,
            created: Timestamp(self.now),
        }
    }
}
