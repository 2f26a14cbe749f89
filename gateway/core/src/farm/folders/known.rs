//! What is known of one backend, folder by folder.

use std::time::Duration;

use super::folder::Folder;
use super::verdict::{Evidence, Standing};
use super::{Asked, Create, Sign};

/// What is known of one backend.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// Folders that something speaks against.
    pub folders: Vec<Entry>,
    /// Creates without an answer that are no sign yet, the oldest ones.
    pub waiting: Vec<Waiting>,
}

#[derive(Debug, Clone)]
pub struct Entry {
    pub folder: Folder,
    /// The last sign.
    pub used: Duration,
    pub firsts: Firsts,
    pub verdict: Option<Standing>,
    /// For one client, by its own word.
    pub alone: Option<Standing>,
}

/// Signs that no other one has confirmed. That a disk is full says nothing of Creates, and the
/// reverse.
#[derive(Debug, Clone, Copy, Default)]
pub struct Firsts {
    pub full: Option<Evidence>,
    pub create: Option<Evidence>,
}

#[derive(Debug, Clone)]
pub struct Waiting {
    pub asked: Asked,
    /// Another backend has answered a Create of the folder that came later.
    pub overtaken: bool,
}

/// Folders of one backend that are remembered. Names of folders come from clients.
pub const FOLDERS: usize = 32;

/// Creates of one backend that are watched for silence.
pub const WATCHED: usize = 32;

/// Of one client, so that it does not take all of them. Two are enough for a verdict.
pub const OF_ONE_CLIENT: usize = 4;

impl Firsts {
    pub fn of(&mut self, sign: Sign) -> &mut Option<Evidence> {
        if sign == Sign::Full { &mut self.full } else { &mut self.create }
    }

    fn is_empty(&self) -> bool {
        self.full.is_none() && self.create.is_none()
    }
}

impl Entry {
    /// What stands between the Create and the backend.
    pub fn standings(&mut self, create: &Create) -> impl Iterator<Item = &mut Standing> {
        let alone = self.alone.as_mut().filter(|alone| alone.by == create.client);
        self.verdict.iter_mut().chain(alone)
    }
}

impl Known {
    pub fn entry(&self, folder: &Folder) -> Option<&Entry> {
        self.folders.iter().find(|entry| entry.folder == *folder)
    }

    pub fn entry_mut(&mut self, folder: &Folder) -> Option<&mut Entry> {
        self.folders.iter_mut().find(|entry| entry.folder == *folder)
    }

    /// Whether the Create is one whose silence would say something more.
    pub fn watches(&self, create: &Create) -> bool {
        let watched = self.waiting.iter().map(|waiting| &waiting.asked.create);
        let mut same = watched.filter(|other| other.client == create.client);
        let room = self.waiting.len() < WATCHED && same.clone().count() < OF_ONE_CLIENT;
        create.without_body && room && same.all(|other| other.target != create.target)
    }

    /// Forgets the folders that nothing speaks against any more.
    pub fn tidy(&mut self) {
        self.folders.retain(|entry| {
            !entry.firsts.is_empty() || entry.verdict.is_some() || entry.alone.is_some()
        });
    }

    /// In place of the one that was quiet for the longest time, if there are too many. Returns that
    /// one if a verdict goes with it.
    pub fn add(&mut self, folder: &Folder) -> Option<Folder> {
        let folder = folder.clone();
        let (used, firsts) = (Duration::ZERO, Firsts::default());
        let entry = Entry { folder, used, firsts, verdict: None, alone: None };
        if self.folders.len() < FOLDERS {
            self.folders.push(entry);
            return None;
        }
        let oldest = self.folders.iter_mut().min_by_key(|entry| entry.used)?;
        let oldest = std::mem::replace(oldest, entry);
        oldest.verdict.map(|_| oldest.folder)
    }
}
