use std::collections::BTreeMap;

use gateway_core::protocol::SessionId;
use proptest::prelude::*;

use super::*;

struct Numbered(SessionKey, u32);

impl Entry for Numbered {
    fn key(&self) -> &SessionKey {
        &self.0
    }
}

/// GUIDs and others.
fn key(number: u32) -> SessionKey {
    let id = match number % 3 {
        0 => format!("session-{number}"),
        _ => format!("{{{number:08x}-0000-0000-0000-000000000000}}"),
    };
    SessionId::parse(&id).expect("a legal id").key().clone()
}

fn numbers(lists: &Lists<Numbered>, id: u32) -> Vec<u32> {
    lists.find(&key(id), |found| found.iter().map(|entry| entry.1).collect())
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Put(u32),
    Add(u32),
    /// Of an id, those of numbers that are odd or not.
    RetainOf(u32, bool),
    Retain(bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let id = 0u32..12;
    let step = prop_oneof![
        1 => id.clone().prop_map(Step::Put),
        4 => id.clone().prop_map(Step::Add),
        1 => (id, any::<bool>()).prop_map(|(id, odd)| Step::RetainOf(id, odd)),
        1 => any::<bool>().prop_map(Step::Retain),
    ];
    proptest::collection::vec(step, 0..80)
}

proptest! {
    #[test]
    fn lists_are_a_map_of_what_came(steps in steps()) {
        let lists = Lists::default();
        let mut model: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for (number, step) in (0..).zip(steps) {
            let keeps = |odd: bool| move |number: u32| (number % 2 == 1) == odd;
            match step {
                // What is put is the only one of its id.
                Step::Put(id) if model.get(&id).is_none_or(|found| found.len() < 2) => {
                    lists.put(Numbered(key(id), number));
                    model.insert(id, vec![number]);
                }
                Step::Put(id) | Step::Add(id) => {
                    lists.add(Numbered(key(id), number));
                    model.entry(id).or_default().push(number);
                }
                Step::RetainOf(id, odd) => {
                    lists.retain_of(&key(id), |entry| keeps(odd)(entry.1));
                    model.entry(id).or_default().retain(|&number| keeps(odd)(number));
                }
                Step::Retain(odd) => {
                    lists.retain(|entry| keeps(odd)(entry.1));
                    model.values_mut().for_each(|all| all.retain(|&number| keeps(odd)(number)));
                }
            }
            prop_assert_eq!(lists.len(), model.values().map(Vec::len).sum::<usize>());
        }
        let mut seen = 0;
        lists.each(|_| seen += 1);
        prop_assert_eq!(seen, lists.len());
        for id in 0..12 {
            prop_assert_eq!(numbers(&lists, id), model.get(&id).cloned().unwrap_or_default());
        }
    }
}

/// What the documents promise of an end that is remembered: 40 bytes, of which it has 32.
#[test]
fn few_places_are_spare_when_many_come_and_when_they_have_gone() {
    let lists = Lists::default();
    let spare = || {
        let places: usize = lists.lists.iter().map(|list| list.read().capacity()).sum();
        places as f64 / lists.len() as f64
    };
    for id in 0..200_000 {
        lists.put(Numbered(key(id), id));
    }
    assert!(spare() < 1.08, "{}", spare());
    lists.retain(|entry| entry.1 % 4 != 0);
    assert!(spare() < 1.15, "{}", spare());
    for id in (0..200_000).filter(|id| id % 4 != 0) {
        assert_eq!(numbers(&lists, id), [id]);
        lists.retain_of(&key(id), |_| false);
    }
    assert_eq!(lists.len(), 0);
    assert!(lists.lists.iter().all(|list| list.read().capacity() < 8));
}
