//! The parts, put together around the sockets.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::services::services;
use super::start::{Parts, open};
use super::tasks::{count_sessions, sweep, watch_health};
use super::{OPS, RunOptions};
use crate::admin::{self, ADMIN, UnixSocket};
use crate::config::Config;
use crate::metrics::Metrics;
use crate::operator::Operator;
use crate::ops::{self, Readiness};
use crate::proxy::Gateway;
use crate::sessions::Sessions;
use crate::supervisor::{
    BoxError, Exit, Farewell, InFlight, Listening, Plan, Supervisor, successor_command,
};

pub(super) fn serve(
    supervisor: Supervisor,
    config: Config,
    options: RunOptions,
    metrics: Arc<Metrics>,
    parts: Parts,
) -> Exit {
    let mut addresses: Vec<_> =
        config.listeners.iter().map(|l| (l.name.clone(), l.address)).collect();
    addresses.extend(config.ops.address.map(|address| (OPS.to_owned(), address)));
    addresses.extend(config.admin.address.map(|address| (ADMIN.to_owned(), address)));
    let runtime_directory = std::env::var_os("RUNTIME_DIRECTORY");
    let upgrade_socket = config.process.upgrade_socket.path(runtime_directory.as_deref(), None);
    let bound = match open(&supervisor, &addresses, options.upgrade, upgrade_socket.as_deref()) {
        Ok(bound) => bound,
        Err(exit) => return exit,
    };
    // After the listeners: whoever has those is the one that a file of this name belongs to.
    let socket = config.admin.socket.as_deref();
    let mode = config.admin.socket_mode.bits();
    let socket = match socket.map(|path| UnixSocket::bind(path, mode)).transpose() {
        Ok(socket) => socket,
        Err(error) => {
            tracing::error!(%error, "the gateway cannot start");
            return Exit::Io;
        }
    };
    let sessions =
        Sessions::new(config.backends.len(), config.sessions.limit, config.sessions.tombstone);
    count_sessions(&metrics, &sessions, &config);
    let readiness = Readiness::default();
    let (requests, connections) = (InFlight::new(), InFlight::new());
    let reporter = parts.reporter.clone();
    let sweeper =
        sweep(Arc::clone(&sessions), parts.reporter.clone(), config.sessions.idle_timeout);
    let farm = Arc::new(ArcSwap::from_pointee(parts.farm));
    let timeouts = config.timeouts.clone();
    let threads = config.process.threads;
    let ops_address = config.ops.address;
    let health = watch_health(&config, &farm, &metrics);
    let operator = Operator::new(
        &config,
        Arc::clone(&farm),
        Arc::clone(&sessions),
        parts.reporter.clone(),
        health.clone(),
    );
    let (admin_address, has_admin) =
        (config.admin.address.is_some(), config.admin.address.is_some() || socket.is_some());
    let api = admin::Api::new(operator.control(&readiness), parts.token);
    let gateway = Gateway::new(
        config.clone(),
        farm,
        health.clone(),
        sessions,
        parts.reporter,
        requests.clone(),
    );
    let open = connections.clone();
    let farewell = Farewell::default();
    let patience = farewell.clone();
    let mut plan = Plan::new(move |listening: &[Listening]| {
        Ok(services(&config, gateway, &reporter, &open, &patience, listening))
    })
    .threads(threads)
    .work_stealing(true)
    .requests(requests)
    .connections(connections)
    .shutdown_delay(timeouts.shutdown_delay)
    .shutdown_timeout(timeouts.shutdown)
    .farewell(farewell)
    .linger(timeouts.client_idle)
    .upgrade_socket(upgrade_socket)
    .successor(successor_command)
    .ready_file(options.ready_file)
    .task("sweep", sweeper)
    .task("health", move |stop| health.run(stop))
    .on_ready({
        let readiness = readiness.clone();
        move |listening: &[Listening]| {
            for listener in listening {
                let (name, address) = (&listener.name, listener.address);
                tracing::info!(listener = %name, %address, "listening");
            }
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
    .on_reopen_logs({
        let access = parts.access.clone();
        move || access.reopen()
    });
    if ops_address.is_some() {
        let state = ops::State { metrics, readiness };
        plan = plan.side_listener(OPS, move |listener, stop| async move {
            ops::serve(listener, state, stop).await.map_err(BoxError::from)
        });
    }
    if has_admin {
        plan = admin::attach(plan, &api, admin_address, socket);
    }
    match supervisor.run(bound, plan) {
        Ok(stop) => {
            tracing::info!("stopped");
            stop.exit()
        }
        Err(error) => {
            tracing::error!(%error, "the gateway ended");
            error.exit()
        }
    }
}
