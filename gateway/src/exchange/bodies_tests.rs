use super::super::rig::*;
use super::*;

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
