use std::future::poll_fn;
use std::io::ErrorKind;

use tokio::io::AsyncWriteExt;

use super::super::rig::{End, Thread, UP01, read_to_end};
use super::*;

const S: Duration = Duration::from_secs(1);

fn max(max: u32) -> KeepAlive {
    KeepAlive { timeout: None, max: Some(max) }
}

#[tokio::test]
async fn a_connection_that_is_dropped_with_a_request_on_it_is_reset() {
    let thread = Thread::new().await;
    let (mut ours, mut theirs) = thread.busy().await;
    ours.socket().write_all(b"half a body").await.unwrap();
    drop(ours);
    assert_eq!(read_to_end(&mut theirs).await.1, End::Broken(ErrorKind::ConnectionReset));
    // In the middle of a second one.
    let now = clock::stopwatch();
    let (idle, mut theirs) = thread.idle(now).await;
    let again = thread.pool.take(Some(idle), &thread.server.endpoint, true, now).unwrap();
    assert!(again.is_reused());
    drop(again);
    assert_eq!(read_to_end(&mut theirs).await.1, End::Broken(ErrorKind::ConnectionReset));
}

#[tokio::test]
async fn a_connection_without_a_request_ends_cleanly() {
    let thread = Thread::new().await;
    let (idle, mut theirs) = thread.idle(clock::stopwatch()).await;
    drop(idle);
    assert_eq!(read_to_end(&mut theirs).await.1, End::Clean);
    let (mut ours, mut theirs) = thread.busy().await;
    ours.socket().write_all(b"all").await.unwrap();
    ours.close();
    assert_eq!(read_to_end(&mut theirs).await, (b"all".to_vec(), End::Clean));
}

#[tokio::test]
async fn a_connection_that_its_server_takes_no_more_requests_on_is_closed() {
    let thread = Thread::new().await;
    let now = clock::stopwatch();
    let (ours, mut theirs) = thread.busy().await;
    let idle = ours.answered(max(2), now).expect("one more");
    let ours = thread.pool.take(Some(idle), &thread.server.endpoint, true, now).unwrap();
    assert!(ours.answered(max(1), now).is_none());
    assert_eq!(read_to_end(&mut theirs).await.1, End::Clean);
}

#[tokio::test]
async fn a_connection_stays_with_its_client_for_a_second() {
    let thread = Thread::new().await;
    let now = clock::stopwatch();
    let (idle, _theirs) = thread.idle(now).await;
    assert!(!idle.is_due(now) && !idle.is_due(now + Duration::from_millis(999)));
    assert!(idle.is_due(now + S));
}

/// Who holds a connection sees its end at once, and so for how long it was kept.
#[tokio::test(start_paused = true)]
async fn the_end_of_a_connection_that_is_held_is_an_observation() {
    let thread = Thread::new().await;
    let (mut idle, theirs) = thread.idle(clock::stopwatch()).await;
    tokio::time::advance(3 * S).await;
    drop(theirs);
    poll_fn(|cx| idle.poll_ended(cx)).await;
    assert_eq!(thread.servers.lives.observed(UP01), Some(3 * S));
}

/// When it was closed is not known. That it was open at its last use is.
#[tokio::test]
async fn an_end_that_is_found_before_a_use_counts_from_the_last_look() {
    let thread = Thread::new().await;
    let now = clock::stopwatch();
    let (mut idle, theirs) = thread.idle(now).await;
    let farm = thread.farm.load();
    let endpoint = farm.endpoint(UP01).map(Arc::as_ref);
    assert!(idle.look(endpoint, now + 5 * S));
    drop(theirs);
    poll_fn(|cx| idle.socket().poll_news(cx)).await;
    let reused = idle.reuse(endpoint.unwrap(), true, now + 8 * S);
    assert!(matches!(reused, Reuse::Ended(_)), "{reused:?}");
    assert_eq!(thread.servers.lives.observed(UP01), Some(5 * S));
}

/// Every client has room for one.
#[test]
fn a_connection_that_is_held_is_small() {
    assert!(size_of::<Option<IdleConnection>>() <= 168, "{}", size_of::<Option<IdleConnection>>());
}
