//! What proves that a file was delivered, case by case.

use super::*;

const TOTAL: u64 = 5_000_000_000;

/// When the session was opened, and when its file was asked for, in seconds.
const CREATED: u64 = 1_700_000_000;
const ASKED: u64 = CREATED + 3_600;

fn seconds(seconds: u64) -> Timestamp {
    Timestamp(seconds * 1000)
}

fn expected() -> Expected {
    let (created, asked) = (seconds(CREATED), seconds(ASKED));
    Expected { total: TOTAL, created, asked, answered: asked }
}

/// The file as a server has it whose clock is right.
fn file() -> FileHead {
    FileHead {
        status: StatusCode::OK,
        length: Some(TOTAL),
        modified: Some(seconds(CREATED + 60)),
        date: Some(seconds(ASKED)),
    }
}

#[track_caller]
fn check(file: FileHead, evidence: Evidence) {
    assert_eq!(judge(&file, &expected()), evidence, "{file:?}");
}

#[test]
fn a_file_of_the_right_size_that_is_not_older_than_the_session_is_delivered() {
    check(file(), Evidence::Delivered);
    for modified in [CREATED - 2, CREATED, ASKED, ASKED + 86_400] {
        check(FileHead { modified: Some(seconds(modified)), ..file() }, Evidence::Delivered);
    }
}

#[test]
fn what_is_not_there_or_another_file_is_not_delivered() {
    for status in [404, 410] {
        let status = StatusCode::from_u16(status).unwrap();
        check(FileHead { status, ..file() }, Evidence::NotDelivered);
        let empty = FileHead { status, length: None, modified: None, date: None };
        check(empty, Evidence::NotDelivered);
    }
    for length in [0, 1, TOTAL - 1, TOTAL + 1, u64::MAX] {
        check(FileHead { length: Some(length), ..file() }, Evidence::NotDelivered);
        // Its age does not matter then.
        let ageless = FileHead { length: Some(length), modified: None, date: None, ..file() };
        check(ageless, Evidence::NotDelivered);
    }
    for modified in [0, CREATED - 86_400, CREATED - 3] {
        check(FileHead { modified: Some(seconds(modified)), ..file() }, Evidence::NotDelivered);
    }
}

#[test]
fn whatever_else_a_server_says_proves_nothing() {
    for status in [201, 204, 206, 301, 302, 304, 307, 400, 401, 403, 405, 407, 429, 500, 501, 503] {
        let status = StatusCode::from_u16(status).unwrap();
        check(FileHead { status, ..file() }, Evidence::Unclear);
    }
    check(FileHead { length: None, ..file() }, Evidence::Unclear);
    check(FileHead { modified: None, ..file() }, Evidence::Unclear);
    check(FileHead { date: None, ..file() }, Evidence::Unclear);
}

#[test]
fn a_clock_of_the_server_that_is_wrong_changes_nothing() {
    let off = |by: i64, seconds_of_ours: u64| {
        Some(seconds(seconds_of_ours.checked_add_signed(by).unwrap()))
    };
    for by in [-1_000_000_000, -86_400, -3, 3, 86_400, 1_000_000_000] {
        let at =
            |modified| FileHead { modified: off(by, modified), date: off(by, ASKED), ..file() };
        check(at(CREATED - 2), Evidence::Delivered);
        check(at(CREATED + 60), Evidence::Delivered);
        check(at(CREATED - 3), Evidence::NotDelivered);
    }
}

#[test]
fn a_slow_answer_makes_uncertain_what_lies_within_its_time() {
    // The server wrote its Date at some time within these 10 s.
    let slow = Expected { answered: seconds(ASKED + 10), ..expected() };
    let judged = |modified: u64, date: u64| {
        let (modified, date) = (Some(seconds(modified)), Some(seconds(date)));
        judge(&FileHead { modified, date, ..file() }, &slow)
    };
    for date in [ASKED, ASKED + 5, ASKED + 10] {
        let since = date - ASKED;
        assert_eq!(judged(CREATED + since - 2, date), Evidence::Delivered);
        assert_eq!(judged(CREATED + since - 3, date), Evidence::Unclear);
        assert_eq!(judged(CREATED + since - 12, date), Evidence::Unclear);
        assert_eq!(judged(CREATED + since - 13, date), Evidence::NotDelivered);
    }
    // Our clock was set back meanwhile.
    let back = Expected { answered: seconds(ASKED - 10), ..expected() };
    let middle = FileHead { modified: Some(seconds(CREATED + 5)), ..file() };
    assert_eq!(judge(&middle, &back), Evidence::Unclear);
}

#[test]
fn no_number_overflows() {
    for extreme in [Timestamp(0), Timestamp(u64::MAX)] {
        let file = FileHead { modified: Some(extreme), date: Some(extreme), ..file() };
        let (created, asked, answered) = (extreme, Timestamp(0), Timestamp(u64::MAX));
        judge(&file, &Expected { total: TOTAL, created, asked, answered });
    }
}

const POLICIES: [LostClose; 3] = [LostClose::Verify, LostClose::Ack, LostClose::Restart];

fn progress(next_offset: u64, total: u64) -> Progress {
    Progress { next_offset, total, seen: Timestamp(1) }
}

#[test]
fn only_a_session_of_which_all_may_have_arrived_can_have_been_closed() {
    let incomplete = Next::StartOver(Why::Incomplete);
    for (next_offset, total, expected) in [
        (0, 0, [incomplete; 3]),
        (5, 0, [incomplete; 3]),
        (1, 9, [incomplete; 3]),
        (8, 9, [incomplete; 3]),
        (10, 9, [incomplete; 3]),
        // The end of the file was passed on, and no more is known.
        (0, 9, [Next::Look { total: 9 }, incomplete, incomplete]),
        (9, 9, [Next::Look { total: 9 }, Next::Acknowledge, Next::StartOver(Why::Policy)]),
        (0, u64::MAX, [Next::Look { total: u64::MAX }, incomplete, incomplete]),
    ] {
        let said = POLICIES.map(|policy| next(policy, progress(next_offset, total)));
        assert_eq!(said, expected, "{next_offset} of {total}");
    }
}

/// Whatever is known: without a look only what has arrived is acknowledged, and only where an
/// operator wants that; what is looked for has the size that is known, and no bytes known to be
/// missing.
#[test]
fn nothing_is_acknowledged_that_is_not_known_to_have_arrived() {
    for (next_offset, total) in (0..12).flat_map(|next| (0..12).map(move |total| (next, total))) {
        for policy in POLICIES {
            let progress = progress(next_offset, total);
            match next(policy, progress) {
                Next::Acknowledge => {
                    assert_eq!((policy, progress.complete()), (LostClose::Ack, Some(total)));
                }
                Next::Look { total: size } => {
                    assert_eq!((policy, size), (LostClose::Verify, total));
                    assert!(size > 0 && (next_offset == 0 || next_offset == size), "{progress:?}");
                }
                Next::StartOver(Why::Policy) => {
                    assert_eq!((policy, progress.complete()), (LostClose::Restart, Some(total)));
                }
                Next::StartOver(Why::Incomplete) => {
                    assert!(progress.complete().is_none(), "{policy:?} {progress:?}");
                }
            }
        }
    }
}

#[test]
fn the_last_fragment_and_the_one_before_it_tell_that_the_end_is_near() {
    for (range, expected) in [
        ("bytes 0-8/9", Some(9)),
        ("bytes 8-8/9", Some(9)),
        // One more of that length, or a shorter one.
        ("bytes 0-4/10", Some(10)),
        ("bytes 3-5/9", Some(9)),
        ("bytes 0-4/9", Some(9)),
        // More than one.
        ("bytes 0-3/9", None),
        ("bytes 0-0/3", None),
        ("bytes 3-4/9", None),
        ("bytes 0-0/18446744073709551615", None),
        ("bytes 0-18446744073709551614/18446744073709551615", Some(u64::MAX)),
        ("bytes 18446744073709551614-18446744073709551614/18446744073709551615", Some(u64::MAX)),
        // A file without a byte has no size to look for.
        ("bytes 0-0/0", None),
        ("bytes 0-18446744073709551615/0", None),
    ] {
        let range = ContentRange::parse(range).expect("a legal range");
        assert_eq!(ending(&range), expected, "{range:?}");
    }
}

#[test]
fn nothing_but_evidence_acknowledges_and_only_time_ends_a_doubt() {
    let hour = Duration::from_secs(3600);
    for (evidence, early, late) in [
        (Evidence::Delivered, Conclusion::Acknowledge, Conclusion::Acknowledge),
        (Evidence::NotDelivered, Conclusion::StartOver, Conclusion::StartOver),
        (Evidence::Unclear, Conclusion::Wait, Conclusion::GiveUp),
    ] {
        for doubt in [Duration::ZERO, hour - Duration::from_millis(1)] {
            assert_eq!(conclude(evidence, doubt, hour), early, "{evidence:?} {doubt:?}");
        }
        assert_eq!(conclude(evidence, hour, hour), late, "{evidence:?}");
        assert_eq!(conclude(evidence, Duration::ZERO, Duration::ZERO), late, "{evidence:?}");
    }
}
