//! What is measured.

use std::time::Duration;

use crate::figure::Figure;
use crate::load::{Closed, Due, Open, Packet, Pins, Sessions, Throttled};
use crate::peers::{Peer, Program};

/// One table.
pub struct Case {
    pub name: &'static str,
    pub title: &'static str,
    pub load: Load,
    pub peers: fn(&Peer) -> bool,
    /// A peer is started anew for each round, because memory that was given back may stay with a process.
    pub fresh: bool,
    /// More say nothing more of it, and take long.
    pub most_rounds: usize,
}

#[derive(Clone, Copy, Debug)]
pub enum Load {
    Closed(Closed),
    Sessions(Sessions),
    Open(Open),
    Throttled(Throttled),
    Idle(Idle),
    Pins(Pins),
}

/// Connections that have carried some packets and wait.
#[derive(Clone, Copy, Debug)]
pub struct Idle {
    pub connections: usize,
    pub tls: bool,
    pub wait: Duration,
}

#[rustfmt::skip]
pub const CASES: &[Case] = &[
    carried("ping", "Ping", Packet::Ping, 64, 300),
    carried("1k", "Fragment of 1 KiB, head and body in one send", fragment(KIB), 64, 300),
    carried("1k-apart", "Fragment of 1 KiB, head and body apart", APART, 64, 300),
    carried("64k", "Fragment of 64 KiB", fragment(64 * KIB), 64, 60),
    carried("1m", "Fragment of 1 MiB", fragment(MIB), 16, 20),
    carried("16m", "Fragment of 16 MiB", fragment(16 * MIB), 8, 3),
    session("session", "One session a connection: Create-Session, a Fragment of 1 KiB, Close-Session"),
    over_tls(carried("tls-64k", "Fragment of 64 KiB over TLS", fragment(64 * KIB), 64, 40)),
    over_tls(carried("tls-1m", "Fragment of 1 MiB over TLS", fragment(MIB), 16, 10)),
    over_tls(session("tls-session", "One session a connection over TLS, with a full handshake")),
    case("open", "Fragments of 1 KiB, 4,000 a second (open loop)", Load::Open(OPEN), carries),
    case("open-session", "Create-Session and Close-Session, 200 sessions a second (open loop)", Load::Open(OPEN_SESSION), opens),
    fresh(case("throttled", "1,000 clients that send 20 KiB a second each", Load::Throttled(THROTTLED), proxies)),
    fresh(crowd("crowd", "1,000 busy connections, Fragments of 64 KiB")),
    idle("idle", "1,000 connections that wait 10 s after traffic"),
    over_tls(idle("tls-idle", "1,000 connections over TLS that wait 10 s after traffic")),
    pins("pins", "1,000,000 pinned sessions"),
];

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

const APART: Packet = Packet::Fragment { length: KIB, apart: true };
const OPEN: Open = Open { rate: 4000, count: 20_000, connections: 64, due: Due::Fragment };
const OPEN_SESSION: Open = Open { rate: 200, count: 1000, connections: 64, due: Due::Session };
const THROTTLED: Throttled = Throttled { clients: 1000, fragments: 1 };

const fn case(
    name: &'static str,
    title: &'static str,
    load: Load,
    peers: fn(&Peer) -> bool,
) -> Case {
    Case { name, title, load, peers, fresh: false, most_rounds: usize::MAX }
}

const fn fresh(case: Case) -> Case {
    Case { fresh: true, ..case }
}

const fn over_tls(case: Case) -> Case {
    let load = match case.load {
        Load::Closed(load) => Load::Closed(Closed { tls: true, ..load }),
        Load::Sessions(load) => Load::Sessions(Sessions { tls: true, ..load }),
        Load::Idle(load) => Load::Idle(Idle { tls: true, ..load }),
        _ => panic!("it does not know TLS"),
    };
    let peers = match load {
        Load::Sessions(_) => opens_tls,
        _ => carries_tls,
    };
    Case { load, peers, ..case }
}

const fn fragment(length: usize) -> Packet {
    Packet::Fragment { length, apart: false }
}

const fn carried(
    name: &'static str,
    title: &'static str,
    packet: Packet,
    connections: usize,
    packets: usize,
) -> Case {
    let load = Closed { packet, connections, packets, tls: false };
    case(name, title, Load::Closed(load), carries)
}

const fn session(name: &'static str, title: &'static str) -> Case {
    case(name, title, Load::Sessions(Sessions { at_once: 64, sessions: 30, tls: false }), opens)
}

const fn crowd(name: &'static str, title: &'static str) -> Case {
    let load = Closed { packet: fragment(64 * KIB), connections: 1000, packets: 5, tls: false };
    case(name, title, Load::Closed(load), proxies)
}

const fn idle(name: &'static str, title: &'static str) -> Case {
    let load = Idle { connections: 1000, tls: false, wait: Duration::from_secs(10) };
    let case = case(name, title, Load::Idle(load), proxies);
    Case { fresh: true, most_rounds: 3, ..case }
}

const fn pins(name: &'static str, title: &'static str) -> Case {
    let load = Pins { sessions: 1_000_000, connections: 512 };
    let case = case(name, title, Load::Pins(load), remembers);
    Case { fresh: true, most_rounds: 3, ..case }
}

/// No Fragment touches the store.
fn carries(peer: &Peer) -> bool {
    !matches!(peer.program, Program::Gateway { durable: true, .. })
}

fn proxies(peer: &Peer) -> bool {
    peer.program != Program::Direct && carries(peer)
}

fn carries_tls(peer: &Peer) -> bool {
    carries(peer) && opens_tls(peer)
}

/// Nothing is worth splicing.
fn opens(peer: &Peer) -> bool {
    peer.program != Program::Floor { splice: true }
}

/// The servers speak no TLS, and what is encrypted cannot be spliced.
fn opens_tls(peer: &Peer) -> bool {
    peer.program != Program::Direct && opens(peer)
}

/// Those that have a table of sessions. An access log and other buffers change nothing in it.
fn remembers(peer: &Peer) -> bool {
    use Program::{Gateway, Haproxy};
    matches!(peer.program, Haproxy { large_buffers: false } | Gateway { access_log: false, .. })
}

impl Load {
    /// The columns of its table.
    pub fn figures(self) -> &'static [Figure] {
        use Figure::*;
        match self {
            Self::Closed(_) => &[CpuPerPacketUs, PacketsPerSecond, P50Us, P99Us, PeakMib],
            Self::Sessions(_) => &[CpuPerSessionUs, SessionsPerSecond, P50Us, P99Us, PeakMib],
            Self::Open(load) if load.due == Due::Fragment => {
                &[AddedP50Us, AddedP99Us, P50Us, P99Us, CpuPerPacketUs]
            }
            Self::Open(_) => &[
                CreateP50Us,
                CreateP99Us,
                CreateToCommit,
                CloseP50Us,
                CloseP99Us,
                CloseToCommit,
                CommitP50Us,
                CommitP99Us,
            ],
            Self::Throttled(_) => &[CpuPerMibUs, PeakMib],
            Self::Idle(_) => &[KibPerConnection],
            Self::Pins(_) => &[
                BytesPerPin,
                CreatesPerSecond,
                CpuPerCreateUs,
                VisitUs,
                VisitFewUs,
                VisitRatio,
                LoadSeconds,
            ],
        }
    }

    /// Those that are compared with other peers. A plot shows the first.
    pub fn compared(self) -> &'static [Figure] {
        use Figure::*;
        match self {
            Self::Closed(load) if load.connections >= 1000 => &[PeakMib, CpuPerPacketUs],
            Self::Closed(_) => &[CpuPerPacketUs],
            Self::Sessions(_) => &[CpuPerSessionUs],
            Self::Open(load) if load.due == Due::Fragment => &[AddedP50Us, AddedP99Us],
            Self::Open(_) => &[CreateP99Us, CloseP99Us],
            Self::Throttled(_) => &[CpuPerMibUs, PeakMib],
            Self::Idle(_) => &[KibPerConnection],
            Self::Pins(_) => &[BytesPerPin, CpuPerCreateUs, VisitUs],
        }
    }

    /// A part of the load, in percent of it: of what is repeated, not of what is there at once.
    pub fn scaled(self, percent: usize) -> Self {
        let part = |amount: usize| (amount * percent / 100).max(1);
        match self {
            Self::Closed(load) => Self::Closed(Closed { packets: part(load.packets), ..load }),
            Self::Sessions(load) => {
                Self::Sessions(Sessions { sessions: part(load.sessions), ..load })
            }
            Self::Open(load) => Self::Open(Open { count: part(load.count), ..load }),
            Self::Throttled(load) => {
                Self::Throttled(Throttled { fragments: part(load.fragments), ..load })
            }
            Self::Idle(load) => {
                Self::Idle(Idle { wait: load.wait.mul_f64(percent as f64 / 100.0), ..load })
            }
            Self::Pins(load) => Self::Pins(Pins { sessions: part(load.sessions), ..load }),
        }
    }
}
