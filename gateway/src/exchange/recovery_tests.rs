use super::super::rig::*;
use super::*;
use gateway_core::protocol::{ChunkedMode, read_request};

const AT_100: Reply = (416, &[ACK, ("BITS-Received-Content-Range", "100")]);
const AT_0: Reply = (416, &[ACK, ("BITS-Received-Content-Range", "0")]);
const TOOK: Reply = (200, &[ACK, ("BITS-Received-Content-Range", "10000")]);
const LOGIN: Reply = (401, &[]);

const LATER: &str = "100-199/10000";
const FIRST: &str = "0-99/10000";

/// What a packet hears that asks for a session which the table does not know.
async fn found(rig: &Rig, range: &str) -> Result<(Lookup, BackendId), Fault> {
    let head = fragment(ID, range);
    let mut exchange = rig.arrive(&head);
    let packet = read_request(&*head, ChunkedMode::Refuse).expect("a packet");
    exchange.arrival.is_packet = true;
    exchange.arrival.target = Target::of(TARGET.as_bytes());
    exchange.admitted.key = Some(key(ID));
    rig.gateway.admission.recovery.find_lost(&head, &packet, &mut exchange).await
}

fn only(owner: BackendId, reply: Reply, others: Reply) -> impl Fn(BackendId, Task) -> Reply {
    move |backend, _| if backend == owner { reply } else { others }
}

#[tokio::test]
async fn the_one_that_claims_the_session_has_its_pin_again() {
    let rig = Rig::new();
    rig.say(only(UP02, AT_100, NOT_FOUND));
    let (lookup, owner) = found(&rig, LATER).await.expect("an owner");
    assert_eq!(owner, UP02);
    assert!(matches!(lookup, Lookup::Pinned(pin) if pin.backend == UP02));
    assert_eq!((rig.next_offset(ID), rig.asked()), (Some(100), 3));
}

#[tokio::test(start_paused = true)]
async fn what_nobody_has_is_not_asked_for_again_at_once() {
    let rig = Rig::new();
    assert_eq!(found(&rig, LATER).await, Err(Fault::UnknownSession));
    assert_eq!(found(&rig, LATER).await, Err(Fault::UnknownSession));
    assert_eq!(rig.asked(), 3);
    pass(Duration::from_secs(2)).await;
    assert_eq!(found(&rig, LATER).await, Err(Fault::UnknownSession));
    assert_eq!(rig.asked(), 3);
}

#[tokio::test]
async fn a_client_starts_over_only_where_every_backend_is_clear() {
    for unclear in [LOGIN, GONE_DOWN, (502, &[]), (200, &[])] {
        let rig = Rig::new();
        rig.say(only(UP03, unclear, NOT_FOUND));
        assert_eq!(found(&rig, LATER).await, Err(Fault::SessionNotHere), "{unclear:?}");
        assert_eq!(rig.next_offset(ID), None);
    }
}

#[tokio::test(start_paused = true)]
async fn a_backend_is_not_believed_to_be_unclear_for_ever() {
    let rig = Rig::with("[sessions]\nask_patience = \"60s\"");
    rig.say(only(UP03, LOGIN, NOT_FOUND));
    for _ in 0..30 {
        assert_eq!(found(&rig, LATER).await, Err(Fault::SessionNotHere));
        pass(Duration::from_secs(2)).await;
    }
    assert_eq!(found(&rig, LATER).await, Err(Fault::UnknownSession));
}

#[tokio::test]
async fn a_file_that_took_the_byte_is_never_completed() {
    let rig = Rig::new();
    rig.say(only(UP01, TOOK, NOT_FOUND));
    assert_eq!(found(&rig, LATER).await, Err(Fault::UnknownSession));
    assert!(matches!(rig.sessions.find(Some(&key(ID))), Lookup::Ended(_) | Lookup::Forgotten));
}

#[tokio::test]
async fn a_session_that_two_claim_is_unclear() {
    let rig = Rig::new();
    rig.say(|_, _| AT_100);
    assert_eq!(found(&rig, LATER).await, Err(Fault::SessionNotHere));
    assert_eq!(rig.next_offset(ID), None);
}

#[tokio::test]
async fn a_session_without_a_byte_goes_on_without_a_pin() {
    let rig = Rig::new();
    let asked = Arc::new(AtomicUsize::new(0));
    // The second question to up02 names a path that nobody uses.
    let count = Arc::clone(&asked);
    rig.say(move |backend, _| match backend {
        UP02 if count.fetch_add(1, Ordering::Relaxed) == 0 => AT_0,
        _ => NOT_FOUND,
    });
    let (lookup, owner) = found(&rig, FIRST).await.expect("an owner");
    assert_eq!((lookup, owner), (Lookup::Unknown, UP02));
    assert_eq!((rig.next_offset(ID), rig.asked()), (None, 4));
}

#[tokio::test]
async fn a_server_that_minds_no_destination_proves_nothing() {
    let rig = Rig::new();
    rig.say(only(UP02, AT_0, NOT_FOUND));
    assert_eq!(found(&rig, FIRST).await, Err(Fault::UnknownSession));
}

#[tokio::test]
async fn an_id_that_is_hidden_is_not_asked_for_at_its_backend() {
    let rig = Rig::new();
    let hidden = Pin {
        backend: UP02,
        backend_session: Some(ID.into()),
        binding: Default::default(),
        created: clock::now(),
        subject: None,
    };
    let public = key("{public}");
    rig.sessions.pin(public, hidden, Progress::default(), clock::steady()).await.unwrap();
    rig.say(|_, _| AT_100);
    // The two others claim it, so it is unclear; up02 would have made it three.
    assert_eq!(found(&rig, LATER).await, Err(Fault::SessionNotHere));
    assert_eq!(rig.asked(), 2);
}

#[tokio::test]
async fn packets_that_come_together_are_one_question() {
    let rig = Rig::new();
    rig.say(only(UP02, AT_100, NOT_FOUND));
    let (first, second) = tokio::join!(found(&rig, LATER), found(&rig, LATER));
    assert_eq!(first, second);
    assert_eq!(rig.asked(), 3);
    let recovery = &rig.gateway.admission.recovery;
    assert!(recovery.questions.is_empty(), "nothing is kept of it");
}

#[tokio::test(start_paused = true)]
async fn questions_beyond_the_rate_wait_and_are_then_refused() {
    let rig = Rig::with("[sessions]\nask_rate = 1\n[failover]\nhold = \"5s\"");
    let ask = |number: u32| {
        let rig = &rig;
        async move {
            // Each of another session.
            let id = format!("{{session-{number}}}");
            let head = fragment(&id, LATER);
            let mut exchange = rig.arrive(&head);
            // Behind a proxy that names nobody, so no client's share counts.
            exchange.arrival.client = None;
            let packet = read_request(&*head, ChunkedMode::Refuse).unwrap();
            exchange.admitted.key = Some(key(&id));
            let found = rig.gateway.admission.recovery.find_lost(&head, &packet, &mut exchange);
            found.await.err()
        }
    };
    let began = clock::stopwatch();
    let answers = futures_util::future::join_all((0..20).map(ask)).await;
    let asked = answers.iter().filter(|fault| **fault == Some(Fault::UnknownSession)).count();
    let later = answers.iter().filter(|fault| **fault == Some(Fault::SessionNotHere)).count();
    assert_eq!(asked + later, 20);
    assert!((5..=7).contains(&asked), "{asked} were asked for");
    assert!(began.elapsed() >= Duration::from_secs(4));
    rig.check_metric(r#"bitsgw_asks_total{result="limited"}"#, later as u64);
}

#[tokio::test(start_paused = true)]
async fn nobody_is_asked_while_one_is_away_that_may_have_it() {
    let rig = Rig::with("[failover]\nhold = \"5s\"");
    rig.take_down(UP03);
    let began = clock::steady();
    assert_eq!(found(&rig, LATER).await, Err(Fault::SessionNotHere));
    assert!(clock::steady() - began >= Duration::from_secs(5));
    assert_eq!(rig.asked(), 0);
    // Given up, it counts as one that does not have the session.
    pass(Duration::from_secs(2)).await;
    rig.lose(UP03);
    assert_eq!(found(&rig, LATER).await, Err(Fault::UnknownSession));
    assert_eq!(rig.asked(), 2);
}
