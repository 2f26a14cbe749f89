//! All end-to-end tests, in one binary: it links once, and its modules share what they start.

mod acks;
mod bad_input;
mod bench;
mod client_alone;
mod durable;
mod failover;
mod farm_chaos;
mod fragments;
mod host_id;
mod limits;
mod logins;
mod metrics;
mod misc;
mod operator;
mod packets;
mod pinning;
mod placement;
mod readme;
mod recognition;
mod replays;
mod restarts;
mod separation;
mod servers;
mod stale_pool;
mod tidy;
mod uploads;
