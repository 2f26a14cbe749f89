//! Uploads whose clients speak, in a small table beside the pins: who sends what, how fast, and what it
//! waits for.
//!
//! An entry belongs to a pinned session and is made by its Create or by a Fragment. It is in memory
//! only, so a process that starts knows each upload again with its next Fragment. Who is kept, in what
//! state each is, and how fast it is, [`gateway_core::session::live`] says.
//!
//! Of a packet whose upload is here already nothing is allocated, and of its body a number is stored
//! for each piece. When it moved last is found by looking at that number now and then.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use dashmap::DashMap;
use foldhash::quality::{RandomState, SeedableRandomState};
use gateway_core::farm::BackendId;
use gateway_core::protocol::client::ClientKey;
use gateway_core::protocol::{ContentRange, PacketType, SessionKey};
use gateway_core::session::live::{self, Capacity, Crowd, Leaving, Meter, Wait};
use parking_lot::Mutex;

use super::uneven::keyed;
use crate::base::clock;
use crate::telemetry::log::Untrusted;

/// Some 20 MB where each has the longest path and user agent and is of a client of its own.
const CAPACITY: Capacity = Capacity::of(20_000);

pub struct LiveUploads {
    uploads: DashMap<SessionKey, Arc<Entry>, SeedableRandomState>,
    capacity: Capacity,
    /// Locked where entries come and go. No shard is locked meanwhile by who waits for it.
    shares: Mutex<Shares>,
}

/// Whose the entries are.
#[derive(Default)]
struct Shares {
    leaving: Leaving<SessionKey>,
    /// Those whose clients are held to a share, by who made the entry.
    clients: HashMap<ClientKey, OfClient>,
}

#[derive(Default)]
struct OfClient {
    count: usize,
    leaving: Leaving<SessionKey>,
}

#[derive(Debug)]
struct Entry {
    /// Without the query, and fit to be shown.
    path: Arc<str>,
    user_agent: Option<Arc<str>>,
    /// Who is held to a share for it.
    holder: Option<ClientKey>,
    /// Bytes that have come of the body under way.
    came: AtomicU64,
    wait: AtomicU8,
    /// Requests that wait for the one under way.
    in_line: AtomicU8,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    client: Option<IpAddr>,
    backend: BackendId,
    under_way: Option<UnderWay>,
    /// Bytes of bodies that came before the one under way.
    before: u64,
    meter: Meter,
    /// When its last request ended, or the entry was made.
    heard: Duration,
    failing_since: Option<Duration>,
}

/// A request of an upload. Times are those of the steady clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnderWay {
    pub packet: PacketType,
    /// Of a Fragment.
    pub range: Option<ContentRange>,
    pub begun: Duration,
}

/// A packet of a pinned session.
#[derive(Debug, Clone, Copy)]
pub struct Packet<'a> {
    pub kind: PacketType,
    /// Of a Fragment.
    pub range: Option<ContentRange>,
    pub path: &'a [u8],
    pub user_agent: Option<&'a [u8]>,
    pub client: Option<IpAddr>,
    pub backend: BackendId,
    /// By the steady clock.
    pub arrived: Duration,
}

/// What is shown of a live upload. Times are those of the steady clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveUpload {
    pub path: Arc<str>,
    pub user_agent: Option<Arc<str>>,
    pub client: Option<IpAddr>,
    pub backend: BackendId,
    pub under_way: Option<UnderWay>,
    /// Bytes that have come of the body under way.
    pub came: u64,
    pub wait: Wait,
    /// When bytes of it were last seen to have come.
    pub moved: Option<Duration>,
    pub bytes_per_second: Option<u64>,
    /// Since then no packet of it has succeeded.
    pub failing_since: Option<Duration>,
}

/// The live uploads of a moment, for a walk over all sessions: nothing of them is copied, and no lock
/// is taken for a session that is none of them.
pub struct Snapshot {
    /// Asked for each session, so it hashes fast.
    uploads: HashMap<SessionKey, Arc<Entry>, RandomState>,
    now: Duration,
}

/// A request of a live upload, until it is dropped.
#[derive(Debug)]
pub struct LiveRequest(Arc<Entry>);

/// A request that waits for another one of its session, until it is dropped.
#[derive(Debug)]
pub struct InLine(Arc<Entry>);

impl Default for LiveUploads {
    fn default() -> Self {
        Self::with(CAPACITY)
    }
}

impl LiveUploads {
    pub fn with(capacity: Capacity) -> Self {
        Self { uploads: DashMap::with_hasher(keyed()), capacity, shares: Mutex::default() }
    }

    pub fn len(&self) -> usize {
        self.uploads.len()
    }

    pub fn is_empty(&self) -> bool {
        self.uploads.is_empty()
    }

    /// A packet has the turn of its session, or has opened it. A request under way is `None` for the
    /// latter, and where the upload is not shown: it was not and this is no Fragment, or there is no room.
    ///
    /// With it comes whether the entry may be new. `holder` is asked for a new one only.
    pub fn begin(
        &self,
        key: &SessionKey,
        packet: &Packet<'_>,
        holder: impl FnOnce() -> Option<ClientKey>,
    ) -> (Option<LiveRequest>, bool) {
        use PacketType::{CreateSession, Fragment};
        let found = self.uploads.get(key).map(|entry| Arc::clone(&entry));
        let new = found.is_none() && matches!(packet.kind, CreateSession | Fragment);
        let entry = if new { self.add(key, packet, holder()) } else { found };
        // The Ack of a Create is not out when the first Fragment may be here.
        let request = entry.filter(|_| packet.kind != CreateSession).map(|entry| {
            entry.begin(packet);
            LiveRequest(entry)
        });
        (request, new)
    }

    /// Makes an entry, if there is room. Returns the one that is there.
    fn add(
        &self,
        key: &SessionKey,
        packet: &Packet<'_>,
        holder: Option<ClientKey>,
    ) -> Option<Arc<Entry>> {
        let mut shares = self.shares.lock();
        if let Some(entry) = self.uploads.get(key) {
            return Some(Arc::clone(&entry));
        }
        if !self.make_room(&mut shares, holder, packet.arrived) {
            return None;
        }
        if let Some(holder) = holder {
            shares.clients.entry(holder).or_default().count += 1;
        }
        let shown = |bytes| Arc::from(Untrusted(bytes).to_string());
        let entry = Arc::new(Entry {
            path: shown(packet.path),
            user_agent: packet.user_agent.map(shown),
            holder,
            came: AtomicU64::new(0),
            wait: AtomicU8::new(Wait::Nothing as u8),
            in_line: AtomicU8::new(0),
            inner: Mutex::new(Inner {
                client: packet.client,
                backend: packet.backend,
                under_way: None,
                before: 0,
                meter: Meter::new(packet.arrived),
                heard: packet.arrived,
                failing_since: None,
            }),
        });
        self.uploads.insert(key.clone(), Arc::clone(&entry));
        Some(entry)
    }

    /// Whether there is room for one more, perhaps since another one has left.
    fn make_room(&self, shares: &mut Shares, holder: Option<ClientKey>, now: Duration) -> bool {
        let count = holder.and_then(|holder| shares.clients.get(&holder)).map_or(0, |of| of.count);
        let Some(crowd) = self.capacity.crowd(self.uploads.len(), count) else { return true };
        let among = match crowd {
            Crowd::Client => holder,
            Crowd::All => None,
        };
        let walk = || {
            let of_crowd = |entry: &Entry| among.is_none() || entry.holder == among;
            let all = self.uploads.iter().filter(|entry| of_crowd(entry.value()));
            all.filter_map(|entry| Some((entry.key().clone(), entry.silent_since()?))).collect()
        };
        let silent_since = |key: &SessionKey| self.uploads.get(key)?.silent_since();
        let leaving = match among.and_then(|holder| shares.clients.get_mut(&holder)) {
            Some(of) => &mut of.leaving,
            None => &mut shares.leaving,
        };
        let leaves = leaving.next(now, walk, silent_since);
        if let Some(key) = &leaves {
            self.take(shares, key);
        }
        leaves.is_some()
    }

    fn take(&self, shares: &mut Shares, key: &SessionKey) {
        let Some((_, entry)) = self.uploads.remove(key) else { return };
        let Some(holder) = entry.holder else { return };
        if let Some(of) = shares.clients.get_mut(&holder) {
            of.count -= 1;
            if of.count == 0 {
                shares.clients.remove(&holder);
            }
        }
    }

    /// The session has ended.
    pub(super) fn remove(&self, key: &SessionKey) {
        // Most sessions that end in bulk have no entry, and wait for nobody.
        if self.uploads.contains_key(key) {
            self.take(&mut self.shares.lock(), key);
        }
    }

    /// A request of the session waits for another one of it.
    pub fn wait_in_line(&self, key: &SessionKey) -> Option<InLine> {
        let entry = Arc::clone(&*self.uploads.get(key)?);
        entry.in_line.fetch_add(1, Ordering::Relaxed);
        Some(InLine(entry))
    }

    /// Looks how many bytes of each have come, so that there is a rate for whoever asks.
    pub fn look(&self, now: Duration) {
        self.uploads.iter().for_each(|entry| entry.look(now));
    }

    pub fn find(&self, key: &SessionKey, now: Duration) -> Option<LiveUpload> {
        Some(self.uploads.get(key)?.show(now))
    }

    /// Those that are there now.
    pub fn snapshot(&self, now: Duration) -> Snapshot {
        let uploads = self.uploads.iter();
        let uploads = uploads.map(|entry| (entry.key().clone(), Arc::clone(&entry))).collect();
        Snapshot { uploads, now }
    }
}

impl Snapshot {
    pub fn get(&self, key: &SessionKey) -> Option<LiveUpload> {
        Some(self.uploads.get(key)?.show(self.now))
    }

    pub fn has(&self, key: &SessionKey) -> bool {
        self.uploads.contains_key(key)
    }

    pub fn keys(&self) -> impl Iterator<Item = &SessionKey> {
        self.uploads.keys()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&SessionKey, LiveUpload)> {
        self.uploads.iter().map(|(key, entry)| (key, entry.show(self.now)))
    }
}

impl Entry {
    fn begin(&self, packet: &Packet<'_>) {
        let Packet { kind, range, client, backend, arrived, .. } = *packet;
        let wait = if range.is_some() { Wait::Client } else { Wait::Answer };
        self.wait.store(wait as u8, Ordering::Relaxed);
        let mut inner = self.inner.lock();
        inner.under_way = Some(UnderWay { packet: kind, range, begun: arrived });
        (inner.client, inner.backend) = (client, backend);
    }

    /// When it was last heard of; `None` while a request is under way.
    fn silent_since(&self) -> Option<Duration> {
        let inner = self.inner.lock();
        let silent = inner.under_way.is_none() && self.in_line.load(Ordering::Relaxed) == 0;
        silent.then_some(inner.heard)
    }

    fn look(&self, now: Duration) {
        let mut inner = self.inner.lock();
        let bytes = inner.before + self.came.load(Ordering::Relaxed);
        inner.meter.sample(now, bytes);
    }

    fn show(&self, now: Duration) -> LiveUpload {
        self.look(now);
        let inner = self.inner.lock();
        let in_line = self.in_line.load(Ordering::Relaxed) > 0;
        let wait = Wait::from_u8(self.wait.load(Ordering::Relaxed));
        LiveUpload {
            path: self.path.clone(),
            user_agent: self.user_agent.clone(),
            client: inner.client,
            backend: inner.backend,
            under_way: inner.under_way,
            came: self.came.load(Ordering::Relaxed),
            wait: if in_line { Wait::Turn } else { wait },
            moved: inner.meter.moved(),
            bytes_per_second: inner.meter.rate(now),
            failing_since: inner.failing_since,
        }
    }
}

impl LiveUpload {
    /// Size of the file, as the Fragment under way says.
    pub fn total(&self) -> Option<u64> {
        Some(self.under_way?.range?.total())
    }

    /// Bytes of the file that have come, where its backend wants `next_offset` next.
    pub fn received(&self, next_offset: u64) -> u64 {
        let range = self.under_way.and_then(|under_way| under_way.range);
        range.map_or(next_offset, |range| next_offset.max(range.first().saturating_add(self.came)))
    }
}

impl LiveRequest {
    /// So many bytes of its body have come.
    pub fn came(&self, bytes: u64) {
        self.0.came.store(bytes, Ordering::Relaxed);
    }

    pub fn waits_for(&self, wait: Wait) {
        self.0.wait.store(wait as u8, Ordering::Relaxed);
    }

    /// It goes to that backend.
    pub fn goes_to(&self, backend: BackendId) {
        self.0.inner.lock().backend = backend;
    }

    /// What its client was answered.
    pub fn answered(&self, status: Option<u16>) {
        let mut inner = self.0.inner.lock();
        match live::fails(status) {
            Some(true) => _ = inner.failing_since.get_or_insert_with(clock::steady),
            Some(false) => inner.failing_since = None,
            None => {}
        }
    }
}

impl Drop for LiveRequest {
    fn drop(&mut self) {
        let entry = &self.0;
        let now = clock::steady();
        let mut inner = entry.inner.lock();
        inner.before += entry.came.swap(0, Ordering::Relaxed);
        let bytes = inner.before;
        inner.meter.sample(now, bytes);
        (inner.under_way, inner.heard) = (None, now);
        entry.wait.store(Wait::Nothing as u8, Ordering::Relaxed);
    }
}

impl Drop for InLine {
    fn drop(&mut self) {
        self.0.in_line.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
#[path = "live_uploads_tests.rs"]
mod tests;
