//! The events that are kept, and which ones go when there are too many.
//!
//! The rule: **the kind of which there are the most gives way, its oldest first.** So a kind keeps
//! a seventh of the room whatever the others do, and may have all of it while they are quiet.

use std::collections::VecDeque;

use super::{Event, Kind};
use crate::session::Timestamp;

/// Events that are kept: weeks of a farm with its ups and downs, and some 3 MB.
pub const LIMIT: usize = 10_000;

const KINDS: usize = Kind::ALL.len();

/// Some events, in the order in which they came here.
#[derive(Debug)]
pub struct Ring {
    /// By kind, each the oldest first.
    kinds: [VecDeque<Entry>; KINDS],
    limit: usize,
    len: usize,
    arrivals: u64,
}

/// An event with its place in the order in which events came here. That of another process may come
/// behind a younger one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub arrival: u64,
    pub event: Event,
}

impl Ring {
    /// For `limit` events, one at least.
    pub fn new(limit: usize) -> Self {
        Self { kinds: Default::default(), limit: limit.max(1), len: 0, arrivals: 0 }
    }

    pub fn push(&mut self, event: Event) {
        self.arrivals += 1;
        let entry = Entry { arrival: self.arrivals, event };
        self.kinds[entry.event.kind as usize].push_back(entry);
        self.len += 1;
        if self.len > self.limit {
            let largest = self.kinds.iter_mut().max_by_key(|kind| kind.len());
            largest.and_then(VecDeque::pop_front);
            self.len -= 1;
        }
    }

    /// Takes the first so many out, in the order in which they came.
    pub fn take(&mut self, limit: usize) -> Vec<Event> {
        let first = |kinds: &[VecDeque<Entry>; KINDS]| {
            let fronts =
                kinds.iter().enumerate().filter_map(|(at, kind)| Some((at, kind.front()?)));
            fronts.min_by_key(|(_, entry)| entry.arrival).map(|(at, _)| at)
        };
        let mut taken = Vec::new();
        while taken.len() < limit
            && let Some(entry) = first(&self.kinds).and_then(|kind| self.kinds[kind].pop_front())
        {
            self.len -= 1;
            taken.push(entry.event);
        }
        taken
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn len(&self) -> usize {
        self.len
    }

    /// The place of the last one that came, in the ring or not.
    pub fn arrivals(&self) -> u64 {
        self.arrivals
    }

    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.kinds.iter().flatten()
    }

    /// The newest so many of those that are wanted, no older than `since`, in their [order].
    ///
    /// [order]: Event::order
    pub fn newest(
        &self,
        limit: usize,
        since: Timestamp,
        wanted: impl Fn(&Event) -> bool,
    ) -> Vec<&Event> {
        let events = self.iter().map(|entry| &entry.event);
        let mut found: Vec<_> = events.filter(|event| event.at >= since && wanted(event)).collect();
        found.sort_unstable_by_key(|event| event.order());
        found.split_off(found.len().saturating_sub(limit))
    }

    /// The first so many that came behind the place `after`, and the place up to which that is all.
    pub fn behind(
        &self,
        after: u64,
        limit: usize,
        wanted: impl Fn(&Event) -> bool,
    ) -> (Vec<&Event>, u64) {
        let mut found: Vec<_> =
            self.iter().filter(|entry| entry.arrival > after && wanted(&entry.event)).collect();
        found.sort_unstable_by_key(|entry| entry.arrival);
        let place = match found.len() > limit {
            true => limit.checked_sub(1).map_or(after, |last| found[last].arrival),
            false => self.arrivals,
        };
        found.truncate(limit);
        found.sort_unstable_by_key(|entry| entry.event.order());
        (found.into_iter().map(|entry| &entry.event).collect(), place)
    }
}

/// How many of the oldest of each kind go so that no more than `limit` stay: the largest are cut
/// down to one height.
pub fn excess<const N: usize>(mut counts: [usize; N], limit: usize) -> [usize; N] {
    let before = counts;
    let mut over = counts.iter().sum::<usize>().saturating_sub(limit);
    while over > 0 {
        let highest = counts.iter().copied().max().unwrap_or(0);
        let next = counts.iter().copied().filter(|count| *count < highest).max().unwrap_or(0);
        let high = counts.iter().filter(|count| **count == highest).count();
        // Each of the highest loses as much as is needed, and none more than down to the next.
        let each = (over / high).clamp(1, highest - next);
        for count in counts.iter_mut().filter(|count| **count == highest) {
            let cut = each.min(over);
            *count -= cut;
            over -= cut;
        }
    }
    std::array::from_fn(|at| before[at] - counts[at])
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    fn event(kind: Kind, at: u64) -> Event {
        let event = Event::new(kind, "name", Level::Info, at.to_string());
        Event { at: Timestamp(at), number: at, ..event }
    }

    fn times(events: &[&Event]) -> Vec<u64> {
        events.iter().map(|event| event.at.0).collect()
    }

    #[test]
    fn the_largest_kind_gives_way() {
        #[track_caller]
        fn check<const N: usize>(counts: [usize; N], limit: usize, gone: [usize; N]) {
            assert_eq!(excess(counts, limit), gone);
        }
        check([5, 5], 10, [0, 0]);
        check([6, 5], 10, [1, 0]);
        check([100, 5, 3], 20, [88, 0, 0]);
        check([100, 90, 3], 20, [92, 81, 0]);
        check([7, 7, 7], 10, [4, 4, 3]);
        check([1, 1], 0, [1, 1]);
        check([0, 0], 0, [0, 0]);
    }

    #[test]
    fn a_storm_of_one_kind_leaves_the_others() {
        let mut ring = Ring::new(70);
        (0..10).for_each(|at| ring.push(event(Kind::Admin, at)));
        (10..10_000).for_each(|at| ring.push(event(Kind::Session, at)));
        assert_eq!(ring.len(), 70);
        let of = |kind| ring.newest(100, Timestamp(0), |event| event.kind == kind);
        assert_eq!(times(&of(Kind::Admin)), (0..10).collect::<Vec<_>>());
        assert_eq!(times(&of(Kind::Session)), (9_940..10_000).collect::<Vec<_>>());
    }

    #[test]
    fn the_newest_come_in_the_order_of_their_time() {
        let mut ring = Ring::new(10);
        for at in [1, 5, 3, 4, 2] {
            ring.push(event(Kind::ALL[at as usize], at));
        }
        let all = |_: &Event| true;
        assert_eq!(times(&ring.newest(3, Timestamp(0), all)), [3, 4, 5]);
        assert_eq!(times(&ring.newest(9, Timestamp(4), all)), [4, 5]);
        assert_eq!(times(&ring.newest(0, Timestamp(0), all)), [0; 0]);
    }

    #[test]
    fn whoever_follows_misses_none_that_came_late() {
        let mut ring = Ring::new(10);
        let all = |_: &Event| true;
        ring.push(event(Kind::Store, 10));
        let (events, place) = ring.behind(0, 5, all);
        assert_eq!((times(&events), place), (vec![10], 1));
        // Of another process, and older.
        ring.push(event(Kind::Admin, 9));
        ring.push(event(Kind::Store, 11));
        ring.push(event(Kind::Store, 12));
        let (events, place) = ring.behind(place, 2, all);
        assert_eq!((times(&events), place), (vec![9, 11], 3));
        let (events, place) = ring.behind(place, 2, |event| event.kind == Kind::Admin);
        assert_eq!((times(&events), place), (vec![], 4), "what is not wanted is passed over");
    }

    #[test]
    fn the_first_are_taken_in_the_order_in_which_they_came() {
        let mut ring = Ring::new(10);
        for (kind, at) in [(Kind::Store, 3), (Kind::Admin, 1), (Kind::Store, 2)] {
            ring.push(event(kind, at));
        }
        assert_eq!(times(&ring.take(2).iter().collect::<Vec<_>>()), [3, 1]);
        assert_eq!(times(&ring.take(2).iter().collect::<Vec<_>>()), [2]);
        assert!(ring.is_empty());
    }
}
