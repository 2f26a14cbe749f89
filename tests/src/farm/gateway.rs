//! A `bits-gateway` process.

mod life;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::{Mutex, MutexGuard};

use rustix::process::Signal;
use serde_json::Value;

use super::config::{BackendEntry, Config};
use super::http;
use super::metrics::{self, Sample};
use super::process::{Process, read};
use crate::client::Answer;
use crate::ports::Port;
use crate::{binaries, wait};

/// The program under test. Its ports survive restarts.
pub struct Gateway {
    directory: PathBuf,
    environment: Vec<(String, String)>,
    /// Program and arguments that start it, see [`super::FarmBuilder::under`].
    under: Vec<String>,
    state: Mutex<State>,
}

struct State {
    config: Config,
    backends: Vec<BackendEntry>,
    ports: BTreeMap<String, Port>,
    /// As the ready file says.
    listeners: BTreeMap<String, SocketAddr>,
    process: Option<Process>,
}

impl Gateway {
    pub fn start_new(
        config: Config,
        backends: Vec<BackendEntry>,
        environment: Vec<(String, String)>,
        under: Vec<String>,
        directory: &Path,
    ) -> Self {
        let (ports, listeners) = (BTreeMap::new(), BTreeMap::new());
        let state = State { config, backends, ports, listeners, process: None };
        let directory = directory.to_path_buf();
        let gateway = Self { directory, environment, under, state: Mutex::new(state) };
        gateway.start();
        gateway
    }

    /// Writes the configuration, starts the process and waits until every listener accepts.
    #[track_caller]
    pub fn start(&self) {
        let ready = self.directory.join("gateway.ready");
        let mut state = self.state();
        assert!(state.process.is_none(), "the gateway runs already");
        // A leftover of the run before would count as ready.
        if let Err(error) = std::fs::remove_file(&ready) {
            assert!(!ready.exists(), "cannot remove {}: {error}", ready.display());
        }
        self.write_config(&mut state);
        let process = state.process.insert(self.spawn(&[]));
        let parsed = wait::some("the gateway is ready", || {
            process.expect_running();
            self.ready_file()
        });
        let listeners = parsed["listeners"].as_object();
        let listeners = listeners.unwrap_or_else(|| panic!("no listeners in {parsed}"));
        state.listeners = listeners
            .iter()
            .map(|(name, address)| {
                let address = address.as_str().and_then(|address| address.parse().ok());
                let address = address.unwrap_or_else(|| panic!("listener {name} in {parsed}"));
                (name.clone(), address)
            })
            .collect();
    }

    /// Starts a process that is expected to end by itself: its exit code, and what it said.
    #[track_caller]
    pub fn fail_to_start(&self) -> (Option<i32>, String) {
        let state = self.state();
        assert!(state.process.is_none(), "the gateway runs already");
        let output = Command::new(binaries::gateway())
            .arg("run")
            .arg("--config")
            .arg(self.config_file())
            .envs(self.environment.iter().cloned())
            .output()
            .expect("the gateway's binary runs");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// SIGKILL: what a crash does.
    pub fn kill(&self) {
        // Dropping it kills it and waits for its end.
        self.state().process.take();
    }

    /// SIGTERM, and waits for the end of the drain.
    #[track_caller]
    pub fn terminate(&self) -> ExitStatus {
        let process = self.state().process.take();
        let mut process = process.expect("the gateway runs");
        process.signal(Signal::TERM);
        process.wait()
    }

    /// SIGKILL and start.
    #[track_caller]
    pub fn restart(&self) {
        self.kill();
        self.start();
    }

    pub fn signal(&self, signal: Signal) {
        if let Some(process) = &mut self.state().process {
            process.signal(signal);
        }
    }

    /// The exit status once it has ended by itself or after [`signal`](Self::signal).
    #[track_caller]
    pub fn wait_ended(&self) -> ExitStatus {
        let process = self.state().process.take();
        process.expect("the gateway runs").wait()
    }

    /// Changes the settings for the next start or reload; nothing is signalled.
    #[track_caller]
    pub fn configure(&self, change: impl FnOnce(&mut super::Settings)) {
        let mut state = self.state();
        change(state.config.settings());
        self.write_config(&mut state);
    }

    /// For the next start: the same backend under another name.
    pub fn rename_backend(&self, from: &str, to: &str) {
        let mut state = self.state();
        for backend in state.backends.iter_mut().filter(|backend| backend.name == from) {
            backend.name = to.to_owned();
        }
        self.write_config(&mut state);
    }

    pub fn config_file(&self) -> PathBuf {
        self.directory.join("gateway.toml")
    }

    pub fn is_running(&self) -> bool {
        self.state().process.as_mut().is_some_and(Process::is_running)
    }

    #[track_caller]
    pub fn pid(&self) -> u32 {
        self.state().process.as_ref().expect("the gateway runs").pid()
    }

    /// Resident memory.
    #[track_caller]
    pub fn rss_bytes(&self) -> u64 {
        let state = self.state();
        let process = state.process.as_ref().expect("the gateway runs");
        process.rss_bytes().expect("a running process has a statm")
    }

    /// Of `[listeners.NAME]`, or of `ops`.
    #[track_caller]
    pub fn listener(&self, name: &str) -> SocketAddr {
        let listeners = &self.state().listeners;
        *listeners.get(name).unwrap_or_else(|| panic!("no listener {name} in {listeners:?}"))
    }

    /// Every listener but `ops` and `admin`.
    pub fn traffic_listeners(&self) -> Vec<SocketAddr> {
        let state = self.state();
        let traffic =
            |(name, _): &(&String, &SocketAddr)| !["ops", "admin"].contains(&name.as_str());
        state.listeners.iter().filter(traffic).map(|(_, address)| *address).collect()
    }

    /// The listener `public`.
    #[track_caller]
    pub fn address(&self) -> SocketAddr {
        self.listener("public")
    }

    #[track_caller]
    pub fn ops(&self, target: &str) -> Answer {
        http::request(self.listener("ops"), "GET", target, "")
    }

    #[track_caller]
    pub fn metrics(&self) -> Vec<Sample> {
        let answer = self.ops("/metrics");
        assert_eq!(answer.status, 200, "{}", answer.body_text());
        metrics::parse(&answer.body_text())
    }

    /// Lines of standard output, over all runs: one per request, one per ended upload.
    pub fn access_log(&self) -> Vec<Value> {
        let text = read(&self.directory.join("gateway.out"));
        // The last line may be half written.
        let whole = &text[..text.rfind('\n').map_or(0, |at| at + 1)];
        whole
            .lines()
            .map(|line| {
                serde_json::from_str(line)
                    .unwrap_or_else(|error| panic!("access log: {error} in {line:?}"))
            })
            .collect()
    }

    /// Packets that Pingora carried, by their lines in the access log. There are none: whatever a test
    /// does, the relay has them all.
    pub fn packets_on_proxy(&self) -> Vec<String> {
        let text = read(&self.directory.join("gateway.out"));
        // What clients say has its quotation marks escaped.
        let on_proxy = |line: &&str| {
            line.contains(r#""carrier":"proxy""#) && !line.contains(r#""packet":"other""#)
        };
        text.lines().filter(on_proxy).map(str::to_owned).collect()
    }

    /// Standard error, over all runs.
    pub fn log(&self) -> String {
        read(&self.directory.join("gateway.err"))
    }

    /// Waits for a line with this text: a thread of its own writes the log, some time after.
    #[track_caller]
    pub fn expect_logged(&self, text: &str) {
        wait::until(&format!("{text:?} is in the log"), || self.log().contains(text));
    }

    fn spawn(&self, arguments: &[&str]) -> Process {
        let mut command = match &self.under[..] {
            [] => Command::new(binaries::gateway()),
            [program, arguments @ ..] => {
                let mut command = Command::new(program);
                command.args(arguments).arg(binaries::gateway());
                command
            }
        };
        command
            .arg("run")
            .arg("--config")
            .arg(self.config_file())
            .arg("--ready-file")
            .arg(self.directory.join("gateway.ready"))
            .args(arguments)
            .envs(self.environment.iter().cloned());
        Process::start(command, "gateway", &self.directory)
    }

    /// What the ready file says; `None` if there is none.
    fn ready_file(&self) -> Option<Value> {
        let text = std::fs::read_to_string(self.directory.join("gateway.ready")).ok()?;
        let parsed = serde_json::from_str(&text);
        Some(parsed.unwrap_or_else(|error| panic!("ready file: {error} in {text:?}")))
    }

    fn write_config(&self, state: &mut State) {
        let directory = self.directory.display().to_string();
        let State { config, backends, ports, .. } = state;
        let text = config.render(backends, ports, &directory);
        let path = self.config_file();
        std::fs::write(&path, text)
            .unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A start that failed must not hide behind a poisoned lock.
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
