//! Room in a full table whose sessions may have ended elsewhere.
//!
//! With `sessions.shared_farm`, packets of a session pass other gateways too, and this one is not
//! told of its end there. So a full table is full of pins that nobody needs any more, among others,
//! and the one that has been silent the longest makes room. Nothing is said to its server: the
//! session may be in use there. If it is, its next packet is asked for and gets its pin again.

use std::collections::VecDeque;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use gateway_core::protocol::SessionKey;
use gateway_core::session::EndReason;
use parking_lot::Mutex;

use super::{Ended, Session, Sessions};

/// One walk of the table finds so many of its sessions to evict, one after the other: a 64th.
const SHARE: usize = 64;

type Told = Box<dyn Fn(&Ended) + Send + Sync>;

#[derive(Default)]
pub(super) struct Eviction {
    on: AtomicBool,
    /// The sessions that had been silent the longest at the last walk, from the longest on, each with
    /// the second in which it was last heard of. Who is heard of again is passed over, and nobody
    /// else can become older than these, so they stay the longest silent ones.
    next: Mutex<VecDeque<(SessionKey, u32)>>,
    told: OnceLock<Told>,
}

impl Sessions {
    /// Whether other gateways with tables of their own serve the same farm. Counts from now on.
    pub fn set_shared_farm(&self, shared: bool) {
        self.eviction.on.store(shared, Ordering::Relaxed);
    }

    /// Has `told` called for every pin that makes room. The first one counts.
    pub fn tell_of_evictions(&self, told: impl Fn(&Ended) + Send + Sync + 'static) {
        let _ = self.eviction.told.set(Box::new(told));
    }

    pub fn evicts(&self) -> bool {
        self.eviction.on.load(Ordering::Relaxed)
    }

    /// Drops the pin that has been silent the longest; false if there is none, or none may go.
    pub fn evict(&self) -> bool {
        if !self.evicts() {
            return false;
        }
        let mut next = self.eviction.next.lock();
        for walked in [false, true] {
            if walked {
                *next = self.longest_silent();
            }
            while let Some((key, heard)) = next.pop_front() {
                let silent = |_: &SessionKey, session: &Session| heard_in(session) == heard;
                if let Some((key, session)) = self.live.remove_if(&key, silent) {
                    drop(next);
                    self.store.end_soon(&key, session.created, None);
                    let ended = self.ended(key, session, EndReason::Evicted);
                    if let Some(told) = self.eviction.told.get() {
                        told(&ended);
                    }
                    return true;
                }
            }
        }
        false
    }

    /// Walks the whole map, twice.
    fn longest_silent(&self) -> VecDeque<(SessionKey, u32)> {
        let mut heard = Vec::new();
        self.live.each(|_, session| heard.push(heard_in(session)));
        if heard.is_empty() {
            return VecDeque::new();
        }
        let wanted = heard.len().div_ceil(SHARE);
        let (older, &mut last, _) = heard.select_nth_unstable(wanted - 1);
        // All of the same second are as good as each other, and may be the whole table.
        let mut of_last = wanted - older.iter().filter(|&&second| second < last).count();
        let mut found = Vec::with_capacity(wanted);
        self.live.each(|key, session| {
            let second = heard_in(session);
            if second < last || (second == last && of_last > 0) {
                of_last -= usize::from(second == last);
                found.push((key.clone(), second));
            }
        });
        found.sort_unstable_by_key(|&(_, second)| second);
        found.into()
    }
}

fn heard_in(session: &Session) -> u32 {
    session.heard_at()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use gateway_core::farm::BackendId;
    use gateway_core::protocol::SessionId;
    use gateway_core::routing::{Loads, Lookup};
    use gateway_core::session::{Binding, Pin, Progress, TargetHash, Timestamp};

    use super::*;
    use crate::sessions::Pinned;

    fn key(number: u64) -> SessionKey {
        SessionId::parse(&format!("s{number}")).expect("a legal id").key().clone()
    }

    fn pin() -> Pin {
        let (target, created) = (TargetHash(7), Timestamp(1));
        Pin {
            backend: BackendId(0),
            backend_session: None,
            binding: Binding::unspelled(target),
            created,
            subject: None,
        }
    }

    fn full(limit: u64) -> Arc<Sessions> {
        let sessions = Sessions::new(limit, Duration::from_secs(60));
        sessions.set_shared_farm(true);
        sessions
    }

    impl Sessions {
        async fn open_at(&self, number: u64, second: u64) {
            let steady = Duration::from_secs(second);
            let pinned = self.pin(key(number), pin(), Progress::default(), steady).await;
            assert_eq!(pinned.expect("there is room"), Pinned::New);
        }

        fn has(&self, number: u64) -> bool {
            matches!(self.find(Some(&key(number))), Lookup::Pinned(_))
        }
    }

    #[tokio::test]
    async fn the_longest_silent_pin_makes_room() {
        for limit in [1, 2, 64, 65, 200] {
            let sessions = full(limit);
            let evicted = Arc::new(Mutex::new(Vec::new()));
            let told = Arc::clone(&evicted);
            sessions.tell_of_evictions(move |ended| {
                assert_eq!(ended.reason, EndReason::Evicted);
                told.lock().push(ended.key.clone());
            });
            let total = limit * 3 + 1;
            for number in 0..total {
                assert!(sessions.room());
                sessions.open_at(number, number).await;
                assert!(sessions.len() <= limit);
            }
            let expected: Vec<_> = (0..total - limit).map(key).collect();
            assert_eq!(*evicted.lock(), expected, "from the longest silent on");
            assert!((total - limit..total).all(|number| sessions.has(number)));
            assert_eq!(sessions.sessions(BackendId(0)), limit);
        }
    }

    #[tokio::test]
    async fn who_is_heard_of_stays() {
        let sessions = full(100);
        for number in 0..100 {
            sessions.open_at(number, number).await;
        }
        // The first walk finds two, of which one is heard of before its turn comes.
        sessions.open_at(100, 100).await;
        assert!(!sessions.has(0));
        let progress = Progress { next_offset: 1, total: 2, seen: Timestamp(1) };
        assert!(sessions.progress(&key(1), progress, Duration::from_secs(101)));
        sessions.find_and_touch(Some(&key(2)), Duration::from_secs(101));
        for number in 101..110 {
            sessions.open_at(number, number).await;
        }
        assert!(sessions.has(1) && sessions.has(2));
        assert!((3..12).all(|number| !sessions.has(number)));
    }

    #[tokio::test]
    async fn a_table_of_one_second_makes_room_too() {
        let sessions = full(50);
        for number in 0..400 {
            sessions.open_at(number, 1).await;
        }
        assert_eq!(sessions.len(), 50);
        // The second of a session that was just opened is marked.
        let mut place = None;
        let opened =
            sessions.pin_opened(&mut place, key(400), pin(), Timestamp(1), Duration::from_secs(1));
        assert_eq!(opened.await.expect("there is room"), Pinned::New);
        for number in 401..500 {
            sessions.open_at(number, 1).await;
        }
        assert_eq!(sessions.len(), 50);
    }

    #[tokio::test]
    async fn a_session_that_is_found_again_has_its_place_too() {
        let sessions = full(2);
        for number in 0..2 {
            sessions.open_at(number, number).await;
        }
        let steady = Duration::from_secs(5);
        let found = sessions.adopt(key(2), pin(), Progress::default(), steady).await;
        assert_eq!(found.expect("there is room"), Pinned::New);
        assert!(!sessions.has(0) && sessions.has(1) && sessions.has(2));
    }

    #[tokio::test]
    async fn a_gateway_alone_evicts_nobody() {
        let sessions = Sessions::new(1, Duration::from_secs(60));
        sessions.open_at(0, 0).await;
        assert!(!sessions.room());
        let steady = Duration::from_secs(9);
        assert!(sessions.pin(key(1), pin(), Progress::default(), steady).await.is_err());
        assert!(sessions.adopt(key(1), pin(), Progress::default(), steady).await.is_err());
        assert!(sessions.has(0));
    }
}
