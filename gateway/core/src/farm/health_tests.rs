use super::*;
use crate::protocol::read_ack;
use std::net::IpAddr;

const RULES: Rules = Rules {
    probed: true,
    rise: 2,
    fall: 3,
    passive_failures: 3,
    passive_errors: 4,
    retry_after: Duration::from_secs(30),
    slow_start: Duration::ZERO,
};

const UNPROBED: Rules = Rules { probed: false, ..RULES };

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// The only client there is.
const ALONE: PacketSource = PacketSource { client: None, among_others: false };

/// Plays events, one a second, and returns the conditions after each. `+` and `-` are probes, `x`
/// is a failed connection, `c` a made one, `g`, `e` and `f` are answers (good, error; `p` is
/// a prompt one, `s` one that did not come),
/// `.` is nothing.
fn play(rules: &Rules, events: &str) -> String {
    let mut tracker = Tracker::new(false, at(0));
    let mut conditions = String::new();
    for (second, event) in (1u64..).zip(events.chars()) {
        let now = at(second);
        match event {
            '+' => tracker.probed(Ok(()), rules, now),
            '-' => tracker.probed(Err(ProbeFailure::Refused), rules, now),
            'x' => tracker.connect_failed(rules, now),
            'c' => tracker.connected(rules, now),
            'g' => tracker.answered(Answer::Good, ALONE, rules, now),
            'p' => tracker.answered(Answer::Prompt, ALONE, rules, now),
            's' => tracker.answered(Answer::Silent, ALONE, rules, now),
            'e' => tracker.answered(Answer::Failing, ALONE, rules, now),
            _ => {}
        }
        tracker.settle(rules, now);
        conditions.push(match tracker.standing(rules, now).condition {
            Condition::Up => 'u',
            Condition::Failing => 'e',
            Condition::Down => 'd',
        });
    }
    conditions
}

#[track_caller]
fn check(rules: &Rules, events: &str, expected: &str) {
    assert_eq!(play(rules, events), expected, "{events}");
}

#[test]
fn a_backend_starts_as_up_and_falls_after_enough_probes() {
    check(&RULES, "...", "uuu");
    check(&RULES, "---", "uud");
    check(&RULES, "--+---", "uuuuud");
    check(&Rules { fall: 1, ..RULES }, "-", "d");
}

#[test]
fn a_backend_rises_after_enough_probes_in_a_row() {
    check(&RULES, "---++", "uuddu");
    check(&RULES, "---+-+-++", "uuddddddu");
    check(&Rules { rise: 1, ..RULES }, "---+", "uudu");
    check(&RULES, "---++--+---", "uudduuuuuud");
}

#[test]
fn failed_connections_in_a_row_take_a_backend_down() {
    check(&RULES, "xxx", "uud");
    check(&RULES, "xxcxx", "uuuuu");
    check(&RULES, "xx+xxx", "uuuuud");
    check(&Rules { passive_failures: 0, ..RULES }, "xxxxxxxx", "uuuuuuuu");
}

#[test]
fn what_probes_watch_only_probes_bring_back() {
    check(&RULES, "xxxcgc++", "uudddddu");
}

#[test]
fn without_probes_time_or_a_connection_brings_a_backend_back() {
    let rules = Rules { retry_after: at(4), ..UNPROBED };
    check(&rules, "xxx....", "uuddddu");
    check(&rules, "xxxc", "uudu");
    // Tried again, it has one try.
    check(&rules, "xxx....x", "uuddddud");
    check(&rules, "xxx....cxx", "uudddduuuu");
}

#[test]
fn probes_that_are_switched_off_leave_nobody_down_for_ever() {
    let mut tracker = Tracker::new(false, at(0));
    for _ in 0..3 {
        tracker.probed(Err(ProbeFailure::Timeout), &RULES, at(1));
    }
    tracker.settle(&RULES, at(1000));
    assert!(!tracker.is_up());
    tracker.settle(&UNPROBED, at(1000));
    assert_eq!(tracker.next_deadline(&UNPROBED, at(1000)), Some(at(1030)));
    tracker.settle(&UNPROBED, at(1030));
    assert!(tracker.is_up());
    assert_eq!(tracker.reason(), Reason::TriedAgain);
}

#[test]
fn errors_in_a_row_spare_a_backend_until_it_does_better() {
    let rules = Rules { retry_after: at(3), ..RULES };
    check(&rules, "eeee", "uuue");
    check(&rules, "eeegeee", "uuuuuuu");
    check(&rules, "eeeeg", "uuueu");
    check(&rules, "eeee...", "uuueeeu");
    // The next error is one too many again.
    check(&rules, "eeee...e", "uuueeeue");
    check(&Rules { passive_errors: 0, ..rules }, "eeeeeeeee", "uuuuuuuuu");
}

#[test]
fn good_answers_to_fragments_do_not_speak_against_silence() {
    check(&RULES, "ssssp", "uuueu");
    check(&RULES, "sgsgsgsgs", "uuuuuueee");
    check(&RULES, "sssss.ggg", "uuueeeeee");
    check(&RULES, "spspspspsp", "uuuuuuuuuu");
}

#[test]
fn errors_never_take_a_backend_down() {
    assert!(!play(&RULES, &"e".repeat(100)).contains('d'));
    assert!(!play(&UNPROBED, &"eg".repeat(100)).contains('d'));
}

/// Threat: T22.
#[test]
fn t22_the_errors_of_one_client_take_nothing_from_others() {
    let client = |number| Some(ClientKey::of(IpAddr::from([192, 0, 2, number])));
    let of = |number| PacketSource { client: client(number), among_others: true };
    let condition = |tracker: &Tracker| tracker.standing(&RULES, at(1)).condition;
    let mut tracker = Tracker::new(false, at(0));
    for _ in 0..100 {
        tracker.answered(Answer::Failing, of(1), &RULES, at(1));
        tracker.answered(Answer::Silent, of(1), &RULES, at(1));
        assert_eq!(condition(&tracker), Condition::Up);
    }
    tracker.answered(Answer::Good, of(2), &RULES, at(1));
    for _ in 0..100 {
        tracker.answered(Answer::Failing, of(1), &RULES, at(1));
    }
    assert_eq!(condition(&tracker), Condition::Up);
    tracker.answered(Answer::Failing, of(2), &RULES, at(1));
    assert_eq!(condition(&tracker), Condition::Failing);
    // Where it is the only one, it takes nothing from anybody.
    let mut tracker = Tracker::new(false, at(0));
    let alone = PacketSource { among_others: false, ..of(1) };
    for _ in 0..RULES.passive_errors {
        tracker.answered(Answer::Failing, alone, &RULES, at(1));
    }
    assert_eq!(condition(&tracker), Condition::Failing);
}

#[test]
fn time_says_when_to_look_again() {
    let mut tracker = Tracker::new(false, at(0));
    assert_eq!(tracker.next_deadline(&RULES, at(0)), None);
    for _ in 0..4 {
        tracker.answered(Answer::Failing, ALONE, &RULES, at(6));
    }
    assert_eq!(tracker.next_deadline(&RULES, at(6)), Some(at(36)));
    tracker.settle(&RULES, at(36));
    assert_eq!(tracker.next_deadline(&RULES, at(36)), None);
}

#[test]
fn a_backend_that_comes_back_gets_its_share_step_by_step() {
    let rules = Rules { slow_start: at(100), rise: 1, fall: 1, ..RULES };
    let mut tracker = Tracker::new(false, at(0));
    let percent = |tracker: &Tracker, now| tracker.standing(&rules, at(now)).weight_percent;
    assert_eq!(percent(&tracker, 0), 100, "at the start all are alike");
    tracker.probed(Err(ProbeFailure::Refused), &rules, at(1));
    tracker.probed(Ok(()), &rules, at(1000));
    for (now, expected) in [(1000, 10), (1019, 10), (1020, 20), (1055, 50), (1099, 90), (1100, 100)]
    {
        assert_eq!(percent(&tracker, now), expected, "{now}");
    }
    assert_eq!(tracker.next_deadline(&rules, at(1000)), Some(at(1010)));
    assert_eq!(tracker.next_deadline(&rules, at(1010)), Some(at(1020)));
    assert_eq!(tracker.next_deadline(&rules, at(1099)), Some(at(1100)));
    tracker.settle(&rules, at(1100));
    assert_eq!(tracker.next_deadline(&rules, at(1100)), None);
    assert_eq!(percent(&tracker, 1100), 100);
    let at_once = Tracker::new(true, at(7));
    assert_eq!(at_once.standing(&RULES, at(7)).weight_percent, 100);
    assert_eq!(at_once.next_deadline(&RULES, at(7)), None);
}

#[test]
fn who_joins_a_farm_at_work_starts_slowly_too() {
    let rules = Rules { slow_start: at(100), ..RULES };
    assert_eq!(Tracker::new(true, at(7)).standing(&rules, at(7)).weight_percent, 10);
    let mut back = Tracker::new(false, at(0));
    for _ in 0..9 {
        back.answered(Answer::Failing, ALONE, &rules, at(1));
    }
    back.returned(at(2));
    assert_eq!(
        back.standing(&rules, at(2)),
        Standing { condition: Condition::Up, weight_percent: 10 }
    );
}

#[test]
fn the_reason_is_that_of_the_last_change() {
    let mut tracker = Tracker::new(false, at(0));
    assert_eq!((tracker.reason(), tracker.since()), (Reason::Started, at(0)));
    tracker.probed(Ok(()), &RULES, at(1));
    assert_eq!((tracker.reason(), tracker.since()), (Reason::ProbesPass, at(0)));
    for second in 2..5 {
        assert!(tracker.is_up());
        tracker.probed(Err(ProbeFailure::Status(503)), &RULES, at(second));
    }
    let reason = Reason::ProbesFail(ProbeFailure::Status(503));
    assert_eq!((tracker.reason(), tracker.since()), (reason, at(4)));
    tracker.probed(Err(ProbeFailure::Timeout), &RULES, at(5));
    assert_eq!((tracker.reason(), tracker.since()), (reason, at(4)));
}

#[test]
fn doubt_is_a_probe_against_the_state() {
    let mut tracker = Tracker::new(false, at(0));
    let mut doubts = String::new();
    for probe in "+-+---+-++".chars() {
        let outcome = if probe == '+' { Ok(()) } else { Err(ProbeFailure::Closed) };
        tracker.probed(outcome, &RULES, at(1));
        doubts.push(if tracker.is_in_doubt() { '?' } else { '.' });
    }
    assert_eq!(doubts, ".?.??.?.?.");
}

#[test]
fn a_quiet_backend_is_not_changed_by_good_news() {
    for events in ["", "+", "x", "e", "eeee", "---", "xxxc", "xc", "eg", "s", "ssss"] {
        for rules in [&RULES, &UNPROBED] {
            let mut tracker = Tracker::new(false, at(0));
            for event in events.chars() {
                match event {
                    '+' => tracker.probed(Ok(()), rules, at(1)),
                    '-' => tracker.probed(Err(ProbeFailure::Closed), rules, at(1)),
                    'x' => tracker.connect_failed(rules, at(1)),
                    'c' => tracker.connected(rules, at(1)),
                    'e' => tracker.answered(Answer::Failing, ALONE, rules, at(1)),
                    'g' => tracker.answered(Answer::Good, ALONE, rules, at(1)),
                    's' => tracker.answered(Answer::Silent, ALONE, rules, at(1)),
                    _ => unreachable!("{event}"),
                }
            }
            let before = tracker.clone();
            tracker.connected(rules, at(2));
            tracker.answered(Answer::Good, ALONE, rules, at(2));
            tracker.answered(Answer::Prompt, ALONE, rules, at(2));
            if before.is_quiet() {
                assert_eq!(tracker, before, "{events}");
            }
        }
    }
}

#[track_caller]
fn check_answer(status: u16, fields: &[(&str, &str)], expected: Answer) {
    let mut answer = http::Response::builder().status(status);
    for (name, value) in fields {
        answer = answer.header(*name, *value);
    }
    let head = answer.body(()).expect("legal head").into_parts().0;
    let ack = read_ack(head.status, &head.headers);
    assert_eq!(Answer::of(&ack, PacketType::Fragment), expected, "{status} {fields:?}");
    let prompt = if expected == Answer::Good { Answer::Prompt } else { expected };
    for kind in [PacketType::CreateSession, PacketType::Ping] {
        assert_eq!(Answer::of(&ack, kind), prompt, "{status} {fields:?}");
    }
}

#[test]
fn answers_of_the_protocol_are_no_failures_of_the_server() {
    let ack = ("BITS-Packet-Type", "Ack");
    check_answer(200, &[ack], Answer::Good);
    check_answer(401, &[], Answer::Good);
    check_answer(404, &[], Answer::Good);
    check_answer(501, &[], Answer::Good);
    check_answer(500, &[("BITS-Error-Code", "0x8020001F")], Answer::Good);
    check_answer(
        500,
        &[ack, ("BITS-Error", "0x80004005"), ("BITS-Error-Context", "7")],
        Answer::Good,
    );
    check_answer(500, &[], Answer::Failing);
    check_answer(502, &[], Answer::Failing);
    check_answer(503, &[], Answer::Failing);
    check_answer(504, &[], Answer::Failing);
    check_answer(503, &[ack], Answer::Good);
    check_answer(500, &[ack, ("BITS-Error", "0x80070070")], Answer::Good);
    check_answer(500, &[("BITS-Error-Code", "0x80070112")], Answer::Good);
}
