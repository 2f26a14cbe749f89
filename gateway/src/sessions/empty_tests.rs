//! Which sessions give way, and what is kept for them.

use std::sync::Arc;

use gateway_core::farm::BackendId;
use gateway_core::protocol::SessionId;
use gateway_core::protocol::client::ClientKey;
use gateway_core::session::limits::PerClient;
use gateway_core::session::{Binding, TargetHash};

use super::super::text_budget::TextBudget;
use super::*;

const HOUR: Duration = Duration::from_secs(3600);

fn key(id: &str) -> SessionKey {
    SessionId::parse(id).unwrap().key().clone()
}

fn pin() -> Pin {
    Pin {
        backend: BackendId(0),
        backend_session: None,
        binding: Binding::unspelled(TargetHash(7)),
        created: Timestamp(0),
        subject: None,
    }
}

/// Opens a session of a client at the beginning of time.
async fn open(sessions: &Arc<Sessions>, client: u8, id: &str) {
    let client = Some(ClientKey::of([192, 0, 2, client].into()));
    let mut place = Some(sessions.places().reserve(client, PerClient::Unlimited).unwrap());
    let pinned =
        sessions.pin_opened(&mut place, key(id), pin(), Timestamp(0), Duration::ZERO).await;
    assert_eq!(pinned.unwrap(), crate::sessions::Pinned::New);
    assert!(place.is_none(), "the session has it");
    sessions.keep_birth(&key(id), &birth(id));
}

fn birth(id: &str) -> Birth {
    Birth { target: b"/in/a.bin?x=1".to_vec(), id: id.to_owned() }
}

fn look(sessions: &Sessions, age: Duration) -> Vec<SessionKey> {
    let wall = Timestamp(u64::try_from(age.as_millis()).unwrap());
    sessions.look_for_evictable(wall, age, 7)
}

#[tokio::test]
async fn what_is_empty_and_old_gives_way_and_is_told_where_it_was_opened() {
    let sessions = Sessions::new(10, Duration::ZERO);
    for (client, id) in [(1, "a"), (2, "b"), (2, "c"), (2, "begun")] {
        open(&sessions, client, id).await;
    }
    sessions.find_and_touch(Some(&key("begun")), Duration::ZERO);
    assert!(look(&sessions, HOUR - Duration::from_secs(1)).is_empty());
    assert_eq!(look(&sessions, HOUR), [key("b"), key("a"), key("c")]);
    let (now, steady) = (Timestamp(3_600_000), HOUR);
    assert_eq!(sessions.evictable(&key("begun"), now, steady), None);
    assert_eq!(sessions.evictable(&key("a"), Timestamp(0), steady), None);
    let found = sessions.evictable(&key("b"), now, steady).unwrap();
    assert_eq!(found, Evictable { pin: pin(), birth: Some(birth("b")) });
    let ended = sessions.give_way(&key("b"), &found.pin).unwrap();
    assert_eq!((ended.reason, sessions.len()), (EndReason::Evicted, 3));
    assert_eq!(sessions.give_way(&key("b"), &found.pin), None);
    // Its place is free, and nothing is kept of it.
    let cost = TextBudget::cost(&birth("a").to_bytes());
    assert_eq!(sessions.births.used(), 2 * cost);
    for id in ["a", "c", "begun"] {
        sessions.unpin(&key(id), EndReason::Lost, steady).await.unwrap();
    }
    assert_eq!(sessions.births.used(), 0);
    assert_eq!(sessions.places().taken(), 0);
}
