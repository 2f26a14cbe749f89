//! Uploads whose clients speak: what is shown of them, and which of them are kept.
//!
//! A farm has a million sessions and a few thousand uploads that move. Only of the latter is more
//! known than their pin says, so the table of them is small, and who has been silent the longest
//! makes room in it.

use std::collections::VecDeque;
use std::time::Duration;

/// Silence after which an upload counts as idle.
pub const IDLE: Duration = Duration::from_secs(5 * 60);

/// A connection, a write or an answer that takes longer is worth a look.
const PROMPT: Duration = Duration::from_secs(5);

/// What a request of an upload waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum Wait {
    /// No request is under way.
    #[default]
    Nothing,
    /// The rest of its body.
    Client,
    /// A backend that takes no more of its body.
    Write,
    /// The end of an older request of the session.
    Turn,
    /// A backend that is away.
    Backend,
    /// A connection to its backend.
    Connection,
    /// The answer of its backend.
    Answer,
}

impl Wait {
    pub const ALL: [Self; 7] = [
        Self::Nothing,
        Self::Client,
        Self::Write,
        Self::Turn,
        Self::Backend,
        Self::Connection,
        Self::Answer,
    ];

    /// What people are shown; `None` where nothing is under way.
    pub fn word(self) -> Option<&'static str> {
        match self {
            Self::Nothing => None,
            Self::Client => Some("client"),
            Self::Write => Some("write"),
            Self::Turn => Some("turn"),
            Self::Backend => Some("backend"),
            Self::Connection => Some("connection"),
            Self::Answer => Some("answer"),
        }
    }

    /// What an upload waits for with that of its requests, where its backend is `away` or is not: its
    /// client comes back, so without a request it is its backend that is missing.
    pub fn of_upload(self, away: bool) -> Self {
        match self {
            Self::Nothing if away => Self::Backend,
            wait => wait,
        }
    }

    /// Of what `as u8` gave; anything else is nothing.
    pub fn from_u8(number: u8) -> Self {
        Self::ALL.get(usize::from(number)).copied().unwrap_or_default()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// It has made progress a while ago.
    Active,
    /// Something other than its client keeps it.
    Waiting,
    Idle,
}

impl State {
    pub const ALL: [Self; 3] = [Self::Active, Self::Waiting, Self::Idle];

    pub fn word(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Waiting => "waiting",
            Self::Idle => "idle",
        }
    }

    /// `silent` is the time since the last progress.
    pub fn of(wait: Wait, silent: Duration) -> Self {
        match wait {
            Wait::Turn | Wait::Backend => Self::Waiting,
            Wait::Connection | Wait::Write | Wait::Answer if silent >= PROMPT => Self::Waiting,
            _ if silent < IDLE => Self::Active,
            _ => Self::Idle,
        }
    }
}

/// A rate begins at a look that is at least so old.
const SPAN: Duration = Duration::from_secs(5);

/// A rate over less than this would jump.
const LEAST: Duration = Duration::from_secs(1);

/// How fast the bytes of an upload come, by looking at how many have come now and then.
///
/// Times are those of a steady clock; bytes are all that have come since the meter was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meter {
    /// Where the rate begins, and where it will begin next.
    looks: [(Duration, u64); 2],
    bytes: u64,
    /// When bytes were last seen to have come.
    moved: Option<Duration>,
}

impl Meter {
    pub fn new(now: Duration) -> Self {
        Self { looks: [(now, 0); 2], bytes: 0, moved: None }
    }

    pub fn sample(&mut self, now: Duration, bytes: u64) {
        if bytes > self.bytes {
            (self.bytes, self.moved) = (bytes, Some(now));
        }
        if now.saturating_sub(self.looks[1].0) >= SPAN {
            self.looks = [self.looks[1], (now, self.bytes)];
        }
    }

    /// Bytes a second over the last seconds up to `now`, as far as was looked; `None` until that can be
    /// said.
    pub fn rate(&self, now: Duration) -> Option<u64> {
        let (at, before) = self.looks[0];
        let over = now.saturating_sub(at);
        let rate = self.bytes.saturating_sub(before) as f64 / over.as_secs_f64();
        (over >= LEAST).then_some(rate as u64)
    }

    /// When bytes were last seen to have come, if any have.
    pub fn moved(&self) -> Option<Duration> {
        self.moved
    }
}

/// Whether a client counts an answer as a failure, by which its fallback timeout begins or goes on;
/// `None` where the answer changes nothing. Without a status there was none.
///
/// # Source
/// MC-BUP 3.1.5.1.4 and 3.1.5.1.7.
pub fn fails(status: Option<u16>) -> Option<bool> {
    match status {
        Some(200..=299 | 416) => Some(false),
        Some(401 | 407 | 413) => None,
        _ => Some(true),
    }
}

/// How many live uploads there are at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    pub most: usize,
    /// Of one client.
    pub per_client: usize,
}

impl Capacity {
    pub const fn of(most: usize) -> Self {
        Self { most, per_client: most / 8 }
    }

    /// Who has to make room before one more comes, where there are `all`, and its client has
    /// `of_client`. A client that has its share makes room itself, so that it pushes out nobody else.
    pub fn crowd(self, all: usize, of_client: usize) -> Option<Crowd> {
        if of_client >= self.per_client {
            Some(Crowd::Client)
        } else if all >= self.most {
            Some(Crowd::All)
        } else {
            None
        }
    }
}

/// Among whom the longest silent one leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crowd {
    Client,
    All,
}

/// One walk over a crowd finds so many of it that leave one after the other: a 64th.
const PART: usize = 64;

/// Where none can leave, it takes a while until one can.
const AGAIN: Duration = Duration::from_secs(1);

/// Who of a crowd leaves next: the one that has been silent the longest. One with a request under way
/// does not.
#[derive(Debug)]
pub struct Leaving<T> {
    /// The longest silent ones at the last walk, each with when it was last heard of. Who is heard of
    /// again is passed over, and nobody else can become older than these.
    next: VecDeque<(T, Duration)>,
    /// There was none to leave, so until then nobody looks again.
    none_before: Duration,
}

impl<T> Default for Leaving<T> {
    fn default() -> Self {
        Self { next: VecDeque::new(), none_before: Duration::ZERO }
    }
}

impl<T> Leaving<T> {
    /// `walk` gives all of the crowd that are silent, each with when it was last heard of; `heard` says
    /// that of one of them now, and `None` where it is not silent or not there any more.
    pub fn next(
        &mut self,
        now: Duration,
        walk: impl FnOnce() -> Vec<(T, Duration)>,
        heard: impl Fn(&T) -> Option<Duration>,
    ) -> Option<T> {
        if let Some(found) = self.take(&heard) {
            return Some(found);
        }
        if now < self.none_before {
            return None;
        }
        let mut silent = walk();
        silent.sort_unstable_by_key(|(_, heard)| *heard);
        silent.truncate(silent.len().div_ceil(PART));
        silent.shrink_to_fit();
        self.next = silent.into();
        let found = self.take(&heard);
        if found.is_none() {
            self.none_before = now + AGAIN;
        }
        found
    }

    fn take(&mut self, heard: impl Fn(&T) -> Option<Duration>) -> Option<T> {
        while let Some((candidate, then)) = self.next.pop_front() {
            if heard(&candidate) == Some(then) {
                return Some(candidate);
            }
        }
        None
    }
}

#[cfg(test)]
#[path = "live_tests.rs"]
mod tests;
