//! What signs come to: evidence, and the verdict that rests on it.

use std::time::Duration;

use crate::protocol::client::ClientKey;

use super::{FolderRules, Sign};

#[derive(Debug, Clone, Copy)]
pub struct Evidence {
    pub sign: Sign,
    pub target: u64,
    pub client: Option<ClientKey>,
    pub at: Duration,
}

#[derive(Debug, Clone, Copy)]
pub struct Standing {
    pub why: Sign,
    pub since: Duration,
    /// Whose sign that was.
    pub by: Option<ClientKey>,
    pub trial_at: Duration,
    /// The Create that is the trial.
    pub trial: Option<u64>,
}

/// Whether the farm has more clients than one.
#[derive(Debug, Clone, Copy, Default)]
pub struct Clients {
    pub last: Option<Option<ClientKey>>,
    /// When another one than the last came.
    pub several: Option<Duration>,
}

/// A sign counts for so long if nothing comes after it.
pub const MEMORY: Duration = Duration::from_secs(10 * 60);

/// For whose new sessions a verdict counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    Everyone,
    /// For the one client whose word it rests on.
    OneClient,
}

impl Evidence {
    /// What rests on the two; `first` may be this very one. That a disk is full a backend says by
    /// itself, so there one target will do. Where there are others, the word of one client counts
    /// for that client alone, however often it is said.
    pub fn confirms(&self, first: &Self, several: bool) -> Option<Reach> {
        let targets = self.sign == Sign::Full || self.target != first.target;
        let reach = match several && self.client == first.client {
            true => Reach::OneClient,
            false => Reach::Everyone,
        };
        targets.then_some(reach)
    }
}

impl Standing {
    pub fn new(why: Sign, by: Option<ClientKey>, rules: &FolderRules, now: Duration) -> Self {
        let pause = if why == Sign::Full { rules.full_for } else { rules.retry_after };
        Self { why, since: now, by, trial_at: now + pause, trial: None }
    }

    pub fn bars(&self, now: Duration) -> bool {
        now < self.trial_at || self.trial.is_some()
    }

    /// One more sign. A client does not prolong what rests on its own word, where there are others:
    /// the next Create is a trial again. True if the reason is another one now.
    pub fn renew(
        &mut self,
        why: Sign,
        by: Option<ClientKey>,
        several: bool,
        rules: &FolderRules,
        now: Duration,
    ) -> bool {
        if several && by == self.by {
            return false;
        }
        let before = self.why;
        *self = Self { trial: self.trial, ..Self::new(why, by, rules, now) };
        before != why
    }
}

impl Clients {
    pub fn saw(&mut self, client: Option<ClientKey>, now: Duration) {
        if self.last.replace(client).is_some_and(|last| last != client) {
            self.several = Some(now);
        }
    }

    pub fn are_several(&self, now: Duration) -> bool {
        self.several.is_some_and(|at| now.saturating_sub(at) < MEMORY)
    }
}
