//! Placement: shares are exact, ties spread, hashing is stable and bounded.

use super::*;
use crate::farm::{AdminState, Health};

fn backends(weights: &[u32]) -> Vec<Backend> {
    let backends = (0u32..).zip(weights).map(|(id, &weight)| Backend {
        id: BackendId(id),
        name: format!("up{id:02}").into(),
        weight,
        admin: AdminState::Ready,
        health: Health::Up,
        announce: None,
    });
    backends.collect()
}

/// How often each backend is chosen in the turns given.
fn round(weights: &[u32], turns: std::ops::Range<u64>) -> Vec<u32> {
    let backends = backends(weights);
    let mut chosen = vec![0; weights.len()];
    for turn in turns {
        let id = Placement::RoundRobin.choose(backends.iter(), 0, turn, &|_| 0).unwrap();
        chosen[id.0 as usize] += 1;
    }
    chosen
}

/// Sessions per backend after `count` placements that nobody ends.
fn fill(policy: Placement, weights: &[u32], count: u64) -> Vec<u64> {
    let backends = backends(weights);
    let mut sessions = vec![0u64; weights.len()];
    for turn in 0..count {
        let loads = |id: BackendId| sessions[id.0 as usize];
        let id = policy.choose(backends.iter(), mix(turn), turn, &loads).unwrap();
        sessions[id.0 as usize] += 1;
    }
    sessions
}

#[test]
fn a_round_gives_each_backend_its_weight_exactly() {
    for weights in [&[1][..], &[1, 1], &[1, 2, 3], &[5, 1, 1], &[7, 11, 13], &[100, 1], &[3, 3, 4]]
    {
        let slots: u64 = weights.iter().map(|&weight| u64::from(weight)).sum();
        // From anywhere, since farms change in the middle of a round.
        for start in [0, 1, 17, u64::from(u32::MAX)] {
            assert_eq!(round(weights, start..start + slots), weights, "from {start}");
        }
    }
}

#[test]
fn backends_of_equal_weight_have_one_turn_each_in_a_round() {
    for count in 1..20 {
        for weight in [1, 2, 100, u32::MAX] {
            let weights = vec![weight; count];
            for start in [0, 5, 1000] {
                let chosen = round(&weights, start..start + count as u64);
                assert_eq!(chosen, vec![1; count], "{count} of weight {weight} from {start}");
            }
        }
    }
}

#[test]
fn a_heavy_backend_has_no_long_rows() {
    let backends = backends(&[4, 4]);
    let turns = (0..80).map(|turn| round_robin(backends.iter(), turn).unwrap());
    let turns: Vec<_> = turns.collect();
    assert!(turns.windows(3).all(|w| w[0] != w[1] || w[1] != w[2]), "{turns:?}");
    let heavy = self::backends(&[5, 3]);
    let turns: Vec<_> = (0..80).map(|turn| round_robin(heavy.iter(), turn).unwrap()).collect();
    assert!(!turns.windows(5).any(|w| w.iter().all(|&id| id == w[0])), "{turns:?}");
}

#[test]
fn the_backend_with_the_fewest_sessions_for_its_weight_is_chosen() {
    #[track_caller]
    fn check(weights: &[u32], sessions: &[u64], expected: u32) {
        let backends = backends(weights);
        for turn in 0..8 {
            let loads = |id: BackendId| sessions[id.0 as usize];
            let id = Placement::LeastSessions.choose(backends.iter(), 0, turn, &loads);
            assert_eq!(id, Some(BackendId(expected)), "turn {turn}");
        }
    }
    check(&[1, 1, 1], &[3, 2, 4], 1);
    check(&[1, 3], &[4, 9], 1);
    check(&[1, 3], &[3, 10], 0);
    check(&[u32::MAX, 1], &[u64::MAX, 5], 1);
    check(&[1, u32::MAX], &[2, u64::from(u32::MAX) + 1], 1);
}

#[test]
fn backends_with_equally_few_sessions_take_turns() {
    let backends = backends(&[1, 1, 1, 1]);
    let chosen = |turn, sessions: [u64; 4]| {
        least_sessions(backends.iter(), turn, &|id: BackendId| sessions[id.0 as usize]).unwrap().0
    };
    let all: Vec<_> = (0..4).map(|turn| chosen(turn, [5; 4])).collect();
    assert_eq!(all, [0, 1, 2, 3]);
    let two: Vec<_> = (0..4).map(|turn| chosen(turn, [9, 5, 9, 5])).collect();
    assert_eq!(two, [1, 1, 3, 3]);
}

#[test]
fn least_sessions_fills_a_farm_by_weight() {
    assert_eq!(fill(Placement::LeastSessions, &[1, 1, 1], 300), [100, 100, 100]);
    assert_eq!(fill(Placement::LeastSessions, &[1, 2, 3], 600), [100, 200, 300]);
}

/// What two numbers per backend say: sessions of unknown size, and bytes of the one other session.
struct Farm<'a>(&'a [(u64, u64)]);

impl Loads for Farm<'_> {
    fn sessions(&self, backend: BackendId) -> u64 {
        let (unsized_sessions, bytes) = self.0[backend.0 as usize];
        unsized_sessions + u64::from(bytes > 0)
    }

    fn outstanding(&self, backend: BackendId) -> Outstanding {
        let (unsized_sessions, bytes) = self.0[backend.0 as usize];
        Outstanding { bytes, unsized_sessions }
    }
}

#[test]
fn the_backend_with_the_fewest_bytes_left_for_its_weight_is_chosen() {
    #[track_caller]
    fn check(weights: &[u32], loads: &[(u64, u64)], expected: u32) {
        let backends = backends(weights);
        for turn in 0..8 {
            let id = Placement::LeastBytesLeft.choose(backends.iter(), 0, turn, &Farm(loads));
            assert_eq!(id, Some(BackendId(expected)), "turn {turn}");
        }
    }
    check(&[1, 1, 1], &[(0, 500), (0, 20), (0, 30)], 1);
    // One session of 100 bytes against one of 60, on a server of half the weight.
    check(&[2, 1], &[(0, 100), (0, 60)], 0);
    // Those of unknown size count as the average of the others.
    check(&[1, 1], &[(1, 40), (0, 150)], 0);
    check(&[1, 1], &[(2, 50), (0, 150)], 1);
    // Without any size known, sessions are what counts.
    check(&[1, 1, 1], &[(3, 0), (2, 0), (4, 0)], 1);
    check(&[u32::MAX, 1], &[(u64::MAX - 1, u64::MAX), (0, 1)], 1);
}

#[test]
fn a_burst_of_new_sessions_is_spread_before_their_sizes_are_known() {
    let backends = backends(&[1, 1, 2]);
    let mut loads = [(0, 0); 3];
    for turn in 0..40 {
        let id = Placement::LeastBytesLeft.choose(backends.iter(), 0, turn, &Farm(&loads));
        loads[id.unwrap().0 as usize].0 += 1;
    }
    assert_eq!(loads.map(|(sessions, _)| sessions), [10, 10, 20]);
}

/// Where `keys` go while nobody has a session.
fn homes(backends: &[Backend], keys: u64) -> Vec<BackendId> {
    (0..keys)
        .map(|key| Placement::Hash.choose(backends.iter(), mix(key), 0, &|_| 0).unwrap())
        .collect()
}

#[test]
fn a_key_goes_to_the_same_backend_whatever_the_order_and_turn() {
    let mut backends = backends(&[1, 2, 3, 1]);
    let before = homes(&backends, 500);
    backends.reverse();
    assert_eq!(homes(&backends, 500), before);
    let later = Placement::Hash.choose(backends.iter(), mix(3), 77, &|_| 0);
    assert_eq!(later, Some(before[3]));
}

#[test]
fn a_backend_that_leaves_moves_only_its_own_keys() {
    let all = backends(&[1, 2, 3, 1, 5]);
    let before = homes(&all, 2000);
    for gone in &all {
        let rest: Vec<_> = all.iter().filter(|b| b.id != gone.id).cloned().collect();
        let mut moved = 0;
        for (old, new) in before.iter().zip(homes(&rest, 2000)) {
            if *old == gone.id {
                moved += 1;
            } else {
                assert_eq!(*old, new);
            }
        }
        assert!(moved > 0, "{} had no keys", gone.name);
    }
}

#[test]
fn hashing_gives_each_backend_keys_by_its_weight() {
    let mut keys = [0f64; 4];
    for home in homes(&backends(&[1, 1, 2, 4]), 8000) {
        keys[home.0 as usize] += 1.0;
    }
    for (got, expected) in keys.iter().zip([1000.0, 1000.0, 2000.0, 4000.0]) {
        // Six standard deviations of the widest of the four; the keys are fixed.
        assert!((got - expected).abs() < 270.0, "{keys:?}");
    }
}

#[test]
fn one_busy_key_does_not_fill_one_backend() {
    let weights = [1, 2, 1];
    let backends = backends(&weights);
    let mut sessions = [0u64; 3];
    for total in 1u64..=400 {
        let loads = |id: BackendId| sessions[id.0 as usize];
        let id = Placement::Hash.choose(backends.iter(), 42, 0, &loads).unwrap().0 as usize;
        sessions[id] += 1;
        // 1.25 times its share, rounded up.
        assert!(sessions[id] <= (5 * total * u64::from(weights[id])).div_ceil(16), "{sessions:?}");
    }
}

#[test]
fn nobody_is_chosen_only_where_nobody_stands() {
    for policy in Placement::ALL {
        assert_eq!(policy.choose([].iter(), 1, 2, &|_| 0), None);
        let one = backends(&[u32::MAX]);
        let full = |_: BackendId| u64::MAX;
        assert_eq!(policy.choose(one.iter(), u64::MAX, u64::MAX, &full), Some(BackendId(0)));
    }
}

#[test]
fn a_key_keeps_its_backend_up_to_a_quarter_more_than_its_share() {
    let backends = backends(&[1, 1]);
    let chosen = |hash, loads: [u64; 2]| {
        let loads = |id: BackendId| loads[id.0 as usize];
        Placement::Hash.choose(backends.iter(), hash, 0, &loads).unwrap().0
    };
    let first = (0..).map(mix).find(|&hash| chosen(hash, [0, 0]) == 0).unwrap();
    // With the one that comes there are 8 to share out: 4 each, and 5 with a quarter more.
    assert_eq!(chosen(first, [4, 3]), 0);
    assert_eq!(chosen(first, [5, 2]), 1);
}
