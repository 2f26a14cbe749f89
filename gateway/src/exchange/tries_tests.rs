use std::sync::Arc;
use std::time::Duration;

use super::super::rig::*;
use super::*;
use crate::base::clock;
use crate::telemetry::metrics::ConnectError;

const REFUSED: ConnectFailure =
    ConnectFailure { error: ConnectError::Refused, by_backend: true, distrust: false, busy: false };
const BUSY: ConnectFailure =
    ConnectFailure { error: ConnectError::Other, by_backend: false, distrust: false, busy: true };
const DISTRUSTED: ConnectFailure = ConnectFailure { distrust: true, ..REFUSED };

/// A pooled connection that ended without a byte.
const DEAD: ExchangeFailure = ExchangeFailure {
    reused: true,
    died_silently: true,
    replayable: true,
    fault: Some(Fault::BackendFailed),
};

async fn tried(rig: &Rig, head: &Arc<RequestHead>) -> (BackendId, Exchange) {
    let mut exchange = rig.admitted(head).await;
    let (backend, _) = rig.gateway.next_try(head, &mut exchange).await.expect("a try");
    (backend, exchange)
}

async fn pinned(rig: &Rig) -> (Arc<RequestHead>, Exchange) {
    rig.pin(ID, UP01, 100).await;
    let head = fragment(ID, "100-199/10000");
    let (backend, exchange) = tried(rig, &head).await;
    assert_eq!(backend, UP01);
    (head, exchange)
}

#[tokio::test]
async fn an_application_has_longer_for_its_answer() {
    let rig = Rig::new();
    rig.pin(ID, UP01, 100).await;
    let timeouts = rig.farm.load().config.timeouts.clone();
    for (head, patience) in [
        (create(), timeouts.answer),
        (ping(), timeouts.answer),
        (cancel(ID), timeouts.answer),
        (get("/"), timeouts.answer),
        (close(ID), timeouts.answer_long),
        (fragment(ID, "100-199/10000"), timeouts.answer_long),
        (head("POST", "/", &[("Content-Length", "1")]), timeouts.answer_long),
    ] {
        let (_, exchange) = tried(&rig, &head).await;
        let kind = exchange.admitted.kind();
        assert_eq!(exchange.attempt.patience, patience, "{kind:?}");
    }
}

#[tokio::test]
async fn a_create_goes_to_another_backend_until_none_is_left() {
    let rig = Rig::new();
    let head = create();
    let (first, mut exchange) = tried(&rig, &head).await;
    let mut tried = vec![first];
    for _ in 0..2 {
        assert!(rig.gateway.connect_failed(REFUSED, &mut exchange));
        let (next, _) = rig.gateway.next_try(&head, &mut exchange).await.unwrap();
        assert!(!tried.contains(&next));
        tried.push(next);
    }
    assert!(rig.gateway.connect_failed(REFUSED, &mut exchange));
    let next = rig.gateway.next_try(&head, &mut exchange).await;
    assert_eq!(next.err(), Some(Fault::NoBackend));
    assert_eq!(exchange.findings.fault, Some(Fault::NoBackend));
}

#[tokio::test]
async fn a_create_goes_on_where_a_backend_has_no_place_for_a_connection() {
    let rig = Rig::new();
    let head = create();
    let (first, mut exchange) = tried(&rig, &head).await;
    assert!(rig.gateway.connection_wait(&exchange) < Duration::from_secs(20));
    for failure in [BUSY, REFUSED] {
        assert!(rig.gateway.connect_failed(failure, &mut exchange));
        let (next, _) = rig.gateway.next_try(&head, &mut exchange).await.unwrap();
        assert_ne!(next, first);
    }
    assert!(rig.gateway.connect_failed(REFUSED, &mut exchange));
    let next = rig.gateway.next_try(&head, &mut exchange).await;
    assert_eq!(next.err(), Some(Fault::BackendBusy), "one of them had none");
    assert!(rig.health.down_for(first).is_none(), "nor is it down");
}

#[tokio::test]
async fn a_packet_with_an_owner_has_waited_for_its_place() {
    let rig = Rig::new();
    let (_, mut exchange) = pinned(&rig).await;
    let hold = rig.farm.load().config.failover.hold;
    assert_eq!(rig.gateway.connection_wait(&exchange), hold);
    assert!(!rig.gateway.connect_failed(BUSY, &mut exchange));
    assert_eq!(exchange.findings.fault, Some(Fault::BackendBusy));
}

#[tokio::test]
async fn a_client_is_not_told_to_wait_for_a_certificate() {
    let rig = Rig::new();
    let head = create();
    let (_, mut exchange) = tried(&rig, &head).await;
    for _ in 0..2 {
        assert!(rig.gateway.connect_failed(DISTRUSTED, &mut exchange));
        rig.gateway.next_try(&head, &mut exchange).await.unwrap();
    }
    assert!(rig.gateway.connect_failed(DISTRUSTED, &mut exchange));
    let next = rig.gateway.next_try(&head, &mut exchange).await;
    assert_eq!(next.err(), Some(Fault::BackendFailed));
}

#[tokio::test(start_paused = true)]
async fn a_packet_tries_its_own_backend_and_no_other() {
    let rig = Rig::with("[failover]\nhold = \"5s\"");
    let (head, mut exchange) = pinned(&rig).await;
    let began = clock::steady();
    let mut tries = 1;
    while rig.gateway.connect_failed(REFUSED, &mut exchange) {
        let (backend, _) = rig.gateway.next_try(&head, &mut exchange).await.unwrap();
        assert_eq!(backend, UP01);
        tries += 1;
    }
    assert_eq!(exchange.findings.fault, Some(Fault::BackendDown));
    let waited = clock::steady() - began;
    assert!(waited >= std::time::Duration::from_secs(5), "{waited:?}");
    // Each wait is longer than the one before, and none is longer than a second.
    assert!((9..=13).contains(&tries), "{tries}");
    assert_eq!(rig.next_offset(ID), Some(100));
}

#[tokio::test]
async fn an_owner_with_a_bad_certificate_is_not_waited_for() {
    let rig = Rig::new();
    let (_, mut exchange) = pinned(&rig).await;
    assert!(!rig.gateway.connect_failed(DISTRUSTED, &mut exchange));
    assert_eq!(exchange.findings.fault, Some(Fault::BackendFailed));
}

#[tokio::test]
async fn a_want_of_ours_does_not_count_against_a_backend() {
    let rig = Rig::new();
    let ours = ConnectFailure { by_backend: false, ..REFUSED };
    for _ in 0..20 {
        let (_, mut exchange) = tried(&rig, &create()).await;
        rig.gateway.connect_failed(ours, &mut exchange);
    }
    assert!([UP01, UP02, UP03].iter().all(|id| rig.health.down_for(*id).is_none()));
}

#[tokio::test]
async fn a_dead_connection_of_the_pool_costs_a_fragment_nothing() {
    let rig = Rig::new();
    let (head, mut exchange) = pinned(&rig).await;
    assert!(rig.gateway.exchange_failed(&head, DEAD, &mut exchange));
    let (backend, way) = rig.gateway.next_try(&head, &mut exchange).await.unwrap();
    assert_eq!(backend, UP01);
    assert!(matches!(way, Way::Once), "the next one of the pool may be dead as well");
}

#[track_caller]
fn check_ends(rig: &Rig, head: &RequestHead, failure: ExchangeFailure, exchange: &mut Exchange) {
    assert!(!rig.gateway.exchange_failed(head, failure, exchange), "{failure:?}");
}

#[tokio::test]
async fn a_packet_that_may_have_arrived_is_not_sent_twice() {
    let rig = Rig::new();
    let (head, mut exchange) = pinned(&rig).await;
    check_ends(&rig, &head, ExchangeFailure { reused: false, ..DEAD }, &mut exchange);
    check_ends(&rig, &head, ExchangeFailure { died_silently: false, ..DEAD }, &mut exchange);
    check_ends(&rig, &head, ExchangeFailure { replayable: false, ..DEAD }, &mut exchange);
    exchange.attempt.answer_began = true;
    check_ends(&rig, &head, DEAD, &mut exchange);
    exchange.attempt.answer_began = false;
    exchange.admitted.login.bound = true;
    check_ends(&rig, &head, DEAD, &mut exchange);
    drop(exchange);
    for head in [close(ID), fragment(ID, "9900-9999/10000")] {
        let (_, mut exchange) = tried(&rig, &head).await;
        check_ends(&rig, &head, DEAD, &mut exchange);
    }
}

#[tokio::test]
async fn a_packet_is_repeated_only_so_often() {
    let rig = Rig::new();
    let (head, mut exchange) = pinned(&rig).await;
    let mut repeats = 0;
    while rig.gateway.exchange_failed(&head, DEAD, &mut exchange) {
        rig.gateway.next_try(&head, &mut exchange).await.unwrap();
        repeats += 1;
        assert!(repeats < 10);
    }
    assert_eq!(repeats + 1, MAX_REPEATS);
}

#[tokio::test]
async fn a_connection_ends_an_outage() {
    let rig = Rig::new();
    let (_, mut exchange) = pinned(&rig).await;
    assert!(rig.gateway.connect_failed(REFUSED, &mut exchange));
    rig.gateway.connected(false, &mut exchange).unwrap();
    assert!(exchange.tries.backend_request.is_some() && !exchange.tries.reused);
    let refuses = rig.gateway.tries.failover.refuses(UP01, false, &exchange);
    let none = gateway_core::routing::Absence::For(std::time::Duration::ZERO);
    let expected = gateway_core::routing::failover::Owner::Refuses { absence: none, tries: 1 };
    assert_eq!(refuses, expected);
}

#[tokio::test]
async fn a_packet_without_an_address_to_go_to_is_answered() {
    let rig = Rig::new();
    let (head, mut exchange) = pinned(&rig).await;
    exchange.admitted.backend = Some(BackendId(9));
    let next = rig.gateway.next_try(&head, &mut exchange).await;
    assert_eq!(next.err(), Some(Fault::BackendDown), "its owner has to come back");
    let head = get("/");
    let mut exchange = rig.admitted(&head).await;
    exchange.admitted.backend = Some(BackendId(9));
    let next = rig.gateway.next_try(&head, &mut exchange).await;
    assert_eq!(next.err(), Some(Fault::NoBackend));
}
