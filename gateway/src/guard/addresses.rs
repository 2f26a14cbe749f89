//! How many connections each client has open.

use std::net::IpAddr;
use std::sync::Arc;

use dashmap::DashMap;
use gateway_core::protocol::client::ClientKey;
use gateway_core::session::limits::PerClient;

use super::Room;
use crate::telemetry::warned::Hourly;

/// Counts by client. Who has no connection has no entry.
#[derive(Debug, Default)]
pub struct Addresses {
    open: DashMap<ClientKey, u32>,
    /// Of clients that have as many as they may.
    pub warned: Hourly,
}

/// One connection of a client, until it is dropped.
#[derive(Debug)]
pub struct Counted {
    addresses: Arc<Addresses>,
    client: ClientKey,
}

/// The client has as many as it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full {
    pub held: u32,
}

impl Addresses {
    /// One more of a client in a room of which it has taken a place already. `None` where nothing
    /// is counted.
    pub fn enter(
        self: &Arc<Self>,
        client: Option<IpAddr>,
        limit: PerClient,
        room: &Room,
    ) -> Result<Option<Counted>, Full> {
        let Some(client) = client.filter(|_| limit != PerClient::Unlimited) else {
            return Ok(None);
        };
        let key = ClientKey::of(client);
        let mut open = self.open.entry(key).or_insert(0);
        let (taken, whole) = (room.taken().saturating_sub(1) as u64, room.limit() as u64);
        let held = *open;
        if limit.refuses(u64::from(held), taken, whole) {
            return Err(Full { held });
        }
        *open += 1;
        drop(open);
        Ok(Some(Counted { addresses: Arc::clone(self), client: key }))
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
        let room = Room::of(100);
        let enter =
            |text: &str| addresses.enter(Some(text.parse().unwrap()), PerClient::Most(2), &room);
        let first = enter("2001:db8::1").unwrap();
        let second = enter("2001:db8::2").unwrap();
        assert_eq!(enter("2001:db8::3").unwrap_err(), Full { held: 2 });
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
        let client = Some("192.0.2.1".parse().unwrap());
        let entered = addresses.enter(client, PerClient::Unlimited, &Room::of(1));
        assert!(entered.unwrap().is_none());
        assert!(addresses.open.is_empty());
    }
}
