use std::pin::pin;

use futures_util::poll;
use gateway_core::protocol::{ChunkedMode, read_request};

use super::super::rig::*;
use super::*;
use crate::exchange::Course;

const ACKED: Reply = (200, &[ACK]);
const LOGIN: Reply = (401, &[]);
const LAST: &str = "9900-9999/10000";
const TOOK: Reply = (200, &[ACK, ("BITS-Received-Content-Range", "10000"), ("Server", "up")]);

/// What the same packet hears that is sent once more, when the first is answered so.
async fn repeated(head: Arc<RequestHead>, reply: Reply) -> (Result<Course, Fault>, Rig) {
    let rig = Rig::new();
    rig.pin(ID, UP01, 9_900).await;
    let mut first = rig.admitted(&head).await;
    rig.gateway.next_try(&head, &mut first).await.unwrap();
    if first.arrival.has_body {
        rig.gateway.body_came(100, true, &mut first).await.unwrap();
    }
    let mut second = rig.arrive(&head);
    let heard = {
        let mut waits = pin!(rig.gateway.admit(&head, &mut second));
        assert!(poll!(&mut waits).is_pending(), "it waits for the first");
        let response = answer(reply);
        let learned = rig.gateway.learn(&head, &response, &mut first).await.unwrap().unwrap();
        rig.gateway.share(learned.shared, &response, &learned.edits, &first);
        rig.gateway.finish(&head, &mut first).await;
        waits.await
    };
    (heard, rig)
}

#[tokio::test]
async fn a_close_that_comes_again_hears_that_the_session_has_ended() {
    for head in [close(ID), cancel(ID)] {
        let (heard, rig) = repeated(head, ACKED).await;
        assert_eq!(heard.err(), Some(Fault::AlreadyEnded));
        assert_eq!(rig.next_offset(ID), None);
    }
}

#[tokio::test]
async fn a_final_fragment_that_comes_again_gets_the_answer_to_the_first() {
    let (heard, _) = repeated(fragment(ID, LAST), TOOK).await;
    let Ok(Course::Joined(answer)) = heard else { panic!("it has not joined") };
    assert_eq!(answer.status, 200);
    let names: Vec<_> = answer.fields.iter().map(|(name, _)| name.as_str()).collect();
    assert!(names.contains(&"bits-received-content-range"));
    assert!(names.iter().all(|name| name.starts_with("bits-")), "{names:?}");
}

#[tokio::test]
async fn what_is_meant_for_one_connection_is_not_shared() {
    for head in [close(ID), fragment(ID, LAST)] {
        let (heard, rig) = repeated(head, LOGIN).await;
        assert!(matches!(heard, Ok(Course::Goes)), "it goes on by itself");
        assert_eq!(rig.next_offset(ID), Some(9_900));
    }
}

#[tokio::test]
async fn packets_of_two_logins_are_not_one() {
    let rig = Rig::new();
    rig.pin(ID, UP01, 9_900).await;
    let with = |login: &str| {
        let fields = [
            ("BITS-Packet-Type", "Close-Session"),
            ("BITS-Session-Id", ID),
            ("Authorization", login),
        ];
        head("BITS_POST", TARGET, &fields)
    };
    let (mine, other) = (with("Basic eDp5"), with("Basic eDp6"));
    let exchange = rig.arrive(&mine);
    let of = |head: &RequestHead| {
        let packet = read_request(head, ChunkedMode::Refuse).unwrap();
        identity(head, &packet, &exchange)
    };
    assert_eq!(of(&mine), of(&mine));
    assert_ne!(of(&mine), of(&other));
    assert_eq!(of(&fragment(ID, "100-199/10000")), None, "it may reach its server twice");
}

#[tokio::test(start_paused = true)]
async fn a_packet_is_overtaken_by_a_newer_one_that_waits() {
    let rig = Rig::new();
    rig.pin(ID, UP01, 100).await;
    let head = close(ID);
    let _first = rig.admitted(&head).await;
    let (newer, newest) = (cancel(ID), fragment(ID, "100-199/10000"));
    let (mut second, mut third) = (rig.arrive(&newer), rig.arrive(&newest));
    let mut waits = pin!(rig.gateway.admit(&newer, &mut second));
    assert!(poll!(&mut waits).is_pending());
    let mut newest_waits = pin!(rig.gateway.admit(&newest, &mut third));
    assert!(poll!(&mut newest_waits).is_pending());
    assert_eq!(waits.await.err(), Some(Fault::Superseded));
}
