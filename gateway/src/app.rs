//! The one place that knows every concrete type: a configuration becomes a running gateway.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use gateway_core::farm::BackendId;
use pingora::listeners::{L4BufferSettings, ListenerConfig};
use pingora::server::configuration::ServerConf;
use pingora::services::ServiceWithDependents;
use pingora::services::listening::Service;
use tokio::sync::{Semaphore, watch};

use crate::access_log::AccessLog;
use crate::admin::{self, ADMIN, Token, UnixSocket};
use crate::clock;
use crate::config::{self, Config};
use crate::durable;
use crate::entrance::{self, Loaded};
use crate::farm::{Farm, FarmError};
use crate::guard::{Addresses, Door, Entrance, GuardLimits, Guarded};
use crate::health::{BackendSpec, FarmHealth};
use crate::log_writer::{Destination, FlushGuard};
use crate::metrics::{LogLevel, Metrics};
use crate::operator::Operator;
use crate::ops::{self, Readiness};
use crate::pool;
use crate::proxy::{Gateway, Reporter, TRIES};
use crate::sessions::Sessions;
use crate::supervisor::{BoxError, Exit, InFlight, Listening, Plan, Supervisor, told_to_stop};
use crate::telemetry::{self, Format};

/// What `run` was told besides the configuration.
#[derive(Debug, Clone, Default)]
pub struct RunOptions {
    /// Where to write the addresses once every listener accepts.
    pub ready_file: Option<PathBuf>,
    /// What `check` would warn about, one line each, for the log.
    pub warnings: Vec<String>,
}

/// The listener for metrics and probes; no traffic listener may have this name.
pub const OPS: &str = "ops";

/// Held for every connection and never used: whoever reads from a socket here asks for more.
const READ_BUFFER: usize = 256;

/// Expired sessions are looked for this often.
const SWEEP: Duration = Duration::from_secs(60);

/// Why a gateway with a legal configuration did not start.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error("the runtime for name lookups cannot be made: {0}")]
    Runtime(std::io::Error),
    #[error(transparent)]
    Farm(#[from] FarmError),
    #[error("the access log cannot be opened: {0}")]
    AccessLog(std::io::Error),
    #[error(transparent)]
    Token(#[from] admin::TokenError),
    #[error(transparent)]
    Tls(#[from] entrance::EntranceError),
}

impl StartError {
    fn exit(&self) -> Exit {
        match self {
            Self::Runtime(_) => Exit::Failure,
            Self::Token(_) | Self::Tls(_) | Self::Farm(FarmError::Tls { .. }) => Exit::Config,
            Self::Farm(_) => Exit::Unavailable,
            Self::AccessLog(_) => Exit::Io,
        }
    }
}

/// Serves until told to stop. Returns the exit code of the process.
pub fn run(config: Config, options: RunOptions) -> ExitCode {
    // Before anything that takes time: until then a SIGHUP would end the process.
    let supervisor = match Supervisor::install() {
        Ok(supervisor) => supervisor,
        Err(error) => {
            eprintln!("bits-gateway: signal handlers cannot be installed: {error}");
            return Exit::Failure.into();
        }
    };
    let listeners: Vec<_> = config.listeners.iter().map(|l| l.name.clone()).collect();
    let backends: Arc<[String]> = config.backends.iter().map(|b| b.name.clone()).collect();
    let weights: Vec<_> = (0u32..)
        .zip(&config.backends)
        .map(|(id, backend)| (BackendId(id), backend.name.clone(), backend.weight))
        .collect();
    let metrics = Metrics::new(&listeners, &weights);
    let log_guard = match telemetry::init(format(&config), level(&config), metrics.logs()) {
        Ok(guard) => guard,
        Err(error) => {
            eprintln!("bits-gateway: the log cannot be started: {error}");
            return Exit::Io.into();
        }
    };
    for warning in &options.warnings {
        tracing::warn!("configuration: {warning}");
    }
    let exit = match start(&config, &metrics, backends) {
        Ok(parts) => serve(supervisor, config, options, metrics, parts),
        Err(error) => {
            tracing::error!(%error, "the gateway cannot start");
            error.exit()
        }
    };
    drop(log_guard);
    exit.into()
}

/// What can fail before the first socket.
struct Parts {
    farm: Farm,
    reporter: Reporter,
    access: AccessLog,
    token: Option<Token>,
    tls: Vec<Loaded>,
    _flush: Option<FlushGuard>,
}

fn start(
    config: &Config,
    metrics: &Arc<Metrics>,
    backends: Arc<[String]>,
) -> Result<Parts, StartError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(StartError::Runtime)?;
    let farm = runtime.block_on(Farm::build(config))?;
    let destination = match &config.log.access {
        config::AccessLog::Off => None,
        config::AccessLog::Stdout => Some(Destination::Stdout),
        config::AccessLog::File(path) => Some(Destination::File(path.clone())),
    };
    let (access, flush) = match destination {
        None => (AccessLog::off(), None),
        Some(destination) => {
            let opened = AccessLog::open(destination, metrics.logs());
            let (access, guard) = opened.map_err(StartError::AccessLog)?;
            (access, Some(guard))
        }
    };
    let reporter = Reporter::new(
        Arc::clone(metrics),
        access.clone(),
        backends,
        config.sessions.limit_per_client,
    );
    let token = match (config.admin.address, &config.admin.token_file) {
        (Some(_), Some(file)) => Some(Token::read(file)?),
        _ => None,
    };
    let tls = entrance::load(&config.listeners)?;
    Ok(Parts { farm, reporter, access, token, tls, _flush: flush })
}

fn serve(
    supervisor: Supervisor,
    config: Config,
    options: RunOptions,
    metrics: Arc<Metrics>,
    mut parts: Parts,
) -> Exit {
    let opened = match durable::open(&config, &metrics) {
        Ok(opened) => opened,
        Err(exit) => return exit,
    };
    let sessions = opened.sessions;
    parts.reporter = parts.reporter.naming(sessions.backend_names());
    let mut addresses: Vec<_> =
        config.listeners.iter().map(|l| (l.name.clone(), l.address)).collect();
    addresses.extend(config.ops.address.map(|address| (OPS.to_owned(), address)));
    addresses.extend(config.admin.address.map(|address| (ADMIN.to_owned(), address)));
    let bound = match supervisor.bind(&addresses) {
        Ok(bound) => bound,
        Err(error) => {
            tracing::error!(%error, "the gateway cannot start");
            return error.exit();
        }
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
    count_sessions(&metrics, &sessions, &config);
    let readiness = Readiness::default();
    let (requests, connections) = (InFlight::new(), InFlight::new());
    let reporter = parts.reporter.clone();
    let sweeper =
        sweep(Arc::clone(&sessions), parts.reporter.clone(), config.sessions.idle_timeout);
    let keeper = entrance::keep(&metrics, &parts.tls, &parts.farm);
    let doors = entrance::doors(&config, parts.tls);
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
    operator.restore(&opened.states);
    let (admin_address, has_admin) =
        (config.admin.address.is_some(), config.admin.address.is_some() || socket.is_some());
    let api = admin::Api::new(operator.control(&readiness), parts.token);
    let store = sessions.store().clone();
    let closing = durable::closing(Arc::clone(&sessions));
    let gateway = Gateway::new(
        config.clone(),
        farm,
        health.clone(),
        sessions,
        parts.reporter,
        requests.clone(),
    );
    let open = connections.clone();
    let mut plan = Plan::new(move |listening: &[Listening]| {
        Ok(services(&config, gateway, &reporter, &open, &doors, listening))
    })
    .threads(threads)
    .work_stealing(true)
    .requests(requests)
    .connections(connections)
    .shutdown_delay(timeouts.shutdown_delay)
    .shutdown_timeout(timeouts.shutdown)
    .ready_file(options.ready_file)
    .task("sweep", sweeper)
    .task("health", move |stop| health.run(stop))
    .task("certificates", move |stop| keeper.run(stop))
    .task("store", closing)
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
        let state = ops::State { metrics, readiness, store };
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

/// One service per listener: Pingora hides the end of one endpoint of several.
fn services(
    config: &Config,
    gateway: Gateway,
    reporter: &Reporter,
    open: &InFlight,
    doors: &[Door],
    listening: &[Listening],
) -> Vec<Box<dyn ServiceWithDependents>> {
    let conf = Arc::new(ServerConf {
        threads: config.process.threads,
        max_retries: TRIES,
        upstream_keepalive_pool_size: pool::size_per_thread(config),
        ..ServerConf::default()
    });
    let proxy = Arc::new(crate::tls::proxy(&conf, gateway));
    let events = Arc::new(reporter.clone());
    let room = Arc::new(Semaphore::new(config.limits.connections));
    let addresses = Addresses::new(config.limits.connections_per_address);
    let trusted: Arc<[_]> = config.http.trusted_proxies.clone().into();
    let limits = GuardLimits {
        head: config.limits.head,
        head_timeout: config.timeouts.client_head,
        idle: config.timeouts.client_idle,
        drain_bytes: config.limits.drain_bytes,
        method_override: config.http.method_override,
    };
    let one = |(index, listening): (usize, &Listening)| {
        let guarded = Guarded::new(
            Arc::clone(&proxy),
            Arc::clone(&events),
            index,
            doors.get(index).cloned().unwrap_or_default(),
            limits,
            Arc::clone(&room),
            open.clone(),
        )
        .at(Entrance {
            addresses: Arc::clone(&addresses),
            trusted: Arc::clone(&trusted),
            port: Some(listening.address.port().into()),
        });
        let mut service = Service::new(listening.name.clone(), guarded);
        // Exactly the address of the socket that was bound: Pingora finds it by this text.
        service.add_listener(
            ListenerConfig::tcp(listening.address.to_string())
                .l4_buffer(L4BufferSettings::default().read(READ_BUFFER)),
        );
        Box::new(service) as Box<dyn ServiceWithDependents>
    };
    listening.iter().enumerate().map(one).collect()
}

/// Every change of a backend swaps the picture that later requests see.
fn watch_health(config: &Config, farm: &Arc<ArcSwap<Farm>>, metrics: &Arc<Metrics>) -> FarmHealth {
    let health = FarmHealth::new(Arc::clone(metrics));
    let built = farm.load();
    let specs: Vec<_> = (0u32..)
        .map(BackendId)
        .zip(&config.backends)
        .map(|(id, backend)| {
            BackendSpec::new(id, backend, built.address(id), config).secured(built.tls(id))
        })
        .collect();
    health.apply(&specs);
    let (farm, revised) = (Arc::clone(farm), health.clone());
    health.on_change(move |_| {
        farm.rcu(|farm| farm.revised(&revised));
    });
    health
}

fn count_sessions(metrics: &Metrics, sessions: &Arc<Sessions>, config: &Config) {
    metrics.set_sessions_limit(config.sessions.limit);
    let sessions = Arc::clone(sessions);
    metrics.count_sessions_with(Box::new(move || {
        let census = sessions.census(clock::now());
        (0u32..).map(BackendId).zip(census).map(|(id, c)| (id, c.active, c.idle)).collect()
    }));
}

/// Ends the sessions that nobody has touched for too long.
fn sweep(
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

type SweepTask = std::pin::Pin<Box<dyn Future<Output = crate::supervisor::TaskResult> + Send>>;

fn format(config: &Config) -> Format {
    match config.log.format {
        config::LogFormat::Json => Format::Json,
        config::LogFormat::Text => Format::Text,
    }
}

fn level(config: &Config) -> LogLevel {
    match config.log.level {
        config::Level::Error => LogLevel::Error,
        config::Level::Warn => LogLevel::Warn,
        config::Level::Info => LogLevel::Info,
        config::Level::Debug => LogLevel::Debug,
        config::Level::Trace => LogLevel::Trace,
    }
}
