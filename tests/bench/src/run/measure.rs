//! One peer under one load.

use std::fs::File;
use std::io::Write;
use std::time::Duration;

use e2e_tests::clock;

use super::Bench;
use crate::cases::{Idle, Load};
use crate::figure::{Figure, Figures};
use crate::load::{self, Client, Closed, Due, Open, Pins, Sent, Sessions, Throttled, pins};
use crate::meter::{self, Meter, Usage};
use crate::peers::{Peer, Program, Running};
use crate::sink::Packets;
use crate::stats::quantile;

/// Of each of a few sessions, for enough packets in all.
const FEW_VISITS: usize = 20;

/// With what was sent in all, for the servers' account of it.
type Measured = Result<(Figures, Packets), String>;

impl Bench {
    pub(super) fn measure(&self, load: Load, row: &Peer, peer: &mut Running) -> Measured {
        match load {
            Load::Closed(load) => self.closed(load, peer),
            Load::Sessions(load) => self.sessions(load, peer),
            Load::Open(load) if load.due == Due::Fragment => self.open(load, peer),
            Load::Open(load) => self.open_sessions(load, peer),
            Load::Throttled(load) => self.throttled(load, peer),
            Load::Idle(load) => self.idle(load, peer),
            Load::Pins(load) => self.pins(load, row, peer),
        }
    }

    fn closed(&self, load: Closed, peer: &Running) -> Measured {
        let mut clients = self.wait(load.warm_up(&self.target(peer, load.tls)))?;
        let mut sent = sent_by(&mut clients);
        let meter = begin(peer)?;
        let (clients, Sent { packets, latencies }) = self.wait(load::closed(load, clients))?;
        let usage = meter.end().map_err(said)?;
        sent += packets;
        sent += self.wait(load::close(clients))?;
        let names = (Figure::CpuPerPacketUs, Figure::PacketsPerSecond);
        Ok((rated(names, latencies, usage, peer), sent))
    }

    fn sessions(&self, load: Sessions, peer: &Running) -> Measured {
        let target = self.target(peer, load.tls);
        let warm_up = Sessions { sessions: 1, ..load };
        let mut sent = self.wait(load::sessions(warm_up, &target))?.packets;
        let meter = begin(peer)?;
        let Sent { packets, latencies } = self.wait(load::sessions(load, &target))?;
        let usage = meter.end().map_err(said)?;
        sent += packets;
        let names = (Figure::CpuPerSessionUs, Figure::SessionsPerSecond);
        Ok((rated(names, latencies, usage, peer), sent))
    }

    fn open(&self, load: Open, peer: &Running) -> Measured {
        let mut clients = self.wait(load::connect(load, &self.target(peer, false)))?;
        let mut sent = sent_by(&mut clients);
        let meter = begin(peer)?;
        let (clients, times_of) = self.wait(load::open(load, clients))?;
        let usage = meter.end().map_err(said)?;
        sent += times_of.due.packets;
        sent += self.wait(load::close(clients))?;
        let mut figures = times(times_of.due.latencies);
        spent(&mut figures, Figure::CpuPerPacketUs, load.count as f64, usage, peer);
        Ok((figures, sent))
    }

    fn open_sessions(&self, load: Open, peer: &Running) -> Measured {
        let commits = self.commits().map_err(said)?;
        let mut clients = self.wait(load::connect(load, &self.target(peer, false)))?;
        let mut sent = sent_by(&mut clients);
        let (clients, times_of) = self.wait(load::open(load, clients))?;
        sent += times_of.due.packets;
        for client in clients {
            self.wait(client.disconnect())?;
        }
        let mut figures = Figures::new();
        for (mut times, p50, p99) in [
            (times_of.due.latencies, Figure::CreateP50Us, Figure::CreateP99Us),
            (times_of.followed, Figure::CloseP50Us, Figure::CloseP99Us),
            (commits, Figure::CommitP50Us, Figure::CommitP99Us),
        ] {
            figures.insert(p50, micros(quantile(&mut times, 0.5)));
            figures.insert(p99, micros(quantile(&mut times, 0.99)));
        }
        let commit = figures[&Figure::CommitP99Us];
        for (p99, ratio) in [
            (Figure::CreateP99Us, Figure::CreateToCommit),
            (Figure::CloseP99Us, Figure::CloseToCommit),
        ] {
            figures.insert(ratio, figures[&p99] / commit);
        }
        Ok((figures, sent))
    }

    /// What the disk of the stores takes for a page, one after the other.
    fn commits(&self) -> std::io::Result<Vec<Duration>> {
        const COUNT: usize = 200;
        let path = self.setup.directory.join("commits");
        let mut file = File::create(&path)?;
        // Written in advance, as the log of a database is.
        file.write_all(&vec![0; COUNT * 4096])?;
        file.sync_all()?;
        let mut file = File::options().write(true).open(&path)?;
        let mut times = Vec::with_capacity(COUNT);
        for _ in 0..COUNT {
            let began = clock::now();
            file.write_all(&[1; 4096])?;
            file.sync_data()?;
            times.push(began.elapsed());
        }
        std::fs::remove_file(path)?;
        Ok(times)
    }

    fn throttled(&self, load: Throttled, peer: &Running) -> Measured {
        let (mut clients, mut sent) = self.crowd(load.clients, 0, peer, false)?;
        sent += sent_by(&mut clients);
        let meter = begin(peer)?;
        let (clients, Sent { packets, .. }) = self.wait(load::throttled(load, clients))?;
        let usage = meter.end().map_err(said)?;
        sent += packets;
        sent += self.wait(load::close(clients))?;
        let mut figures = Figures::new();
        spent(&mut figures, Figure::CpuPerMibUs, mib(packets.body_bytes), usage, peer);
        Ok((figures, sent))
    }

    /// Clients that have open sessions and sent some Fragments of 64 KiB.
    fn crowd(
        &self,
        connections: usize,
        packets: usize,
        peer: &Running,
        tls: bool,
    ) -> Result<(Vec<Client>, Packets), String> {
        let packet = load::Packet::Fragment { length: 64 * 1024, apart: false };
        let load = Closed { packet, connections, packets, tls };
        let mut clients = self.wait(load.warm_up(&self.target(peer, tls)))?;
        let mut sent = sent_by(&mut clients);
        let (clients, more) = self.wait(load::closed(load, clients))?;
        sent += more.packets;
        Ok((clients, sent))
    }

    fn idle(&self, load: Idle, peer: &Running) -> Measured {
        let (clients, mut sent) = self.crowd(load.connections, 2, peer, load.tls)?;
        std::thread::sleep(load.wait);
        let pids = peer.pids()?;
        let held = meter::resident_of(&pids).map_err(said)?.saturating_sub(peer.idle_bytes);
        let mut figures = Figures::new();
        if !pids.is_empty() {
            let each = held as f64 / 1024.0 / load.connections as f64;
            figures.insert(Figure::KibPerConnection, each);
        }
        // They are all still there.
        sent += self.wait(load::close(clients))?;
        Ok((figures, sent))
    }

    fn pins(&self, load: Pins, row: &Peer, peer: &mut Running) -> Measured {
        let target = self.target(peer, false);
        let count = load.sessions as f64;
        let sessions = (load.sessions / 1000).max(1);
        let few = Pins { sessions, connections: load.connections.min(sessions) };
        let (some, mut sent) = self.wait(pins::create(few, &target))?;
        let packets = FEW_VISITS * few.sessions;
        let (_, visited, more) = self.visit(few, some, packets, peer)?;
        sent += more;
        let few_us = micros(visited.cpu) / packets as f64;

        // With what as many connections have left behind, which is not the table's.
        let before = meter::resident_of(&peer.pids()?).map_err(said)?;
        let meter = begin(peer)?;
        let (sessions, more) = self.wait(pins::create(load, &target))?;
        let created = meter.end().map_err(said)?;
        sent += more;
        let (sessions, visited, more) = self.visit(load, sessions, load.sessions, peer)?;
        sent += more;
        let held = meter::resident_of(&peer.pids()?).map_err(said)?;
        let visit_us = micros(visited.cpu) / count;
        let mut figures = Figures::from([
            (Figure::BytesPerPin, held.saturating_sub(before) as f64 / count),
            (Figure::CreatesPerSecond, count / created.wall.as_secs_f64()),
            (Figure::CpuPerCreateUs, micros(created.cpu) / count),
            (Figure::VisitUs, visit_us),
            (Figure::VisitFewUs, few_us),
            (Figure::VisitRatio, visit_us / few_us),
        ]);
        if matches!(row.program, Program::Gateway { durable: true, .. }) {
            peer.stop();
            let began = clock::now();
            *peer = row.start(&self.setup)?;
            figures.insert(Figure::LoadSeconds, began.elapsed().as_secs_f64());
            // The sessions are there, at their servers and at their offsets.
            let (_, _, more) = self.visit(load, sessions, load.sessions, peer)?;
            sent += more;
        }
        Ok((figures, sent))
    }

    /// The connections are there before it is measured.
    fn visit(
        &self,
        load: Pins,
        sessions: Vec<load::Session>,
        visits: usize,
        peer: &Running,
    ) -> Result<(Vec<load::Session>, Usage, Packets), String> {
        let clients = self.wait(pins::connect(load, &self.target(peer, false)))?;
        let meter = begin(peer)?;
        let (sessions, sent) = self.wait(pins::visit(clients, sessions, visits))?;
        Ok((sessions, meter.end().map_err(said)?, sent))
    }
}

fn begin(peer: &Running) -> Result<Meter, String> {
    Meter::begin(&peer.pids()?).map_err(said)
}

fn sent_by(clients: &mut [Client]) -> Packets {
    let mut sum = Packets::default();
    clients.iter_mut().for_each(|client| sum += client.take_sent());
    sum
}

/// By the names of the processor time for each, and of their rate.
fn rated(
    (cpu, rate): (Figure, Figure),
    latencies: Vec<Duration>,
    usage: Usage,
    peer: &Running,
) -> Figures {
    let count = latencies.len() as f64;
    let mut figures = times(latencies);
    figures.insert(rate, count / usage.wall.as_secs_f64());
    spent(&mut figures, cpu, count, usage, peer);
    figures
}

fn times(mut latencies: Vec<Duration>) -> Figures {
    Figures::from([
        (Figure::P50Us, micros(quantile(&mut latencies, 0.5))),
        (Figure::P99Us, micros(quantile(&mut latencies, 0.99))),
    ])
}

/// Processor time for each of `count`, and memory. There is none without a proxy.
fn spent(figures: &mut Figures, cpu: Figure, count: f64, usage: Usage, peer: &Running) {
    if usage.cpu > Duration::ZERO {
        figures.insert(cpu, micros(usage.cpu) / count);
        figures.insert(Figure::PeakMib, mib(usage.peak_bytes.saturating_sub(peer.idle_bytes)));
    }
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn said(error: std::io::Error) -> String {
    error.to_string()
}
