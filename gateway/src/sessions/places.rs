//! The places of the table: how many there are, who has them, and how many one client may have.
//!
//! A place belongs to a session, to one that is being opened, or to one that its server still has
//! though no client can know of it. So `sessions.limit` bounds what the servers hold, and not only
//! what the table does.
//!
//! Whose a session is counts in memory, from the start of the process on: of one that was restored,
//! or came back by its alias, nobody knows. So a restart may let a client have more, and never
//! fewer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dashmap::DashMap;
use gateway_core::protocol::client::ClientKey;
use gateway_core::session::limits::PerClient;

use super::uneven::{SHARDS, Uneven};

/// All places, and who has how many.
#[derive(Debug)]
pub struct Places {
    /// Those of sessions, and every [`Place`].
    taken: AtomicU64,
    /// Every [`Place`].
    held: AtomicU64,
    limit: AtomicU64,
    /// Places of each client. Who has none has no entry.
    clients: DashMap<ClientKey, u32, Uneven>,
}

/// A place that is no session's: yet, or any more. It is free again when this is dropped.
#[derive(Debug)]
pub struct Place {
    places: Arc<Places>,
    client: Option<ClientKey>,
    /// A session has it now.
    given: bool,
}

/// There is no place for one more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// For nobody.
    Full,
    /// For this client, which has so many.
    Client { has: u64 },
}

impl Places {
    pub(super) fn new(limit: u64) -> Arc<Self> {
        Arc::new(Self {
            taken: AtomicU64::new(0),
            held: AtomicU64::new(0),
            limit: AtomicU64::new(limit),
            clients: DashMap::with_hasher_and_shard_amount(Uneven::default(), SHARDS),
        })
    }

    /// Counts from now on; what is there beyond a lower limit stays.
    pub(super) fn set_limit(&self, limit: u64) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    pub fn limit(&self) -> u64 {
        self.limit.load(Ordering::Relaxed)
    }

    pub fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    pub(super) fn sessions(&self) -> u64 {
        self.taken().saturating_sub(self.held.load(Ordering::Relaxed))
    }

    /// Takes a place before the backend is asked, or many Creates at once would all find room.
    /// `None` is for a client that is not counted.
    pub fn reserve(
        self: &Arc<Self>,
        client: Option<ClientKey>,
        most: PerClient,
    ) -> Result<Place, Refused> {
        let limit = self.limit();
        if let Some(client) = client {
            let mut count = self.clients.entry(client).or_insert(0);
            let has = u64::from(*count);
            if most.refuses(has, self.taken(), limit) {
                drop(count);
                self.clients.remove_if(&client, |_, count| *count == 0);
                return Err(Refused::Client { has });
            }
            *count += 1;
        }
        let one_more = |taken: u64| (taken < limit).then_some(taken + 1);
        if self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_err() {
            self.release(client);
            return Err(Refused::Full);
        }
        Ok(self.place(client))
    }

    /// A place more than there may be: that of a session which leaves the table and is still at its
    /// server.
    pub(super) fn hold(self: &Arc<Self>, client: Option<ClientKey>) -> Place {
        self.add(client);
        self.place(client)
    }

    fn place(self: &Arc<Self>, client: Option<ClientKey>) -> Place {
        self.held.fetch_add(1, Ordering::Relaxed);
        Place { places: Arc::clone(self), client, given: false }
    }

    /// A session is there, whether there was a place for it or not.
    pub(super) fn add(&self, client: Option<ClientKey>) {
        if let Some(client) = client {
            *self.clients.entry(client).or_insert(0) += 1;
        }
        self.taken.fetch_add(1, Ordering::Relaxed);
    }

    /// A session has gone.
    pub(super) fn remove(&self, client: Option<ClientKey>) {
        self.taken.fetch_sub(1, Ordering::Relaxed);
        self.release(client);
    }

    fn release(&self, client: Option<ClientKey>) {
        let Some(client) = client else { return };
        if let Some(mut count) = self.clients.get_mut(&client) {
            *count = count.saturating_sub(1);
        }
        self.clients.remove_if(&client, |_, count| *count == 0);
    }
}

impl Place {
    pub(super) fn client(&self) -> Option<ClientKey> {
        self.client
    }

    /// A session has it from now on, and gives it back by [`Places::remove`].
    pub(super) fn give(mut self) {
        self.given = true;
        self.places.held.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.given {
            self.places.held.fetch_sub(1, Ordering::Relaxed);
            self.places.remove(self.client);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(number: u8) -> Option<ClientKey> {
        Some(ClientKey::of([192, 0, 2, number].into()))
    }

    #[test]
    fn a_client_has_so_many_places_open_or_opening() {
        let places = Places::new(100);
        let reserve = |number| places.reserve(client(number), PerClient::Most(2));
        let opening = reserve(1).unwrap();
        reserve(1).unwrap().give();
        assert_eq!(reserve(1).unwrap_err(), Refused::Client { has: 2 });
        assert!(reserve(2).is_ok());
        assert_eq!((places.taken(), places.sessions()), (2, 1));
        drop(opening);
        reserve(1).unwrap().give();
        assert!(reserve(1).is_err());
        places.remove(client(1));
        let orphan = places.hold(client(1));
        assert!(reserve(1).is_err(), "its server has it");
        drop(orphan);
        places.remove(client(1));
        assert!(places.clients.is_empty());
        assert_eq!((places.taken(), places.sessions()), (0, 0));
    }

    #[test]
    fn nobody_gets_more_than_there_is_and_nobody_is_refused_before() {
        let places = Places::new(8);
        let mut held = Vec::new();
        while let Ok(place) = places.reserve(client(1), PerClient::OneIn(4)) {
            held.push(place);
        }
        assert_eq!(held.len(), 6);
        held.push(places.reserve(client(2), PerClient::OneIn(4)).unwrap());
        held.push(places.reserve(None, PerClient::OneIn(4)).unwrap());
        assert_eq!(places.reserve(client(3), PerClient::OneIn(4)).unwrap_err(), Refused::Full);
        assert_eq!(places.reserve(None, PerClient::Unlimited).unwrap_err(), Refused::Full);
        assert_eq!(places.clients.len(), 2, "who was refused is not remembered");
        // What is at its server counts beyond the limit, and takes from it.
        held.push(places.hold(None));
        held.truncate(8);
        places.set_limit(9);
        assert!(places.reserve(client(3), PerClient::OneIn(4)).is_ok());
        drop(held);
        assert_eq!((places.taken(), places.sessions()), (0, 0));
        assert!(places.clients.is_empty());
    }
}
