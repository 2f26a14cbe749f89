//! A changed configuration, put in force.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::start::level;
use crate::config::{Config, Loaded};
use crate::guard::GuardLimits;
use crate::metrics::Metrics;
use crate::notify_systemd::Notifier;
use crate::reload::{Reloader, Source};
use crate::roster::Roster;
use crate::telemetry;

/// Limits of the guard, for the next connection.
pub(super) type Limits = Arc<ArcSwap<GuardLimits>>;

pub(super) fn limits(config: &Config) -> GuardLimits {
    GuardLimits {
        head: config.limits.head,
        head_timeout: config.timeouts.client_head,
        drain_bytes: config.limits.drain_bytes,
        method_override: config.http.method_override,
    }
}

/// The way to another configuration. What can fail comes first, and what comes after it cannot.
pub(super) fn reloader(
    path: PathBuf,
    loaded: Loaded,
    metrics: Arc<Metrics>,
    notifier: Notifier,
    roster: Roster,
    guard: Limits,
) -> io::Result<Reloader> {
    let apply = move |_: &Config, new: &Config, _: &[_]| {
        roster.apply(new).map_err(|error| error.to_string())?;
        guard.store(Arc::new(limits(new)));
        telemetry::set_level(level(new));
        Ok(())
    };
    Reloader::new(Source::new(path), loaded, Some(metrics), notifier, Box::new(apply))
}
