//! Questions that match nothing, answers read for what they mean, and verdicts that wait.

use super::*;
use crate::protocol::{SessionId, read_ack};

const A: BackendId = BackendId(0);
const B: BackendId = BackendId(1);
const C: BackendId = BackendId(2);
const HOUR: Duration = Duration::from_secs(3600);
const UNCLEAR: Said = Said::Unclear(Duration::ZERO);

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn the_byte_asked_with_lies_behind_every_byte_of_the_file() {
    let session = || SessionId::parse("{x}").unwrap();
    for total in [0, 1, 2, 100, 1 << 40, u64::MAX - 2] {
        let range = ContentRange::new(0, total.saturating_sub(1), total).unwrap();
        let asked = question(&RequestPacket::Fragment { session: session(), range }).unwrap();
        // A session has at most `total` bytes and wants the one behind them.
        assert!(asked.first() > total && asked.total() != total, "{asked:?}");
        assert_eq!(asked.len(), 1);
    }
    let range = ContentRange::new(0, 9, u64::MAX).unwrap();
    assert_eq!(question(&RequestPacket::Fragment { session: session(), range }), None);
    for packet in [
        RequestPacket::CloseSession { session: session() },
        RequestPacket::CancelSession { session: session() },
    ] {
        let asked = question(&packet).unwrap();
        assert_eq!((asked.first(), asked.total()), (LARGEST - 1, LARGEST));
    }
}

#[track_caller]
fn check_answer(status: u16, fields: &[(&str, &str)], expected: Said) {
    let mut answer = http::Response::builder().status(status);
    for (name, value) in fields {
        answer = answer.header(*name, *value);
    }
    let head = answer.body(()).unwrap().into_parts().0;
    assert_eq!(Said::of(&read_ack(&head)), expected, "{status} {fields:?}");
}

#[test]
fn only_the_answers_that_an_owner_gives_claim_a_session() {
    let ack = ("BITS-Packet-Type", "Ack");
    let next = |at| ("BITS-Received-Content-Range", at);
    check_answer(500, &[ack, ("BITS-Error", "0x8020001F")], Said::NotFound);
    check_answer(400, &[("BITS-Error-Code", "8020001f")], Said::NotFound);
    check_answer(416, &[ack, next("7")], Said::Has(Some(7)));
    check_answer(416, &[next("7")], Said::Has(Some(7)));
    check_answer(416, &[ack, next("0")], Said::Empty);
    check_answer(400, &[ack, ("BITS-Error", "0x80070057")], Said::Has(None));
    check_answer(400, &[ack], Said::Has(None));
    // A server that stores what nobody sent, or says so.
    check_answer(200, &[ack, next("8")], UNCLEAR);
    check_answer(200, &[ack], UNCLEAR);
    // Not one word about the session.
    check_answer(416, &[ack], UNCLEAR);
    check_answer(416, &[], UNCLEAR);
    check_answer(400, &[], UNCLEAR);
    check_answer(400, &[ack, ("BITS-Error", "0x1")], UNCLEAR);
    check_answer(401, &[("WWW-Authenticate", "Basic")], UNCLEAR);
    check_answer(403, &[ack, ("BITS-Error", "0x80070005")], UNCLEAR);
    check_answer(500, &[ack, ("BITS-Error", "0x80200020")], UNCLEAR);
    for status in [301, 404, 500, 502, 503] {
        check_answer(status, &[], UNCLEAR);
    }
}

#[track_caller]
fn check(said: &[(BackendId, Said)], expected: Verdict) {
    assert_eq!(judge(said, &mut Doubts::default(), HOUR, HOUR), expected, "{said:?}");
}

#[test]
fn one_claim_among_strangers_is_the_owner() {
    use Said::{Empty, Has, NotFound};
    check(&[(A, NotFound), (B, Has(Some(5))), (C, NotFound)], Verdict::Owner(B, Some(5)));
    check(&[(A, Has(None))], Verdict::Owner(A, None));
    check(&[(A, Empty), (B, NotFound)], Verdict::Empty(A));
    check(&[(A, NotFound), (B, NotFound)], Verdict::Nobody);
}

#[test]
fn whatever_is_not_clear_from_all_is_not_clear() {
    use Said::{Empty, Has, NotFound};
    check(&[(A, NotFound), (B, UNCLEAR)], Verdict::Unclear);
    check(&[(A, Has(Some(5))), (B, UNCLEAR)], Verdict::Unclear);
    check(&[(A, UNCLEAR), (B, Has(Some(5)))], Verdict::Unclear);
    check(&[(A, Has(Some(5))), (B, Has(Some(7)))], Verdict::Unclear);
    check(&[(A, Empty), (B, NotFound), (C, Has(None))], Verdict::Unclear);
}

#[test]
fn a_backend_that_stays_unclear_is_given_up_like_one_that_is_away() {
    let mut doubts = Doubts::default();
    let said = [(A, Said::NotFound), (B, UNCLEAR)];
    for minutes in (0..60).step_by(10) {
        let verdict = judge(&said, &mut doubts, secs(minutes * 60), HOUR);
        assert_eq!(verdict, Verdict::Unclear, "{minutes}");
    }
    assert_eq!(judge(&said, &mut doubts, HOUR, HOUR), Verdict::Nobody);
    let claimed = [(A, Said::Has(None)), (B, UNCLEAR)];
    assert_eq!(judge(&claimed, &mut doubts, HOUR, HOUR), Verdict::Owner(A, None));
    // A clear word ends it.
    let clear = [(A, Said::NotFound), (B, Said::NotFound)];
    assert_eq!(judge(&clear, &mut doubts, HOUR, HOUR), Verdict::Nobody);
    assert_eq!(judge(&said, &mut doubts, HOUR + secs(1), HOUR), Verdict::Unclear);
}

#[test]
fn what_nobody_saw_is_not_held_against_a_backend() {
    let mut doubts = Doubts::default();
    let said = [(A, UNCLEAR)];
    assert_eq!(judge(&said, &mut doubts, secs(0), HOUR), Verdict::Unclear);
    // A day later it is unclear again, and may have been well all day.
    assert_eq!(judge(&said, &mut doubts, HOUR * 24, HOUR), Verdict::Unclear);
    assert_eq!(judge(&said, &mut doubts, HOUR * 24 + secs(60), HOUR), Verdict::Unclear);
    // Probes that measured it say more.
    assert_eq!(judge(&[(A, Said::Unclear(HOUR))], &mut doubts, HOUR * 24, HOUR), Verdict::Nobody);
}

#[test]
fn two_that_claim_everything_do_not_keep_clients_waiting_for_ever() {
    let mut doubts = Doubts::default();
    let both = [(A, Said::Has(None)), (B, Said::Has(None)), (C, Said::NotFound)];
    assert_eq!(judge(&both, &mut doubts, secs(0), HOUR), Verdict::Unclear);
    assert_eq!(judge(&both, &mut doubts, secs(1800), HOUR), Verdict::Unclear);
    assert_eq!(judge(&both, &mut doubts, HOUR, HOUR), Verdict::Nobody);
}

#[test]
fn a_burst_is_answered_at_once_and_the_rest_waits_its_turn() {
    let mut pace = Pace::new(10);
    let farm = [A, B];
    for _ in 0..10 {
        assert_eq!(pace.take(&farm, secs(5), secs(1)), Some(Duration::ZERO));
    }
    let waits: Vec<_> = (0..12).map(|_| pace.take(&farm, secs(5), secs(1))).collect();
    assert_eq!(waits[0], Some(Duration::from_millis(100)));
    assert_eq!(waits[9], Some(secs(1)));
    assert_eq!(waits[10..], [None, None]);
    // What was refused cost nothing, and a second later it goes on.
    assert_eq!(pace.take(&farm, secs(6), secs(1)), Some(Duration::from_millis(100)));
    // One that was not asked has its own measure.
    assert_eq!(pace.take(&[C], secs(6), Duration::ZERO), Some(Duration::ZERO));
}

#[test]
fn answers_are_remembered_for_a_moment_and_not_too_many() {
    let mut recent = Recent::new(secs(1), 3);
    for question in 0..10 {
        recent.insert(question, question * 2, secs(10));
        assert!(recent.len() <= 3);
    }
    assert_eq!(recent.find(&9, secs(10)), Some(18));
    assert_eq!(recent.find(&6, secs(10)), None);
    assert_eq!(recent.find(&9, secs(11)), None);
    // What is over makes room.
    recent.insert(9, 1, secs(11));
    assert_eq!((recent.find(&9, secs(11)), recent.len()), (Some(1), 1));
    assert!(!recent.is_empty());
}
