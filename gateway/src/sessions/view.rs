//! The live map as people see it: pages of it, one session, what is left to upload.
//!
//! Everything here but [`Sessions::show`] walks the whole map, a shard lock at a time, and holds no
//! more than a page of it. A million sessions take 0.1 to 0.4 seconds in a debug build: not for a
//! thread that carries traffic.

use std::collections::BinaryHeap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::time::Duration;

use gateway_core::farm::BackendId;
use gateway_core::protocol::SessionKey;
use gateway_core::session::{Pin, Progress, Timestamp};

use super::census::ACTIVE;
use super::{Session, Sessions};

/// A session's place in the order of pages, and its name for people.
///
/// The id itself is a bearer secret, and a page has to say where it ends. An id that nobody can
/// guess cannot be found by its mark, and of a million sessions two share one with a probability
/// of 3 in 100 million.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mark(pub u64);

/// A copy of what is known of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub key: SessionKey,
    pub pin: Pin,
    pub progress: Progress,
}

/// In the order of marks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    pub rows: Vec<Row>,
    /// Where the next page begins; `None` after the last one.
    pub next: Option<Mark>,
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
}

impl Sessions {
    pub fn show(&self, key: &SessionKey) -> Option<Row> {
        self.live.get(key).map(|session| row(key, &session))
    }

    /// The session with that mark.
    pub fn marked(&self, mark: Mark) -> Option<Row> {
        let found = self.live.iter().find(|session| Mark::of(session.key()) == mark)?;
        Some(row(found.key(), &found))
    }

    /// Up to `limit` sessions behind `after`, of all backends or of one.
    ///
    /// A session that lives through all the pages is on exactly one of them, whatever else comes
    /// and goes meanwhile.
    pub fn page(&self, after: Option<Mark>, limit: usize, backend: Option<BackendId>) -> Page {
        let mut pager = Pager::new(after, limit);
        for session in self.live.iter() {
            if backend.is_none_or(|backend| session.backend == backend) {
                pager.offer(session.key(), || row(session.key(), &session));
            }
        }
        let (rows, next) = pager.finish();
        Page { rows, next }
    }

    /// How many sessions have made no progress for so long.
    pub fn silent_for(&self, now: Timestamp, span: Duration) -> u64 {
        let silent = |session: &Session| now.since(session.progress.seen) >= span;
        self.live.iter().filter(|session| silent(session)).count() as u64
    }

    /// How many sessions were opened by such clients, as far as that is known: a process counts from
    /// its start.
    pub fn opened_by(&self, such: impl Fn(IpAddr) -> bool) -> u64 {
        let client = |session: &Session| session.counted_client();
        let such = |session: &Session| client(session).is_some_and(|client| such(client.address()));
        self.live.iter().filter(|session| such(session)).count() as u64
    }

    /// What each backend still has to receive, by backend id.
    pub fn left(&self, now: Timestamp) -> Vec<Left> {
        let mut all: Vec<Left> = Vec::new();
        for session in self.live.iter() {
            let Session { backend, progress, .. } = &*session;
            let slot = backend.0 as usize;
            if slot >= all.len() {
                all.resize(slot + 1, Left::default());
            }
            let left = &mut all[slot];
            let bytes = progress.total.saturating_sub(progress.next_offset);
            let unknown = progress.total == 0;
            left.sessions += 1;
            left.uploads += u64::from(unknown || bytes > 0);
            left.bytes = left.bytes.saturating_add(bytes);
            left.received = left.received.saturating_add(progress.next_offset);
            left.of_unknown_size += u64::from(unknown);
            left.idle += u64::from(now.since(progress.seen) >= ACTIVE);
        }
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

    /// Takes the row of a session if it may be on the page.
    pub fn offer(&mut self, key: &SessionKey, row: impl FnOnce() -> T) {
        let mark = Mark::of(key);
        let full = self.found.len() > self.limit;
        let last = self.found.peek().map(|last| last.mark);
        if self.after.is_some_and(|after| mark <= after)
            || (full && last.is_some_and(|last| mark >= last))
        {
            return;
        }
        if full {
            self.found.pop();
        }
        self.found.push(Candidate { mark, row: row() });
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

fn row(key: &SessionKey, session: &Session) -> Row {
    Row { key: key.clone(), pin: session.pin(), progress: session.progress }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;
    use std::time::Duration;

    use gateway_core::protocol::SessionId;
    use gateway_core::session::{Binding, EndReason, TargetHash};

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

    fn walk(sessions: &Sessions, limit: usize, backend: Option<BackendId>) -> Vec<Row> {
        let (mut rows, mut after) = (Vec::new(), None);
        loop {
            let page = sessions.page(after, limit, backend);
            assert!(page.rows.len() <= limit, "{} rows", page.rows.len());
            rows.extend(page.rows);
            match page.next {
                Some(next) => after = Some(next),
                None => return rows,
            }
        }
    }

    #[tokio::test]
    async fn pages_hold_every_session_once() {
        let sessions = table(1000).await;
        for limit in [1, 7, 999, 1000, 1001] {
            let rows = walk(&sessions, limit, None);
            assert_eq!(rows.len(), 1000, "pages of {limit}");
            assert!(rows.windows(2).all(|pair| pair[0].mark() < pair[1].mark()));
        }
        let third = walk(&sessions, 50, Some(BackendId(1)));
        assert_eq!(third.len(), 333);
        assert!(third.iter().all(|row| row.pin.backend == BackendId(1)));
        assert_eq!(sessions.page(None, 10, Some(BackendId(9))), Page { rows: vec![], next: None });
    }

    #[tokio::test]
    async fn what_comes_and_goes_between_two_pages_moves_nothing_else() {
        let sessions = table(300).await;
        let first = sessions.page(None, 100, None);
        for row in &first.rows[..50] {
            sessions.unpin(&row.key, EndReason::Closed, std::time::Duration::ZERO).await;
        }
        for n in 0..200 {
            put(&sessions, &format!("new-{n}"), 0, Progress::default()).await;
        }
        let mut seen: BTreeSet<Mark> = first.rows.iter().map(Row::mark).collect();
        let mut after = first.next;
        while let Some(mark) = after {
            let page = sessions.page(Some(mark), 100, None);
            for row in &page.rows {
                assert!(seen.insert(row.mark()), "twice");
            }
            after = page.next;
        }
        for n in 0..300 {
            let mark = Mark::of(&key(&format!("session-{n}")));
            assert!(seen.contains(&mark), "session-{n} is on no page");
        }
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
        let left = sessions.left(minutes(21));
        let expected =
            Left { sessions: 3, uploads: 2, bytes: 60, received: 140, of_unknown_size: 1, idle: 1 };
        assert_eq!(left, [Left::default(), expected]);
    }
}
