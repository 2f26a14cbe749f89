//! Who gets new sessions of a folder: the rule of [`gateway_core::farm::folders`], and what people
//! are told of it.

use std::sync::Arc;

use gateway_core::events::{Event, Kind, Level};
use gateway_core::farm::{
    Asked, BackendId, Barred, Change, Create, Folder, FolderRules, Folders, InARow, PacketSource,
    Ping, ProbeFailure, Reach, Rules, Sign, Verdict,
};
use gateway_core::protocol::client::ClientKey;
use parking_lot::Mutex;

use super::{BackendHealth, FarmHealth, Shared};
use crate::base::clock;
use crate::telemetry::events::Events;
use crate::telemetry::log::{NowAndThen, Untrusted};

/// What all Creates have said.
#[derive(Default)]
pub(super) struct NewSessions {
    folders: Mutex<Folders>,
    /// Clients choose the names of folders.
    warned: NowAndThen,
}

/// A Create that a backend was asked. Whoever drops it without a word of its end has not heard one.
pub struct Asking {
    health: FarmHealth,
    asked: Asked,
    rules: FolderRules,
    ended: bool,
}

impl FarmHealth {
    /// The backends that get no new session of the folder from the client now.
    pub fn barred(
        &self,
        folder: &Folder,
        client: Option<ClientKey>,
        rules: &FolderRules,
    ) -> Vec<Barred> {
        self.change(|folders| folders.barred(folder, client, rules, clock::steady()))
    }

    /// A Create goes to the backend.
    pub fn asks(&self, backend: BackendId, create: &Create, rules: &FolderRules) -> Asking {
        let (create, rules) = (create.clone(), rules.clone());
        let asked = self.change(|folders| folders.asked(backend, create, clock::steady()));
        Asking { health: self.clone(), asked, rules, ended: false }
    }

    /// A packet of a session was answered that the disk of the backend is full.
    pub fn full(&self, backend: BackendId, create: &Create, rules: &FolderRules) {
        self.change(|folders| folders.full(backend, create, rules, clock::steady()));
    }

    /// What the word of a client counts.
    pub(super) fn packet_source(&self, client: Option<ClientKey>) -> PacketSource {
        let folders = self.0.shared.new_sessions.folders.lock();
        PacketSource { client, among_others: folders.has_several_clients(clock::steady()) }
    }

    /// All verdicts there are, and for whom each counts.
    pub fn verdicts(&self, rules: &FolderRules) -> Vec<(Reach, Verdict)> {
        let now = clock::steady();
        self.change(|folders| {
            folders.settle(rules, now);
            let everyone = folders.verdicts().map(|verdict| (Reach::Everyone, verdict));
            let one = folders.verdicts_for_one(now).map(|verdict| (Reach::OneClient, verdict));
            everyone.chain(one).collect()
        })
    }

    fn change<T>(&self, change: impl FnOnce(&mut Folders) -> T) -> T {
        self.0.shared.change_folders(|id| self.get(id).map(|known| Arc::clone(&known.name)), change)
    }
}

impl BackendHealth {
    /// What a round of probes asks besides.
    pub(super) fn pings(&self) -> Vec<Ping> {
        self.shared.new_sessions.folders.lock().pings(self.id)
    }

    /// A Ping has passed or failed. True if the next one is to come soon.
    pub(super) fn pinged(
        &self,
        ping: &Ping,
        outcome: Result<(), ProbeFailure>,
        probes: &Rules,
        rules: &FolderRules,
    ) -> bool {
        let in_a_row = InARow { rise: probes.rise, fall: probes.fall };
        self.shared.change_folders(
            |_| Some(Arc::clone(&self.name)),
            |folders| folders.pinged(ping, outcome, in_a_row, rules, clock::steady()),
        )
    }
}

impl Shared {
    /// Nothing speaks against a backend that is another one now, or was away.
    pub(super) fn forget_folders(&self, id: BackendId, name: &Arc<str>) {
        self.change_folders(|_| Some(Arc::clone(name)), |folders| folders.forget(id));
    }

    fn change_folders<T>(
        &self,
        name: impl Fn(BackendId) -> Option<Arc<str>>,
        change: impl FnOnce(&mut Folders) -> T,
    ) -> T {
        let mut folders = self.new_sessions.folders.lock();
        let changed = change(&mut folders);
        let changes = folders.take_changes();
        if changes.is_empty() {
            return changed;
        }
        for why in Sign::ALL {
            let count = folders.verdicts().filter(|verdict| verdict.why == why).count();
            self.metrics.set_barred_folders(why, count);
        }
        drop(folders);
        for Change { backend, folder, why, reach } in changes {
            let name = name(backend);
            let name = name.as_deref().unwrap_or_default();
            match reach {
                Reach::Everyone => self.new_sessions.tell(name, &folder, why, &self.events),
                Reach::OneClient => tell_of_one(name, &folder, why),
            }
        }
        changed
    }
}

impl NewSessions {
    fn tell(&self, backend: &str, folder: &Folder, why: Option<Sign>, events: &Events) {
        let path = folder.path();
        let folder = Untrusted(path.as_bytes());
        let (name, level, message) = match why.map(reason) {
            Some(reason) => {
                let message = format!("{backend} gets no new uploads of {folder}: {reason}");
                ("barred", Level::Warning, message)
            }
            None => {
                let message = format!("{backend} gets new uploads of {folder} again");
                ("barred_no_more", Level::Info, message)
            }
        };
        events.tell(Event::new(Kind::Backend, name, level, message).backend(backend));
        match why.map(reason) {
            Some(reason) if self.warned.is_due(clock::steady()) => tracing::warn!(
                backend, %folder, reason,
                "a backend gets no new sessions of a folder but a trial now and then"
            ),
            Some(reason) => tracing::info!(
                backend, %folder, reason,
                "a backend gets no new sessions of a folder but a trial now and then"
            ),
            None => {
                tracing::info!(backend, %folder, "a backend gets new sessions of a folder again")
            }
        }
    }
}

/// A client can bring that about by itself, so it is no event, and no warning.
fn tell_of_one(backend: &str, folder: &Folder, why: Option<Sign>) {
    let path = folder.path();
    let folder = Untrusted(path.as_bytes());
    match why.map(reason) {
        Some(reason) => tracing::info!(
            backend, %folder, reason,
            "a backend gets no new sessions of a folder from one client, whose word alone speaks against it"
        ),
        None => tracing::info!(
            backend, %folder,
            "a backend gets new sessions of a folder again from the client whose word spoke against it"
        ),
    }
}

/// As people read it.
pub fn reason(sign: Sign) -> &'static str {
    match sign {
        Sign::Refuses => "it refuses Create-Sessions that another backend accepts",
        Sign::Silent => "it does not answer Create-Sessions while other backends do",
        Sign::Full => "it says that its disk is full",
        Sign::Ping => "it fails the Pings of probes",
    }
}

impl Asking {
    /// The backend has opened a session. `refusers` have refused the same Create before.
    pub fn accepted(mut self, refusers: &[(BackendId, Sign)]) {
        self.end(|folders, asked, rules| folders.accepted(asked, refusers, rules, clock::steady()));
    }

    /// It has refused. `about_it`: that says something about the backend.
    pub fn refused(mut self, about_it: bool) {
        self.end(|folders, asked, rules| folders.refused(asked, about_it, rules, clock::steady()));
    }

    fn end(&mut self, end: impl FnOnce(&mut Folders, &Asked, &FolderRules)) {
        self.ended = true;
        let Self { health, asked, rules, .. } = self;
        health.change(|folders| end(folders, asked, rules));
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        if !self.ended {
            self.end(|folders, asked, rules| folders.gone(asked, rules, clock::steady()));
        }
    }
}
