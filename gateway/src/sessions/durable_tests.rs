//! The table over a real store, with the time as an argument.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use gateway_core::farm::BackendId;
use gateway_core::protocol::{SessionId, SessionKey};
use gateway_core::routing::{Loads, Lookup};
use gateway_core::session::{Binding, EndReason, Pin, Progress, Subject, TargetHash, Timestamp};
use tempfile::TempDir;

use super::*;
use crate::base::backend_ids::BackendIds;
use crate::base::clock;
use crate::sessions::store::{BackendState, OnError, Options, SyncMode};
use crate::sessions::{Opened, Setup};
use crate::telemetry::events::Events;
use crate::telemetry::metrics::Metrics;

const DAY: Duration = Duration::from_secs(24 * 3600);

fn open(path: &Path, backends: &[&str]) -> Opened {
    open_with(path, backends, OnError::Refuse)
}

fn open_with(path: &Path, backends: &[&str], on_error: OnError) -> Opened {
    let setup = Setup {
        ids: Arc::new(BackendIds::of(backends.iter().copied())),
        limit: 100,
        tombstone: DAY,
    };
    let metrics = Metrics::new(&[], &[]);
    let slow = Duration::from_secs(2);
    let (sync, events) = (SyncMode::Power, Events::default());
    let options = Options { sync, on_error, slow, metrics, events, lock: None };
    setup.in_store(&path.join("store"), options).unwrap_or_else(|error| panic!("{error}"))
}

fn table(path: &Path) -> Arc<Sessions> {
    open(path, &["up01", "up02"]).sessions
}

fn key(id: &str) -> SessionKey {
    SessionId::parse(id).unwrap().key().clone()
}

fn pin(backend: u32, created: Timestamp) -> Pin {
    let (backend, target) = (BackendId(backend), TargetHash(7));
    Pin {
        backend,
        backend_session: None,
        binding: Binding::unspelled(target),
        created,
        subject: None,
    }
}

async fn put(sessions: &Sessions, id: &str, pin: Pin) {
    let pinned = sessions.pin(key(id), pin, Progress::default(), clock::steady()).await;
    assert_eq!(pinned.unwrap(), Pinned::New);
}

fn days(count: u32, after: Timestamp) -> Timestamp {
    Timestamp(after.0 + u64::from(count) * 24 * 3600 * 1000)
}

#[tokio::test]
async fn a_session_is_found_again_with_all_that_its_packets_need() {
    let directory = TempDir::new().unwrap();
    let sessions = table(directory.path());
    let kept = Pin { backend_session: Some("its-own".into()), ..pin(1, Timestamp(5)) };
    put(&sessions, "minted", kept.clone()).await;
    sessions.close().await;
    let sessions = table(directory.path());
    assert_eq!(sessions.find(Some(&key("minted"))), Lookup::Pinned(kept));
    assert_eq!(sessions.holder(BackendId(1), &key("its-own")), Some(key("minted")));
    assert_eq!((sessions.len(), sessions.sessions(BackendId(1))), (1, 1));
    sessions.close().await;
}

#[tokio::test]
async fn a_session_of_long_ago_lives_on_until_both_clocks_of_this_process_have_counted() {
    let directory = TempDir::new().unwrap();
    let sessions = table(directory.path());
    put(&sessions, "old", pin(0, Timestamp(1))).await;
    sessions.close().await;
    // As after months without power.
    let sessions = table(directory.path());
    let (now, steady) = (clock::now(), clock::steady());
    let sweep =
        |wall: u32, run: u32| sessions.sweep_expired(days(wall, now), steady + DAY * run, DAY * 14);
    assert_eq!(sweep(0, 0), []);
    assert_eq!(sweep(365, 13), [], "the wall clock was set forward");
    assert_eq!(sweep(13, 365), [], "the wall clock was set back");
    assert_eq!(sweep(15, 15).len(), 1);
    sessions.close().await;
    assert!(table(directory.path()).is_empty());
}

#[tokio::test]
async fn the_end_of_a_session_without_a_pin_is_remembered_after_a_restart() {
    let directory = TempDir::new().unwrap();
    let sessions = table(directory.path());
    put(&sessions, "live", pin(0, Timestamp(1))).await;
    put(&sessions, "forgotten", pin(0, Timestamp(1))).await;
    sessions.unpin(&key("forgotten"), EndReason::Admin, clock::steady()).await.unwrap();
    let remember_end = async |id: &str, reason| {
        let pin = Pin { binding: Binding::unspelled(TargetHash(9)), ..pin(1, clock::now()) };
        sessions.remember_end(&key(id), &pin, reason, clock::steady()).await;
    };
    remember_end("closed", EndReason::Closed).await;
    remember_end("cancelled", EndReason::Cancelled).await;
    remember_end("lost", EndReason::Lost).await;
    remember_end("live", EndReason::Closed).await;
    remember_end("forgotten", EndReason::Closed).await;
    let expect = |sessions: &Sessions| {
        let look = |id| sessions.find(Some(&key(id)));
        assert_eq!(look("closed"), Lookup::Ended(TargetHash(9)));
        assert_eq!(look("cancelled"), Lookup::Ended(TargetHash(9)));
        assert_eq!(look("lost"), Lookup::Unknown);
        assert!(matches!(look("live"), Lookup::Pinned(_)));
        assert_eq!(look("forgotten"), Lookup::Forgotten);
        assert_eq!(sessions.len(), 1);
    };
    expect(&sessions);
    sessions.close().await;
    let sessions = table(directory.path());
    expect(&sessions);
    sessions.close().await;
}

#[tokio::test]
async fn ends_are_remembered_for_their_time_whatever_the_clocks_do() {
    let directory = TempDir::new().unwrap();
    let sessions = table(directory.path());
    for (id, reason) in [
        ("closed", EndReason::Closed),
        ("cancelled", EndReason::Cancelled),
        ("forgotten", EndReason::Admin),
        ("lost", EndReason::Lost),
    ] {
        put(&sessions, id, pin(0, Timestamp(1))).await;
        sessions.unpin(&key(id), reason, clock::steady()).await.unwrap();
    }
    sessions.close().await;
    let sessions = table(directory.path());
    let (now, steady) = (clock::now(), clock::steady());
    let look = |id| sessions.find(Some(&key(id)));
    let there = || {
        assert_eq!(look("closed"), Lookup::Ended(TargetHash(7)));
        assert_eq!(look("cancelled"), Lookup::Ended(TargetHash(7)));
        assert_eq!(look("forgotten"), Lookup::Forgotten);
        assert_eq!(look("lost"), Lookup::Unknown);
    };
    there();
    sessions.sweep_expired(days(365, now), steady, Duration::MAX);
    sessions.sweep_expired(now, steady + DAY * 365, Duration::MAX);
    there();
    sessions.sweep_expired(days(3, now), steady + DAY, Duration::MAX);
    assert_eq!(look("closed"), Lookup::Unknown);
    // On the disk they age by the time that gateways run.
    sessions.sweep_expired(now, steady + DAY * 366, Duration::MAX);
    sessions.close().await;
    assert_eq!(open(directory.path(), &[]).loaded.tombstones, 0);
}

#[tokio::test]
async fn a_session_that_cannot_be_made_durable_leaves_nothing_behind() {
    let directory = TempDir::new().unwrap();
    let sessions = table(directory.path());
    sessions.close().await;
    let refused =
        sessions.pin(key("a"), pin(0, Timestamp(1)), Progress::default(), clock::steady());
    assert!(matches!(refused.await, Err(PinError::Store(_))));
    assert_eq!(sessions.find(Some(&key("a"))), Lookup::Unknown);
    assert_eq!((sessions.len(), sessions.sessions(BackendId(0))), (0, 0));
    // One that its client knows already is worth keeping all the same.
    let adopted =
        sessions.adopt(key("a"), pin(0, Timestamp(1)), Progress::default(), clock::steady());
    assert_eq!(adopted.await.unwrap(), Pinned::New);
    assert_eq!(sessions.len(), 1);
}

/// Everything that was asked for so far is written and answered.
async fn written(sessions: &Sessions) {
    let (backend, state) = ("up01".to_owned(), gateway_core::farm::AdminState::Ready);
    let mark = BackendState { backend, state, since: Timestamp(1), by: String::new() };
    sessions.store().set_backend_state(mark).await.unwrap();
}

/// Begins what a request waits for, drops it `before` or after it is written, and says whether it
/// was under way.
async fn cut_off<T>(sessions: &Sessions, before: bool, request: impl Future<Output = T>) -> bool {
    let mut request = Box::pin(request);
    // Once, so that it is on its way. The disk may be quicker than this thread.
    let under_way = futures_util::poll!(&mut request).is_pending();
    if !before {
        written(sessions).await;
    }
    under_way
}

#[tokio::test]
async fn a_session_whose_request_was_cut_off_when_it_was_written_leaves_nothing_behind() {
    for on_error in [OnError::Refuse, OnError::Accept] {
        for before in [true, false] {
            let directory = TempDir::new().unwrap();
            let sessions = open_with(directory.path(), &["up01", "up02"], on_error).sessions;
            let mut under_way = 0;
            for n in 0..100 {
                let key = key(&format!("s{n}"));
                let pin = pin(0, Timestamp(n));
                let pinned = sessions.pin(key.clone(), pin, Progress::default(), clock::steady());
                if cut_off(&sessions, before, pinned).await {
                    assert_eq!(sessions.find(Some(&key)), Lookup::Unknown);
                    under_way += 1;
                } else {
                    sessions.unpin(&key, EndReason::Lost, clock::steady()).await;
                }
            }
            assert!(under_way > 0);
            assert!(sessions.is_empty());
            sessions.close().await;
            assert!(table(directory.path()).is_empty(), "{on_error:?}, {before}");
        }
    }
}

#[tokio::test]
async fn a_session_that_its_client_knows_stays_when_the_request_that_brought_it_is_cut_off() {
    for before in [true, false] {
        let directory = TempDir::new().unwrap();
        let sessions = table(directory.path());
        for n in 0..100 {
            let adopted = sessions.adopt(
                key(&format!("s{n}")),
                pin(0, Timestamp(n)),
                Progress::default(),
                clock::steady(),
            );
            cut_off(&sessions, before, adopted).await;
        }
        assert_eq!(sessions.len(), 100);
        sessions.close().await;
        let sessions = table(directory.path());
        assert_eq!(sessions.len(), 100, "{before}");
        for n in 0..100 {
            let key = key(&format!("s{n}"));
            let to = pin(1, Timestamp(200));
            let moved = sessions.repin(&key, to, Progress::default(), clock::steady());
            cut_off(&sessions, before, moved).await;
        }
        sessions.close().await;
        let opened = open(directory.path(), &["up01", "up02"]);
        assert_eq!(opened.sessions.sessions(BackendId(1)), 100, "{before}");
        assert_eq!(opened.sessions.len(), 100, "{before}");
        // One row for each, so none comes back when its session has ended.
        for n in 0..100 {
            let key = key(&format!("s{n}"));
            opened.sessions.unpin(&key, EndReason::Lost, clock::steady()).await;
        }
        opened.sessions.close().await;
        assert!(table(directory.path()).is_empty(), "{before}");
    }
}

#[tokio::test]
async fn an_end_counts_though_the_request_that_brought_it_is_cut_off() {
    for before in [true, false] {
        let directory = TempDir::new().unwrap();
        let sessions = table(directory.path());
        for n in 0..100 {
            let id = format!("s{n}");
            put(&sessions, &id, pin(0, Timestamp(n))).await;
            let key = key(&id);
            let ended = sessions.unpin(&key, EndReason::Closed, clock::steady());
            cut_off(&sessions, before, ended).await;
            assert_eq!(sessions.find(Some(&key)), Lookup::Ended(TargetHash(7)));
            assert_eq!((sessions.len(), sessions.sessions(BackendId(0))), (0, 0));
        }
        sessions.close().await;
        let sessions = table(directory.path());
        assert!(sessions.is_empty());
        assert_eq!(sessions.find(Some(&key("s7"))), Lookup::Ended(TargetHash(7)));
    }
}

#[tokio::test]
async fn sessions_of_a_backend_that_is_not_configured_keep_it() {
    let directory = TempDir::new().unwrap();
    let sessions = table(directory.path());
    put(&sessions, "a", pin(0, Timestamp(1))).await;
    put(&sessions, "b", pin(1, Timestamp(2))).await;
    sessions.close().await;
    for _ in 0..2 {
        let sessions = open(directory.path(), &["up03", "up02"]).sessions;
        assert_eq!(sessions.find(Some(&key("b"))), Lookup::Pinned(pin(1, Timestamp(2))));
        assert_eq!(sessions.find(Some(&key("a"))), Lookup::Pinned(pin(2, Timestamp(1))));
        assert_eq!(sessions.ids.find("up01"), Some(BackendId(2)), "behind the configured ones");
        assert_eq!(sessions.sessions(BackendId(2)), 1);
        sessions.close().await;
    }
    let sessions = table(directory.path());
    assert_eq!(sessions.find(Some(&key("a"))), Lookup::Pinned(pin(0, Timestamp(1))));
    sessions.close().await;
}

#[tokio::test]
async fn decisions_about_backends_come_back_whether_they_are_configured_or_not() {
    let directory = TempDir::new().unwrap();
    let state = BackendState {
        backend: "gone".into(),
        state: gateway_core::farm::AdminState::Maintenance,
        since: Timestamp(3),
        by: "somebody".into(),
    };
    let sessions = table(directory.path());
    sessions.store().set_backend_state(state.clone()).await.unwrap();
    sessions.close().await;
    for _ in 0..2 {
        let opened = open(directory.path(), &["up01"]);
        assert_eq!(opened.states, std::slice::from_ref(&state));
        opened.sessions.close().await;
    }
}

#[tokio::test]
async fn the_newest_of_two_pins_of_one_session_counts() {
    let directory = TempDir::new().unwrap();
    let sessions = table(directory.path());
    let stored = |backend| sessions.stored(&key("a"), &pin(backend, Timestamp(backend.into())));
    for backend in [0, 1] {
        sessions.store().pin(stored(backend)).await.unwrap();
    }
    sessions.close().await;
    let opened = open(directory.path(), &["up01", "up02"]);
    assert_eq!(opened.sessions.find(Some(&key("a"))), Lookup::Pinned(pin(1, Timestamp(1))));
    assert_eq!((opened.loaded.pins, opened.sessions.len()), (1, 1));
    opened.sessions.close().await;
    assert_eq!(open(directory.path(), &["up01", "up02"]).loaded.pins, 1);
}

#[tokio::test]
async fn a_session_that_moved_is_found_at_its_new_backend() {
    let directory = TempDir::new().unwrap();
    let sessions = table(directory.path());
    put(&sessions, "moved", pin(0, Timestamp(5))).await;
    let new = pin(1, Timestamp(9));
    let moved =
        sessions.repin(&key("moved"), new.clone(), Progress::default(), clock::steady()).await;
    assert_eq!(moved.unwrap(), Some(pin(0, Timestamp(5))));
    sessions.close().await;
    let sessions = table(directory.path());
    assert_eq!(sessions.find(Some(&key("moved"))), Lookup::Pinned(new));
    assert_eq!(sessions.len(), 1);
    assert!(sessions.unpin(&key("moved"), EndReason::Closed, clock::steady()).await.is_some());
    sessions.close().await;
    let sessions = table(directory.path());
    assert_eq!(sessions.find(Some(&key("moved"))), Lookup::Ended(TargetHash(7)));
    sessions.close().await;
}

#[tokio::test]
async fn a_session_that_moves_stays_its_clients() {
    let directory = TempDir::new().unwrap();
    let sessions = table(directory.path());
    let mine = Subject::new([1; 16]);
    let bound = Pin { subject: Some(mine.clone()), ..pin(0, Timestamp(5)) };
    put(&sessions, "bound", bound).await;
    put(&sessions, "free", pin(0, Timestamp(5))).await;
    // Whoever comes with the packet: binding may have been switched on or off since.
    for (id, came) in [("bound", None), ("free", Some(mine.clone()))] {
        let new = Pin { subject: came, ..pin(1, Timestamp(9)) };
        let moved = sessions.repin(&key(id), new, Progress::default(), clock::steady()).await;
        assert!(moved.unwrap().is_some());
    }
    let expect = |sessions: &Sessions| {
        for (id, subject) in [("bound", Some(mine.clone())), ("free", None)] {
            let moved = Pin { subject, ..pin(1, Timestamp(9)) };
            assert_eq!(sessions.find(Some(&key(id))), Lookup::Pinned(moved), "{id}");
        }
    };
    expect(&sessions);
    sessions.close().await;
    let sessions = table(directory.path());
    expect(&sessions);
    assert_eq!(sessions.len(), 2);
    sessions.close().await;
}

#[path = "durable_progress_tests.rs"]
mod progress;
