//! Rounds: in each, every peer carries the same load, one after the other, so that what changes on the machine changes for all.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio_rustls::rustls::ClientConfig;

use crate::cases::{Case, Load};
use crate::load::{self, Closed, Sent, Sessions, Target};
use crate::meter::{Meter, Usage};
use crate::peers::{Peer, Running, Setup};
use crate::progress;
use crate::sink::{Farm, Packets};
use crate::stats::quantile;

/// A round of one peer that takes longer has failed.
const DEADLINE: Duration = Duration::from_secs(300);

/// A figure of one peer in one round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Figure {
    CpuPerPacketUs,
    CpuPerSessionUs,
    PacketsPerSecond,
    SessionsPerSecond,
    P50Us,
    P99Us,
    /// Over what the processes held before their first client.
    PeakMib,
}

impl Figure {
    /// The name in the JSON.
    pub fn key(self) -> String {
        let name = serde_json::to_value(self).expect("a name");
        name.as_str().expect("a name").to_owned()
    }

    /// The head of its column.
    pub fn title(self) -> &'static str {
        match self {
            Self::CpuPerPacketUs => "processor time per packet, µs",
            Self::CpuPerSessionUs => "processor time per session, µs",
            Self::PacketsPerSecond => "packets per second",
            Self::SessionsPerSecond => "sessions per second",
            Self::P50Us => "p50, µs",
            Self::P99Us => "p99, µs",
            Self::PeakMib => "peak over idle, MiB",
        }
    }
}

pub type Figures = BTreeMap<Figure, f64>;

pub struct Bench {
    pub setup: Setup,
    pub farm: Farm,
    pub runtime: Runtime,
    pub tls: Arc<ClientConfig>,
    pub rounds: usize,
    pub percent: usize,
}

/// What one peer did in one case.
pub struct Row {
    pub peer: Peer,
    /// One of each round.
    pub rounds: Vec<Figures>,
    /// Why there are no figures that count.
    pub void: Option<String>,
}

impl Bench {
    pub fn run(&self, case: &Case, peers: &[Peer]) -> Vec<Row> {
        let mut rows: Vec<Row> = Vec::new();
        let mut running = Vec::new();
        for peer in peers.iter().filter(|peer| (case.peers)(peer)) {
            let (started, void) = match peer.start(&self.setup) {
                Ok(started) => (Some(started), None),
                Err(why) => (None, Some(why)),
            };
            running.push(started);
            rows.push(Row { peer: *peer, rounds: Vec::new(), void });
        }
        for round in 0..self.rounds {
            for turn in 0..rows.len() {
                // Each is the first one once: what the one before left behind falls on all.
                let place = (turn + round) % rows.len();
                let (row, peer) = (&mut rows[place], &running[place]);
                let (None, Some(peer)) = (&row.void, peer) else { continue };
                progress!(
                    "{}: round {} of {}, {}",
                    case.name,
                    round + 1,
                    self.rounds,
                    row.peer.name
                );
                match self.round(case.load.scaled(self.percent), peer) {
                    Ok(figures) => row.rounds.push(figures),
                    Err(why) => {
                        progress!("{}: {} is void: {why}", case.name, row.peer.name);
                        row.void = Some(why);
                    }
                }
            }
        }
        rows
    }

    fn round(&self, load: Load, peer: &Running) -> Result<Figures, String> {
        self.farm.take_errors();
        let before = self.farm.arrived();
        let figures = match load {
            Load::Closed(load) => self.closed(load, peer),
            Load::Sessions(load) => self.sessions(load, peer),
        };
        // What a server saw says more than what the client got for it.
        if let Some(error) = self.farm.take_errors().first() {
            return Err(error.clone());
        }
        let (figures, sent) = figures?;
        expect(self.farm.arrived().since(before), sent)?;
        Ok(figures)
    }

    fn closed(&self, load: Closed, peer: &Running) -> Result<(Figures, Packets), String> {
        let target = self.target(peer, load.tls);
        let mut clients = self.wait(load.warm_up(&target))?;
        let mut sent = Packets::default();
        clients.iter_mut().for_each(|client| sent += client.take_sent());
        let meter = Meter::begin(&peer.pids()?).map_err(said)?;
        let (clients, Sent { packets, latencies }) = self.wait(load::closed(load, clients))?;
        let usage = meter.end().map_err(said)?;
        sent += packets;
        sent += self.wait(load::close(clients))?;
        let names = (Figure::CpuPerPacketUs, Figure::PacketsPerSecond);
        Ok((figures(names, latencies, usage, peer), sent))
    }

    fn sessions(&self, load: Sessions, peer: &Running) -> Result<(Figures, Packets), String> {
        let target = self.target(peer, load.tls);
        let warm_up = Sessions { sessions: 1, ..load };
        let mut sent = self.wait(load::sessions(warm_up, &target))?.packets;
        let meter = Meter::begin(&peer.pids()?).map_err(said)?;
        let Sent { packets, latencies } = self.wait(load::sessions(load, &target))?;
        let usage = meter.end().map_err(said)?;
        sent += packets;
        let names = (Figure::CpuPerSessionUs, Figure::SessionsPerSecond);
        Ok((figures(names, latencies, usage, peer), sent))
    }

    fn target(&self, peer: &Running, tls: bool) -> Target {
        match tls {
            true => Target { address: peer.tls, tls: Some(Arc::clone(&self.tls)) },
            false => Target { address: peer.plain, tls: None },
        }
    }

    fn wait<T>(&self, work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
        let ended = self.runtime.block_on(async { tokio::time::timeout(DEADLINE, work).await });
        ended.map_err(|_| format!("not done after {DEADLINE:?}"))?
    }
}

/// By the names of the processor time for each that ended, and of their rate.
fn figures(
    (cpu, rate): (Figure, Figure),
    mut latencies: Vec<Duration>,
    usage: Usage,
    peer: &Running,
) -> Figures {
    let count = latencies.len() as f64;
    let mut figures = Figures::from([
        (rate, count / usage.wall.as_secs_f64()),
        (Figure::P50Us, micros(quantile(&mut latencies, 0.5))),
        (Figure::P99Us, micros(quantile(&mut latencies, 0.99))),
    ]);
    // There is no proxy between a client and its server.
    if usage.cpu > Duration::ZERO {
        figures.insert(cpu, micros(usage.cpu) / count);
        figures.insert(Figure::PeakMib, mib(usage.peak_bytes.saturating_sub(peer.idle_bytes)));
    }
    figures
}

/// Every packet arrived once, with all its bytes.
fn expect(arrived: Packets, sent: Packets) -> Result<(), String> {
    if arrived == sent {
        Ok(())
    } else {
        Err(format!("{sent:?} was acknowledged, and {arrived:?} arrived"))
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
