//! Questions, verdicts, and what they may cost, on arbitrary farms.

use std::collections::HashMap;
use std::time::Duration;

use gateway_core::farm::BackendId;
use gateway_core::protocol::{ContentRange, RequestPacket, SessionId, read_ack};
use gateway_core::routing::recovery::{
    OwnershipAnswer, Question, QuestionLimiter, Recent, UnclearBackends, Verdict, confirm, judge,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

const PATIENCE: Duration = Duration::from_secs(3600);

fn said() -> impl Strategy<Value = OwnershipAnswer> {
    prop_oneof![
        4 => Just(OwnershipAnswer::NotFound),
        1 => Just(OwnershipAnswer::Moved),
        2 => option::of(1..1000u64).prop_map(OwnershipAnswer::Has),
        1 => Just(OwnershipAnswer::Newborn),
        1 => Just(OwnershipAnswer::Took),
        1 => (0..7200u64).prop_map(|since| OwnershipAnswer::Unclear(Duration::from_secs(since))),
    ]
}

fn farm(said: Vec<OwnershipAnswer>) -> Vec<(BackendId, OwnershipAnswer)> {
    (0u32..).map(BackendId).zip(said).collect()
}

fn claims(said: OwnershipAnswer) -> bool {
    matches!(said, OwnershipAnswer::Has(_) | OwnershipAnswer::Newborn)
}

/// A server that keeps one number, and refuses what MC-BUP lets it refuse: nothing for its total,
/// holes always.
fn lenient_server(next: u64, range: ContentRange) -> u64 {
    if range.first() > next { next } else { next.max(range.first() + range.len()) }
}

/// Packets of a session, with how many bytes its server may have: whatever came of the packet when
/// it was sent before, and of those before it.
fn packets() -> impl Strategy<Value = (RequestPacket, u64)> {
    let fragment = |total: u64, first: u64, last: u64, next: u64| {
        let session = SessionId::parse("{x}").expect("legal id");
        let range = ContentRange::new(first, last, total).expect("legal range");
        // All that came before is the client's to know, or nothing came before.
        let most = if first == 0 { last + 1 } else { total };
        (RequestPacket::Fragment { session, range }, next % (most + 1))
    };
    let near = (1..12u64, any::<[u64; 3]>());
    let far = (1..u64::MAX / 2, any::<[u64; 3]>());
    prop_oneof![near, far].prop_map(move |(total, [first, last, next])| {
        let first = if first % 2 == 0 { 0 } else { first % total };
        fragment(total, first, first + last % (total - first), next)
    })
}

proptest! {
    #![proptest_config(crate::cases(2000))]

    #[test]
    fn no_question_can_write_a_byte((packet, next) in packets(), shared_farm: bool) {
        let asked = Question::of(&packet, shared_farm).expect("a range");
        let range = asked.range();
        prop_assert_eq!(range.len(), 1);
        if asked.sends_its_byte() {
            prop_assert_eq!(lenient_server(next, range), next);
        }
        // A server that believes the size which a question names can take the packet all the same.
        let total = packet.range().expect("a Fragment").total();
        prop_assert!(!asked.lets_newborns_go_on() || range.total() == total);
        // And it is one that the strictest reader takes for a Fragment.
        let written = format!("bytes {}-{}/{}", range.first(), range.first(), range.total());
        prop_assert_eq!(ContentRange::parse(&written), Ok(range));
    }

    #[test]
    fn a_newborn_session_goes_on_only_where_the_server_disowns_it_elsewhere(
        said in vec(said(), 1..6),
        elsewhere in said(),
    ) {
        let said = farm(said);
        let mut unclear = UnclearBackends::default();
        let verdict = judge(&said, &mut unclear, Duration::ZERO, PATIENCE);
        let confirmed = confirm(verdict, elsewhere);
        if let Verdict::Newborn(_) = confirmed {
            prop_assert!(confirmed == verdict && elsewhere == OwnershipAnswer::NotFound);
        }
        // What has bytes is neither found nor lost by it.
        prop_assert!(matches!(verdict, Verdict::Newborn(_)) || confirmed == verdict);
    }

    #[test]
    fn there_is_an_owner_only_where_every_other_backend_disowns_the_session(
        said in vec(said(), 1..6),
    ) {
        let said = farm(said);
        let mut unclear = UnclearBackends::default();
        let verdict = judge(&said, &mut unclear, Duration::ZERO, PATIENCE);
        let given_up = |said| matches!(said, OwnershipAnswer::Unclear(since) if since >= PATIENCE);
        let claimed = said.iter().filter(|(_, said)| claims(*said)).count();
        let unclear = said.iter().any(|&(_, said)| {
            matches!(said, OwnershipAnswer::Unclear(_) | OwnershipAnswer::Took | OwnershipAnswer::Moved) && !given_up(said)
        });
        match verdict {
            Verdict::Owner(owner, next) => {
                prop_assert!(said.contains(&(owner, OwnershipAnswer::Has(next))));
                prop_assert!(claimed == 1 && !unclear);
            }
            Verdict::Newborn(owner) => {
                prop_assert!(said.contains(&(owner, OwnershipAnswer::Newborn)));
                prop_assert!(claimed == 1 && !unclear);
            }
            Verdict::Corrupted(owner) => {
                prop_assert!(said.contains(&(owner, OwnershipAnswer::Took)));
                prop_assert!(claimed == 0);
            }
            Verdict::Nobody => prop_assert!(claimed == 0 && !unclear),
            Verdict::Unclear => prop_assert!(claimed > 1 || unclear),
        }
    }

    #[test]
    fn nobody_starts_over_before_a_backend_was_unclear_for_as_long_as_one_is_waited_for(
        rounds in vec((vec(said(), 3), 0..1200u64), 1..40),
    ) {
        let mut unclear = UnclearBackends::default();
        let mut now = Duration::ZERO;
        let mut since: HashMap<BackendId, Duration> = HashMap::new();
        for (said, step) in rounds {
            now += Duration::from_secs(step);
            let said = farm(said);
            let several = said.iter().filter(|(_, said)| claims(*said)).count() > 1;
            for &(backend, said) in &said {
                match said {
                    OwnershipAnswer::Unclear(_) | OwnershipAnswer::Took => { since.entry(backend).or_insert(now); }
                    said if several && claims(said) => { since.entry(backend).or_insert(now); }
                    _ => { since.remove(&backend); }
                }
            }
            let verdict = judge(&said, &mut unclear, now, PATIENCE);
            if verdict == Verdict::Nobody {
                prop_assert!(said.iter().all(|(_, said)| *said != OwnershipAnswer::Moved));
                for &(backend, said) in &said {
                    let measured = match said {
                        OwnershipAnswer::Unclear(measured) => measured,
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
        let mut pace = QuestionLimiter::new(rate);
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
    fn no_answer_without_a_word_of_the_protocol_says_anything(
        status in 200..600u16,
        (packet, _) in packets(),
        shared_farm: bool,
    ) {
        let head = http::Response::builder().status(status).body(()).expect("legal").into_parts().0;
        let question = Question::of(&packet, shared_farm).expect("a range");
        let said = OwnershipAnswer::of(&read_ack(head.status, &head.headers), question);
        prop_assert_eq!(said, OwnershipAnswer::Unclear(Duration::ZERO));
    }
}
