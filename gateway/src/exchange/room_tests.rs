use std::pin::pin;

use futures_util::poll;
use gateway_core::farm::BackendId;
use gateway_core::session::{Binding, Pin, Target, Timestamp};

use super::super::rig::*;
use super::*;

const DONE: Reply = (200, &[ACK]);
const FULL: &str = "[sessions]\nlimit = 2\nlimit_per_client = 0";
const HOUR: Duration = Duration::from_secs(60 * 60);

/// A session without a byte that was opened two days ago by the clock on the wall.
async fn opened(rig: &Rig, id: &str, backend: BackendId) {
    let created = Timestamp(clock::now().0 - 48 * 60 * 60 * 1000);
    let pin = Pin {
        backend,
        backend_session: None,
        binding: Binding::to(Target::of(TARGET.as_bytes()), TARGET.as_bytes()),
        created,
        subject: None,
    };
    let steady = clock::steady();
    rig.sessions.pin_opened(&mut None, key(id), pin, created, steady).await.expect("room");
    let birth = Birth { target: TARGET.as_bytes().to_vec(), id: id.to_owned() };
    rig.sessions.keep_birth(&key(id), &birth);
}

async fn place(rig: &Rig) -> Option<Place> {
    let exchange = rig.arrive(&create());
    rig.gateway.admission.room.find_place(&exchange).await.expect("no limit of its client")
}

#[tokio::test(start_paused = true)]
async fn a_session_without_a_byte_gives_way_in_a_full_table() {
    let rig = Rig::with(FULL);
    rig.say(|_, _| DONE);
    opened(&rig, "{empty}", UP01).await;
    rig.pin("{busy}", UP01, 100).await;
    pass(HOUR).await;
    assert!(place(&rig).await.is_some());
    assert_eq!((rig.next_offset("{empty}"), rig.next_offset("{busy}")), (None, Some(100)));
    assert_eq!(rig.asked(), 1, "its server is told");
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_young_does_not_give_way() {
    let rig = Rig::with(FULL);
    rig.say(|_, _| DONE);
    opened(&rig, "{1}", UP01).await;
    opened(&rig, "{2}", UP01).await;
    pass(HOUR / 2).await;
    assert!(place(&rig).await.is_none());
    assert_eq!((rig.asked(), rig.sessions.len()), (0, 2));
}

#[tokio::test(start_paused = true)]
async fn a_session_stays_where_its_server_does_not_let_it_go() {
    for reply in [(403, &[][..]), GONE_DOWN] {
        let rig = Rig::with(FULL);
        rig.say(move |_, _| reply);
        opened(&rig, "{1}", UP01).await;
        opened(&rig, "{2}", UP02).await;
        pass(HOUR).await;
        assert!(place(&rig).await.is_none(), "{reply:?}");
        assert_eq!((rig.asked(), rig.sessions.len()), (2, 2), "{reply:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_with_a_request_under_way_does_not_give_way() {
    let rig = Rig::with("[sessions]\nlimit = 1\nlimit_per_client = 0");
    rig.say(|_, _| DONE);
    opened(&rig, ID, UP01).await;
    pass(HOUR).await;
    let turn = rig
        .gateway
        .admission
        .room
        .turns
        .try_enter(&key(ID), TurnRequest::own())
        .expect("it is free");
    assert!(place(&rig).await.is_none());
    drop(turn);
    // What may give way is looked for anew, but not at once.
    assert!(place(&rig).await.is_none());
    pass(LOOK_AGAIN).await;
    assert!(place(&rig).await.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_session_of_a_server_that_is_away_does_not_give_way() {
    let rig = Rig::with("[sessions]\nlimit = 1\nlimit_per_client = 0");
    rig.say(|_, _| DONE);
    opened(&rig, ID, UP01).await;
    pass(HOUR).await;
    rig.take_down(UP01);
    assert!(place(&rig).await.is_none());
    assert_eq!(rig.asked(), 0);
}

#[tokio::test]
async fn a_place_that_is_not_used_is_free_again() {
    let rig = Rig::with("[sessions]\nlimit = 1\nlimit_per_client = 0");
    let first = place(&rig).await;
    assert!(first.is_some() && place(&rig).await.is_none());
    drop(first);
    assert!(place(&rig).await.is_some());
}

#[tokio::test]
async fn a_client_is_held_to_its_share_and_a_proxy_is_not() {
    let rig =
        Rig::with("[sessions]\nlimit_per_client = 1\n[http]\ntrusted_proxies = [\"192.0.2.0/24\"]");
    let mut exchange = rig.arrive(&create());
    let room = &rig.gateway.admission.room;
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(room.find_place(&exchange).await.expect("a proxy has many clients"));
    }
    exchange.arrival.client = Some([198, 51, 100, 1].into());
    held.push(room.find_place(&exchange).await.expect("its first"));
    let second = pin!(room.find_place(&exchange));
    let std::task::Poll::Ready(second) = poll!(second) else { panic!("nothing to wait for") };
    assert_eq!(second.err(), Some(Fault::ClientSessions));
}
