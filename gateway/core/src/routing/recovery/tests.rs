//! Questions that match nothing, answers read for what they mean, and verdicts that wait.

use super::*;
use crate::protocol::{ContentRange, RequestPacket, SessionId, read_ack};

const A: BackendId = BackendId(0);
const B: BackendId = BackendId(1);
const C: BackendId = BackendId(2);
const HOUR: Duration = Duration::from_secs(3600);
const UNCLEAR: OwnershipAnswer = OwnershipAnswer::Unclear(Duration::ZERO);

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn of(text: &str) -> RequestPacket {
    let session = SessionId::parse("{x}").unwrap();
    match text {
        "close" => RequestPacket::CloseSession { session },
        "cancel" => RequestPacket::CancelSession { session },
        range => {
            let range = ContentRange::parse(&format!("bytes {range}")).unwrap();
            RequestPacket::Fragment { session, range }
        }
    }
}

/// Packet, range asked with, whether its byte is sent, whether a newborn session goes on.
#[track_caller]
fn check_question(packet: &str, shared_farm: bool, range: &str, sent: bool, goes_on: bool) {
    let question = Question::of(&of(packet), shared_farm).unwrap();
    let asked = ContentRange::parse(&format!("bytes {range}")).unwrap();
    assert_eq!(question.range(), asked, "{packet}, shared: {shared_farm}");
    assert_eq!(question.sends_its_byte(), sent, "{packet}, shared: {shared_farm}");
    assert_eq!(question.lets_newborns_go_on(), goes_on, "{packet}, shared: {shared_farm}");
}

#[test]
fn the_last_byte_is_asked_with_where_a_session_cannot_want_it() {
    // The first Fragment, and after it two bytes or more are left.
    check_question("0-0/3", false, "2-2/3", true, true);
    check_question("0-2/9", false, "8-8/9", true, true);
    check_question("0-6/9", false, "8-8/9", true, true);
    for (packet, beyond) in [
        // One byte is left: a server that has these may want the last one.
        ("0-7/9", "10-10/11"),
        ("0-8/9", "10-10/11"),
        ("0-0/2", "3-3/4"),
        ("0-0/1", "2-2/3"),
        ("0-0/0", "1-1/2"),
        // What a server has of a later one, its client alone knows.
        ("1-1/9", "10-10/11"),
        ("8-8/9", "10-10/11"),
    ] {
        check_question(packet, false, beyond, true, false);
    }
    let largest = "1844674407370954-1844674407370954/1844674407370955";
    for packet in ["close", "cancel"] {
        check_question(packet, false, largest, true, false);
    }
    assert_eq!(Question::of(&of(&format!("0-9/{}", u64::MAX)), false).unwrap().range().len(), 1);
    assert_eq!(Question::of(&of(&format!("1-9/{}", u64::MAX)), false), None);
}

#[test]
fn in_a_shared_farm_the_last_byte_is_announced_and_not_sent_where_it_could_be_wanted() {
    check_question("0-2/9", true, "8-8/9", true, true);
    for packet in ["0-7/9", "0-8/9"] {
        check_question(packet, true, "8-8/9", false, true);
    }
    check_question("0-0/2", true, "1-1/2", false, true);
    check_question("0-0/1", true, "0-0/1", false, true);
    // What is known of these is as little as without it.
    check_question("0-0/0", true, "1-1/2", true, false);
    check_question("1-8/9", true, "10-10/11", true, false);
    let largest = "1844674407370954-1844674407370954/1844674407370955";
    check_question("close", true, largest, true, false);
    // Whatever size the server believes after it, the session ends.
    check_question("cancel", true, largest, true, true);
}

#[test]
fn a_path_that_nobody_uses_is_in_the_folder_of_the_target() {
    for (target, expected) in [
        ("/in/a.bin", "/in/NEW.bin"),
        ("/a", "/NEW"),
        ("/", "/NEW"),
        ("/in/", "/in/NEW"),
        ("/in/.hidden", "/in/NEW.hidden"),
        ("/in.d/a", "/in.d/NEW"),
        ("/in/a.tar.gz?x=/1.z", "/in/NEW.gz?x=/1.z"),
        ("/in/a%2Fb.c?", "/in/NEW.c?"),
        ("*", "NEW"),
    ] {
        let made = elsewhere(target.as_bytes(), "NEW");
        assert_eq!(String::from_utf8(made).unwrap(), expected, "{target}");
    }
}

#[track_caller]
fn check_answer_to(packet: &str, status: u16, fields: &[(&str, &str)], expected: OwnershipAnswer) {
    let mut answer = http::Response::builder().status(status);
    for (name, value) in fields {
        answer = answer.header(*name, *value);
    }
    let head = answer.body(()).unwrap().into_parts().0;
    let question = Question::of(&of(packet), true).unwrap();
    assert_eq!(
        OwnershipAnswer::of(&read_ack(head.status, &head.headers), question),
        expected,
        "{packet}: {status} {fields:?}"
    );
}

/// Whatever was asked.
#[track_caller]
fn check_answer(status: u16, fields: &[(&str, &str)], expected: OwnershipAnswer) {
    for packet in ["0-2/9", "0-8/9", "3-5/9", "close"] {
        check_answer_to(packet, status, fields, expected);
    }
}

#[test]
fn only_the_answers_that_an_owner_gives_claim_a_session() {
    let ack = ("BITS-Packet-Type", "Ack");
    let next = |at| ("BITS-Received-Content-Range", at);
    check_answer(500, &[ack, ("BITS-Error", "0x8020001F")], OwnershipAnswer::NotFound);
    check_answer(400, &[("BITS-Error-Code", "8020001f")], OwnershipAnswer::NotFound);
    check_answer(416, &[ack, next("7")], OwnershipAnswer::Has(Some(7)));
    check_answer(416, &[next("7")], OwnershipAnswer::Has(Some(7)));
    check_answer(416, &[ack, next("0")], OwnershipAnswer::Newborn);
    check_answer(400, &[ack, ("BITS-Error", "0x80070057")], OwnershipAnswer::Has(None));
    check_answer(400, &[ack], OwnershipAnswer::Has(None));
    // Not one word about the session.
    check_answer(416, &[ack], UNCLEAR);
    check_answer(416, &[], UNCLEAR);
    check_answer(400, &[], UNCLEAR);
    check_answer(400, &[ack, ("BITS-Error", "0x1")], UNCLEAR);
    check_answer(401, &[("WWW-Authenticate", "Basic")], UNCLEAR);
    check_answer(403, &[ack, ("BITS-Error", "0x80070005")], UNCLEAR);
    check_answer(500, &[ack, ("BITS-Error", "0x80200020")], UNCLEAR);
    for status in [200, 204, 301, 404, 500, 502, 503] {
        check_answer(status, &[], UNCLEAR);
    }
}

#[test]
fn a_server_that_takes_the_byte_may_have_it_in_the_file() {
    let ack = ("BITS-Packet-Type", "Ack");
    let next = ("BITS-Received-Content-Range", "9");
    for fields in [&[ack][..], &[ack, next], &[next]] {
        for packet in ["0-2/9", "3-5/9", "close"] {
            check_answer_to(packet, 200, fields, OwnershipAnswer::Took);
        }
        // Nothing was sent that it could have taken.
        check_answer_to("0-8/9", 200, fields, UNCLEAR);
    }
}

#[test]
fn a_server_that_asks_for_the_byte_would_take_it() {
    check_answer_to("0-8/9", 100, &[], OwnershipAnswer::Newborn);
    check_answer_to("0-0/1", 100, &[], OwnershipAnswer::Newborn);
    check_answer_to("0-2/9", 100, &[], UNCLEAR);
    check_answer_to("3-5/9", 100, &[], UNCLEAR);
}

#[test]
fn a_newborn_session_counts_only_where_the_server_minds_its_path() {
    assert_eq!(confirm(Verdict::Newborn(A), OwnershipAnswer::NotFound), Verdict::Newborn(A));
    for said in [
        OwnershipAnswer::Newborn,
        OwnershipAnswer::Has(None),
        OwnershipAnswer::Has(Some(0)),
        OwnershipAnswer::Took,
        UNCLEAR,
    ] {
        assert_eq!(confirm(Verdict::Newborn(A), said), Verdict::Nobody, "{said:?}");
    }
    let others =
        [Verdict::Owner(A, None), Verdict::Corrupted(A), Verdict::Nobody, Verdict::Unclear];
    for verdict in others {
        for said in [OwnershipAnswer::NotFound, OwnershipAnswer::Newborn, UNCLEAR] {
            assert_eq!(confirm(verdict, said), verdict);
        }
    }
}

#[test]
fn a_verdict_is_settled_by_what_its_question_can_tell() {
    let owned = Verdict::Owner(A, None);
    let verdicts =
        [owned, Verdict::Newborn(A), Verdict::Corrupted(A), Verdict::Nobody, Verdict::Unclear];
    for (range, shared, newborn, unclear) in [
        // The last byte is sent; it is announced; one behind the end is sent.
        ("0-2/9", true, Verdict::Newborn(A), Verdict::Unclear),
        ("0-8/9", true, Verdict::Newborn(A), Verdict::Nobody),
        ("3-5/9", true, Verdict::Nobody, Verdict::Unclear),
        ("0-8/9", false, Verdict::Nobody, Verdict::Unclear),
    ] {
        let question = Question::of(&of(range), shared).unwrap();
        let settled = verdicts.map(|verdict| settle(verdict, question));
        let expected = [owned, newborn, Verdict::Corrupted(A), Verdict::Nobody, unclear];
        assert_eq!(settled, expected, "{range} {shared}");
    }
}

#[track_caller]
fn check(said: &[(BackendId, OwnershipAnswer)], expected: Verdict) {
    assert_eq!(judge(said, &mut UnclearBackends::default(), HOUR, HOUR), expected, "{said:?}");
}

#[test]
fn one_claim_among_strangers_is_the_owner() {
    use OwnershipAnswer::{Has, Newborn, NotFound, Took};
    check(&[(A, NotFound), (B, Has(Some(5))), (C, NotFound)], Verdict::Owner(B, Some(5)));
    check(&[(A, Has(None))], Verdict::Owner(A, None));
    check(&[(A, Newborn), (B, NotFound)], Verdict::Newborn(A));
    check(&[(A, NotFound), (B, Took)], Verdict::Corrupted(B));
    check(&[(A, UNCLEAR), (B, Took), (C, Took)], Verdict::Corrupted(B));
    check(&[(A, NotFound), (B, NotFound)], Verdict::Nobody);
}

#[test]
fn whatever_is_not_clear_from_all_is_not_clear() {
    use OwnershipAnswer::{Has, Newborn, NotFound, Took};
    check(&[(A, NotFound), (B, UNCLEAR)], Verdict::Unclear);
    check(&[(A, Has(Some(5))), (B, UNCLEAR)], Verdict::Unclear);
    check(&[(A, UNCLEAR), (B, Has(Some(5)))], Verdict::Unclear);
    check(&[(A, Has(Some(5))), (B, Has(Some(7)))], Verdict::Unclear);
    check(&[(A, Newborn), (B, NotFound), (C, Has(None))], Verdict::Unclear);
    check(&[(A, Newborn), (B, Newborn), (C, NotFound)], Verdict::Unclear);
    check(&[(A, Took), (B, NotFound), (C, Has(None))], Verdict::Unclear);
}

#[test]
fn a_session_that_is_not_found_after_a_move_may_be_at_the_address_before() {
    use OwnershipAnswer::{Has, Moved, Newborn, NotFound, Took};
    check(&[(A, Moved)], Verdict::Unclear);
    check(&[(A, NotFound), (B, Moved)], Verdict::Unclear);
    check(&[(A, Moved), (B, Has(Some(5)))], Verdict::Unclear);
    check(&[(A, Has(Some(5))), (B, Moved)], Verdict::Unclear);
    check(&[(A, Moved), (B, Took)], Verdict::Corrupted(B));
    // No patience ends it, and it is no doubt of the backend.
    let mut unclear = UnclearBackends::default();
    assert_eq!(judge(&[(A, Moved)], &mut unclear, HOUR, Duration::ZERO), Verdict::Unclear);
    assert_eq!(judge(&[(A, UNCLEAR)], &mut unclear, HOUR * 2, HOUR), Verdict::Unclear);
    // What was found is there.
    assert_eq!(NotFound.after_a_move(), Moved);
    for said in [Moved, Has(None), Has(Some(1)), Newborn, Took, UNCLEAR] {
        assert_eq!(said.after_a_move(), said);
    }
}

#[test]
fn a_backend_that_stays_unclear_is_given_up_like_one_that_is_away() {
    let mut unclear = UnclearBackends::default();
    let said = [(A, OwnershipAnswer::NotFound), (B, UNCLEAR)];
    for minutes in (0..60).step_by(10) {
        let verdict = judge(&said, &mut unclear, secs(minutes * 60), HOUR);
        assert_eq!(verdict, Verdict::Unclear, "{minutes}");
    }
    assert_eq!(judge(&said, &mut unclear, HOUR, HOUR), Verdict::Nobody);
    let claimed = [(A, OwnershipAnswer::Has(None)), (B, UNCLEAR)];
    assert_eq!(judge(&claimed, &mut unclear, HOUR, HOUR), Verdict::Owner(A, None));
    // A clear word ends it.
    let clear = [(A, OwnershipAnswer::NotFound), (B, OwnershipAnswer::NotFound)];
    assert_eq!(judge(&clear, &mut unclear, HOUR, HOUR), Verdict::Nobody);
    assert_eq!(judge(&said, &mut unclear, HOUR + secs(1), HOUR), Verdict::Unclear);
}

#[test]
fn what_nobody_saw_is_not_held_against_a_backend() {
    let mut unclear = UnclearBackends::default();
    let said = [(A, UNCLEAR)];
    assert_eq!(judge(&said, &mut unclear, secs(0), HOUR), Verdict::Unclear);
    // A day later it is unclear again, and may have been well all day.
    assert_eq!(judge(&said, &mut unclear, HOUR * 24, HOUR), Verdict::Unclear);
    assert_eq!(judge(&said, &mut unclear, HOUR * 24 + secs(60), HOUR), Verdict::Unclear);
    // Probes that measured it say more.
    assert_eq!(
        judge(&[(A, OwnershipAnswer::Unclear(HOUR))], &mut unclear, HOUR * 24, HOUR),
        Verdict::Nobody
    );
}

#[test]
fn a_doubt_lasts_over_a_gap_of_an_hour_and_no_longer() {
    let said = [(A, UNCLEAR)];
    for (then, verdict) in [(HOUR, Verdict::Nobody), (HOUR + secs(1), Verdict::Unclear)] {
        let mut unclear = UnclearBackends::default();
        assert_eq!(judge(&said, &mut unclear, secs(0), HOUR), Verdict::Unclear);
        assert_eq!(judge(&said, &mut unclear, then, HOUR), verdict, "{then:?}");
    }
}

#[test]
fn two_that_claim_everything_do_not_keep_clients_waiting_for_ever() {
    let mut unclear = UnclearBackends::default();
    let both = [
        (A, OwnershipAnswer::Has(None)),
        (B, OwnershipAnswer::Has(None)),
        (C, OwnershipAnswer::NotFound),
    ];
    assert_eq!(judge(&both, &mut unclear, secs(0), HOUR), Verdict::Unclear);
    assert_eq!(judge(&both, &mut unclear, secs(1800), HOUR), Verdict::Unclear);
    assert_eq!(judge(&both, &mut unclear, HOUR, HOUR), Verdict::Nobody);
}

#[test]
fn a_burst_is_answered_at_once_and_the_rest_waits_its_turn() {
    let mut pace = QuestionLimiter::new(10);
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
