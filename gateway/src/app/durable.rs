//! The session store in the life of the process: opened before anything is served, told about
//! while it runs, closed when the last request has ended.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use gateway_core::events::{Event, Kind, Level};
use gateway_core::routing::Loads;

use crate::base::backend_ids::BackendIds;
use crate::base::build_info::VERSION;
use crate::config::check::store::how_to_go_on;
use crate::config::{self, Config, SqliteStore};
use crate::process::exit::Exit;
use crate::process::supervisor::TaskResult;
use crate::sessions::store::{OpenError, Options, Store, TroubleKind};
use crate::sessions::{Opened, Sessions, Setup};
use crate::telemetry::events::Events;
use crate::telemetry::events::wire::read_rows;
use crate::telemetry::metrics::Metrics;

/// Opens what the configuration names and reads all of it. Blocks, a second for a million sessions.
///
/// Before any socket is bound: who is let in must find the sessions of the process before. A
/// process that takes over from another opens it when it has the sockets, and the `lock` on the
/// directory that the other one shares with it.
///
/// # Errors
/// How the process ends; why has been logged.
pub fn open(
    config: &Config,
    lock: Option<OwnedFd>,
    ids: &Arc<BackendIds>,
    metrics: &Arc<Metrics>,
    events: &Events,
) -> Result<Opened, Exit> {
    let setup = Setup {
        ids: Arc::clone(ids),
        limit: config.sessions.limit,
        tombstone: config.sessions.tombstone,
    };
    let opened = opened(setup, config, lock, ids, metrics, events)?;
    opened.sessions.set_shared_farm(config.sessions.shared_farm);
    Ok(opened)
}

fn opened(
    setup: Setup,
    config: &Config,
    lock: Option<OwnedFd>,
    ids: &Arc<BackendIds>,
    metrics: &Arc<Metrics>,
    events: &Events,
) -> Result<Opened, Exit> {
    let store = match &config.store {
        config::Store::Memory => {
            tracing::info!("sessions are kept in memory only: a restart forgets them");
            events.keep_in_memory();
            return Ok(setup.in_memory());
        }
        config::Store::Sqlite(store) => store,
    };
    let SqliteStore { path, sync, on_error, slow, names, names_keep } = store;
    let (metrics, lock) = (Arc::clone(metrics), lock.map(Arc::new));
    let options = Options {
        sync: *sync,
        on_error: *on_error,
        slow: *slow,
        metrics,
        events: events.clone(),
        lock,
    };
    match setup.in_store(path, options) {
        Ok(opened) => {
            opened.sessions.keep_names(*names, *names_keep, path);
            tell(&opened, store, events);
            tell_missing(&opened.sessions, config, ids);
            Ok(opened)
        }
        Err(error) => {
            let help = help(&error, store);
            tracing::error!(%error, help, "the gateway cannot start without its session store");
            Err(error.exit())
        }
    }
}

fn tell(opened: &Opened, store: &SqliteStore, events: &Events) {
    let loaded = &opened.loaded;
    for line in &loaded.report {
        tracing::error!("session store: {line}");
        events.tell(Event::new(Kind::Store, "repaired", Level::Error, line));
    }
    tracing::info!(
        path = %store.path.display(),
        sessions = loaded.pins,
        ended = loaded.tombstones,
        milliseconds = loaded.took.as_millis() as u64,
        "the session store is open"
    );
    if loaded.unread {
        tracing::error!(
            "nobody knows which sessions are stored: packets of unknown ones are answered 503 \
             until the gateway is started with a store that can be read"
        );
    }
}

fn tell_missing(sessions: &Sessions, config: &Config, ids: &BackendIds) {
    let named = |name: &str| config.backends.iter().any(|b| b.name.eq_ignore_ascii_case(name));
    let missing = ids.iter().filter(|(id, name)| sessions.sessions(*id) > 0 && !named(name));
    for (_, backend) in missing {
        tracing::warn!(
            %backend,
            "there are sessions of a backend that is not configured: they wait until it is again, \
             or start over after failover.restart_after"
        );
    }
}

fn help(error: &OpenError, store: &SqliteStore) -> String {
    match error {
        OpenError::Trouble(trouble)
            if matches!(
                trouble.kind,
                TroubleKind::Denied | TroubleKind::ReadOnly | TroubleKind::Missing
            ) =>
        {
            how_to_go_on(&store.path)
        }
        error => error.help(),
    }
}

/// Reads the events of the processes before this one, and tells that it has started. Returns the last
/// row that was read.
pub fn recall(events: &Events, store: &Store, upgrade: bool) -> i64 {
    let (rows, last) = store.events_behind(0).unwrap_or_else(|error| {
        tracing::warn!(%error, "the events of before cannot be read");
        (Vec::new(), 0)
    });
    let before = read_rows(&rows);
    let ended = before.iter().rfind(|event| event.kind == Kind::Process).map(|last| &*last.name);
    let how = match ended {
        _ if upgrade => ", to take over from the process that runs",
        None | Some("stopped") => "",
        Some(_) => ": the process before ended without a word, by a kill or a crash",
    };
    let pid = std::process::id();
    let level = if how.starts_with(':') { Level::Warning } else { Level::Info };
    events.learn(before);
    events.tell(Event::new(
        Kind::Process,
        "started",
        level,
        format!("version {VERSION} starts as process {pid}{how}"),
    ));
    last
}

/// A task that closes the store when it is told to stop: the supervisor does that when no request
/// is left.
pub fn closing(
    sessions: Arc<Sessions>,
    events: Events,
) -> impl FnOnce(CancellationToken) -> BoxFuture<'static, TaskResult> {
    move |stop| {
        async move {
            stop.cancelled().await;
            events.finish();
            let message = format!("process {} has served its last request", std::process::id());
            events.tell(Event::new(Kind::Process, "stopped", Level::Info, message));
            sessions.close().await;
            Ok(())
        }
        .boxed()
    }
}
