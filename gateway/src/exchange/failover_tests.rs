use std::future::{pending, ready};

use gateway_core::routing::Why;

use super::super::rig::*;
use super::*;

fn failover(rig: &Rig) -> &FailoverRunner {
    &rig.gateway.tries.failover
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[tokio::test(start_paused = true)]
async fn a_backend_is_away_since_it_went_down() {
    let rig = Rig::new();
    let absent = || failover(&rig).absent(UP01, Fault::BackendDown);
    rig.take_down(UP01);
    pass(seconds(70)).await;
    let Some(Owner::Down(Absence::For(away))) = absent() else { panic!("{:?}", absent()) };
    assert!(away >= seconds(70) && away < seconds(80), "{away:?}");
    rig.lose(UP01);
    assert_eq!(absent(), Some(Owner::Down(Absence::Lost)));
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_is_not_configured_is_missing_since_the_start() {
    let rig = Rig::new();
    pass(seconds(100)).await;
    let gone = BackendId(9);
    let absent = || failover(&rig).absent(gone, Fault::BackendRemoved);
    let Some(Owner::Missing(Absence::For(away))) = absent() else { panic!("{:?}", absent()) };
    assert!(away >= seconds(100), "{away:?}");
    rig.lose(gone);
    assert_eq!(absent(), Some(Owner::Missing(Absence::Lost)));
}

#[tokio::test]
async fn other_faults_say_nothing_of_the_owner() {
    let rig = Rig::new();
    rig.take_down(UP01);
    for fault in Fault::ALL {
        let says = matches!(fault, Fault::BackendDown | Fault::BackendRemoved);
        assert_eq!(failover(&rig).absent(UP01, fault).is_some(), says, "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_backend_refuses_since_its_first_refusal() {
    let rig = Rig::new();
    let exchange = rig.arrive(&create());
    let refuses = |backend| failover(&rig).refuses(backend, false, &exchange);
    let away = |backend| match refuses(backend) {
        Owner::Refuses { absence: Absence::For(away), tries: 0 } => away,
        other => panic!("{other:?}"),
    };
    assert_eq!(away(UP01), Duration::ZERO);
    pass(seconds(30)).await;
    assert!(away(UP01) >= seconds(30));
    assert_eq!(away(UP02), Duration::ZERO);
    failover(&rig).is_back(UP01);
    assert_eq!(away(UP01), Duration::ZERO);
    assert_eq!(failover(&rig).refuses(UP01, true, &exchange), Owner::Distrusted);
}

async fn carry_out(
    rig: &Rig,
    step: Step,
    changed: impl Future<Output = ()>,
) -> (Result<Went, Fault>, Exchange) {
    let head = fragment(ID, "100-199/10000");
    let mut exchange = rig.admitted(&head).await;
    let went = failover(rig).carry_out(step, UP01, changed, &head, &mut exchange).await;
    (went, exchange)
}

#[tokio::test(start_paused = true)]
async fn a_wait_ends_by_a_change_or_for_another_look() {
    let rig = Rig::new();
    rig.pin(ID, UP01, 100).await;
    let time = clock::stopwatch();
    let (went, _) = carry_out(&rig, Step::Wait(seconds(20)), pending()).await;
    assert_eq!((went, time.elapsed()), (Ok(Went::Again), LOOK_AGAIN));
    let (went, _) = carry_out(&rig, Step::Wait(seconds(20)), ready(())).await;
    assert_eq!((went, time.elapsed()), (Ok(Went::Again), LOOK_AGAIN));
    let short = Duration::from_millis(300);
    carry_out(&rig, Step::Wait(short), pending()).await.0.unwrap();
    assert_eq!(time.elapsed(), LOOK_AGAIN + short);
}

#[tokio::test]
async fn a_packet_that_comes_later_leaves_its_session_alone() {
    let rig = Rig::new();
    rig.pin(ID, UP01, 100).await;
    let (went, _) = carry_out(&rig, Step::Later(Fault::BackendDown), pending()).await;
    assert_eq!((went, rig.next_offset(ID)), (Err(Fault::BackendDown), Some(100)));
}

#[tokio::test]
async fn a_restart_ends_the_session() {
    let rig = Rig::new();
    rig.pin(ID, UP01, 100).await;
    let (went, _) = carry_out(&rig, Step::Restart, pending()).await;
    assert_eq!((went, rig.next_offset(ID)), (Err(Fault::BackendGivenUp), None));
}

#[tokio::test]
async fn a_session_that_moves_gets_another_backend() {
    let rig = Rig::new();
    rig.pin(ID, UP01, 100).await;
    let (went, exchange) = carry_out(&rig, Step::Reassign, pending()).await;
    assert_eq!(went, Ok(Went::Elsewhere));
    let admitted = &exchange.admitted;
    assert!(admitted.moved && admitted.why != Some(Why::Pin));
    assert!(admitted.backend.is_some_and(|backend| backend != UP01));
    rig.take_down(UP02);
    rig.take_down(UP03);
    drop(exchange);
    let (went, _) = carry_out(&rig, Step::Reassign, pending()).await;
    assert_eq!(went, Err(Fault::NoBackend), "there is none to move to");
}
