use super::super::rig::*;
use super::*;

const OLD: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

/// What becomes of a Close-Session that up01 does not understand.
async fn closed(rig: &Rig) -> Result<(), Fault> {
    let head = close(ID);
    let mut exchange = rig.arrive(&head);
    exchange.admitted.key = Some(key(ID));
    exchange.admitted.backend = Some(UP01);
    rig.gateway.learning.lost_closes.close_not_found(&head, &exchange).await
}

#[tokio::test]
async fn a_file_that_is_there_was_delivered() {
    let rig = Rig::new();
    rig.pin(ID, UP01, 10_000).await;
    // The server's clock and the file's date are so far ahead that the session is older.
    let later = "Fri, 01 Jan 2100 00:00:00 GMT";
    let fields: &'static [_] = &[
        ("Content-Length", "10000"),
        ("Date", "Fri, 01 Jan 2100 00:00:00 GMT"),
        ("Last-Modified", "Fri, 01 Jan 2100 00:01:00 GMT"),
    ];
    assert_eq!(fields[1].1, later);
    rig.say(move |_, task| {
        assert_eq!(task, Task::Look);
        (200, fields)
    });
    assert_eq!(closed(&rig).await, Err(Fault::AlreadyEnded));
    assert!(matches!(rig.sessions.find(Some(&key(ID))), Lookup::Ended(_)));
    assert_eq!(rig.gateway.admission.deliveries.holder(TARGET.as_bytes()), Some(UP01));
    rig.check_metric(r#"bitsgw_lost_closes_total{result="delivered"}"#, 1);
}

#[tokio::test]
async fn a_file_that_is_not_there_is_uploaded_again() {
    for reply in [
        (404, &[][..]),
        (410, &[]),
        (200, &[("Content-Length", "9999"), ("Date", OLD), ("Last-Modified", OLD)]),
    ] {
        let rig = Rig::new();
        rig.pin(ID, UP01, 10_000).await;
        rig.say(move |_, _| reply);
        assert_eq!(closed(&rig).await, Ok(()), "{reply:?}");
        assert_eq!(rig.next_offset(ID), None);
        rig.check_metric(r#"bitsgw_lost_closes_total{result="not_delivered"}"#, 1);
    }
}

#[tokio::test]
async fn a_file_that_is_older_than_its_session_is_another_one() {
    let rig = Rig::new();
    rig.pin(ID, UP01, 10_000).await;
    let now =
        httpdate::fmt_http_date(std::time::UNIX_EPOCH + Duration::from_millis(clock::now().0));
    let date: &'static str = Box::leak(now.into_boxed_str());
    let fields: &'static [_] =
        Box::leak(Box::new([("Content-Length", "10000"), ("Date", date), ("Last-Modified", OLD)]));
    rig.say(move |_, _| (200, fields));
    assert_eq!(closed(&rig).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_client_waits_while_that_is_unclear_and_not_for_ever() {
    let rig = Rig::with("[sessions]\nlost_close_after = \"60s\"");
    rig.pin(ID, UP01, 10_000).await;
    rig.say(|_, _| (401, &[]));
    assert_eq!(closed(&rig).await, Err(Fault::CloseUnverified));
    assert_eq!(rig.next_offset(ID), Some(10_000));
    pass(Duration::from_secs(59)).await;
    assert_eq!(closed(&rig).await, Err(Fault::CloseUnverified));
    pass(Duration::from_secs(2)).await;
    assert_eq!(closed(&rig).await, Ok(()));
    assert_eq!(rig.next_offset(ID), None);
    rig.check_metric(r#"bitsgw_lost_closes_total{result="unverified"}"#, 1);
}

#[tokio::test]
async fn a_server_that_does_not_answer_leaves_it_unclear() {
    let rig = Rig::new();
    rig.pin(ID, UP01, 10_000).await;
    rig.say(|_, _| GONE_DOWN);
    assert_eq!(closed(&rig).await, Err(Fault::CloseUnverified));
}

#[tokio::test]
async fn nothing_is_asked_where_bytes_are_missing() {
    let rig = Rig::new();
    rig.pin(ID, UP01, 5_000).await;
    assert_eq!(closed(&rig).await, Ok(()));
    assert_eq!(rig.asked(), 0);
    rig.check_metric(r#"bitsgw_lost_closes_total{result="incomplete"}"#, 1);
}

#[tokio::test]
async fn an_operator_may_choose_without_a_look() {
    for (policy, expected) in [("ack", Err(Fault::AlreadyEnded)), ("restart", Ok(()))] {
        let rig = Rig::with(&format!("[sessions]\nlost_close = \"{policy}\""));
        rig.pin(ID, UP01, 10_000).await;
        assert_eq!(closed(&rig).await, expected, "{policy}");
        assert_eq!((rig.asked(), rig.next_offset(ID)), (0, None), "{policy}");
    }
}
