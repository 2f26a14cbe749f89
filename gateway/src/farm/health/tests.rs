//! Time is tokio's and paused: it passes when everybody waits, and then at once.

use std::collections::HashSet;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use gateway_core::farm::{ProbeFailure, Reason, Rules};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::probe::ProbeError;
use super::*;
use crate::config::BackendAddress;

mod names;
mod pings;

const UP01: BackendId = BackendId(0);
const UP02: BackendId = BackendId(1);

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn address(last: u8) -> SocketAddr {
    ([10, 0, 0, last], 80).into()
}

fn spec(id: BackendId) -> BackendSpec {
    let host = format!("10.0.0.{}", id.0);
    BackendSpec {
        tls: None,
        id,
        name: format!("up{:02}", id.0 + 1).into(),
        address: BackendAddress { host, port: 80 },
        found: vec![address(id.0 as u8)],
        ask: Ask::Connection,
        pings: None,
        interval: seconds(10),
        timeout: seconds(2),
        resolve: seconds(30),
        rules: Rules {
            probed: true,
            rise: 2,
            fall: 3,
            passive_failures: 3,
            passive_errors: 5,
            retry_after: seconds(30),
            slow_start: Duration::ZERO,
        },
        leaving: false,
    }
}

/// As many errors as it takes.
fn fail(health: &FarmHealth) {
    for _ in 0..5 {
        health.answered(UP01, Answer::Failing, || None);
    }
}

/// A backend that nobody probes.
fn unprobed(id: BackendId) -> BackendSpec {
    let spec = spec(id);
    BackendSpec { ask: Ask::Nothing, rules: Rules { probed: false, ..spec.rules }, ..spec }
}

/// A backend with a name.
fn named(found: &[SocketAddr]) -> BackendSpec {
    let address = BackendAddress { host: "up01.test".into(), port: 80 };
    BackendSpec { address, found: found.to_vec(), ..spec(UP01) }
}

/// The network as the watchers find it.
#[derive(Default)]
struct Network {
    dead: Mutex<HashSet<SocketAddr>>,
    probes: Mutex<Vec<SocketAddr>>,
    /// What the name stands for; `None` is an error.
    name: Mutex<Option<Vec<SocketAddr>>>,
    lookups: AtomicUsize,
    lookups_hang: AtomicBool,
    out_of_descriptors: AtomicBool,
    panics: AtomicBool,
    /// Probes take a second.
    slow: AtomicBool,
    pings: pings::Seen,
}

struct World {
    network: Arc<Network>,
    metrics: Arc<Metrics>,
    health: FarmHealth,
    stop: CancellationToken,
    running: JoinHandle<TaskResult>,
}

impl World {
    fn new(specs: &[BackendSpec]) -> Self {
        let network = Arc::new(Network::default());
        let names = [(UP01, "up01".to_owned(), 1), (UP02, "up02".to_owned(), 1)];
        let metrics = Metrics::new(&[], &names);
        // So that they have their series.
        [UP01, UP02].into_iter().for_each(|backend| metrics.session_created(backend));
        let health = FarmHealth::with(Arc::clone(&metrics), Events::default(), network.ways());
        health.apply(specs);
        let stop = CancellationToken::new();
        let running = tokio::spawn(health.clone().run(stop.clone()));
        Self { network, metrics, health, stop, running }
    }

    fn kill(&self, address: SocketAddr) {
        self.network.dead.lock().insert(address);
    }

    fn revive(&self, address: SocketAddr) {
        self.network.dead.lock().remove(&address);
    }

    fn condition(&self, id: BackendId) -> Condition {
        self.health.standing(id).1.condition
    }

    /// Waits until the backend is up, or until it is not.
    async fn until(&self, id: BackendId, up: bool) {
        let reached = async {
            loop {
                let changed = self.health.changed(id);
                if self.health.state(id).unwrap().up == up {
                    return;
                }
                changed.await;
            }
        };
        timeout(seconds(1000), reached).await.expect("it changes");
    }

    fn take_probes(&self) -> Vec<SocketAddr> {
        std::mem::take(&mut *self.network.probes.lock())
    }

    #[track_caller]
    fn measured(&self, series: &str, value: &str) {
        let text = self.metrics.encode();
        let line = text.lines().find(|line| line.strip_prefix(series).is_some());
        assert_eq!(line, Some(format!("{series} {value}").as_str()));
    }
}

impl Network {
    fn ways(self: &Arc<Self>) -> Ways {
        let (probed, asked) = (Arc::clone(self), Arc::clone(self));
        Ways {
            probe: Arc::new(move |_, ask, address| {
                let network = Arc::clone(&probed);
                if let Ask::Ping(request) = ask {
                    return network.pings.ping(request.clone());
                }
                Box::pin(async move {
                    let outcome = network.probe(address);
                    if network.slow.load(Ordering::Relaxed) {
                        sleep(seconds(1)).await;
                    }
                    outcome
                })
            }),
            lookup: Arc::new(move |name| {
                let network = Arc::clone(&asked);
                assert_eq!(name, "up01.test:80");
                Box::pin(async move {
                    network.lookups.fetch_add(1, Ordering::Relaxed);
                    if network.lookups_hang.load(Ordering::Relaxed) {
                        std::future::pending::<()>().await;
                    }
                    let found = network.name.lock().clone();
                    found.ok_or_else(|| io::Error::other("no such name"))
                })
            }),
        }
    }

    fn probe(&self, address: SocketAddr) -> Result<(), ProbeError> {
        assert!(!self.panics.swap(false, Ordering::Relaxed), "a mistake of ours");
        if self.out_of_descriptors.load(Ordering::Relaxed) {
            return Err(ProbeError::Local(io::Error::other("too many open files")));
        }
        self.probes.lock().push(address);
        match self.dead.lock().contains(&address) {
            true => Err(ProbeError::Failed(ProbeFailure::Refused)),
            false => Ok(()),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_backend_counts_as_up_until_probes_say_otherwise() {
    let world = World::new(&[spec(UP01), spec(UP02)]);
    assert_eq!(world.health.state(UP01).unwrap().reason, Reason::Started);
    world.kill(address(0));
    assert_eq!(world.condition(UP01), Condition::Up);
    world.until(UP01, false).await;
    assert_eq!(world.health.state(UP01).unwrap().reason, Reason::ProbesFail(ProbeFailure::Refused));
    assert_eq!(world.condition(UP02), Condition::Up);
    assert_eq!(world.take_probes().iter().filter(|probe| **probe == address(0)).count(), 3);
    world.measured("bitsgw_backend_up{backend=\"up01\"}", "0");
    world.measured("bitsgw_backend_up{backend=\"up02\"}", "1");
    world.measured("bitsgw_backend_state{backend=\"up01\",state=\"down\"}", "1");
    world.measured("bitsgw_backend_state{backend=\"up01\",state=\"ready\"}", "0");
    let checks = "bitsgw_backend_health_checks_total{backend=\"up01\"";
    world.measured(&format!("{checks},result=\"failure\"}}"), "3");
    world.revive(address(0));
    world.until(UP01, true).await;
    assert_eq!(world.health.state(UP01).unwrap().reason, Reason::ProbesPass);
    world.measured(&format!("{checks},result=\"success\"}}"), "2");
    world.measured("bitsgw_backend_up{backend=\"up01\"}", "1");
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_passes_is_probed_at_its_interval() {
    let world = World::new(&[spec(UP01)]);
    sleep(seconds(1000)).await;
    let count = world.take_probes().len();
    // Every 9 to 11 s.
    assert!((90..=112).contains(&count), "{count}");
}

#[tokio::test(start_paused = true)]
async fn requests_that_cannot_connect_take_a_backend_down_at_once() {
    let world = World::new(&[spec(UP01)]);
    world.kill(address(0));
    for _ in 0..2 {
        world.health.connect_failed(UP01);
    }
    world.health.connected(UP01);
    for _ in 0..2 {
        world.health.connect_failed(UP01);
        assert_eq!(world.condition(UP01), Condition::Up);
    }
    world.health.connect_failed(UP01);
    assert_eq!(world.condition(UP01), Condition::Down);
    assert_eq!(world.health.state(UP01).unwrap().reason, Reason::NotConnected);
    assert_eq!(world.health.down_for(UP01), Some(Duration::ZERO));
    sleep(seconds(500)).await;
    assert_eq!(world.health.down_for(UP01), Some(seconds(500)));
    // A connection says nothing where probes do.
    world.health.connected(UP01);
    assert_eq!(world.condition(UP01), Condition::Down);
    world.revive(address(0));
    world.until(UP01, true).await;
    assert_eq!(world.health.down_for(UP01), None);
}

#[tokio::test(start_paused = true)]
async fn who_waits_sees_what_the_hook_has_made() {
    let world = World::new(&[spec(UP01)]);
    let picture = Arc::new(Mutex::new(Condition::Up));
    let (health, drawn) = (world.health.clone(), Arc::clone(&picture));
    world.health.on_change(move |id| *drawn.lock() = health.standing(id).1.condition);
    let changed = world.health.changed(UP01);
    let seen = Arc::clone(&picture);
    let waiter = tokio::spawn(async move {
        changed.await;
        *seen.lock()
    });
    for _ in 0..3 {
        world.health.connect_failed(UP01);
    }
    let seen = timeout(seconds(1000), waiter).await.expect("it is told").unwrap();
    assert_eq!(seen, Condition::Down);
}

#[tokio::test(start_paused = true)]
async fn a_change_between_the_question_and_the_wait_is_not_missed() {
    let world = World::new(&[spec(UP01)]);
    let changed = world.health.changed(UP01);
    for _ in 0..3 {
        world.health.connect_failed(UP01);
    }
    timeout(seconds(1000), changed).await.expect("it is told");
    // What has been seen already is no change.
    let again = world.health.changed(UP01);
    world.kill(address(0));
    assert!(timeout(seconds(100), again).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_requests_wait_for_is_probed_more_often() {
    let world = World::new(&[spec(UP01)]);
    world.kill(address(0));
    world.until(UP01, false).await;
    world.take_probes();
    sleep(seconds(100)).await;
    let alone = world.take_probes().len();
    assert!(timeout(seconds(100), world.health.changed(UP01)).await.is_err());
    let awaited = world.take_probes().len();
    sleep(seconds(100)).await;
    let alone_again = world.take_probes().len();
    assert!(alone <= 12 && alone_again <= 13, "{alone} and {alone_again}");
    assert!((40..=60).contains(&awaited), "{awaited}");
}

#[tokio::test(start_paused = true)]
async fn maintenance_stops_the_probes_and_holds_nothing_against_a_backend() {
    let mut slow = spec(UP01);
    slow.rules.slow_start = seconds(100);
    let world = World::new(&[slow]);
    sleep(seconds(30)).await;
    fail(&world.health);
    world.health.set_admin(UP01, AdminState::Maintenance);
    world.measured("bitsgw_backend_state{backend=\"up01\",state=\"maintenance\"}", "1");
    world.kill(address(0));
    world.take_probes();
    sleep(seconds(1000)).await;
    assert_eq!(world.take_probes(), []);
    world.revive(address(0));
    world.health.set_admin(UP01, AdminState::Ready);
    let (admin, standing) = world.health.standing(UP01);
    assert_eq!((admin, standing.condition), (AdminState::Ready, Condition::Up));
    assert_eq!(standing.weight_percent, 10, "it starts slowly");
    sleep(seconds(200)).await;
    assert!(!world.take_probes().is_empty());
    assert_eq!(world.health.standing(UP01).1.weight_percent, 100);
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_ends_in_maintenance_does_not_count() {
    let mut strict = spec(UP01);
    strict.rules.fall = 1;
    let world = World::new(&[strict]);
    world.kill(address(0));
    world.network.slow.store(true, Ordering::Relaxed);
    let begun = async {
        while world.network.probes.lock().is_empty() {
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(seconds(100), begun).await.expect("a probe begins");
    world.health.set_admin(UP01, AdminState::Maintenance);
    sleep(seconds(100)).await;
    assert_eq!(world.take_probes(), [address(0)]);
    assert_eq!(world.condition(UP01), Condition::Up);
}

#[tokio::test(start_paused = true)]
async fn a_drained_backend_is_probed_like_any_other() {
    let world = World::new(&[spec(UP01)]);
    world.health.set_admin(UP01, AdminState::Drain);
    world.measured("bitsgw_backend_state{backend=\"up01\",state=\"drain\"}", "1");
    world.kill(address(0));
    world.until(UP01, false).await;
    world.measured("bitsgw_backend_state{backend=\"up01\",state=\"down\"}", "1");
    assert_eq!(world.health.standing(UP01).0, AdminState::Drain);
}

#[tokio::test(start_paused = true)]
async fn without_probes_a_backend_is_tried_again_after_a_while() {
    let world = World::new(&[unprobed(UP01)]);
    for _ in 0..3 {
        world.health.connect_failed(UP01);
    }
    assert_eq!(world.condition(UP01), Condition::Down);
    let down = timeout(seconds(29), world.until(UP01, true)).await;
    assert!(down.is_err());
    world.until(UP01, true).await;
    assert_eq!(world.health.state(UP01).unwrap().reason, Reason::TriedAgain);
    world.health.connect_failed(UP01);
    assert_eq!(world.condition(UP01), Condition::Down);
    assert_eq!(world.take_probes(), []);
}

#[tokio::test(start_paused = true)]
async fn timers_run_out_without_anybody_asking() {
    let world = World::new(&[unprobed(UP01)]);
    let told = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&told);
    world.health.on_change(move |_| {
        count.fetch_add(1, Ordering::Relaxed);
    });
    fail(&world.health);
    assert_eq!(world.condition(UP01), Condition::Failing);
    assert_eq!(told.load(Ordering::Relaxed), 1);
    timeout(seconds(31), world.health.changed(UP01)).await.unwrap();
    assert_eq!(world.condition(UP01), Condition::Up);
    fail(&world.health);
    assert_eq!(world.condition(UP01), Condition::Failing);
    world.health.answered(UP01, Answer::Good, || None);
    assert_eq!(world.condition(UP01), Condition::Up);
    assert_eq!(told.load(Ordering::Relaxed), 4);
    world.health.answered(UP01, Answer::Good, || None);
    assert_eq!(told.load(Ordering::Relaxed), 4, "good news is no news");
}

#[tokio::test(start_paused = true)]
async fn only_those_that_join_later_start_slowly() {
    let slow = |id| {
        let mut spec = spec(id);
        spec.rules.slow_start = seconds(100);
        spec
    };
    let world = World::new(&[slow(UP01)]);
    assert_eq!(world.health.standing(UP01).1.weight_percent, 100);
    world.health.apply(&[slow(UP01), slow(UP02)]);
    assert_eq!(world.health.standing(UP01).1.weight_percent, 100);
    assert_eq!(world.health.standing(UP02).1.weight_percent, 10);
    sleep(seconds(55)).await;
    assert_eq!(world.health.standing(UP02).1.weight_percent, 50);
}

#[tokio::test(start_paused = true)]
async fn a_reload_keeps_the_state_of_what_has_not_moved() {
    let world = World::new(&[spec(UP01), spec(UP02)]);
    world.kill(address(0));
    world.until(UP01, false).await;
    let faster = BackendSpec { interval: seconds(1), ..spec(UP01) };
    world.health.apply(&[faster.clone(), spec(UP02)]);
    assert_eq!(world.condition(UP01), Condition::Down);
    world.take_probes();
    sleep(seconds(100)).await;
    assert!(world.take_probes().iter().filter(|probe| **probe == address(0)).count() > 80);
    // Elsewhere it is another server.
    let elsewhere = BackendAddress { host: "10.0.0.9".into(), port: 80 };
    world.health.apply(&[
        BackendSpec { address: elsewhere, found: vec![address(9)], ..faster },
        spec(UP02),
    ]);
    assert_eq!(world.condition(UP01), Condition::Up);
    assert_eq!(world.health.current_address(UP01), Some(address(9)));
    sleep(seconds(10)).await;
    assert!(world.take_probes().contains(&address(9)));
    // What is gone is left alone.
    world.health.apply(&[spec(UP02)]);
    assert_eq!(world.health.state(UP01), None);
    sleep(seconds(1)).await;
    world.take_probes();
    sleep(seconds(100)).await;
    assert!(world.take_probes().iter().all(|probe| *probe == address(1)));
}

#[tokio::test(start_paused = true)]
async fn probes_that_a_reload_switches_off_leave_nobody_down() {
    let world = World::new(&[spec(UP01)]);
    world.kill(address(0));
    world.until(UP01, false).await;
    world.health.apply(&[unprobed(UP01)]);
    world.until(UP01, true).await;
    assert_eq!(world.health.state(UP01).unwrap().reason, Reason::TriedAgain);
}

#[tokio::test(start_paused = true)]
async fn want_on_this_side_is_not_held_against_a_backend() {
    let world = World::new(&[spec(UP01)]);
    world.network.out_of_descriptors.store(true, Ordering::Relaxed);
    sleep(seconds(1000)).await;
    assert_eq!(world.condition(UP01), Condition::Up);
    assert_eq!(world.health.state(UP01).unwrap().reason, Reason::Started);
    let checks = "bitsgw_backend_health_checks_total{backend=\"up01\"";
    world.measured(&format!("{checks},result=\"failure\"}}"), "0");
}

#[tokio::test(start_paused = true)]
async fn a_mistake_of_ours_does_not_leave_a_backend_unwatched() {
    let world = World::new(&[spec(UP01)]);
    world.network.panics.store(true, Ordering::Relaxed);
    world.kill(address(0));
    world.until(UP01, false).await;
    assert!(!world.network.panics.load(Ordering::Relaxed));
}

#[tokio::test(start_paused = true)]
async fn the_task_ends_when_it_is_told_to() {
    let mut world = World::new(&[spec(UP01), BackendSpec { id: UP02, ..named(&[]) }]);
    sleep(seconds(5)).await;
    world.stop.cancel();
    (&mut world.running).await.unwrap().unwrap();
    world.take_probes();
    sleep(seconds(100)).await;
    assert_eq!(world.take_probes(), []);
}

#[tokio::test(start_paused = true)]
async fn what_nobody_watches_counts_as_up_and_never_changes() {
    let world = World::new(&[spec(UP01)]);
    let stranger = BackendId(7);
    assert_eq!(world.condition(stranger), Condition::Up);
    assert_eq!(world.health.state(stranger), None);
    assert_eq!(world.health.current_address(stranger), None);
    for _ in 0..9 {
        world.health.connect_failed(stranger);
        world.health.answered(stranger, Answer::Failing, || None);
    }
    assert_eq!(world.condition(stranger), Condition::Up);
    assert!(timeout(seconds(100), world.health.changed(stranger)).await.is_err());
}
