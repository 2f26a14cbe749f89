use std::collections::BTreeSet;

use gateway_core::protocol::{ContentRange, PacketType, SessionId};
use gateway_core::session::live::Wait;
use gateway_core::session::{Binding, EndReason, Pin, Progress, TargetHash};

use super::super::live_uploads::{LiveRequest, Packet};
use super::*;
use crate::base::clock;

/// By the clock on the wall, so that one can go back from it.
const NOW: Timestamp = Timestamp(1_000_000_000_000);

fn key(id: &str) -> SessionKey {
    SessionId::parse(id).unwrap().key().clone()
}

fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(60 * minutes)
}

fn moment() -> Moment {
    Moment { wall: NOW, steady: clock::steady() }
}

async fn put(sessions: &Sessions, id: &str, backend: u32, silent: Duration) {
    let pin = Pin {
        backend: BackendId(backend),
        backend_session: None,
        binding: Binding::unspelled(TargetHash(1)),
        created: Timestamp(0),
        subject: None,
    };
    let seen = Timestamp(NOW.0 - silent.as_millis() as u64);
    let progress = Progress { seen, next_offset: 100, total: 1000 };
    sessions.pin(key(id), pin, progress, Duration::ZERO).await.unwrap();
}

async fn table(count: u32) -> Arc<Sessions> {
    let sessions = Sessions::new(1_000_000, Duration::from_secs(60));
    for n in 0..count {
        put(&sessions, &format!("session-{n}"), n % 3, minutes(10)).await;
    }
    sessions
}

/// A Fragment of a session is under way, from 192.0.2.7 to `/in/ID.bin`.
fn fragment(sessions: &Sessions, id: &str) -> LiveRequest {
    let path = format!("/in/{id}.bin");
    let packet = Packet {
        kind: PacketType::Fragment,
        range: ContentRange::new(100, 599, 1000).ok(),
        path: path.as_bytes(),
        user_agent: None,
        client: Some([192, 0, 2, 7].into()),
        backend: BackendId(1),
        arrived: clock::steady(),
    };
    sessions.show_live(&key(id), &packet, || None).unwrap()
}

fn query(filter: &Filter, after: Option<ListCursor>, limit: usize) -> Query {
    Query { filter: filter.clone(), after, limit, more: true }
}

fn walk(sessions: &Sessions, limit: usize, filter: &Filter) -> Vec<Row> {
    let (listings, mut rows, mut after) = (Listings::default(), Vec::new(), None);
    loop {
        let page = listings.page(sessions, &query(filter, after, limit), moment()).unwrap();
        assert!(page.rows.len() <= limit, "{} rows", page.rows.len());
        rows.extend(page.rows);
        // As it goes over the wire.
        match page.next.map(|next| next.to_string().parse()) {
            Some(next) => after = Some(next.unwrap()),
            None => return rows,
        }
    }
}

#[track_caller]
fn check(sessions: &Sessions, filter: &Filter, expected: &[&str]) {
    let mut rows: Vec<_> = walk(sessions, 2, filter).into_iter().map(|row| row.key).collect();
    rows.sort();
    let mut expected: Vec<_> = expected.iter().map(|id| key(id)).collect();
    expected.sort();
    assert_eq!(rows, expected, "{filter:?}");
    let mut matching = sessions.matching(filter, moment());
    matching.sort();
    assert_eq!(matching, expected, "{filter:?}");
    assert!(expected.iter().all(|key| sessions.matches(key, filter, moment())));
    let page = Listings::default().page(sessions, &query(filter, None, 1), moment()).unwrap();
    assert_eq!(page.matching, expected.len() as u64);
}

#[tokio::test]
async fn pages_hold_every_session_once() {
    let sessions = table(300).await;
    let _live: Vec<_> =
        [5, 77, 123, 250].map(|n| fragment(&sessions, &format!("session-{n}"))).into();
    for limit in [1, 3, 4, 5, 299, 300, 301] {
        let rows = walk(&sessions, limit, &Filter::default());
        assert_eq!(rows.len(), 300, "pages of {limit}");
        assert!(rows[..4].iter().all(|row| row.live.is_some()));
        assert!(rows[4..].windows(2).all(|pair| pair[0].mark() < pair[1].mark()));
    }
    let third = walk(&sessions, 50, &Filter { backend: Some(BackendId(1)), ..Filter::default() });
    assert_eq!(third.len(), 100);
    assert!(third.iter().all(|row| row.pin.backend == BackendId(1)));
    let nobody = Filter { backend: Some(BackendId(9)), ..Filter::default() };
    let page = Listings::default().page(&sessions, &query(&nobody, None, 10), moment());
    assert_eq!(page, Ok(Page { rows: vec![], next: None, matching: 0 }));
}

#[tokio::test]
async fn the_newest_progress_comes_first() {
    let sessions = table(50).await;
    let ids = ["session-9", "session-3", "session-40"];
    let live = ids.map(|id| fragment(&sessions, id));
    // One after the other, as far as the table can tell.
    for (at, request) in live.iter().enumerate() {
        request.came(10);
        let later = moment().steady + minutes(at as u64 + 1);
        sessions.live_uploads().look(later);
    }
    let at = Moment { wall: NOW, steady: moment().steady + minutes(5) };
    let page =
        Listings::default().page(&sessions, &query(&Filter::default(), None, 4), at).unwrap();
    let first: Vec<_> = page.rows[..3].iter().map(|row| row.key.clone()).collect();
    assert_eq!(first, ["session-40", "session-3", "session-9"].map(key));
    assert_eq!(page.rows[0].received(), 110);
    assert!(page.rows[3].live.is_none());
}

#[tokio::test]
async fn what_moves_comes_and_goes_between_two_pages_is_on_exactly_one() {
    let sessions = table(300).await;
    let name = |n: usize| format!("session-{n}");
    let mut live: Vec<_> = (0..60).map(|n| fragment(&sessions, &name(n))).collect();
    let (listings, filter) = (Listings::default(), Filter::default());
    let first = listings.page(&sessions, &query(&filter, None, 25), moment()).unwrap();
    let mut seen: BTreeSet<Mark> = first.rows.iter().map(Row::mark).collect();
    let mut ended = BTreeSet::new();
    let (mut after, mut step) = (first.next, 0);
    while let Some(cursor) = after {
        // Each that is live moves, some end, some sleep, some wake up, and some are new.
        live.iter().for_each(|request| request.came(step as u64));
        step += 1;
        live.remove(0);
        ended.insert(name(299 - step));
        sessions.unpin(&key(&name(299 - step)), EndReason::Closed, Duration::ZERO).await;
        live.push(fragment(&sessions, &name(100 + 3 * step)));
        put(&sessions, &format!("new-{step}"), 0, Duration::ZERO).await;
        let page = listings.page(&sessions, &query(&filter, Some(cursor), 25), moment()).unwrap();
        for row in &page.rows {
            assert!(seen.insert(row.mark()), "twice: {:?}", row.key);
        }
        after = page.next;
    }
    assert!(step > 10);
    for n in 0..300 {
        let there = seen.contains(&Mark::of(&key(&name(n))));
        assert!(there || ended.contains(&name(n)), "{} is on no page", name(n));
    }
}

#[tokio::test]
async fn the_listings_of_a_while_ago_are_forgotten() {
    let sessions = table(10).await;
    let _live = fragment(&sessions, "session-3");
    let listings = Listings::default();
    let first = || listings.page(&sessions, &query(&Filter::default(), None, 1), moment()).unwrap();
    let next = first().next;
    let go_on = || listings.page(&sessions, &query(&Filter::default(), next, 1), moment());
    for _ in 1..KEPT {
        assert!(go_on().is_ok());
        first();
    }
    // Who asks for no other page takes no place.
    let alone = Query { more: false, ..query(&Filter::default(), None, 1) };
    for _ in 0..2 * KEPT {
        let page = listings.page(&sessions, &alone, moment()).unwrap();
        assert_eq!((page.next, page.matching), (None, 10));
    }
    assert!(go_on().is_ok());
    first();
    assert_eq!(go_on(), Err(Forgotten));
}

#[tokio::test]
async fn sessions_are_found_by_what_is_known_of_them() {
    let sessions = Sessions::new(100, Duration::from_secs(60));
    for (id, silent) in [("old", minutes(60)), ("idle", minutes(5)), ("new", minutes(4))] {
        put(&sessions, id, 0, silent).await;
    }
    for id in ["Moves", "waits"] {
        put(&sessions, id, 1, minutes(60)).await;
    }
    let (moves, waits) = (fragment(&sessions, "Moves"), fragment(&sessions, "waits"));
    moves.came(10);
    waits.waits_for(Wait::Backend);
    let none = Filter::default;
    let all = ["old", "idle", "new", "Moves", "waits"];
    check(&sessions, &none(), &all);
    let in_state = |state, away: &[BackendId]| Some(InState { state, away: away.to_vec() });
    for (state, expected) in [
        (State::Active, &["new", "Moves"][..]),
        (State::Idle, &["old", "idle"]),
        (State::Waiting, &["waits"]),
    ] {
        check(&sessions, &Filter { state: in_state(state, &[BackendId(7)]), ..none() }, expected);
    }
    for (state, expected) in [
        (State::Active, &["Moves"][..]),
        (State::Idle, &[]),
        (State::Waiting, &["waits", "old", "idle", "new"]),
    ] {
        check(&sessions, &Filter { state: in_state(state, &[BackendId(0)]), ..none() }, expected);
    }
    check(&sessions, &Filter { backend: Some(BackendId(1)), ..none() }, &["Moves", "waits"]);
    check(&sessions, &Filter { path: Some("/IN/m".into()), ..none() }, &["Moves"]);
    check(
        &sessions,
        &Filter { client: Some([192, 0, 2, 7].into()), ..none() },
        &["Moves", "waits"],
    );
    check(&sessions, &Filter { client: Some([192, 0, 2, 8].into()), ..none() }, &[]);
    let idle_for = |least| Filter { idle_for: Some(least), ..none() };
    check(&sessions, &idle_for(minutes(60)), &["old", "waits"]);
    check(&sessions, &idle_for(minutes(61)), &[]);
    let both = Filter { state: in_state(State::Idle, &[]), ..idle_for(minutes(6)) };
    check(&sessions, &both, &["old"]);
    assert!(none().is_empty() && !both.is_empty());
}

#[test]
fn a_cursor_is_text_and_back() {
    for (cursor, text) in [
        (ListCursor::Behind(Mark(255)), "@00000000000000ff"),
        (ListCursor::Live { listing: 10, place: 50 }, "0000000a.50"),
        (ListCursor::Rest { listing: u32::MAX, behind: Mark(1) }, "ffffffff@0000000000000001"),
    ] {
        assert_eq!(cursor.to_string(), text);
        assert_eq!(text.parse(), Ok(cursor));
    }
    for text in [
        "",
        "@",
        "0000000a",
        "0000000a.",
        "0000000a.+1",
        "+000000a.1",
        "0000000a.x",
        "1@1",
        "\u{e9}.1",
    ] {
        assert!(text.parse::<ListCursor>().is_err(), "{text}");
    }
}
