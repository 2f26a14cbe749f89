//! Addresses that change under a name.

use super::*;

#[tokio::test(start_paused = true)]
async fn an_address_is_kept_while_it_lives_and_the_name_stands_for_it() {
    let world = World::new(&[named(Some(address(1)))]);
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
    let world = World::new(&[named(Some(address(1)))]);
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
    let world = World::new(&[named(Some(address(1)))]);
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
    let world = World::new(&[named(None)]);
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
    let world = World::new(&[BackendSpec { resolved: None, ..named(None) }]);
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
    let world = World::new(&[named(Some(address(1)))]);
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
    let spec = BackendSpec { resolved: Some(address(1)), ..named(None) };
    let rules = Rules { probed: false, ..spec.rules.clone() };
    let world = World::new(&[BackendSpec { ask: Ask::Nothing, rules, ..spec }]);
    *world.network.name.lock() = Some(vec![address(2)]);
    for _ in 0..3 {
        world.health.connect_failed(UP01);
    }
    world.until(UP01, true).await;
    assert_eq!(world.health.current_address(UP01), Some(address(2)));
    assert_eq!(world.health.state(UP01).unwrap().reason, Reason::Connected);
}
