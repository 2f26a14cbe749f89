//! Connections to a backend that die while they are kept: what the gateway may send again it sends again, and what it
//! may not it sends over connections that were used a moment ago.
//!
//! [`under_packets`]: the connection dies under a packet. [`idle`]: it dies, or grows old, between two packets.
//! Items 58 and 81 of the conformance checklist, for connections that were kept.

mod idle;
mod under_packets;

use e2e_tests::farm::FarmBuilder;

/// Each thread keeps connections of its own, so packets on several connections find the same ones on
/// one thread only.
fn on_one_thread(farm: FarmBuilder) -> FarmBuilder {
    farm.set("process.threads", "1")
}
