//! What Pings say of a backend, for new sessions of one folder.
//!
//! A probe that only connects does not see that a server hangs, and without Creates there is no
//! other sign. So each round of probes sends Pings, in the folders of which the backend has opened
//! sessions.
//!
//! Servers differ in what they make of a Ping to a directory, so only a change is evidence. An
//! answer that the backend gave before says nothing. That no answer comes counts at once: it
//! answered the Create-Session. An answer of another kind counts after a Ping has passed. When the
//! backend opens a session while Pings fail, Pings count for nothing until one passes.
//!
//! Clients choose where sessions are opened. A Ping goes to the deepest directory that has all
//! sessions of the folder in it, on whatever backend they are, so that none goes to a place that
//! one client has for itself while others use the folder.

use std::time::Duration;

use crate::farm::{BackendId, ProbeFailure};

use super::folder::{Directory, Folder};
use super::{Create, Folders, Sign, Standing};

/// Folders of the farm that are pinged: those in which sessions were opened last.
pub(super) const PINGED: usize = 4;

/// A Ping that a backend is to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ping {
    pub backend: BackendId,
    pub folder: Folder,
    pub directory: Directory,
}

/// How many Pings in a row it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InARow {
    /// That pass, until the backend gets new sessions again.
    pub rise: u32,
    /// That fail, until it gets none.
    pub fall: u32,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Pings {
    folders: Vec<Pinged>,
}

#[derive(Debug, Clone)]
struct Pinged {
    folder: Folder,
    directory: Directory,
    /// When a session was opened last.
    used: Duration,
    /// By [`BackendId`]; nothing for a backend that has opened no session.
    backends: Vec<Option<Series>>,
}

/// What the last Pings came to.
#[derive(Debug, Clone, Copy, Default)]
struct Series {
    counts: Counts,
    passed: u32,
    failed: u32,
}

/// What counts against a backend.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Counts {
    /// That no answer comes.
    #[default]
    Silence,
    /// Whatever does not pass.
    All,
    Nothing,
}

impl Folders {
    /// The Pings that a round of probes of the backend sends.
    pub fn pings(&self, backend: BackendId) -> Vec<Ping> {
        let folders = self.pings.folders.iter();
        let opened = folders.filter(|pinged| pinged.series(backend).is_some());
        opened
            .map(|Pinged { folder, directory, .. }| Ping {
                backend,
                folder: folder.clone(),
                directory: directory.clone(),
            })
            .collect()
    }

    /// A Ping has passed or failed. True if the next one may settle a doubt, and is to come soon.
    pub fn pinged(
        &mut self,
        ping: &Ping,
        outcome: Result<(), ProbeFailure>,
        in_a_row: InARow,
        rules: &super::FolderRules,
        now: Duration,
    ) -> bool {
        let Some(series) = self.pings.series_of(ping) else { return false };
        series.add(outcome);
        let Series { passed, failed, .. } = *series;
        let verdict = self.verdict(ping.backend, &ping.folder);
        match verdict {
            None if failed >= in_a_row.fall => {
                let verdict = Standing::new(Sign::Ping, None, rules, now);
                self.bar(ping.backend, &ping.folder, verdict, now);
                false
            }
            None => failed > 0,
            Some(Sign::Ping) if passed >= in_a_row.rise => {
                self.lift(ping.backend, &ping.folder);
                false
            }
            Some(Sign::Ping) => passed > 0,
            // Traffic has said something else, and takes it back.
            Some(_) => false,
        }
    }

    /// The backend has opened a session.
    pub(super) fn opened(&mut self, backend: BackendId, create: &Create, now: Duration) {
        let Some(void) = self.pings.opened(backend, create, now) else { return };
        // What Pings said of another directory, or of a folder that is pinged no more.
        let all = (0..).map(BackendId).take(self.backends.len());
        for backend in all {
            if self.verdict(backend, &void) == Some(Sign::Ping) {
                self.lift(backend, &void);
            }
        }
    }
}

impl Pings {
    /// The backend is another one, or has been repaired.
    pub fn forget(&mut self, backend: BackendId) {
        for pinged in &mut self.folders {
            if let Some(series) = pinged.backends.get_mut(backend.0 as usize) {
                *series = None;
            }
        }
        self.folders.retain(|pinged| pinged.backends.iter().any(Option::is_some));
    }

    /// Returns a folder of which all that Pings have said is void.
    fn opened(&mut self, backend: BackendId, create: &Create, now: Duration) -> Option<Folder> {
        let folder = &create.folder;
        let mut void = None;
        let at = match self.folders.iter().position(|pinged| pinged.folder == *folder) {
            Some(at) => at,
            None => {
                let directory = create.directory.clone()?;
                let (folder, backends) = (folder.clone(), Vec::new());
                let new = Pinged { folder, directory, used: now, backends };
                let (at, old) = self.add(new)?;
                void = old;
                at
            }
        };
        let pinged = &mut self.folders[at];
        pinged.used = now;
        if let Some(directory) = &create.directory {
            let common = pinged.directory.common(directory);
            if common != pinged.directory {
                pinged.directory = common;
                pinged.backends.iter_mut().flatten().for_each(|series| *series = Series::default());
                void = Some(folder.clone());
            }
        }
        pinged.backend(backend).opened();
        void
    }

    /// In place of the one that was not used for the longest time, which is returned, if there are
    /// too many. One in which Pings fail keeps its place.
    fn add(&mut self, new: Pinged) -> Option<(usize, Option<Folder>)> {
        if self.folders.len() < PINGED {
            self.folders.push(new);
            return Some((self.folders.len() - 1, None));
        }
        let all = self.folders.iter_mut().enumerate();
        let good = all.filter(|(_, pinged)| !pinged.fails());
        let (at, oldest) = good.min_by_key(|(_, pinged)| pinged.used)?;
        let old = std::mem::replace(oldest, new);
        Some((at, Some(old.folder)))
    }

    /// `None` if nothing is asked there any more.
    fn series_of(&mut self, ping: &Ping) -> Option<&mut Series> {
        let mut folders = self.folders.iter_mut();
        let pinged = folders
            .find(|pinged| pinged.folder == ping.folder && pinged.directory == ping.directory)?;
        pinged.backends.get_mut(ping.backend.0 as usize)?.as_mut()
    }
}

impl Pinged {
    fn series(&self, backend: BackendId) -> Option<&Series> {
        self.backends.get(backend.0 as usize)?.as_ref()
    }

    fn backend(&mut self, backend: BackendId) -> &mut Series {
        let at = backend.0 as usize;
        if at >= self.backends.len() {
            self.backends.resize(at + 1, None);
        }
        self.backends[at].get_or_insert_default()
    }

    fn fails(&self) -> bool {
        self.backends.iter().flatten().any(|series| series.failed > 0)
    }
}

impl Series {
    fn add(&mut self, outcome: Result<(), ProbeFailure>) {
        use ProbeFailure::*;
        let good = match outcome {
            // It answers, and speaks of who asks.
            Ok(()) | Err(Status(401 | 403 | 407 | 429)) => {
                self.counts = Counts::All;
                Some(true)
            }
            Err(Timeout | Refused | Unreachable) => Some(false),
            Err(_) if self.counts == Counts::All => Some(false),
            // Its own way to answer, as long as none has passed.
            Err(Status(_) | NoAck(_)) => Some(true),
            Err(Closed | Garbage | Tls | NoAddress) => None,
        };
        match good {
            _ if self.counts == Counts::Nothing => {}
            Some(true) => (self.passed, self.failed) = (self.passed.saturating_add(1), 0),
            Some(false) => (self.passed, self.failed) = (0, self.failed.saturating_add(1)),
            None => {}
        }
    }

    /// The backend has opened a session, whatever its answers to Pings are.
    fn opened(&mut self) {
        if self.failed > 0 {
            *self = Self { counts: Counts::Nothing, passed: 0, failed: 0 };
        }
    }
}
