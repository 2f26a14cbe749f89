//! What happened lately: told by whoever notices, kept in a ring, written to the session store when
//! it has a moment, and read by operators.
//!
//! The rules are those of [`gateway_core::events`]. Nothing here is on the way of a packet.
//!
//! An event is in the ring at once, and waits for the store apart from everything else that does:
//! the writer takes what waits when nobody else wants anything ([`Events::take_unwritten`]). While
//! the disk fails it waits on, in a ring of its own.

pub mod wire;

mod cursor;
mod expiries;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use gateway_core::events::{Event, Kind, LIMIT, Ring, Storms};
use gateway_core::session::Timestamp;
use parking_lot::Mutex;

use crate::base::{clock, instance};

pub use cursor::EventCursor;
pub use expiries::Expiries;

/// All that happened. Clones are one and the same.
#[derive(Clone, Debug)]
pub struct Events(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    process: u64,
    state: Mutex<State>,
    /// Something waits for the store.
    waits: AtomicBool,
}

#[derive(Debug)]
struct State {
    ring: Ring,
    storms: Storms,
    /// Of the last event of this process.
    number: u64,
    /// What is not in the store yet; `None` where there is none.
    unwritten: Option<Ring>,
}

/// Some events, and how to go on behind them.
#[derive(Debug)]
pub struct Page {
    /// In the order of their time.
    pub events: Vec<Event>,
    pub next: EventCursor,
    /// Whether events outlive the process.
    pub durable: bool,
    /// Events that wait for the store.
    pub unwritten: usize,
}

impl Default for Events {
    fn default() -> Self {
        let state = State {
            ring: Ring::new(LIMIT),
            storms: Storms::default(),
            number: 0,
            unwritten: Some(Ring::new(LIMIT)),
        };
        let waits = AtomicBool::new(false);
        Self(Arc::new(Inner { process: process(), state: Mutex::new(state), waits }))
    }
}

impl Events {
    /// Something has happened. It is told now, or counted, where much of the kind happens.
    pub fn tell(&self, event: Event) {
        let event = Event { at: clock::now(), ..event };
        let mut state = self.0.state.lock();
        if let Some(event) = state.storms.offer(event, clock::steady()) {
            self.add(&mut state, event);
        }
    }

    /// To be called every second or so: tells what was counted.
    pub fn settle(&self) {
        let mut state = self.0.state.lock();
        for event in state.storms.due(clock::steady()) {
            self.add(&mut state, event);
        }
    }

    /// As [`Self::settle`], of everything: the process ends.
    pub fn finish(&self) {
        let mut state = self.0.state.lock();
        for event in state.storms.all(clock::steady()) {
            self.add(&mut state, event);
        }
    }

    fn add(&self, state: &mut State, event: Event) {
        state.number += 1;
        let event =
            Event { at: clock::now(), process: self.0.process, number: state.number, ..event };
        if let Some(unwritten) = &mut state.unwritten {
            unwritten.push(event.clone());
            self.0.waits.store(true, Ordering::Release);
        }
        state.ring.push(event);
    }

    /// What other processes have told, in the order in which it was written. What is of this one is
    /// known.
    pub fn learn(&self, events: impl IntoIterator<Item = Event>) {
        let mut state = self.0.state.lock();
        let others = events.into_iter().filter(|event| event.process != self.0.process);
        others.for_each(|event| state.ring.push(event));
    }

    /// There is no store: nothing waits for one.
    pub fn keep_in_memory(&self) {
        self.0.state.lock().unwritten = None;
        self.0.waits.store(false, Ordering::Release);
    }

    pub fn has_unwritten(&self) -> bool {
        self.0.waits.load(Ordering::Acquire)
    }

    /// Hands over some of what waits for the store, the first first.
    pub fn take_unwritten(&self, limit: usize) -> Vec<Event> {
        let mut state = self.0.state.lock();
        let Some(unwritten) = &mut state.unwritten else { return Vec::new() };
        let taken = unwritten.take(limit);
        self.0.waits.store(!unwritten.is_empty(), Ordering::Release);
        taken
    }

    /// It could not be written.
    pub fn put_back(&self, events: Vec<Event>) {
        let mut state = self.0.state.lock();
        let Some(unwritten) = &mut state.unwritten else { return };
        let later = unwritten.take(usize::MAX);
        events.into_iter().chain(later).for_each(|event| unwritten.push(event));
        self.0.waits.store(!unwritten.is_empty(), Ordering::Release);
    }

    #[cfg(test)]
    pub fn all(&self) -> Vec<Event> {
        self.0.state.lock().all()
    }

    /// All that is kept, for a store that is made anew. Nothing waits any more: what does is among it.
    pub fn take_all(&self) -> Vec<Event> {
        let mut state = self.0.state.lock();
        if let Some(unwritten) = &mut state.unwritten {
            unwritten.take(usize::MAX);
            self.0.waits.store(false, Ordering::Release);
        }
        state.all()
    }

    /// The newest so many since then, of these kinds, or of all where there are none.
    pub fn newest(&self, limit: usize, since: Timestamp, kinds: &[Kind]) -> Page {
        let state = self.0.state.lock();
        let events = state.ring.newest(limit, since, |event| is_of(event, kinds));
        let events = events.into_iter().cloned().collect();
        self.page(&state, events, state.ring.arrivals())
    }

    /// The first so many behind an earlier page. Behind one of another process, those of the last
    /// minutes before it may come again.
    pub fn behind(&self, cursor: EventCursor, limit: usize, kinds: &[Kind]) -> Page {
        let since = match cursor.of(self.0.process) {
            Ok(arrival) => {
                let state = self.0.state.lock();
                let (events, place) =
                    state.ring.behind(arrival, limit, |event| is_of(event, kinds));
                let events = events.into_iter().cloned().collect();
                return self.page(&state, events, place);
            }
            Err(since) => since,
        };
        let state = self.0.state.lock();
        let (events, place) =
            state.ring.behind(0, limit, |event| event.at >= since && is_of(event, kinds));
        let events = events.into_iter().cloned().collect();
        self.page(&state, events, place)
    }

    fn page(&self, state: &State, events: Vec<Event>, place: u64) -> Page {
        Page {
            events,
            next: EventCursor::new(self.0.process, place, clock::now()),
            durable: state.unwritten.is_some(),
            unwritten: state.unwritten.as_ref().map_or(0, Ring::len),
        }
    }
}

impl State {
    fn all(&self) -> Vec<Event> {
        self.ring.newest(LIMIT, Timestamp(0), |_| true).into_iter().cloned().collect()
    }
}

fn is_of(event: &Event, kinds: &[Kind]) -> bool {
    kinds.is_empty() || kinds.contains(&event.kind)
}

/// What tells the events of this process from those of others. SQLite knows no larger numbers.
fn process() -> u64 {
    let digits = instance::id().get(..16).unwrap_or_default();
    u64::from_str_radix(digits, 16).unwrap_or_default() >> 1
}

#[cfg(test)]
mod tests {
    use gateway_core::events::Level;

    use super::*;

    fn store(message: &str) -> Event {
        Event::new(Kind::Store, "down", Level::Error, message)
    }

    fn admin(message: &str) -> Event {
        Event::new(Kind::Admin, "drain", Level::Info, message)
    }

    fn said(events: &[Event]) -> Vec<&str> {
        events.iter().map(|event| event.message.as_str()).collect()
    }

    #[test]
    fn pages_go_on_where_the_last_one_ended() {
        let events = Events::default();
        events.tell(store("a"));
        events.tell(admin("b"));
        let page = events.newest(1, Timestamp(0), &[]);
        assert_eq!(said(&page.events), ["b"]);
        assert_eq!(said(&events.behind(page.next, 9, &[]).events), [""; 0]);
        events.tell(store("c"));
        events.tell(admin("d"));
        let page = events.behind(page.next, 1, &[]);
        assert_eq!(said(&page.events), ["c"]);
        assert_eq!(said(&events.behind(page.next, 9, &[]).events), ["d"]);
        assert_eq!(said(&events.newest(9, Timestamp(0), &[Kind::Admin]).events), ["b", "d"]);
        let numbers: Vec<u64> = events.all().iter().map(|event| event.number).collect();
        assert_eq!(numbers, [1, 2, 3, 4]);
    }

    #[test]
    fn a_cursor_of_another_process_misses_nothing() {
        let events = Events::default();
        events.tell(store("a"));
        let other = EventCursor::new(1, 77, clock::now());
        assert_eq!(said(&events.behind(other, 9, &[]).events), ["a"]);
        let much_later = EventCursor::new(1, 77, Timestamp(clock::now().0 + 86_400_000));
        assert_eq!(said(&events.behind(much_later, 9, &[]).events), [""; 0]);
    }

    #[test]
    fn what_cannot_be_written_waits_in_its_order() {
        let events = Events::default();
        assert!(!events.has_unwritten());
        for message in ["a", "b", "c"] {
            events.tell(store(message));
        }
        let taken = events.take_unwritten(2);
        assert_eq!(said(&taken), ["a", "b"]);
        events.put_back(taken);
        assert_eq!(events.newest(9, Timestamp(0), &[]).unwritten, 3);
        assert_eq!(said(&events.take_unwritten(9)), ["a", "b", "c"]);
        assert!(!events.has_unwritten());
        events.keep_in_memory();
        events.tell(store("d"));
        assert!(!events.has_unwritten());
        assert!(!events.newest(9, Timestamp(0), &[]).durable);
    }

    #[test]
    fn what_another_process_wrote_is_learned_once() {
        let events = Events::default();
        events.tell(store("ours"));
        let ours = events.all();
        let theirs = Event { process: 1, number: 1, ..store("theirs") };
        events.learn(ours.into_iter().chain([theirs]));
        assert_eq!(said(&events.all()), ["theirs", "ours"]);
        assert_eq!(said(&events.take_unwritten(9)), ["ours"]);
    }

    #[test]
    fn a_storm_is_summed_up_at_the_end_too() {
        let events = Events::default();
        (0..100).for_each(|_| events.tell(store("again")));
        assert_eq!(events.all().len(), 10);
        events.settle();
        assert_eq!(events.all().len(), 10);
        events.finish();
        assert_eq!(events.all().last().expect("a sum").count, 90);
    }
}
