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
//! file hangs), so a second sign has to come for another target and from another client. Until then
//! the verdict counts for new sessions of that one client only. Where no other client is there, it
//! counts for all.
//!
//! Without any Create there are the Pings of probes, which have rules of their own (`pings`).
//!
//! After a verdict one Create at a time is a trial. A verdict never closes a folder: where all
//! backends have one, the oldest is tried, see [`crate::routing::decide()`].
//!
//! Time is a `Duration` by a clock that never jumps, from any origin.

mod folder;
mod known;
mod pings;
mod verdict;

use std::time::Duration;

use crate::protocol::client::ClientKey;

use super::BackendId;

pub use folder::{Directory, Folder};
use known::{Entry, Firsts, Known, Waiting};
use pings::Pings;
pub use pings::{InARow, Ping};
pub use verdict::Reach;
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
    pub reach: Reach,
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
    /// The backends that get no new session of the folder from the client now.
    pub fn barred(
        &mut self,
        folder: &Folder,
        client: Option<ClientKey>,
        rules: &FolderRules,
        now: Duration,
    ) -> Vec<Barred> {
        self.settle(rules, now);
        let of = |(id, known): (u32, &Known)| {
            let entry = known.entry(folder)?;
            let alone = entry.alone.filter(|alone| alone.by == client);
            let standing = [entry.verdict, alone].into_iter().flatten().find(|it| it.bars(now))?;
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
        if let Some(entry) = known.entry_mut(&asked.create.folder) {
            for standing in entry.standings(&asked.create) {
                if !standing.bars(now) {
                    standing.trial = Some(asked.number);
                }
            }
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
            self.changes.push(Change::lifted(backend, entry.folder));
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

    /// The verdicts that count for everyone.
    pub fn verdicts(&self) -> impl Iterator<Item = Verdict> {
        self.all(|entry| entry.verdict)
    }

    /// Those that count for one client now.
    pub fn verdicts_for_one(&self, now: Duration) -> impl Iterator<Item = Verdict> {
        self.all(move |entry| entry.alone.filter(|alone| alone.bars(now)))
    }

    fn all(&self, of: impl Fn(&Entry) -> Option<Standing> + Copy) -> impl Iterator<Item = Verdict> {
        let backends = (0..).map(BackendId).zip(&self.backends);
        backends.flat_map(move |(backend, known)| {
            known.folders.iter().filter_map(move |entry| {
                let Standing { why, trial_at, .. } = of(entry)?;
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
            let (folder, reach) = (folder.clone(), Reach::Everyone);
            self.changes.push(Change { backend, folder, why, reach });
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
        for standing in entry.standings(&asked.create) {
            standing.trial = standing.trial.filter(|trial| *trial != asked.number);
        }
        entry.verdict.as_mut()
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
        entry.firsts.create = None;
        let by = asked.create.client;
        let stays = |it: &Standing| it.why == Sign::Full && (it.by != by || now < it.trial_at);
        if entry.alone.take_if(|alone| !stays(alone)).is_some() {
            let (folder, reach) = (folder.clone(), Reach::OneClient);
            self.changes.push(Change { backend, folder, why: None, reach });
        }
        let Some(entry) = self.known(backend).entry_mut(folder) else { return };
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
            // Sessions that the backend has go on to say so, and would put the trial off for ever.
            if sign == Sign::Full && now < verdict.trial_at {
                return;
            }
            let other = verdict.renew(sign, create.client, several, rules, now);
            self.changed(backend, &create.folder, other.then_some(sign));
            return;
        }
        let evidence = Evidence { sign, target: create.target, client: create.client, at: now };
        let slot = entry.firsts.of(sign);
        let first = slot.filter(|first| now.saturating_sub(first.at) < MEMORY);
        let first = *slot.insert(first.unwrap_or(evidence));
        let standing = Standing::new(sign, create.client, rules, now);
        match evidence.confirms(&first, several) {
            None => {}
            Some(Reach::Everyone) => self.bar(backend, &create.folder, standing, now),
            Some(Reach::OneClient) => {
                let old = entry.alone.replace(standing);
                if old.is_none_or(|old| (old.why, old.by) != (sign, create.client)) {
                    let (folder, reach) = (create.folder.clone(), Reach::OneClient);
                    self.changes.push(Change { backend, folder, why: Some(sign), reach });
                }
            }
        }
    }

    /// From now on there is that verdict.
    fn bar(&mut self, backend: BackendId, folder: &Folder, verdict: Standing, now: Duration) {
        let Some(entry) = self.entry(backend, folder, now) else { return };
        (entry.firsts, entry.verdict, entry.alone) = (Firsts::default(), Some(verdict), None);
        self.changed(backend, folder, Some(verdict.why));
    }

    /// There is no verdict any more.
    fn lift(&mut self, backend: BackendId, folder: &Folder) {
        let known = self.known(backend);
        if let Some(entry) = known.entry_mut(folder) {
            entry.verdict = None;
        }
        known.tidy();
        self.changes.push(Change::lifted(backend, folder.clone()));
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
            self.changes.push(Change::lifted(backend, folder));
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

impl Change {
    /// What counted for everyone counts no more.
    fn lifted(backend: BackendId, folder: Folder) -> Self {
        Self { backend, folder, why: None, reach: Reach::Everyone }
    }
}

#[cfg(test)]
mod tests;
