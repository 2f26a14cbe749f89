//! Over a real store: what is bound to a spelling, and what becomes of it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use gateway_core::farm::BackendId;
use gateway_core::protocol::SessionKey;
use gateway_core::routing::Lookup;
use gateway_core::session::{EndReason, Pin, Progress, Timestamp};
use tempfile::TempDir;

use super::super::text_budget::TextBudget;
use super::super::{Pinned, Setup};
use super::*;
use crate::base::backend_ids::BackendIds;
use crate::base::clock;
use crate::sessions::store::{OnError, Options, StoredPin, SyncMode, read_only};
use crate::telemetry::events::Events;
use crate::telemetry::metrics::Metrics;

const ODD: &str = "/in/%61.bin";
const NORMAL: &str = "/in/a.bin";

fn table(path: &Path) -> Arc<Sessions> {
    let ids = Arc::new(BackendIds::of(["up01", "up02"]));
    let setup = Setup { ids, limit: 100, tombstone: Duration::from_secs(3600) };
    let (sync, on_error, slow) = (SyncMode::Power, OnError::Refuse, Duration::from_secs(5));
    let (metrics, events) = (Metrics::new(&[], &[]), Events::default());
    let options = Options { sync, on_error, slow, metrics, events, lock: None };
    setup.in_store(&path.join("store"), options).unwrap_or_else(|error| panic!("{error}")).sessions
}

fn key(id: &str) -> SessionKey {
    SessionId::parse(id).unwrap().key().clone()
}

fn of(target: &str) -> Target {
    Target::of(target.as_bytes())
}

fn pin(target: &str) -> Pin {
    Pin {
        backend: BackendId(0),
        backend_session: None,
        binding: Binding::to(of(target), target.as_bytes()),
        created: Timestamp(5),
        subject: None,
    }
}

async fn put(sessions: &Sessions, id: &str, pin: Pin) {
    let pinned = sessions.pin(key(id), pin, Progress::default(), clock::steady()).await;
    assert_eq!(pinned.unwrap(), Pinned::New);
}

#[tokio::test]
async fn a_spelling_is_there_after_a_restart_and_after_a_move() {
    let directory = TempDir::new().unwrap();
    let sessions = table(directory.path());
    put(&sessions, "odd", pin(ODD)).await;
    put(&sessions, "moved", pin(ODD)).await;
    put(&sessions, "usual", pin(NORMAL)).await;
    // Its packet came in another spelling.
    let new = Pin { backend: BackendId(1), created: Timestamp(9), ..pin(NORMAL) };
    let moved = sessions.repin(&key("moved"), new, Progress::default(), clock::steady()).await;
    assert_eq!(moved.unwrap(), Some(pin(ODD)));
    let moved = Pin { backend: BackendId(1), created: Timestamp(9), ..pin(ODD) };
    sessions.close().await;
    let sessions = table(directory.path());
    let pinned = Lookup::Pinned;
    assert_eq!(sessions.find(Some(&key("odd"))), pinned(pin(ODD)));
    assert_eq!(sessions.find(Some(&key("moved"))), pinned(moved));
    assert_eq!(sessions.find(Some(&key("usual"))), pinned(pin(NORMAL)));
    assert_eq!(sessions.spellings.used(), 2 * TextBudget::cost(ODD.as_bytes()));
    for id in ["odd", "moved", "usual"] {
        sessions.unpin(&key(id), EndReason::Closed, clock::steady()).await.unwrap();
        let Lookup::Ended(target_digest) = sessions.find(Some(&key(id))) else { panic!("{id}") };
        assert!(of(ODD).was(target_digest, None) && of(NORMAL).was(target_digest, None), "{id}");
    }
    assert_eq!(sessions.spellings.used(), 0);
    sessions.close().await;
}

/// It writes and reads the hash of the spelling, and no more.
#[tokio::test]
async fn a_row_is_what_a_process_of_an_older_version_writes_and_reads() {
    let directory = TempDir::new().unwrap();
    let sessions = table(directory.path());
    put(&sessions, "odd", pin(ODD)).await;
    sessions.close().await;
    let rows = || read_only(&directory.path().join("store")).unwrap();
    let rows: Vec<StoredPin> = rows().collect::<Result<_, _>>().unwrap();
    let sent = TargetHash::of(ODD.as_bytes());
    assert_eq!(rows.iter().map(|row| row.target).collect::<Vec<_>>(), [sent]);
    // As that process leaves it.
    let file = directory.path().join("store/sessions.db");
    rusqlite::Connection::open(file).unwrap().execute("DROP TABLE spellings", []).unwrap();
    let sessions = table(directory.path());
    let Lookup::Pinned(old) = sessions.find(Some(&key("odd"))) else { panic!("it is there") };
    assert_eq!(old.binding, Binding::unspelled(sent));
    assert!(of(ODD).is(old.binding.target) && !of(NORMAL).is(old.binding.target));
    assert_eq!(old.binding.onward(of(ODD), ODD.as_bytes()), None);
    sessions.close().await;
}

#[tokio::test]
async fn a_session_without_room_for_its_spelling_is_bound_to_it_byte_for_byte() {
    let sessions = Sessions::new(10, Duration::ZERO);
    assert!(sessions.spellings.take(&vec![b'a'; usize::try_from(SPELLINGS).unwrap() - 64]));
    put(&sessions, "odd", pin(ODD)).await;
    put(&sessions, "usual", pin(NORMAL)).await;
    let Lookup::Pinned(odd) = sessions.find(Some(&key("odd"))) else { panic!("it is there") };
    assert_eq!(odd.binding, Binding::unspelled(TargetHash::of(ODD.as_bytes())));
    assert_eq!(sessions.find(Some(&key("usual"))), Lookup::Pinned(pin(NORMAL)));
}
