//! What may happen to a farm.

use std::time::Duration;

use gateway_core::farm::{AdminState, BackendId, ProbeFailure};
use gateway_core::protocol::{SessionId, SessionKey};

use crate::disk::Sync;
use crate::gateway::Gateway;
use crate::scenario::{Scenario, Tables};
use crate::server::{Mood, Tag};
use crate::table::Table;
use crate::world::World;

/// `sessions.idle_timeout`, in steps.
const IDLE: u64 = 400;

/// A clock that jumps jumps by up to so many steps.
const JUMP: usize = 100 * IDLE as usize;

impl World<'_> {
    pub fn trouble(&mut self) {
        let rng = &mut self.rng;
        let server = rng.below(self.farm.servers.len());
        let gateway = rng.below(self.gateways.len());
        let on_disk = matches!(self.scenario.tables, Tables::Disk(_));
        let what = rng.below(if on_disk { 17 } else { 11 });
        self.trace
            .note(format!("{}: trouble {what}, server {server}, gateway {gateway}", self.now));
        match what {
            0 => self.farm.servers[server].alive = rng.chance(85),
            1 => {
                // Without its disk, or of this session only.
                let server = &mut self.farm.servers[server];
                let all = if self.scenario.reissues { 70 } else { 30 };
                if rng.chance(all) {
                    server.forget(self.scenario.reissues, rng);
                    if self.scenario.reissues {
                        self.begin_uploads();
                    }
                } else {
                    server.uploads.pop_first();
                }
            }
            2 => self.probe(gateway, server),
            3 => {
                let moods = [Mood::Opens, Mood::Opens, Mood::Refuses, Mood::Hangs];
                self.farm.servers[server].mood = rng.pick(&moods);
            }
            4 => {
                let states = [
                    AdminState::Ready,
                    AdminState::Ready,
                    AdminState::Drain,
                    AdminState::Maintenance,
                ];
                self.farm.slots[server].admin = rng.pick(&states);
            }
            5 => self.farm.slots[server].configured = rng.chance(70),
            6 if on_disk => self.kill(),
            6 => {
                if self.farm.lossy && rng.chance(80) {
                    self.tables[gateway] = Table::default();
                }
                let health = self.gateways[gateway].health.clone();
                self.gateways[gateway] = Gateway::new(&self.scenario, &self.farm.slots, self.now);
                self.gateways[gateway].health = health;
                for client in &mut self.clients {
                    client.connection.take_if(|connection| connection.gateway == gateway);
                    client.under_way.take_if(|older| older.connection.gateway == gateway);
                }
            }
            7 => self.pry(),
            9 => self.scenario.sizes = Scenario::sizes(rng),
            11 => self.kill(),
            12 => self.cut_power(),
            13 => {
                let disk = self.tables[0].disk.as_mut().expect("on disk");
                disk.refuses = rng.chance(50);
                disk.flush();
            }
            14 => {
                // The next row somebody waits for is the last of this process.
                let disk = self.tables[0].disk.as_mut().expect("on disk");
                disk.dies = Some(rng.chance(50));
            }
            15 => {
                let jump = i64::try_from(rng.below(JUMP)).expect("a small number");
                self.offset += if rng.chance(50) { jump } else { -jump };
                self.counts.add("clock jumped");
            }
            16 => self.sweep(),
            _ => {
                let outages = self.scenario.tables == Tables::DurableWithOutages;
                self.tables[0].down = outages && rng.chance(40);
            }
        }
        for gateway in &mut self.gateways {
            gateway.sizes = self.scenario.sizes;
            gateway.reload(&self.farm.slots);
        }
    }

    /// Clients that begin at this moment get ids that others still use.
    fn begin_uploads(&mut self) {
        for client in 0..self.clients.len() {
            if self.clients[client].session.is_none() {
                self.turn(client, false);
            }
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
        self.gateways[0] = Gateway::new(&self.scenario, &self.farm.slots, self.now);
        (0..self.farm.servers.len()).for_each(|server| self.probe(0, server));
        self.gateways[0].reload(&self.farm.slots);
        for client in &mut self.clients {
            (client.connection, client.under_way) = (None, None);
        }
    }

    fn sweep(&mut self) {
        let time = self.time();
        let idle = Duration::from_secs(IDLE);
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
