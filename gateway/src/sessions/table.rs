//! The map itself: dashmap over one record of 64 bytes for each session.
//!
//! A slot of the map is a pointer to such a record, which begins with the key. So the spare slots of
//! a map, which are two in five or fewer, are 9 bytes each and no whole sessions.
//!
//! What is absent: a session in its packed form. It is unpacked when it is looked at, and packed
//! again when a change of it is over.

use std::borrow::Borrow;
use std::cell::UnsafeCell;
use std::hash::{Hash, Hasher};
use std::hint::black_box;
use std::mem;
use std::ops::{Deref, DerefMut};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use dashmap::mapref::multiple::RefMutMulti;
use dashmap::mapref::one::{Ref, RefMut};
use gateway_core::protocol::SessionKey;

use super::Session;
use super::packed::Body;
use super::uneven::{SHARDS, Uneven};

/// A walk touches so many records before it looks at the first of them. Each lies somewhere else in
/// memory, and a processor waits for many of them at once if nothing else is between.
const BATCH: usize = 64;

pub(super) struct Table {
    records: DashMap<Record, (), Uneven>,
}

impl Table {
    /// With room for `expected` sessions: a table that doubles as it fills copies everything again.
    pub fn new(expected: usize) -> Self {
        let hasher = Uneven::default();
        Self {
            records: DashMap::with_capacity_and_hasher_and_shard_amount(expected, hasher, SHARDS),
        }
    }

    pub fn contains_key(&self, key: &SessionKey) -> bool {
        self.records.contains_key(key)
    }

    pub fn get(&self, key: &SessionKey) -> Option<Found<Ref<'_, Record, ()>>> {
        self.records.get(key).map(Found::new)
    }

    pub fn get_mut(&self, key: &SessionKey) -> Option<Changed<RefMut<'_, Record, ()>>> {
        self.records.get_mut(key).map(Changed::new)
    }

    /// False if there is one already, which stays. `meanwhile` runs under the lock of a new one:
    /// whoever finds it finds that done.
    pub fn insert(&self, key: SessionKey, session: Session, meanwhile: impl FnOnce()) -> bool {
        let body = UnsafeCell::new(Body::from(session));
        match self.records.entry(Record(Box::new(Inner { key, body }))) {
            Entry::Occupied(_) => false,
            Entry::Vacant(free) => {
                meanwhile();
                free.insert(());
                true
            }
        }
    }

    pub fn remove_if(
        &self,
        key: &SessionKey,
        goes: impl FnOnce(&SessionKey, &Session) -> bool,
    ) -> Option<(SessionKey, Session)> {
        let goes = |record: &Record, ()| goes(&record.0.key, &Whole::new(record));
        let (record, ()) = self.records.remove_if(key, |record, &()| goes(record, ()))?;
        let Inner { key, body } = *record.0;
        Some((key, body.into_inner().into()))
    }

    /// Shows all of them to `visit`, a shard at a time, and holds its lock meanwhile.
    pub fn each(&self, mut visit: impl FnMut(&SessionKey, &Session)) {
        for shard in self.records.shards() {
            let shard = shard.read();
            // SAFETY: the lock is held for as long as the iterator lives.
            let buckets = unsafe { shard.iter() };
            // SAFETY: as above, for as long as the references live.
            let mut records = buckets.map(|bucket| Locked(&unsafe { bucket.as_ref() }.0));
            let mut batch: Vec<Locked<'_>> = Vec::with_capacity(BATCH);
            loop {
                batch.extend(records.by_ref().take(BATCH));
                if batch.is_empty() {
                    break;
                }
                let packed = batch.iter().filter(|record| record.is_packed()).count();
                black_box(packed);
                for record in batch.drain(..) {
                    let whole = Whole::new(record);
                    visit(whole.key(), &whole);
                }
            }
        }
    }

    /// A shard at a time.
    pub fn iter_mut(&self) -> impl Iterator<Item = Changed<RefMutMulti<'_, Record, ()>>> {
        self.records.iter_mut().map(Changed::new)
    }
}

/// Key and session, behind one pointer.
///
/// The map allows no change of a key, and to it all of this is the key. But nothing outside this
/// module has a record that is in the map, and everything in it holds the lock of its shard.
pub(super) struct Record(Box<Inner>);

struct Inner {
    key: SessionKey,
    body: UnsafeCell<Body>,
}

const _: () = assert!(size_of::<Inner>() == 64);

// SAFETY: the body is read under a lock of the shard, and changed under the exclusive one; what is in
// it may be shared between threads.
unsafe impl Sync for Record where Body: Send + Sync {}

impl PartialEq for Record {
    fn eq(&self, other: &Self) -> bool {
        self.0.key == other.0.key
    }
}

impl Eq for Record {}

impl Hash for Record {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.0.key.hash(hasher);
    }
}

impl Borrow<SessionKey> for Record {
    fn borrow(&self) -> &SessionKey {
        &self.0.key
    }
}

/// What keeps a record as it is: a lock of its shard.
///
/// # Safety
/// Nobody changes the record for as long as the guard lives, and it is always the same one.
pub(super) unsafe trait Guard {
    fn record(&self) -> &Record;
}

/// What keeps others off a record: the exclusive lock of its shard.
///
/// # Safety
/// Nobody else has a reference to what is in the record for as long as the guard lives.
pub(super) unsafe trait ExclusiveGuard: Guard {}

// SAFETY: it holds a lock of the shard.
unsafe impl Guard for Ref<'_, Record, ()> {
    fn record(&self) -> &Record {
        self.key()
    }
}

/// A record of a shard whose lock somebody else holds.
struct Locked<'a>(&'a Record);

impl Locked<'_> {
    fn is_packed(&self) -> bool {
        matches!(body(self), Body::Packed(_))
    }
}

// SAFETY: it is made under a lock of the shard, which lives longer.
unsafe impl Guard for Locked<'_> {
    fn record(&self) -> &Record {
        self.0
    }
}

// SAFETY: it is used in the closure of `remove_if` alone, which runs under the lock of the shard.
unsafe impl Guard for &Record {
    fn record(&self) -> &Record {
        self
    }
}

// SAFETY: it holds the exclusive lock of the shard, and whoever has it changes nothing but by it.
unsafe impl Guard for RefMut<'_, Record, ()> {
    fn record(&self) -> &Record {
        self.key()
    }
}

// SAFETY: as above.
unsafe impl Guard for RefMutMulti<'_, Record, ()> {
    fn record(&self) -> &Record {
        self.key()
    }
}

// SAFETY: it holds the exclusive lock of the shard.
unsafe impl ExclusiveGuard for RefMut<'_, Record, ()> {}

// SAFETY: it holds the exclusive lock of the shard together with others of the same walk, each of
// which has another record.
unsafe impl ExclusiveGuard for RefMutMulti<'_, Record, ()> {}

/// A session as it was when it was found.
pub(super) enum Found<G> {
    /// A copy, so that no lock is held while it is looked at. A writer waits until nobody reads, and
    /// readers do not wait for writers.
    Copied(Session),
    Borrowed(Whole<G>),
}

impl<G: Guard> Found<G> {
    fn new(guard: G) -> Self {
        match body(&guard) {
            &Body::Packed(packed) => {
                drop(guard);
                Self::Copied(packed.session())
            }
            Body::Full(_) => Self::Borrowed(Whole::new(guard)),
        }
    }
}

impl<G: Guard> Deref for Found<G> {
    type Target = Session;

    fn deref(&self) -> &Session {
        match self {
            Self::Copied(session) => session,
            Self::Borrowed(whole) => whole,
        }
    }
}

/// A session with its key, that stays as it is for as long as this lives.
pub(super) struct Whole<G> {
    guard: G,
    /// Without meaning for one that is not packed.
    unpacked: Session,
}

impl<G: Guard> Whole<G> {
    fn new(guard: G) -> Self {
        let unpacked = match body(&guard) {
            Body::Packed(packed) => packed.session(),
            Body::Full(_) => Session::EMPTY,
        };
        Self { guard, unpacked }
    }

    pub fn key(&self) -> &SessionKey {
        &self.guard.record().0.key
    }
}

impl<G: Guard> Deref for Whole<G> {
    type Target = Session;

    fn deref(&self) -> &Session {
        match body(&self.guard) {
            Body::Packed(_) => &self.unpacked,
            Body::Full(session) => session,
        }
    }
}

fn body(guard: &impl Guard) -> &Body {
    // SAFETY: the guard keeps it as it is, and the reference is no longer than that to the guard.
    unsafe { &*guard.record().0.body.get() }
}

/// A session that is being changed. It is back in its record when this is dropped.
pub(super) struct Changed<G: ExclusiveGuard> {
    guard: G,
    session: Session,
}

impl<G: ExclusiveGuard> Changed<G> {
    fn new(guard: G) -> Self {
        let mut changed = Self { guard, session: Session::EMPTY };
        let body = mem::replace(changed.body(), Body::EMPTY);
        changed.session = body.into();
        changed
    }

    pub fn key(&self) -> &SessionKey {
        &self.guard.record().0.key
    }

    fn body(&mut self) -> &mut Body {
        // SAFETY: nobody else has a reference to the record, and this one is as long as that to the
        // guard.
        unsafe { &mut *self.guard.record().0.body.get() }
    }
}

impl<G: ExclusiveGuard> Drop for Changed<G> {
    fn drop(&mut self) {
        let session = mem::replace(&mut self.session, Session::EMPTY);
        *self.body() = session.into();
    }
}

impl<G: ExclusiveGuard> Deref for Changed<G> {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.session
    }
}

impl<G: ExclusiveGuard> DerefMut for Changed<G> {
    fn deref_mut(&mut self) -> &mut Session {
        &mut self.session
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
