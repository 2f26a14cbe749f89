use std::sync::Arc;

use gateway_core::session::Subject;
use proptest::prelude::*;

use super::*;
use crate::sessions::record::Rare;

const USUAL: Session = Session {
    backend: BackendId(19),
    steady: 1 << 31 | 86_400,
    target: TargetHash(u64::MAX),
    created: Timestamp(1_800_000_000_000),
    client: ClientKey::UNKNOWN,
    progress: Progress { next_offset: 5, total: 9, seen: Timestamp(1_800_000_000_001) },
    rare: None,
};

#[track_caller]
fn check(session: Session, packed: bool) {
    let body = Body::from(session.clone());
    assert_eq!(matches!(body, Body::Packed(_)), packed, "{session:?}");
    assert_eq!(Session::from(body), session);
}

#[test]
fn what_is_too_large_for_the_packed_form_is_kept_all_the_same() {
    check(USUAL, true);
    check(Session::EMPTY, true);
    for (more, packed) in [(0, true), (1, false)] {
        let most = (1 << 48) - 1 + more;
        let (time, progress) = (Timestamp(most), USUAL.progress);
        check(Session { created: time, ..USUAL }, packed);
        check(Session { progress: Progress { seen: time, ..progress }, ..USUAL }, packed);
        check(Session { progress: Progress { total: most, ..progress }, ..USUAL }, packed);
        check(Session { progress: Progress { next_offset: most, ..progress }, ..USUAL }, packed);
        check(Session { backend: BackendId((1 << 24) - 1 + more as u32), ..USUAL }, packed);
    }
}

#[test]
fn what_is_rare_is_kept_all_the_same() {
    for rare in [
        Rare { backend_session: Some("{x}".into()), ..Rare::default() },
        Rare { subject: Some(Subject::new([7; 16])), ..Rare::default() },
        Rare { spelling: Some(Arc::from("/a%20b")), ..Rare::default() },
        Rare { birth: Some(Box::from(*b"/a {x}")), ..Rare::default() },
    ] {
        check(Session { rare: Some(Box::new(rare)), ..USUAL }, false);
    }
}

proptest! {
    #[test]
    fn every_session_comes_back_as_it_was(
        ids in any::<(u32, u32, u64, u64)>(),
        numbers in proptest::array::uniform4((any::<u64>(), 0u32..64)),
    ) {
        let (backend, steady, target, client) = ids;
        // Of any length in bits.
        let [created, next_offset, total, seen] = numbers.map(|(number, cut)| number >> cut);
        let session = Session {
            backend: BackendId(backend),
            steady,
            target: TargetHash(target),
            created: Timestamp(created),
            client: ClientKey::from_bits(client),
            progress: Progress { next_offset, total, seen: Timestamp(seen) },
            rare: None,
        };
        let packed = [created, next_offset, total, seen].iter().all(|number| number >> 48 == 0);
        check(session, packed && backend >> 24 == 0);
    }
}
