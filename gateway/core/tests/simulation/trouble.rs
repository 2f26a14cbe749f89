//! What may happen to a farm.

use std::time::Duration;

use gateway_core::farm::{AdminState, BackendId, ProbeFailure};
use gateway_core::protocol::{SessionId, SessionKey};
use gateway_core::session::Timestamp;

use crate::disk::Sync;
use crate::farm::ASKED;
use crate::gateway::{Connection, Fate, Gateway, Network, Time};
use crate::rng::Rng;
use crate::scenario::Tables;
use crate::server::{Mood, Request, Tag};
use crate::table::Table;
use crate::world::World;

/// `sessions.idle_timeout`, in steps.
const IDLE: u64 = 400;

/// A clock that jumps jumps by up to so many steps.
const JUMP: usize = 100 * IDLE as usize;

/// Behind a gateway that must not pass anything on. A session that it does not know may be asked
/// for: its server knows the destination too.
struct Nobody;

impl Network for Nobody {
    fn send(&mut self, _: BackendId, request: &Request, _: &mut Rng) -> Fate {
        assert!(request.head.headers.contains_key(ASKED), "the intruder gets through");
        let answer = http::Response::builder().status(500).header("BITS-Error", "0x8020001F");
        Fate::Answered(answer.body(()).expect("legal head").into_parts().0)
    }

    fn comes_back(&mut self, _: BackendId, _: &mut Rng) -> bool {
        false
    }
}

impl World<'_> {
    pub fn trouble(&mut self) {
        let rng = &mut self.rng;
        let server = rng.below(self.farm.servers.len());
        let gateway = rng.below(self.gateways.len());
        let on_disk = matches!(self.scenario.tables, Tables::Disk(_));
        let what = rng.below(if on_disk { 15 } else { 9 });
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
            2 => self.probe(gateway, server),
            3 => {
                let moods = [Mood::Opens, Mood::Opens, Mood::Refuses, Mood::Hangs];
                self.farm.servers[server].mood = rng.pick(&moods);
            }
            4 => {
                let states =
                    [AdminState::Ready, AdminState::Ready, AdminState::Drain, AdminState::Maint];
                self.farm.slots[server].admin = rng.pick(&states);
            }
            5 => self.farm.slots[server].configured = rng.chance(70),
            6 if on_disk => self.kill(),
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
            9 => self.kill(),
            10 => self.cut_power(),
            11 => {
                let disk = self.tables[0].disk.as_mut().expect("on disk");
                disk.refuses = rng.chance(50);
                disk.flush();
            }
            12 => {
                // The next row somebody waits for is the last of this process.
                let disk = self.tables[0].disk.as_mut().expect("on disk");
                disk.dies = Some(rng.chance(50));
            }
            13 => {
                let jump = i64::try_from(rng.below(JUMP)).expect("a small number");
                self.offset += if rng.chance(50) { jump } else { -jump };
                self.counts.add("clock jumped");
            }
            14 => self.sweep(),
            _ => {
                let outages = self.scenario.tables == Tables::DurableWithOutages;
                self.tables[0].down = outages && rng.chance(40);
            }
        }
        for gateway in &mut self.gateways {
            gateway.reload(&self.farm.slots);
        }
    }

    /// Somebody has learned the id of a session, though not to where it uploads.
    fn pry(&mut self) {
        let victim = self.rng.below(self.clients.len());
        let gateway = self.rng.below(self.gateways.len());
        let Some(session) = &self.clients[victim].session else { return };
        let table = &mut self.tables[if self.farm.lossy { gateway } else { 0 }];
        let time = Time { wall: Timestamp(self.now), steady: self.now };
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
            let gateway = &mut self.gateways[gateway];
            let answer =
                gateway.handle(&request, &mut connection, table, &mut self.rng, time, &mut Nobody);
            let answer = answer.expect("nothing is written for an intruder");
            assert!([500, 503].contains(&answer.status.as_u16()), "{answer:?}");
            self.counts.add("intruder refused");
        }
    }

    pub fn probe(&mut self, gateway: usize, server: usize) {
        let alive = self.farm.servers[server].alive;
        if alive {
            self.farm.seen_alive[server] = self.now;
        }
        self.gateways[gateway].probed(server, alive, self.now);
        let id = BackendId(u32::try_from(server).expect("few servers"));
        let mood = self.farm.servers[server].mood;
        // Of some servers, nothing but the Creates hangs.
        let outcome = match mood {
            Mood::Hangs if server.is_multiple_of(2) => Err(ProbeFailure::Timeout),
            Mood::Refuses if server.is_multiple_of(2) => Err(ProbeFailure::Status(500)),
            _ => Ok(()),
        };
        if alive {
            self.gateways[gateway].creates.pinged(id, outcome, self.now);
        }
    }

    /// SIGKILL, and another process.
    pub fn kill(&mut self) {
        self.tables[0].disk.as_mut().expect("on disk").die();
        let before = self.keys();
        self.restart();
        let after = &self.tables[0].pins;
        assert!(before.iter().all(|key| after.contains_key(key)), "a kill lost a pin");
        self.counts.add("gateway killed");
    }

    fn cut_power(&mut self) {
        let disk = self.tables[0].disk.as_mut().expect("on disk");
        disk.lose_power(&mut self.rng);
        let before = self.keys();
        self.restart();
        let after = &self.tables[0].pins;
        let lost: Vec<_> = before.into_iter().filter(|key| !after.contains_key(key)).collect();
        if self.scenario.tables == Tables::Disk(Sync::Power) {
            assert!(lost.is_empty(), "a power cut lost a pin");
        } else {
            // The operator has chosen that. Whoever has no alias that leads there starts over.
            self.excuse(&lost);
            lost.iter().for_each(|_| self.counts.add("pin lost with the power"));
            self.farm.truth.values_mut().for_each(|truth| truth.sealed = false);
        }
        self.counts.add("power cut");
    }

    fn keys(&self) -> Vec<SessionKey> {
        self.tables[0].pins.keys().cloned().collect()
    }

    fn restart(&mut self) {
        self.tables[0].restart(self.now);
        self.gateways[0] = Gateway::new(&self.scenario, &self.farm.slots);
        (0..self.farm.servers.len()).for_each(|server| self.probe(0, server));
        self.gateways[0].reload(&self.farm.slots);
        self.clients.iter_mut().for_each(|client| client.connection = None);
    }

    fn sweep(&mut self) {
        let time = self.time();
        let idle = Duration::from_millis(IDLE);
        let dropped = self.tables[0].sweep(time.wall, time.steady, idle);
        for tag in self.excuse(&dropped) {
            let silent = self.now - self.heard[&tag];
            assert!(silent >= IDLE, "expired after {silent} steps of silence");
            self.counts.add("expired");
        }
        if self.tables[0].disk.as_ref().is_some_and(|disk| disk.died) {
            self.kill();
        }
    }

    /// Who has one of these sessions may be told to start over.
    pub fn excuse(&mut self, keys: &[SessionKey]) -> Vec<Tag> {
        let sessions = self.clients.iter().filter_map(|client| client.session.as_ref());
        let named = sessions.filter(|session| {
            SessionId::parse(&session.id).is_some_and(|id| keys.contains(id.key()))
        });
        let tags: Vec<_> = named.map(|session| session.tag).collect();
        self.farm.excused.extend(&tags);
        tags
    }
}
