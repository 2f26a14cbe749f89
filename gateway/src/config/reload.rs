//! Taking over a changed configuration, or leaving everything as it is.

mod drift;
mod preview;
mod told;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::{fmt, fs, io, thread};

use parking_lot::Mutex;
use serde_json::{Value as Json, json};
use sha2::{Digest, Sha256};

use crate::base::clock;
use crate::config::address::BackendAddress;
use crate::config::diff::{self, Change, diff};
use crate::config::draft::Draft;
use crate::config::limits::Limits;
use crate::config::listeners::Listener;
use crate::config::load::{LoadError, Loaded};
use crate::config::log::Log;
use crate::config::report::Place;
use crate::config::resolve::Config;
use crate::config::sessions::Sessions;
use crate::config::timeouts::Timeouts;
use crate::config::{self, without_file};
use crate::process::notify_systemd::Notifier;
use crate::telemetry::events::Events;
use crate::telemetry::metrics::Metrics;

pub use preview::Preview;

/// Puts a configuration in force, in one step: is given what is in force and what is to be. What
/// needs a restart is in both as the process has it. An error leaves everything as it was, and says
/// why.
pub type Apply = Box<dyn Fn(&Config, &Config, &[Change]) -> Result<(), String> + Send + Sync>;

/// Reads the files again that a configuration names and that are not part of it, whether it has
/// changed or not. Returns what is wrong with them; then what was in them before counts.
pub type Reread = Box<dyn Fn() -> Option<String> + Send + Sync>;

/// Where a configuration comes from.
#[derive(Debug, Clone)]
pub struct Source {
    /// Of the file, or what the text is called where there is none.
    pub path: PathBuf,
    /// What counts in place of a file.
    pub text: Option<String>,
    /// The environment of the process.
    pub variables: Vec<(OsString, OsString)>,
}

impl Source {
    /// A file, corrected by the environment that we have.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), text: None, variables: std::env::vars_os().collect() }
    }

    /// A listener and backends that the command line names, corrected by the environment.
    pub fn of_backends(listen: SocketAddr, backends: &[BackendAddress]) -> Self {
        let text = Some(without_file::text(listen, backends));
        Self { text, ..Self::new(without_file::NAME) }
    }

    pub fn load(&self) -> Result<Loaded, LoadError> {
        let variables = self.variables.iter().cloned();
        match &self.text {
            None => config::load_to_run(&self.path, variables),
            Some(text) => config::text_to_run(&self.path, text, variables),
        }
    }
}

/// Who wanted it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Trigger {
    Signal,
    File,
    Admin,
}

impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Signal => "signal",
            Self::File => "file",
            Self::Admin => "admin",
        })
    }
}

/// How an attempt went.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Reload {
    /// Unix milliseconds.
    pub at: u64,
    pub trigger: Trigger,
    /// Why nothing has changed: the whole picture, of several lines.
    pub error: Option<String>,
    /// What differs from the configuration before, as far as it is good.
    pub changed: Vec<Change>,
    /// What the file has other than the process was started with, since whichever reload.
    pub needs_restart: Vec<Change>,
    /// What `check` would warn about.
    pub warnings: Vec<String>,
    /// What `check --json` would find, good or not.
    pub findings: Json,
    /// Of the configuration in force, in hexadecimal digits.
    pub hash: String,
}

impl Reload {
    pub fn is_good(&self) -> bool {
        self.error.is_none()
    }
}

/// The one way to a new configuration, for signals, file changes and administrators. Clones share
/// it; attempts happen one after the other.
#[derive(Clone)]
pub struct Reloader {
    inner: Arc<Inner>,
    ask: SyncSender<Trigger>,
}

struct Inner {
    source: Source,
    apply: Apply,
    reread: Reread,
    metrics: Option<Arc<Metrics>>,
    events: Events,
    notifier: Notifier,
    state: Mutex<State>,
    last: Mutex<Option<Arc<Reload>>>,
}

struct State {
    /// With which the process was started.
    started: Loaded,
    /// The last good file.
    current: Loaded,
    /// `current`, but for what needs a restart.
    in_force: Config,
    /// Of the file at the last attempt, good or not.
    seen: Option<Fingerprint>,
    looked: drift::Looked,
}

type Fingerprint = [u8; 32];

impl Reloader {
    /// `loaded` is what the process runs with.
    ///
    /// # Errors
    /// There is no thread for it.
    pub fn new(
        source: Source,
        loaded: Loaded,
        metrics: Option<Arc<Metrics>>,
        events: Events,
        notifier: Notifier,
        apply: Apply,
        reread: Reread,
    ) -> io::Result<Self> {
        if let Some(metrics) = &metrics {
            metrics.config_loaded(diff::hash(&loaded.draft), clock::now().0 / 1000);
        }
        let text = &loaded.report.source(&Place { source: 0, span: 0..0 }).text;
        let state = State {
            seen: Some(Sha256::digest(text.as_bytes()).into()),
            in_force: loaded.config.clone(),
            current: loaded.clone(),
            started: loaded,
            looked: None,
        };
        let (state, last) = (Mutex::new(state), Mutex::new(None));
        let inner =
            Arc::new(Inner { source, apply, reread, metrics, events, notifier, state, last });
        // Whoever comes while an attempt runs is served by one more; a third would see nothing new.
        let (ask, asked) = sync_channel(1);
        let worker = Arc::clone(&inner);
        thread::Builder::new().name("reload".to_owned()).spawn(move || {
            while let Ok(trigger) = asked.recv() {
                worker.reload(trigger);
            }
        })?;
        Ok(Self { inner, ask })
    }

    pub fn path(&self) -> &Path {
        &self.inner.source.path
    }

    /// Whether there is a file that may change.
    pub fn has_file(&self) -> bool {
        self.inner.source.text.is_none()
    }

    /// Begins an attempt and does not wait for it.
    pub fn request(&self, trigger: Trigger) {
        match self.ask.try_send(trigger) {
            Ok(()) | Err(TrySendError::Full(_)) => {}
            Err(TrySendError::Disconnected(_)) => {
                tracing::error!("the thread for reloads has ended, restart to apply");
            }
        }
    }

    /// Makes an attempt. Blocks: for a runtime this is `spawn_blocking`.
    pub fn reload(&self, trigger: Trigger) -> Arc<Reload> {
        self.inner.reload(trigger)
    }

    /// Makes an attempt if the file is another than at the last one. Blocks.
    pub fn reload_if_changed(&self, trigger: Trigger) -> Option<Arc<Reload>> {
        let mut state = self.inner.state.lock();
        if fingerprint(self.path()) == state.seen {
            return None;
        }
        Some(self.inner.attempt(&mut state, trigger))
    }

    /// The last attempt.
    pub fn last(&self) -> Option<Arc<Reload>> {
        self.inner.last.lock().clone()
    }
}

impl Inner {
    fn reload(&self, trigger: Trigger) -> Arc<Reload> {
        self.attempt(&mut self.state.lock(), trigger)
    }

    fn attempt(&self, state: &mut State, trigger: Trigger) -> Arc<Reload> {
        self.notifier.reloading();
        state.looked = None;
        // Before the file is read: what is written into it later is news.
        state.seen = fingerprint(&self.source.path);
        let mut reload = Reload {
            at: clock::now().0,
            trigger,
            error: None,
            changed: Vec::new(),
            needs_restart: Vec::new(),
            warnings: Vec::new(),
            findings: Json::Array(Vec::new()),
            hash: String::new(),
        };
        if let Err(Refused { text, findings }) = self.apply(state, &mut reload) {
            (reload.error, reload.findings) = (Some(text), findings);
        }
        let hash = diff::hash(&state.current.draft);
        reload.hash = format!("{hash:012x}");
        if let Some(metrics) = &self.metrics {
            metrics.config_reloaded(reload.is_good());
            if reload.is_good() {
                metrics.config_loaded(hash, reload.at / 1000);
            }
        }
        tell(&reload, &self.source.path);
        self.events.tell(told::event(&reload));
        self.notifier.ready(&status(&reload));
        let reload = Arc::new(reload);
        *self.last.lock() = Some(Arc::clone(&reload));
        reload
    }

    fn apply(&self, state: &mut State, reload: &mut Reload) -> Result<(), Refused> {
        let loaded = self.source.load().map_err(refused)?;
        reload.warnings = loaded.report.lines();
        reload.findings = loaded.report.to_json();
        reload.changed = diff(&state.current.draft, &loaded.draft);
        reload.needs_restart = fixed(&state.started.draft, &loaded.draft);
        let new = with_fixed(&state.started.config, loaded.config.clone());
        if reload.changed.iter().any(|change| !change.needs_restart) {
            let apply = || (self.apply)(&state.in_force, &new, &reload.changed);
            catch_unwind(AssertUnwindSafe(apply))
                .unwrap_or_else(|_| Err("applying it panicked, see the log".to_owned()))
                .map_err(|error| Refused {
                    text: format!("the configuration is good but cannot be applied: {error}"),
                    findings: reload.findings.clone(),
                })?;
        }
        state.in_force = new;
        state.current = loaded;
        // After the file: a reload that it refuses changes nothing at all.
        if let Some(warning) = (self.reread)() {
            if let Json::Array(findings) = &mut reload.findings {
                findings.push(json!({
                    "severity": "warning", "message": warning, "help": null, "places": [],
                }));
            }
            reload.warnings.push(warning);
        }
        Ok(())
    }
}

/// `new` with everything that the process cannot change as it was at the start. See
/// [`Applies`](crate::config::keys::Applies).
fn with_fixed(started: &Config, new: Config) -> Config {
    let Log { format, access, .. } = started.log.clone();
    let Limits { connections, bound_connections, .. } = started.limits;
    let listeners = started.listeners.iter().map(|listener| {
        let same = new.listeners.iter().find(|other| other.name == listener.name);
        // One that is to go serves as it did until the next start.
        let access = same.unwrap_or(listener).access.clone();
        Listener { access, ..listener.clone() }
    });
    Config {
        listeners: listeners.collect(),
        store: started.store.clone(),
        ops: started.ops.clone(),
        admin: started.admin.clone(),
        process: started.process.clone(),
        log: Log { format, access, ..new.log },
        limits: Limits { connections, bound_connections, ..new.limits },
        sessions: Sessions { ask_rate: started.sessions.ask_rate, ..new.sessions },
        timeouts: Timeouts { ask: started.timeouts.ask, ..new.timeouts },
        ..new
    }
}

fn fingerprint(path: &Path) -> Option<Fingerprint> {
    fs::read(path).ok().map(|bytes| Sha256::digest(bytes).into())
}

/// Why a file is not taken over.
#[derive(Debug, Clone)]
pub struct Refused {
    /// The whole picture, of several lines.
    pub text: String,
    /// As `check --json` has them.
    pub findings: Json,
}

fn refused(error: LoadError) -> Refused {
    match &error {
        LoadError::Invalid { report, .. } => Refused {
            text: format!("{error}\n{}", report.render(false).trim_end()),
            findings: report.to_json(),
        },
        _ => Refused { text: error.to_string(), findings: Json::Array(Vec::new()) },
    }
}

/// What is other than it was at the start, and stays so until a restart.
fn fixed(started: &Draft, new: &Draft) -> Vec<Change> {
    let mut changes = diff(started, new);
    changes.retain(|change| change.needs_restart);
    changes
}

fn tell(reload: &Reload, path: &Path) {
    let (path, trigger) = (path.display(), reload.trigger);
    for warning in &reload.warnings {
        tracing::warn!("configuration: {warning}");
    }
    if let Some(error) = &reload.error {
        reload.findings.as_array().into_iter().flatten().for_each(tell_finding);
        // The pictures below that are for people at a terminal.
        let error = error.lines().next();
        tracing::error!(
            %path,
            %trigger,
            error,
            "the new configuration is not used, the old one stays in force"
        );
        return;
    }
    for change in &reload.changed {
        let Change { key, before, after, needs_restart } = change;
        let (before, after) = (before.as_deref(), after.as_deref());
        tracing::info!(key, before, after, needs_restart, "configuration changed");
    }
    for change in &reload.needs_restart {
        tracing::warn!(
            key = change.key,
            "restart to apply, or upgrade with the sockets handed over"
        );
    }
    let changed = reload.changed.len();
    tracing::info!(%path, %trigger, changed, hash = reload.hash, "configuration loaded");
}

/// One line each, as at a start.
fn tell_finding(finding: &Json) {
    let text = |key: &str| finding[key].as_str();
    let place = &finding["places"][0];
    let of_file = || {
        let (file, line, column) = (place["file"].as_str()?, &place["line"], &place["column"]);
        Some(format!("{file}:{line}:{column}"))
    };
    let at = of_file().or_else(|| place["env"].as_str().map(str::to_owned));
    let (at, label, help) = (at.as_deref(), place["label"].as_str(), text("help"));
    let message = text("message").unwrap_or_default();
    match text("severity") {
        Some("warning") => tracing::warn!(at, label, help, "configuration: {message}"),
        _ => tracing::error!(at, label, help, "configuration: {message}"),
    }
}

fn status(reload: &Reload) -> String {
    match (reload.is_good(), reload.needs_restart.len()) {
        (false, _) => "serving; the last reload failed, the old configuration stays".to_owned(),
        (true, 0) => "serving".to_owned(),
        (true, count) => format!("serving; restart to apply {count} changed keys"),
    }
}

#[cfg(test)]
mod tests;
