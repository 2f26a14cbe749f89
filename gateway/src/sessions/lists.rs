//! Entries by session id in sorted lists without gaps, for what is many and seldom looked for.
//!
//! A hash table has half as many spare places again as entries. Here an id belongs to one of many
//! short lists by its keyed hash, and is found there by halving; an entry that comes moves half of
//! its list, some 16 KiB at a million entries. Lists have unequal shares, so that those that grow
//! take the blocks that larger ones have left.

use std::hash::BuildHasher;
use std::sync::atomic::{AtomicUsize, Ordering};

use foldhash::quality::SeedableRandomState;
use gateway_core::protocol::SessionKey;
use parking_lot::RwLock;

use super::uneven::{keyed, one_of};

/// So many that a list is short at a million entries, and so few that they cost nothing without any.
const LISTS: usize = 1024;

/// A full list grows by a part of itself, so that few places are spare.
const GROWTH: usize = 16;

pub(super) trait Entry {
    fn key(&self) -> &SessionKey;
}

pub(super) struct Lists<T> {
    lists: Box<[RwLock<Vec<T>>]>,
    hasher: SeedableRandomState,
    count: AtomicUsize,
}

impl<T> Default for Lists<T> {
    fn default() -> Self {
        let lists = (0..LISTS).map(|_| RwLock::default()).collect();
        Self { lists, hasher: keyed(), count: AtomicUsize::new(0) }
    }
}

impl<T: Entry> Lists<T> {
    pub fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// In place of the one of its id, if there is one.
    pub fn put(&self, entry: T) {
        let mut list = self.of(entry.key()).write();
        match list.binary_search_by(|other| other.key().cmp(entry.key())) {
            Ok(at) => list[at] = entry,
            Err(at) => self.insert(&mut list, at, entry),
        }
    }

    /// Behind others of its id.
    pub fn add(&self, entry: T) {
        let mut list = self.of(entry.key()).write();
        let at = list.partition_point(|other| other.key() <= entry.key());
        self.insert(&mut list, at, entry);
    }

    fn insert(&self, list: &mut Vec<T>, at: usize, entry: T) {
        if list.len() == list.capacity() {
            let more = (list.len() / GROWTH).max(4);
            list.reserve_exact(more);
        }
        list.insert(at, entry);
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    /// What `look` makes of all entries of that id, in the order in which they came.
    pub fn find<R>(&self, key: &SessionKey, look: impl FnOnce(&[T]) -> R) -> R {
        let list = self.of(key).read();
        let from = list.partition_point(|other| other.key() < key);
        let same = list[from..].iter().take_while(|other| other.key() == key).count();
        look(&list[from..from + same])
    }

    /// Takes the entries of that id that are not to be kept.
    pub fn retain_of(&self, key: &SessionKey, keep: impl Fn(&T) -> bool) {
        let mut list = self.of(key).write();
        let mut at = list.partition_point(|other| other.key() < key);
        while list.get(at).is_some_and(|entry| entry.key() == key) {
            match keep(&list[at]) {
                true => at += 1,
                false => {
                    list.remove(at);
                    self.count.fetch_sub(1, Ordering::Relaxed);
                }
            }
        }
        shrink(&mut list);
    }

    /// Takes all that are not to be kept, a list at a time.
    pub fn retain(&self, keep: impl Fn(&T) -> bool) {
        for list in &self.lists {
            let mut list = list.write();
            let before = list.len();
            list.retain(&keep);
            self.count.fetch_sub(before - list.len(), Ordering::Relaxed);
            shrink(&mut list);
        }
    }

    /// Holds a lock while it calls `visit`.
    pub fn each(&self, mut visit: impl FnMut(&T)) {
        for list in &self.lists {
            list.read().iter().for_each(&mut visit);
        }
    }

    fn of(&self, key: &SessionKey) -> &RwLock<Vec<T>> {
        &self.lists[one_of(LISTS as u64, self.hasher.hash_one(key)) as usize]
    }
}

/// Gives back what more than one growth would need.
fn shrink<T>(list: &mut Vec<T>) {
    let most = list.len() + (list.len() / GROWTH).max(4);
    if list.capacity() > most + most / GROWTH {
        list.shrink_to(most);
    }
}

#[cfg(test)]
#[path = "lists_tests.rs"]
mod tests;
