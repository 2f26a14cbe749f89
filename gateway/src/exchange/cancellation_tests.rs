use std::time::Duration;

use gateway_core::routing::Lookup;

use super::super::rig::*;
use crate::farm::backend_client::Task;

const DONE: Reply = (200, &[ACK]);
const REFUSED: Reply = (403, &[]);

#[track_caller]
fn check_orphans(rig: &Rig, result: &str, count: u64) {
    rig.check_metric(&format!(r#"bitsgw_orphan_sessions_total{{result="{result}"}}"#), count);
}

/// A Create that up01 has answered with `id`, and whose client hears of something else.
async fn orphaned(rig: &Rig, id: &str) {
    let head = create();
    let mut exchange = rig.admitted(&head).await;
    exchange.admitted.backend = Some(UP01);
    let place = exchange.admitted.place.take();
    rig.gateway.cancellation.orphan(&head, &exchange, id, place);
}

/// Until nothing happens any more at this moment.
async fn settle() {
    pass(Duration::from_millis(1)).await;
}

#[tokio::test(start_paused = true)]
async fn an_orphan_is_cancelled_and_gives_its_place_back() {
    let mut rig = Rig::new();
    rig.say(|backend, task| {
        assert_eq!((backend, task), (UP01, Task::Cancel));
        DONE
    });
    orphaned(&rig, ID).await;
    assert_eq!(rig.sessions.places().taken(), 1);
    let _running = rig.cancel_orphans();
    settle().await;
    assert_eq!((rig.asked(), rig.sessions.places().taken()), (1, 0));
    check_orphans(&rig, "cancelled", 1);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_not_there_any_more_counts_as_cancelled() {
    let mut rig = Rig::new();
    let _running = rig.cancel_orphans();
    orphaned(&rig, ID).await;
    settle().await;
    check_orphans(&rig, "cancelled", 1);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_answer_is_asked_again() {
    let mut rig = Rig::new();
    rig.say(|_, _| GONE_DOWN);
    let _running = rig.cancel_orphans();
    orphaned(&rig, ID).await;
    pass(Duration::from_secs(10)).await;
    assert!((10..=12).contains(&rig.asked()));
    rig.say(|_, _| DONE);
    pass(Duration::from_secs(2)).await;
    check_orphans(&rig, "cancelled", 1);
    assert_eq!(rig.sessions.places().taken(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_orphan_that_is_not_cancelled_keeps_its_place_for_a_minute() {
    for reply in [GONE_DOWN, REFUSED] {
        let mut rig = Rig::new();
        rig.say(move |_, _| reply);
        let _running = rig.cancel_orphans();
        orphaned(&rig, ID).await;
        pass(Duration::from_secs(59)).await;
        assert_eq!(rig.sessions.places().taken(), 1, "{reply:?}");
        pass(Duration::from_secs(2)).await;
        assert_eq!(rig.sessions.places().taken(), 0, "{reply:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_waited_for_where_the_server_is_down() {
    let mut rig = Rig::new();
    rig.say(|_, _| GONE_DOWN);
    let _running = rig.cancel_orphans();
    orphaned(&rig, ID).await;
    rig.take_down(UP01);
    pass(Duration::from_secs(3)).await;
    assert_eq!(rig.sessions.places().taken(), 0);
    check_orphans(&rig, "failed", 1);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_somebody_uses_is_no_orphan() {
    let mut rig = Rig::new();
    let _running = rig.cancel_orphans();
    rig.pin(ID, UP01, 100).await;
    orphaned(&rig, ID).await;
    settle().await;
    assert_eq!((rig.asked(), rig.next_offset(ID)), (0, Some(100)));
}

#[tokio::test(start_paused = true)]
async fn an_id_that_came_again_while_it_waited_is_left_alone() {
    let mut rig = Rig::new();
    rig.say(|_, _| GONE_DOWN);
    let _running = rig.cancel_orphans();
    orphaned(&rig, ID).await;
    settle().await;
    rig.pin(ID, UP01, 0).await;
    rig.asked();
    pass(Duration::from_secs(5)).await;
    assert_eq!((rig.asked(), rig.next_offset(ID)), (0, Some(0)));
}

#[tokio::test(start_paused = true)]
async fn what_has_no_legal_id_cannot_be_cancelled() {
    let mut rig = Rig::new();
    let _running = rig.cancel_orphans();
    orphaned(&rig, "").await;
    settle().await;
    assert_eq!(rig.asked(), 0);
    check_orphans(&rig, "failed", 1);
}

/// A Create whose session is open, and whose client was sent that status.
async fn over(rig: &Rig, status: Option<u16>) {
    let head = create();
    let mut exchange = rig.admitted(&head).await;
    rig.gateway.next_try(&head, &mut exchange).await.expect("a try");
    let opened = answer((200, &[ACK, ("BITS-Session-Id", ID)]));
    rig.gateway.learn(&head, &opened, &mut exchange).await.expect("it is passed on");
    exchange.sent.status = status;
    rig.gateway.finish(&head, &mut exchange).await;
}

#[tokio::test(start_paused = true)]
async fn a_session_whose_client_got_another_answer_is_cancelled() {
    let mut rig = Rig::new();
    let _running = rig.cancel_orphans();
    over(&rig, Some(502)).await;
    settle().await;
    assert_eq!(rig.next_offset(ID), None);
    check_orphans(&rig, "cancelled", 1);
    assert_eq!(rig.sessions.places().taken(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_session_whose_client_may_know_of_it_stays() {
    let mut rig = Rig::new();
    let _running = rig.cancel_orphans();
    over(&rig, Some(200)).await;
    settle().await;
    assert_eq!((rig.asked(), rig.next_offset(ID)), (0, Some(0)));
}

/// The first Fragment of a file that is larger than the limit.
async fn refused(rig: &Rig, range: &str) {
    let head = fragment(ID, range);
    let mut exchange = rig.arrive(&head);
    let admitted = rig.gateway.admit(&head, &mut exchange).await;
    assert!(matches!(admitted, Err(gateway_core::fault::Fault::UploadTooLarge)));
}

const LIMIT: &str = "[limits]\nupload = 20000";

/// A session that was opened here a moment ago, and has no byte.
async fn opened(rig: &Rig) {
    over(rig, Some(200)).await;
    assert!(rig.sessions.is_untouched(&key(ID)));
    rig.asked();
}

#[tokio::test]
async fn a_session_without_a_byte_ends_with_its_refusal() {
    let rig = Rig::with(LIMIT);
    rig.say(|_, task| {
        assert_eq!(task, Task::Cancel);
        DONE
    });
    opened(&rig).await;
    refused(&rig, "0-999/20001").await;
    assert_eq!(rig.asked(), 1);
    assert!(matches!(rig.sessions.find(Some(&key(ID))), Lookup::Ended(_)));
}

#[tokio::test]
async fn a_session_stays_where_its_server_does_not_cancel_it() {
    for reply in [REFUSED, GONE_DOWN] {
        let rig = Rig::with(LIMIT);
        rig.say(move |_, _| reply);
        opened(&rig).await;
        refused(&rig, "0-999/20001").await;
        assert_eq!(rig.next_offset(ID), Some(0), "{reply:?}");
    }
}

#[tokio::test]
async fn a_limit_that_was_lowered_costs_nothing_that_is_there() {
    let rig = Rig::with(LIMIT);
    rig.say(|_, _| DONE);
    rig.pin(ID, UP01, 100).await;
    refused(&rig, "100-199/20001").await;
    refused(&rig, "0-199/20001").await;
    assert_eq!((rig.asked(), rig.next_offset(ID)), (0, Some(100)));
}

#[tokio::test]
async fn a_session_whose_server_is_away_is_left_to_its_client() {
    let rig = Rig::with(LIMIT);
    rig.say(|_, _| DONE);
    opened(&rig).await;
    [UP01, UP02, UP03].into_iter().for_each(|id| rig.take_down(id));
    refused(&rig, "0-999/20001").await;
    assert_eq!((rig.asked(), rig.next_offset(ID)), (0, Some(0)));
}
