//! How many connections each client has open.

use std::net::IpAddr;
use std::sync::Arc;

use dashmap::DashMap;
use gateway_core::protocol::client::ClientKey;

/// Counts by client. Who has no connection has no entry.
#[derive(Debug, Default)]
pub struct Addresses {
    open: DashMap<ClientKey, u32>,
}

/// One connection of a client, until it is dropped.
#[derive(Debug)]
pub struct Counted {
    addresses: Arc<Addresses>,
    client: ClientKey,
}

/// The client has as many as it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

impl Addresses {
    /// `None` where nothing is counted: a `limit` of 0 is none.
    pub fn enter(
        self: &Arc<Self>,
        client: Option<IpAddr>,
        limit: u32,
    ) -> Result<Option<Counted>, Full> {
        let Some(client) = client.filter(|_| limit > 0) else { return Ok(None) };
        let client = ClientKey::of(client);
        let mut open = self.open.entry(client).or_insert(0);
        if *open >= limit {
            return Err(Full);
        }
        *open += 1;
        drop(open);
        Ok(Some(Counted { addresses: Arc::clone(self), client }))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if let Some(mut open) = self.addresses.open.get_mut(&self.client) {
            *open -= 1;
        }
        self.addresses.open.remove_if(&self.client, |_, open| *open == 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_client_has_its_own_count_and_nothing_is_kept_of_who_has_left() {
        let addresses = Arc::new(Addresses::default());
        let enter = |text: &str| addresses.enter(Some(text.parse().unwrap()), 2);
        let first = enter("2001:db8::1").unwrap();
        let second = enter("2001:db8::2").unwrap();
        assert_eq!(enter("2001:db8::3").unwrap_err(), Full);
        let other = enter("192.0.2.1").unwrap();
        drop(first);
        let third = enter("2001:db8::3").unwrap();
        assert!(enter("2001:db8::1").is_err());
        drop((second, third, other));
        assert!(addresses.open.is_empty());
    }

    #[test]
    fn without_a_limit_nothing_is_counted() {
        let addresses = Arc::new(Addresses::default());
        assert!(addresses.enter(Some("192.0.2.1".parse().unwrap()), 0).unwrap().is_none());
        assert!(addresses.open.is_empty());
    }
}
