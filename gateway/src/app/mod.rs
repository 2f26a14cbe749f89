//! The one place that knows every concrete type: a configuration becomes a running gateway.
//!
//! Reading order: `start` (what can fail before there is a socket), `serve` (sockets, and the parts
//! put together), `services` (traffic), `tasks` (what runs beside it), `apply` (another configuration).

mod apply;
pub mod descriptors;
pub mod durable;
mod serve;
mod services;
mod start;
mod tasks;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use crate::base::backend_ids::BackendIds;
use crate::base::build_info::{REVISION, VERSION};
use crate::config::Loaded;
use crate::config::reload::Source;
use crate::process::supervisor::{Exit, Supervisor};
use crate::telemetry::events::Events;
use crate::telemetry::log;
use crate::telemetry::metrics::Metrics;

use serve::serve;
use start::{About, format, level, start};

/// What `run` was told besides the configuration.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// Where the configuration came from, to read it again.
    pub config: Source,
    /// Where to write the addresses once every listener accepts.
    pub ready_file: Option<PathBuf>,
    /// Take over from the running process.
    pub upgrade: bool,
}

/// The listener for metrics and probes; no traffic listener may have this name.
pub const OPS: &str = "ops";

/// Serves until told to stop. Returns the exit code of the process.
pub fn run(loaded: Loaded, options: RunOptions) -> ExitCode {
    // Before anything that takes time: until then a SIGHUP would end the process.
    let supervisor = match Supervisor::install() {
        Ok(supervisor) => supervisor,
        Err(error) => {
            eprintln!("bits-gateway: signal handlers cannot be installed: {error}");
            return Exit::Failure.into();
        }
    };
    let config = &loaded.config;
    let listeners: Vec<_> = config.listeners.iter().map(|l| l.name.clone()).collect();
    let ids = Arc::new(BackendIds::default());
    let weights: Vec<_> = config
        .backends
        .iter()
        .map(|backend| (ids.intern(&backend.name), backend.name.clone(), backend.weight))
        .collect();
    let metrics = Metrics::new(&listeners, &weights);
    let log_guard = match log::init(format(&loaded), level(config), metrics.logs()) {
        Ok(guard) => guard,
        Err(error) => {
            eprintln!("bits-gateway: the log cannot be started: {error}");
            return Exit::Io.into();
        }
    };
    let About { listeners, admin_socket, store } = About::of(config);
    let config_file = options.config.path.display();
    tracing::info!(
        version = VERSION,
        revision = REVISION,
        config = %config_file,
        pid = std::process::id(),
        listeners,
        admin_socket,
        store,
        "starting"
    );
    if options.config.text.is_some() {
        let uploads_go_to: Vec<String> =
            config.backends.iter().map(|one| format!("{} {}", one.name, one.address)).collect();
        tracing::info!(
            uploads_go_to = uploads_go_to.join(", "),
            "there is no configuration file: sessions are in memory and end with this process, and \
             everything else is as by default"
        );
    }
    for warning in loaded.report.lines() {
        tracing::warn!("configuration: {warning}");
    }
    let exit = match start(config, &metrics, ids, Events::default()) {
        Ok(parts) => serve(supervisor, loaded, options, metrics, parts),
        Err(error) => {
            tracing::error!(%error, "the gateway cannot start");
            error.exit()
        }
    };
    drop(log_guard);
    exit.into()
}
