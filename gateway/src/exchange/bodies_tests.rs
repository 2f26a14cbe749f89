use super::super::rig::*;
use super::*;
use gateway_core::session::EndReason;

/// A Fragment of a hundred bytes at its backend.
async fn begun(rig: &Rig) -> Exchange {
    rig.pin(ID, UP01, 100).await;
    let head = fragment(ID, "100-199/10000");
    let mut exchange = rig.admitted(&head).await;
    rig.gateway.next_try(&head, &mut exchange).await.expect("a try");
    exchange
}

#[tokio::test]
async fn a_body_is_counted_and_whole_at_its_end() {
    let rig = Rig::new();
    let mut exchange = begun(&rig).await;
    rig.gateway.body_came(60, false, &mut exchange).await.unwrap();
    assert_eq!((exchange.attempt.bytes_in, exchange.attempt.body_done), (60, None));
    rig.gateway.body_came(40, true, &mut exchange).await.unwrap();
    assert!(exchange.attempt.bytes_in == 100 && exchange.attempt.body_done.is_some());
}

#[tokio::test]
async fn a_body_of_another_length_than_its_range_does_not_go_on() {
    for (bytes, end) in [(101, false), (101, true), (99, true), (0, true)] {
        let rig = Rig::new();
        let mut exchange = begun(&rig).await;
        let came = rig.gateway.body_came(bytes, end, &mut exchange).await;
        assert_eq!(came, Err(Fault::BadRequest), "{bytes} {end}");
        assert_eq!(exchange.findings.fault, Some(Fault::BadRequest));
        assert_eq!(exchange.attempt.body_done, None);
    }
}

#[tokio::test]
async fn a_body_counts_anew_with_each_try() {
    let rig = Rig::new();
    let mut exchange = begun(&rig).await;
    rig.gateway.body_came(100, true, &mut exchange).await.unwrap();
    let head = fragment(ID, "100-199/10000");
    rig.gateway.next_try(&head, &mut exchange).await.unwrap();
    assert_eq!((exchange.attempt.bytes_in, exchange.attempt.body_done), (0, None));
    rig.gateway.body_came(100, true, &mut exchange).await.unwrap();
}

#[tokio::test]
async fn a_body_is_counted_and_seen_while_it_passes() {
    let rig = Rig::new();
    rig.pin(ID, UP01, 100).await;
    let head = fragment(ID, "100-199/10000");
    let mut exchange = rig.admitted(&head).await;
    let live = || rig.sessions.live_uploads().find(&key(ID), clock::steady()).unwrap();
    assert_eq!((live().wait, live().client), (Wait::Client, Some([192, 0, 2, 7].into())));
    rig.gateway.next_try(&head, &mut exchange).await.expect("a try");
    assert_eq!(live().wait, Wait::Connection);
    rig.gateway.connected(false, &mut exchange).expect("it is wanted");
    let received = "bitsgw_received_bytes_total{listener=\"public\"}";
    let forwarded = "bitsgw_backend_upload_bytes_total{backend=\"up01\"}";
    rig.gateway.body_came(60, false, &mut exchange).await.unwrap();
    rig.check_metric(received, 60);
    assert_eq!((live().came, live().wait), (60, Wait::Client));
    // The piece before has gone when the next one comes.
    exchange.sent.bytes_forwarded = 60;
    rig.gateway.body_came(30, false, &mut exchange).await.unwrap();
    rig.check_metric(received, 90);
    rig.check_metric(forwarded, 60);
    exchange.sent.bytes_forwarded = 90;
    rig.gateway.body_came(10, true, &mut exchange).await.unwrap();
    assert_eq!((live().came, live().wait), (100, Wait::Answer));
    exchange.sent.bytes_forwarded = 100;
    exchange.sent.status = Some(503);
    rig.gateway.finish(&head, &mut exchange).await;
    rig.check_metric(received, 100);
    rig.check_metric(forwarded, 100);
    assert_eq!((live().came, live().under_way, live().wait), (0, None, Wait::Nothing));
    assert!(live().failing_since.is_some());
    rig.sessions.unpin(&key(ID), EndReason::Admin, clock::steady()).await;
    assert!(rig.sessions.live_uploads().is_empty(), "it leaves with its session");
}

/// A body in chunks may be longer than a range that ends where 64 bits end.
#[tokio::test]
async fn of_a_body_no_more_is_shown_than_its_range_holds() {
    let rig = Rig::new();
    rig.pin(ID, UP01, 0).await;
    let head = fragment(ID, "18446744073709551613-18446744073709551613/18446744073709551615");
    let mut exchange = rig.admitted(&head).await;
    rig.gateway.next_try(&head, &mut exchange).await.expect("a try");
    let came = rig.gateway.body_came(100, false, &mut exchange).await;
    assert_eq!(came, Err(Fault::BadRequest));
    let row = rig.sessions.show(&key(ID)).unwrap();
    assert_eq!(row.live.as_ref().unwrap().came, 1);
    assert_eq!(row.received(), u64::MAX - 1);
}

#[tokio::test]
async fn what_goes_to_a_server_once_more_is_counted_once() {
    let rig = Rig::new();
    let mut exchange = begun(&rig).await;
    let head = fragment(ID, "100-199/10000");
    for pieces in [&[60][..], &[40, 60]] {
        rig.gateway.next_try(&head, &mut exchange).await.unwrap();
        for (at, &bytes) in pieces.iter().enumerate() {
            rig.gateway.body_came(bytes, at == 1, &mut exchange).await.unwrap();
        }
        rig.check_metric("bitsgw_received_bytes_total{listener=\"public\"}", 60);
    }
    rig.gateway.finish(&head, &mut exchange).await;
    rig.check_metric("bitsgw_received_bytes_total{listener=\"public\"}", 100);
}

#[tokio::test]
async fn a_packet_that_was_called_off_does_not_become_whole() {
    let rig = Rig::new();
    let mut exchange = begun(&rig).await;
    let newer = fragment(ID, "100-199/10000");
    let mut other = rig.arrive(&newer);
    let mut waits = std::pin::pin!(rig.gateway.admit(&newer, &mut other));
    assert!(futures_util::poll!(&mut waits).is_pending());
    assert!(exchange.held().superseded);
    let came = rig.gateway.body_came(100, true, &mut exchange).await;
    assert_eq!(came, Err(Fault::Superseded));
    drop(exchange);
    assert!(waits.await.is_ok(), "the newer one has the turn");
}
