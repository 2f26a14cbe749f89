//! What a reload would do, without doing it.

use serde_json::Value as Json;

use super::{Refused, Reloader, fixed, refused};
use crate::config::diff::{Change, diff};
use crate::config::dump;
use crate::config::resolve::Config;

/// What would come of a reload now.
#[derive(Debug, Clone)]
pub struct Preview {
    pub changed: Vec<Change>,
    pub needs_restart: Vec<Change>,
    pub warnings: Vec<String>,
    /// As `check --json` has them.
    pub findings: serde_json::Value,
    /// That of the file. What needs a restart is in it.
    pub config: Config,
}

impl Reloader {
    /// What is in force, with the origin of each value. What needs a restart is as the file has it.
    pub fn dump(&self) -> Json {
        dump::to_json(&self.inner.state.lock().current)
    }

    /// Reads the file and compares it with what is in force. Blocks, and waits for a reload that is
    /// under way.
    pub fn preview(&self) -> Result<Preview, Refused> {
        let loaded = self.inner.source.load().map_err(refused)?;
        let state = self.inner.state.lock();
        Ok(Preview {
            changed: diff(&state.current.draft, &loaded.draft),
            needs_restart: fixed(&state.started.draft, &loaded.draft),
            warnings: loaded.report.lines(),
            findings: loaded.report.to_json(),
            config: loaded.config,
        })
    }
}
