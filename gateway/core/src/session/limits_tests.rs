//! When a limit binds, and who goes first.

use std::net::IpAddr;

use super::*;

#[track_caller]
fn check(limit: PerClient, held: u64, taken: u64, whole: u64, refused: bool) {
    assert_eq!(limit.refuses(held, taken, whole), refused, "{limit:?} {held} {taken} {whole}");
}

#[test]
fn a_default_binds_in_the_last_quarter_and_what_was_set_binds_always() {
    let quarter = PerClient::OneIn(4);
    check(quarter, 74, 74, 100, false);
    check(quarter, 25, 75, 100, true);
    check(quarter, 24, 75, 100, false);
    check(quarter, 99, 99, 100, true);
    check(PerClient::OneIn(2), 49, 99, 100, false);
    check(PerClient::OneIn(2), 50, 99, 100, true);
    check(PerClient::OneIn(1), 99, 99, 100, false);
    check(PerClient::OneIn(1), 100, 99, 100, true);
    check(PerClient::Most(2), 1, 99, 100, false);
    check(PerClient::Most(2), 2, 2, 100, true);
    check(PerClient::Unlimited, u64::MAX, u64::MAX, 1, false);
    // In a whole of a few, everybody may have one.
    check(quarter, 0, 1, 2, false);
    check(quarter, 1, 1, 2, true);
    check(quarter, 0, 0, 1, false);
    check(PerClient::OneIn(0), u64::MAX, u64::MAX, u64::MAX, true);
}

/// Clients that take all they get, one after the other.
#[test]
fn one_client_leaves_room_for_others_whatever_it_takes() {
    for whole in 1..200 {
        for parts in [2, 4] {
            let limit = PerClient::OneIn(parts);
            let mut taken = 0;
            while taken < whole && !limit.refuses(taken, taken, whole) {
                taken += 1;
            }
            // Alone it gets three quarters, or what fits into them.
            assert!(taken <= (whole * 3).div_ceil(4).max(1), "{taken} of {whole}");
            if whole > 1 {
                assert!(taken < whole && !limit.refuses(0, taken, whole), "{taken} of {whole}");
            }
        }
    }
}

const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn only_what_is_surely_empty_silent_and_old_by_both_clocks_goes() {
    let old = Idleness { empty: true, busy: false, wall: HOUR, steady: HOUR };
    assert!(may_evict(old));
    let young = HOUR - Duration::from_millis(1);
    for kept in [
        Idleness { empty: false, ..old },
        Idleness { busy: true, ..old },
        Idleness { wall: young, ..old },
        Idleness { steady: young, ..old },
        Idleness { wall: HOUR * 1000, steady: young, ..old },
    ] {
        assert!(!may_evict(kept), "{kept:?}");
    }
}

fn client(number: u32) -> ClientKey {
    ClientKey::of(IpAddr::from(number.to_be_bytes()))
}

#[track_caller]
fn check_order(offered: &[(u32, u32)], expected: &[u32]) {
    let mut sample = Sample::new(100, 7);
    for &(holder, session) in offered {
        sample.offer(client(holder), session);
    }
    assert_eq!(sample.into_order(), expected);
}

#[test]
fn the_holder_of_most_gives_first_and_its_oldest() {
    check_order(&[], &[]);
    check_order(&[(1, 10), (2, 20)], &[10, 20]);
    check_order(&[(1, 10), (2, 23), (2, 21), (2, 22)], &[21, 22, 10, 23]);
    check_order(&[(1, 11), (2, 21), (1, 12), (2, 22), (3, 31)], &[11, 21, 12, 22, 31]);
}

#[test]
fn whoever_goes_is_of_a_holder_that_has_most_at_that_moment() {
    for seed in 0..200 {
        let mut chance = Sample::<u32>::new(0, seed);
        let count = chance.next_chance() % 60;
        let offered: Vec<(u32, u64)> =
            (0..count).map(|session| ((chance.next_chance() % 5) as u32, session)).collect();
        let mut sample = Sample::new(100, seed);
        for &(holder, session) in &offered {
            sample.offer(client(holder), session);
        }
        let holder_of = |session: u64| offered[session as usize].0;
        let mut left = [0; 5];
        offered.iter().for_each(|&(holder, _)| left[holder as usize] += 1);
        let order = sample.into_order();
        assert_eq!(order.len(), offered.len());
        for session in order {
            let most = *left.iter().max().unwrap();
            assert_eq!(left[holder_of(session) as usize], most, "seed {seed}: {left:?}");
            left[holder_of(session) as usize] -= 1;
        }
        assert_eq!(left, [0; 5]);
    }
}

#[test]
fn a_sample_is_bounded_and_shows_who_holds_most() {
    let mut sample = Sample::new(256, 99);
    // One in ten is of somebody else, each of another.
    for session in 0..100_000u32 {
        let holder = if session % 10 == 0 { 1000 + session } else { 1 };
        sample.offer(client(holder), session);
    }
    let order = sample.into_order();
    assert_eq!(order.len(), 256);
    assert!(order[..128].iter().all(|session| session % 10 != 0), "{order:?}");
    // From the whole of it, not from one end.
    assert!(order.iter().any(|&session| session < 20_000));
    assert!(order.iter().any(|&session| session > 80_000));
}

/// The table of cases: the range, what is known of the session as offset and total, the answer where
/// the file is above the limit for uploads.
#[test]
fn only_an_upload_that_begins_is_refused_for_its_size() {
    let range = |first, last| ContentRange::new(first, last, 100).expect("a legal range");
    let known = |next_offset, total| Some(Progress { next_offset, total, ..Progress::default() });
    let (begins, goes_on) = (range(0, 9), range(10, 19));
    let (refused, passes) = (Err(Fault::UploadTooLarge), Ok(()));
    let sizes = Sizes { fragment: None, upload: Some(99) };
    for (range, known, expected) in [
        (begins, None, refused),
        (begins, known(0, 0), refused),
        (begins, known(0, 100), refused),
        // A Fragment that is sent again.
        (begins, known(10, 100), passes),
        // One byte is enough.
        (begins, known(1, 100), passes),
        (range(1, 9), None, passes),
        // The size was in no Ack: its Fragments are older than this process.
        (begins, known(10, 0), passes),
        // Another file than the one that has begun.
        (begins, known(10, 50), refused),
        (begins, known(1, 101), refused),
        (goes_on, None, passes),
        (goes_on, known(0, 0), passes),
        (goes_on, known(10, 100), passes),
        (goes_on, known(10, 0), passes),
        (goes_on, known(10, 50), refused),
    ] {
        assert_eq!(sizes.check(&range, || known), expected, "{range:?} {known:?}");
    }
}

#[test]
fn a_size_at_its_limit_passes() {
    let range = ContentRange::new(0, 9, 100).expect("a legal range");
    for (fragment, upload, expected) in [
        (None, None, Ok(())),
        (Some(10), Some(100), Ok(())),
        (Some(9), None, Err(Fault::FragmentTooLarge)),
        (Some(9), Some(100), Err(Fault::FragmentTooLarge)),
        (Some(10), Some(99), Err(Fault::UploadTooLarge)),
        // No smaller Fragment would help.
        (Some(9), Some(99), Err(Fault::UploadTooLarge)),
    ] {
        let sizes = Sizes { fragment, upload };
        assert_eq!(sizes.check(&range, || None), expected, "{sizes:?}");
    }
    let empty = ContentRange::new(0, 0, 0).expect("a file of no bytes");
    assert_eq!(Sizes { fragment: Some(0), upload: Some(0) }.check(&empty, || None), Ok(()));
}

#[test]
fn the_table_is_asked_only_for_a_file_that_is_too_large() {
    let range = ContentRange::new(0, 9, 100).expect("a legal range");
    for sizes in [
        Sizes { fragment: Some(10), upload: None },
        Sizes { fragment: Some(9), upload: None },
        Sizes { fragment: None, upload: Some(100) },
    ] {
        let _ = sizes.check(&range, || panic!("the table is asked: {sizes:?}"));
    }
}

/// The first numbers of the generator's publication, from the seed 0.
#[test]
fn chance_is_that_of_splitmix64() {
    let mut sample = Sample::<u8>::new(1, 0);
    let numbers = [(); 3].map(|()| sample.next_chance());
    assert_eq!(numbers, [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4, 0x06c4_5d18_8009_454f]);
}
