//! What is measured.

use crate::load::{Closed, Packet, Sessions};
use crate::peers::{Peer, Program};
use crate::run::Figure;

/// One table.
pub struct Case {
    pub name: &'static str,
    pub title: &'static str,
    pub load: Load,
    pub peers: fn(&Peer) -> bool,
}

#[derive(Clone, Copy, Debug)]
pub enum Load {
    Closed(Closed),
    Sessions(Sessions),
}

const SESSION: &str =
    "One session a connection: Create-Session, a Fragment of 1 KiB, Close-Session";
const TLS_SESSION: &str = "One session a connection over TLS, with a full handshake";

#[rustfmt::skip]
pub const CASES: &[Case] = &[
    plain("ping", "Ping", Packet::Ping, 64, 300),
    plain("1k", "Fragment of 1 KiB, head and body in one send", fragment(KIB), 64, 300),
    plain("1k-apart", "Fragment of 1 KiB, head and body apart", APART, 64, 300),
    plain("64k", "Fragment of 64 KiB", fragment(64 * KIB), 64, 60),
    plain("1m", "Fragment of 1 MiB", fragment(1024 * KIB), 16, 20),
    plain("16m", "Fragment of 16 MiB", fragment(16 * 1024 * KIB), 8, 3),
    session("session", SESSION, false),
    secure("tls-64k", "Fragment of 64 KiB over TLS", fragment(64 * KIB), 64, 40),
    secure("tls-1m", "Fragment of 1 MiB over TLS", fragment(1024 * KIB), 16, 10),
    session("tls-session", TLS_SESSION, true),
];

const KIB: usize = 1024;

const APART: Packet = Packet::Fragment { length: KIB, apart: true };

const fn fragment(length: usize) -> Packet {
    Packet::Fragment { length, apart: false }
}

const fn plain(
    name: &'static str,
    title: &'static str,
    packet: Packet,
    connections: usize,
    packets: usize,
) -> Case {
    let load = Load::Closed(Closed { packet, connections, packets, tls: false });
    Case { name, title, load, peers: carries }
}

const fn secure(
    name: &'static str,
    title: &'static str,
    packet: Packet,
    connections: usize,
    packets: usize,
) -> Case {
    let load = Load::Closed(Closed { packet, connections, packets, tls: true });
    Case { name, title, load, peers: carries_tls }
}

const fn session(name: &'static str, title: &'static str, tls: bool) -> Case {
    let load = Load::Sessions(Sessions { at_once: 64, sessions: 30, tls });
    let peers = if tls { opens_tls } else { opens };
    Case { name, title, load, peers }
}

/// No Fragment touches the store.
fn carries(peer: &Peer) -> bool {
    !matches!(peer.program, Program::Gateway { durable: true, .. })
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

impl Load {
    /// The columns of its table. What is cheap or dear is said of the first one.
    pub fn figures(self) -> &'static [Figure] {
        use Figure::*;
        match self {
            Self::Closed(_) => &[CpuPerPacketUs, PacketsPerSecond, P50Us, P99Us, PeakMib],
            Self::Sessions(_) => &[CpuPerSessionUs, SessionsPerSecond, P50Us, P99Us, PeakMib],
        }
    }

    /// A part of the load, in percent of it.
    pub fn scaled(self, percent: usize) -> Self {
        let part = |amount: usize| (amount * percent / 100).max(1);
        match self {
            Self::Closed(load) => Self::Closed(Closed { packets: part(load.packets), ..load }),
            Self::Sessions(load) => {
                Self::Sessions(Sessions { sessions: part(load.sessions), ..load })
            }
        }
    }
}
