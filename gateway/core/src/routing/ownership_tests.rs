use http::response;

use super::*;
use crate::protocol::{SessionId, read_ack};
use crate::session::{Binding, Pin, Timestamp};

const TARGET: TargetHash = TargetHash(7);
const FINAL: &str = "bytes 6-8/9";

fn session() -> SessionId {
    SessionId::parse("{3F9C1E52-7B0D-4E7A-9C44-0D5B6A1E8F21}").unwrap()
}

fn close() -> RequestPacket {
    RequestPacket::CloseSession { session: session() }
}

fn cancel() -> RequestPacket {
    RequestPacket::CancelSession { session: session() }
}

fn fragment(range: &str) -> RequestPacket {
    let range = ContentRange::parse(range).unwrap();
    RequestPacket::Fragment { session: session(), range }
}

fn identity(packet: &RequestPacket) -> Option<Identity> {
    Identity::of(packet, TARGET.into(), None, [], None)
}

fn whole(packet: Option<&Identity>) -> UnderWay<'_> {
    UnderWay { packet, whole: true }
}

fn head(status: u16, fields: &[(&str, &str)]) -> response::Parts {
    let mut response = http::Response::builder().status(status);
    for (name, value) in fields {
        response = response.header(*name, *value);
    }
    response.body(()).unwrap().into_parts().0
}

const OTHER: TargetHash = TargetHash(8);

fn pin(target: TargetHash, subject: Option<&Subject>) -> Pin {
    Pin {
        backend: BackendId(0),
        backend_session: None,
        binding: Binding::unspelled(target),
        created: Timestamp(0),
        subject: subject.cloned(),
    }
}

fn pinned(target: TargetHash, subject: Option<&Subject>) -> Lookup {
    Lookup::Pinned(pin(target, subject))
}

/// What the table has of a session that is over.
fn ended(target: TargetHash, subject: Option<&Subject>) -> Lookup {
    Lookup::Ended(pin(target, subject).target_digest())
}

#[test]
fn a_client_sees_its_own_sessions_and_those_that_are_bound_to_no_one() {
    let [mine, other] = [1, 2].map(|byte| Subject::new([byte; 16]));
    let (mine, other) = (Some(&mine), Some(&other));
    let foreign = || Lookup::Foreign;
    let over = || Lookup::Ended(TARGET);
    // Found in the table; seen by its client, by another with a certificate, by one without.
    let bound = [
        (pinned(TARGET, mine), [pinned(TARGET, mine), foreign(), foreign()]),
        (pinned(OTHER, mine), [pinned(OTHER, mine), foreign(), foreign()]),
        (pinned(TARGET, None), [pinned(TARGET, None), pinned(TARGET, None), pinned(TARGET, None)]),
        (ended(TARGET, mine), [over(), foreign(), foreign()]),
        // Opened before sessions were bound, so the target alone tells its client.
        (ended(TARGET, None), [over(), over(), over()]),
        (ended(OTHER, mine), [foreign(), foreign(), foreign()]),
        (ended(OTHER, None), [foreign(), foreign(), foreign()]),
        (Lookup::Unknown, [Lookup::Unknown, Lookup::Unknown, Lookup::Unknown]),
        (Lookup::Forgotten, [Lookup::Forgotten, Lookup::Forgotten, Lookup::Forgotten]),
        (Lookup::StoreDown, [Lookup::StoreDown, Lookup::StoreDown, Lookup::StoreDown]),
    ];
    for (found, expected) in &bound {
        for (subject, expected) in [mine, other, None].into_iter().zip(expected) {
            let asker = Asker { target: TARGET.into(), subject, binds: true };
            assert_eq!(visible_to(&asker, found.clone()), *expected, "{found:?} by {subject:?}");
        }
    }
    // Nothing is bound: the target decides, and a tombstone of another one stays as it is.
    let free = [
        (pinned(TARGET, mine), [pinned(TARGET, mine), pinned(TARGET, mine), pinned(TARGET, mine)]),
        (ended(TARGET, mine), [over(), ended(TARGET, mine), ended(TARGET, mine)]),
        (ended(TARGET, None), [over(), over(), over()]),
        (ended(OTHER, None), [ended(OTHER, None), ended(OTHER, None), ended(OTHER, None)]),
    ];
    for (found, expected) in &free {
        for (subject, expected) in [mine, other, None].into_iter().zip(expected) {
            let asker = Asker { target: TARGET.into(), subject, binds: false };
            assert_eq!(visible_to(&asker, found.clone()), *expected, "{found:?} by {subject:?}");
            assert!(!asker.is_foreign(mine) && !asker.is_foreign(None));
            assert_eq!(asker.bound_to(), None);
        }
    }
    let asker = Asker { target: TARGET.into(), subject: mine, binds: true };
    assert_eq!(asker.bound_to().as_ref(), mine);
}

#[test]
fn only_who_knows_the_destination_or_is_judged_by_a_backend_may_speak() {
    let alias = Some(BackendId(1));
    let pinned = pinned(TARGET, None);
    for (lookup, target, alias, allowed) in [
        (&pinned, TARGET, None, true),
        (&pinned, TARGET, alias, true),
        (&pinned, OTHER, None, false),
        (&pinned, OTHER, alias, false),
        (&Lookup::Foreign, TARGET, alias, false),
        (&Lookup::Unknown, TARGET, None, false),
        (&Lookup::Unknown, TARGET, alias, true),
        (&Lookup::StoreDown, TARGET, alias, true),
        (&Lookup::Ended(TARGET), TARGET, None, false),
        (&Lookup::Ended(TARGET), TARGET, alias, true),
        (&Lookup::Forgotten, TARGET, None, false),
    ] {
        for kind in [PacketType::Fragment, PacketType::CloseSession, PacketType::CancelSession] {
            assert_eq!(
                may_speak(kind, lookup, target.into(), alias),
                allowed,
                "{kind:?} {lookup:?} {target:?} {alias:?}"
            );
        }
        assert!(!may_speak(PacketType::Ping, lookup, target.into(), alias));
    }
}

#[test]
fn a_packet_is_owned_by_its_pin_and_else_by_its_alias() {
    let alias = Some(BackendId(1));
    for (lookup, alias, expected) in [
        (pinned(TARGET, None), alias, Some(BackendId(0))),
        (pinned(TARGET, None), None, Some(BackendId(0))),
        (pinned(OTHER, None), alias, alias),
        (pinned(OTHER, None), None, None),
        (Lookup::Unknown, alias, alias),
        (Lookup::Unknown, None, None),
    ] {
        let of = |kind| owner(kind, &lookup, TARGET.into(), alias);
        for kind in [PacketType::Fragment, PacketType::CloseSession, PacketType::Ping] {
            assert_eq!(of(kind), expected, "{kind:?} {lookup:?} {alias:?}");
        }
        assert_eq!(of(PacketType::CreateSession), None, "{lookup:?} {alias:?}");
    }
}

#[test]
fn an_id_for_which_the_table_answers_may_be_hidden() {
    for (lookup, expected) in [
        (Lookup::Unknown, true),
        (Lookup::StoreDown, true),
        (Lookup::Ended(OTHER), true),
        (Lookup::Ended(TARGET), false),
        (pinned(TARGET, None), false),
        (pinned(OTHER, None), false),
        (Lookup::Foreign, false),
        (Lookup::Forgotten, false),
        (Lookup::NotAsked, false),
    ] {
        for kind in [PacketType::Fragment, PacketType::CloseSession, PacketType::CancelSession] {
            let found = must_not_be_hidden(kind, &lookup, TARGET.into());
            assert_eq!(found, expected, "{kind:?} {lookup:?}");
        }
        assert!(!must_not_be_hidden(PacketType::Ping, &lookup, TARGET.into()), "{lookup:?}");
    }
}

#[test]
fn a_refused_file_ends_only_its_own_session_without_a_byte() {
    let (first, later) = (ContentRange::new(0, 2, 9), ContentRange::new(1, 2, 9));
    let (first, later) = (first.expect("legal"), later.expect("legal"));
    let (own, pin) = (pinned(TARGET, None), pin(TARGET, None));
    for (range, lookup, untouched, expected) in [
        (&first, &own, true, Some(&pin)),
        (&first, &own, false, None),
        (&later, &own, true, None),
        (&first, &pinned(OTHER, None), true, None),
        (&first, &Lookup::Foreign, true, None),
        (&first, &Lookup::Unknown, true, None),
        (&first, &Lookup::Ended(TARGET), true, None),
        (&first, &Lookup::Forgotten, true, None),
        (&first, &Lookup::StoreDown, true, None),
    ] {
        let found = ended_by_refusal(range, lookup, TARGET.into(), untouched);
        assert_eq!(found, expected, "{range:?} {lookup:?} {untouched}");
    }
}

#[test]
fn what_may_reach_a_server_twice_has_no_identity() {
    let ping = RequestPacket::Ping { session: Some(session()) };
    for packet in [RequestPacket::CreateSession, ping, fragment("bytes 0-2/9")] {
        assert_eq!(identity(&packet), None, "{packet:?}");
    }
    for packet in [close(), cancel(), fragment(FINAL), fragment("bytes 0-0/0")] {
        assert!(identity(&packet).is_some(), "{packet:?}");
    }
}

/// The table of cases: what is under way, what comes, what is done.
#[test]
fn a_newer_request_cancels_joins_or_waits() {
    let (end, abort, last) = (identity(&close()), identity(&cancel()), identity(&fragment(FINAL)));
    let (end, abort, last) = (end.as_ref(), abort.as_ref(), last.as_ref());
    let (next, shorter) = (None, identity(&fragment("bytes 7-8/9")));
    for (older, newer, expected) in [
        (end, end, Order::Join),
        (abort, abort, Order::Join),
        (last, last, Order::Join),
        (end, abort, Order::Wait),
        (end, last, Order::Wait),
        (end, next, Order::Wait),
        (abort, end, Order::Wait),
        (last, end, Order::Wait),
        (last, shorter.as_ref(), Order::Wait),
        (last, next, Order::Wait),
        (next, next, Order::WaitBriefly),
        (next, last, Order::WaitBriefly),
        (next, end, Order::WaitBriefly),
    ] {
        assert_eq!(order(whole(older), newer), expected, "{newer:?} behind {older:?}");
        // Whatever it is: its client has gone before it was whole.
        let coming = UnderWay { packet: older, whole: false };
        assert_eq!(order(coming, newer), Order::Cancel, "{newer:?} behind {older:?}");
    }
}

#[test]
fn each_difference_makes_another_packet_of_it() {
    let [mine, theirs] = [1, 2].map(|byte| Subject::new([byte; 16]));
    let [basic, other] = [&b"Basic YTpi"[..], b"Basic YTpj"];
    for packet in [close(), cancel(), fragment(FINAL)] {
        let of = |target: TargetHash, subject, credentials: &[&[u8]]| {
            Identity::of(&packet, target.into(), subject, credentials.iter().copied(), None)
        };
        let older = of(TARGET, Some(&mine), &[basic]);
        let ordered = |newer| order(whole(older.as_ref()), Option::<Identity>::as_ref(&newer));
        assert_eq!(ordered(of(TARGET, Some(&mine), &[basic])), Order::Join);
        for differs in [
            of(TargetHash(8), Some(&mine), &[basic]),
            of(TARGET, Some(&theirs), &[basic]),
            of(TARGET, None, &[basic]),
            of(TARGET, Some(&mine), &[other]),
            of(TARGET, Some(&mine), &[]),
            of(TARGET, Some(&mine), &[basic, basic]),
        ] {
            assert_eq!(ordered(differs.clone()), Order::Wait, "{differs:?}");
        }
    }
}

#[test]
fn a_login_that_is_bound_to_a_connection_parts_final_fragments_but_not_ends() {
    for (packet, expected) in
        [(close(), Order::Join), (cancel(), Order::Join), (fragment(FINAL), Order::Wait)]
    {
        let on = |connection| Identity::of(&packet, TARGET.into(), None, [], connection);
        for newer in [on(Some(2)), on(None)] {
            let older = on(Some(1));
            assert_eq!(order(whole(older.as_ref()), newer.as_ref()), expected, "{newer:?}");
        }
    }
}

#[test]
fn an_answer_is_shared_unless_another_try_may_fare_better() {
    use Shared::{Answer, End, Nothing};
    let ack = ("BITS-Packet-Type", "Ack");
    let offset = ("BITS-Received-Content-Range", "9");
    let lost = ("BITS-Error-Code", "0x8020001F");
    let all: &[(RequestPacket, [Shared; 9])] = &[
        (close(), [End, Nothing, Nothing, Nothing, Nothing, Nothing, Nothing, Nothing, Nothing]),
        (cancel(), [End, Nothing, Nothing, Nothing, Nothing, Nothing, Nothing, Nothing, Nothing]),
        (
            fragment(FINAL),
            [Answer, Answer, Answer, Answer, Nothing, Nothing, Nothing, Nothing, Nothing],
        ),
    ];
    let answers: [(u16, &[(&str, &str)]); 9] = [
        (200, &[ack, offset]),
        // A page of another program.
        (200, &[]),
        (416, &[ack, offset]),
        (403, &[ack]),
        (401, &[("WWW-Authenticate", "Negotiate")]),
        (407, &[]),
        (500, &[ack, lost]),
        (503, &[]),
        (504, &[ack]),
    ];
    for (packet, expected) in all {
        let packet = identity(packet).unwrap();
        for ((status, fields), expected) in answers.iter().zip(expected) {
            let head = head(*status, fields);
            assert_eq!(
                shared(&packet, &read_ack(head.status, &head.headers), false),
                *expected,
                "{packet:?} {status}"
            );
            // Over a connection of its client's own.
            let bound = if *expected == Answer { Nothing } else { *expected };
            assert_eq!(
                shared(&packet, &read_ack(head.status, &head.headers), true),
                bound,
                "{packet:?} {status}"
            );
        }
    }
}
