//! Who may speak for a session, and what a client is shown of one.

use gateway_core::farm::BackendId;
use gateway_core::protocol::{ContentRange, PacketType};
use gateway_core::routing::Lookup;
use gateway_core::routing::ownership::{
    Asker, ended_by_refusal, may_speak, must_not_be_hidden, visible_to,
};
use gateway_core::session::{Binding, Pin, Subject, TargetHash, Timestamp};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

fn targets() -> impl Strategy<Value = TargetHash> {
    (0..3u8).prop_map(|number| TargetHash::of(&[number]))
}

fn subjects() -> impl Strategy<Value = Option<Subject>> {
    option::of((0..3u8).prop_map(|byte| Subject::new([byte; 16])))
}

fn pins() -> impl Strategy<Value = Pin> {
    (targets(), subjects()).prop_map(|(target, subject)| Pin {
        backend: BackendId(0),
        backend_session: None,
        binding: Binding::unspelled(target),
        created: Timestamp(0),
        subject,
    })
}

/// What a table may have of a session of that pin.
fn lookups() -> impl Strategy<Value = Lookup> {
    let others = [Lookup::NotAsked, Lookup::Unknown, Lookup::Forgotten, Lookup::StoreDown];
    prop_oneof![
        3 => pins().prop_map(Lookup::Pinned),
        3 => pins().prop_map(|pin| Lookup::Ended(pin.target_digest())),
        1 => select(Vec::from(others)),
    ]
}

fn kinds() -> impl Strategy<Value = PacketType> {
    use PacketType::{CancelSession, CloseSession, CreateSession, Fragment, Ping};
    select(&[Ping, CreateSession, Fragment, CloseSession, CancelSession][..])
}

proptest! {
    #![proptest_config(crate::cases(2000))]

    #[test]
    fn a_bound_session_is_shown_to_its_client_alone(
        pin in pins(), target in targets(), subject in subjects(), binds in any::<bool>(),
    ) {
        let asker = Asker { target: target.into(), subject: subject.as_ref(), binds };
        let free = !binds || pin.subject.is_none() || pin.subject == subject;
        let lives = visible_to(&asker, Lookup::Pinned(pin.clone()));
        prop_assert_eq!(lives == Lookup::Foreign, !free);
        prop_assert!(lives == Lookup::Foreign || lives == Lookup::Pinned(pin.clone()));
        let over = visible_to(&asker, Lookup::Ended(pin.target_digest()));
        // The decision acknowledges an end to those that it shows the end under their own target.
        let acknowledged = over == Lookup::Ended(target);
        let its_client = pin.binding.target == target && (pin.subject.is_none() || pin.subject == subject);
        prop_assert_eq!(acknowledged, its_client);
        prop_assert!(!binds || acknowledged || over == Lookup::Foreign);
    }

    #[test]
    fn what_is_shown_was_found(
        found in lookups(), target in targets(), subject in subjects(), binds in any::<bool>(),
    ) {
        let asker = Asker { target: target.into(), subject: subject.as_ref(), binds };
        let shown = visible_to(&asker, found.clone());
        match (&found, &shown) {
            (Lookup::Pinned(_) | Lookup::Ended(_), Lookup::Foreign) => {}
            (Lookup::Ended(_), Lookup::Ended(_)) => {}
            _ => prop_assert_eq!(&found, &shown),
        }
        prop_assert_eq!(asker.bound_to(), if binds { subject.clone() } else { None });
    }

    #[test]
    fn a_client_speaks_for_what_it_was_shown(
        found in lookups(),
        target in targets(),
        subject in subjects(),
        kind in kinds(),
        alias in option::of(Just(BackendId(1))),
    ) {
        let asker = Asker { target: target.into(), subject: subject.as_ref(), binds: true };
        let shown = visible_to(&asker, found);
        let target = asker.target;
        let speaks = may_speak(kind, &shown, target, alias);
        prop_assert!(!speaks || kind != PacketType::Ping);
        prop_assert!(!speaks || shown != Lookup::Foreign);
        let own = matches!(&shown, Lookup::Pinned(pin) if target.is(pin.binding.target));
        prop_assert!(!speaks || own || alias.is_some());
        // The pin leads, so no other session of that backend is meant.
        let pinned = matches!(shown, Lookup::Pinned(_));
        prop_assert!(!pinned || !must_not_be_hidden(kind, &shown, target));
    }

    #[test]
    fn a_refusal_ends_what_its_client_speaks_for_and_no_byte(
        found in lookups(), target in targets(), first in 0..3u64, untouched in any::<bool>(),
    ) {
        let range = ContentRange::new(first, 4, 10).expect("a legal range");
        let ended = ended_by_refusal(&range, &found, target.into(), untouched);
        let speaks = may_speak(PacketType::Fragment, &found, target.into(), None);
        prop_assert_eq!(ended.is_some(), speaks && untouched && first == 0);
    }
}
