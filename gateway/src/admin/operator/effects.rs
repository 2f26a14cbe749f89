//! Which uploads a changed configuration touches.

use std::net::IpAddr;
use std::time::Duration;

use gateway_core::farm::BackendId;
use gateway_core::routing::{Loads, Then};

use super::Operator;
use crate::admin::Touched;
use crate::base::clock;
use crate::config::diff::Change;
use crate::config::{BackendConfig, Config, show_duration};

impl Operator {
    /// What these changes do to the uploads of now. It may walk over the session table.
    pub(super) fn effects(&self, changes: &[Change], new: &Config) -> Vec<Touched> {
        let old = &self.farm.load().config;
        let mut effects = Vec::new();
        let mut add = |key: &str, uploads: u64, what: String| {
            if uploads > 0 {
                effects.push(Touched { key: key.to_owned(), uploads, what });
            }
        };
        for Change { key, after, .. } in changes {
            let Some(rest) = key.strip_prefix("backends.") else { continue };
            match rest.strip_suffix(".address") {
                Some(name) => {
                    let what = "served at the new address, where their files must be".to_owned();
                    add(key, self.uploads(name), what);
                }
                None if after.is_none() => {
                    add(key, self.uploads(rest), "served there to their end".to_owned());
                }
                None => {}
            }
        }
        let denied = |config: &Config, client: IpAddr| {
            config.listeners.iter().all(|listener| !listener.access.admits(client))
        };
        if let Some(change) = changes.iter().find(|change| change.key.contains(".access.")) {
            let newly = |client: IpAddr| denied(new, client) && !denied(old, client);
            let uploads = self.sessions.opened_by(newly);
            let what = "cut off: no listener serves their clients any more".to_owned();
            add(&change.key, uploads, what);
        }
        let idle = new.sessions.idle_timeout;
        if idle < old.sessions.idle_timeout {
            let silent = self.sessions.silent_for(clock::now(), idle);
            let what = format!("forgotten, for they were silent for {}", show_duration(idle));
            add("sessions.idle_timeout", silent, what);
        }
        let patience = new.failover.restart_after;
        if new.failover.then == Then::Restart && patience < old.failover.restart_after {
            let down = old.backends.iter().filter(|backend| self.is_down_for(backend, patience));
            let uploads = down.map(|backend| self.uploads(&backend.name)).sum();
            let what =
                format!("started over, for their servers are down for {}", show_duration(patience));
            add("failover.restart_after", uploads, what);
        }
        effects
    }

    fn uploads(&self, name: &str) -> u64 {
        self.id(name).map_or(0, |id| self.sessions.sessions(id))
    }

    fn is_down_for(&self, backend: &BackendConfig, patience: Duration) -> bool {
        let down = self.id(&backend.name).and_then(|id| self.health.down_for(id));
        down.is_some_and(|down| down >= patience)
    }

    fn id(&self, name: &str) -> Option<BackendId> {
        let mut ids = self.reporter.ids.iter();
        ids.find(|(_, known)| known.eq_ignore_ascii_case(name)).map(|(id, _)| id)
    }
}
