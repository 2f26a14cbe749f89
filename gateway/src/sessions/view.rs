//! The session table as operators see it: one session, what is left to upload. Pages of it are [`super::listing`].
//!
//! What is known of an upload while its client speaks counts too: a Fragment of hours is progress before
//! it is acknowledged.
//!
//! Everything here but [`Sessions::show`] walks the whole map, a shard lock at a time, and holds no
//! more than a page of it. A million sessions take some 80 ms, and more in a debug build: not for a
//! thread that carries traffic.

use std::collections::BinaryHeap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::time::Duration;

use gateway_core::protocol::SessionKey;
use gateway_core::session::live::{IDLE, State, Wait};
use gateway_core::session::{Pin, Progress, Timestamp};

use super::live_uploads::LiveUpload;
use super::names::Name;
use super::{Session, Sessions};
use crate::base::clock;

/// A session's place in the order of pages, and its name for people.
///
/// The id itself is a bearer secret, and a page has to say where it ends. An id that nobody can
/// guess cannot be found by its mark, and of a million sessions two share one with a probability
/// of 3 in 100 million.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mark(pub u64);

/// A moment, by both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    pub wall: Timestamp,
    pub steady: Duration,
}

impl Moment {
    pub fn now() -> Self {
        Self { wall: clock::now(), steady: clock::steady() }
    }

    /// What the clock on the wall said, or will say, at a time of the steady one.
    pub fn at(self, steady: Duration) -> Timestamp {
        let ms = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        match steady.checked_sub(self.steady) {
            Some(ahead) => Timestamp(self.wall.0.saturating_add(ms(ahead))),
            None => Timestamp(self.wall.0.saturating_sub(ms(self.steady - steady))),
        }
    }
}

/// A copy of what is known of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub key: SessionKey,
    pub pin: Pin,
    pub progress: Progress,
    /// When a packet of it came last, by the steady clock.
    pub heard_of: Duration,
    pub live: Option<LiveUpload>,
    /// What is stored of one that is not live, as far as it was asked for.
    pub name: Option<Name>,
}

/// What one backend still has to receive.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Left {
    pub sessions: u64,
    /// Sessions that lack bytes, as far as anybody knows.
    pub uploads: u64,
    /// Bytes that those lack whose size is known.
    pub bytes: u64,
    /// Bytes that it has of all of them.
    pub received: u64,
    /// Sessions without a Fragment yet: nobody knows their size.
    pub of_unknown_size: u64,
    /// Sessions without progress for five minutes.
    pub idle: u64,
}

impl Mark {
    pub fn of(key: &SessionKey) -> Self {
        // Without a key of its own the hash is the same in every process of one build, so a page
        // can be continued after a restart.
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        Self(hasher.finish())
    }

    /// Reads what `Display` writes.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix('@').filter(|digits| digits.len() == 16)?;
        let plain = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        u64::from_str_radix(digits, 16).ok().filter(|_| plain).map(Self)
    }
}

/// As [`Mark::parse`].
impl std::str::FromStr for Mark {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text).ok_or("not what `sessions list` shows under REF")
    }
}

/// `@` and 16 digits. The sign tells it from a session id that has only digits too.
impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "@{:016x}", self.0)
    }
}

impl Row {
    pub fn mark(&self) -> Mark {
        Mark::of(&self.key)
    }

    /// When it made progress last.
    pub fn seen(&self, at: Moment) -> Timestamp {
        seen(self.progress, self.live.as_ref(), at)
    }

    /// `away` is whether its backend serves no packets.
    pub fn state(&self, at: Moment, away: bool) -> State {
        state(self.live.as_ref(), at.wall.since(self.seen(at)), away)
    }

    /// As [`Self::state`].
    pub fn waits_for(&self, away: bool) -> Wait {
        waits_for(self.live.as_ref(), away)
    }

    /// Bytes of the file that have come.
    pub fn received(&self) -> u64 {
        received(self.progress, self.live.as_ref())
    }

    /// Size of the file, as far as it is known.
    pub fn total(&self) -> Option<u64> {
        total(self.progress, self.live.as_ref())
    }

    /// When it ends if nothing more is heard of it: the later one of two clocks counts.
    pub fn expires(&self, at: Moment, idle_timeout: Duration) -> Timestamp {
        let wall = at.wall.since(self.progress.seen);
        let steady = at.steady.saturating_sub(self.heard_of);
        at.at(at.steady + idle_timeout.saturating_sub(wall.min(steady)))
    }

    /// When its client goes back to the first name, if its packets go on to fail.
    pub fn falls_back(&self, at: Moment, fallback_timeout: Duration) -> Option<Timestamp> {
        let since = self.live.as_ref()?.failing_since?;
        Some(at.at(since + fallback_timeout))
    }
}

/// When an upload made progress last.
pub(super) fn seen(progress: Progress, live: Option<&LiveUpload>, at: Moment) -> Timestamp {
    let moved = live.and_then(|live| live.moved).map(|moved| at.at(moved));
    moved.map_or(progress.seen, |moved| moved.max(progress.seen))
}

pub(super) fn state(live: Option<&LiveUpload>, silent: Duration, away: bool) -> State {
    State::of(waits_for(live, away), silent)
}

fn waits_for(live: Option<&LiveUpload>, away: bool) -> Wait {
    live.map_or(Wait::Nothing, |live| live.wait).of_upload(away)
}

fn total(progress: Progress, live: Option<&LiveUpload>) -> Option<u64> {
    let known = (progress.total > 0).then_some(progress.total);
    known.or(live.and_then(LiveUpload::total))
}

fn received(progress: Progress, live: Option<&LiveUpload>) -> u64 {
    live.map_or(progress.next_offset, |live| live.received(progress.next_offset))
}

impl Sessions {
    pub fn show(&self, key: &SessionKey) -> Option<Row> {
        self.live.get(key).map(|session| row(key, &session, self.live_upload(key)))
    }

    fn live_upload(&self, key: &SessionKey) -> Option<LiveUpload> {
        self.live_uploads.find(key, clock::steady())
    }

    /// The session with that mark.
    pub fn marked(&self, mark: Mark) -> Option<Row> {
        let mut found = None;
        self.live.each(|key, session| {
            if Mark::of(key) == mark {
                found = Some(row(key, session, None));
            }
        });
        let row = found?;
        Some(Row { live: self.live_upload(&row.key), ..row })
    }

    /// How many sessions have made no progress for so long.
    pub fn silent_for(&self, now: Timestamp, span: Duration) -> u64 {
        self.count(|session| now.since(session.progress.seen) >= span)
    }

    /// How many sessions were opened by such clients, as far as that is known: a process counts from
    /// its start.
    pub fn opened_by(&self, such: impl Fn(IpAddr) -> bool) -> u64 {
        let client = |session: &Session| session.counted_client();
        self.count(|session| client(session).is_some_and(|client| such(client.address())))
    }

    fn count(&self, such: impl Fn(&Session) -> bool) -> u64 {
        let mut count = 0;
        self.live.each(|_, session| count += u64::from(such(session)));
        count
    }

    /// What each backend still has to receive, by backend id.
    pub fn left(&self, at: Moment) -> Vec<Left> {
        let live = self.live_uploads.snapshot(at.steady);
        let mut all: Vec<Left> = Vec::new();
        self.live.each(|key, session| {
            let Session { backend, progress, .. } = session;
            let slot = backend.0 as usize;
            if slot >= all.len() {
                all.resize(slot + 1, Left::default());
            }
            let left = &mut all[slot];
            let live = live.get(key);
            let live = live.as_ref();
            let total = total(*progress, live);
            let received = received(*progress, live);
            let bytes = total.unwrap_or_default().saturating_sub(received);
            let unknown = total.is_none();
            left.sessions += 1;
            left.uploads += u64::from(unknown || bytes > 0);
            left.bytes = left.bytes.saturating_add(bytes);
            left.received = left.received.saturating_add(received);
            left.of_unknown_size += u64::from(unknown);
            left.idle += u64::from(at.wall.since(seen(*progress, live, at)) >= IDLE);
        });
        all
    }
}

/// Picks a page out of sessions that come in any order; holds no more than the page.
pub struct Pager<T> {
    after: Option<Mark>,
    limit: usize,
    /// The smallest marks so far, the largest of them on top; one more than the page takes, to
    /// know whether there is a next page.
    found: BinaryHeap<Candidate<T>>,
}

impl<T> Pager<T> {
    pub fn new(after: Option<Mark>, limit: usize) -> Self {
        Self { after, limit, found: BinaryHeap::new() }
    }

    /// Takes the row of a session, if it has one and may be on the page.
    pub fn offer(&mut self, key: &SessionKey, row: impl FnOnce() -> Option<T>) {
        let mark = Mark::of(key);
        let full = self.found.len() > self.limit;
        let last = self.found.peek().map(|last| last.mark);
        if self.after.is_some_and(|after| mark <= after)
            || (full && last.is_some_and(|last| mark >= last))
        {
            return;
        }
        let Some(row) = row() else { return };
        if full {
            self.found.pop();
        }
        self.found.push(Candidate { mark, row });
    }

    /// The rows in order, and where the next page begins if there is one.
    pub fn finish(self) -> (Vec<T>, Option<Mark>) {
        let mut found = self.found.into_sorted_vec();
        let more = found.len() > self.limit;
        found.truncate(self.limit);
        let next = found.last().map(|last| last.mark).filter(|_| more);
        (found.into_iter().map(|candidate| candidate.row).collect(), next)
    }
}

/// A row that may be on the page, compared by its mark alone.
struct Candidate<T> {
    mark: Mark,
    row: T,
}

impl<T> PartialEq for Candidate<T> {
    fn eq(&self, other: &Self) -> bool {
        self.mark == other.mark
    }
}

impl<T> Eq for Candidate<T> {}

impl<T> PartialOrd for Candidate<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Candidate<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.mark.cmp(&other.mark)
    }
}

pub(super) fn row(key: &SessionKey, session: &Session, live: Option<LiveUpload>) -> Row {
    Row {
        key: key.clone(),
        pin: session.pin(),
        progress: session.progress,
        heard_of: session.heard_of(),
        live,
        name: None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use gateway_core::farm::BackendId;
    use gateway_core::protocol::SessionId;
    use gateway_core::session::{Binding, TargetHash};

    use super::*;

    fn key(id: &str) -> SessionKey {
        SessionId::parse(id).unwrap().key().clone()
    }

    async fn put(sessions: &Sessions, id: &str, backend: u32, progress: Progress) {
        let pin = Pin {
            backend: BackendId(backend),
            backend_session: None,
            binding: Binding::unspelled(TargetHash(1)),
            created: Timestamp(0),
            subject: None,
        };
        sessions.pin(key(id), pin, progress, Duration::ZERO).await.unwrap();
    }

    async fn table(count: u32) -> Arc<Sessions> {
        let sessions = Sessions::new(1_000_000, std::time::Duration::from_secs(60));
        for n in 0..count {
            put(&sessions, &format!("session-{n}"), n % 3, Progress::default()).await;
        }
        sessions
    }

    #[tokio::test]
    async fn a_session_is_found_by_id_and_by_mark() {
        let sessions = table(5).await;
        let row = sessions.show(&key("session-3")).unwrap();
        assert_eq!(sessions.marked(row.mark()), Some(row.clone()));
        assert_eq!(Mark::parse(&row.mark().to_string()), Some(row.mark()));
        assert_eq!(sessions.show(&key("session-9")), None);
        assert_eq!(sessions.marked(Mark(1)), None);
        for text in ["", "@", "@12", "1234567812345678", "@+234567812345678", "@123456781234567g"] {
            assert_eq!(Mark::parse(text), None, "{text}");
        }
    }

    #[tokio::test]
    async fn what_is_left_is_counted_by_backend() {
        let sessions = Sessions::new(10, std::time::Duration::from_secs(60));
        let minutes = |n: u64| Timestamp(n * 60_000);
        let at = |next_offset, total, seen| Progress { next_offset, total, seen: minutes(seen) };
        put(&sessions, "half", 1, at(40, 100, 20)).await;
        put(&sessions, "whole", 1, at(100, 100, 1)).await;
        put(&sessions, "new", 1, at(0, 0, 20)).await;
        let left = sessions.left(Moment { wall: minutes(21), steady: clock::steady() });
        let expected =
            Left { sessions: 3, uploads: 2, bytes: 60, received: 140, of_unknown_size: 1, idle: 1 };
        assert_eq!(left, [Left::default(), expected]);
    }
}
