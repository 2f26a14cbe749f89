//! The size limits on arbitrary Fragments.

use gateway_core::fault::Fault;
use gateway_core::protocol::ContentRange;
use gateway_core::session::Progress;
use gateway_core::session::limits::Sizes;
use proptest::option;
use proptest::prelude::*;

fn ranges() -> impl Strategy<Value = ContentRange> {
    (0..20u64, 1..20u64, 0..20u64).prop_map(|(first, length, more)| {
        let last = first + length - 1;
        ContentRange::new(first, last, last + 1 + more).expect("a legal range")
    })
}

fn sizes() -> impl Strategy<Value = Sizes> {
    (option::of(0..25u64), option::of(0..60u64))
        .prop_map(|(fragment, upload)| Sizes { fragment, upload })
}

fn known() -> impl Strategy<Value = Option<Progress>> {
    let progress = (0..20u64, 0..60u64).prop_map(|(next_offset, total)| Progress {
        next_offset,
        total,
        ..Progress::default()
    });
    option::of(progress)
}

proptest! {
    #![proptest_config(crate::cases(3000))]

    #[test]
    fn what_is_refused_is_above_its_limit(range in ranges(), sizes in sizes(), known in known()) {
        match sizes.check(&range, || known) {
            Ok(()) => prop_assert!(sizes.fragment.is_none_or(|limit| range.len() <= limit)),
            Err(Fault::FragmentTooLarge) => {
                prop_assert!(sizes.fragment.is_some_and(|limit| range.len() > limit));
            }
            Err(fault) => {
                prop_assert_eq!(fault, Fault::UploadTooLarge);
                prop_assert!(sizes.upload.is_some_and(|limit| range.total() > limit));
            }
        }
    }

    #[test]
    fn a_lower_limit_does_not_end_an_upload_that_is_under_way(
        range in ranges(), sizes in sizes(), offset in 1..20u64,
    ) {
        for total in [0, range.total()] {
            let known = Progress { next_offset: offset, total, ..Progress::default() };
            prop_assert_ne!(sizes.check(&range, || Some(known)), Err(Fault::UploadTooLarge));
        }
    }

    #[test]
    fn no_upload_begins_above_the_limit(range in ranges(), sizes in sizes(), total in 0..60u64) {
        let begins = range.first() == 0;
        let too_large = sizes.upload.is_some_and(|limit| range.total() > limit);
        let empty = Some(Progress { total, ..Progress::default() });
        for known in [None, empty] {
            let refused = sizes.check(&range, || known) == Err(Fault::UploadTooLarge);
            prop_assert_eq!(refused, begins && too_large);
        }
    }

    #[test]
    fn higher_limits_refuse_no_more(range in ranges(), sizes in sizes(), known in known()) {
        if sizes.check(&range, || known).is_ok() {
            let more = |limit: Option<u64>| limit.map(|limit| limit + 1);
            let higher = Sizes { fragment: more(sizes.fragment), upload: more(sizes.upload) };
            prop_assert_eq!(higher.check(&range, || known), Ok(()));
        }
    }
}
