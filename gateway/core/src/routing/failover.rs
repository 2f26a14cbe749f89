//! How long a packet waits for the one backend that has its session, and when that one is given up.
//!
//! Waiting costs a client minutes, starting over costs it the whole file, and a client waits 14
//! days. So a backend that is down is given up late where its uploads would start over, and soon
//! where servers share one storage and nothing is lost.

use std::time::Duration;

/// What the operator chose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failover {
    /// How long a packet waits inside the gateway.
    pub hold: Duration,
    /// From when the backend went away until its uploads start over.
    pub restart_after: Duration,
    /// The same until they go on at another backend, where `then` says so.
    pub reassign_after: Duration,
    pub then: Then,
}

/// What becomes of the sessions of a backend that was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    Restart,
    Reassign,
}

/// Why the backend serves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absence {
    /// It is up, and an operator keeps it from serving: it is as good as there.
    Kept,
    /// It has been away for so long.
    For(Duration),
    /// An operator said that it does not come back.
    Lost,
}

/// What a packet for such a backend does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Waits in the gateway, no longer than that.
    Wait(Duration),
    /// Is answered: come back later.
    Later,
    /// Is answered: start over. The pin goes.
    Restart,
    /// Goes to another backend.
    Reassign,
}

impl Failover {
    /// What a packet does that has `waited` so long. `names_session` is false for a Ping and for
    /// what is no packet: no upload ends or moves by these.
    pub fn step(&self, absence: Absence, waited: Duration, names_session: bool) -> Step {
        match absence {
            Absence::Kept => Step::Later,
            _ if self.is_given_up(absence) => match self.then {
                _ if !names_session => Step::Later,
                Then::Restart => Step::Restart,
                Then::Reassign => Step::Reassign,
            },
            _ => match self.hold.saturating_sub(waited) {
                Duration::ZERO => Step::Later,
                left => Step::Wait(left),
            },
        }
    }

    /// Whether nothing more is expected of the backend: it has no session any more, whoever asks.
    pub fn is_given_up(&self, absence: Absence) -> bool {
        let patience = match self.then {
            Then::Restart => self.restart_after,
            Then::Reassign => self.reassign_after,
        };
        match absence {
            Absence::Kept => false,
            Absence::For(away) => away >= patience,
            Absence::Lost => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Absence::{For, Kept, Lost};
    use Step::{Later, Wait};

    const fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    const DAY: Duration = secs(24 * 60 * 60);
    const MINUTE: Duration = secs(60);

    fn failover(then: Then) -> Failover {
        Failover { hold: secs(20), restart_after: DAY, reassign_after: MINUTE, then }
    }

    #[track_caller]
    fn check(then: Then, absence: Absence, waited: Duration, named: Step, unnamed: Step) {
        let failover = failover(then);
        assert_eq!(failover.step(absence, waited, true), named);
        assert_eq!(failover.step(absence, waited, false), unnamed);
    }

    #[test]
    fn a_packet_waits_and_then_comes_back_and_at_last_starts_over() {
        let check = |absence, waited, named, unnamed| {
            check(Then::Restart, absence, waited, named, unnamed);
        };
        check(For(secs(0)), secs(0), Wait(secs(20)), Wait(secs(20)));
        check(For(secs(15)), secs(15), Wait(secs(5)), Wait(secs(5)));
        check(For(secs(20)), secs(20), Later, Later);
        check(For(secs(20)), secs(300), Later, Later);
        // A server that is patched for 70 minutes, and longer than that for moving.
        check(For(secs(70 * 60)), secs(0), Wait(secs(20)), Wait(secs(20)));
        check(For(DAY - secs(1)), secs(20), Later, Later);
        check(For(DAY), secs(0), Step::Restart, Later);
        check(For(DAY), secs(20), Step::Restart, Later);
    }

    #[test]
    fn where_storage_is_shared_it_goes_on_elsewhere_and_soon() {
        let check = |absence, waited, named, unnamed| {
            check(Then::Reassign, absence, waited, named, unnamed);
        };
        check(For(secs(0)), secs(0), Wait(secs(20)), Wait(secs(20)));
        check(For(secs(59)), secs(20), Later, Later);
        check(For(MINUTE), secs(0), Step::Reassign, Later);
        check(For(DAY), secs(20), Step::Reassign, Later);
    }

    #[test]
    fn a_lost_backend_is_given_up_at_once() {
        for waited in [secs(0), secs(20)] {
            check(Then::Restart, Lost, waited, Step::Restart, Later);
            check(Then::Reassign, Lost, waited, Step::Reassign, Later);
        }
    }

    #[test]
    fn a_backend_that_an_operator_keeps_is_not_away() {
        for then in [Then::Restart, Then::Reassign] {
            for waited in [secs(0), DAY] {
                check(then, Kept, waited, Later, Later);
            }
            assert!(!failover(then).is_given_up(Kept));
        }
    }

    #[test]
    fn without_patience_or_hold_nothing_waits() {
        let hasty = Failover { restart_after: Duration::ZERO, ..failover(Then::Restart) };
        assert_eq!(hasty.step(For(Duration::ZERO), Duration::ZERO, true), Step::Restart);
        let impatient = Failover { hold: Duration::ZERO, ..failover(Then::Restart) };
        assert_eq!(impatient.step(For(Duration::ZERO), Duration::ZERO, true), Later);
    }
}
