//! The rule of health on arbitrary histories.

use std::time::Duration;

use gateway_core::farm::{Answer, Condition, PacketSource, ProbeFailure, Rules, Tracker};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Event {
    Probe(bool),
    ConnectFailed,
    Connected,
    Answered(Answer),
    Nothing,
}

use Event::{Answered, ConnectFailed, Connected, Nothing, Probe};

fn event() -> impl Strategy<Value = Event> {
    select(
        &[
            Probe(true),
            Probe(true),
            Probe(false),
            Probe(false),
            ConnectFailed,
            ConnectFailed,
            Connected,
            Answered(Answer::Good),
            Answered(Answer::Prompt),
            Answered(Answer::Silent),
            Answered(Answer::Failing),
            Answered(Answer::Failing),
            Nothing,
        ][..],
    )
}

/// Events, each after so many milliseconds.
fn histories() -> impl Strategy<Value = Vec<(u64, Event)>> {
    vec((0..5000u64, event()), 0..60)
}

fn seconds(most: u64) -> impl Strategy<Value = Duration> {
    (0..=most).prop_map(Duration::from_secs)
}

fn rules() -> impl Strategy<Value = Rules> {
    let counts = (1..5u32, 1..5u32, 0..5u32, 0..5u32);
    let times = (seconds(20), seconds(20));
    (any::<bool>(), counts, times).prop_map(|(probed, counts, times)| Rules {
        probed,
        rise: counts.0,
        fall: counts.1,
        passive_failures: counts.2,
        passive_errors: counts.3,
        retry_after: times.0,
        slow_start: times.1,
    })
}

fn play(tracker: &mut Tracker, event: Event, rules: &Rules, now: Duration) {
    match event {
        Probe(true) => tracker.probed(Ok(()), rules, now),
        Probe(false) => tracker.probed(Err(ProbeFailure::Timeout), rules, now),
        ConnectFailed => tracker.connect_failed(rules, now),
        Connected => tracker.connected(rules, now),
        Answered(answer) => tracker.answered(answer, PacketSource::default(), rules, now),
        Nothing => {}
    }
}

/// How many events at the end of a history are of the one kind, those aside that say nothing
/// about it.
fn run(past: &[Event], is: impl Fn(Event) -> bool, ends: impl Fn(Event) -> bool) -> u32 {
    let mut count = 0;
    for &event in past.iter().rev() {
        if is(event) {
            count += 1;
        } else if ends(event) {
            break;
        }
    }
    count
}

/// A share is between 1 and 100 percent, and grows for as long as a backend stays up.
fn share_is_sound(rules: &Rules, history: &[(u64, Event)]) -> Result<(), TestCaseError> {
    let mut tracker = Tracker::new(false, Duration::ZERO);
    let mut now = Duration::ZERO;
    let mut before = tracker.clone();
    let mut last = 0;
    for &(wait, event) in history {
        now += Duration::from_millis(wait);
        play(&mut tracker, event, rules, now);
        let percent = tracker.standing(rules, now).weight_percent;
        prop_assert!((1..=100).contains(&percent));
        // The times alone do not tell a backend that fell and rose again in the same moment.
        if before.is_up() && tracker.is_up() && tracker.since() == before.since() {
            prop_assert!(percent >= last, "{percent} after {last}");
        }
        prop_assert!(!rules.slow_start.is_zero() || percent == 100);
        (before, last) = (tracker.clone(), percent);
    }
    Ok(())
}

#[test]
fn a_share_begins_anew_after_a_fall_and_a_rise_in_one_moment() {
    let rules = Rules {
        probed: false,
        rise: 1,
        fall: 1,
        passive_failures: 0,
        passive_errors: 0,
        retry_after: Duration::ZERO,
        slow_start: Duration::from_secs(1),
    };
    share_is_sound(&rules, &[(0, Probe(false)), (0, Probe(true))]).unwrap();
    let mut tracker = Tracker::new(false, Duration::ZERO);
    let mut percent = Vec::new();
    for event in [Nothing, Probe(false), Probe(true)] {
        play(&mut tracker, event, &rules, Duration::ZERO);
        percent.push(tracker.standing(&rules, Duration::ZERO).weight_percent);
    }
    assert_eq!(percent, [100, 100, 10]);
}

proptest! {
    #![proptest_config(crate::cases(2000))]

    #[test]
    fn states_change_for_a_reason_that_the_history_shows(
        rules in rules(),
        history in histories(),
    ) {
        let mut tracker = Tracker::new(false, Duration::ZERO);
        let mut now = Duration::ZERO;
        let mut past = Vec::new();
        let mut fell = Duration::ZERO;
        for (wait, event) in history {
            now += Duration::from_millis(wait);
            let before = tracker.is_up();
            play(&mut tracker, event, &rules, now);
            past.push(event);
            let probes = |pass| run(&past, |e| e == Probe(pass), |e| e == Probe(!pass));
            let refused = run(
                &past,
                |e| e == ConnectFailed,
                |e| e == Connected || e == Probe(true),
            );
            match (before, tracker.is_up()) {
                (true, false) => {
                    fell = now;
                    match event {
                        Probe(false) => prop_assert!(probes(false) >= rules.fall),
                        // One is enough after a retry without probes.
                        ConnectFailed => prop_assert!(
                            refused >= rules.passive_failures || !rules.probed
                        ),
                        other => prop_assert!(false, "down by {other:?}"),
                    }
                }
                (false, true) => match event {
                    Probe(true) => prop_assert!(probes(true) >= rules.rise),
                    Connected => prop_assert!(!rules.probed),
                    other => prop_assert!(false, "up by {other:?}"),
                },
                (true, true) => prop_assert!(probes(false) < rules.fall || event != Probe(false)),
                (false, false) => prop_assert!(event != Probe(true) || rules.rise > 1),
            }
            let down = !tracker.is_up();
            tracker.settle(&rules, now);
            if down && tracker.is_up() {
                prop_assert!(!rules.probed && now >= fell + rules.retry_after);
            }
        }
    }

    #[test]
    fn nothing_changes_between_events_but_at_the_deadline(
        rules in rules(),
        history in histories(),
    ) {
        let mut tracker = Tracker::new(true, Duration::ZERO);
        let mut now = Duration::ZERO;
        for (wait, event) in history {
            let next = now + Duration::from_millis(wait);
            tracker.settle(&rules, now);
            // Whoever wakes up at every deadline sees every change, and never spins.
            while let Some(deadline) = tracker.next_deadline(&rules, now) {
                prop_assert!(deadline > now, "{deadline:?} at {now:?}");
                let here = tracker.standing(&rules, now);
                let just_before = deadline - Duration::from_nanos(1);
                let mut early = tracker.clone();
                early.settle(&rules, just_before);
                prop_assert_eq!(early.standing(&rules, just_before), here);
                if deadline > next {
                    break;
                }
                now = deadline;
                tracker.settle(&rules, now);
            }
            now = next;
            play(&mut tracker, event, &rules, now);
        }
    }

    #[test]
    fn a_share_is_never_nothing_and_only_grows_while_a_backend_is_up(
        rules in rules(),
        history in histories(),
    ) {
        share_is_sound(&rules, &history)?;
    }

    #[test]
    fn answers_alone_never_take_a_backend_down(
        rules in rules(),
        answers in vec(select(&[Answer::Good, Answer::Prompt, Answer::Failing, Answer::Silent][..]), 0..200),
    ) {
        let mut tracker = Tracker::new(false, Duration::ZERO);
        for answer in answers {
            tracker.answered(answer, PacketSource::default(), &rules, Duration::from_secs(1));
            prop_assert!(tracker.standing(&rules, Duration::from_secs(1)).condition != Condition::Down);
        }
    }
}
