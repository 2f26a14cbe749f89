//! Taking over a changed configuration, or leaving everything as it is.

use std::ffi::OsString;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::{fmt, fs, io, thread};

use parking_lot::Mutex;
use sha2::{Digest, Sha256};

use crate::clock;
use crate::config::diff::{self, Change, diff};
use crate::config::report::Place;
use crate::config::{self, Config, Limits, LoadError, Loaded, Log, Sessions, Timeouts};
use crate::metrics::Metrics;
use crate::notify_systemd::Notifier;

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
    pub path: PathBuf,
    /// The environment of the process.
    pub variables: Vec<(OsString, OsString)>,
}

impl Source {
    /// A file, corrected by the environment that we have.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), variables: std::env::vars_os().collect() }
    }

    pub fn load(&self) -> Result<Loaded, LoadError> {
        config::load_to_run(&self.path, self.variables.iter().cloned())
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
        };
        let (state, last) = (Mutex::new(state), Mutex::new(None));
        let inner = Arc::new(Inner { source, apply, reread, metrics, notifier, state, last });
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
        // Before the file is read: what is written into it later is news.
        state.seen = fingerprint(&self.source.path);
        let mut reload = Reload {
            at: clock::now().0,
            trigger,
            error: None,
            changed: Vec::new(),
            needs_restart: Vec::new(),
            warnings: Vec::new(),
            hash: String::new(),
        };
        if let Err(error) = self.take_over(state, &mut reload) {
            reload.error = Some(error);
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
        self.notifier.ready(&status(&reload));
        let reload = Arc::new(reload);
        *self.last.lock() = Some(Arc::clone(&reload));
        reload
    }

    fn take_over(&self, state: &mut State, reload: &mut Reload) -> Result<(), String> {
        let loaded = self.source.load().map_err(picture)?;
        reload.warnings = loaded.report.lines();
        reload.changed = diff(&state.current.draft, &loaded.draft);
        reload.needs_restart = diff(&state.started.draft, &loaded.draft);
        reload.needs_restart.retain(|change| change.needs_restart);
        let new = with_fixed(&state.started.config, loaded.config.clone());
        if reload.changed.iter().any(|change| !change.needs_restart) {
            let apply = || (self.apply)(&state.in_force, &new, &reload.changed);
            catch_unwind(AssertUnwindSafe(apply))
                .unwrap_or_else(|_| Err("applying it panicked, see the log".to_owned()))
                .map_err(|error| {
                    format!("the configuration is good but cannot be applied: {error}")
                })?;
        }
        state.in_force = new;
        state.current = loaded;
        // After the file: a reload that it refuses changes nothing at all.
        reload.warnings.extend((self.reread)());
        Ok(())
    }
}

/// `new` with everything that the process cannot change as it was at the start. See
/// [`diff::needs_restart`].
fn with_fixed(started: &Config, new: Config) -> Config {
    let Log { format, access, .. } = started.log.clone();
    let Limits { connections, bound_connections, .. } = started.limits;
    Config {
        listeners: started.listeners.clone(),
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

fn picture(error: LoadError) -> String {
    match &error {
        LoadError::Invalid { report, .. } => {
            format!("{error}\n{}", report.render(false).trim_end())
        }
        _ => error.to_string(),
    }
}

fn tell(reload: &Reload, path: &Path) {
    let (path, trigger) = (path.display(), reload.trigger);
    for warning in &reload.warnings {
        tracing::warn!("configuration: {warning}");
    }
    if let Some(error) = &reload.error {
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

fn status(reload: &Reload) -> String {
    match (reload.is_good(), reload.needs_restart.len()) {
        (false, _) => "serving; the last reload failed, the old configuration stays".to_owned(),
        (true, 0) => "serving".to_owned(),
        (true, count) => format!("serving; restart to apply {count} changed keys"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tempfile::TempDir;

    use super::*;

    /// Configurations that were put in force: old and new weight of the backend.
    type Applied = Arc<Mutex<Vec<(u32, u32)>>>;

    struct Bench {
        folder: TempDir,
        metrics: Arc<Metrics>,
        reloader: Reloader,
        applied: Applied,
        /// How often other files were read.
        reread: Arc<AtomicUsize>,
    }

    fn file(weight: u32, more: &str) -> String {
        format!(
            "[listeners.public]\naddress = \"127.0.0.1:8080\"\n{more}\n\
             [[backends]]\nname = \"up01\"\naddress = \"127.0.0.1:9001\"\nweight = {weight}\n"
        )
    }

    impl Bench {
        /// Weight 13 cannot be applied, weight 14 panics.
        fn new() -> Self {
            let folder = tempfile::tempdir().expect("a temporary directory");
            let path = folder.path().join("gw.toml");
            fs::write(&path, file(1, "")).expect("written");
            let source = Source { path, variables: Vec::new() };
            let loaded = source.load().expect("a good file");
            let metrics = Metrics::new(&[], &[]);
            let applied = Applied::default();
            let seen = Arc::clone(&applied);
            let apply: Apply = Box::new(move |old, new, _| {
                match new.backends[0].weight {
                    13 => return Err("no such luck".to_owned()),
                    14 => panic!("worse"),
                    _ => {}
                }
                assert_eq!(old.listeners, new.listeners, "fixed");
                seen.lock().push((old.backends[0].weight, new.backends[0].weight));
                Ok(())
            });
            let counted = Some(Arc::clone(&metrics));
            let reread = Arc::new(AtomicUsize::new(0));
            let count = Arc::clone(&reread);
            let reading: Reread = Box::new(move || {
                count.fetch_add(1, Ordering::Relaxed);
                Some("not a certificate".to_owned())
            });
            let notifier = Notifier::default();
            let reloader = Reloader::new(source, loaded, counted, notifier, apply, reading);
            Self { folder, metrics, reloader: reloader.expect("a thread"), applied, reread }
        }

        fn write(&self, text: &str) {
            fs::write(self.folder.path().join("gw.toml"), text).expect("written");
        }

        fn reload(&self, text: &str) -> Arc<Reload> {
            self.write(text);
            self.reloader.reload(Trigger::Signal)
        }

        #[track_caller]
        fn expect_metric(&self, line: &str) {
            let text = self.metrics.encode();
            assert!(text.lines().any(|seen| seen == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn a_good_file_is_applied_once() {
        let bench = Bench::new();
        let reload = bench.reload(&file(2, ""));
        assert_eq!(reload.error, None);
        assert_eq!(reload.changed[0].to_string(), "backends.up01.weight: 1 -> 2");
        let again = bench.reloader.reload(Trigger::Admin);
        assert!(again.is_good() && again.changed.is_empty());
        assert_eq!(again.hash, reload.hash);
        assert_eq!(*bench.applied.lock(), [(1, 2)]);
        bench.expect_metric("bitsgw_config_last_reload_successful 1");
        bench.expect_metric("bitsgw_config_reloads_total{result=\"success\"} 2");
        let hash = u64::from_str_radix(&reload.hash, 16).expect("a number");
        bench.expect_metric(&format!("bitsgw_config_hash {hash}"));
    }

    #[test]
    fn other_files_are_read_again_with_every_good_file_and_with_no_other() {
        let bench = Bench::new();
        let reload = bench.reloader.reload(Trigger::Signal);
        assert!(reload.is_good() && reload.changed.is_empty());
        assert_eq!(reload.warnings.last().map(String::as_str), Some("not a certificate"));
        bench.reload(&file(0, ""));
        bench.reload(&file(13, ""));
        assert_eq!(bench.reread.load(Ordering::Relaxed), 1);
        bench.reload(&file(2, ""));
        assert_eq!(bench.reread.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn a_bad_file_changes_nothing_and_shows_every_mistake() {
        let bench = Bench::new();
        bench.reload(&file(2, ""));
        let hash = bench.reloader.last().expect("an attempt").hash.clone();
        let reload = bench.reload(&file(0, "[limits]\nfragments = 3"));
        let error = reload.error.as_deref().expect("it is bad");
        assert!(error.contains("weight") && error.contains("fragments"), "{error}");
        assert!(error.contains("gw.toml:4"), "{error}");
        assert_eq!(reload.hash, hash, "that of what is in force");
        bench.expect_metric("bitsgw_config_last_reload_successful 0");
        bench.expect_metric("bitsgw_config_reloads_total{result=\"failure\"} 1");
        bench.reload(&file(3, ""));
        assert_eq!(*bench.applied.lock(), [(1, 2), (2, 3)]);
        bench.expect_metric("bitsgw_config_last_reload_successful 1");
    }

    #[test]
    fn what_cannot_be_applied_leaves_the_old_one_in_force() {
        let bench = Bench::new();
        for weight in [13, 14] {
            let reload = bench.reload(&file(weight, ""));
            let error = reload.error.as_deref().expect("not applied");
            assert!(error.contains("cannot be applied"), "{error}");
        }
        assert!(bench.reload(&file(5, "")).is_good());
        assert_eq!(*bench.applied.lock(), [(1, 5)]);
    }

    #[test]
    fn what_needs_a_restart_is_not_applied_and_not_forgotten() {
        let bench = Bench::new();
        let reload = bench.reload(&file(1, "[log]\nformat = \"text\""));
        assert!(reload.is_good());
        assert_eq!(reload.needs_restart.len(), 1);
        assert!(bench.applied.lock().is_empty());
        let reload = bench.reload(&file(2, "[log]\nformat = \"text\""));
        assert_eq!(reload.changed.len(), 1, "since the last time");
        assert_eq!(reload.needs_restart[0].key, "log.format", "since the start");
        assert!(bench.reload(&file(2, "")).needs_restart.is_empty(), "taken back");
    }

    #[test]
    fn a_file_that_is_the_same_is_not_tried_again() {
        let bench = Bench::new();
        let tried = || bench.reloader.reload_if_changed(Trigger::File).is_some();
        assert!(!tried());
        bench.write(&file(2, ""));
        assert!(tried() && !tried());
        bench.write("junk");
        assert!(tried() && !tried());
        fs::remove_file(bench.reloader.path()).expect("removed");
        assert!(tried() && !tried());
        assert!(bench.reloader.last().expect("an attempt").error.is_some());
        bench.write(&file(2, ""));
        assert!(tried());
        assert!(bench.reloader.last().expect("an attempt").is_good());
    }

    #[test]
    fn a_result_is_json() {
        let bench = Bench::new();
        let json = serde_json::to_value(&*bench.reload(&file(2, ""))).expect("JSON");
        assert_eq!(json["trigger"], "signal");
        assert_eq!(json["error"], serde_json::Value::Null);
        assert_eq!(json["changed"][0]["key"], "backends.up01.weight");
    }
}
