//! Servers, gateways and clients together, the troubles they meet, and what must hold all along.

use std::collections::{BTreeMap, VecDeque};

use gateway_core::farm::{AdminState, BackendId, Health};
use gateway_core::protocol::{SessionId, SessionKey};
use gateway_core::routing::UnknownSession;
use http::response;

use crate::client::{Client, Event, Kind};
use crate::farm::{ASKED, Farm, Truth};
use crate::gateway::{Connection, Fate, Gateway, Slot, Table};
use crate::rng::Rng;
use crate::scenario::{HostIds, Ids, Scenario, Tables};
use crate::server::{Request, Server, Tag, header};

/// Errors in a row after which a client's user loses patience.
const PATIENCE: u32 = 60;

/// How often something happened; a run in which nothing does proves nothing.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Counts(pub BTreeMap<&'static str, u64>);

impl Counts {
    pub fn add(&mut self, what: &'static str) {
        *self.0.entry(what).or_default() += 1;
    }

    pub fn merge(&mut self, other: &Self) {
        for (what, count) in &other.0 {
            *self.0.entry(what).or_default() += count;
        }
    }
}

/// The last that happened, for whoever reads a failure.
#[derive(Debug, Default)]
pub struct Trace {
    lines: VecDeque<String>,
    /// Of everything, so that two runs can be compared.
    pub hash: u64,
}

impl Trace {
    fn note(&mut self, line: String) {
        for byte in line.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        self.lines.push_back(line);
        if self.lines.len() > 60 {
            self.lines.pop_front();
        }
    }

    pub fn print(&self) {
        for line in &self.lines {
            eprintln!("{line}");
        }
    }
}

pub struct World<'t> {
    scenario: Scenario,
    rng: Rng,
    now: u64,
    farm: Farm,
    gateways: Vec<Gateway>,
    tables: Vec<Table>,
    clients: Vec<Client>,
    pub counts: Counts,
    trace: &'t mut Trace,
}

impl<'t> World<'t> {
    pub fn new(seed: u64, trace: &'t mut Trace) -> Self {
        let mut rng = Rng::new(seed);
        let scenario = Scenario::of(&mut rng);
        trace.note(format!("{scenario:?}"));
        let servers = (0..scenario.servers).map(|n| Server::new(n, scenario.ids, &mut rng));
        let servers: Vec<_> = servers.collect();
        let slot = |_| Slot { configured: true, admin: AdminState::Ready, weight: 1 };
        let mut slots: Vec<_> = (0..scenario.servers).map(slot).collect();
        slots.iter_mut().for_each(|slot| slot.weight = rng.pick(&[1, 1, 2, 5]));
        let lossy = scenario.tables == Tables::Lossy;
        let tables = if lossy { scenario.gateways } else { 1 };
        let shared = scenario.shares_paths();
        Self {
            gateways: (0..scenario.gateways).map(|_| Gateway::new(&scenario, &slots)).collect(),
            tables: (0..tables).map(|_| Table::default()).collect(),
            clients: (0..scenario.clients).map(|n| Client::new(n, shared, &mut rng)).collect(),
            farm: Farm { servers, slots, truth: BTreeMap::new(), loss: scenario.loss, lossy },
            now: 0,
            counts: Counts::default(),
            rng,
            scenario,
            trace,
        }
    }

    pub fn run(&mut self, steps: u32) {
        for _ in 0..steps {
            self.now += 1;
            if self.rng.chance(self.scenario.trouble) {
                self.trouble();
            } else {
                let client = self.rng.below(self.clients.len());
                self.turn(client, false);
            }
        }
        self.calm();
    }

    /// Everything works again, so every upload must come to its end.
    fn calm(&mut self) {
        self.trace.note("calm".to_owned());
        self.farm.loss = 0;
        self.farm.servers.iter_mut().for_each(|server| server.alive = true);
        self.tables.iter_mut().for_each(|table| table.down = false);
        for slot in &mut self.farm.slots {
            (slot.configured, slot.admin) = (true, AdminState::Ready);
        }
        for gateway in &mut self.gateways {
            gateway.health.fill(Health::Up);
            gateway.reload(&self.farm.slots);
        }
        for client in 0..self.clients.len() {
            self.clients[client].failures = 0;
            let ended = self.clients[client].ended;
            for _ in 0..20_000 {
                self.now += 1;
                self.turn(client, true);
                if self.clients[client].ended > ended {
                    break;
                }
            }
            assert!(self.clients[client].ended > ended, "client {client} never ends");
        }
    }

    fn turn(&mut self, client: usize, calm: bool) {
        if self.clients[client].retry_at <= self.now {
            self.exchange(client);
            self.lose_patience(client, calm);
        }
    }

    fn exchange(&mut self, number: usize) {
        let client = &mut self.clients[number];
        let (kind, request) = client.request(self.gateways.len(), &mut self.rng, self.now);
        if kind == Kind::Create {
            let truth = Truth { file: client.file.clone(), delivered: false };
            self.farm.truth.insert(request.tag, truth);
        }
        let mut connection = client.connection.expect("a client connects before it sends");
        let lost = self.rng.chance(self.farm.loss);
        let mut answer = None;
        let facts = self.facts(&request, connection.gateway);
        if !lost {
            let table = if self.farm.lossy { connection.gateway } else { 0 };
            let farm = &mut self.farm;
            let counts = &mut self.counts;
            let mut send = |backend: BackendId, request: &Request, rng: &mut Rng| {
                farm.send(backend, request, rng, counts)
            };
            let made = self.gateways[connection.gateway].handle(
                &request,
                &mut connection,
                &mut self.tables[table],
                &mut self.rng,
                self.now,
                &mut send,
            );
            answer = Some(made).filter(|_| !self.rng.chance(self.farm.loss));
        }
        let client = &mut self.clients[number];
        let status = answer.as_ref().map_or(0, |answer: &response::Parts| answer.status.as_u16());
        let event = match &answer {
            Some(answer) => {
                client.connection = Some(connection);
                client.answered(kind, answer, &mut self.rng, self.now)
            }
            None => client.broken(&mut self.rng, self.now),
        };
        let host = header(&request, "Host");
        let now = self.now;
        self.trace.note(format!(
            "{now}: {:?} {kind:?} to {host} by {connection:?}: {status} {event:?}",
            request.tag
        ));
        self.count(kind, status, event, &facts);
        // A server that is there, if draining, serves what it has.
        let ours = answer.is_some_and(|answer| answer.headers.contains_key("BITS-Packet-Type"));
        assert!(!(ours && status == 503 && facts.pinned && facts.reachable), "turned away");
        self.check(number, &request, event, &facts);
    }

    /// Somebody has learned the id of a session, though not to where it uploads.
    fn pry(&mut self) {
        let victim = self.rng.below(self.clients.len());
        let gateway = self.rng.below(self.gateways.len());
        let Some(session) = &self.clients[victim].session else { return };
        let table = &mut self.tables[if self.farm.lossy { gateway } else { 0 }];
        let nobody = Tag { client: usize::MAX, attempt: 0 };
        for kind in ["Cancel-Session", "Close-Session"] {
            let request = http::Request::builder()
                .method("BITS_POST")
                .uri("/other")
                .header("Host", "up.test");
            let request =
                request.header("BITS-Packet-Type", kind).header("BITS-Session-Id", &session.id);
            let head = request.body(()).expect("legal head").into_parts().0;
            let request = Request { head, body: Vec::new(), tag: nobody };
            let mut connection = Connection::default();
            // A server knows the destination of a session too.
            let mut send = |_: BackendId, request: &Request, _: &mut Rng| {
                assert!(request.head.headers.contains_key(ASKED), "the intruder gets through");
                Fate::Answered(not_found())
            };
            let gateway = &mut self.gateways[gateway];
            let answer = gateway.handle(
                &request,
                &mut connection,
                table,
                &mut self.rng,
                self.now,
                &mut send,
            );
            assert!([500, 503].contains(&answer.status.as_u16()), "{answer:?}");
            self.counts.add("intruder refused");
        }
    }

    fn count(&mut self, kind: Kind, status: u16, event: Event, facts: &Facts) {
        self.counts.add(match event {
            Event::Pinged => "pinged",
            Event::Opened => "opened",
            Event::Acknowledged(_) if status == 416 => "sent back",
            Event::Acknowledged(_) => "stored",
            Event::TooLarge => "too large",
            Event::Restarted => "restarted",
            Event::Finished => "finished",
            Event::Cancelled => "cancelled",
            Event::Retries => "retries",
        });
        if matches!(event, Event::Acknowledged(_)) {
            self.counts.add(match (facts.pinned, facts.alias) {
                (true, None) => "stored by pin alone",
                (true, Some(_)) => "stored by pin and alias",
                (false, Some(_)) => "stored by alias alone",
                (false, None) => "stored by asking",
            });
        }
        if kind != Kind::Create && facts.alias.is_some_and(|a| Some(a) != facts.owner) {
            self.counts.add("under the alias of another backend");
        }
    }

    /// What is so before a request is handled.
    fn facts(&self, request: &Request, gateway: usize) -> Facts {
        let owner = self.farm.owner(request.tag);
        let table = if self.farm.lossy { gateway } else { 0 };
        let key = SessionId::parse(header(request, "BITS-Session-Id")).map(|id| id.key().clone());
        let pin = key.and_then(|key| self.tables[table].pins.get_key_value(&key));
        let pin = pin.filter(|_| !self.tables[table].down);
        Facts {
            owner: owner.as_ref().map(|(backend, _)| *backend),
            alias: self.gateways[gateway].alias(request),
            table,
            pinned: pin.is_some(),
            pin: pin.map(|(key, (pin, _))| (key.clone(), self.gateways[gateway].has(pin.backend))),
            translated: owner.is_some_and(|(_, id)| id != header(request, "BITS-Session-Id")),
            stored: self.farm.stored(request.tag),
            configured: owner.is_some_and(|(backend, _)| self.gateways[gateway].has(backend)),
            reachable: owner.is_some_and(|(backend, _)| self.gateways[gateway].reaches(backend)),
        }
    }

    fn check(&mut self, number: usize, request: &Request, event: Event, facts: &Facts) {
        match event {
            Event::Acknowledged(offset) => self.check_stored(request, offset, facts),
            Event::Restarted => {
                // Only the table knew better than the alias, or that there was a session at all.
                let lost = self.farm.lossy && !facts.pinned;
                let asked = self.scenario.policy.unknown == UnknownSession::Ask;
                let found = asked && facts.alias.is_none() && facts.stored > 0;
                let misled = (facts.alias != facts.owner && !found) || facts.translated;
                assert!(
                    facts.owner.is_none() || !facts.configured || (lost && misled),
                    "told to start over without need: {facts:?}"
                );
                if let Some((key, true)) = &facts.pin {
                    let pins = &self.tables[facts.table].pins;
                    assert!(!pins.contains_key(key), "a pin outlives its session");
                }
            }
            Event::Opened => self.check_opened(number),
            Event::Finished => {
                assert!(self.farm.truth[&request.tag].delivered, "finished and not delivered");
            }
            _ => {}
        }
        if matches!(event, Event::Finished | Event::Cancelled) {
            let shared = self.scenario.shares_paths();
            self.clients[number].next_upload(shared, &mut self.rng);
        }
        if !self.farm.lossy {
            self.check_pin(number);
        }
    }

    /// Every byte that was acknowledged lies at the server that owns the session.
    fn check_stored(&self, request: &Request, offset: u64, facts: &Facts) {
        let (owner, _) = self.farm.owner(request.tag).expect("an acknowledged session lives");
        let (_, upload) = self.farm.servers[owner.0 as usize].find(request.tag).expect("its owner");
        let file = &self.farm.truth[&request.tag].file;
        assert_eq!(upload.data.len() as u64, offset, "another offset than the server's");
        assert!(file.starts_with(&upload.data), "stored other bytes than were sent");
        let id = SessionId::parse(header(request, "BITS-Session-Id")).expect("a legal id");
        let table = &self.tables[facts.table];
        if !table.down {
            let (pin, progress) =
                table.pins.get(id.key()).expect("what was seen to live is pinned");
            assert_eq!((pin.backend, progress.next_offset), (owner, offset));
            assert_eq!((progress.seen.0, progress.total), (self.now, file.len() as u64));
        }
    }

    fn check_opened(&mut self, number: usize) {
        let session = self.clients[number].session.clone().expect("just opened");
        let key = SessionId::parse(&session.id).expect("a legal id").key().clone();
        let (owner, id) = self.farm.owner(session.tag).expect("just opened");
        if id != session.id {
            self.counts.add("minted");
        }
        let gateway = self.tables.iter().filter_map(|table| table.pins.get(&key));
        let known = gateway.filter(|(pin, _)| {
            pin.backend == owner && pin.backend_session.as_deref().unwrap_or(&session.id) == id
        });
        assert_eq!(known.count(), 1, "the client knows of a session that no table has");
        for (_, other) in self.clients.iter().enumerate().filter(|(n, _)| *n != number) {
            if let Some(other) = &other.session {
                let same = SessionId::parse(&other.id).is_some_and(|id| *id.key() == key);
                assert!(!same || self.farm.owner(other.tag).is_none(), "one id for two sessions");
            }
        }
    }

    /// A pin that was handed out stays for as long as its session does.
    fn check_pin(&self, number: usize) {
        let Some(session) = &self.clients[number].session else { return };
        let Some((owner, backend_id)) = self.farm.owner(session.tag) else { return };
        let key = SessionId::parse(&session.id).expect("a legal id").key().clone();
        let (pin, _) = self.tables[0].pins.get(&key).expect("a pin that was handed out is gone");
        assert_eq!(pin.backend, owner);
        assert_eq!(pin.backend_session.as_deref().unwrap_or(&session.id), backend_id);
    }

    fn lose_patience(&mut self, number: usize, calm: bool) {
        let client = &mut self.clients[number];
        let waits = self.scenario.policy.unknown == UnknownSession::Wait;
        if client.failures < PATIENCE || !(calm || waits) {
            return;
        }
        let lives = client.session.as_ref().is_some_and(|s| self.farm.owner(s.tag).is_some());
        let stuck = !waits || client.session.is_none() || (lives && !self.farm.lossy);
        assert!(!calm || !stuck, "nothing is wrong and client {number} makes no progress");
        self.counts.add("waited in vain");
        client.next_upload(self.scenario.shares_paths(), &mut self.rng);
    }

    fn trouble(&mut self) {
        let rng = &mut self.rng;
        let server = rng.below(self.farm.servers.len());
        let gateway = rng.below(self.gateways.len());
        let what = rng.below(9);
        self.trace
            .note(format!("{}: trouble {what}, server {server}, gateway {gateway}", self.now));
        match what {
            0 => self.farm.servers[server].alive = rng.chance(85),
            1 => {
                // Without its disk, or of this session only.
                let uploads = &mut self.farm.servers[server].uploads;
                if rng.chance(30) {
                    uploads.clear();
                } else {
                    uploads.pop_first();
                }
            }
            2 | 3 => {
                let alive = self.farm.servers[server].alive;
                self.gateways[gateway].health[server] =
                    if alive { Health::Up } else { Health::Down };
            }
            4 => {
                let states =
                    [AdminState::Ready, AdminState::Ready, AdminState::Drain, AdminState::Maint];
                self.farm.slots[server].admin = rng.pick(&states);
            }
            5 => self.farm.slots[server].configured = rng.chance(70),
            6 => {
                if self.farm.lossy && rng.chance(80) {
                    self.tables[gateway] = Table::default();
                }
                let health = self.gateways[gateway].health.clone();
                self.gateways[gateway] = Gateway::new(&self.scenario, &self.farm.slots);
                self.gateways[gateway].health = health;
                for client in &mut self.clients {
                    client.connection.take_if(|connection| connection.gateway == gateway);
                }
            }
            7 => self.pry(),
            _ => {
                let outages = self.scenario.tables == Tables::DurableWithOutages;
                self.tables[0].down = outages && rng.chance(40);
            }
        }
        for gateway in &mut self.gateways {
            gateway.reload(&self.farm.slots);
        }
    }
}

#[derive(Debug)]
struct Facts {
    /// Where the session lives, if it does.
    owner: Option<BackendId>,
    alias: Option<BackendId>,
    /// Number of the table of the gateway asked.
    table: usize,
    /// Whether that has its pin.
    pinned: bool,
    /// The pin's key, and whether its server is in the gateway's configuration.
    pin: Option<(SessionKey, bool)>,
    /// How many bytes of it its server has.
    stored: usize,
    /// Whether its server knows it by another id.
    translated: bool,
    /// Whether the gateway asked has its server in its configuration.
    configured: bool,
    /// Whether it also thinks that its server serves the sessions it has.
    reachable: bool,
}

fn not_found() -> response::Parts {
    let answer = http::Response::builder().status(500).header("BITS-Error", "0x8020001F");
    answer.body(()).expect("legal head").into_parts().0
}

impl Scenario {
    /// Whether clients upload to one path. Not where servers also name sessions alike: an id that
    /// was given up by one session and taken by another of the same path is one that a client
    /// who has not heard of the end of its own may still use.
    fn shares_paths(&self) -> bool {
        self.ids != Ids::Colliding && self.host_ids != HostIds::None
    }
}
