//! Names to addresses, as the test says. Never real DNS.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, RwLock};

use super::packet::Url;

/// Host names and where they lead. Clones share one table, so a test can move a name while an upload runs.
#[derive(Clone, Debug, Default)]
pub struct Resolver {
    names: Arc<RwLock<HashMap<String, Vec<SocketAddr>>>>,
    turn: Arc<AtomicUsize>,
}

impl Resolver {
    /// Knows no name; literal loopback addresses resolve to themselves.
    pub fn new() -> Self {
        Self::default()
    }

    pub fn with(self, name: &str, address: SocketAddr) -> Self {
        self.set(name, address);
        self
    }

    pub fn set(&self, name: &str, address: SocketAddr) {
        self.set_in_turn(name, &[address]);
    }

    /// A name of several addresses, one for each connection, as by a balancer that takes turns.
    pub fn set_in_turn(&self, name: &str, addresses: &[SocketAddr]) {
        assert!(!addresses.is_empty(), "{name} leads nowhere");
        self.table().insert(key(name), addresses.to_vec());
    }

    pub fn remove(&self, name: &str) {
        self.table().remove(&key(name));
    }

    /// A copy with the same names, all leading to `address`: for a fault link in front of what they named.
    pub fn via(&self, address: SocketAddr) -> Self {
        let table = self.table();
        let names = table.keys().cloned().map(|name| (name, vec![address]));
        Self { names: Arc::new(RwLock::new(names.collect())), ..Self::default() }
    }

    /// Where `host` leads, or `None` for a name nobody told. The URL's port counts only for literal addresses.
    pub fn resolve(&self, host: &str, url: &Url) -> Option<SocketAddr> {
        if let Some(addresses) = self.table().get(&key(host)) {
            let turn = self.turn.fetch_add(1, Ordering::Relaxed);
            return Some(addresses[turn % addresses.len()]);
        }
        let literal = host.trim_start_matches('[').trim_end_matches(']');
        let ip: IpAddr = literal.parse().ok()?;
        // Anything else would leave this machine.
        ip.is_loopback().then(|| SocketAddr::new(ip, url.port.unwrap_or(80)))
    }

    fn table(&self) -> std::sync::RwLockWriteGuard<'_, HashMap<String, Vec<SocketAddr>>> {
        self.names.write().expect("no holder of this lock panics")
    }
}

fn key(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}
