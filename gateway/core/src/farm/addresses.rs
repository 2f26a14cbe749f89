//! Which address of a backend's name is used.
//!
//! A name may have several addresses, and these may be several machines. An upload lies on one of
//! them. So an address on which an upload may lie is not left for another while it lives, and one
//! that nothing is known of is left at once.

use std::net::SocketAddr;
use std::time::Duration;

/// A name that stands for more is looked at this far.
const MOST: usize = 4;

/// The addresses of one backend.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Addresses {
    /// What the name stood for when it was last looked up.
    named: Vec<SocketAddr>,
    current: Option<SocketAddr>,
    /// The current one has acknowledged a packet.
    acknowledged: bool,
    /// Those that could not be reached since one of them could.
    failed: Vec<SocketAddr>,
    /// When the backend came to the current one.
    changed: Option<Duration>,
}

impl Addresses {
    /// What the name stands for at the start, or in another configuration; the first is used. Of
    /// several, another may have been used before.
    pub fn new(named: &[SocketAddr], now: Duration) -> Self {
        let mut addresses = Self { current: named.first().copied(), ..Self::default() };
        addresses.found(named);
        addresses.changed = (addresses.named.len() > 1).then_some(now);
        addresses
    }

    /// The configuration names another place.
    pub fn replace(&mut self, named: &[SocketAddr], now: Duration) {
        let before = self.current;
        *self = Self::new(named, now);
        if before != self.current {
            self.changed = Some(now);
        }
    }

    pub fn current(&self) -> Option<SocketAddr> {
        self.current
    }

    /// What the name stands for now.
    pub fn found(&mut self, named: &[SocketAddr]) {
        self.named.clear();
        self.failed.clear();
        for address in named {
            if !self.named.contains(address) {
                self.named.push(*address);
            }
        }
    }

    /// A packet was acknowledged there.
    pub fn acknowledge(&mut self, address: SocketAddr) {
        self.acknowledged |= self.current == Some(address);
    }

    pub fn is_acknowledged(&self) -> bool {
        self.acknowledged
    }

    /// The addresses to look at in place of the current one, best first.
    ///
    /// `down` says that the backend counts as down, and that its last probe, if there are any, has
    /// failed at the current address; `failed` says the second alone.
    pub fn others(&self, failed: bool, down: bool) -> Vec<SocketAddr> {
        let stands = self.current.is_some_and(|current| self.named.contains(&current));
        let leave = if self.acknowledged { down } else { failed || !stands };
        let others = self.named.iter().copied().filter(|named| Some(*named) != self.current);
        others.take(MOST).filter(|_| leave).collect()
    }

    /// Where a new session may be opened instead: a connection to `failed` could not be made. The
    /// backend is at that address from now on.
    pub fn next(&mut self, failed: SocketAddr, now: Duration) -> Option<SocketAddr> {
        if self.current != Some(failed) {
            // Another request was quicker.
            return self.current;
        }
        if self.acknowledged {
            return None;
        }
        if !self.failed.contains(&failed) {
            self.failed.push(failed);
        }
        let next = self.named.iter().take(MOST).find(|named| !self.failed.contains(named));
        let next = next.copied()?;
        self.move_to(next, now);
        Some(next)
    }

    /// The backend is there.
    pub fn move_to(&mut self, address: SocketAddr, now: Duration) {
        if self.current.replace(address) != Some(address) {
            self.acknowledged = false;
            self.changed = Some(now);
        }
    }

    /// The current address can be reached.
    pub fn reached(&mut self) {
        self.failed.clear();
    }

    /// Whether the backend came to its address no longer than `span` ago. What it does not have may
    /// be at another one.
    pub fn has_changed_within(&self, span: Duration, now: Duration) -> bool {
        self.changed.is_some_and(|changed| now.saturating_sub(changed) < span)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(number: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, number], 80))
    }

    fn all(numbers: &[u8]) -> Vec<SocketAddr> {
        numbers.iter().map(|number| at(*number)).collect()
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// `now` is what the name stands for since.
    #[track_caller]
    fn check(acknowledged: bool, now: &[u8], failed: bool, down: bool, others: &[u8]) {
        let mut addresses = Addresses::new(&all(&[1, 2]), seconds(0));
        if acknowledged {
            addresses.acknowledge(at(1));
        }
        addresses.found(&all(now));
        assert_eq!(addresses.others(failed, down), all(others));
    }

    #[test]
    fn an_address_is_left_at_once_until_it_has_acknowledged_a_packet() {
        check(false, &[1, 2], false, false, &[]);
        check(false, &[1, 2], true, false, &[2]);
        check(false, &[1, 2, 3], true, true, &[2, 3]);
        // The name stands for others.
        check(false, &[2, 3], false, false, &[2, 3]);
        check(false, &[], false, false, &[]);
        check(false, &[2, 3, 4, 5, 6], false, false, &[2, 3, 4, 5]);
    }

    #[test]
    fn an_address_that_has_acknowledged_a_packet_stays_until_probes_fail() {
        check(true, &[1, 2], false, false, &[]);
        check(true, &[1, 2], true, false, &[]);
        check(true, &[2], false, false, &[]);
        check(true, &[2], true, false, &[]);
        check(true, &[1, 2], true, true, &[2]);
        check(true, &[2, 3], true, true, &[2, 3]);
    }

    #[test]
    fn a_name_without_an_address_takes_the_first_that_passes() {
        let mut addresses = Addresses::new(&[], seconds(0));
        assert_eq!((addresses.current(), addresses.others(false, false)), (None, Vec::new()));
        addresses.found(&all(&[2, 1]));
        assert_eq!(addresses.others(false, true), all(&[2, 1]));
        addresses.move_to(at(1), seconds(5));
        assert_eq!(addresses.current(), Some(at(1)));
        assert!(addresses.has_changed_within(seconds(30), seconds(6)));
    }

    #[test]
    fn a_create_goes_from_one_address_to_the_next_once() {
        let mut addresses = Addresses::new(&all(&[1, 2, 3]), seconds(0));
        assert_eq!(addresses.next(at(1), seconds(1)), Some(at(2)));
        // One that was sent to the first as well follows.
        assert_eq!(addresses.next(at(1), seconds(1)), Some(at(2)));
        assert_eq!(addresses.next(at(2), seconds(1)), Some(at(3)));
        assert_eq!(addresses.next(at(3), seconds(1)), None);
        assert_eq!(addresses.current(), Some(at(3)));
        addresses.reached();
        assert_eq!(addresses.next(at(3), seconds(2)), Some(at(1)));
        addresses.acknowledge(at(3));
        assert!(!addresses.is_acknowledged(), "it has left that one");
        addresses.acknowledge(at(1));
        assert_eq!(addresses.next(at(1), seconds(3)), None);
        let mut one = Addresses::new(&all(&[1]), seconds(0));
        assert_eq!(one.next(at(1), seconds(1)), None);
    }

    #[test]
    fn a_change_of_address_is_remembered_for_a_while() {
        let changed =
            |addresses: &Addresses, at| addresses.has_changed_within(seconds(30), seconds(at));
        let mut addresses = Addresses::new(&all(&[1]), seconds(0));
        addresses.found(&all(&[1, 2]));
        addresses.acknowledge(at(1));
        addresses.move_to(at(1), seconds(50));
        assert!(addresses.is_acknowledged() && !changed(&addresses, 50));
        addresses.move_to(at(2), seconds(100));
        assert!(!addresses.is_acknowledged());
        assert!(changed(&addresses, 129) && !changed(&addresses, 130));
        addresses.replace(&all(&[2]), seconds(200));
        assert!(!changed(&addresses, 200));
        addresses.replace(&all(&[3]), seconds(200));
        assert!(changed(&addresses, 229));
        // Which of several it was before the start is not known.
        assert!(changed(&Addresses::new(&all(&[1, 2]), seconds(0)), 29));
    }
}
