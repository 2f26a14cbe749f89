//! All end-to-end tests, in one binary: it links once, and its modules share what they start.

mod acks;
mod bench;
mod client_alone;
mod farm_chaos;
mod fragments;
mod host_id;
mod misc;
mod packets;
mod pinning;
mod placement;
mod recognition;
mod replays;
mod restarts;
mod servers;
mod uploads;
