//! What outlives the gateway's process: sessions, their ends, and what operators decided.

mod backup;
mod commands;
mod disks;
mod ends;
mod file_system;
mod hangs;
mod kills;
mod log;
mod missing;
mod shared;
mod startup;
mod writes;

use e2e_tests::client::{Answer, FragmentSizes, exchange};
use e2e_tests::farm::Farm;

use crate::packets::{Packet, create, fragment, session_of};

const PIECES: FragmentSizes = FragmentSizes::Fixed(10_000);

#[track_caller]
fn ask(farm: &Farm, packet: &Packet) -> Answer {
    let answer = exchange(farm.gateway().address(), &packet.bytes());
    answer.unwrap_or_else(|error| panic!("no answer to {packet:?}: {error}"))
}

/// Opens a session and sends the first 3 of 9 bytes.
#[track_caller]
fn begin(farm: &Farm, target: &str) -> String {
    let id = session_of(&ask(farm, &create(target)));
    let answer = ask(farm, &fragment(target, &id, "bytes 0-2/9", b"abc"));
    assert_eq!(answer.status, 200, "{}", answer.head);
    id
}

/// The gateway's own number of sessions.
#[track_caller]
fn sessions(farm: &Farm) -> f64 {
    farm.metric("bitsgw_sessions", &[])
}
