use std::cell::Cell;

use super::*;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn a_state_follows_from_what_is_waited_for_and_for_how_long() {
    use State::{Active, Idle, Waiting};
    for (wait, [now, soon, after_5_s, after_5_min]) in [
        (Wait::Nothing, [Active, Active, Active, Idle]),
        (Wait::Client, [Active, Active, Active, Idle]),
        (Wait::Turn, [Waiting; 4]),
        (Wait::Backend, [Waiting; 4]),
        (Wait::Write, [Active, Active, Waiting, Waiting]),
        (Wait::Connection, [Active, Active, Waiting, Waiting]),
        (Wait::Answer, [Active, Active, Waiting, Waiting]),
    ] {
        let silent = [Duration::ZERO, Duration::from_millis(4999), seconds(5), seconds(300)];
        let states = silent.map(|silent| State::of(wait, silent));
        assert_eq!(states, [now, soon, after_5_s, after_5_min], "{wait:?}");
    }
}

#[test]
fn an_upload_without_a_request_waits_for_a_backend_that_is_away() {
    for wait in Wait::ALL {
        let away = if wait == Wait::Nothing { Wait::Backend } else { wait };
        assert_eq!((wait.of_upload(false), wait.of_upload(true)), (wait, away));
    }
    let day = seconds(24 * 60 * 60);
    assert_eq!(State::of(Wait::Nothing.of_upload(true), day), State::Waiting);
    assert_eq!(State::of(Wait::Nothing.of_upload(false), day), State::Idle);
}

#[test]
fn what_is_waited_for_is_a_number_and_back() {
    for wait in Wait::ALL {
        assert_eq!(Wait::from_u8(wait as u8), wait);
    }
    assert_eq!(Wait::from_u8(7), Wait::Nothing);
}

/// Looks at so many seconds and bytes, then the rate and the last move at a time.
#[track_caller]
fn check(looks: &[(u64, u64)], at: u64, rate: Option<u64>, moved: Option<u64>) {
    let mut meter = Meter::new(seconds(100));
    for &(at, bytes) in looks {
        meter.sample(seconds(at), bytes);
    }
    let found = (meter.rate(seconds(at)), meter.moved());
    assert_eq!(found, (rate, moved.map(seconds)), "{looks:?} at {at}");
}

#[test]
fn a_rate_is_that_of_the_last_seconds() {
    check(&[], 100, None, None);
    check(&[(100, 50)], 100, None, Some(100));
    check(&[(101, 50)], 101, Some(50), Some(101));
    check(&[(102, 50), (103, 90)], 103, Some(30), Some(103));
    // A look that is five seconds old becomes the beginning with the next one.
    check(&[(105, 500)], 105, Some(100), Some(105));
    check(&[(105, 500), (107, 900)], 107, Some(128), Some(107));
    check(&[(105, 500), (110, 900)], 110, Some(80), Some(110));
    check(&[(105, 500), (110, 900), (115, 900)], 115, Some(0), Some(110));
    // Nobody has looked for long: it is an average.
    check(&[(105, 500), (205, 100_500)], 205, Some(1000), Some(205));
    // What goes to its server once more does not count twice.
    check(&[(101, 50), (102, 20), (103, 90)], 103, Some(30), Some(103));
}

#[test]
fn a_client_counts_answers_that_are_no_progress() {
    for (status, fails_) in [
        (Some(200), Some(false)),
        (Some(201), Some(false)),
        (Some(416), Some(false)),
        (Some(401), None),
        (Some(413), None),
        (Some(500), Some(true)),
        (Some(503), Some(true)),
        (None, Some(true)),
    ] {
        assert_eq!(fails(status), fails_, "{status:?}");
    }
}

#[test]
fn a_client_with_its_share_makes_room_itself() {
    let capacity = Capacity::of(80);
    for (all, of_client, crowd) in [
        (0, 0, None),
        (79, 9, None),
        (10, 10, Some(Crowd::Client)),
        (80, 10, Some(Crowd::Client)),
        (80, 9, Some(Crowd::All)),
    ] {
        assert_eq!(capacity.crowd(all, of_client), crowd, "{all} {of_client}");
    }
}

/// Who leaves of those that were last heard of then; `None` has a request under way.
#[track_caller]
fn leave(heard: &[Option<u64>], expected: &[Option<usize>]) {
    let mut heard: Vec<_> = heard.iter().map(|at| at.map(seconds)).collect();
    let mut leaving = Leaving::default();
    for (step, &expected) in expected.iter().enumerate() {
        let walk = || {
            let silent = heard.iter().enumerate();
            silent.filter_map(|(at, heard)| heard.map(|heard| (at, heard))).collect()
        };
        let found = leaving.next(seconds(1000 + step as u64), walk, |&at| heard[at]);
        assert_eq!(found, expected, "step {step}");
        if let Some(found) = found {
            heard[found] = None;
        }
    }
}

#[test]
fn the_longest_silent_one_leaves() {
    leave(&[Some(5), Some(3), None, Some(4)], &[Some(1), Some(3), Some(0), None]);
    leave(&[None, None], &[None]);
    leave(&[], &[None]);
    let many: Vec<_> = (0..1000).map(|at| Some(5000 - at)).collect();
    let order: Vec<_> = (0..1000).rev().map(Some).collect();
    leave(&many, &order);
}

#[test]
fn who_is_heard_of_again_is_passed_over_and_a_walk_finds_many() {
    let heard: Vec<_> = (0..640).map(|at| Cell::new(Some(seconds(at)))).collect();
    let (mut leaving, walks) = (Leaving::default(), Cell::new(0));
    let mut next = |now| {
        let walk = || {
            walks.set(walks.get() + 1);
            let silent = heard.iter().enumerate();
            silent.filter_map(|(at, heard)| heard.get().map(|heard| (at, heard))).collect()
        };
        let found = leaving.next(seconds(now), walk, |&at| heard[at].get());
        if let Some(found) = found {
            heard[found].set(None);
        }
        found
    };
    assert_eq!(next(1000), Some(0));
    heard[1].set(Some(seconds(1000)));
    heard[2].set(None);
    assert_eq!((next(1000), walks.get()), (Some(3), 1));
    for expected in 4..10 {
        assert_eq!(next(1000), Some(expected));
    }
    assert_eq!((next(1000), walks.get()), (Some(10), 2));
    heard.iter().for_each(|heard| heard.set(None));
    assert_eq!((next(1000), walks.get()), (None, 3));
    heard[5].set(Some(seconds(1000)));
    assert_eq!((next(1000), walks.get()), (None, 3), "it has looked a moment ago");
    assert_eq!((next(1001), walks.get()), (Some(5), 4));
}

#[test]
fn each_state_and_each_wait_has_a_word_of_its_own() {
    assert_eq!(State::ALL.map(State::word), ["active", "waiting", "idle"]);
    let waits = ["client", "write", "turn", "backend", "connection", "answer"];
    let words: Vec<_> = Wait::ALL.into_iter().filter_map(Wait::word).collect();
    assert_eq!((words, Wait::Nothing.word()), (waits.to_vec(), None));
    assert_eq!(IDLE, Duration::from_secs(300));
}
