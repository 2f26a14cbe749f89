use std::future::poll_fn;
use std::time::Duration;

use gateway_core::protocol::keep_alive::KeepAlive;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::sleep;

use super::super::rig::{End, Thread, UP01, farm, is_one, read_to_end};
use super::super::{Connections, HOLD};
use super::*;

const S: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

/// A connection in the pool that was used at `now`.
async fn pooled(thread: &Thread, now: Instant) -> TcpStream {
    let (idle, theirs) = thread.idle(now).await;
    thread.pool.give_back(idle, now);
    theirs
}

#[tokio::test]
async fn the_connection_that_was_used_last_is_used_first() {
    let thread = Thread::new().await;
    let now = clock::stopwatch();
    // Not in the order in which they come back.
    let second = pooled(&thread, now + 20 * MS).await;
    let third = pooled(&thread, now + 10 * MS).await;
    let first = pooled(&thread, now + 30 * MS).await;
    for theirs in [first, second, third] {
        let mut ours = thread.take(true, now + 40 * MS).unwrap();
        assert!(is_one(&mut ours, &theirs) && ours.is_reused());
    }
    assert!(thread.take(true, now + 40 * MS).is_none());
    assert_eq!(thread.kept(), 0);
}

/// Of an age in milliseconds; whether for a packet that may go twice; what the server announced, and
/// what was observed of it, in seconds.
#[tokio::test]
async fn a_packet_gets_a_connection_that_is_young_enough() {
    for (age, repeatable, announced, observed, used) in [
        (0, false, None, None, true),
        (999, false, None, None, true),
        (1000, false, None, None, false),
        (1000, true, None, None, true),
        (89_999, true, None, None, true),
        (90_000, true, None, None, false),
        // Near the end that was announced.
        (0, true, Some(0), None, false),
        (749, false, Some(1), None, true),
        (750, false, Some(1), None, false),
        (750, true, Some(1), None, false),
        (1499, true, Some(2), None, true),
        (1500, true, Some(2), None, false),
        // Or that was seen.
        (749, false, None, Some(1), true),
        (750, false, None, Some(1), false),
        (1499, true, None, Some(2), true),
        (1500, true, None, Some(2), false),
    ] {
        let thread = Thread::new().await;
        let what = format!("{age} {repeatable} {announced:?} {observed:?}");
        if let Some(seconds) = observed {
            thread.servers.lives.ended(UP01, seconds * S);
        }
        let now = clock::stopwatch();
        for held in [true, false] {
            let (ours, theirs) = thread.busy().await;
            let timeout = announced.map(Duration::from_secs);
            let idle = ours.answered(KeepAlive { timeout, max: None }, now).unwrap();
            let mut mine = None;
            if held {
                mine = Some(idle)
            } else {
                thread.pool.give_back(idle, now)
            }
            let at = now + age * MS;
            let taken = thread.pool.take(mine, &thread.server.endpoint, repeatable, at);
            let is_it = taken.is_some_and(|mut ours| is_one(&mut ours, &theirs));
            assert_eq!(is_it, used, "{what} {held}");
            while thread.pool.remove_oldest(UP01).is_some() {}
        }
    }
}

#[tokio::test]
async fn a_dead_connection_is_used_for_no_packet() {
    for (how, held, repeatable) in [
        ("ends it", true, true),
        ("ends it", true, false),
        ("ends it", false, true),
        ("ends it", false, false),
        ("resets it", true, false),
        ("resets it", false, true),
        ("speaks", true, false),
        ("speaks", false, true),
    ] {
        let thread = Thread::new().await;
        let now = clock::stopwatch();
        let (idle, mut theirs) = thread.idle(now).await;
        let mut mine = None;
        if held {
            mine = Some(idle)
        } else {
            thread.pool.give_back(idle, now)
        }
        match how {
            "ends it" => drop(theirs),
            "resets it" => {
                theirs.set_zero_linger().unwrap();
                drop(theirs);
            }
            _ => theirs.write_all(b"HTTP/1.1 408 Too Late\r\n\r\n").await.unwrap(),
        }
        // What comes after it has come: the runtime was told of both.
        drop(thread.busy().await);
        let taken = thread.pool.take(mine, &thread.server.endpoint, repeatable, now);
        assert!(taken.is_none() && thread.kept() == 0, "the server {how}, {held} {repeatable}");
        assert_eq!(thread.servers.connections(UP01).used, 0, "its place is free");
    }
}

/// What the runtime has not been told yet, the kernel is asked for, after a second.
#[tokio::test]
async fn the_kernel_is_asked_before_an_old_connection_is_used() {
    let thread = Thread::new().await;
    let now = clock::stopwatch();
    for (age, used) in [(999 * MS, true), (S, false)] {
        let (mut idle, theirs) = thread.idle(now).await;
        drop(theirs);
        while idle.socket().is_quiet_in_kernel() {
            std::thread::yield_now();
        }
        let taken = thread.pool.take(Some(idle), &thread.server.endpoint, true, now + age);
        assert_eq!(taken.is_some(), used, "{age:?}");
    }
}

#[tokio::test]
async fn a_connection_that_is_of_no_use_is_not_kept() {
    let thread = Thread::new().await;
    let now = clock::stopwatch();
    let (mut ended, theirs) = thread.idle(now).await;
    drop(theirs);
    poll_fn(|cx| ended.socket().poll_news(cx)).await;
    thread.pool.give_back(ended, now);
    let (old, _theirs) = thread.idle(now).await;
    thread.pool.give_back(old, now + 90 * S);
    let (moved, _theirs) = thread.idle(now).await;
    thread.farm.store(Arc::new(farm("up01", "127.0.0.1:9".parse().unwrap())));
    thread.pool.give_back(moved, now);
    assert_eq!(thread.servers.connections(UP01), Connections { used: 0, idle: 0 });
}

#[tokio::test]
async fn a_held_connection_to_another_endpoint_waits_in_the_pool() {
    let thread = Thread::new().await;
    let now = clock::stopwatch();
    let (idle, theirs) = thread.idle(now).await;
    let elsewhere = Endpoint { backend: BackendId(7), ..Endpoint::clone(&thread.server.endpoint) };
    assert!(thread.pool.take(Some(idle), &elsewhere, true, now).is_none());
    let mut ours = thread.take(true, now).unwrap();
    assert!(is_one(&mut ours, &theirs));
}

#[tokio::test]
async fn a_connection_that_is_too_old_for_a_packet_is_replaced_and_not_added_to() {
    let thread = Thread::new().await;
    let now = clock::stopwatch();
    let mut oldest = pooled(&thread, now).await;
    let _older = pooled(&thread, now + 10 * MS).await;
    assert!(thread.take(false, now + 2 * S).is_none());
    assert_eq!(thread.kept(), 1);
    assert_eq!(read_to_end(&mut oldest).await.1, End::Clean);
    // One that is young, and is not used for what was observed, stays to be watched.
    let _young = pooled(&thread, now + 2 * S).await;
    thread.servers.lives.ended(UP01, S);
    assert!(thread.take(false, now + 2 * S + 800 * MS).is_none());
    assert_eq!(thread.kept(), 2);
}

#[tokio::test]
async fn of_too_many_idle_connections_the_oldest_is_closed() {
    let thread = Thread::keeping(2).await;
    let now = clock::stopwatch();
    let _second = pooled(&thread, now + MS).await;
    let mut oldest = pooled(&thread, now).await;
    assert_eq!(thread.kept(), 2);
    let _third = pooled(&thread, now + 2 * MS).await;
    assert_eq!(thread.kept(), 2);
    assert_eq!(read_to_end(&mut oldest).await.1, End::Clean);
}

#[tokio::test]
async fn where_the_process_has_enough_connections_no_more_are_kept() {
    let thread = Thread::new().await;
    let now = clock::stopwatch();
    let mut oldest = pooled(&thread, now).await;
    let (busy, _theirs) = thread.busy().await;
    thread.open.keep_at_most(3);
    let _second = pooled(&thread, now + MS).await;
    assert_eq!(thread.kept(), 1);
    assert_eq!(read_to_end(&mut oldest).await.1, End::Clean);
    drop(busy);
    let _third = pooled(&thread, now + 2 * MS).await;
    assert_eq!(thread.kept(), 2);
}

#[tokio::test]
async fn a_look_closes_what_is_of_no_more_use() {
    let thread = Thread::new().await;
    let now = clock::stopwatch();
    let last = now + 88 * S;
    let _old = pooled(&thread, now).await;
    let ended = pooled(&thread, last).await;
    let good = pooled(&thread, last).await;
    let (ours, _announced) = thread.busy().await;
    let timeout = Some(4 * S);
    let announced = ours.answered(KeepAlive { timeout, max: None }, last - 2 * S).unwrap();
    thread.pool.give_back(announced, last);
    drop(ended);
    // For the runtime to be told of the end.
    drop(thread.busy().await);
    for (seconds, kept) in [(88, 3), (89, 2), (90, 1)] {
        assert!(thread.pool.look(&thread.farm.load(), now + seconds * S));
        assert_eq!(thread.kept(), kept, "after {seconds} s");
    }
    assert!(is_one(&mut thread.take(true, now + 90 * S).unwrap(), &good));
}

#[tokio::test]
async fn a_look_closes_what_leads_where_the_farm_does_not() {
    let thread = Thread::new().await;
    let now = clock::stopwatch();
    for other in [farm("up01", "127.0.0.1:9".parse().unwrap()), {
        farm("up02", thread.server.endpoint.address)
    }] {
        let mut theirs = pooled(&thread, now).await;
        assert!(thread.pool.look(&thread.farm.load(), now));
        assert!(!thread.pool.look(&other, now));
        assert_eq!((thread.kept(), read_to_end(&mut theirs).await.1), (0, End::Clean));
    }
}

/// Time passes by itself here, and only while nothing else happens.
#[tokio::test(start_paused = true)]
async fn idle_connections_are_looked_at_every_second_for_as_long_as_there_are_any() {
    let thread = Thread::new().await;
    let runtime = tokio::runtime::Handle::current();
    assert_eq!(runtime.metrics().num_alive_tasks(), 0);
    for _ in 0..2 {
        let theirs = pooled(&thread, clock::stopwatch()).await;
        let _other = pooled(&thread, clock::stopwatch()).await;
        assert_eq!(runtime.metrics().num_alive_tasks(), 1, "one task for all");
        sleep(SWEEP + 500 * MS).await;
        assert_eq!(thread.kept(), 2);
        drop(theirs);
        sleep(SWEEP).await;
        assert_eq!(thread.kept(), 1);
        assert_eq!(thread.servers.lives.observed(UP01), Some(S), "as long as it was seen open");
        sleep(thread.server.endpoint.idle_timeout).await;
        assert_eq!((thread.kept(), runtime.metrics().num_alive_tasks()), (0, 0));
        assert_eq!(thread.servers.lives.observed(UP01), None, "the other one was open for longer");
    }
}

#[tokio::test]
async fn connections_are_counted_by_what_they_do() {
    let thread = Thread::new().await;
    let now = clock::stopwatch();
    let count = || {
        let Connections { used, idle } = thread.servers.connections(UP01);
        (used, idle)
    };
    assert_eq!(count(), (0, 0));
    let (ours, _theirs) = thread.busy().await;
    let (held, _theirs_too) = thread.idle(now).await;
    assert_eq!(count(), (2, 0), "the one that is held is used again soon, as a rule");
    thread.pool.give_back(held, now);
    assert_eq!(count(), (1, 1));
    drop(thread.take(true, now));
    drop(ours);
    assert_eq!(count(), (0, 0));
    assert!(HOLD <= FRESH, "or a client would not find its own connection fresh");
}
