//! What the kernel lets the process have and do.

use rustix::process::{Resource, Rlimit, geteuid, getrlimit, setrlimit};

/// Nothing here needs root, and whoever broke in would have it.
pub(super) fn warn_of_root() {
    if geteuid().is_root() {
        tracing::warn!(
            help =
                "run it as a user of its own; for ports below 1024 it needs CAP_NET_BIND_SERVICE",
            "this process runs as root"
        );
    }
}

/// Raises the soft limit on open files to the hard one.
///
/// Every upload needs two descriptors, and the usual soft limit of 1024 is there for programs that
/// call `select`. A refusal is logged and lived with: the process works, for fewer clients.
pub fn raise_open_files() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        tracing::info!(limit = maximum, "the limit on open files is at its maximum");
        return;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => {
            tracing::info!(before = current, limit = maximum, "raised the limit on open files");
        }
        Err(error) => {
            tracing::warn!(limit = current, %error, "cannot raise the limit on open files");
        }
    }
}

/// How many files the process may have open; `None` for any number.
pub fn open_files() -> Option<usize> {
    let current = getrlimit(Resource::Nofile).current?;
    Some(usize::try_from(current).unwrap_or(usize::MAX))
}
