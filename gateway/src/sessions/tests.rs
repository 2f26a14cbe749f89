use std::sync::atomic::{AtomicU32, Ordering};

use gateway_core::session::{Binding, TargetHash};

use super::view::Moment;
use super::*;

const DAY: u64 = 24 * 3600;

fn key(id: &str) -> SessionKey {
    SessionId::parse(id).unwrap().key().clone()
}

fn pin(backend: u32, backend_session: Option<&str>) -> Pin {
    Pin {
        backend: BackendId(backend),
        backend_session: backend_session.map(Into::into),
        binding: Binding::unspelled(TargetHash(7)),
        created: Timestamp(0),
        subject: None,
    }
}

async fn put(sessions: &Sessions, id: &str, pin: Pin) -> Pinned {
    let pinned = sessions.pin(key(id), pin, Progress::default(), Duration::ZERO).await;
    pinned.expect("there is room")
}

#[tokio::test]
async fn a_pin_is_never_overwritten() {
    let sessions = Sessions::new(10, Duration::from_secs(DAY));
    assert_eq!(put(&sessions, "a", pin(0, None)).await, Pinned::New);
    assert_eq!(put(&sessions, "a", pin(1, None)).await, Pinned::Taken);
    assert_eq!(sessions.find(Some(&key("a"))), Lookup::Pinned(pin(0, None)));
    assert_eq!((sessions.sessions(BackendId(0)), sessions.sessions(BackendId(1))), (1, 0));
}

#[tokio::test]
async fn counts_follow_the_map() {
    let sessions = Sessions::new(10, Duration::from_secs(DAY));
    put(&sessions, "a", pin(0, None)).await;
    put(&sessions, "b", pin(1, None)).await;
    let ended = sessions.unpin(&key("a"), EndReason::Closed, Duration::ZERO).await.unwrap();
    assert_eq!(ended.reason, EndReason::Closed);
    assert_eq!(sessions.unpin(&key("a"), EndReason::Closed, Duration::ZERO).await, None);
    assert_eq!((sessions.len(), sessions.sessions(BackendId(0))), (1, 0));
    assert_eq!(sessions.find(Some(&key("a"))), Lookup::Ended(TargetHash(7)));
    assert_eq!(sessions.find(Some(&key("c"))), Lookup::Unknown);
    assert_eq!(sessions.find(None), Lookup::NotAsked);
}

#[tokio::test]
async fn a_full_table_takes_no_more() {
    let sessions = Sessions::new(1, Duration::from_secs(DAY));
    put(&sessions, "a", pin(0, None)).await;
    assert!(!sessions.room());
    let refused = sessions.pin(key("b"), pin(0, None), Progress::default(), Duration::ZERO).await;
    assert!(matches!(refused, Err(PinError::Full { limit: 1 })));
}

/// Threat: T21.
#[tokio::test]
async fn silence_ends_a_session_and_progress_renews_it() {
    let sessions = Sessions::new(10, Duration::from_secs(DAY));
    put(&sessions, "quiet", pin(0, None)).await;
    put(&sessions, "busy", pin(0, None)).await;
    let days = |n| Duration::from_secs(n * DAY);
    let at = |n: u64| Timestamp(n * DAY * 1000);
    let progress = Progress { next_offset: 1, total: 2, seen: at(10) };
    sessions.progress(&key("busy"), progress, days(10));
    assert_eq!(sessions.sweep_expired(at(13), days(13), days(14)), []);
    let ended = sessions.sweep_expired(at(14), days(14), days(14));
    assert_eq!(ended.iter().map(|e| &e.key).collect::<Vec<_>>(), [&key("quiet")]);
    assert_eq!(ended[0].reason, EndReason::Expired);
    // The wall clock alone proves nothing, and one that was set back ends nobody either.
    assert_eq!(sessions.sweep_expired(at(100), days(15), days(14)), []);
    assert_eq!(sessions.sweep_expired(at(0), days(100), days(14)), []);
    assert_eq!(sessions.len(), 1);
}

#[tokio::test]
async fn replies_are_found_by_the_backends_id() {
    let sessions = Sessions::new(10, Duration::from_secs(DAY));
    put(&sessions, "plain", pin(0, None)).await;
    put(&sessions, "minted-1", pin(1, Some("same"))).await;
    put(&sessions, "minted-2", pin(2, Some("same"))).await;
    let owner = |id, preferred| match sessions.reply_owner(&key(id), preferred, |_| true) {
        ReplyOwner::Backend(backend) => Some(backend),
        ReplyOwner::Unknown => None,
        ReplyOwner::Foreign => panic!("they are everybody's"),
    };
    assert_eq!(owner("plain", None), Some(BackendId(0)));
    assert_eq!(owner("same", None), Some(BackendId(1)));
    assert_eq!(owner("same", Some(BackendId(2))), Some(BackendId(2)));
    assert_eq!(owner("same", Some(BackendId(0))), Some(BackendId(1)));
    assert_eq!(owner("minted-1", None), None);
    assert_eq!(sessions.holder(BackendId(2), &key("same")), Some(key("minted-2")));
    assert_eq!(sessions.holder(BackendId(0), &key("same")), None);
    assert_eq!(sessions.holder(BackendId(0), &key("plain")), Some(key("plain")));
    sessions.unpin(&key("minted-1"), EndReason::Closed, Duration::ZERO).await;
    assert_eq!(owner("same", None), Some(BackendId(2)));
    sessions.unpin(&key("minted-2"), EndReason::Closed, Duration::ZERO).await;
    assert_eq!(owner("same", None), None);
}

#[tokio::test]
async fn a_bound_session_leaves_an_end_that_only_its_client_finds() {
    let sessions = Sessions::new(10, Duration::from_secs(DAY));
    let [mine, other] = [1, 2].map(|n| Subject::new([n; 16]));
    let bound = Pin { subject: Some(mine.clone()), ..pin(0, None) };
    put(&sessions, "a", bound.clone()).await;
    assert_eq!(sessions.find(Some(&key("a"))), Lookup::Pinned(bound));
    sessions.unpin(&key("a"), EndReason::Closed, Duration::ZERO).await;
    let Lookup::Ended(target_digest) = sessions.find(Some(&key("a"))) else { panic!("it ended") };
    assert_eq!(target_digest, TargetHash(7).known_to(Some(&mine)));
    assert_ne!(target_digest, TargetHash(7).known_to(Some(&other)));
    assert_ne!(target_digest, TargetHash(7).known_to(None));
}

#[tokio::test]
async fn of_two_replies_of_one_id_each_client_gets_its_own() {
    let sessions = Sessions::new(10, Duration::from_secs(DAY));
    let [first, second, nobody] = [1, 2, 3].map(|n| Subject::new([n; 16]));
    for (backend, id, subject) in [(1, "minted-1", &first), (2, "minted-2", &second)] {
        let bound = Pin { subject: Some(subject.clone()), ..pin(backend, Some("same")) };
        put(&sessions, id, bound).await;
    }
    let owner = |who: &Subject, preferred| {
        let may_have = |subject: Option<&Subject>| subject.is_none_or(|subject| subject == who);
        sessions.reply_owner(&key("same"), preferred, may_have)
    };
    for preferred in [None, Some(BackendId(1)), Some(BackendId(2))] {
        assert_eq!(owner(&first, preferred), ReplyOwner::Backend(BackendId(1)));
        assert_eq!(owner(&second, preferred), ReplyOwner::Backend(BackendId(2)));
        assert_eq!(owner(&nobody, preferred), ReplyOwner::Foreign);
    }
}

#[tokio::test]
async fn the_census_tells_active_from_idle() {
    let sessions = Sessions::new(10, Duration::from_secs(DAY));
    put(&sessions, "a", pin(1, None)).await;
    put(&sessions, "b", pin(1, None)).await;
    let seen = Timestamp(10 * 60 * 1000);
    let progress = Progress { seen, ..Progress::default() };
    sessions.progress(&key("a"), progress, Duration::ZERO);
    let census = sessions.census(Moment { wall: seen, steady: Duration::ZERO });
    assert_eq!(census, [Census::default(), Census { active: 1, idle: 1 }]);
}

#[tokio::test]
async fn an_end_is_remembered_for_its_time_and_its_id_is_not_given_out_meanwhile() {
    let sessions = Sessions::new(10, Duration::from_secs(60));
    for (id, reason) in [("closed", EndReason::Closed), ("lost", EndReason::Lost)] {
        put(&sessions, id, pin(0, None)).await;
        sessions.unpin(&key(id), reason, Duration::from_secs(10)).await.unwrap();
    }
    assert_eq!(sessions.find(Some(&key("lost"))), Lookup::Unknown);
    assert_eq!(put(&sessions, "closed", pin(0, None)).await, Pinned::Taken);
    let later = |days: u64| Timestamp(clock::now().0 + days * DAY * 1000);
    let sweep =
        |wall, seconds| sessions.sweep_expired(wall, Duration::from_secs(seconds), Duration::MAX);
    sweep(later(1), 69);
    assert_eq!(sessions.find(Some(&key("closed"))), Lookup::Ended(TargetHash(7)));
    // The steady clock alone proves nothing either: this one stood still.
    sweep(later(0), 70);
    assert_eq!(sessions.find(Some(&key("closed"))), Lookup::Ended(TargetHash(7)));
    sweep(later(1), 70);
    assert_eq!(sessions.find(Some(&key("closed"))), Lookup::Unknown);
    assert_eq!(put(&sessions, "closed", pin(0, None)).await, Pinned::New);
}

#[tokio::test]
async fn a_session_that_moves_takes_its_counts_and_its_names_along() {
    let sessions = Sessions::new(10, Duration::from_secs(DAY));
    let at = |next_offset| Progress { next_offset, total: 100, seen: Timestamp(0) };
    put(&sessions, "a", pin(0, Some("x"))).await;
    sessions.progress(&key("a"), at(40), Duration::ZERO);
    let moved = sessions.repin(&key("a"), pin(1, Some("x")), at(50), Duration::ZERO).await;
    assert_eq!(moved.unwrap(), Some(pin(0, Some("x"))));
    assert_eq!(sessions.find(Some(&key("a"))), Lookup::Pinned(pin(1, Some("x"))));
    assert_eq!((sessions.len(), sessions.sessions(BackendId(0))), (1, 0));
    let left = |id| sessions.outstanding(BackendId(id)).bytes;
    assert_eq!((left(0), left(1)), (0, 50));
    assert_eq!(sessions.holder(BackendId(0), &key("x")), None);
    assert_eq!(sessions.holder(BackendId(1), &key("x")), Some(key("a")));
    // One that has ended meanwhile is there again.
    assert_eq!(sessions.repin(&key("b"), pin(1, None), at(0), Duration::ZERO).await.unwrap(), None);
    assert_eq!(sessions.find(Some(&key("b"))), Lookup::Pinned(pin(1, None)));
}

#[tokio::test]
async fn a_table_that_could_not_be_read_calls_no_session_unknown() {
    let mut sessions = Sessions::new(10, Duration::from_secs(DAY));
    put(&sessions, "a", pin(0, None)).await;
    put(&sessions, "b", pin(0, None)).await;
    sessions.unpin(&key("b"), EndReason::Closed, Duration::ZERO).await;
    Arc::get_mut(&mut sessions).expect("nobody shares it").incomplete = true;
    assert_eq!(sessions.find(Some(&key("c"))), Lookup::StoreDown);
    assert_eq!(sessions.find_and_touch(Some(&key("c")), Duration::ZERO).0, Lookup::StoreDown);
    assert_eq!(sessions.find(Some(&key("a"))), Lookup::Pinned(pin(0, None)));
    assert_eq!(sessions.find(Some(&key("b"))), Lookup::Ended(TargetHash(7)));
}

#[tokio::test]
async fn a_session_is_untouched_until_its_first_packet_and_never_when_that_is_not_known() {
    let sessions = Sessions::new(10, Duration::from_secs(DAY));
    let known = |id| sessions.is_untouched(&key(id));
    put(&sessions, "found", pin(0, None)).await;
    assert!(!known("found"));
    for id in ["new", "sent", "acknowledged", "moved"] {
        let mut place = None;
        let opened =
            sessions.pin_opened(&mut place, key(id), pin(0, None), Timestamp(0), Duration::ZERO);
        assert_eq!(opened.await.expect("there is room"), Pinned::New);
        assert!(known(id));
    }
    sessions.find_and_touch(Some(&key("sent")), Duration::ZERO);
    sessions.progress(&key("acknowledged"), Progress::default(), Duration::ZERO);
    let (moved, to) = (key("moved"), pin(1, None));
    let moved = sessions.repin(&moved, to, Progress::default(), Duration::ZERO).await;
    assert!(moved.expect("there is room").is_some());
    assert_eq!(["new", "sent", "acknowledged", "moved"].map(known), [true, false, false, false]);
    assert!(!known("nobody's"));
    // What is noted is no part of the time.
    let [now, later] = [0, 2 * DAY].map(|seconds| Timestamp(seconds * 1000));
    let (steady, idle) = (Duration::from_secs(2 * DAY), Duration::from_secs(DAY));
    assert_eq!(sessions.sweep_expired(now, steady, idle), []);
    assert_eq!(sessions.sweep_expired(later, steady, idle).len(), 5);
}

#[tokio::test]
async fn a_position_without_a_total_leaves_what_a_backend_still_has_to_receive_right() {
    let sessions = Sessions::new(10, Duration::from_secs(DAY));
    put(&sessions, "a", pin(0, None)).await;
    let say = |next_offset, total| {
        let progress = Progress { next_offset, total, seen: Timestamp(1) };
        sessions.progress(&key("a"), progress, Duration::ZERO);
        let Outstanding { bytes, unsized_sessions } = sessions.outstanding(BackendId(0));
        (bytes, unsized_sessions)
    };
    assert_eq!(say(5, 0), (0, 1));
    assert_eq!(say(5, 9), (4, 0));
    // Such as a 416 that resynchronises.
    assert_eq!(say(2, 0), (7, 0));
    assert_eq!(say(5, 9), (4, 0));
}

#[tokio::test]
async fn a_session_that_ends_is_never_unknown_on_the_way() {
    const ROUNDS: u32 = 20_000;
    let sessions = Sessions::new(u64::from(ROUNDS), Duration::from_secs(DAY));
    let keys: Arc<[_]> = (0..ROUNDS).map(|n| key(&n.to_string())).collect();
    for key in &*keys {
        sessions
            .insert(key.clone(), Session::new(pin(0, None), Progress::default(), Duration::ZERO));
    }
    // The session that ends now, and the one that the watcher has looked for.
    let [ending, seen] = [0, u32::MAX].map(|n| Arc::new(AtomicU32::new(n)));
    let watcher = std::thread::spawn({
        let (sessions, keys) = (Arc::clone(&sessions), Arc::clone(&keys));
        let (ending, seen) = (Arc::clone(&ending), Arc::clone(&seen));
        move || {
            while let Some(key) = keys.get(ending.load(Ordering::Acquire) as usize) {
                assert_ne!(sessions.find(Some(key)), Lookup::Unknown, "{key:?}");
                seen.store(ending.load(Ordering::Acquire), Ordering::Release);
            }
        }
    });
    for (n, key) in (0..).zip(&*keys) {
        while seen.load(Ordering::Acquire) != n && !watcher.is_finished() {
            std::hint::spin_loop();
        }
        sessions.unpin(key, EndReason::Closed, Duration::ZERO).await.expect("it was there");
        ending.store(n + 1, Ordering::Release);
    }
    watcher.join().expect("no session was unknown");
}

#[test]
fn sessions_that_come_back_at_once_take_no_more_places_than_there_are() {
    const LIMIT: u64 = 8;
    for round in 0..200 {
        let sessions = Sessions::new(LIMIT, Duration::from_secs(DAY));
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let sessions = &sessions;
                scope.spawn(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                    for n in 0..LIMIT {
                        let key = key(&format!("{thread}-{n}"));
                        let adopted =
                            sessions.adopt(key, pin(0, None), Progress::default(), Duration::ZERO);
                        let _ = runtime.block_on(adopted);
                    }
                });
            }
        });
        assert_eq!(sessions.len(), LIMIT, "round {round}");
    }
}
