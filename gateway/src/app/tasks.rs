//! What runs beside the traffic.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use gateway_core::farm::BackendId;
use tokio::sync::watch;

use crate::clock;
use crate::config::Config;
use crate::farm::Farm;
use crate::metrics::Metrics;
use crate::proxy::Reporter;
use crate::roster::Roster;
use crate::sessions::Sessions;
use crate::supervisor::told_to_stop;

/// Removed backends are looked at this often.
const TIDY: Duration = Duration::from_secs(1);

/// Expired sessions are looked for this often.
const SWEEP: Duration = Duration::from_secs(60);

/// Lets removed backends go when their sessions are over.
pub(super) fn tidy(roster: Roster) -> impl FnOnce(watch::Receiver<bool>) -> TaskFuture {
    move |mut stop| {
        Box::pin(async move {
            loop {
                tokio::select! {
                    () = told_to_stop(&mut stop) => return Ok(()),
                    () = tokio::time::sleep(TIDY) => {}
                }
                let roster = roster.clone();
                // It may have to look up an address. A panic is in the log.
                let _ = tokio::task::spawn_blocking(move || roster.tidy()).await;
            }
        })
    }
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
    farm: Arc<ArcSwap<Farm>>,
) -> impl FnOnce(watch::Receiver<bool>) -> TaskFuture {
    move |mut stop| {
        Box::pin(async move {
            loop {
                let idle_timeout = farm.load().config.sessions.idle_timeout;
                let every = SWEEP.min(idle_timeout / 2).max(Duration::from_millis(100));
                tokio::select! {
                    () = told_to_stop(&mut stop) => return Ok(()),
                    () = tokio::time::sleep(every) => {}
                }
                let idle_timeout = farm.load().config.sessions.idle_timeout;
                for ended in sessions.sweep(clock::now(), clock::steady(), idle_timeout) {
                    reporter.ended(&ended, None);
                }
            }
        })
    }
}

pub(super) type TaskFuture =
    std::pin::Pin<Box<dyn Future<Output = crate::supervisor::TaskResult> + Send>>;
