//! What runs beside the traffic.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use gateway_core::farm::BackendId;
use tokio_util::sync::CancellationToken;

use crate::admin::operator::Operator;
use crate::base::clock;
use crate::config::Config;
use crate::exchange::report::Reporter;
use crate::farm::Farm;
use crate::farm::backend_registry::BackendRegistry;
use crate::process::supervisor::{OldGone, Shutdown};
use crate::sessions::store::Follower;
use crate::sessions::view::Moment;
use crate::sessions::{Other, Sessions};
use crate::telemetry::events::wire::read_rows;
use crate::telemetry::events::{Events, Expiries};
use crate::telemetry::metrics::Metrics;
use crate::tls::certificates::Certificates;

/// Between two readings of a store that another process writes to.
const FOLLOW: Duration = Duration::from_millis(200);

/// Events are looked after this often.
const EVENTS: Duration = Duration::from_secs(1);

/// Removed backends are looked at this often.
const TIDY: Duration = Duration::from_secs(1);

/// Expired sessions are looked for this often.
const SWEEP: Duration = Duration::from_secs(60);

/// Reads what the process before or after this one writes to the store, while there is one.
pub(super) fn follow(
    sessions: Arc<Sessions>,
    operator: Operator,
    old_gone: OldGone,
) -> impl FnOnce(CancellationToken) -> TaskFuture {
    if !old_gone.is_gone() {
        sessions.follow(Other::Predecessor);
    }
    move |stop| {
        Box::pin(async move {
            loop {
                let alone = old_gone.is_gone();
                tokio::select! {
                    () = stop.cancelled() => return Ok(()),
                    () = old_gone.wait(), if !alone => {}
                    () = tokio::time::sleep(FOLLOW) => {}
                }
                // Before the reading, or the last words of the other might be missed.
                let gone = old_gone.is_gone();
                let lost = sessions.lost_successor();
                if !sessions.follows_others() {
                    continue;
                }
                let reading = Arc::clone(&sessions);
                let read = tokio::task::spawn_blocking(move || reading.read_on()).await;
                match read {
                    Ok(Ok(states)) => operator.restore(&states),
                    Ok(Err(error)) => {
                        tracing::warn!(%error, "what another process stores cannot be read");
                        continue;
                    }
                    // A panic is in the log.
                    Err(_) => continue,
                }
                if !alone && gone {
                    let leaving = Arc::clone(&sessions);
                    let leave = move || leaving.leave_off(Other::Predecessor);
                    // A panic is in the log.
                    let _ = tokio::task::spawn_blocking(leave).await;
                }
                if let Some(lost) = lost {
                    let leaving = Arc::clone(&sessions);
                    let leave = move || leaving.leave_off_lost(lost);
                    // A panic is in the log.
                    let _ = tokio::task::spawn_blocking(leave).await;
                }
            }
        })
    }
}

/// Sums up what happens too often, reads what another process tells, and looks for certificates that
/// end. `read_up_to` is the last row of the store that was read.
pub(super) fn watch_events(
    events: Events,
    sessions: Arc<Sessions>,
    certificates: Certificates,
    read_up_to: i64,
) -> impl FnOnce(CancellationToken) -> TaskFuture {
    move |stop| {
        Box::pin(async move {
            let mut expiries = Expiries::default();
            let mut reader = sessions.store().follow_events(read_up_to);
            let mut followed = false;
            loop {
                let (certificates, told) = (certificates.clone(), events.clone());
                // Once more behind the end of the other, for its last words.
                let follows = sessions.follows_others();
                let reads = std::mem::replace(&mut followed, follows) || follows;
                let look = move || {
                    told.settle();
                    expiries.look(&certificates.state().0, clock::now(), &told);
                    // What it cannot read now, it reads later.
                    let read = reader.as_mut().filter(|_| reads).map(Follower::events);
                    let read = read.and_then(Result::ok).unwrap_or_default();
                    reader.as_mut().filter(|_| !follows).into_iter().for_each(Follower::pause);
                    (expiries, reader, read)
                };
                // Files may lie on a disk that takes its time. A panic is in the log.
                let Ok((looked, kept, read)) = tokio::task::spawn_blocking(look).await else {
                    return Err("the watch over events has panicked".into());
                };
                (expiries, reader) = (looked, kept);
                events.learn(read_rows(&read));
                tokio::select! {
                    () = stop.cancelled() => return Ok(()),
                    () = tokio::time::sleep(EVENTS) => {}
                }
            }
        })
    }
}

/// Lets removed backends go when their sessions are over.
pub(super) fn tidy(
    backend_registry: BackendRegistry,
) -> impl FnOnce(CancellationToken) -> TaskFuture {
    move |stop| {
        Box::pin(async move {
            loop {
                tokio::select! {
                    () = stop.cancelled() => return Ok(()),
                    () = tokio::time::sleep(TIDY) => {}
                }
                let backend_registry = backend_registry.clone();
                // It may have to look up an address. A panic is in the log.
                let _ = tokio::task::spawn_blocking(move || backend_registry.tidy()).await;
            }
        })
    }
}

pub(super) fn count_sessions(metrics: &Metrics, sessions: &Arc<Sessions>, config: &Config) {
    metrics.set_sessions_limit(config.sessions.limit);
    let sessions = Arc::clone(sessions);
    metrics.count_sessions_with(Box::new(move || {
        let census = sessions.census(Moment::now());
        (0u32..).map(BackendId).zip(census).map(|(id, c)| (id, c.active, c.idle)).collect()
    }));
}

/// Ends the sessions that nobody has touched for too long.
pub(super) fn sweep(
    sessions: Arc<Sessions>,
    reporter: Reporter,
    farm: Arc<ArcSwap<Farm>>,
    shutdown_state: Shutdown,
) -> impl FnOnce(CancellationToken) -> TaskFuture {
    move |stop| {
        Box::pin(async move {
            loop {
                let idle_timeout = farm.load().config.sessions.idle_timeout;
                let every = SWEEP.min(idle_timeout / 2).max(Duration::from_millis(100));
                tokio::select! {
                    () = stop.cancelled() => return Ok(()),
                    () = tokio::time::sleep(every) => {}
                }
                if shutdown_state.is_leaving() {
                    // The sessions are the successor's, and what it hears of them is not known here.
                    continue;
                }
                let idle_timeout = farm.load().config.sessions.idle_timeout;
                for ended in sessions.sweep_expired(clock::now(), clock::steady(), idle_timeout) {
                    reporter.ended(&ended, None);
                }
            }
        })
    }
}

pub(super) type TaskFuture =
    std::pin::Pin<Box<dyn Future<Output = crate::process::supervisor::TaskResult> + Send>>;
