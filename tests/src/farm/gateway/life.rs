//! A gateway that runs on while its configuration or its program changes.

use std::net::SocketAddr;

use rustix::process::Signal;

use super::super::config::BackendEntry;
use super::super::process::Process;
use super::{Gateway, metrics};
use crate::wait;

impl Gateway {
    /// Takes a backend out of the file. Nothing is signalled.
    #[track_caller]
    pub fn remove_backend(&self, name: &str) {
        let mut state = self.state();
        let before = state.backends.len();
        state.backends.retain(|entry| entry.name != name);
        assert_eq!(state.backends.len() + 1, before, "no backend {name}");
        self.write_config(&mut state);
    }

    /// Puts a backend into the file, or another address of one. Nothing is signalled.
    #[track_caller]
    pub fn set_backend(&self, name: &str, address: SocketAddr) {
        let mut state = self.state();
        match state.backends.iter_mut().find(|entry| entry.name == name) {
            Some(entry) => entry.address = address,
            None => state.backends.push(BackendEntry { name: name.to_owned(), address }),
        }
        self.write_config(&mut state);
    }

    /// SIGHUP, and waits until it has had its effect. Returns whether that was good.
    #[track_caller]
    pub fn reload(&self) -> bool {
        let before = self.reloads();
        self.signal(Signal::HUP);
        wait::until("the configuration is loaded again", || self.reloads() > before);
        self.reload_succeeded()
    }

    /// Attempts so far, for whatever reason.
    #[track_caller]
    pub fn reloads(&self) -> f64 {
        metrics::sum(&self.metrics(), "bitsgw_config_reloads_total", &[]).unwrap_or_default()
    }

    #[track_caller]
    pub fn reload_succeeded(&self) -> bool {
        let name = "bitsgw_config_last_reload_successful";
        metrics::sum(&self.metrics(), name, &[]) == Some(1.0)
    }

    /// Starts a successor, which takes the sockets over, and waits until it serves. Returns the
    /// process before, which drains.
    #[track_caller]
    pub fn upgrade(&self) -> Process {
        let mut new = self.spawn(&["--upgrade"]);
        let pid = u64::from(new.pid());
        wait::until("the successor serves", || {
            new.expect_running();
            self.ready_file().is_some_and(|ready| ready["pid"] == pid)
        });
        self.state().process.replace(new).expect("there is a process to succeed")
    }
}
