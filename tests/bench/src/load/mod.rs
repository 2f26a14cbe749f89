//! Clients that send packets and check every Ack.

mod client;
mod closed;
mod open;
pub mod pins;
mod sessions;
mod throttled;

pub use client::{Client, NAME, Session, Target};
pub use closed::{Closed, Packet, close, closed};
pub use open::{Due, Open, connect, open};
pub use pins::Pins;
pub use sessions::{Sessions, sessions};
pub use throttled::{Throttled, throttled};

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
