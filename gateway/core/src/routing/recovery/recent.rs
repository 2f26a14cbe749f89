//! What was found out a moment ago.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::time::Duration;

/// Answers that count for a moment. The oldest go when there are too many.
#[derive(Debug, Clone)]
pub struct Recent<Q, A> {
    answers: HashMap<Q, (A, Duration)>,
    /// From the oldest to the newest, each question once.
    order: VecDeque<Q>,
    keep: Duration,
    most: usize,
}

impl<Q: Eq + Hash + Clone, A: Copy> Recent<Q, A> {
    pub fn new(keep: Duration, most: usize) -> Self {
        Self { answers: HashMap::new(), order: VecDeque::new(), keep, most }
    }

    pub fn find(&self, question: &Q, now: Duration) -> Option<A> {
        let (answer, at) = self.answers.get(question)?;
        (now.saturating_sub(*at) < self.keep).then_some(*answer)
    }

    pub fn insert(&mut self, question: Q, answer: A, now: Duration) {
        if self.answers.contains_key(&question) {
            // Asked again only after its time, and then it is near the front.
            self.order.retain(|other| *other != question);
        }
        self.answers.insert(question.clone(), (answer, now));
        self.order.push_back(question);
        while let Some(oldest) = self.order.front() {
            let stale =
                self.answers.get(oldest).is_none_or(|(_, at)| now.saturating_sub(*at) >= self.keep);
            if !stale && self.order.len() <= self.most {
                break;
            }
            if let Some(oldest) = self.order.pop_front() {
                self.answers.remove(&oldest);
            }
        }
    }

    pub fn len(&self) -> usize {
        self.answers.len()
    }

    pub fn is_empty(&self) -> bool {
        self.answers.is_empty()
    }
}
