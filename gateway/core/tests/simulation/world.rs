//! Servers, gateways and clients together, the troubles they meet, and what must hold all along.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use gateway_core::farm::{AdminState, BackendId};
use gateway_core::routing::failover::Owner;
use gateway_core::routing::{Absence, UnknownSession};
use gateway_core::session::Timestamp;
use http::response;

use crate::checks::Facts;
use crate::client::{Client, Event, Kind};
use crate::disk::Disk;
use crate::farm::{Farm, Link, Storage, Truth};
use crate::gateway::{Connection, ENDED_BY_SIZE, Gateway, Slot, Time};
use crate::rng::Rng;
use crate::scenario::{Scenario, Tables, Then};
use crate::server::{Mood, Request, Server, Tag, header};
use crate::table::Table;

/// What the clock on the wall says at the begin: enough for it to jump back.
const BEGIN: u64 = 1 << 40;

/// A step takes one, in milliseconds.
pub const SECOND: u64 = 1_000;

/// Of gateways whose backends can be given up, in steps.
const PROBE_EVERY: u64 = 10;

/// Errors in a row after which a client's user loses patience.
const PATIENCE: u32 = 60;

/// How often something happened; a run in which nothing does proves nothing.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Counts(pub BTreeMap<&'static str, u64>);

impl Counts {
    pub fn add(&mut self, what: &'static str) {
        *self.0.entry(what).or_default() += 1;
    }

    pub fn of(&self, what: &str) -> u64 {
        self.0.get(what).copied().unwrap_or_default()
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
    pub fn note(&mut self, line: String) {
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

/// What became of a request at its gateway.
#[derive(Default)]
pub struct Passed {
    pub made: Option<response::Parts>,
    /// The process died over it.
    pub died: bool,
    /// A server came back while it was held.
    pub came_back: bool,
    pub connection: Connection,
}

pub struct World<'t> {
    pub scenario: Scenario,
    pub rng: Rng,
    pub now: u64,
    /// By how much the clock on the wall is wrong.
    pub offset: i64,
    pub farm: Farm,
    pub gateways: Vec<Gateway>,
    pub tables: Vec<Table>,
    pub clients: Vec<Client>,
    /// When a client last heard of its session.
    pub heard: BTreeMap<Tag, u64>,
    pub counts: Counts,
    pub trace: &'t mut Trace,
}

impl<'t> World<'t> {
    pub fn new(seed: u64, trace: &'t mut Trace) -> Self {
        let mut rng = Rng::new(seed);
        let scenario = Scenario::of(&mut rng);
        trace.note(format!("{scenario:?}"));
        let servers: Vec<_> =
            (0..scenario.servers).map(|n| Server::new(n, &scenario, &mut rng)).collect();
        let slot = |_| Slot { configured: true, admin: AdminState::Ready, weight: 1 };
        let mut slots: Vec<_> = (0..scenario.servers).map(slot).collect();
        slots.iter_mut().for_each(|slot| slot.weight = rng.pick(&[1, 1, 2, 5]));
        let lossy = scenario.tables == Tables::Lossy;
        let tables = match scenario.tables {
            Tables::Disk(sync) => vec![Table::on(Disk::new(sync))],
            Tables::Lossy => (0..scenario.gateways).map(|_| Table::default()).collect(),
            _ => vec![Table::default()],
        };
        let storage = match scenario.failover.then {
            Then::Restart => Storage::Own,
            Then::Reassign => Storage::Shared { after: scenario.failover.restart_after },
        };
        Self {
            gateways: (0..scenario.gateways).map(|_| Gateway::new(&scenario, &slots, 0)).collect(),
            tables,
            clients: (0..scenario.clients).map(|n| Client::new(n, &scenario, &mut rng)).collect(),
            farm: Farm {
                seen_alive: vec![0; servers.len()],
                servers,
                slots,
                truth: BTreeMap::new(),
                loss: scenario.loss,
                lossy,
                excused: BTreeSet::new(),
                storage,
            },
            now: 0,
            offset: 0,
            heard: BTreeMap::new(),
            counts: Counts::default(),
            rng,
            scenario,
            trace,
        }
    }

    pub fn time(&self) -> Time {
        let wall = BEGIN.checked_add_signed(self.offset).expect("a small offset") + self.now;
        Time { wall: Timestamp(wall * SECOND), steady: self.now }
    }

    pub fn run(&mut self, steps: u32) {
        for _ in 0..steps {
            self.now += 1;
            let on_disk = matches!(self.scenario.tables, Tables::Disk(_));
            if on_disk && self.now.is_multiple_of(PROBE_EVERY) {
                for server in 0..self.farm.servers.len() {
                    self.farm.servers[server].alive |= self.rng.chance(8);
                    self.probe(0, server);
                }
                self.gateways[0].reload(&self.farm.slots);
            }
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
        for server in &mut self.farm.servers {
            (server.alive, server.mood) = (true, Mood::Opens);
        }
        self.tables.iter_mut().for_each(|table| table.down = false);
        for disk in self.tables.iter_mut().filter_map(|table| table.disk.as_mut()) {
            (disk.refuses, disk.dies) = (false, None);
        }
        for slot in &mut self.farm.slots {
            (slot.configured, slot.admin) = (true, AdminState::Ready);
        }
        for gateway in 0..self.gateways.len() {
            (0..self.farm.servers.len()).for_each(|server| self.probe(gateway, server));
            self.gateways[gateway].reload(&self.farm.slots);
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

    pub fn turn(&mut self, client: usize, calm: bool) {
        if self.clients[client].retry_at <= self.now {
            self.exchange(client);
            self.lose_patience(client, calm);
        }
    }

    fn exchange(&mut self, number: usize) {
        let client = &mut self.clients[number];
        let (kind, request) = client.request(self.gateways.len(), &mut self.rng, self.now);
        if kind == Kind::Create {
            let (path, file) = (client.path.clone(), client.file.clone());
            let truth = Truth { path, file, delivered: false, sealed: false };
            self.farm.truth.insert(request.tag, truth);
        }
        let connection = client.connection.expect("a client connects before it sends");
        let joined = self.settle_older(number, &request, connection.gateway);
        let lost = self.rng.chance(self.farm.loss);
        let mut answer = None;
        let mut passed = Passed { connection, ..Passed::default() };
        let facts = self.facts(&request, connection.gateway);
        if lost {
            // Its gateway may have got it, and not know yet that its client has gone.
            self.leave_under_way(number, kind, &request, connection);
        } else if let Some(joined) = joined {
            answer = Some(joined);
        } else {
            passed = self.pass(kind, &request, connection, &facts);
            answer = passed.made.take().filter(|_| !self.rng.chance(self.farm.loss));
        }
        let Passed { connection, died, came_back, .. } = passed;
        if died {
            self.counts.add("died over a row");
            self.kill();
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
        // It may have died over this very request.
        let lives = |owner: BackendId| self.farm.servers[owner.0 as usize].alive;
        let pinned = facts.pinned_at.is_some() && facts.pinned_at == facts.owner;
        let served = pinned && facts.reachable && facts.owner.is_some_and(lives);
        assert!(!(ours && status == 503 && served), "turned away");
        if matches!(event, Event::Opened | Event::Acknowledged(_)) {
            let tag = self.clients[number].session.as_ref().map_or(request.tag, |s| s.tag);
            self.heard.insert(tag, self.now);
        }
        let serves = |backend| self.gateways[0].reaches(backend);
        let kept_away = !facts.pinned_at.or(facts.alias).is_some_and(serves);
        let troubled = self.farm.loss > 0 || died || kept_away;
        assert!(!came_back || troubled || event != Event::Retries, "held, and turned away");
        self.check(number, kind, &request, event, &facts);
    }

    /// Hands a request to its gateway.
    pub fn pass(
        &mut self,
        kind: Kind,
        request: &Request,
        mut connection: Connection,
        facts: &Facts,
    ) -> Passed {
        let time = self.time();
        let (now, farm) = (self.now, &mut self.farm);
        let pinned = facts.pinned_at.or(facts.alias);
        let mut link = Link { farm, counts: &mut self.counts, now, pinned, came_back: false };
        let gateway = &mut self.gateways[connection.gateway];
        let table = &mut self.tables[facts.table];
        let made = gateway.handle(request, &mut connection, table, &mut self.rng, time, &mut link);
        let came_back = link.came_back;
        if gateway.notes.contains(&ENDED_BY_SIZE) {
            assert_eq!(facts.stored, 0, "a limit costs bytes");
        }
        self.seal(kind, request, facts, made.as_ref());
        self.take_notes(connection.gateway);
        Passed { died: made.is_none(), made, came_back, connection }
    }

    /// Counts what the gateway noted.
    pub fn take_notes(&mut self, gateway: usize) {
        let creates = &mut self.gateways[gateway].creates;
        let seen = [&mut creates.moved, &mut creates.verdicts, &mut creates.by_pings];
        let seen = seen.map(std::mem::take);
        let names = ["create moved", "folder barred", "folder barred by pings"];
        for (what, times) in names.into_iter().zip(seen) {
            (0..times).for_each(|_| self.counts.add(what));
        }
        for note in std::mem::take(&mut self.gateways[gateway].notes) {
            self.counts.add(note);
        }
        self.excuse_given_up(gateway);
    }

    /// Notes that the gateway knows of an end for good.
    fn seal(
        &mut self,
        kind: Kind,
        request: &Request,
        facts: &Facts,
        made: Option<&response::Parts>,
    ) {
        let disk = self.tables[facts.table].disk.as_ref();
        if kind == Kind::Create
            && disk.is_some_and(|disk| disk.refuses)
            && made.is_some_and(|answer| answer.status == 503)
        {
            self.counts.add("refused for want of a disk");
        }
        let Some(truth) = self.farm.truth.get_mut(&request.tag) else { return };
        if truth.sealed && kind == Kind::Close {
            self.counts.add("repeated end acknowledged");
        }
        let acknowledged = made.is_some_and(|answer| answer.status == 200);
        let safe = disk.is_some_and(|disk| !disk.refuses);
        if safe && !facts.pinned && kind == Kind::Close && acknowledged {
            self.counts.add("ended by alias alone");
        }
        truth.sealed |= kind == Kind::Close && acknowledged && truth.delivered && safe;
    }

    /// Who was told to start over because of a backend that was away really had no backend.
    fn excuse_given_up(&mut self, gateway: usize) {
        let given_up = std::mem::take(&mut self.gateways[gateway].given_up);
        for (key, backend, absent) in given_up {
            let after = self.scenario.failover.restart_after;
            let away = match absent {
                Owner::Missing(Absence::For(missing)) => {
                    self.counts.add("missing and given up");
                    missing.as_secs()
                }
                _ => self.now - self.farm.seen_alive[backend.0 as usize],
            };
            assert!(away >= after, "given up after {away} of {after} steps");
            self.excuse(&[key]);
            self.counts.add("given up");
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
            Event::GivesUp => "gave up",
            Event::Retries => "retries",
        });
        if matches!(event, Event::Acknowledged(_)) {
            self.counts.add(match (facts.pinned, facts.alias) {
                (true, None) => "stored by pin alone",
                (true, Some(_)) => "stored by pin and alias",
                (false, Some(_)) => "stored by alias alone",
                (false, None) if facts.stored == 0 => "newborn and stored by asking",
                (false, None) => "stored by asking",
            });
        }
        if kind != Kind::Create && facts.alias.is_some_and(|a| Some(a) != facts.owner) {
            self.counts.add("under the alias of another backend");
        }
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
}
