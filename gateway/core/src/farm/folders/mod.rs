//! Which backends get no new sessions of a folder, and why.
//!
//! A backend whose upload folder is broken answers at once, so it has the fewest sessions, and the
//! placement would give it nearly every new upload. One that hangs keeps every Create that it gets.
//! Both may serve other folders, and the sessions that they have, without a fault. So a verdict
//! holds for new sessions of one folder, which is the first segment of the path.
//!
//! Signs against a backend are a Create that it refused and another backend then accepted, a Create
//! that it leaves without an answer while others answer later ones, and an answer that its disk is
//! full. One sign is no verdict: a client can provoke signs (its own quota is used up, its own
//! file hangs), so a second sign has to come for another target and from another client. Where no
//! other client is there, or a backend has accepted nothing for a minute, the same client will do:
//! a whole company may be behind one address.
//!
//! Without any Create there are the Pings of probes, which have rules of their own (`pings`).
//!
//! After a verdict one Create at a time is a trial. A verdict never closes a folder: where all
//! backends have one, the oldest is tried, see [`crate::routing::decide()`].
//!
//! Time is a `Duration` by a clock that never jumps, from any origin.

mod folder;
mod pings;
mod verdict;

use std::time::Duration;

use crate::protocol::client::ClientKey;

use super::BackendId;

pub use folder::{Directory, Folder};
use pings::Pings;
pub use pings::{InARow, Ping};
use verdict::{Clients, Evidence, MEMORY, Standing};

/// A Create-Session, by what counts for its signs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Create {
    pub folder: Folder,
    /// Where the backend may be pinged if it opens a session.
    pub directory: Option<Directory>,
    /// A hash of the target.
    pub target: u64,
    pub client: Option<ClientKey>,
    /// The backend has all of it as soon as it has the head. With a body its client may be the one
    /// that hangs.
    pub without_body: bool,
}

/// What speaks against a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Sign {
    /// It refused a Create that another backend accepted.
    Refuses,
    /// It does not answer a Create, while others answer.
    Silent,
    /// It said that its disk is full.
    Full,
    /// It does not answer the Pings of probes, or not as it did.
    Ping,
}

/// The numbers behind the rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FolderRules {
    /// From a verdict to its first trial, and from trial to trial.
    pub retry_after: Duration,
    /// The same for a full disk.
    pub full_for: Duration,
    /// From when on a Create without an answer is silence.
    pub create_wait: Duration,
}

/// A backend that gets no new session of the folder now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Barred {
    pub backend: BackendId,
    pub why: Sign,
    /// The last sign.
    pub since: Duration,
}

/// A Create that a backend was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    pub backend: BackendId,
    pub create: Create,
    number: u64,
    at: Duration,
}

/// A verdict as people see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    pub backend: BackendId,
    pub folder: Folder,
    pub why: Sign,
    /// When the next Create of the folder may be a trial.
    pub trial_at: Duration,
}

/// A verdict has come or gone, or has another reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub backend: BackendId,
    pub folder: Folder,
    /// `None` if the backend gets new sessions of the folder again.
    pub why: Option<Sign>,
}

/// What is known of all backends and folders.
#[derive(Debug, Clone, Default)]
pub struct Folders {
    /// By [`BackendId`].
    backends: Vec<Known>,
    clients: Clients,
    pings: Pings,
    numbers: u64,
    changes: Vec<Change>,
}

/// What is known of one backend.
#[derive(Debug, Clone, Default)]
struct Known {
    /// Folders that something speaks against.
    folders: Vec<Entry>,
    /// Creates without an answer that are no sign yet, the oldest ones.
    waiting: Vec<Waiting>,
}

#[derive(Debug, Clone)]
struct Entry {
    folder: Folder,
    /// The last sign.
    used: Duration,
    first: Option<Evidence>,
    verdict: Option<Standing>,
}

#[derive(Debug, Clone)]
struct Waiting {
    asked: Asked,
    /// Another backend has answered a Create of the folder that came later.
    overtaken: bool,
}

/// Folders of one backend that are remembered. Names of folders come from clients.
const FOLDERS: usize = 32;

/// Creates of one backend that are watched for silence.
const WATCHED: usize = 32;

/// Of one client, so that it does not take all of them. Two are enough for a verdict.
const OF_ONE_CLIENT: usize = 4;

impl Sign {
    pub const ALL: [Self; 4] = [Self::Refuses, Self::Silent, Self::Full, Self::Ping];

    pub fn label(self) -> &'static str {
        match self {
            Self::Refuses => "refuses",
            Self::Silent => "silent",
            Self::Full => "full",
            Self::Ping => "ping",
        }
    }

    /// Whether a Create may wait in vain at such a backend.
    pub fn may_hang(self) -> bool {
        matches!(self, Self::Silent | Self::Ping)
    }
}

impl Folders {
    /// The backends that get no new session of the folder now.
    pub fn barred(&mut self, folder: &Folder, rules: &FolderRules, now: Duration) -> Vec<Barred> {
        self.settle(rules, now);
        let of = |(id, known): (u32, &Known)| {
            let standing = known.entry(folder)?.verdict.filter(|verdict| verdict.bars(now))?;
            let Standing { why, since, .. } = standing;
            Some(Barred { backend: BackendId(id), why, since })
        };
        (0..).zip(&self.backends).filter_map(of).collect()
    }

    /// A Create goes to the backend. How that ends is to be told by one of [`Self::accepted`],
    /// [`Self::refused`] and [`Self::gone`].
    pub fn asked(&mut self, backend: BackendId, create: Create, now: Duration) -> Asked {
        self.numbers += 1;
        let asked = Asked { backend, create, number: self.numbers, at: now };
        let known = self.known(backend);
        let verdict =
            known.entry_mut(&asked.create.folder).and_then(|entry| entry.verdict.as_mut());
        if let Some(verdict) = verdict.filter(|verdict| !verdict.bars(now)) {
            verdict.trial = Some(asked.number);
        }
        if known.watches(&asked.create) {
            known.waiting.push(Waiting { asked: asked.clone(), overtaken: false });
        }
        asked
    }

    /// The backend has opened a session. `refusers` have refused the same Create before.
    pub fn accepted(
        &mut self,
        asked: &Asked,
        refusers: &[(BackendId, Sign)],
        rules: &FolderRules,
        now: Duration,
    ) {
        self.settle(rules, now);
        self.stop_waiting(asked);
        self.clients.saw(asked.create.client, now);
        for waiting in self.backends.iter_mut().flat_map(|known| &mut known.waiting) {
            waiting.overtaken |= waiting.asked.is_overtaken_by(asked);
        }
        self.clear(asked, now);
        self.opened(asked.backend, &asked.create, now);
        for (refuser, sign) in refusers {
            self.sign(*refuser, *sign, &asked.create, rules, now);
        }
    }

    /// The backend has refused, whatever other backends will say. `about_it` is false if the answer
    /// speaks of the client or its request and says nothing about the backend.
    pub fn refused(&mut self, asked: &Asked, about_it: bool, rules: &FolderRules, now: Duration) {
        self.stop_waiting(asked);
        let several = self.clients.are_several(now);
        let Some(verdict) = self.end_trial(asked) else { return };
        if about_it {
            verdict.renew(verdict.why, asked.create.client, several, rules, now);
        }
    }

    /// The Create has ended in another way: its client left, or its time was up.
    pub fn gone(&mut self, asked: &Asked, rules: &FolderRules, now: Duration) {
        self.settle(rules, now);
        self.stop_waiting(asked);
        let waited = now.saturating_sub(asked.at) >= rules.create_wait;
        let several = self.clients.are_several(now);
        let Some(verdict) = self.end_trial(asked) else { return };
        if waited && asked.create.without_body {
            let other = verdict.renew(Sign::Silent, asked.create.client, several, rules, now);
            self.changed(asked.backend, &asked.create.folder, other.then_some(Sign::Silent));
        }
    }

    /// A packet of a session was answered that the disk is full. `create` is what it would be as a
    /// Create.
    pub fn full(
        &mut self,
        backend: BackendId,
        create: &Create,
        rules: &FolderRules,
        now: Duration,
    ) {
        self.sign(backend, Sign::Full, create, rules, now);
    }

    /// Nothing speaks against the backend any more: it is another one, or has been repaired.
    pub fn forget(&mut self, backend: BackendId) {
        self.pings.forget(backend);
        let Some(known) = self.backends.get_mut(backend.0 as usize) else { return };
        for entry in known.folders.drain(..).filter(|entry| entry.verdict.is_some()) {
            self.changes.push(Change { backend, folder: entry.folder, why: None });
        }
    }

    /// Whether more clients than one open sessions here.
    pub fn has_several_clients(&self, now: Duration) -> bool {
        self.clients.are_several(now)
    }

    /// Lets the Creates count that have waited for too long.
    pub fn settle(&mut self, rules: &FolderRules, now: Duration) {
        let overdue = |waiting: &Waiting| {
            waiting.overtaken && now.saturating_sub(waiting.asked.at) >= rules.create_wait
        };
        let mut silent = Vec::new();
        for known in &mut self.backends {
            // Once for each: a second sign is another Create.
            silent.extend(known.waiting.extract_if(.., |waiting| overdue(waiting)));
        }
        for Waiting { asked, .. } in silent {
            self.sign(asked.backend, Sign::Silent, &asked.create, rules, now);
        }
    }

    /// The verdicts there are.
    pub fn verdicts(&self) -> impl Iterator<Item = Verdict> {
        let backends = (0..).map(BackendId).zip(&self.backends);
        backends.flat_map(|(backend, known)| {
            known.folders.iter().filter_map(move |entry| {
                let Standing { why, trial_at, .. } = entry.verdict?;
                Some(Verdict { backend, folder: entry.folder.clone(), why, trial_at })
            })
        })
    }

    /// What has changed since the last call, in order.
    pub fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    fn changed(&mut self, backend: BackendId, folder: &Folder, why: Option<Sign>) {
        if why.is_some() {
            self.changes.push(Change { backend, folder: folder.clone(), why });
        }
    }

    fn known(&mut self, backend: BackendId) -> &mut Known {
        let at = backend.0 as usize;
        if at >= self.backends.len() {
            self.backends.resize_with(at + 1, Known::default);
        }
        &mut self.backends[at]
    }

    /// The verdict on a backend that was asked. If the Create was the trial, there may be another.
    fn end_trial(&mut self, asked: &Asked) -> Option<&mut Standing> {
        let entry = self.known(asked.backend).entry_mut(&asked.create.folder)?;
        let verdict = entry.verdict.as_mut()?;
        verdict.trial = verdict.trial.filter(|trial| *trial != asked.number);
        Some(verdict)
    }

    fn stop_waiting(&mut self, asked: &Asked) {
        let waiting = &mut self.known(asked.backend).waiting;
        waiting.retain(|waiting| waiting.asked.number != asked.number);
    }

    /// It opens sessions. Whether its disk has room only the Fragments tell, so that verdict ends by
    /// a trial alone.
    fn clear(&mut self, asked: &Asked, now: Duration) {
        let (backend, folder) = (asked.backend, &asked.create.folder);
        let Some(entry) = self.known(backend).entry_mut(folder) else { return };
        entry.first = entry.first.filter(|first| first.sign == Sign::Full);
        match entry.verdict {
            Some(verdict) if verdict.why == Sign::Full && now < verdict.trial_at => {}
            Some(_) => self.lift(backend, folder),
            None => self.known(backend).tidy(),
        }
    }

    fn sign(
        &mut self,
        backend: BackendId,
        sign: Sign,
        create: &Create,
        rules: &FolderRules,
        now: Duration,
    ) {
        let several = self.clients.are_several(now);
        let Some(entry) = self.entry(backend, &create.folder, now) else { return };
        if let Some(verdict) = &mut entry.verdict {
            let other = verdict.renew(sign, create.client, several, rules, now);
            self.changed(backend, &create.folder, other.then_some(sign));
            return;
        }
        let first = entry.first.filter(|first| now.saturating_sub(first.at) < MEMORY);
        let evidence = Evidence { sign, target: create.target, client: create.client, at: now };
        let first = *entry.first.insert(first.unwrap_or(evidence));
        if !evidence.confirms(&first, several) {
            return;
        }
        let verdict = Standing::new(sign, create.client, rules, now);
        self.bar(backend, &create.folder, verdict, now);
    }

    /// From now on there is that verdict.
    fn bar(&mut self, backend: BackendId, folder: &Folder, verdict: Standing, now: Duration) {
        let Some(entry) = self.entry(backend, folder, now) else { return };
        (entry.first, entry.verdict) = (None, Some(verdict));
        self.changed(backend, folder, Some(verdict.why));
    }

    /// There is no verdict any more.
    fn lift(&mut self, backend: BackendId, folder: &Folder) {
        let known = self.known(backend);
        if let Some(entry) = known.entry_mut(folder) {
            entry.verdict = None;
        }
        known.tidy();
        self.changes.push(Change { backend, folder: folder.clone(), why: None });
    }

    fn verdict(&self, backend: BackendId, folder: &Folder) -> Option<Sign> {
        let entry = self.backends.get(backend.0 as usize)?.entry(folder)?;
        Some(entry.verdict?.why)
    }

    /// Makes room for it, if there is none.
    fn entry(&mut self, backend: BackendId, folder: &Folder, now: Duration) -> Option<&mut Entry> {
        let known = self.known(backend);
        if known.entry(folder).is_none()
            && let Some(folder) = known.add(folder)
        {
            self.changes.push(Change { backend, folder, why: None });
        }
        let entry = self.known(backend).entry_mut(folder)?;
        entry.used = now;
        Some(entry)
    }
}

impl Asked {
    /// Whether `other` came later and was answered by another backend.
    fn is_overtaken_by(&self, other: &Self) -> bool {
        let later = self.at <= other.at && self.number < other.number;
        later && self.backend != other.backend && self.create.folder == other.create.folder
    }
}

impl Known {
    fn entry(&self, folder: &Folder) -> Option<&Entry> {
        self.folders.iter().find(|entry| entry.folder == *folder)
    }

    fn entry_mut(&mut self, folder: &Folder) -> Option<&mut Entry> {
        self.folders.iter_mut().find(|entry| entry.folder == *folder)
    }

    /// Whether the Create is one whose silence would say something more.
    fn watches(&self, create: &Create) -> bool {
        let watched = self.waiting.iter().map(|waiting| &waiting.asked.create);
        let mut same = watched.filter(|other| other.client == create.client);
        let room = self.waiting.len() < WATCHED && same.clone().count() < OF_ONE_CLIENT;
        create.without_body && room && same.all(|other| other.target != create.target)
    }

    /// Forgets the folders that nothing speaks against any more.
    fn tidy(&mut self) {
        self.folders.retain(|entry| entry.first.is_some() || entry.verdict.is_some());
    }

    /// In place of the one that was quiet for the longest time, if there are too many. Returns that
    /// one if a verdict goes with it.
    fn add(&mut self, folder: &Folder) -> Option<Folder> {
        let folder = folder.clone();
        let entry = Entry { folder, used: Duration::ZERO, first: None, verdict: None };
        if self.folders.len() < FOLDERS {
            self.folders.push(entry);
            return None;
        }
        let oldest = self.folders.iter_mut().min_by_key(|entry| entry.used)?;
        let oldest = std::mem::replace(oldest, entry);
        oldest.verdict.map(|_| oldest.folder)
    }
}

#[cfg(test)]
mod tests;
