//! Pings beside the probes.

use bytes::Bytes;
use gateway_core::farm::{Create, Directory, Folder, FolderRules, Sign};

use super::*;
use crate::config::Config;

/// What backends are sent, and what they make of it.
#[derive(Default)]
pub struct Seen {
    requests: Mutex<Vec<Bytes>>,
    failure: Mutex<Option<ProbeFailure>>,
    hang: AtomicBool,
}

impl Seen {
    pub fn ping(
        self: &Seen,
        request: Bytes,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<(), ProbeError>> + Send>> {
        self.requests.lock().push(request);
        let outcome =
            self.failure.lock().map_or(Ok(()), |failure| Err(ProbeError::Failed(failure)));
        let hangs = self.hang.load(Ordering::Relaxed);
        Box::pin(async move {
            if hangs {
                sleep(seconds(2)).await;
                return Err(ProbeError::Failed(ProbeFailure::Timeout));
            }
            outcome
        })
    }
}

const RULES: FolderRules = FolderRules {
    retry_after: Duration::from_secs(1000),
    full_for: Duration::from_secs(1000),
    create_wait: Duration::from_secs(1000),
};

fn pinged(id: BackendId) -> BackendSpec {
    let text = "[listeners.public]\naddress = \"127.0.0.1:0\"\n[health]\nretry_after = \"1000s\"\n\
                [[backends]]\nname = \"up01\"\naddress = \"up01.test:81\"";
    let config = Config::from_toml(text).unwrap_or_else(|picture| panic!("{picture}"));
    let pings = BackendSpec::new(id, &config.backends[0], &[], &config).pings;
    BackendSpec { pings, ..spec(id) }
}

impl World {
    /// The backend opens a session.
    fn opens(&self, id: BackendId, target: &str) {
        let folder = Folder::of(target.as_bytes());
        let directory = Directory::of(target.as_bytes());
        let create = Create { folder, directory, target: 1, client: None, without_body: true };
        self.health.asks(id, &create, &RULES).accepted(&[]);
    }

    fn take_pings(&self) -> Vec<String> {
        let all = std::mem::take(&mut *self.network.pings.requests.lock());
        let line =
            |bytes: &Bytes| String::from_utf8_lossy(bytes).split(" HTTP").next().map(String::from);
        all.iter().filter_map(line).collect()
    }

    fn barred(&self, target: &str) -> Vec<(BackendId, Sign)> {
        let barred = self.health.barred(&Folder::of(target.as_bytes()), None, &RULES);
        barred.iter().map(|barred| (barred.backend, barred.why)).collect()
    }

    async fn until_barred(&self, barred: bool) {
        let reached = async {
            while self.barred("/in/x").is_empty() == barred {
                sleep(Duration::from_millis(100)).await;
            }
        };
        timeout(seconds(100), reached).await.expect("it changes");
    }
}

#[tokio::test(start_paused = true)]
async fn each_round_pings_the_folders_in_which_a_backend_has_opened_sessions() {
    let world = World::new(&[pinged(UP01), pinged(UP02)]);
    sleep(seconds(100)).await;
    assert_eq!(world.take_pings(), [""; 0]);
    world.opens(UP01, "/in/1.bin");
    world.opens(UP01, "/more/deep/1.bin");
    world.take_probes();
    sleep(seconds(1000)).await;
    let rounds = world.take_probes().iter().filter(|probe| **probe == address(0)).count();
    let pings = world.take_pings();
    assert_eq!(pings.len(), 2 * rounds);
    assert_eq!(pings[..2], ["BITS_POST /in/", "BITS_POST /more/deep/"]);
    // Nor is it what the metrics call a health check.
    let checks = "bitsgw_backend_health_checks_total{backend=\"up01\",result=\"success\"}";
    let text = world.metrics.encode();
    let line = text.lines().find_map(|line| line.strip_prefix(checks)).expect("a series");
    assert!(line.trim().parse::<usize>().unwrap() < 2 * rounds, "{line}");
}

#[tokio::test(start_paused = true)]
async fn pings_that_fail_take_new_sessions_and_nothing_else() {
    let world = World::new(&[pinged(UP01), pinged(UP02)]);
    world.opens(UP01, "/in/1.bin");
    world.network.pings.hang.store(true, Ordering::Relaxed);
    world.until_barred(true).await;
    assert_eq!(world.barred("/in/x"), [(UP01, Sign::Ping)]);
    assert_eq!(world.barred("/other/x"), []);
    // A doubt was settled faster than at one Ping in ten seconds.
    assert_eq!(world.take_pings().len(), 3);
    sleep(seconds(100)).await;
    assert_eq!(world.condition(UP01), Condition::Up);
    world.measured("bitsgw_barred_folders{reason=\"ping\"}", "1");
    world.measured("bitsgw_backend_up{backend=\"up01\"}", "1");
    let checks = "bitsgw_backend_health_checks_total{backend=\"up01\",result=\"failure\"}";
    world.measured(checks, "0");
    world.network.pings.hang.store(false, Ordering::Relaxed);
    world.until_barred(false).await;
    world.measured("bitsgw_barred_folders{reason=\"ping\"}", "0");
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_is_down_is_not_pinged_and_starts_anew() {
    let world = World::new(&[pinged(UP01)]);
    world.opens(UP01, "/in/1.bin");
    *world.network.pings.failure.lock() = Some(ProbeFailure::Timeout);
    world.until_barred(true).await;
    world.kill(address(0));
    world.until(UP01, false).await;
    world.take_pings();
    sleep(seconds(100)).await;
    assert_eq!(world.take_pings(), [""; 0]);
    world.revive(address(0));
    world.until(UP01, true).await;
    assert_eq!(world.barred("/in/x"), [], "it may have been repaired");
    sleep(seconds(100)).await;
    assert_eq!(world.take_pings(), [""; 0], "until it has opened a session");
}

#[tokio::test(start_paused = true)]
async fn in_maintenance_and_without_the_key_nothing_is_pinged() {
    let without = BackendSpec { pings: None, ..pinged(UP02) };
    let world = World::new(&[pinged(UP01), without]);
    world.opens(UP01, "/in/1.bin");
    world.opens(UP02, "/in/1.bin");
    world.health.set_admin(UP01, AdminState::Maintenance);
    sleep(seconds(100)).await;
    assert_eq!(world.take_pings(), [""; 0]);
}
