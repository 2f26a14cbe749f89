//! Decisions and placement on arbitrary farms.

use std::collections::HashMap;
use std::time::Duration;

use gateway_core::farm::{AdminState, Backend, BackendId, Barred, FarmView, Health, Sign};
use gateway_core::fault::Fault;
use gateway_core::protocol::{ContentRange, HResult, PacketType, RequestPacket, SessionId};
use gateway_core::routing::{
    Decision, Evidence, Lookup, Placement, Policy, UnknownSession, Why, decide, decide_plain,
};
use gateway_core::session::{Binding, Pin, TargetHash, Timestamp};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

/// Ids up to here are made; above a farm's own there are only removed backends.
const IDS: u32 = 8;

fn backend() -> impl Strategy<Value = Option<Backend>> {
    let admin = select(&AdminState::ALL[..]);
    let health = select(&[Health::Up, Health::Up, Health::Down][..]);
    option::weighted(
        0.7,
        (1..10u32, admin, health).prop_map(|(weight, admin, health)| Backend {
            id: BackendId(0),
            name: "".into(),
            weight,
            admin,
            health,
            announce: None,
        }),
    )
}

/// Backends with gaps between their ids, as after reloads.
fn backends() -> impl Strategy<Value = Vec<Backend>> {
    vec(backend(), 0..IDS as usize - 1).prop_map(|slots| {
        let slots = (0u32..).zip(slots).filter_map(|(id, slot)| Some((id, slot?)));
        let named = slots.map(|(id, slot)| {
            let name = format!("up{id:02}").into();
            Backend { id: BackendId(id), name, ..slot }
        });
        named.collect()
    })
}

fn ids() -> impl Strategy<Value = BackendId> {
    (0..IDS).prop_map(BackendId)
}

fn policies() -> impl Strategy<Value = Policy> {
    let placement = select(&Placement::ALL[..]);
    let unknown = select(&[UnknownSession::Ask, UnknownSession::Restart, UnknownSession::Wait][..]);
    (placement, unknown).prop_map(|(placement, unknown)| Policy { placement, unknown })
}

fn packets() -> impl Strategy<Value = RequestPacket> {
    let session = || SessionId::parse("{x}").expect("legal id");
    let range = ContentRange::new(0, 4, 10).expect("legal range");
    prop_oneof![
        Just(RequestPacket::CreateSession),
        Just(RequestPacket::Ping { session: None }),
        Just(RequestPacket::Fragment { session: session(), range }),
        Just(RequestPacket::CloseSession { session: session() }),
        Just(RequestPacket::CancelSession { session: session() }),
    ]
}

const HERE: TargetHash = TargetHash(1);

fn lookups() -> impl Strategy<Value = Lookup> {
    let pin = (ids(), any::<bool>()).prop_map(|(backend, here)| {
        let target = if here { HERE } else { TargetHash(2) };
        let created = Timestamp(0);
        let binding = Binding::unspelled(target);
        Lookup::Pinned(Pin { backend, backend_session: None, binding, created, subject: None })
    });
    prop_oneof![
        1 => Just(Lookup::NotAsked),
        1 => Just(Lookup::Unknown),
        1 => Just(Lookup::StoreDown),
        1 => Just(Lookup::Foreign),
        3 => pin,
    ]
}

#[derive(Debug, Clone)]
struct Situation {
    backends: Vec<Backend>,
    packet: RequestPacket,
    lookup: Lookup,
    alias: Option<BackendId>,
    connection: Option<BackendId>,
    login: bool,
    room: bool,
    total: u64,
    avoid: Vec<BackendId>,
    barred: Vec<Barred>,
    refused: bool,
    hash: u64,
    turn: u64,
    policy: Policy,
    loads: Vec<u64>,
}

fn barred() -> impl Strategy<Value = Barred> {
    let why = select(&Sign::ALL[..]);
    let since = (0..100u64).prop_map(Duration::from_secs);
    (ids(), why, since).prop_map(|(backend, why, since)| Barred { backend, why, since })
}

fn situations() -> impl Strategy<Value = Situation> {
    let where_to = (option::of(ids()), option::of(ids()), any::<bool>(), vec(ids(), 0..3));
    let where_to = (where_to, vec(barred(), 0..4), any::<bool>());
    let chance = (any::<u64>(), any::<u64>(), vec(0..50u64, IDS as usize));
    // Fragments say 10.
    let chance = (chance, any::<bool>(), select(&[0, 0, 10, 10, 9, 11, u64::MAX][..]))
        .prop_map(|((hash, turn, loads), room, total)| (hash, turn, loads, room, total));
    (backends(), packets(), lookups(), where_to, chance, policies()).prop_map(
        |(
            backends,
            packet,
            lookup,
            ((alias, connection, login, avoid), barred, refused),
            (hash, turn, loads, room, total),
            policy,
        )| {
            Situation {
                backends,
                packet,
                lookup,
                alias,
                connection,
                login,
                room,
                total,
                avoid,
                barred,
                refused,
                hash,
                turn,
                policy,
                loads,
            }
        },
    )
}

impl Situation {
    fn farm(&self) -> FarmView {
        FarmView::new(self.backends.clone(), HashMap::new())
    }

    fn evidence(&self) -> Evidence<'_> {
        Evidence {
            lookup: &self.lookup,
            target: HERE.into(),
            total: self.total,
            alias: self.alias,
            connection: self.connection,
            login: self.login,
            room: self.room,
            avoid: &self.avoid,
            barred: &self.barred,
            refused: self.refused,
            hash: self.hash,
            turn: self.turn,
        }
    }

    fn decide(&self) -> Decision {
        let loads = |id: BackendId| self.loads[id.0 as usize];
        decide(&self.packet, &self.evidence(), &self.farm(), self.policy, &loads)
    }

    fn pin(&self) -> Option<BackendId> {
        match &self.lookup {
            Lookup::Pinned(pin) if pin.binding.target == HERE => Some(pin.backend),
            _ => None,
        }
    }

    /// A Ping for a backend that is gone for good may go anywhere.
    fn asks_for_lost(&self, id: BackendId) -> bool {
        let lost = |b: &Backend| b.id == id && b.admin == AdminState::Lost;
        self.packet.packet_type() == PacketType::Ping && self.backends.iter().any(lost)
    }

    fn exists(&self, id: BackendId) -> bool {
        self.backends.iter().any(|backend| backend.id == id)
    }

    /// Backends that a new session may get now.
    fn may_place(&self) -> Vec<BackendId> {
        let free = self.backends.iter().filter(|b| {
            b.admin == AdminState::Ready && b.health == Health::Up && !self.avoid.contains(&b.id)
        });
        free.map(|backend| backend.id).collect()
    }
}

proptest! {
    #![proptest_config(crate::cases(3000))]

    #[test]
    fn only_reachable_backends_get_packets(s in situations()) {
        let decision = s.decide();
        prop_assert_eq!(decision, s.decide(), "same arguments, same decision");
        let plain = decide_plain(s.pin(), None, &s.evidence(), &s.farm(), s.policy.placement, &|_| 0);
        for decision in [decision, plain] {
            if let Decision::Forward { backend: id, .. } = decision {
                let backend = s.backends.iter().find(|backend| backend.id == id).unwrap();
                prop_assert!(backend.health == Health::Up && !backend.admin.is_out());
            }
        }
    }

    #[test]
    fn a_fragment_of_another_size_than_its_session_goes_nowhere(s in situations()) {
        let fragment = matches!(s.packet, RequestPacket::Fragment { .. });
        if fragment && s.pin().is_some() && ![0, 10].contains(&s.total) {
            prop_assert_eq!(s.decide(), Decision::Answer(Fault::BadRequest));
        } else {
            let known = Situation { total: 10, ..s.clone() };
            let unknown = Situation { total: 0, ..s };
            prop_assert_eq!(known.decide(), unknown.decide());
        }
    }

    #[test]
    fn new_sessions_go_to_ready_backends_only(s in situations()) {
        let create = Situation {
            packet: RequestPacket::CreateSession,
            lookup: Lookup::NotAsked,
            ..s
        };
        let free = create.may_place();
        match create.decide() {
            Decision::Forward { backend, .. } => prop_assert!(create.room && free.contains(&backend)),
            Decision::Answer(Fault::TableFull) => prop_assert!(!create.room),
            Decision::Answer(fault) => {
                prop_assert_eq!(fault, Fault::NoBackend);
                let hangs = |id: &BackendId| {
                    create.barred.iter().any(|b| b.backend == *id && b.why.may_hang())
                };
                let only_hanging = create.refused && free.iter().all(hangs);
                prop_assert!(create.room && (free.is_empty() || only_hanging));
            }
            Decision::Ask => prop_assert!(false, "nobody has a session that is yet to be opened"),
        }
    }

    #[test]
    fn nothing_is_placed_on_a_barred_backend_while_others_are_free(s in situations()) {
        let create = Situation { packet: RequestPacket::CreateSession, ..s };
        if let Decision::Forward { backend, why: Why::Placement | Why::Alias } = create.decide() {
            let barred = |id: &BackendId| create.barred.iter().any(|b| b.backend == *id);
            let free = create.may_place();
            // A login binds the connection to its backend, also where the alias names that backend.
            let is_bound = create.login && create.connection == Some(backend);
            prop_assert!(is_bound || !barred(&backend) || free.iter().all(barred));
        }
    }

    #[test]
    fn nothing_is_placed_on_drain_while_others_are_free(s in situations()) {
        if let Decision::Forward { backend, why: Why::Placement } = s.decide() {
            let free = s.may_place();
            prop_assert!(free.is_empty() || free.contains(&backend));
            prop_assert!(!s.avoid.contains(&backend));
        }
    }

    #[test]
    fn a_pinned_packet_goes_to_its_pin_or_is_answered(s in situations()) {
        if let Some(pin) = s.pin().filter(|pin| !s.asks_for_lost(*pin)) {
            match s.decide() {
                Decision::Forward { backend, why } => prop_assert_eq!((backend, why), (pin, Why::Pin)),
                Decision::Answer(Fault::BackendRemoved) => prop_assert!(!s.exists(pin)),
                Decision::Answer(fault) => {
                    let differs = fault == Fault::BadRequest && ![0, 10].contains(&s.total);
                    prop_assert!(differs || (fault == Fault::BackendDown && s.exists(pin)));
                }
                Decision::Ask => prop_assert!(false, "its pin is known"),
            }
        }
    }

    #[test]
    fn no_packet_of_a_session_goes_by_guess(s in situations()) {
        use PacketType::{CreateSession, Ping};
        if matches!(s.packet.packet_type(), CreateSession | Ping) {
            return Ok(());
        }
        if let Decision::Forward { backend, why } = s.decide() {
            let evidence = if why == Why::Pin { s.pin() } else { s.alias };
            prop_assert_eq!(evidence, Some(backend));
            prop_assert!(why == Why::Pin || why == Why::Alias);
            prop_assert!(why == Why::Pin || !matches!(s.lookup, Lookup::Pinned(_)));
        }
    }

    #[test]
    fn backends_are_asked_only_for_a_session_that_nothing_else_tells_of(s in situations()) {
        use PacketType::{CreateSession, Ping};
        // A Create-Session names no session that could be looked up.
        if s.decide() != Decision::Ask || s.packet.packet_type() == CreateSession {
            return Ok(());
        }
        prop_assert_eq!(s.policy.unknown, UnknownSession::Ask);
        prop_assert!(s.packet.packet_type() != Ping);
        // Somebody who guesses an id makes no server hear of it.
        prop_assert!(matches!(s.lookup, Lookup::NotAsked | Lookup::Unknown));
        prop_assert!(s.alias.is_none());
    }

    #[test]
    fn nobody_starts_over_without_need(s in situations()) {
        let Decision::Answer(fault) = s.decide() else { return Ok(()) };
        prop_assert!(!(s.lookup == Lookup::StoreDown && fault == Fault::UnknownSession));
        if fault.row().hresult != Some(HResult::SESSION_NOT_FOUND) {
            return Ok(());
        }
        match (&s.lookup, s.pin().filter(|pin| !s.asks_for_lost(*pin))) {
            (_, Some(pin)) => prop_assert!(!s.exists(pin)),
            // Its own client would not: it knows the destination, and shows the certificate that it
            // began with.
            (Lookup::Pinned(_) | Lookup::Foreign, None) if s.packet.packet_type() != PacketType::Ping => {
                prop_assert!(s.policy.unknown != UnknownSession::Wait);
            }
            (Lookup::Pinned(_), None) => {
                prop_assert!(s.alias.is_some_and(|alias| !s.exists(alias)));
            }
            (_, None) => match s.alias {
                Some(alias) => prop_assert!(!s.exists(alias)),
                None => prop_assert_eq!(s.policy.unknown, UnknownSession::Restart),
            },
        }
    }

    #[test]
    fn somebody_is_chosen_where_anybody_stands(s in situations()) {
        let loads = |id: BackendId| s.loads[id.0 as usize];
        let chosen = s.policy.placement.choose(s.backends.iter(), s.hash, s.turn, &loads);
        match chosen {
            Some(id) => prop_assert!(s.exists(id)),
            None => prop_assert!(s.backends.is_empty()),
        }
    }

    #[test]
    fn hashing_never_exceeds_its_bound(s in situations()) {
        let loads = |id: BackendId| s.loads[id.0 as usize];
        if let Some(id) = Placement::Hash.choose(s.backends.iter(), s.hash, s.turn, &loads) {
            let weight = |b: &Backend| f64::from(b.weight);
            let sessions: u64 = s.backends.iter().map(|b| loads(b.id)).sum::<u64>() + 1;
            let weights: f64 = s.backends.iter().map(weight).sum();
            let mine = s.backends.iter().find(|b| b.id == id).map(weight).unwrap();
            let bound = (1.25 * sessions as f64 * mine / weights - 1e-9).ceil();
            prop_assert!((loads(id) + 1) as f64 <= bound, "{} of {}", loads(id) + 1, bound);
        }
    }

    #[test]
    fn a_backend_that_leaves_moves_only_its_own_keys(s in situations()) {
        let choose = |backends: &[Backend]| {
            Placement::Hash.choose(backends.iter(), s.hash, s.turn, &|_| 0)
        };
        let before = choose(&s.backends);
        for gone in &s.backends {
            let mut rest = s.backends.clone();
            rest.retain(|backend| backend.id != gone.id);
            if before != Some(gone.id) {
                prop_assert_eq!(choose(&rest), before);
            }
        }
    }

    #[test]
    fn a_round_gives_each_backend_its_weight(s in situations()) {
        let slots: u64 = s.backends.iter().map(|b| u64::from(b.weight)).sum();
        let start = s.turn >> 1;
        let mut turns = HashMap::new();
        for turn in start..start + slots {
            let id = Placement::RoundRobin.choose(s.backends.iter(), 0, turn, &|_| 0).unwrap();
            *turns.entry(id).or_insert(0) += 1;
        }
        for backend in &s.backends {
            prop_assert_eq!(turns.get(&backend.id), Some(&backend.weight));
        }
    }
}
