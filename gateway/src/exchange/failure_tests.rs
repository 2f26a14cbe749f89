use super::super::rig::*;
use super::*;
use gateway_core::protocol::speaker::Speaker;

async fn failed(rig: &Rig, found: Option<Fault>, seen: Option<Fault>) -> (Option<Fault>, Exchange) {
    let mut exchange = rig.admitted(&create()).await;
    exchange.findings.fault = found;
    let fault = rig.gateway.fault_of_failure(seen, &mut exchange);
    (fault, exchange)
}

#[tokio::test]
async fn what_was_found_on_the_way_counts_before_what_a_carrier_says() {
    let rig = Rig::new();
    let (down, failed_there) = (Some(Fault::BackendDown), Some(Fault::BackendFailed));
    for (found, seen, told) in [
        (down, failed_there, down),
        (None, failed_there, failed_there),
        (down, None, down),
        (None, None, None),
    ] {
        let (fault, exchange) = failed(&rig, found, seen).await;
        assert_eq!((fault, exchange.findings.fault), (told, told));
    }
}

#[tokio::test]
async fn a_create_that_failed_leaves_its_place() {
    let rig = Rig::new();
    let (_, exchange) = failed(&rig, None, Some(Fault::BackendFailed)).await;
    assert!(exchange.admitted.place.is_none());
    assert_eq!(rig.sessions.places().taken(), 0);
}

#[tokio::test]
async fn a_client_of_its_own_connection_sees_its_end_in_place_of_an_answer() {
    let rig = Rig::new();
    let mut exchange = rig.admitted(&create()).await;
    exchange.findings.fault = Some(Fault::LoginLost);
    exchange.admitted.login.speaker = Speaker::Peer;
    assert_eq!(rig.gateway.fault_of_failure(None, &mut exchange), None);
    // A proxy has other clients on it.
    exchange.admitted.login.speaker = Speaker::Unnamed;
    assert_eq!(rig.gateway.fault_of_failure(None, &mut exchange), Some(Fault::LoginLost));
}

/// Whether a backend that answers packets of that kind with silence gets no new sessions.
async fn is_spared(head: std::sync::Arc<gateway_core::protocol::head::RequestHead>) -> bool {
    let rig = Rig::with("[health]\npassive_errors = 2");
    rig.pin(ID, UP01, 100).await;
    for _ in 0..20 {
        let mut exchange = rig.admitted(&head).await;
        exchange.admitted.backend = Some(UP01);
        rig.gateway.fault_of_failure(Some(Fault::BackendTimeout), &mut exchange);
    }
    let farm = rig.farm.load();
    !farm.view.backend(UP01).unwrap().is_eligible()
}

#[tokio::test]
async fn silence_counts_only_of_packets_that_no_application_answers() {
    assert!(is_spared(ping()).await);
    assert!(!is_spared(fragment(ID, "100-199/10000")).await);
    assert!(!is_spared(close(ID)).await);
}
