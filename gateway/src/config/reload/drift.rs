//! How the file on disk differs from the configuration in force.

use std::fs;

use sha2::{Digest, Sha256};

use super::{Fingerprint, Inner, Reloader, State, fixed};
use crate::config::diff::{Change, diff};
use crate::config::load::LoadError;
use crate::config::report::Severity;
use crate::config::{self};
use crate::telemetry::problems::{ConfigState, ConfigTrouble};

/// What the last look found, and in which file.
pub(super) type Looked = Option<(Fingerprint, Option<ConfigState>)>;

impl Reloader {
    /// What keeps the file from being the configuration in force; nothing while a reload is under
    /// way. Blocks: it reads the file, and judges it where it has changed.
    pub fn drift(&self) -> Option<ConfigTrouble> {
        let mut state = self.inner.state.try_lock()?;
        let what = self.inner.look(&mut state)?;
        Some(ConfigTrouble { path: self.path().display().to_string(), what })
    }
}

impl Inner {
    fn look(&self, state: &mut State) -> Option<ConfigState> {
        if self.source.text.is_some() {
            // Nothing can change it.
            return None;
        }
        let bytes = match fs::read(&self.source.path) {
            Ok(bytes) => bytes,
            Err(error) => return Some(ConfigState::Unread(error.to_string())),
        };
        let fingerprint: Fingerprint = Sha256::digest(bytes).into();
        match &state.looked {
            Some((seen, found)) if *seen == fingerprint => found.clone(),
            _ => {
                let found = self.judge(state);
                state.looked = Some((fingerprint, found.clone()));
                found
            }
        }
    }

    fn judge(&self, state: &State) -> Option<ConfigState> {
        let variables = self.source.variables.iter().cloned();
        let loaded = match config::load(&self.source.path, variables) {
            Ok(loaded) => loaded,
            Err(LoadError::Invalid { report, .. }) => {
                return Some(ConfigState::Broken(report.count(Severity::Error)));
            }
            Err(error) => return Some(ConfigState::Unread(error.to_string())),
        };
        let names = |changes: &[Change]| changes.iter().map(|change| change.key.clone()).collect();
        let changed = diff(&state.current.draft, &loaded.draft);
        if !changed.is_empty() {
            return Some(ConfigState::Differs(names(&changed)));
        }
        let fixed = fixed(&state.started.draft, &loaded.draft);
        (!fixed.is_empty()).then(|| ConfigState::NeedsRestart(names(&fixed)))
    }
}
