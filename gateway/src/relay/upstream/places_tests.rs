use gateway_core::protocol::keep_alive::KeepAlive;
use tokio::io::AsyncWriteExt;

use super::super::rig::{End, Thread, UP01, is_one, read_to_end, soon};
use super::super::{Connection, Connections, Pool, Unconnected};
use super::*;
use crate::base::clock;
use crate::base::rig::nobody;
use crate::farm::Endpoint;
use crate::farm::pool::OpenConnections;

const S: Duration = Duration::from_secs(1);

/// A request that waits for a connection, on the runtime of the test.
type Wait = tokio::task::JoinHandle<Result<Connection, Unconnected>>;

/// Has a request wait behind those that do, until `deadline`.
async fn wait(thread: &Thread, pool: &Arc<Pool>, deadline: Instant) -> Wait {
    let (pool, endpoint) = (Arc::clone(pool), Arc::clone(&thread.server.endpoint));
    let before = thread.waiting();
    let waits = tokio::spawn(async move { pool.connect(&endpoint, true, deadline).await });
    while thread.waiting() == before {
        assert!(!waits.is_finished(), "it does not wait");
        tokio::task::yield_now().await;
    }
    waits
}

/// It does not wait any more: there is a place for a new connection.
async fn connected(thread: &Thread, waits: Wait) -> Connection {
    thread.accepts(async { waits.await.unwrap() }).await.0
}

impl Thread {
    fn waiting(&self) -> usize {
        self.servers.places.servers.at(UP01).waiting.load(Ordering::Relaxed)
    }

    fn taken(&self) -> usize {
        self.servers.places.taken(UP01)
    }
}

#[test]
fn who_gets_a_free_connection() {
    let start = clock::stopwatch();
    let fair = u64::try_from(FAIR.as_millis()).unwrap();
    for (queue, expected) in [
        (&[][..], None),
        (&[(1, 0)], Some(0)),
        (&[(2, 0)], None),
        // The oldest of its own thread.
        (&[(1, 0), (1, 5), (2, 6)], Some(0)),
        (&[(2, 0), (1, 5), (1, 6)], Some(1)),
        // Unless another one has waited for much longer.
        (&[(2, 0), (3, 1), (1, fair)], Some(2)),
        (&[(2, 0), (3, 1), (1, fair + 1)], None),
        (&[(1, 0), (2, fair + 1)], Some(0)),
    ] {
        let waiting =
            queue.iter().map(|(thread, ms)| (*thread, start + Duration::from_millis(*ms)));
        assert_eq!(choose(waiting, 1), expected, "{queue:?}");
    }
}

#[tokio::test]
async fn at_the_ceiling_a_request_waits_for_a_place() {
    let thread = Thread::new().await;
    thread.servers.set_ceiling(2);
    let (first, _theirs) = thread.busy().await;
    let (second, _theirs_too) = thread.busy().await;
    let waits = wait(&thread, &thread.pool, soon()).await;
    assert_eq!((thread.taken(), thread.waiting()), (2, 1));
    drop(first);
    assert!(!connected(&thread, waits).await.is_reused());
    drop(second);
    assert_eq!((thread.taken(), thread.waiting()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_request_waits_until_its_deadline_and_leaves_no_trace() {
    let thread = Thread::new().await;
    thread.servers.set_ceiling(1);
    let (ours, _theirs) = thread.busy().await;
    let begun = clock::stopwatch();
    let waits = wait(&thread, &thread.pool, begun + 3 * S).await;
    let failure = waits.await.unwrap().unwrap_err();
    assert!(matches!(failure, Unconnected::NoPlace), "{failure:?}");
    assert!(!failure.is_backends_fault());
    assert_eq!(begun.elapsed(), 3 * S);
    assert_eq!(thread.waiting(), 0);
    drop(ours);
    assert_eq!(thread.taken(), 0);
}

#[tokio::test]
async fn who_leaves_the_queue_leaves_the_others_in_it() {
    let thread = Thread::new().await;
    thread.servers.set_ceiling(1);
    let (ours, _theirs) = thread.busy().await;
    let leaves = wait(&thread, &thread.pool, soon()).await;
    let stays = wait(&thread, &thread.pool, soon()).await;
    leaves.abort();
    assert!(leaves.await.unwrap_err().is_cancelled());
    assert_eq!(thread.waiting(), 1);
    drop(ours);
    connected(&thread, stays).await;
}

/// It was given something, and has left before it could take it.
#[tokio::test]
async fn what_somebody_got_who_has_left_goes_to_the_next() {
    let thread = Thread::new().await;
    let places = &thread.servers.places;
    let request =
        || places.request(&thread.servers, UP01, 1, clock::stopwatch()).expect_err("none is free");
    thread.servers.set_ceiling(1);
    let (ours, theirs) = thread.busy().await;
    let (first, second) = (request(), request());
    let idle = ours.answered(KeepAlive::default(), clock::stopwatch()).unwrap();
    assert!(places.hand_over(idle, 1).is_none());
    drop(first);
    let granted = second.until(soon()).await;
    assert!(matches!(granted, Some(Granted::Place(_))), "{granted:?}");
    drop((granted, theirs));
    assert_eq!(thread.taken(), 0);
}

#[tokio::test]
async fn a_connection_that_becomes_free_is_handed_to_who_waits() {
    let thread = Thread::new().await;
    thread.servers.set_ceiling(1);
    let (ours, theirs) = thread.busy().await;
    let waits = wait(&thread, &thread.pool, soon()).await;
    let idle = ours.answered(KeepAlive::default(), clock::stopwatch()).unwrap();
    assert!(thread.pool.hold(idle, clock::stopwatch()).is_none(), "its client does not hold it");
    let mut got = waits.await.unwrap().unwrap();
    assert!(got.is_reused() && is_one(&mut got, &theirs));
    // Now that nobody waits, it does.
    let idle = got.answered(KeepAlive::default(), clock::stopwatch()).unwrap();
    assert!(thread.pool.hold(idle, clock::stopwatch()).is_some());
}

/// One that is dead by then has a place at least.
#[tokio::test]
async fn a_connection_that_cannot_be_used_is_a_place_for_another() {
    let thread = Thread::new().await;
    thread.servers.set_ceiling(1);
    let (mut ours, mut theirs) = thread.busy().await;
    let waits = wait(&thread, &thread.pool, soon()).await;
    theirs.write_all(b"nobody asked").await.unwrap();
    ours.socket().tcp().readable().await.unwrap();
    let now = clock::stopwatch();
    thread.pool.give_back(ours.answered(KeepAlive::default(), now).unwrap(), now);
    assert!(!connected(&thread, waits).await.is_reused());
}

#[tokio::test]
async fn a_free_connection_is_closed_for_a_request_of_another_thread() {
    let thread = Thread::new().await;
    thread.servers.set_ceiling(1);
    let (ours, mut theirs) = thread.busy().await;
    let waits = wait(&thread, &thread.another_pool(), soon()).await;
    let now = clock::stopwatch();
    thread.pool.give_back(ours.answered(KeepAlive::default(), now).unwrap(), now);
    assert_eq!(read_to_end(&mut theirs).await.1, End::Clean);
    assert!(!connected(&thread, waits).await.is_reused());
}

#[tokio::test]
async fn an_idle_connection_of_any_thread_is_closed_for_a_request_that_would_wait() {
    let thread = Thread::new().await;
    thread.servers.set_ceiling(1);
    let now = clock::stopwatch();
    let (idle, mut theirs) = thread.idle(now).await;
    thread.pool.give_back(idle, now);
    let other = thread.another_pool();
    let connecting = other.connect(&thread.server.endpoint, true, soon());
    assert!(!thread.accepts(connecting).await.0.is_reused());
    assert_eq!(read_to_end(&mut theirs).await.1, End::Clean);
    assert_eq!((thread.kept(), thread.taken()), (0, 0));
}

/// It began to wait between the two steps of giving a connection back.
#[tokio::test]
async fn a_request_never_waits_beside_an_idle_connection() {
    let thread = Thread::new().await;
    thread.servers.set_ceiling(1);
    let (idle, _theirs) = thread.idle(clock::stopwatch()).await;
    let waits = wait(&thread, &thread.another_pool(), soon()).await;
    thread.pool.keep(idle, clock::stopwatch());
    assert!(!connected(&thread, waits).await.is_reused());
    assert_eq!(thread.kept(), 0);
}

#[tokio::test]
async fn a_connection_that_is_not_made_leaves_its_place() {
    let thread = Thread::new().await;
    thread.servers.set_ceiling(1);
    let (_socket, address) = nobody();
    let endpoint = Arc::new(Endpoint { address, ..(*thread.server.endpoint).clone() });
    for _ in 0..2 {
        let failure = thread.pool.connect(&endpoint, true, soon()).await.unwrap_err();
        assert!(matches!(failure, Unconnected::Refused(_)), "{failure:?}");
    }
    assert_eq!(thread.taken(), 0);
}

#[tokio::test]
async fn a_ceiling_that_is_raised_lets_others_in_and_a_lower_one_closes_nothing() {
    for ceiling in [2, 0] {
        let thread = Thread::new().await;
        thread.servers.set_ceiling(1);
        let (_ours, _theirs) = thread.busy().await;
        let waits = wait(&thread, &thread.pool, soon()).await;
        thread.servers.set_ceiling(ceiling);
        let second = connected(&thread, waits).await;
        thread.servers.set_ceiling(1);
        assert_eq!(thread.taken(), 2);
        let waits = wait(&thread, &thread.pool, soon()).await;
        drop(second);
        assert_eq!((thread.taken(), thread.waiting()), (1, 1), "one is still one too many");
        waits.abort();
    }
}

/// Threads that come, wait, give up and go, in every order that the machine makes of it.
#[test]
fn no_place_is_lost_or_given_twice() {
    const CEILING: usize = 3;
    let servers = Servers::new(Box::leak(Box::new(OpenConnections::new())));
    servers.set_ceiling(CEILING);
    let held = AtomicUsize::new(0);
    let hold = |place: Place| {
        assert!(held.fetch_add(1, Ordering::SeqCst) < CEILING);
        std::thread::yield_now();
        held.fetch_sub(1, Ordering::SeqCst);
        drop(place);
    };
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (servers, hold) = (&servers, &hold);
            scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
                let runtime = runtime.unwrap();
                for round in 0..1000_u64 {
                    let now = clock::stopwatch();
                    match servers.places.request(servers, UP01, thread, now) {
                        Ok(place) => hold(place),
                        // One that leaves at once, perhaps with a place on its way to it.
                        Err(waiting) if (round + thread) % 3 == 0 => drop(waiting),
                        Err(waiting) => match runtime.block_on(waiting.until(soon())) {
                            Some(Granted::Place(place)) => hold(place),
                            other => panic!("a place was lost: {other:?}"),
                        },
                    }
                }
            });
        }
    });
    assert_eq!((servers.places.taken(UP01), servers.places.is_wanted(UP01)), (0, false));
}

#[tokio::test]
async fn a_request_that_needs_a_new_connection_gets_no_used_one() {
    let thread = Thread::new().await;
    thread.servers.set_ceiling(1);
    let (busy, _server) = thread.busy().await;
    let endpoint = Arc::clone(&thread.server.endpoint);
    let connecting = thread.pool.connect_anew(&endpoint, soon());
    let freeing = async {
        let idle = busy.answered(KeepAlive::default(), clock::stopwatch()).unwrap();
        thread.pool.give_back(idle, clock::stopwatch());
        thread.server.accept_tcp().await
    };
    let (connection, _theirs) = tokio::join!(connecting, freeing);
    assert!(!connection.unwrap().is_reused());
}

#[tokio::test]
async fn connections_that_are_in_no_pool_have_places_too() {
    let thread = Thread::new().await;
    thread.servers.set_ceiling(2);
    let endpoint = Arc::clone(&thread.server.endpoint);
    let accepting = thread.server.accept_tcp();
    let (own, _theirs) = tokio::join!(thread.pool.connect_own(&endpoint, soon()), accepting);
    let elsewhere = thread.servers.place_elsewhere(UP01, soon()).await.unwrap();
    let used = |used| Connections { used, idle: 0 };
    assert_eq!(thread.servers.connections(UP01), used(2));
    for _ in 0..2 {
        let now = clock::stopwatch();
        assert!(thread.servers.place_elsewhere(UP01, now).await.is_none());
        let refused = thread.pool.connect_own(&endpoint, now).await;
        assert!(matches!(refused, Err(Unconnected::NoPlace)));
    }
    drop(own);
    let waiting = thread.servers.place_elsewhere(UP01, soon()).await;
    assert!(waiting.is_some());
    drop((waiting, elsewhere));
    assert_eq!(thread.servers.connections(UP01), used(0));
}
