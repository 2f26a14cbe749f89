//! The parts, put together around the sockets.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use gateway_core::events::{Event, Kind, Level};
use rustix::fs::{Access, access};
use tokio_util::task::TaskTracker;

use super::apply::{Limits, Subjects, limits, reloader};
use super::services::{ListenerSetup, services};
use super::start::{About, Parts, cannot_start, open};
use super::tasks::{count_sessions, follow, sweep, tidy, watch_events};
use super::{OPS, RunOptions};
use crate::admin::operator::Operator;
use crate::admin::ops;
use crate::admin::{self, ADMIN, Entry, UnixSocket};
use crate::app::descriptors::Descriptors;
use crate::app::durable;
use crate::base::build_info::VERSION;
use crate::base::chain;
use crate::config::reload::Trigger;
use crate::config::watch_config::watch_config;
use crate::config::{Config, Loaded, Store};
use crate::exchange::Gateway;
use crate::farm::backend_registry::BackendRegistry;
use crate::farm::pool;
use crate::guard;
use crate::process::listening::Threads;
use crate::process::readiness::Readiness;
use crate::process::supervisor::{
    BoxError, Exit, Handover, Listening, Plan, Shutdown, Supervisor, Waits, raise_open_files,
    successor_command,
};
use crate::relay::upstream::Servers;
use crate::sessions::Other;
use crate::telemetry::metrics::Metrics;
use crate::tls::certificates::Certificates;

/// How long the process waits to have its word that it drains on the disk.
const LOCK_NOTE: Duration = Duration::from_millis(500);

pub(super) fn serve(
    supervisor: Supervisor,
    loaded: Loaded,
    options: RunOptions,
    metrics: Arc<Metrics>,
    parts: Parts,
) -> Exit {
    let mut config = loaded.config.clone();
    raise_open_files();
    let descriptors = Descriptors::new(Arc::clone(&metrics));
    descriptors.share_out(&config).hold(&mut config);
    let mut addresses: Vec<_> =
        config.listeners.iter().map(|l| (l.name.clone(), l.address)).collect();
    addresses.extend(config.ops.address.map(|address| (OPS.to_owned(), address)));
    addresses.extend(config.admin.address.map(|address| (ADMIN.to_owned(), address)));
    let runtime_directory = std::env::var_os("RUNTIME_DIRECTORY");
    let upgrade_socket =
        config.process.upgrade_socket.path(runtime_directory.as_deref(), store_directory(&config));
    let mut bound = match open(&supervisor, &addresses, options.upgrade, upgrade_socket.as_deref())
    {
        Ok(bound) => bound,
        Err(exit) => return exit,
    };
    // After the listeners: whoever has those is the one that a file of this name belongs to.
    let socket = config.admin.socket.as_deref();
    let mode = config.admin.socket_mode.bits();
    let socket = match socket.map(|path| UnixSocket::make(path, mode)).transpose() {
        Ok(socket) => socket,
        Err(error) => return cannot_start(&error, Exit::Io),
    };
    let Parts { farm, reporter, access, admin_access, admin_tls, listeners, .. } = parts;
    // With the sockets in hand: what the process that had them stores from here on is followed.
    let events = reporter.events.clone();
    let opened = match durable::open(&config, bound.take_lock(), &reporter.ids, &metrics, &events) {
        Ok(opened) => opened,
        Err(exit) => return exit,
    };
    let sessions = opened.sessions;
    let read_up_to = durable::recall(&events, sessions.store(), options.upgrade);
    let upgrade_socket = upgrade_socket.filter(|path| can_be_met(path, &config));
    count_sessions(&metrics, &sessions, &config);
    let ids = Arc::clone(&reporter.ids);
    let shown: Vec<_> = listeners.iter().cloned().chain([admin_tls.clone()]).collect();
    let certificates = Certificates::start_watching(&metrics, &events, &shown, farm.reloadables());
    let backend_registry = BackendRegistry::new(
        ids,
        farm,
        Arc::clone(&sessions),
        Arc::clone(&metrics),
        certificates.clone(),
        events.clone(),
    );
    let guard = Limits::new(ArcSwap::from_pointee(limits(&config)));
    let servers = Servers::new(&pool::OPEN);
    servers.set_ceiling(config.limits.backend_connections);
    let counted = Arc::clone(&servers);
    metrics.count_connections_with(Box::new(move |backend| {
        counted.has_ceiling().then(|| counted.connections(backend).used)
    }));
    let reloader = reloader(
        options.config,
        loaded,
        (Arc::clone(&metrics), events.clone()),
        supervisor.notifier(),
        backend_registry.clone(),
        Subjects {
            limits: Arc::clone(&guard),
            descriptors: descriptors.clone(),
            servers: Arc::clone(&servers),
            access: access.clone(),
        },
        certificates.clone(),
    );
    let handshakes = guard::handshakes(&config.listeners, &listeners);
    let reloader = match reloader {
        Ok(reloader) => reloader,
        Err(error) => return cannot_start(&error, Exit::Failure),
    };
    let readiness = Readiness::default();
    let (requests, connections) = (TaskTracker::new(), TaskTracker::new());
    let shutdown_state = Shutdown::default();
    let setup = ListenerSetup {
        handshakes,
        limits: guard,
        room: descriptors.room,
        open: connections.clone(),
        shutdown_state: shutdown_state.clone(),
    };
    let operator = Operator::new(&backend_registry, Arc::clone(&sessions), reporter.clone());
    operator.restore(&opened.states);
    let store = sessions.store().clone();
    let closing = durable::closing(Arc::clone(&sessions), events.clone());
    let (admin_address, has_admin) =
        (config.admin.address.is_some(), config.admin.address.is_some() || socket.is_some());
    let entry = socket.as_ref().map(UnixSocket::entry);
    let judge = operator.judge(&readiness, &reloader, &certificates);
    let control = operator.control(&readiness, reloader.clone(), judge.clone());
    let api = admin::Api::new(control, admin_access);
    let (gateway, canceller) = Gateway::new(
        Arc::clone(&backend_registry.farm),
        backend_registry.health.clone(),
        Arc::clone(&sessions),
        reporter.clone(),
        (requests.clone(), shutdown_state.clone()),
        config.limits.bound_connections,
    );
    let gateway = gateway.telling(readiness.clone());
    let (threads, ops_address) = (config.process.threads, config.ops.address);
    let watches = config.process.watch_config;
    let names_host = config.http.forwarded_host;
    let following = follow(Arc::clone(&sessions), operator, bound.old_gone());
    let watching =
        watch_events(events.clone(), Arc::clone(&sessions), certificates.clone(), read_up_to);
    let shared = Arc::clone(&sessions);
    let (locked, left) = (store.clone(), store.clone());
    let sweeper = sweep(
        sessions,
        reporter.clone(),
        Arc::clone(&backend_registry.farm),
        shutdown_state.clone(),
    );
    let (health, farm) = (backend_registry.health.clone(), Arc::clone(&backend_registry.farm));
    let about = About::of(&config);
    let mut plan = Plan::new(move |listening: &[Listening], threads: &Threads| {
        Ok(services(&config, gateway, &reporter, &servers, &setup, listening, threads))
    })
    .threads(threads)
    .requests(requests)
    .connections(connections)
    .waits(move || {
        let timeouts = &farm.load().config.timeouts;
        Waits {
            shutdown_delay: timeouts.shutdown_delay,
            shutdown_timeout: timeouts.shutdown,
            linger: timeouts.client_idle,
        }
    })
    .shutdown_state(shutdown_state)
    .events(events.clone())
    .upgrade_socket(upgrade_socket)
    .successor(successor_command)
    .ready_file(options.ready_file)
    .on_handover(move |handover| match handover {
        Handover::Asked => shared.follow(Other::Successor),
        Handover::Ended => shared.lose_successor(),
        Handover::Done => {
            let left = left.clone();
            let (done, noted) = std::sync::mpsc::channel::<()>();
            std::thread::spawn(move || {
                left.drains();
                drop(done);
            });
            // A disk that hangs is not waited for.
            let _ = noted.recv_timeout(LOCK_NOTE);
        }
    })
    .lock(move || locked.lock())
    .task("sweep", sweeper)
    .task("other process", following)
    .task("health", move |stop| health.run(stop))
    .task("certificates", move |stop| certificates.run(stop))
    .task("events", watching)
    .task("removed backends", tidy(backend_registry))
    .task("orphans", move |stop| canceller.run(stop))
    .task("store", closing)
    .on_reload({
        let reloader = reloader.clone();
        move || reloader.request(Trigger::Signal)
    })
    .on_ready({
        let readiness = readiness.clone();
        move |listening: &[Listening]| {
            if let Some(Err(error)) = entry.as_ref().map(Entry::publish) {
                tracing::error!(%error, "the admin socket cannot be put in its place");
            }
            if watches && reloader.has_file() && let Err(error) = watch_config(reloader.clone()) {
                tracing::error!(%error, "the configuration is not watched");
            }
            if names_host {
                tracing::info!(
                    "http.forwarded_host: the host that a trusted proxy names counts in place of Host"
                );
            }
            for listener in listening {
                let (name, address) = (&listener.name, listener.address);
                tracing::info!(listener = %name, %address, "listening");
            }
            let About { listeners: _, admin_socket, store } = &about;
            let listeners: Vec<String> =
                listening.iter().map(|one| format!("{} {}", one.name, one.address)).collect();
            tracing::info!(
                version = VERSION,
                config = %reloader.path().display(),
                pid = std::process::id(),
                listeners = listeners.join(", "),
                admin_socket = admin_socket.as_deref(),
                store = store.as_str(),
                "ready"
            );
            let message = format!("serving on {}", listeners.join(", "));
            events.tell(Event::new(Kind::Process, "ready", Level::Info, message));
            readiness.ready();
        }
    })
    .on_drain({
        let (readiness, metrics) = (readiness.clone(), Arc::clone(&metrics));
        move || {
            readiness.drain();
            metrics.set_draining(true);
        }
    })
    .on_reopen_logs(move || access.reopen());
    if ops_address.is_some() {
        let state = ops::State { metrics, readiness, store, judge };
        plan = plan.side_listener(OPS, move |listener, stop| async move {
            ops::serve(listener, state, stop).await.map_err(BoxError::from)
        });
    }
    if has_admin {
        let tls = admin_tls.map(|(tls, _)| tls);
        plan = admin::attach(plan, &api, admin_address, tls, socket);
    }
    match supervisor.run(bound, plan) {
        Ok(stop) => {
            tracing::info!("stopped");
            stop.exit()
        }
        Err(error) => {
            tracing::error!(error = chain(&error), "the gateway ended");
            error.exit()
        }
    }
}

/// Nobody asked for a place that was chosen by default, so one that cannot be used stops nothing.
fn can_be_met(path: &Path, config: &Config) -> bool {
    let Some(directory) = path.parent().filter(|_| config.process.upgrade_socket.is_auto()) else {
        return true;
    };
    let usable = access(directory, Access::WRITE_OK | Access::EXEC_OK);
    if let Err(error) = usable {
        let directory = directory.display();
        tracing::warn!(%directory, %error, "no place for an upgrade socket: no upgrade without a restart");
    }
    usable.is_ok()
}

fn store_directory(config: &Config) -> Option<&Path> {
    match &config.store {
        Store::Sqlite(store) => Some(&store.path),
        Store::Memory => None,
    }
}
