use std::time::Duration;

use gateway_core::farm::BackendId;
use gateway_core::protocol::SessionId;
use gateway_core::session::{Binding, Pin, Progress, TargetHash, Timestamp};

use super::*;
use crate::sessions::uneven::tests::places_each;

fn key(id: &str) -> SessionKey {
    SessionId::parse(id).expect("a legal id").key().clone()
}

fn session(backend_session: Option<&str>) -> Session {
    let pin = Pin {
        backend: BackendId(3),
        backend_session: backend_session.map(Into::into),
        binding: Binding::unspelled(TargetHash(7)),
        created: Timestamp(1),
        subject: None,
    };
    Session::new(pin, Progress::default(), Duration::ZERO)
}

fn count(table: &Table) -> usize {
    let mut count = 0;
    table.each(|_, _| count += 1);
    count
}

/// What the documents promise: 96 bytes for each usual session, whatever the number of sessions.
/// What an allocator adds is measured by `examples/pins.rs`.
#[test]
fn a_usual_session_takes_80_bytes_and_96_at_the_worst() {
    let slot = size_of::<(Record, ())>() + 1;
    for count in (500_000..=2_000_000).step_by(1000) {
        let each = size_of::<Inner>() as f64 + slot as f64 * places_each(count);
        assert!(each < 80.0, "{count}: {each}");
    }
    // Many that come and go leave marks in a table, for which it may double once more.
    assert!(size_of::<Inner>() as f64 + slot as f64 * 2.0 * places_each(1_000_000) < 96.0);
}

#[test]
fn a_session_is_changed_in_its_place_whichever_form_it_has() {
    let table = Table::new(0);
    let (first, second) = (key("first"), key("second"));
    assert!(table.insert(first.clone(), session(None), || {}));
    assert!(table.insert(second.clone(), session(Some("x")), || {}));
    assert!(!table.insert(first.clone(), session(Some("x")), || panic!("it is there")));
    for key in [&first, &second] {
        let before = table.get(key).expect("it is there").clone();
        table.get_mut(key).expect("it is there").progress.total = 9;
        let after = table.get(key).expect("it is there");
        assert_eq!(after.progress.total, 9);
        assert_eq!(after.rare, before.rare);
    }
    // From one form to the other and back.
    for id in [Some("y"), None, Some("z"), Some("y"), None] {
        table.get_mut(&first).expect("it is there").rare_mut().backend_session = id.map(Into::into);
        assert_eq!(table.get(&first).expect("it is there").backend_session(), id);
    }
    let mut seen = Vec::new();
    table.each(|key, _| seen.push(key.clone()));
    seen.sort_unstable();
    assert_eq!(seen, [&first, &second].map(Clone::clone));
    for mut session in table.iter_mut() {
        session.steady += 1;
    }
    assert!(table.remove_if(&first, |_, session| session.steady != 1).is_none());
    let (key, removed) = table.remove_if(&second, |_, session| session.steady == 1).expect("there");
    assert_eq!((key, removed.backend_session()), (second, Some("x")));
    assert_eq!(count(&table), 1);
}

#[test]
fn a_walk_shows_each_session_once_with_what_it_is() {
    let table = Table::new(0);
    let keys: Vec<_> = (0..20_000).map(|number| key(&format!("s{number}"))).collect();
    for (at, key) in keys.iter().enumerate() {
        let form = (at % 3 == 0).then_some("x");
        assert!(table.insert(key.clone(), session(form), || {}));
        table.get_mut(key).expect("it is there").progress.next_offset = at as u64;
    }
    let mut seen = Vec::new();
    table.each(|key, session| {
        seen.push((session.progress.next_offset, key.clone(), session.rare.is_some()));
    });
    seen.sort_unstable();
    let expected = keys.into_iter().enumerate().map(|(at, key)| (at as u64, key, at % 3 == 0));
    assert!(seen.into_iter().eq(expected));
}

/// A shard grows while others are read, and every session is found again.
#[test]
fn sessions_are_found_whoever_else_comes_and_goes() {
    let table = Table::new(0);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let table = &table;
            scope.spawn(move || {
                let keys: Vec<_> = (0..2000).map(|n| key(&format!("{thread}-{n}"))).collect();
                for (at, key) in keys.iter().enumerate() {
                    assert!(table.insert(
                        key.clone(),
                        session((at % 3 == 0).then_some("x")),
                        || {}
                    ));
                    table.get_mut(key).expect("it is there").progress.next_offset = at as u64;
                    if at % 2 == 1 {
                        let (_, gone) = table.remove_if(&keys[at - 1], |_, _| true).expect("there");
                        assert_eq!(gone.progress.next_offset, at as u64 - 1);
                    }
                }
            });
        }
    });
    assert_eq!(count(&table), 4000);
}
