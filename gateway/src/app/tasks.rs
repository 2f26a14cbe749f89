//! What runs beside the traffic.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use gateway_core::farm::BackendId;
use tokio::sync::watch;

use crate::clock;
use crate::config::Config;
use crate::farm::Farm;
use crate::health::{BackendSpec, FarmHealth};
use crate::metrics::Metrics;
use crate::proxy::Reporter;
use crate::sessions::Sessions;
use crate::supervisor::told_to_stop;

/// Expired sessions are looked for this often.
const SWEEP: Duration = Duration::from_secs(60);

/// Every change of a backend swaps the picture that later requests see.
pub(super) fn watch_health(
    config: &Config,
    farm: &Arc<ArcSwap<Farm>>,
    metrics: &Arc<Metrics>,
) -> FarmHealth {
    let health = FarmHealth::new(Arc::clone(metrics));
    let built = farm.load();
    let specs: Vec<_> = (0u32..)
        .map(BackendId)
        .zip(&config.backends)
        .map(|(id, backend)| BackendSpec::new(id, backend, built.address(id), config))
        .collect();
    health.apply(&specs);
    let (farm, revised) = (Arc::clone(farm), health.clone());
    health.on_change(move |_| {
        farm.rcu(|farm| farm.revised(&revised));
    });
    health
}

pub(super) fn count_sessions(metrics: &Metrics, sessions: &Arc<Sessions>, config: &Config) {
    metrics.set_sessions_limit(config.sessions.limit);
    let sessions = Arc::clone(sessions);
    metrics.count_sessions_with(Box::new(move || {
        let census = sessions.census(clock::now());
        (0u32..).map(BackendId).zip(census).map(|(id, c)| (id, c.active, c.idle)).collect()
    }));
}

/// Ends the sessions that nobody has touched for too long.
pub(super) fn sweep(
    sessions: Arc<Sessions>,
    reporter: Reporter,
    idle_timeout: Duration,
) -> impl FnOnce(watch::Receiver<bool>) -> SweepTask {
    move |mut stop| {
        Box::pin(async move {
            let every = SWEEP.min(idle_timeout / 2).max(Duration::from_millis(100));
            loop {
                tokio::select! {
                    () = told_to_stop(&mut stop) => return Ok(()),
                    () = tokio::time::sleep(every) => {}
                }
                for ended in sessions.sweep(clock::now(), clock::steady(), idle_timeout) {
                    reporter.ended(&ended, None);
                }
            }
        })
    }
}

pub(super) type SweepTask =
    std::pin::Pin<Box<dyn Future<Output = crate::supervisor::TaskResult> + Send>>;
