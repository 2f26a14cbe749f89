//! How many sessions each client has.
//!
//! In memory, and from the start of the process on: a session that was restored, or came back by
//! its alias, counts for nobody. So a restart may let a client have more, and never fewer.

use std::net::IpAddr;
use std::sync::Arc;

use dashmap::DashMap;
use gateway_core::protocol::SessionKey;
use gateway_core::protocol::client::ClientKey;

#[derive(Debug, Default)]
pub struct ClientSessions {
    /// Sessions that are open or being opened. Who has none has no entry.
    counts: DashMap<ClientKey, u32>,
    owners: DashMap<SessionKey, ClientKey>,
}

/// The place of a session that is being opened.
#[derive(Debug)]
pub struct Place {
    sessions: Arc<ClientSessions>,
    client: ClientKey,
    kept: bool,
}

/// The client has as many as it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

impl ClientSessions {
    /// Takes a place before the backend is asked, or many Creates at once would all find room.
    /// A `limit` of 0 is none, and then nothing is counted.
    pub fn enter(
        self: &Arc<Self>,
        client: Option<IpAddr>,
        limit: u32,
    ) -> Result<Option<Place>, Full> {
        let Some(client) = client.filter(|_| limit > 0) else { return Ok(None) };
        let client = ClientKey::of(client);
        let mut count = self.counts.entry(client).or_insert(0);
        if *count >= limit {
            return Err(Full);
        }
        *count += 1;
        drop(count);
        Ok(Some(Place { sessions: Arc::clone(self), client, kept: false }))
    }

    /// A session has ended.
    pub fn left(&self, key: &SessionKey) {
        if let Some((_, client)) = self.owners.remove(key) {
            self.release(client);
        }
    }

    fn release(&self, client: ClientKey) {
        if let Some(mut count) = self.counts.get_mut(&client) {
            *count -= 1;
        }
        self.counts.remove_if(&client, |_, count| *count == 0);
    }
}

impl Place {
    /// The session is open.
    pub fn keep(mut self, key: SessionKey) {
        self.kept = true;
        if let Some(older) = self.sessions.owners.insert(key, self.client) {
            self.sessions.release(older);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.kept {
            self.sessions.release(self.client);
        }
    }
}

#[cfg(test)]
mod tests {
    use gateway_core::protocol::SessionId;

    use super::*;

    fn key(id: &str) -> SessionKey {
        SessionId::parse(id).unwrap().key().clone()
    }

    #[test]
    fn a_client_has_so_many_sessions_open_or_opening() {
        let sessions = Arc::new(ClientSessions::default());
        let enter = |text: &str| sessions.enter(Some(text.parse().unwrap()), 2);
        let opening = enter("192.0.2.1").unwrap().unwrap();
        enter("192.0.2.1").unwrap().unwrap().keep(key("a"));
        assert_eq!(enter("192.0.2.1").unwrap_err(), Full);
        assert!(enter("192.0.2.2").is_ok());
        drop(opening);
        enter("192.0.2.1").unwrap().unwrap().keep(key("b"));
        assert!(enter("192.0.2.1").is_err());
        for id in ["a", "b", "b", "unknown"] {
            sessions.left(&key(id));
        }
        assert!(sessions.counts.is_empty() && sessions.owners.is_empty());
    }

    #[test]
    fn without_a_limit_nothing_is_kept() {
        let sessions = Arc::new(ClientSessions::default());
        assert!(sessions.enter(Some("192.0.2.1".parse().unwrap()), 0).unwrap().is_none());
        assert!(sessions.counts.is_empty());
    }
}
