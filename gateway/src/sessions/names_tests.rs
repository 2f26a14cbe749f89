use std::sync::Arc;

use gateway_core::farm::BackendId;
use gateway_core::protocol::{ContentRange, PacketType, SessionId};
use gateway_core::session::{Binding, EndReason, Pin, Progress, TargetHash};

use super::super::live_uploads::Packet;
use super::*;
use crate::base::backend_ids::BackendIds;
use crate::sessions::Setup;
use crate::sessions::listing::{Listings, Query};
use crate::sessions::store::{OnError, Options, SyncMode};
use crate::sessions::view::Moment;
use crate::telemetry::events::Events;
use crate::telemetry::metrics::Metrics;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn key(id: &str) -> SessionKey {
    SessionId::parse(id).unwrap().key().clone()
}

fn open(folder: &Path, mode: NamesMode) -> Arc<Sessions> {
    let ids = Arc::new(BackendIds::of(["up01"]));
    let setup = Setup { ids, limit: 100, tombstone: Duration::from_secs(60) };
    let options = Options {
        sync: SyncMode::Crash,
        on_error: OnError::Refuse,
        slow: Duration::from_secs(2),
        metrics: Metrics::new(&[], &[]),
        events: Events::default(),
        lock: None,
    };
    let sessions = setup.in_store(folder, options).unwrap().sessions;
    sessions.keep_names(mode, DAY, folder);
    sessions
}

async fn upload(sessions: &Sessions, id: &str, path: &[u8], client: IpAddr) {
    let pin = Pin {
        backend: BackendId(0),
        backend_session: None,
        binding: Binding::unspelled(TargetHash(1)),
        created: clock::now(),
        subject: None,
    };
    let pinned = sessions.pin(key(id), pin, Progress::default(), clock::steady()).await;
    pinned.unwrap();
    let packet = Packet {
        kind: PacketType::Fragment,
        range: ContentRange::new(0, 9, 10).ok(),
        path,
        user_agent: None,
        client: Some(client),
        backend: BackendId(0),
        arrived: clock::steady(),
    };
    drop(sessions.show_live(&key(id), &packet, || None).unwrap());
}

fn client(last: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, last])
}

fn listed(sessions: &Sessions, filter: Filter) -> Vec<(SessionKey, Option<Name>)> {
    let query = Query { filter: sessions.with_names(filter), after: None, limit: 50, more: true };
    let page = Listings::default().page(sessions, &query, Moment::now()).unwrap();
    let mut rows: Vec<_> = page.rows.into_iter().map(|row| (row.key, row.name)).collect();
    rows.sort_unstable_by(|one, other| one.0.cmp(&other.0));
    rows
}

fn of_path(path: &str) -> Filter {
    Filter { path: Some(path.to_owned()), ..Filter::default() }
}

fn of_client(client: IpAddr) -> Filter {
    Filter { client: Some(client), ..Filter::default() }
}

#[track_caller]
fn check(sessions: &Sessions, filter: Filter, expected: &[&str]) {
    let found: Vec<_> = listed(sessions, filter).into_iter().map(|(key, _)| key).collect();
    let mut expected: Vec<_> = expected.iter().map(|id| key(id)).collect();
    expected.sort_unstable();
    assert_eq!(found, expected);
}

async fn restarted(sessions: Arc<Sessions>, folder: &Path, mode: NamesMode) -> Arc<Sessions> {
    sessions.close().await;
    drop(sessions);
    open(folder, mode)
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_there_after_a_restart_and_go_with_their_sessions() {
    let folder = tempfile::tempdir().unwrap();
    let folder = &folder.path().join("store");
    let sessions = open(folder, NamesMode::On);
    upload(&sessions, "one", b"/in/Report.cab", client(1)).await;
    upload(&sessions, "two", b"/in/other", client(2)).await;
    upload(&sessions, "gone", b"/in/report.zip", client(1)).await;
    let sessions = restarted(sessions, folder, NamesMode::On).await;
    let name =
        |path: &str, last| Some(Name { path: Some(path.into()), client: Some(client(last)) });
    let mut expected = vec![
        (key("one"), name("/in/Report.cab", 1)),
        (key("two"), name("/in/other", 2)),
        (key("gone"), name("/in/report.zip", 1)),
    ];
    expected.sort_unstable_by(|one, other| one.0.cmp(&other.0));
    assert_eq!(listed(&sessions, Filter::default()), expected);
    check(&sessions, of_path("REPORT"), &["one", "gone"]);
    check(&sessions, of_client(client(2)), &["two"]);
    check(&sessions, of_client(client(3)), &[]);
    sessions.unpin(&key("gone"), EndReason::Closed, clock::steady()).await.unwrap();
    check(&sessions, of_path("report"), &["one"]);
    let mut left = Vec::new();
    sessions.store.each_name(&mut |key, _| left.push(key.clone())).unwrap();
    left.sort_unstable();
    let mut expected = vec![key("one"), key("two")];
    expected.sort_unstable();
    assert_eq!(left, expected, "the row goes with its session");
    // And all of them where none are wanted any more.
    let sessions = restarted(sessions, folder, NamesMode::Off).await;
    sessions.store.settle().await;
    let sessions = restarted(sessions, folder, NamesMode::On).await;
    check(&sessions, of_path("report"), &[]);
    sessions.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_moves_takes_its_name_along() {
    let folder = tempfile::tempdir().unwrap();
    let folder = &folder.path().join("store");
    let sessions = open(folder, NamesMode::On);
    upload(&sessions, "one", b"/in/a", client(1)).await;
    let row = sessions.show(&key("one")).unwrap();
    let created = Timestamp(row.pin.created.0 + 1);
    let pin = Pin { created, ..row.pin };
    sessions.repin(&key("one"), pin, Progress::default(), clock::steady()).await.unwrap();
    let sessions = restarted(sessions, folder, NamesMode::On).await;
    check(&sessions, of_path("/in/a"), &["one"]);
    sessions.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_digests_the_exact_value_is_found_and_nothing_is_shown() {
    let folder = tempfile::tempdir().unwrap();
    let folder = &folder.path().join("store");
    let sessions = open(folder, NamesMode::Hashed);
    upload(&sessions, "one", b"/in/Report.cab", client(1)).await;
    let sessions = restarted(sessions, folder, NamesMode::Hashed).await;
    assert_eq!(listed(&sessions, Filter::default()), [(key("one"), None)]);
    for (path, expected) in [("/in/report.cab", &["one"][..]), ("report", &[]), ("", &[])] {
        check(&sessions, of_path(path), expected);
    }
    check(&sessions, of_client(client(1)), &["one"]);
    check(&sessions, of_client(client(2)), &[]);
    sessions.close().await;
    for file in std::fs::read_dir(folder).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        let held = |text: &[u8]| bytes.windows(text.len()).any(|part| part == text);
        assert!(!held(b"eport.cab") && !held(b"192.0.2.1"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_go_when_they_are_old() {
    let folder = tempfile::tempdir().unwrap();
    let folder = &folder.path().join("store");
    let sessions = open(folder, NamesMode::On);
    upload(&sessions, "one", b"/in/a", client(1)).await;
    let sessions = restarted(sessions, folder, NamesMode::On).await;
    for (ahead, expected) in [(Duration::from_secs(60), &["one"][..]), (2 * DAY, &[])] {
        sessions.age_names(Timestamp(clock::now().0 + ahead.as_millis() as u64));
        sessions.store.settle().await;
        check(&sessions, of_path("/in/a"), expected);
    }
    sessions.close().await;
}
