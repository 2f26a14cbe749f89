//! Table tests of the decision table: one line per row, the sentences of the table as names.

use std::collections::HashMap;

use super::*;
use crate::farm::{AdminState, Health};
use crate::protocol::{ContentRange, SessionId};
use crate::session::{Binding, Target, Timestamp};

const UP: (AdminState, Health) = (AdminState::Ready, Health::Up);
const DOWN: (AdminState, Health) = (AdminState::Ready, Health::Down);
const DRAIN: (AdminState, Health) = (AdminState::Drain, Health::Up);
const DRAIN_DOWN: (AdminState, Health) = (AdminState::Drain, Health::Down);
const MAINTENANCE: (AdminState, Health) = (AdminState::Maintenance, Health::Up);

const HERE: TargetHash = TargetHash(7);
const ELSEWHERE: TargetHash = TargetHash(8);

/// Nobody is configured under this id.
const REMOVED: BackendId = BackendId(99);

const POLICY: Policy =
    Policy { placement: Placement::RoundRobin, unknown: UnknownSession::Restart };

fn farm(states: &[(AdminState, Health)]) -> FarmView {
    let backends = (0u32..).zip(states).map(|(id, &(admin, health))| Backend {
        id: BackendId(id),
        name: format!("up{id:02}").into(),
        weight: 1,
        admin,
        health,
        announce: None,
    });
    FarmView::new(backends.collect(), HashMap::new())
}

fn packet(kind: PacketType) -> RequestPacket {
    let session = SessionId::parse("{x}").unwrap();
    match kind {
        PacketType::CreateSession => RequestPacket::CreateSession,
        PacketType::Ping => RequestPacket::Ping { session: Some(session) },
        PacketType::Fragment => {
            let range = ContentRange::parse("bytes 0-4/10").unwrap();
            RequestPacket::Fragment { session, range }
        }
        PacketType::CloseSession => RequestPacket::CloseSession { session },
        PacketType::CancelSession => RequestPacket::CancelSession { session },
    }
}

const IN_SESSION: [PacketType; 3] =
    [PacketType::Fragment, PacketType::CloseSession, PacketType::CancelSession];
const WITH_ID: [PacketType; 4] =
    [PacketType::Ping, PacketType::Fragment, PacketType::CloseSession, PacketType::CancelSession];

fn pinned_to(backend: BackendId) -> Lookup {
    let created = Timestamp::default();
    let binding = Binding::unspelled(HERE);
    Lookup::Pinned(Pin { backend, backend_session: None, binding, created, subject: None })
}

/// What a case changes about the plainest request.
#[derive(Clone)]
struct Case<'a> {
    lookup: Lookup,
    target: Target,
    total: u64,
    alias: Option<u32>,
    connection: Option<u32>,
    login: bool,
    room: bool,
    avoid: &'a [BackendId],
    barred: &'a [Barred],
    refused: bool,
    turn: u64,
    policy: Policy,
}

fn case() -> Case<'static> {
    Case {
        lookup: Lookup::NotAsked,
        target: HERE.into(),
        total: 0,
        alias: None,
        connection: None,
        login: false,
        room: true,
        avoid: &[],
        barred: &[],
        refused: false,
        turn: 0,
        policy: POLICY,
    }
}

impl Case<'_> {
    fn evidence(&self) -> Evidence<'_> {
        Evidence {
            lookup: &self.lookup,
            target: self.target,
            total: self.total,
            alias: self.alias.map(BackendId),
            connection: self.connection.map(BackendId),
            login: self.login,
            room: self.room,
            avoid: self.avoid,
            barred: self.barred,
            refused: self.refused,
            hash: 0,
            turn: self.turn,
        }
    }

    fn decide(&self, kind: PacketType, farm: &FarmView) -> Decision {
        decide(&packet(kind), &self.evidence(), farm, self.policy, &|_| 0)
    }
}

fn forward(backend: u32, why: Why) -> Decision {
    Decision::Forward { backend: BackendId(backend), why }
}

#[track_caller]
fn check(
    kinds: &[PacketType],
    states: &[(AdminState, Health)],
    case: &Case<'_>,
    expected: Decision,
) {
    for &kind in kinds {
        assert_eq!(case.decide(kind, &farm(states)), expected, "{kind:?}");
    }
}

#[test]
fn a_pinned_packet_goes_to_its_pin() {
    let case =
        Case { lookup: pinned_to(BackendId(1)), alias: Some(0), connection: Some(0), ..case() };
    check(&WITH_ID, &[UP, UP], &case, forward(1, Why::Pin));
    // A full table and a failed attempt change nothing for a session that has its place.
    let case = Case { room: false, avoid: &[BackendId(1)], ..case };
    check(&WITH_ID, &[UP, UP], &case, forward(1, Why::Pin));
}

#[test]
fn a_fragment_of_another_size_than_its_session_is_refused() {
    let known = |total| Case { lookup: pinned_to(BackendId(1)), total, ..case() };
    for total in [9, 11, u64::MAX] {
        let refused = Decision::Answer(Fault::BadRequest);
        check(&[PacketType::Fragment], &[UP, UP], &known(total), refused);
        check(&[PacketType::Fragment], &[UP, DOWN], &known(total), refused);
        let others = [PacketType::Ping, PacketType::CloseSession, PacketType::CancelSession];
        check(&others, &[UP, UP], &known(total), forward(1, Why::Pin));
        // No word about the session to somebody who does not know its destination.
        let elsewhere = Case { target: ELSEWHERE.into(), ..known(total) };
        let unknown = Decision::Answer(Fault::UnknownSession);
        check(&[PacketType::Fragment], &[UP, UP], &elsewhere, unknown);
    }
    check(&WITH_ID, &[UP, UP], &known(10), forward(1, Why::Pin));
}

#[test]
fn a_draining_backend_serves_its_sessions_to_their_end() {
    let case = Case { lookup: pinned_to(BackendId(1)), ..case() };
    check(&WITH_ID, &[UP, DRAIN], &case, forward(1, Why::Pin));
}

#[test]
fn a_pinned_packet_waits_for_a_backend_that_cannot_be_reached() {
    let case = Case { lookup: pinned_to(BackendId(1)), alias: Some(0), ..case() };
    for state in [DOWN, MAINTENANCE, DRAIN_DOWN] {
        check(&WITH_ID, &[UP, state], &case, Decision::Answer(Fault::BackendDown));
    }
}

#[test]
fn the_session_of_a_removed_backend_starts_over() {
    let case = Case { lookup: pinned_to(REMOVED), alias: Some(0), ..case() };
    check(&WITH_ID, &[UP, UP], &case, Decision::Answer(Fault::BackendRemoved));
}

/// Its owner is known, so the question would reach its file.
#[test]
fn a_session_on_another_path_is_answered_as_unknown_and_nobody_is_asked_for_it() {
    let known = Case { lookup: pinned_to(BackendId(1)), target: ELSEWHERE.into(), ..case() };
    for (unknown, fault) in [
        (UnknownSession::Ask, Fault::UnknownSession),
        (UnknownSession::Restart, Fault::UnknownSession),
        (UnknownSession::Wait, Fault::SessionNotHere),
    ] {
        let policy = Policy { unknown, ..POLICY };
        // Not even an alias lets it through, whatever state the backend is in.
        for (alias, state) in [(None, UP), (Some(1), UP), (Some(1), DOWN), (Some(1), MAINTENANCE)] {
            let case = Case { policy, alias, ..known.clone() };
            check(&IN_SESSION, &[UP, state], &case, Decision::Answer(fault));
        }
    }
}

#[test]
fn a_session_is_met_in_every_spelling_of_its_target() {
    let target = |text: &str| Target::of(text.as_bytes());
    let (packet, old) = (target("/in/%61"), TargetHash::of(b"/in/%61"));
    for (bound, same) in [(target("/in/a").hash(), true), (old, true), (HERE, false)] {
        let created = Timestamp::default();
        let (backend, binding) = (BackendId(1), Binding::unspelled(bound));
        let pin = Pin { backend, backend_session: None, binding, created, subject: None };
        let pinned = Case { lookup: Lookup::Pinned(pin), target: packet, ..case() };
        let ended = Case { lookup: Lookup::Ended(bound), target: packet, ..case() };
        let unknown = Decision::Answer(Fault::UnknownSession);
        let expected = if same { forward(1, Why::Pin) } else { unknown };
        check(&IN_SESSION, &[UP, UP], &pinned, expected);
        let expected = if same { Decision::Answer(Fault::AlreadyEnded) } else { unknown };
        check(&[PacketType::CloseSession], &[UP, UP], &ended, expected);
    }
}

#[test]
fn a_session_of_another_client_is_nobodys_and_nobody_is_asked_for_it() {
    let at = |unknown, lookup| {
        let policy = Policy { unknown, ..POLICY };
        Case { lookup, alias: Some(0), connection: Some(0), policy, ..case() }
    };
    for (unknown, fault) in [
        (UnknownSession::Ask, Fault::UnknownSession),
        (UnknownSession::Restart, Fault::UnknownSession),
        (UnknownSession::Wait, Fault::SessionNotHere),
    ] {
        let case = at(unknown, Lookup::Foreign);
        check(&IN_SESSION, &[UP, UP], &case, Decision::Answer(fault));
        check(&[PacketType::Ping], &[UP, UP], &case, forward(0, Why::Alias));
    }
}

#[test]
fn a_ping_on_another_path_is_routed_without_its_session() {
    let case = Case { lookup: pinned_to(BackendId(1)), target: ELSEWHERE.into(), ..case() };
    check(&[PacketType::Ping], &[UP, UP], &case, forward(0, Why::Placement));
    let case = Case { alias: Some(0), ..case };
    check(&[PacketType::Ping], &[UP, UP], &case, forward(0, Why::Alias));
}

#[test]
fn an_unknown_session_goes_where_its_alias_says() {
    for lookup in [Lookup::Unknown, Lookup::StoreDown] {
        let case = Case { lookup, alias: Some(1), connection: Some(0), ..case() };
        check(&WITH_ID, &[UP, UP], &case, forward(1, Why::Alias));
        check(&WITH_ID, &[UP, DRAIN], &case, forward(1, Why::Alias));
        check(&WITH_ID, &[UP, DOWN], &case, Decision::Answer(Fault::BackendDown));
        check(&WITH_ID, &[UP, MAINTENANCE], &case, Decision::Answer(Fault::BackendDown));
    }
}

#[test]
fn an_unknown_session_without_alias_is_answered_as_the_operator_chose() {
    // The connection is no evidence for a session: several jobs share one.
    let case = Case { lookup: Lookup::Unknown, connection: Some(1), ..case() };
    check(&IN_SESSION, &[UP, UP], &case, Decision::Answer(Fault::UnknownSession));
    let policy = Policy { unknown: UnknownSession::Wait, ..POLICY };
    let case = Case { policy, ..case };
    check(&IN_SESSION, &[UP, UP], &case, Decision::Answer(Fault::SessionNotHere));
    let policy = Policy { unknown: UnknownSession::Ask, ..POLICY };
    let case = Case { policy, ..case };
    check(&IN_SESSION, &[UP, UP], &case, Decision::Ask);
    check(&IN_SESSION, &[DOWN, DOWN], &case, Decision::Ask);
}

#[test]
fn nobody_is_asked_for_a_session_whose_end_was_seen() {
    let policy = Policy { unknown: UnknownSession::Ask, ..POLICY };
    for lookup in [Lookup::Ended(HERE), Lookup::Forgotten] {
        let case = Case { lookup, policy, ..case() };
        let fragment = [PacketType::Fragment];
        check(&fragment, &[UP, UP], &case, Decision::Answer(Fault::UnknownSession));
    }
    let case = Case { lookup: Lookup::Ended(ELSEWHERE), policy, ..case() };
    check(&IN_SESSION, &[UP, UP], &case, Decision::Answer(Fault::UnknownSession));
}

#[test]
fn a_ping_of_a_session_that_is_over_is_routed_as_if_it_named_none() {
    for lookup in [Lookup::Forgotten, Lookup::Ended(HERE), Lookup::Foreign] {
        let case = Case { lookup, connection: Some(1), ..case() };
        check(&[PacketType::Ping], &[UP, UP], &case, forward(1, Why::Connection));
        let case = Case { alias: Some(0), ..case };
        check(&[PacketType::Ping], &[UP, UP], &case, forward(0, Why::Alias));
    }
}

#[test]
fn a_store_that_is_down_is_never_read_as_unknown() {
    for unknown in [UnknownSession::Ask, UnknownSession::Restart, UnknownSession::Wait] {
        let policy = Policy { unknown, ..POLICY };
        let case = Case { lookup: Lookup::StoreDown, policy, connection: Some(1), ..case() };
        for states in [[UP, UP], [UP, DOWN], [DOWN, DOWN]] {
            check(&IN_SESSION, &states, &case, Decision::Answer(Fault::StoreDown));
        }
    }
}

#[test]
fn a_create_that_could_not_be_made_durable_is_answered_before_a_backend_hears_of_it() {
    let case = Case { lookup: Lookup::StoreDown, alias: Some(1), connection: Some(0), ..case() };
    let create = [PacketType::CreateSession];
    check(&create, &[UP, UP], &case, Decision::Answer(Fault::StoreDown));
}

#[test]
fn a_create_prefers_its_alias_then_the_connection_of_its_login() {
    let create = [PacketType::CreateSession];
    let states = [UP, UP, UP];
    let both = Case { alias: Some(2), connection: Some(1), login: true, ..case() };
    check(&create, &states, &both, forward(2, Why::Alias));
    check(&create, &states, &Case { alias: None, ..both.clone() }, forward(1, Why::Connection));
    let neither = Case { alias: None, connection: None, ..both };
    check(&create, &states, &neither, forward(0, Why::Placement));
}

#[test]
fn a_connection_without_a_login_says_nothing_about_a_create() {
    let create = [PacketType::CreateSession];
    for turn in 0..6 {
        let case = Case { connection: Some(1), turn, ..case() };
        let expected = Case { connection: None, ..case.clone() };
        let expected = expected.decide(PacketType::CreateSession, &farm(&[UP, UP, UP]));
        check(&create, &[UP, UP, UP], &case, expected);
    }
}

#[test]
fn a_create_does_not_insist() {
    let create = [PacketType::CreateSession];
    for state in [DOWN, DRAIN, MAINTENANCE] {
        let case = Case { alias: Some(2), connection: Some(1), login: true, ..case() };
        check(&create, &[UP, UP, state], &case, forward(1, Why::Connection));
        check(&create, &[UP, state, state], &case, forward(0, Why::Placement));
    }
    let removed = Case { alias: Some(REMOVED.0), connection: Some(REMOVED.0), ..case() };
    check(&create, &[UP], &removed, forward(0, Why::Placement));
}

#[test]
fn a_create_avoids_backends_that_it_failed_to_reach() {
    let create = [PacketType::CreateSession];
    let avoid = [BackendId(0), BackendId(2)];
    let case = Case { alias: Some(2), connection: Some(0), login: true, avoid: &avoid, ..case() };
    check(&create, &[UP, UP, UP], &case, forward(1, Why::Placement));
    check(&create, &[UP, DRAIN, UP], &case, Decision::Answer(Fault::NoBackend));
}

#[test]
fn a_create_needs_room_in_the_table() {
    let case = Case { room: false, alias: Some(0), ..case() };
    check(&[PacketType::CreateSession], &[UP], &case, Decision::Answer(Fault::TableFull));
    check(&[PacketType::Ping], &[UP], &case, forward(0, Why::Alias));
}

#[test]
fn no_session_is_placed_on_a_backend_that_may_get_none() {
    let create = [PacketType::CreateSession];
    check(&create, &[DOWN, DRAIN, MAINTENANCE], &case(), Decision::Answer(Fault::NoBackend));
    check(&create, &[], &case(), Decision::Answer(Fault::NoBackend));
    for turn in 0..8 {
        let case = Case { turn, ..case() };
        check(&create, &[DOWN, DRAIN, MAINTENANCE, UP], &case, forward(3, Why::Placement));
    }
}

#[test]
fn a_ping_takes_pin_alias_connection_placement_in_this_order() {
    let ping = [PacketType::Ping];
    let states = [UP, UP, UP, UP];
    let all =
        Case { lookup: pinned_to(BackendId(3)), alias: Some(2), connection: Some(1), ..case() };
    check(&ping, &states, &all, forward(3, Why::Pin));
    for lookup in [Lookup::NotAsked, Lookup::Unknown, Lookup::StoreDown] {
        let all = Case { lookup, ..all.clone() };
        check(&ping, &states, &all, forward(2, Why::Alias));
        check(&ping, &states, &Case { alias: None, ..all.clone() }, forward(1, Why::Connection));
        let none = Case { alias: None, connection: None, ..all };
        check(&ping, &states, &none, forward(0, Why::Placement));
    }
}

#[test]
fn a_ping_stays_on_a_draining_backend_and_is_placed_there_last() {
    let ping = [PacketType::Ping];
    let connected = Case { connection: Some(1), ..case() };
    check(&ping, &[UP, DRAIN], &connected, forward(1, Why::Connection));
    for turn in 0..4 {
        let case = Case { turn, ..case() };
        check(&ping, &[UP, DRAIN], &case, forward(0, Why::Placement));
        check(&ping, &[DOWN, DRAIN], &case, forward(1, Why::Placement));
    }
    check(&ping, &[DOWN, MAINTENANCE], &case(), Decision::Answer(Fault::NoBackend));
}

#[test]
fn a_plain_request_takes_owner_alias_connection_placement_in_this_order() {
    #[track_caller]
    fn check(
        owner: Option<u32>,
        states: &[(AdminState, Health)],
        case: &Case<'_>,
        expected: Decision,
    ) {
        let owner = owner.map(BackendId);
        let evidence = case.evidence();
        let decision =
            decide_plain(owner, None, &evidence, &farm(states), Placement::RoundRobin, &|_| 0);
        assert_eq!(decision, expected);
    }
    let states = [UP, UP, UP, DRAIN];
    let all = Case { alias: Some(2), connection: Some(1), ..case() };
    check(Some(3), &states, &all, forward(3, Why::Pin));
    check(None, &states, &all, forward(2, Why::Alias));
    check(None, &states, &Case { alias: None, ..all.clone() }, forward(1, Why::Connection));
    check(None, &states, &case(), forward(0, Why::Placement));
    check(None, &[DOWN, DRAIN], &case(), forward(1, Why::Placement));
    // A reply lies on one backend only.
    check(Some(3), &[UP, UP, UP, DOWN], &all, Decision::Answer(Fault::BackendDown));
    check(Some(REMOVED.0), &states, &all, Decision::Answer(Fault::BackendRemoved));
    check(None, &[UP, UP, MAINTENANCE], &all, Decision::Answer(Fault::BackendDown));
    check(None, &[MAINTENANCE, DOWN], &case(), Decision::Answer(Fault::NoBackend));
}

#[test]
fn a_file_is_asked_of_the_backend_that_has_it() {
    #[track_caller]
    fn check(states: &[(AdminState, Health)], case: &Case<'_>, shared: bool, expected: Decision) {
        let holder = Some(Holder { backend: BackendId(1), shared });
        let (evidence, farm) = (case.evidence(), farm(states));
        let decision = decide_plain(None, holder, &evidence, &farm, Placement::RoundRobin, &|_| 0);
        assert_eq!(decision, expected, "{states:?} {shared}");
    }
    let connected = Case { connection: Some(0), ..case() };
    let here = forward(1, Why::Delivered);
    for shared in [false, true] {
        check(&[UP, UP], &connected, shared, here);
        check(&[UP, DRAIN], &connected, shared, here);
        // The client asks for a server by its name.
        let case = Case { alias: Some(0), ..case() };
        check(&[UP, UP], &case, shared, forward(0, Why::Alias));
        // It is gone.
        check(
            &[UP, (AdminState::Lost, Health::Up)],
            &connected,
            shared,
            forward(0, Why::Connection),
        );
        check(&[UP], &connected, shared, forward(0, Why::Connection));
    }
    for away in [DOWN, MAINTENANCE] {
        check(&[UP, away], &connected, false, Decision::Answer(Fault::BackendDown));
        check(&[UP, away], &connected, true, forward(0, Why::Connection));
    }
}

#[test]
fn every_reason_has_a_label_of_its_own() {
    let labels =
        [Why::Pin, Why::Alias, Why::Asked, Why::Delivered, Why::Connection, Why::Placement];
    let labels = labels.map(Why::label);
    for (index, label) in labels.iter().enumerate() {
        assert!(!labels[..index].contains(label), "{label}");
    }
}

const LOST: (AdminState, Health) = (AdminState::Lost, Health::Up);

#[test]
fn nothing_goes_to_a_lost_backend_and_a_ping_goes_elsewhere() {
    let down = Decision::Answer(Fault::BackendDown);
    let pinned = Case { lookup: pinned_to(BackendId(0)), ..case() };
    check(&IN_SESSION, &[LOST, UP], &pinned, down);
    check(&[PacketType::Ping], &[LOST, UP], &pinned, forward(1, Why::Placement));
    let alias = Case { lookup: Lookup::Unknown, alias: Some(0), ..case() };
    check(&IN_SESSION, &[LOST, UP], &alias, down);
    check(&[PacketType::Ping], &[LOST, UP], &alias, forward(1, Why::Placement));
    check(&[PacketType::CreateSession], &[LOST, UP], &alias, forward(1, Why::Placement));
    // One in maintenance comes back, and its clients wait for it.
    check(&[PacketType::Ping], &[MAINTENANCE, UP], &alias, down);
}

#[path = "decide_barred_tests.rs"]
mod barred;
