//! Addresses that change under a name.

use super::*;

#[tokio::test(start_paused = true)]
async fn an_address_is_kept_while_it_lives_and_the_name_stands_for_it() {
    let world = World::new(&[named(&[address(1)])]);
    *world.network.name.lock() = Some(vec![address(2), address(1)]);
    sleep(seconds(1000)).await;
    assert_eq!(world.health.current_address(UP01), Some(address(1)));
    let lookups = world.network.lookups.load(Ordering::Relaxed);
    assert!((30..=38).contains(&lookups), "{lookups}");
    assert!(!world.take_probes().contains(&address(2)), "nobody asked the other");
    // No answer is no reason to leave.
    *world.network.name.lock() = None;
    sleep(seconds(1000)).await;
    assert_eq!(world.health.current_address(UP01), Some(address(1)));
    assert_eq!(world.condition(UP01), Condition::Up);
}

#[tokio::test(start_paused = true)]
async fn a_backend_moves_when_its_address_fails_and_another_passes() {
    let world = World::new(&[named(&[address(1)])]);
    world.health.acknowledged(UP01, address(1));
    let told = Arc::new(Mutex::new(Vec::new()));
    let (health, seen) = (world.health.clone(), Arc::clone(&told));
    world.health.on_change(move |id| seen.lock().push(health.current_address(id)));
    world.kill(address(1));
    world.kill(address(2));
    *world.network.name.lock() = Some(vec![address(1), address(2), address(3)]);
    world.until(UP01, false).await;
    world.until(UP01, true).await;
    assert_eq!(world.health.current_address(UP01), Some(address(3)));
    assert!(told.lock().contains(&Some(address(3))));
    world.take_probes();
    sleep(seconds(100)).await;
    assert!(world.take_probes().iter().all(|probe| *probe == address(3)));
}

#[tokio::test(start_paused = true)]
async fn a_backend_moves_when_its_name_does_and_the_new_address_passes() {
    let world = World::new(&[named(&[address(1)])]);
    world.kill(address(2));
    *world.network.name.lock() = Some(vec![address(2)]);
    sleep(seconds(500)).await;
    assert_eq!(world.health.current_address(UP01), Some(address(1)), "the other is dead");
    assert_eq!(world.condition(UP01), Condition::Up);
    world.revive(address(2));
    timeout(seconds(100), world.health.changed(UP01)).await.unwrap();
    assert_eq!(world.health.current_address(UP01), Some(address(2)));
    assert_eq!(world.condition(UP01), Condition::Up, "without having been down");
}

#[tokio::test(start_paused = true)]
async fn a_name_without_an_address_comes_up_when_it_has_one() {
    let world = World::new(&[named(&[])]);
    assert_eq!(world.condition(UP01), Condition::Down);
    assert_eq!(world.health.current_address(UP01), None);
    sleep(seconds(100)).await;
    assert_eq!(
        world.health.state(UP01).unwrap().reason,
        Reason::ProbesFail(ProbeFailure::NoAddress)
    );
    *world.network.name.lock() = Some(vec![address(4)]);
    world.until(UP01, true).await;
    assert_eq!(world.health.current_address(UP01), Some(address(4)));
}

#[tokio::test(start_paused = true)]
async fn an_address_that_does_not_answer_is_better_than_none() {
    let world = World::new(&[named(&[])]);
    world.kill(address(4));
    *world.network.name.lock() = Some(vec![address(4)]);
    sleep(seconds(100)).await;
    assert_eq!(world.health.current_address(UP01), Some(address(4)));
    assert_eq!(world.condition(UP01), Condition::Down);
    world.revive(address(4));
    world.until(UP01, true).await;
}

#[tokio::test(start_paused = true)]
async fn a_lookup_that_hangs_stops_no_probe() {
    let world = World::new(&[named(&[address(1)])]);
    world.network.lookups_hang.store(true, Ordering::Relaxed);
    sleep(seconds(100)).await;
    world.take_probes();
    sleep(seconds(1000)).await;
    assert!(world.take_probes().len() >= 90);
    assert_eq!(world.network.lookups.load(Ordering::Relaxed), 1, "one at a time");
    world.kill(address(1));
    world.until(UP01, false).await;
}

#[tokio::test(start_paused = true)]
async fn a_name_without_probes_is_followed_too() {
    for (acknowledged, name) in [(false, &[2][..]), (false, &[1, 2]), (true, &[2]), (true, &[1, 2])]
    {
        let spec = named(&[address(1)]);
        let rules = Rules { probed: false, ..spec.rules.clone() };
        let world = World::new(&[BackendSpec { ask: Ask::Nothing, rules, ..spec }]);
        if acknowledged {
            world.health.acknowledged(UP01, address(1));
        }
        *world.network.name.lock() = Some(name.iter().map(|last| address(*last)).collect());
        for _ in 0..3 {
            world.health.connect_failed(UP01);
        }
        world.until(UP01, true).await;
        assert_eq!(world.health.current_address(UP01), Some(address(2)), "{name:?}");
        assert_eq!(world.health.state(UP01).unwrap().reason, Reason::Connected);
    }
}

#[tokio::test(start_paused = true)]
async fn an_address_that_has_acknowledged_a_packet_stays_until_probes_fail() {
    let world = World::new(&[named(&[address(1)])]);
    world.health.acknowledged(UP01, address(1));
    // The name leads elsewhere, and connections of requests fail.
    *world.network.name.lock() = Some(vec![address(2)]);
    sleep(seconds(500)).await;
    for _ in 0..3 {
        world.health.connect_failed(UP01);
    }
    assert_eq!(world.condition(UP01), Condition::Down);
    world.until(UP01, true).await;
    sleep(seconds(500)).await;
    assert_eq!(world.health.current_address(UP01), Some(address(1)));
    assert!(!world.health.has_moved_within(UP01, seconds(3600)));
    world.kill(address(1));
    world.until(UP01, false).await;
    world.until(UP01, true).await;
    assert_eq!(world.health.current_address(UP01), Some(address(2)));
    assert!(world.health.has_moved_within(UP01, seconds(30)));
    sleep(seconds(31)).await;
    assert!(!world.health.has_moved_within(UP01, seconds(30)));
}

#[tokio::test(start_paused = true)]
async fn the_next_address_is_tried_with_the_first_probe_that_fails() {
    let world = World::new(&[named(&[address(1), address(2), address(3)])]);
    world.kill(address(1));
    world.kill(address(2));
    timeout(seconds(5), world.health.changed(UP01)).await.unwrap();
    assert_eq!(world.health.current_address(UP01), Some(address(3)));
    assert_eq!(world.condition(UP01), Condition::Up, "it was never down");
    assert_eq!(world.take_probes(), [1, 2, 3].map(address));
}

#[tokio::test(start_paused = true)]
async fn a_create_goes_on_at_the_next_address_unless_uploads_lie_at_the_first() {
    let world = World::new(&[named(&[address(1), address(2)])]);
    let told = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&told);
    world.health.on_change(move |_| {
        seen.fetch_add(1, Ordering::Relaxed);
    });
    assert!(world.health.try_next(UP01, address(1)));
    assert_eq!(world.health.current_address(UP01), Some(address(2)));
    assert_eq!(told.load(Ordering::Relaxed), 1);
    assert!(world.health.try_next(UP01, address(1)), "it was sent before the move");
    assert!(!world.health.try_next(UP01, address(2)), "none is left");
    world.health.acknowledged(UP01, address(2));
    *world.network.name.lock() = Some(vec![address(1), address(2)]);
    sleep(seconds(100)).await;
    assert!(!world.health.try_next(UP01, address(2)));
    assert_eq!(world.health.current_address(UP01), Some(address(2)));
}

#[tokio::test(start_paused = true)]
async fn a_backend_without_an_address_is_not_tried_again_before_it_has_one() {
    let spec = named(&[]);
    let rules = Rules { probed: false, ..spec.rules.clone() };
    let world = World::new(&[BackendSpec { ask: Ask::Nothing, rules, ..spec }]);
    sleep(seconds(1000)).await;
    assert_eq!(world.condition(UP01), Condition::Down);
    let lookups = world.network.lookups.load(Ordering::Relaxed);
    assert!((30..=40).contains(&lookups), "{lookups}");
    *world.network.name.lock() = Some(vec![address(4)]);
    world.until(UP01, true).await;
    assert_eq!(world.health.current_address(UP01), Some(address(4)));
}
