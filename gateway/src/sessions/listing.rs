//! Pages of the session table: first the uploads whose clients speak, by their last progress, then all others.
//!
//! A session that lives through all the pages is on exactly one of them, whatever else comes and goes.
//! The others are in the order of their marks, which nothing changes. The order of those that move is
//! another one a second later, so the first page takes it down for the pages behind it, and so many are
//! remembered.

use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use foldhash::quality::RandomState;
use gateway_core::farm::BackendId;
use gateway_core::protocol::SessionKey;
use gateway_core::protocol::client::ClientKey;
use gateway_core::session::Timestamp;
use gateway_core::session::live::State;
use parking_lot::Mutex;
use uuid::Uuid;

use super::live_uploads::{LiveUpload, Snapshot};
use super::names::{self, Named};
use super::view::{Mark, Moment, Pager, Row, row, seen, state};
use super::{Session, Sessions};

/// Listings whose next page can be asked for, at some 1.5 MB each where there are most live uploads.
const KEPT: usize = 8;

/// Which sessions are meant. Nothing set means all of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    pub state: Option<InState>,
    pub backend: Option<BackendId>,
    /// The last one that spoke for a live upload; of the others, who opened it, where that is known. Of an
    /// IPv6 address its network of 64 bits counts there.
    pub client: Option<IpAddr>,
    /// Stands in the path of an upload, in any case, where that is known.
    pub path: Option<String>,
    /// Those whose stored names are meant by `path` or `client`.
    pub named: Named,
    /// No progress for so long.
    pub idle_for: Option<Duration>,
}

/// Those in a state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InState {
    pub state: State,
    /// Backends that serve no packets, whose uploads wait for them.
    pub away: Vec<BackendId>,
}

impl InState {
    fn takes(&self, backend: BackendId, live: Option<&LiveUpload>, silent: Duration) -> bool {
        state(live, silent, self.away.contains(&backend)) == self.state
    }
}

impl Filter {
    /// Whether it means all sessions.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn takes(
        &self,
        key: &SessionKey,
        session: &Session,
        live: Option<&LiveUpload>,
        at: Moment,
    ) -> bool {
        self.takes_backend(session.backend)
            && self.client.is_none_or(|client| {
                is_client(client, session.client, live)
                    || live.is_none() && self.named.has_client(key, session.created)
            })
            && self.takes_path(key, session.created, live)
            && self.takes_silence(session, live, at)
    }

    fn takes_backend(&self, backend: BackendId) -> bool {
        self.backend.is_none_or(|wanted| wanted == backend)
    }

    fn takes_path(&self, key: &SessionKey, created: Timestamp, live: Option<&LiveUpload>) -> bool {
        let Some(wanted) = &self.path else { return true };
        match live {
            Some(live) => names::holds(&live.path, wanted),
            None => self.named.has_path(key, created),
        }
    }

    fn takes_silence(&self, session: &Session, live: Option<&LiveUpload>, at: Moment) -> bool {
        let silent = at.wall.since(seen(session.progress, live, at));
        self.idle_for.is_none_or(|least| silent >= least)
            && self.state.as_ref().is_none_or(|wanted| wanted.takes(session.backend, live, silent))
    }
}

fn is_client(wanted: IpAddr, opened: ClientKey, live: Option<&LiveUpload>) -> bool {
    match live.and_then(|live| live.client) {
        Some(client) => client.to_canonical() == wanted.to_canonical(),
        None => opened == ClientKey::of(wanted),
    }
}

/// Where a page begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListCursor {
    /// Behind the session with that mark, where no live upload was listed.
    Behind(Mark),
    /// At that place of the live uploads of a listing, and behind the last one with the others.
    Live { listing: u32, place: u32 },
    /// Behind that mark, without the live uploads of a listing.
    Rest { listing: u32, behind: Mark },
}

/// `@` and 16 digits; or 8 digits of a listing, and either `.` and a number or a mark.
impl fmt::Display for ListCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Behind(mark) => mark.fmt(f),
            Self::Live { listing, place } => write!(f, "{listing:08x}.{place}"),
            Self::Rest { listing, behind } => write!(f, "{listing:08x}{behind}"),
        }
    }
}

impl FromStr for ListCursor {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const NONE: &str = "not what a page before says of the next one";
        if let Some(mark) = Mark::parse(text) {
            return Ok(Self::Behind(mark));
        }
        let (listing, rest) = text.split_at_checked(8).ok_or(NONE)?;
        let digits = listing.bytes().all(|digit| digit.is_ascii_hexdigit());
        let listing = u32::from_str_radix(listing, 16).ok().filter(|_| digits).ok_or(NONE)?;
        if let Some(behind) = Mark::parse(rest) {
            return Ok(Self::Rest { listing, behind });
        }
        let place = rest.strip_prefix('.').filter(|place| !place.starts_with('+'));
        let place = place.and_then(|place| place.parse().ok()).ok_or(NONE)?;
        Ok(Self::Live { listing, place })
    }
}

/// What page is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    pub filter: Filter,
    pub after: Option<ListCursor>,
    pub limit: usize,
    /// Whether other pages will be asked for: then the order of a first page is kept for them.
    pub more: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    pub rows: Vec<Row>,
    /// Where the next page begins; `None` after the last one.
    pub next: Option<ListCursor>,
    /// How many sessions the filter means now, on all pages together.
    pub matching: u64,
}

/// A listing that is not remembered any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the order of this listing is forgotten; begin again with its first page")]
pub struct Forgotten;

/// The order of live uploads in the listings of a while ago.
#[derive(Debug, Default)]
pub struct Listings(Mutex<VecDeque<Arc<Order>>>);

#[derive(Debug, Default)]
struct Order {
    name: u32,
    keys: Vec<SessionKey>,
    has: HashSet<SessionKey, RandomState>,
}

impl Listings {
    /// Walks the whole table.
    ///
    /// # Errors
    /// The page is one of a listing that is forgotten.
    pub fn page(&self, sessions: &Sessions, query: &Query, at: Moment) -> Result<Page, Forgotten> {
        let live = sessions.live_uploads.snapshot(at.steady);
        let none = Arc::<Order>::default();
        let (order, mut place, behind) = match query.after {
            None => (Arc::new(Order::of(sessions, &query.filter, &live, at)), 0, None),
            Some(ListCursor::Behind(mark)) => (none, 0, Some(mark)),
            Some(ListCursor::Live { listing, place }) => {
                (self.find(listing)?, place as usize, None)
            }
            Some(ListCursor::Rest { listing, behind }) => {
                let order = self.find(listing)?;
                let place = order.keys.len();
                (order, place, Some(behind))
            }
        };
        let mut rows = Vec::new();
        while rows.len() < query.limit
            && let Some(key) = order.keys.get(place)
        {
            let found = sessions.live.get(key);
            rows.extend(found.map(|session| row(key, &session, live.get(key))));
            place += 1;
        }
        let room = query.limit - rows.len();
        let mut pager = Pager::new(behind, room);
        let (mut matching, mut more) = (0, place < order.keys.len());
        sessions.each_matching(&query.filter, &live, at, |key, session| {
            matching += 1;
            let rest = || !order.has.contains(key);
            if room == 0 {
                more = more || rest();
            } else {
                pager.offer(key, || rest().then(|| row(key, session, live.get(key))));
            }
        });
        let (rest, last) = pager.finish();
        rows.extend(rest);
        let (listing, place) = (order.name, u32::try_from(place).unwrap_or(u32::MAX));
        let next = match last {
            _ if more => Some(ListCursor::Live { listing, place }),
            Some(mark) if order.keys.is_empty() => Some(ListCursor::Behind(mark)),
            Some(behind) => Some(ListCursor::Rest { listing, behind }),
            None => None,
        };
        let next = next.filter(|_| query.more);
        if query.after.is_none() && next.is_some() && !order.keys.is_empty() {
            self.keep(order);
        }
        sessions.add_names(&mut rows);
        Ok(Page { rows, next, matching })
    }

    fn find(&self, name: u32) -> Result<Arc<Order>, Forgotten> {
        let kept = self.0.lock();
        kept.iter().find(|order| order.name == name).cloned().ok_or(Forgotten)
    }

    fn keep(&self, order: Arc<Order>) {
        let mut kept = self.0.lock();
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(order);
    }
}

impl Order {
    /// Newest progress first.
    fn of(sessions: &Sessions, filter: &Filter, live: &Snapshot, at: Moment) -> Self {
        let placed = |(key, live): (&SessionKey, LiveUpload)| {
            let session = sessions.live.get(key)?;
            let takes = filter.takes(key, &session, Some(&live), at);
            takes.then(|| (seen(session.progress, Some(&live), at), Mark::of(key), key.clone()))
        };
        let mut placed: Vec<(Timestamp, Mark, SessionKey)> =
            live.iter().filter_map(placed).collect();
        placed.sort_unstable_by(|one, other| other.0.cmp(&one.0).then(one.1.cmp(&other.1)));
        let keys: Vec<_> = placed.into_iter().map(|(_, _, key)| key).collect();
        let name = Uuid::new_v4().as_fields().0;
        Self { name, has: keys.iter().cloned().collect(), keys }
    }
}

impl Sessions {
    /// The live uploads that made progress last, at most so many. Walks no table.
    pub fn movers(&self, limit: usize, at: Moment) -> Vec<Row> {
        let live = self.live_uploads.snapshot(at.steady);
        let order = Order::of(self, &Filter::default(), &live, at);
        let shown = order.keys.iter().take(limit).filter_map(|key| {
            let session = self.live.get(key)?;
            Some(row(key, &session, live.get(key)))
        });
        shown.collect()
    }

    /// The sessions that are meant. Walks the whole table.
    pub fn matching(&self, filter: &Filter, at: Moment) -> Vec<SessionKey> {
        let mut keys = Vec::new();
        let live = self.live_uploads.snapshot(at.steady);
        self.each_matching(filter, &live, at, |key, _| keys.push(key.clone()));
        keys
    }

    /// Whether a session is meant, as it is now.
    pub fn matches(&self, key: &SessionKey, filter: &Filter, at: Moment) -> bool {
        let live = self.live_uploads.find(key, at.steady);
        self.live.get(key).is_some_and(|session| filter.takes(key, &session, live.as_ref(), at))
    }

    fn each_matching(
        &self,
        filter: &Filter,
        live: &Snapshot,
        at: Moment,
        mut visit: impl FnMut(&SessionKey, &Session),
    ) {
        if filter.path.is_some() {
            // Of no others a path is known.
            let asleep = filter.named.by_path().filter(|key| !live.has(key));
            for key in live.keys().chain(asleep) {
                if let Some(session) = self.live.get(key)
                    && filter.takes(key, &session, live.get(key).as_ref(), at)
                {
                    visit(key, &session);
                }
            }
            return;
        }
        self.live.each(|key, session| {
            if filter.is_empty() || filter.takes(key, session, live.get(key).as_ref(), at) {
                visit(key, session);
            }
        });
    }
}

#[cfg(test)]
#[path = "listing_tests.rs"]
mod tests;
