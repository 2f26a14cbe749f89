//! What a gateway remembers, in memory and, where it has one, on its disk.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use gateway_core::farm::BackendId;
use gateway_core::fault::Fault;
use gateway_core::protocol::{SessionId, SessionKey};
use gateway_core::routing::Lookup;
use gateway_core::session::expiry::is_expired;
use gateway_core::session::{EndReason, Pin, Progress, TargetHash, Timestamp};

use crate::disk::{Disk, Row, WriteError};

/// Why a request does not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    Fault(Fault),
    /// The process has died; nobody is answered.
    Died,
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<WriteError> for Stop {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Refused => Self::Fault(Fault::StoreDown),
            WriteError::Died => Self::Died,
        }
    }
}

/// The pins, with what is known of each upload.
#[derive(Default)]
pub struct Table {
    pub pins: HashMap<SessionKey, (Pin, Progress)>,
    pub ended: HashMap<SessionKey, TargetHash>,
    /// Cannot be asked or written to.
    pub down: bool,
    pub disk: Option<Disk>,
    /// Sessions that were opened by this process and have had no packet since.
    pub untouched: HashSet<SessionKey>,
    /// Since when it has been unclear what became of the file of a Close.
    unclear: HashMap<SessionKey, u64>,
    /// When each session was last heard of, by a clock that never jumps; of this process only.
    steady: HashMap<SessionKey, u64>,
    /// When this process began, by the same clock.
    begun: u64,
}

impl Table {
    pub fn on(disk: Disk) -> Self {
        Self { disk: Some(disk), ..Self::default() }
    }

    pub fn find(&self, id: Option<&SessionId>) -> Lookup {
        let Some(id) = id else { return Lookup::NotAsked };
        if self.down {
            return Lookup::StoreDown;
        }
        match (self.pins.get(id.key()), self.ended.get(id.key())) {
            (Some((pin, _)), _) => Lookup::Pinned(pin.clone()),
            (None, Some(target)) => Lookup::Ended(*target),
            (None, None) => Lookup::Unknown,
        }
    }

    /// Insert if absent; whether it was.
    pub fn pin(&mut self, key: &SessionKey, pin: Pin, steady: u64) -> Result<bool, Stop> {
        if self.down {
            return Err(Fault::StoreDown.into());
        }
        if self.pins.contains_key(key) || self.ended.contains_key(key) {
            return Ok(false);
        }
        self.put(key, pin, steady)?;
        Ok(true)
    }

    pub fn progress_of(&self, key: &SessionKey) -> Option<Progress> {
        self.pins.get(key).filter(|_| !self.down).map(|(_, progress)| *progress)
    }

    /// A packet of the session goes to its backend.
    pub fn touch(&mut self, id: Option<&SessionId>) {
        if let Some(id) = id {
            self.untouched.remove(id.key());
        }
    }

    pub fn is_untouched(&self, key: &SessionKey) -> bool {
        self.untouched.contains(key)
    }

    /// For how long it has been unclear, now included.
    pub fn unclear_for(&mut self, key: &SessionKey, steady: u64) -> Duration {
        let since = *self.unclear.entry(key.clone()).or_insert(steady);
        Duration::from_secs(steady - since)
    }

    /// Whether that backend calls another client's session so, by an id that its client was not given.
    pub fn is_hidden(&self, backend: BackendId, id: &SessionId) -> bool {
        let holder = self.holder(backend, id).filter(|_| !self.down);
        holder.is_some_and(|(public, _)| public != *id.key())
    }

    /// The session that this backend knows by that id.
    pub fn holder(&self, backend: BackendId, id: &SessionId) -> Option<(SessionKey, Progress)> {
        self.holders(backend, id).next()
    }

    pub fn holders(
        &self,
        backend: BackendId,
        id: &SessionId,
    ) -> impl Iterator<Item = (SessionKey, Progress)> {
        let known = |key: &SessionKey, pin: &Pin| match &pin.backend_session {
            Some(hidden) => {
                SessionId::parse(&**hidden).is_some_and(|hidden| hidden.key() == id.key())
            }
            None => key == id.key(),
        };
        let held = self.pins.iter().filter(move |(_, (pin, _))| pin.backend == backend);
        held.filter(move |(key, (pin, _))| known(key, pin))
            .map(|(key, (_, progress))| (key.clone(), *progress))
    }

    /// Another backend has the session now.
    pub fn put(&mut self, key: &SessionKey, pin: Pin, steady: u64) -> Result<(), Stop> {
        if let Some(disk) = &mut self.disk {
            disk.write(Row::Pin(key.clone(), pin.clone()))?;
        }
        self.steady.insert(key.clone(), steady);
        self.pins.insert(key.clone(), (pin, Progress::default()));
        Ok(())
    }

    pub fn progress(&mut self, key: &SessionKey, progress: Progress, steady: u64) {
        if let Some((_, known)) = self.pins.get_mut(key) {
            *known = known.then(progress);
            self.steady.insert(key.clone(), steady);
        }
    }

    pub fn end(&mut self, key: &SessionKey, reason: EndReason) -> Result<(), Stop> {
        let Some((pin, _)) = self.pins.remove(key) else { return Ok(()) };
        self.untouched.remove(key);
        self.unclear.remove(key);
        if matches!(reason, EndReason::Closed | EndReason::Cancelled) {
            return self.remember_end(key, pin.target_digest());
        }
        self.write_or_keep(Row::Gone(key.clone()))
    }

    /// Remembers an end, had it a pin or not.
    pub fn remember_end(&mut self, key: &SessionKey, target: TargetHash) -> Result<(), Stop> {
        self.ended.insert(key.clone(), target);
        self.write_or_keep(Row::End(key.clone(), target))
    }

    fn write_or_keep(&mut self, row: Row) -> Result<(), Stop> {
        match &mut self.disk {
            Some(disk) => Ok(disk.write_or_keep(row)?),
            None => Ok(()),
        }
    }

    /// Drops what both clocks say has been silent for too long.
    pub fn sweep(&mut self, wall: Timestamp, steady: u64, idle: Duration) -> Vec<SessionKey> {
        let silent = |key: &SessionKey| {
            let last = self.steady.get(key).copied().unwrap_or(self.begun);
            Duration::from_secs(steady - last)
        };
        let old = self.pins.iter().filter(|(key, (_, progress))| {
            is_expired(wall.since(progress.seen), silent(key), idle)
        });
        let old: Vec<_> = old.map(|(key, _)| key.clone()).collect();
        for key in &old {
            // A process that dies in a sweep forgets less, which does no harm.
            let _ = self.end(key, EndReason::Expired);
        }
        old
    }

    /// Another process reads what the one before has left on its disk.
    pub fn restart(&mut self, steady: u64) {
        let disk = self.disk.as_ref().expect("this table has a disk");
        let loaded = disk.load();
        let known = |(key, pin): (SessionKey, Pin)| {
            let progress = Progress { seen: pin.created, ..Progress::default() };
            (key, (pin, progress))
        };
        self.pins = loaded.pins.into_iter().map(known).collect();
        self.ended = loaded.ended;
        self.steady.clear();
        self.untouched.clear();
        self.unclear.clear();
        self.begun = steady;
    }
}
