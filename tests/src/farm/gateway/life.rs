//! A gateway that runs on while its configuration or its program changes.

use std::net::SocketAddr;

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

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

    /// Starts a process that asks for the sockets, and waits for nothing.
    pub fn start_successor(&self) -> Process {
        self.spawn(&["--upgrade"])
    }

    /// Waits until a successor that the running process has started itself serves in its place, and
    /// that process has ended.
    #[track_caller]
    pub fn adopt_successor(&self) -> Grandchild {
        let before = u64::from(self.pid());
        let pid = wait::some("the successor serves", || {
            self.ready_file()?["pid"].as_u64().filter(|pid| *pid != before)
        });
        let successor = Grandchild { pid };
        assert_eq!(self.wait_ended().code(), Some(0));
        successor
    }

    /// Starts a successor, which takes the sockets over, and waits until it serves. Returns the
    /// process before, which drains.
    #[track_caller]
    pub fn upgrade(&self) -> Process {
        let mut new = self.start_successor();
        let pid = u64::from(new.pid());
        wait::until("the successor serves", || {
            new.expect_running();
            self.ready_file().is_some_and(|ready| ready["pid"] == pid)
        });
        self.state().process.replace(new).expect("there is a process to succeed")
    }
}

/// A process that is not ours to wait for. Killed on drop.
pub struct Grandchild {
    pid: u64,
}

impl Grandchild {
    pub fn pid(&self) -> u32 {
        u32::try_from(self.pid).expect("process ids are small")
    }

    /// SIGTERM, and waits for the end.
    #[track_caller]
    pub fn terminate(self) {
        // One that has ended already is what is wanted.
        let _ = kill_process(self.raw(), Signal::TERM);
        wait::until("the successor has ended", || !self.is_running());
    }

    /// A process that nobody waits for stays as a zombie.
    fn is_running(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
        let state = stat.rsplit_once(") ").map(|(_, rest)| rest.starts_with('Z'));
        test_kill_process(self.raw()).is_ok() && state == Some(false)
    }

    fn raw(&self) -> Pid {
        let raw = i32::try_from(self.pid).expect("process ids are positive ints");
        Pid::from_raw(raw).expect("a gateway is not process 0")
    }
}

impl Drop for Grandchild {
    fn drop(&mut self) {
        if self.is_running() {
            let _ = kill_process(self.raw(), Signal::KILL);
        }
    }
}
