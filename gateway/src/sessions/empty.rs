//! Sessions without a byte: which of them may give way when the table is full, and what their
//! servers have to be told.

use std::time::Duration;

use gateway_core::protocol::SessionKey;
use gateway_core::session::limits::{Idleness, Sample, may_evict};
use gateway_core::session::{EndReason, Pin, Timestamp};

use super::{Ended, Session, Sessions};

/// Sessions that are looked out at once. There is a next look when they are used up.
const BATCH: usize = 4096;

/// Bytes that are kept of where sessions without a byte were opened: some 100,000 of them. Without
/// that a session cannot be cancelled at its server.
pub(super) const BIRTHS: u64 = 16 * 1024 * 1024;

/// A session that is to give way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evictable {
    pub pin: Pin,
    /// Where its server knows it. `None` for one that this process has not opened itself, or of too
    /// many: its server cannot be told.
    pub birth: Option<Birth>,
}

/// How a session is named to its server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Birth {
    /// Of the request that opened it.
    pub target: Vec<u8>,
    /// As the server wrote it: what is kept of a GUID is not its spelling.
    pub id: String,
}

impl Birth {
    /// A target has no space in it.
    fn to_bytes(&self) -> Vec<u8> {
        [&*self.target, b" ", self.id.as_bytes()].concat()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let space = bytes.iter().position(|&byte| byte == b' ')?;
        let id = String::from_utf8(bytes[space + 1..].to_vec()).ok()?;
        Some(Self { target: bytes[..space].to_vec(), id })
    }
}

impl Sessions {
    /// Remembers where a session was opened, for as long as it has no byte.
    pub fn keep_birth(&self, key: &SessionKey, birth: &Birth) {
        if let Some(mut session) = self.live.get_mut(key)
            && session.is_untouched()
        {
            let birth = birth.to_bytes();
            if self.births.take(&birth) {
                session.rare_mut().birth = Some(birth.into());
            }
        }
    }

    /// Its first packet has come, or it has gone.
    pub(super) fn drop_birth(&self, session: &mut Session) {
        if let Some(rare) = &mut session.rare
            && let Some(birth) = rare.birth.take()
        {
            self.births.give(&birth);
            if rare.is_empty() {
                session.rare = None;
            }
        }
    }

    /// Sessions that may give way, in the order in which they are to. Walks the whole map.
    pub fn look_for_evictable(
        &self,
        now: Timestamp,
        steady: Duration,
        chance: u64,
    ) -> Vec<SessionKey> {
        let mut sample = Sample::new(BATCH, chance);
        if !self.follows_others() {
            self.live.each(|key, session| {
                if may_evict(session.idleness(now, steady)) {
                    sample.offer(session.client, (session.created, key.clone()));
                }
            });
        }
        sample.into_order().into_iter().map(|(_, key)| key).collect()
    }

    /// The session, if it may give way. Nobody must be able to begin a request of it meanwhile.
    pub fn evictable(
        &self,
        key: &SessionKey,
        now: Timestamp,
        steady: Duration,
    ) -> Option<Evictable> {
        let session = self.live.get(key)?;
        if self.follows_others() || !may_evict(session.idleness(now, steady)) {
            return None;
        }
        let birth = session.rare.as_ref().and_then(|rare| rare.birth.as_deref());
        Some(Evictable { pin: session.pin(), birth: birth.and_then(Birth::from_bytes) })
    }

    /// Ends a session that has given way. On the disk it ends soon.
    pub fn give_way(&self, key: &SessionKey, pin: &Pin) -> Option<Ended> {
        let same = |_: &SessionKey, session: &Session| session.pin() == *pin;
        let (key, session) = self.live.remove_if(key, same)?;
        self.store.end_soon(&key, session.created, None);
        Some(self.ended(key, session, EndReason::Evicted))
    }
}

impl Session {
    /// As far as the table knows: of requests under way it does not.
    fn idleness(&self, now: Timestamp, steady: Duration) -> Idleness {
        Idleness {
            empty: self.is_untouched(),
            busy: false,
            wall: now.since(self.created),
            steady: steady.saturating_sub(self.heard_of()),
        }
    }
}

#[cfg(test)]
#[path = "empty_tests.rs"]
mod tests;
