//! TLS and the PROXY protocol, in front of the gateway and behind it.

mod certificates;
mod clients;
mod handshakes;
mod names;
mod proxies;
mod renewal;
mod upstream;
mod whole;
