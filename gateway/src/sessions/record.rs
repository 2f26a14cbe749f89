//! The record of a session, as small as a million of them want it.

use std::sync::Arc;
use std::time::Duration;

use gateway_core::farm::BackendId;
use gateway_core::protocol::client::ClientKey;
use gateway_core::session::{Binding, Pin, Progress, Subject, TargetHash, Timestamp};

/// In [`Session::steady`]: this process has seen the session opened and has passed on no packet of
/// it. The bit would be a clock's after 68 years, the next one after 34, and the third after 17.
pub(super) const UNTOUCHED: u32 = 1 << 31;

/// In [`Session::steady`]: it is stored, or about to be, that the end of the file was passed on or
/// has arrived.
pub(super) const ENDING: u32 = 1 << 30;

/// In [`Session::steady`]: its name was handed to the store by this process.
pub(super) const NAMED: u32 = 1 << 29;

const CLOCK: u32 = !(UNTOUCHED | ENDING | NAMED);

/// A pin and its progress, as it is while somebody looks at it. The table keeps most of them in a
/// smaller form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Session {
    pub backend: BackendId,
    /// Seconds of the steady clock at the last progress, with [`UNTOUCHED`], [`ENDING`] and [`NAMED`] in it.
    pub steady: u32,
    pub target: TargetHash,
    pub created: Timestamp,
    /// Who opened it, where that is known.
    pub client: ClientKey,
    pub progress: Progress,
    pub rare: Option<Box<Rare>>,
}

/// What most sessions do not have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Rare {
    pub backend_session: Option<Box<str>>,
    pub subject: Option<Subject>,
    /// The target of its Create-Session, where that is not in normal form.
    pub spelling: Option<Arc<str>>,
    /// A [`Birth`], for as long as it has no byte.
    pub birth: Option<Box<[u8]>>,
}

impl Rare {
    pub fn is_empty(&self) -> bool {
        let Self { backend_session, subject, spelling, birth } = self;
        backend_session.is_none() && subject.is_none() && spelling.is_none() && birth.is_none()
    }
}

impl Session {
    /// Stands where there is none.
    pub const EMPTY: Self = Self {
        backend: BackendId(0),
        steady: 0,
        target: TargetHash(0),
        created: Timestamp(0),
        client: ClientKey::UNKNOWN,
        progress: Progress { next_offset: 0, total: 0, seen: Timestamp(0) },
        rare: None,
    };

    pub fn new(pin: Pin, progress: Progress, steady: Duration) -> Self {
        let Pin { backend, backend_session, binding, created, subject } = pin;
        let Binding { target, spelling } = binding;
        let steady = seconds(steady);
        let rare = Rare { backend_session, subject, spelling, birth: None };
        let rare = (!rare.is_empty()).then(|| Box::new(rare));
        let client = ClientKey::UNKNOWN;
        Self { backend, steady, target, created, client, progress, rare }
    }

    pub fn pin(&self) -> Pin {
        Pin {
            backend: self.backend,
            backend_session: self.backend_session().map(Into::into),
            binding: self.binding(),
            created: self.created,
            subject: self.subject().cloned(),
        }
    }

    pub fn backend_session(&self) -> Option<&str> {
        self.rare.as_ref()?.backend_session.as_deref()
    }

    pub fn subject(&self) -> Option<&Subject> {
        self.rare.as_ref()?.subject.as_ref()
    }

    pub fn spelling(&self) -> Option<&Arc<str>> {
        self.rare.as_ref()?.spelling.as_ref()
    }

    pub fn binding(&self) -> Binding {
        Binding { target: self.target, spelling: self.spelling().cloned() }
    }

    /// Its packets have to come in the spelling of its Create-Session from now on.
    pub fn drop_spelling(&mut self) {
        self.target = self.binding().without_spelling().target;
        if let Some(rare) = &mut self.rare {
            rare.spelling = None;
            if rare.is_empty() {
                self.rare = None;
            }
        }
    }

    pub fn rare_mut(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    /// Whose place it has.
    pub fn counted_client(&self) -> Option<ClientKey> {
        (self.client != ClientKey::UNKNOWN).then_some(self.client)
    }

    pub fn is_untouched(&self) -> bool {
        self.steady & UNTOUCHED != 0
    }

    pub fn is_ending(&self) -> bool {
        self.steady & ENDING != 0
    }

    /// The size of the file to which its backend has agreed; 0 where it has agreed to none. That the
    /// end of a file of some size was passed on says nothing of the backend.
    pub fn agreed_total(&self) -> u64 {
        match self.progress.next_offset {
            0 if self.is_ending() => 0,
            _ => self.progress.total,
        }
    }

    pub fn hear(&mut self, steady: Duration) {
        self.steady = seconds(steady) | (self.steady & (ENDING | NAMED));
    }

    /// Seconds of the steady clock.
    pub fn heard_at(&self) -> u32 {
        self.steady & CLOCK
    }

    pub fn heard_of(&self) -> Duration {
        Duration::from_secs(self.heard_at().into())
    }
}

pub(super) fn seconds(steady: Duration) -> u32 {
    u32::try_from(steady.as_secs()).unwrap_or(u32::MAX) & CLOCK
}
