use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use futures_util::poll;
use gateway_core::protocol::cdn_loop::entry;
use gateway_core::routing::Why;
use gateway_core::session::EndReason;

use super::super::rig::*;
use super::*;
use crate::exchange::turns::TurnRequest;

async fn refused(rig: &Rig, head: &std::sync::Arc<RequestHead>) -> (Fault, Exchange) {
    let mut exchange = rig.arrive(head);
    match rig.gateway.admit(head, &mut exchange).await {
        Err(fault) => (fault, exchange),
        Ok(_) => panic!("it is admitted"),
    }
}

#[track_caller]
fn check_goes(exchange: &Exchange, backend: BackendId, why: Why) {
    assert_eq!((exchange.admitted.backend, exchange.admitted.why), (Some(backend), Some(why)));
}

#[tokio::test]
async fn a_create_is_placed_and_has_a_place_in_the_table() {
    let rig = Rig::new();
    let exchange = rig.admitted(&create()).await;
    assert_eq!(exchange.admitted.why, Some(Why::Placement));
    assert!(exchange.admitted.place.is_some() && exchange.admitted.opening.is_some());
    assert_eq!(rig.sessions.places().taken(), 1);
    drop(exchange);
    assert_eq!(rig.sessions.places().taken(), 0);
}

#[tokio::test]
async fn two_creates_at_once_go_to_two_backends() {
    let rig = Rig::new();
    let (first, second) = (rig.admitted(&create()).await, rig.admitted(&create()).await);
    assert_ne!(first.admitted.backend, second.admitted.backend);
}

#[tokio::test]
async fn a_create_is_refused_where_the_table_is_full() {
    let rig = Rig::with("[sessions]\nlimit = 1\nlimit_per_client = 0");
    let first = rig.admitted(&create()).await;
    let (fault, _) = refused(&rig, &create()).await;
    assert_eq!(fault, Fault::TableFull);
    drop(first);
    rig.admitted(&create()).await;
}

#[tokio::test]
async fn a_client_has_no_more_sessions_than_it_may() {
    let rig = Rig::with("[sessions]\nlimit_per_client = 1");
    let _first = rig.admitted(&create()).await;
    assert_eq!(refused(&rig, &create()).await.0, Fault::ClientSessions);
}

#[tokio::test]
async fn a_fragment_follows_its_pin_and_has_the_turn() {
    let rig = Rig::new();
    rig.pin(ID, UP02, 100).await;
    let exchange = rig.admitted(&fragment(ID, "100-199/10000")).await;
    check_goes(&exchange, UP02, Why::Pin);
    assert_eq!(exchange.findings.pin_found, Some(true));
    assert!(exchange.admitted.turn.is_some() && exchange.admitted.repeatable);
    assert_eq!(exchange.admitted.total, 10_000);
    assert_eq!(rig.asked(), 0);
}

#[tokio::test]
async fn what_may_be_sent_twice_is_short_and_not_the_last() {
    let rig = Rig::new();
    rig.pin(ID, UP02, 0).await;
    for (range, repeatable) in
        [("0-65535/1000000", true), ("0-65536/1000000", false), ("999000-999999/1000000", false)]
    {
        let exchange = rig.admitted(&fragment(ID, range)).await;
        assert_eq!(exchange.admitted.repeatable, repeatable, "{range}");
    }
    assert!(rig.admitted(&ping()).await.admitted.repeatable);
    assert!(!rig.admitted(&create()).await.admitted.repeatable);
}

#[tokio::test]
async fn a_session_that_nobody_has_is_unknown() {
    let rig = Rig::new();
    let (fault, exchange) = refused(&rig, &fragment(ID, "100-199/10000")).await;
    assert_eq!(fault, Fault::UnknownSession);
    let findings = &exchange.findings;
    let found = (findings.pin_found, findings.alias_found, findings.owner_found);
    assert_eq!(found, (Some(false), Some(false), Some(false)));
    assert_eq!(rig.asked(), 3);
}

#[tokio::test]
async fn a_session_that_a_backend_claims_goes_on_there() {
    let rig = Rig::new();
    rig.say(|backend, _| match backend {
        UP03 => (416, &[ACK, ("BITS-Received-Content-Range", "100")]),
        _ => NOT_FOUND,
    });
    let exchange = rig.admitted(&fragment(ID, "100-199/10000")).await;
    check_goes(&exchange, UP03, Why::Pin);
    assert_eq!(exchange.findings.owner_found, Some(true));
    assert_eq!(rig.next_offset(ID), Some(100));
}

#[tokio::test]
async fn nobody_is_asked_where_that_is_switched_off() {
    let rig = Rig::with("[sessions]\nunknown = \"restart\"");
    let (fault, exchange) = refused(&rig, &fragment(ID, "100-199/10000")).await;
    assert_eq!((fault, exchange.findings.owner_found), (Fault::UnknownSession, None));
    assert_eq!(rig.asked(), 0);
}

#[tokio::test]
async fn an_end_that_is_remembered_is_acknowledged() {
    let rig = Rig::new();
    rig.pin(ID, UP01, 10_000).await;
    rig.sessions.unpin(&key(ID), EndReason::Closed, clock::steady()).await;
    assert_eq!(refused(&rig, &close(ID)).await.0, Fault::AlreadyEnded);
    assert_eq!(rig.asked(), 0);
}

#[tokio::test]
async fn a_request_that_was_here_before_is_refused() {
    let rig = Rig::new();
    let loop_entry = entry(instance::id(), UP02.0);
    for passed in [loop_entry.clone(), format!("other.example, {loop_entry}")] {
        let again = head("GET", "/", &[("CDN-Loop", &passed)]);
        assert_eq!(refused(&rig, &again).await.0, Fault::Loop, "{passed}");
    }
    rig.admitted(&head("GET", "/", &[("CDN-Loop", "other.example")])).await;
}

#[tokio::test]
async fn a_host_that_is_not_ours_is_refused() {
    let rig = Rig::with("[http]\nhosts = [\"other.test\"]");
    assert_eq!(refused(&rig, &create()).await.0, Fault::UnknownHost);
    assert_eq!(refused(&rig, &get("/")).await.0, Fault::UnknownHost);
}

#[tokio::test]
async fn a_session_goes_on_under_a_host_that_a_removed_server_had() {
    let rig = Rig::with("[http]\nhosts = [\"other.test\"]\n[failover]\nhold = \"0s\"");
    // No backend has that id, so nothing is known of the name that it had.
    rig.pin(ID, BackendId(7), 100).await;
    let (fault, _) = refused(&rig, &fragment(ID, "100-199/10000")).await;
    assert_ne!(fault, Fault::UnknownHost);
}

#[tokio::test]
async fn a_method_that_is_not_served_is_refused() {
    let rig = Rig::with("[http]\nmethods = [\"GET\", \"HEAD\"]");
    assert_eq!(refused(&rig, &head("PUT", "/", &[])).await.0, Fault::MethodNotServed);
    rig.admitted(&get("/")).await;
    // Packets are what the gateway is for.
    rig.admitted(&create()).await;
}

#[tokio::test]
async fn a_packet_that_is_hidden_in_another_request_is_refused() {
    let rig = Rig::new();
    let hidden = [("X-HTTP-Method-Override", "BITS_POST"), ("Content-Length", "0")];
    assert_eq!(refused(&rig, &head("POST", "/", &hidden)).await.0, Fault::BadRequest);
    let rig = Rig::with("[http]\nmethod_override = true");
    let packet = [("X-HTTP-Method-Override", "BITS_POST"), ("BITS-Packet-Type", "Ping")];
    assert!(rig.admitted(&head("POST", "/", &packet)).await.arrival.is_packet);
}

#[tokio::test]
async fn a_packet_without_its_parts_is_refused() {
    let rig = Rig::new();
    let kind = ("BITS-Packet-Type", "Fragment");
    let (fault, exchange) = refused(&rig, &head("BITS_POST", TARGET, &[kind])).await;
    assert_eq!(fault, Fault::BadRequest);
    assert!(exchange.arrival.is_packet && exchange.admitted.kind().is_none());
    let fields = [kind, ("BITS-Session-Id", ID), ("Content-Range", "bytes 0-9/10")];
    assert_eq!(refused(&rig, &head("BITS_POST", TARGET, &fields)).await.0, Fault::LengthRequired);
}

#[tokio::test]
async fn what_is_larger_than_the_limits_is_refused() {
    let rig = Rig::with("[limits]\nfragment = 1000\nupload = 20000");
    rig.pin(ID, UP01, 100).await;
    let long = fragment(ID, "100-1100/10000");
    assert_eq!(refused(&rig, &long).await.0, Fault::FragmentTooLarge);
    let large = fragment("{other}", "0-999/20001");
    assert_eq!(refused(&rig, &large).await.0, Fault::UploadTooLarge);
    rig.admitted(&fragment(ID, "100-1099/10000")).await;
}

#[tokio::test]
async fn a_target_that_is_not_the_sessions_does_not_get_its_turn() {
    let rig = Rig::with("[sessions]\nunknown = \"restart\"");
    rig.pin(ID, UP01, 100).await;
    let fields = [("BITS-Packet-Type", "Cancel-Session"), ("BITS-Session-Id", ID)];
    let (_, exchange) = refused(&rig, &head("BITS_POST", "/in/other", &fields)).await;
    assert!(exchange.admitted.turn.is_none());
    assert_eq!(rig.next_offset(ID), Some(100));
    let turns = &rig.gateway.admission.turns.turns;
    assert!(turns.try_enter(&key(ID), TurnRequest::own()).is_some(), "it was handed back");
}

#[tokio::test]
async fn a_packet_that_had_to_wait_is_looked_up_anew() {
    let rig = Rig::new();
    rig.pin(ID, UP01, 10_000).await;
    let first = rig.admitted(&close(ID)).await;
    let head = cancel(ID);
    let mut second = rig.arrive(&head);
    let mut waits = pin!(rig.gateway.admit(&head, &mut second));
    assert!(poll!(&mut waits).is_pending());
    rig.sessions.unpin(&key(ID), EndReason::Closed, clock::steady()).await;
    drop(first);
    assert_eq!(waits.await.err(), Some(Fault::AlreadyEnded));
}

#[tokio::test(start_paused = true)]
async fn a_packet_waits_for_its_backend() {
    let rig = Rig::new();
    rig.pin(ID, UP01, 100).await;
    rig.take_down(UP01);
    let head = fragment(ID, "100-199/10000");
    let mut exchange = rig.arrive(&head);
    {
        let mut admitted = pin!(rig.gateway.admit(&head, &mut exchange));
        assert!(poll!(&mut admitted).is_pending());
        pass(Duration::from_secs(3)).await;
        assert!(poll!(&mut admitted).is_pending());
        rig.health.connected(UP01);
        assert!(matches!(admitted.await, Ok(Course::Goes)));
    }
    check_goes(&exchange, UP01, Why::Pin);
}

#[tokio::test(start_paused = true)]
async fn a_packet_does_not_wait_for_ever() {
    let rig = Rig::with("[failover]\nhold = \"20s\"");
    rig.pin(ID, UP01, 100).await;
    rig.take_down(UP01);
    let began = clock::steady();
    let (fault, exchange) = refused(&rig, &fragment(ID, "100-199/10000")).await;
    assert_eq!(fault, Fault::BackendDown);
    assert!(clock::steady() - began >= Duration::from_secs(20));
    assert_eq!(exchange.findings.pin_found, Some(true));
    assert_eq!(rig.next_offset(ID), Some(100), "its session stays");
}

#[tokio::test(start_paused = true)]
async fn a_session_starts_over_once_its_backend_is_given_up() {
    let rig = Rig::new();
    rig.pin(ID, UP01, 100).await;
    rig.take_down(UP01);
    let head = fragment(ID, "100-199/10000");
    let mut exchange = rig.arrive(&head);
    let mut admitted = pin!(rig.gateway.admit(&head, &mut exchange));
    assert_eq!(poll!(&mut admitted).map(|_| ()), Poll::Pending);
    rig.lose(UP01);
    assert_eq!(admitted.await.err(), Some(Fault::BackendGivenUp));
    assert_eq!(rig.next_offset(ID), None);
}

#[tokio::test(start_paused = true)]
async fn a_session_moves_where_servers_share_one_storage() {
    let rig = Rig::with("[failover]\nthen = \"reassign\"");
    rig.pin(ID, UP01, 100).await;
    rig.take_down(UP01);
    rig.lose(UP01);
    let exchange = rig.admitted(&fragment(ID, "100-199/10000")).await;
    assert!(exchange.admitted.moved && exchange.admitted.backend != Some(UP01));
    assert_eq!(rig.next_offset(ID), Some(100), "the pin goes with the Ack of the new backend");
}

#[tokio::test]
async fn plain_requests_go_round() {
    let rig = Rig::new();
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.extend(rig.admitted(&get("/")).await.admitted.backend);
    }
    seen.sort();
    assert_eq!(seen, [UP01, UP02, UP03]);
}

#[tokio::test]
async fn a_delivered_file_is_fetched_where_it_is() {
    let rig = Rig::new();
    rig.gateway.admission.deliveries.note(b"/in/a.cab", UP03);
    for _ in 0..3 {
        let exchange = rig.admitted(&get("/in/a.cab")).await;
        check_goes(&exchange, UP03, Why::Delivered);
    }
    let mut others = Vec::new();
    for _ in 0..3 {
        others.extend(rig.admitted(&head("PUT", "/in/a.cab", &[])).await.admitted.backend);
    }
    assert!(others.contains(&UP01), "only a download asks for the file");
}
