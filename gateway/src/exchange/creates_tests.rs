use gateway_core::protocol::read_ack;

use super::super::rig::*;
use super::*;
use crate::exchange::failure::{ConnectFailure, ExchangeFailure};
use crate::telemetry::metrics::ConnectError;

const FORBIDDEN: Reply = (403, &[]);
const DENIED: Reply = (500, &[ACK, ("BITS-Error", "0x80070005")]);
const OPENED: Reply = (200, &[ACK, ("BITS-Session-Id", ID)]);

const LOST: ExchangeFailure = ExchangeFailure {
    reused: false,
    died_silently: true,
    replayable: true,
    fault: Some(Fault::BackendFailed),
};

/// A Create at its first backend.
async fn created(rig: &Rig) -> (BackendId, Exchange) {
    let head = create();
    let mut exchange = rig.admitted(&head).await;
    let (backend, _) = rig.gateway.next_try(&head, &mut exchange).await.expect("a try");
    (backend, exchange)
}

fn answers(rig: &Rig, reply: Reply, exchange: &mut Exchange) -> Follows {
    let response = answer(reply);
    let ack = read_ack(response.status, &response);
    rig.gateway.tries.creates.judge(&create(), &response, &ack, exchange)
}

/// The backend that the Create goes to now.
async fn goes_on(rig: &Rig, exchange: &mut Exchange) -> BackendId {
    rig.gateway.next_try(&create(), exchange).await.expect("a try").0
}

#[tokio::test]
async fn what_one_server_refuses_another_one_gets() {
    let rig = Rig::new();
    let (first, mut exchange) = created(&rig).await;
    assert_eq!(answers(&rig, FORBIDDEN, &mut exchange), Follows::Elsewhere);
    assert_ne!(goes_on(&rig, &mut exchange).await, first);
    assert_eq!(answers(&rig, OPENED, &mut exchange), Follows::Answer);
    rig.check_metric(r#"bitsgw_refused_creates_total{result="moved"}"#, 1);
}

#[tokio::test]
async fn what_all_refuse_their_client_hears_from_the_last_one() {
    let rig = Rig::new();
    let (_, mut exchange) = created(&rig).await;
    for _ in 0..2 {
        assert_eq!(answers(&rig, FORBIDDEN, &mut exchange), Follows::Elsewhere);
        goes_on(&rig, &mut exchange).await;
    }
    assert_eq!(answers(&rig, FORBIDDEN, &mut exchange), Follows::Answer);
    rig.check_metric(r#"bitsgw_refused_creates_total{result="final"}"#, 1);
}

#[tokio::test]
async fn what_is_wrong_with_the_request_its_client_hears_at_once() {
    let rig = Rig::new();
    let (_, mut exchange) = created(&rig).await;
    assert_eq!(answers(&rig, DENIED, &mut exchange), Follows::Answer);
}

#[tokio::test]
async fn a_client_comes_back_where_another_server_could_not_be_reached() {
    let rig = Rig::new();
    let (_, mut exchange) = created(&rig).await;
    let refused = ConnectFailure {
        error: ConnectError::Refused,
        by_backend: true,
        distrust: false,
        busy: false,
    };
    // One that cannot be reached, and two that refuse.
    assert!(rig.gateway.connect_failed(refused, &mut exchange));
    goes_on(&rig, &mut exchange).await;
    assert_eq!(answers(&rig, FORBIDDEN, &mut exchange), Follows::Elsewhere);
    goes_on(&rig, &mut exchange).await;
    assert_eq!(answers(&rig, FORBIDDEN, &mut exchange), Follows::Later);
}

#[tokio::test]
async fn no_create_is_sent_again_once_an_id_has_come() {
    let rig = Rig::new();
    let (_, mut exchange) = created(&rig).await;
    assert_eq!(answers(&rig, OPENED, &mut exchange), Follows::Answer);
    let creates = &rig.gateway.tries.creates;
    assert!(!creates.outlives(&create(), LOST, &mut exchange));
}

#[tokio::test]
async fn a_create_outlives_a_server_that_dies_of_it() {
    let rig = Rig::new();
    let (first, mut exchange) = created(&rig).await;
    assert!(rig.gateway.tries.creates.outlives(&create(), LOST, &mut exchange));
    assert_ne!(goes_on(&rig, &mut exchange).await, first);
}

#[tokio::test]
async fn a_stale_connection_is_no_refusal() {
    let rig = Rig::new();
    let (_, mut exchange) = created(&rig).await;
    exchange.tries.reused = true;
    let stale = ExchangeFailure { reused: true, ..LOST };
    assert!(!rig.gateway.tries.creates.outlives(&create(), stale, &mut exchange));
}

#[tokio::test]
async fn what_failed_at_the_client_moves_no_create() {
    let rig = Rig::new();
    let (_, mut exchange) = created(&rig).await;
    for fault in [None, Some(Fault::BackendTimeout), Some(Fault::Superseded)] {
        let failure = ExchangeFailure { fault, ..LOST };
        let creates = &rig.gateway.tries.creates;
        assert!(!creates.outlives(&create(), failure, &mut exchange), "{fault:?}");
    }
}

#[tokio::test]
async fn other_packets_are_not_judged() {
    let rig = Rig::new();
    rig.pin(ID, UP01, 100).await;
    let head = fragment(ID, "100-199/10000");
    let mut exchange = rig.admitted(&head).await;
    rig.gateway.next_try(&head, &mut exchange).await.unwrap();
    assert_eq!(answers(&rig, FORBIDDEN, &mut exchange), Follows::Answer);
    assert!(!rig.gateway.tries.creates.outlives(&head, LOST, &mut exchange));
}
