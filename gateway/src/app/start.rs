//! What can fail before the first socket is opened.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::admin;
use crate::base::backend_ids::BackendIds;
use crate::config::token::{Token, TokenError};
use crate::config::{self, Config, Loaded};
use crate::exchange::report::Reporter;
use crate::farm::{Farm, FarmError};
use crate::process::supervisor::{Bound, Chain, Exit, Supervisor};
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::events::Events;
use crate::telemetry::log::Format;
use crate::telemetry::log_writer::{Destination, FlushGuard};
use crate::telemetry::metrics::{LogLevel, Metrics};
use crate::tls::certificates::{self, CertificateError};

/// Why a gateway with a legal configuration did not start.
#[derive(Debug, thiserror::Error)]
pub(super) enum StartError {
    #[error(transparent)]
    Farm(#[from] FarmError),
    #[error("the access log {destination} cannot be opened: {source}")]
    AccessLog { destination: Destination, source: std::io::Error },
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error(transparent)]
    Tls(#[from] CertificateError),
}

impl StartError {
    pub fn exit(&self) -> Exit {
        match self {
            Self::Token(_) => Exit::Config,
            Self::Tls(CertificateError { source, .. })
            | Self::Farm(FarmError::Tls { source, .. }) => {
                source.unread().map_or(Exit::Config, Exit::unread)
            }
            Self::AccessLog { .. } => Exit::Io,
        }
    }
}

/// What can fail before the first socket.
pub(super) struct Parts {
    pub farm: Farm,
    pub reporter: Reporter,
    pub access: AccessLog,
    /// Who gets in to the admin listener.
    pub admin_access: admin::Access,
    pub admin_tls: certificates::LoadedCertificates,
    pub listeners: Vec<certificates::LoadedCertificates>,
    _flush: Option<FlushGuard>,
}

pub(super) fn start(
    config: &Config,
    metrics: &Arc<Metrics>,
    ids: Arc<BackendIds>,
    events: Events,
) -> Result<Parts, StartError> {
    let farm = Farm::build(Arc::new(config.clone()), &ids, &[], None)?;
    let destination = match &config.log.access {
        config::AccessLogPlace::Off => None,
        config::AccessLogPlace::Stdout => Some(Destination::Stdout),
        config::AccessLogPlace::File(path) => Some(Destination::File(path.clone())),
    };
    let (access, flush) = match destination {
        None => (AccessLog::off(), None),
        Some(destination) => {
            let opened = AccessLog::open(destination.clone(), metrics.logs());
            let (access, guard) =
                opened.map_err(|source| StartError::AccessLog { destination, source })?;
            access.keep(config.log.access_filter);
            (access, Some(guard))
        }
    };
    let reporter = Reporter::new(Arc::clone(metrics), access.clone(), ids, events);
    let token = |file: &Option<PathBuf>| {
        let file = file.as_deref().filter(|_| config.admin.address.is_some());
        file.map(Token::read).transpose()
    };
    let admin_access = admin::Access {
        hosts: config.admin.hosts.clone(),
        operator: token(&config.admin.token_file)?,
        viewer: token(&config.admin.viewer_token_file)?,
    };
    let listeners =
        certificates::load(config.listeners.iter().map(|l| (l.name.as_str(), l.tls.as_ref())))?;
    let admin_tls = certificates::load([(admin::ADMIN, config.admin.tls.as_ref())])?.remove(0);
    Ok(Parts { farm, reporter, access, admin_access, admin_tls, listeners, _flush: flush })
}

pub(super) fn cannot_start(error: &dyn std::fmt::Display, exit: Exit) -> Exit {
    tracing::error!(%error, "the gateway cannot start");
    exit
}

/// The listening sockets, new ones or those of the running process.
pub(super) fn open(
    supervisor: &Supervisor,
    addresses: &[(String, SocketAddr)],
    upgrade: bool,
    upgrade_socket: Option<&Path>,
) -> Result<Bound, Exit> {
    match (upgrade, upgrade_socket) {
        (false, _) => {
            supervisor.bind(addresses).map_err(|error| cannot_start(&error, error.exit()))
        }
        (true, Some(path)) => {
            let taken = supervisor.take_over(path, addresses);
            taken.map_err(|error| cannot_start(&Chain(&error), error.exit()))
        }
        (true, None) => {
            let error = "there is no upgrade socket: set process.upgrade_socket or \
                         RUNTIME_DIRECTORY, for the running process too";
            Err(cannot_start(&error, Exit::Config))
        }
    }
}

/// What a configuration makes of a process, for the lines of its start.
pub(super) struct About {
    /// As they are configured; which ports came of it, each says itself.
    pub listeners: String,
    pub admin_socket: Option<String>,
    pub store: String,
}

impl About {
    pub fn of(config: &Config) -> Self {
        let traffic = config.listeners.iter().map(|l| (&*l.name, l.address));
        let ops = config.ops.address.map(|address| (super::OPS, address));
        let admin = config.admin.address.map(|address| (admin::ADMIN, address));
        let listeners: Vec<String> =
            traffic.chain(ops).chain(admin).map(|(name, at)| format!("{name} {at}")).collect();
        Self {
            listeners: listeners.join(", "),
            admin_socket: config.admin.socket.as_ref().map(|path| path.display().to_string()),
            store: match &config.store {
                config::Store::Memory => "memory".to_owned(),
                config::Store::Sqlite(store) => store.path.display().to_string(),
            },
        }
    }
}

/// As it is configured, or else as whoever reads it likes it.
pub(super) fn format(loaded: &Loaded) -> Format {
    let given = loaded.draft.once("log").is_given("format").then_some(loaded.config.log.format);
    match given.unwrap_or_else(config::LogFormat::by_default) {
        config::LogFormat::Json => Format::Json,
        config::LogFormat::Text => Format::Text,
    }
}

pub(super) fn level(config: &Config) -> LogLevel {
    match config.log.level {
        config::Level::Error => LogLevel::Error,
        config::Level::Warn => LogLevel::Warn,
        config::Level::Info => LogLevel::Info,
        config::Level::Debug => LogLevel::Debug,
        config::Level::Trace => LogLevel::Trace,
    }
}
