//! Questions, verdicts, and what they may cost, on arbitrary farms.

use std::collections::HashMap;
use std::time::Duration;

use gateway_core::farm::BackendId;
use gateway_core::protocol::{ContentRange, RequestPacket, SessionId, read_ack};
use gateway_core::routing::ask::{Doubts, Pace, Recent, Said, Verdict, judge, question};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

const PATIENCE: Duration = Duration::from_secs(3600);

fn said() -> impl Strategy<Value = Said> {
    prop_oneof![
        4 => Just(Said::NotFound),
        2 => option::of(1..1000u64).prop_map(Said::Has),
        1 => Just(Said::Empty),
        1 => (0..7200u64).prop_map(|since| Said::Unclear(Duration::from_secs(since))),
    ]
}

fn farm(said: Vec<Said>) -> Vec<(BackendId, Said)> {
    (0u32..).map(BackendId).zip(said).collect()
}

fn claims(said: Said) -> bool {
    matches!(said, Said::Has(_) | Said::Empty)
}

/// A server that keeps one number, and refuses what MC-BUP lets it refuse: nothing for its total,
/// holes always. The next offset after it has seen the Fragment.
fn lenient_server(next: u64, range: ContentRange) -> u64 {
    if range.first() > next { next } else { next.max(range.first() + range.len()) }
}

proptest! {
    #![proptest_config(crate::cases(2000))]

    #[test]
    fn no_question_can_write_a_byte(total in 1..u64::MAX / 2, at: u64) {
        let session = SessionId::parse("{x}").expect("legal id");
        let range = ContentRange::new(0, total - 1, total).expect("legal range");
        let next = at % (total + 1);
        let asked = question(&RequestPacket::Fragment { session, range }).expect("a range");
        prop_assert_eq!(lenient_server(next, asked), next);
        prop_assert!(asked.total() != total && asked.len() == 1);
        // And it is one that the strictest reader takes for a Fragment.
        let written = format!("bytes {}-{}/{}", asked.first(), asked.first(), asked.total());
        prop_assert_eq!(ContentRange::parse(&written), Ok(asked));
    }

    #[test]
    fn there_is_an_owner_only_where_every_other_backend_disowns_the_session(
        said in vec(said(), 1..6),
    ) {
        let said = farm(said);
        let mut doubts = Doubts::default();
        let verdict = judge(&said, &mut doubts, Duration::ZERO, PATIENCE);
        let given_up = |said| matches!(said, Said::Unclear(since) if since >= PATIENCE);
        let claimed = said.iter().filter(|(_, said)| claims(*said)).count();
        let unclear = said.iter().any(|&(_, said)| {
            matches!(said, Said::Unclear(_)) && !given_up(said)
        });
        match verdict {
            Verdict::Owner(owner, next) => {
                prop_assert!(said.contains(&(owner, Said::Has(next))));
                prop_assert!(claimed == 1 && !unclear);
            }
            Verdict::Empty(owner) => {
                prop_assert!(said.contains(&(owner, Said::Empty)));
                prop_assert!(claimed == 1 && !unclear);
            }
            Verdict::Nobody => prop_assert!(claimed == 0 && !unclear),
            Verdict::Unclear => prop_assert!(claimed > 1 || unclear),
        }
    }

    #[test]
    fn nobody_starts_over_before_a_backend_was_unclear_for_as_long_as_one_is_waited_for(
        rounds in vec((vec(said(), 3), 0..1200u64), 1..40),
    ) {
        let mut doubts = Doubts::default();
        let mut now = Duration::ZERO;
        let mut since: HashMap<BackendId, Duration> = HashMap::new();
        for (said, step) in rounds {
            now += Duration::from_secs(step);
            let said = farm(said);
            let several = said.iter().filter(|(_, said)| claims(*said)).count() > 1;
            for &(backend, said) in &said {
                match said {
                    Said::Unclear(_) => { since.entry(backend).or_insert(now); }
                    said if several && claims(said) => { since.entry(backend).or_insert(now); }
                    _ => { since.remove(&backend); }
                }
            }
            let verdict = judge(&said, &mut doubts, now, PATIENCE);
            if verdict == Verdict::Nobody {
                for &(backend, said) in &said {
                    let measured = match said {
                        Said::Unclear(measured) => measured,
                        _ => Duration::ZERO,
                    };
                    let waited = since.get(&backend).map(|first| now - *first);
                    prop_assert!(waited.is_none_or(|w| w.max(measured) >= PATIENCE));
                }
            }
        }
    }

    #[test]
    fn a_backend_is_never_asked_more_often_than_its_rate(
        rate in 1..50u32,
        arrivals in vec((0..300u64, 0..3u32, 0..2000u64), 1..200),
    ) {
        let mut pace = Pace::new(rate);
        let mut now = Duration::ZERO;
        let mut asked: HashMap<BackendId, Vec<Duration>> = HashMap::new();
        for (step, first, patience) in arrivals {
            now += Duration::from_millis(step);
            let patience = Duration::from_millis(patience);
            let backends: Vec<_> = (first..3).map(BackendId).collect();
            if let Some(wait) = pace.take(&backends, now, patience) {
                prop_assert!(wait <= patience);
                for backend in backends {
                    asked.entry(backend).or_default().push(now + wait);
                }
            }
        }
        for mut times in asked.into_values() {
            times.sort();
            for (start, from) in times.iter().enumerate() {
                for (end, to) in times.iter().enumerate().skip(start) {
                    let bound = f64::from(rate) * (1.0 + (*to - *from).as_secs_f64()) + 1e-3;
                    prop_assert!((end - start + 1) as f64 <= bound.ceil(), "{:?}", times);
                }
            }
        }
    }

    #[test]
    fn what_is_remembered_is_bounded_and_never_stale(
        events in vec((0..40u32, 0..400u64), 1..200),
    ) {
        let keep = Duration::from_secs(1);
        let mut recent = Recent::new(keep, 8);
        let mut model: HashMap<u32, Duration> = HashMap::new();
        let mut now = Duration::ZERO;
        for (question, step) in events {
            now += Duration::from_millis(step);
            match recent.find(&question, now) {
                Some(answer) => {
                    prop_assert_eq!(answer, question);
                    prop_assert!(now - model[&question] < keep);
                }
                None => {
                    recent.insert(question, question, now);
                    model.insert(question, now);
                }
            }
            prop_assert!(recent.len() <= 8);
        }
    }

    #[test]
    fn no_answer_without_a_word_of_the_protocol_says_anything(status in 200..600u16) {
        let head = http::Response::builder().status(status).body(()).expect("legal").into_parts().0;
        prop_assert_eq!(Said::of(&read_ack(&head)), Said::Unclear(Duration::ZERO));
    }
}
