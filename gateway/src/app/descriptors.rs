//! How the descriptors that the process may have are shared out.
//!
//! The hazard: clients open connections for nothing, and a server that cannot be connected to for
//! want of a descriptor costs an upload. So there are only as many client connections as leave one
//! connection to a server for each, and a reserve for everything else.

use std::fmt;
use std::sync::Arc;

use crate::config::Config;
use crate::farm::pool;
use crate::guard::Room;
use crate::process::supervisor::open_files;
use crate::relay::pipe;
use crate::telemetry::metrics::Metrics;

/// Standard streams, the store, sockets for operators, signals, logs, connections of our own to
/// cancel and to ask.
const FIXED: usize = 64;

/// For each thread: what it is woken by.
const PER_THREAD: usize = 4;

/// For each traffic listener: the copy for a successor, and one being turned away. Each thread has a
/// duplicate of its socket besides.
const PER_LISTENER: usize = 2;

/// For each backend: a probe, and connections of our own.
const PER_BACKEND: usize = 4;

/// One in so many connections may carry a long Fragment, with a share in the pipes of these; and as many
/// idle connections to servers are always kept.
const EIGHTH: usize = 8;

/// How many of each there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shares {
    /// Connections of clients.
    pub connections: usize,
    /// Connections to backends that belong to one client each.
    pub bound: usize,
    /// Connections to backends that belong to nobody; beyond it none is kept idle.
    pub shared: usize,
}

impl Shares {
    /// What is wanted by a configuration, as far as `open_files` allows it; `None` is no limit.
    ///
    /// A client takes a descriptor for itself and one for its server, a bound one one more.
    pub fn of(config: &Config, open_files: Option<usize>) -> Self {
        let limits = &config.limits;
        // Of each backend a client has one at most.
        let bound = limits.connections.saturating_mul(config.backends.len());
        let (connections, bound) = (limits.connections, limits.bound_connections.min(bound));
        let wanted = pool::shared_most(config);
        let Some(open_files) = open_files else {
            return Self { connections, bound, shared: wanted };
        };
        let reserve = FIXED
            + PER_THREAD * config.process.threads
            + (PER_LISTENER + config.process.threads) * config.listeners.len()
            + PER_BACKEND * config.backends.len();
        let left = open_files.saturating_sub(reserve);
        let cost = |connections: usize, bound: usize| {
            2 * connections + 2 * connections.div_ceil(EIGHTH) + bound
        };
        let all = cost(connections, bound);
        let (connections, bound) = match all > left {
            true => {
                let scaled = ((bound as u128 * left as u128) / all as u128) as usize;
                // A few are left as they are: a limit of two must not become none.
                let bound = scaled.max(bound.min(left / 32));
                let rest = left.saturating_sub(bound) * EIGHTH / (2 * EIGHTH + 2);
                // What was rounded up must not add up to more than there is.
                (connections.min(rest.saturating_sub(1)).max(1), bound)
            }
            false => (connections, bound),
        };
        let taken = 2 * connections + connections.div_ceil(EIGHTH) + bound;
        let shared = left.saturating_sub(taken).clamp(1, wanted);
        Self { connections, bound, shared }
    }

    /// The configuration that can be held.
    pub fn hold(self, config: &mut Config) {
        config.limits.connections = self.connections;
        config.limits.bound_connections = self.bound;
    }
}

/// Where the shares count while the process runs.
#[derive(Clone)]
pub struct Descriptors {
    pub room: Arc<Room>,
    metrics: Arc<Metrics>,
}

impl fmt::Debug for Descriptors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Descriptors").field("room", &self.room).finish_non_exhaustive()
    }
}

impl Descriptors {
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self { room: Arc::default(), metrics }
    }

    /// Shares out what the process may have now, and says what it is too little for.
    pub fn share_out(&self, config: &Config) -> Shares {
        let open_files = open_files();
        let shares = Shares::of(config, open_files);
        let limits = &config.limits;
        if let Some(open_files) = open_files
            && shares.connections < limits.connections
        {
            tracing::warn!(
                connections = limits.connections,
                open_files,
                allowed = shares.connections,
                bound_connections = limits.bound_connections,
                bound_allowed = shares.bound,
                help = "raise it (LimitNOFILE, `ulimit -Hn`), or lower `limits.connections` and \
                        `limits.bound_connections`",
                "the limit on open files is too low for `limits.connections`"
            );
        }
        self.room.set_limit(shares.connections);
        self.metrics.set_connections_limit(shares.connections);
        pool::OPEN.keep_at_most(shares.shared);
        pipe::take_at_most(shares.connections.div_ceil(EIGHTH));
        shares
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With one backend.
    fn config(connections: usize, bound: usize) -> Config {
        let text = format!(
            "[listeners.a]\naddress = \"127.0.0.1:80\"\n[[backends]]\nname = \"b\"\n\
             address = \"127.0.0.1:81\"\n[process]\nthreads = 2\n[limits]\n\
             connections = {connections}\nbound_connections = {bound}\n"
        );
        Config::from_toml(&text).unwrap()
    }

    /// With a reserve of 80.
    #[track_caller]
    fn check(open_files: usize, (connections, bound): (usize, usize), expected: [usize; 3]) {
        let shares = Shares::of(&config(connections, bound), Some(open_files));
        let Shares { connections, bound, shared } = shares;
        assert_eq!([connections, bound, shared], expected, "{open_files}");
    }

    #[test]
    fn what_fits_is_left_and_the_rest_shrinks_alike() {
        // Enough for all that may ever be idle.
        check(200_000, (20_000, 10_000), [20_000, 10_000, 22_048]);
        // The usual hard limit of services, and half of it.
        check(65_536, (20_000, 10_000), [20_000, 10_000, 12_956]);
        check(32_768, (20_000, 10_000), [11_885, 5943, 1489]);
        check(4096, (20_000, 10_000), [1459, 730, 185]);
        check(200, (20_000, 10_000), [43, 21, 7]);
        check(200, (20, 0), [20, 0, 77]);
        check(20_000, (20_000, 2), [8851, 2, 1109]);
        // Few clients have few logins, however many are allowed.
        check(200, (4, 10_000), [4, 4, 107]);
        // Nothing works with so few; it is said, and tried.
        check(64, (20_000, 10_000), [1, 0, 1]);
    }

    #[test]
    fn everybody_has_a_connection_to_a_server_whatever_is_asked_for() {
        for open_files in (100..3000).step_by(17).chain([20_000, 65_536, 1 << 20]) {
            for (connections, bound) in [(1, 0), (7, 3), (1000, 0), (1000, 5000), (20_000, 10_000)]
            {
                let shares = Shares::of(&config(connections, bound), Some(open_files));
                assert!(shares.connections <= connections && shares.bound <= bound);
                let idle_and_in_use = shares.shared + shares.connections;
                let long = shares.connections.div_ceil(EIGHTH);
                let most = shares.connections + idle_and_in_use + long + shares.bound;
                // The least that is served by any.
                let least = 80 + 4;
                assert!(most + 80 <= open_files.max(least), "{open_files} {shares:?}");
            }
        }
    }

    #[test]
    fn without_a_limit_all_is_as_configured() {
        let shares = Shares::of(&config(20_000, 10_000), None);
        assert_eq!(shares, Shares { connections: 20_000, bound: 10_000, shared: 22_048 });
    }
}
