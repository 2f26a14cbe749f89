//! Clients that send packets and check every Ack.

mod client;
mod closed;
mod sessions;

pub use client::{Client, NAME, Target};
pub use closed::{Closed, Packet, close, closed};
pub use sessions::{Sessions, sessions};

use closed::all;

use std::time::Duration;

use crate::sink::Packets;

/// What clients have sent and got an Ack for, with the time that each packet took.
#[derive(Debug, Default)]
pub struct Sent {
    pub packets: Packets,
    pub latencies: Vec<Duration>,
}

impl Sent {
    pub fn add(&mut self, other: Self) {
        self.packets += other.packets;
        self.latencies.extend(other.latencies);
    }
}
