use std::sync::Arc;

use gateway_core::protocol::headers;
use gateway_core::routing::Lookup;
use gateway_core::session::Target;

use super::super::rig::*;
use super::*;

const OPENED: Reply = (200, &[ACK, ("BITS-Session-Id", ID)]);
const ACKED: Reply = (200, &[ACK, ("BITS-Session-Id", ID)]);
const TOOK_100: Reply = (200, &[ACK, ("BITS-Received-Content-Range", "200")]);

type Result = std::result::Result<Option<Learned>, NotPassed>;

/// A request that its backend answers so.
async fn answered(rig: &Rig, head: &Arc<RequestHead>, reply: Reply) -> (Result, Exchange) {
    let mut exchange = rig.admitted(head).await;
    rig.gateway.next_try(head, &mut exchange).await.expect("a try");
    let learned = learn(rig, head, reply, &mut exchange).await;
    (learned, exchange)
}

async fn learn(rig: &Rig, head: &RequestHead, reply: Reply, exchange: &mut Exchange) -> Result {
    let response = answer(reply);
    assert!(exchange.answer_came(&response).unwrap());
    rig.gateway.learn(head, &response, exchange).await
}

#[track_caller]
fn check_refused(learned: &Result, exchange: &Exchange, fault: Fault) {
    assert_eq!(learned.as_ref().err(), Some(&NotPassed::Refused));
    assert_eq!(exchange.findings.fault, Some(fault));
}

fn public_id(learned: Result) -> Option<String> {
    let learned = learned.ok().flatten().expect("it is passed on");
    learned.edits.iter().find_map(|edit| match edit {
        Edit::Set(field, value) if field.name == headers::SESSION_ID.name => {
            Some(value.to_str().unwrap().to_owned())
        }
        _ => None,
    })
}

#[tokio::test]
async fn a_session_that_was_opened_is_pinned_at_its_backend() {
    let rig = Rig::new();
    let (learned, exchange) = answered(&rig, &create(), OPENED).await;
    let Lookup::Pinned(pin) = rig.sessions.find(Some(&key(ID))) else { panic!("no pin") };
    assert_eq!(Some(pin.backend), exchange.admitted.backend);
    assert!(Target::of(TARGET.as_bytes()).is(pin.binding.target));
    assert_eq!(exchange.answered.opened.as_deref(), Some(ID));
    assert_eq!(exchange.admitted.key, Some(key(ID)));
    assert_eq!(public_id(learned), None, "the client gets the id of its backend");
    assert_eq!(rig.sessions.places().taken(), 1, "the session has the place now");
}

#[tokio::test]
async fn a_minted_id_hides_that_of_the_backend() {
    let rig = Rig::with("[sessions]\nid = \"minted\"");
    let (learned, exchange) = answered(&rig, &create(), OPENED).await;
    let public = public_id(learned).expect("an id of the gateway's own");
    assert_ne!(public, ID);
    let Lookup::Pinned(pin) = rig.sessions.find(Some(&key(&public))) else { panic!("no pin") };
    assert_eq!(pin.backend_session.as_deref(), Some(ID));
    assert!(rig.sessions.is_hidden(exchange.admitted.backend.unwrap(), &key(ID)));
    assert_eq!(rig.sessions.find(Some(&key(ID))), Lookup::Unknown);
}

#[tokio::test]
async fn an_id_that_another_backend_gave_out_is_not_given_twice() {
    let rig = Rig::new();
    rig.take_down(UP01);
    rig.pin(ID, UP01, 100).await;
    let (learned, _) = answered(&rig, &create(), OPENED).await;
    assert!(public_id(learned).is_some_and(|public| public != ID));
    assert_eq!(rig.next_offset(ID), Some(100), "the other session goes on");
    rig.check_metric("bitsgw_session_id_conflicts_total", 1);
}

#[tokio::test]
async fn an_id_that_comes_again_ends_the_older_session() {
    let rig = Rig::new();
    rig.pin(ID, UP02, 0).await;
    rig.take_down(UP01);
    rig.take_down(UP03);
    let (learned, _) = answered(&rig, &create(), OPENED).await;
    assert!(public_id(learned).is_some_and(|public| public != ID));
    assert_eq!(rig.next_offset(ID), None);
}

#[tokio::test]
async fn an_upload_that_is_running_is_not_ended_by_an_id_that_comes_again() {
    let rig = Rig::new();
    rig.pin(ID, UP02, 100).await;
    rig.take_down(UP01);
    rig.take_down(UP03);
    let (learned, exchange) = answered(&rig, &create(), OPENED).await;
    check_refused(&learned, &exchange, Fault::BackendAnswer);
    assert_eq!(rig.next_offset(ID), Some(100));
}

#[tokio::test]
async fn a_session_that_a_redirection_names_is_refused() {
    let rig = Rig::new();
    let redirected: Reply = (302, &[ACK, ("BITS-Session-Id", ID)]);
    let (learned, exchange) = answered(&rig, &create(), redirected).await;
    check_refused(&learned, &exchange, Fault::BackendAnswer);
    assert_eq!(rig.sessions.places().taken(), 0, "its place is free again");
}

#[tokio::test]
async fn progress_is_noted() {
    let rig = Rig::new();
    rig.pin(ID, UP01, 100).await;
    let (learned, exchange) = answered(&rig, &fragment(ID, "100-199/10000"), TOOK_100).await;
    assert!(learned.is_ok_and(|learned| learned.is_some()));
    assert_eq!(rig.next_offset(ID), Some(200));
    assert_eq!(exchange.findings.fault, None);
}

#[tokio::test]
async fn an_offset_that_goes_back_is_the_truth() {
    let rig = Rig::new();
    rig.pin(ID, UP01, 5000).await;
    let resync: Reply = (416, &[ACK, ("BITS-Received-Content-Range", "100")]);
    answered(&rig, &fragment(ID, "5000-5999/10000"), resync).await.0.ok().unwrap();
    assert_eq!(rig.next_offset(ID), Some(100));
}

#[tokio::test]
async fn an_offset_behind_the_end_is_not_passed_on() {
    let rig = Rig::new();
    rig.pin(ID, UP01, 100).await;
    let beyond: Reply = (200, &[ACK, ("BITS-Received-Content-Range", "10001")]);
    let (learned, exchange) = answered(&rig, &fragment(ID, "100-199/10000"), beyond).await;
    check_refused(&learned, &exchange, Fault::BackendAnswer);
    assert_eq!(rig.next_offset(ID), Some(100));
}

#[tokio::test]
async fn a_session_that_is_shown_to_be_there_is_pinned_again() {
    let rig = Rig::with("[affinity]\nhost_id_domain = \"up.test\"");
    let fields = [
        ("BITS-Packet-Type", "Fragment"),
        ("BITS-Session-Id", ID),
        ("Content-Range", "bytes 100-199/10000"),
        ("Content-Length", "100"),
    ];
    let head = RequestHead::of(
        b"BITS_POST",
        TARGET.as_bytes(),
        [("Host", "up02.up.test")]
            .iter()
            .chain(&fields)
            .map(|(name, value)| (name.as_bytes(), value.as_bytes())),
    );
    let head = Arc::new(head.unwrap());
    let (learned, exchange) = answered(&rig, &head, TOOK_100).await;
    assert!(learned.is_ok());
    assert_eq!(exchange.admitted.why, Some(Why::Alias));
    let Lookup::Pinned(pin) = rig.sessions.find(Some(&key(ID))) else { panic!("no pin") };
    assert_eq!((pin.backend, rig.next_offset(ID)), (UP02, Some(200)));
}

#[tokio::test]
async fn a_close_ends_its_session_and_tells_where_the_file_is() {
    let rig = Rig::new();
    rig.pin(ID, UP02, 10_000).await;
    answered(&rig, &close(ID), ACKED).await.0.ok().unwrap();
    assert!(matches!(rig.sessions.find(Some(&key(ID))), Lookup::Ended(_)));
    let holder = rig.gateway.admission.deliveries.holder(TARGET.as_bytes());
    assert_eq!(holder, Some(UP02));
}

#[tokio::test]
async fn a_cancel_ends_its_session() {
    let rig = Rig::new();
    rig.pin(ID, UP02, 5_000).await;
    answered(&rig, &cancel(ID), ACKED).await.0.ok().unwrap();
    assert!(matches!(rig.sessions.find(Some(&key(ID))), Lookup::Ended(_)));
    assert_eq!(rig.gateway.admission.deliveries.holder(TARGET.as_bytes()), None);
}

#[tokio::test]
async fn a_session_that_its_backend_has_lost_ends() {
    let rig = Rig::new();
    rig.pin(ID, UP01, 100).await;
    let (learned, _) = answered(&rig, &fragment(ID, "100-199/10000"), NOT_FOUND).await;
    assert!(learned.is_ok(), "its client hears that and starts over");
    assert_eq!(rig.next_offset(ID), None);
}

#[tokio::test]
async fn a_session_that_moved_leads_to_its_new_backend() {
    let rig = Rig::with("[failover]\nthen = \"reassign\"");
    rig.pin(ID, UP01, 100).await;
    rig.take_down(UP01);
    rig.lose(UP01);
    let (learned, exchange) = answered(&rig, &fragment(ID, "100-199/10000"), TOOK_100).await;
    assert!(learned.is_ok() && exchange.admitted.moved);
    let Lookup::Pinned(pin) = rig.sessions.find(Some(&key(ID))) else { panic!("no pin") };
    assert_eq!(Some(pin.backend), exchange.admitted.backend);
    assert_eq!(rig.next_offset(ID), Some(200));
}

#[tokio::test]
async fn a_session_that_nobody_has_after_a_move_ends() {
    let rig = Rig::with("[failover]\nthen = \"reassign\"");
    rig.pin(ID, UP01, 100).await;
    rig.take_down(UP01);
    rig.lose(UP01);
    let (learned, _) = answered(&rig, &fragment(ID, "100-199/10000"), NOT_FOUND).await;
    assert!(learned.is_ok());
    assert_eq!(rig.next_offset(ID), None);
}

#[tokio::test]
async fn an_answer_of_another_program_teaches_nothing() {
    let rig = Rig::new();
    rig.pin(ID, UP01, 100).await;
    for reply in [(401, &[][..]), (403, &[]), (404, &[]), (500, &[]), (503, &[ACK])] {
        let (learned, _) = answered(&rig, &fragment(ID, "100-199/10000"), reply).await;
        assert!(learned.is_ok(), "{reply:?}");
        assert_eq!(rig.next_offset(ID), Some(100), "{reply:?}");
    }
}

#[tokio::test]
async fn a_plain_answer_is_passed_on_unread() {
    let rig = Rig::new();
    let (learned, exchange) = answered(&rig, &get("/"), OPENED).await;
    assert!(learned.is_ok_and(|learned| learned.is_none()));
    assert_eq!(exchange.answered.backend_error, None);
    assert_eq!(rig.sessions.len(), 0);
}
