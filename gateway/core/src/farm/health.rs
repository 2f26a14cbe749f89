//! When a backend counts as up, and when it gets new sessions.
//!
//! Probes have the word on up and down. Traffic may only take a backend down that refuses
//! connections: any client can provoke answers of 5xx, so those cost a backend its new sessions at
//! most, never the uploads it has.
//!
//! Time is a `Duration` by a clock that never jumps, from any origin.

use std::fmt;
use std::time::Duration;

use crate::protocol::client::ClientKey;
use crate::protocol::{Ack, PacketType};

/// The numbers behind the rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// Whether there are probes. Without them a backend that is down is tried again after
    /// `retry_after`.
    pub probed: bool,
    /// Probes in a row that must pass before a backend counts as up again.
    pub rise: u32,
    /// Probes in a row that must fail before a backend counts as down.
    pub fall: u32,
    /// Connections in a row that could not be made before a backend counts as down; 0 for never.
    pub passive_failures: u32,
    /// Answers of 5xx in a row before a backend gets no new sessions; 0 for never.
    pub passive_errors: u32,
    /// How long that lasts.
    pub retry_after: Duration,
    /// How long a backend that comes up gets less than its share of new sessions.
    pub slow_start: Duration,
}

/// Why a probe did not pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProbeFailure {
    /// Nobody listens.
    Refused,
    /// No way there, or the network said no in another form.
    Unreachable,
    /// Not connected, or no whole answer, in time.
    Timeout,
    /// The connection ended before the answer did.
    Closed,
    /// There was no TLS handshake, or the certificate is not to be trusted.
    Tls,
    /// What came is not HTTP.
    Garbage,
    /// An answer that is no success.
    Status(u16),
    /// A success, but not of the upload protocol.
    NoAck(u16),
    /// The name of the backend has no address.
    NoAddress,
}

/// Why a backend is in the state it is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Nothing is known yet, so the best is assumed.
    Started,
    ProbesPass,
    ProbesFail(ProbeFailure),
    /// Connections for requests could not be made.
    NotConnected,
    /// There are no probes, and a connection could be made.
    Connected,
    /// There are no probes, and it has been left alone for long enough.
    TriedAgain,
}

/// What an answer to a packet says about the server that gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Answer {
    /// To a packet that an application behind the server may have a part in.
    Good,
    /// A good one to a packet that no application has a part in: it also speaks against silence.
    Prompt,
    /// A server error that is not of the upload protocol: an application pool that is stopped, a
    /// proxy with nothing behind it.
    Failing,
    /// None came in time.
    Silent,
}

/// Whose packet an answer was for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PacketSource {
    pub client: Option<ClientKey>,
    /// There are other clients, so its word alone is not enough.
    pub among_others: bool,
}

/// What routing needs to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Standing {
    pub condition: Condition,
    /// Share of its weight that counts, 1 to 100.
    pub weight_percent: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Condition {
    Up,
    /// Keeps its sessions; gets new ones only where nobody else could have them.
    Failing,
    Down,
}

/// The state of one backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tracker {
    up: bool,
    since: Duration,
    reason: Reason,
    /// Probes in a row of that kind.
    passed: u32,
    failed: u32,
    /// The same of connections and answers.
    not_connected: u32,
    errors: Failures,
    /// Answers that did not come, to packets that no application has a part in.
    silences: Failures,
    /// When a backend without probes is tried again.
    retry_at: Option<Duration>,
    failing_until: Option<Duration>,
    ramp_from: Option<Duration>,
    /// Its name has no address, so there is nothing to try again.
    nowhere: bool,
}

/// What is held against a backend, in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Failures {
    count: u32,
    by: Sources,
}

/// Whose packets they were.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Sources {
    #[default]
    Nobody,
    One(Option<ClientKey>),
    Several,
}

/// The first and smallest step of a slow start, in percent.
const STEP: u32 = 10;

impl Answer {
    /// 501 and 505 are about the request, and so are refusals in the words of the protocol.
    pub fn of(ack: &Ack<'_>, kind: PacketType) -> Self {
        match ack.status.as_u16() {
            500 | 502..=504 if !ack.is_protocol() => Self::Failing,
            _ if matches!(kind, PacketType::CreateSession | PacketType::Ping) => Self::Prompt,
            _ => Self::Good,
        }
    }
}

impl Tracker {
    /// A backend that nothing is known of counts as up. `fresh` says that it joins a farm that
    /// is at work already, so that it starts slowly.
    pub fn new(fresh: bool, now: Duration) -> Self {
        Self {
            up: true,
            since: now,
            reason: Reason::Started,
            passed: 0,
            failed: 0,
            not_connected: 0,
            errors: Failures::default(),
            silences: Failures::default(),
            retry_at: None,
            failing_until: None,
            ramp_from: fresh.then_some(now),
            nowhere: false,
        }
    }

    /// One of a name without an address.
    pub fn without_address(now: Duration) -> Self {
        let reason = Reason::ProbesFail(ProbeFailure::NoAddress);
        Self { up: false, reason, nowhere: true, ..Self::new(false, now) }
    }

    /// Its name has an address now.
    pub fn found(&mut self) {
        self.nowhere = false;
    }

    /// A probe has passed or failed.
    pub fn probed(&mut self, outcome: Result<(), ProbeFailure>, rules: &Rules, now: Duration) {
        match outcome {
            Ok(()) => {
                self.failed = 0;
                self.not_connected = 0;
                self.passed = self.passed.saturating_add(1);
                if !self.up && self.passed >= rules.rise {
                    self.rise(Reason::ProbesPass, now);
                } else if self.up && self.reason == Reason::Started {
                    self.reason = Reason::ProbesPass;
                }
            }
            Err(failure) => {
                self.passed = 0;
                self.failed = self.failed.saturating_add(1);
                if self.up && self.failed >= rules.fall {
                    self.fall(Reason::ProbesFail(failure), rules, now);
                }
            }
        }
    }

    /// A connection for a request could not be made, and that was the backend's doing.
    pub fn connect_failed(&mut self, rules: &Rules, now: Duration) {
        self.not_connected = self.not_connected.saturating_add(1);
        let enough = rules.passive_failures != 0 && self.not_connected >= rules.passive_failures;
        if self.up && enough {
            self.fall(Reason::NotConnected, rules, now);
        }
    }

    /// A new connection for a request was made.
    pub fn connected(&mut self, rules: &Rules, now: Duration) {
        self.not_connected = 0;
        if !self.up && !rules.probed {
            self.rise(Reason::Connected, now);
        }
    }

    /// The backend answered a packet, or did not. What one client can provoke takes nothing from
    /// others: errors count as soon as two have met them.
    pub fn answered(&mut self, answer: Answer, by: PacketSource, rules: &Rules, now: Duration) {
        let failures = match answer {
            Answer::Failing => &mut self.errors,
            Answer::Silent => &mut self.silences,
            Answer::Good | Answer::Prompt => {
                self.errors = Failures::default();
                if answer == Answer::Prompt {
                    self.silences = Failures::default();
                }
                if !self.silences.suffice(by, rules) {
                    self.failing_until = None;
                }
                return;
            }
        };
        failures.add(by);
        if failures.suffice(by, rules) {
            self.failing_until = Some(now + rules.retry_after);
        }
    }

    /// It was out of service on purpose, and is back.
    pub fn returned(&mut self, now: Duration) {
        self.errors = Failures::default();
        self.silences = Failures::default();
        self.failing_until = None;
        if self.up {
            self.ramp_from = Some(now);
        }
    }

    /// Lets go what time has healed. To be called at [`Self::next_deadline`].
    pub fn settle(&mut self, rules: &Rules, now: Duration) {
        if !self.up && (rules.probed || self.nowhere) {
            self.retry_at = None;
        } else if !self.up {
            // Probes may have been switched off while it was down.
            let at = *self.retry_at.get_or_insert(now + rules.retry_after);
            if now >= at {
                self.rise(Reason::TriedAgain, now);
                // One more failure is enough: nothing speaks for it yet.
                self.not_connected = rules.passive_failures.saturating_sub(1);
            }
        }
        // The count of errors stays: one more, and it is failing again.
        self.failing_until = self.failing_until.filter(|until| now < *until);
        self.ramp_from = self.ramp_from.filter(|from| now < from.saturating_add(rules.slow_start));
    }

    /// When [`Self::settle`] or [`Self::standing`] next have something to say without an event.
    pub fn next_deadline(&self, rules: &Rules, now: Duration) -> Option<Duration> {
        let ramp = self.ramp(rules).map(|from| {
            let step = rules.slow_start / (100 / STEP);
            let steps = now.saturating_sub(from).as_nanos() / step.as_nanos().max(1) + 1;
            from + step * u32::try_from(steps).unwrap_or(100 / STEP).min(100 / STEP)
        });
        [self.retry_at, self.failing_until, ramp].into_iter().flatten().min()
    }

    pub fn standing(&self, rules: &Rules, now: Duration) -> Standing {
        let running = |until: Option<Duration>| until.is_some_and(|until| now < until);
        let condition = match () {
            () if !self.up => Condition::Down,
            () if running(self.failing_until) => Condition::Failing,
            () => Condition::Up,
        };
        let weight_percent = self.ramp(rules).map_or(100, |from| {
            let run = now.saturating_sub(from).as_nanos();
            let steps = run * u128::from(100 / STEP) / rules.slow_start.as_nanos().max(1);
            u32::try_from(steps).unwrap_or(u32::MAX).saturating_mul(STEP).clamp(STEP, 100)
        });
        Standing { condition, weight_percent }
    }

    pub fn is_up(&self) -> bool {
        self.up
    }

    /// When it became what it is, up or down.
    pub fn since(&self) -> Duration {
        self.since
    }

    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// Whether a good answer on a new connection would change nothing.
    pub fn is_quiet(&self) -> bool {
        let failures = self.errors.count != 0 || self.silences.count != 0;
        self.up && self.not_connected == 0 && !failures && self.failing_until.is_none()
    }

    /// Whether the last probes speak against the state, so that the next ones decide.
    pub fn is_in_doubt(&self) -> bool {
        if self.up { self.failed > 0 } else { self.passed > 0 }
    }

    fn ramp(&self, rules: &Rules) -> Option<Duration> {
        self.ramp_from.filter(|_| !rules.slow_start.is_zero())
    }

    fn rise(&mut self, reason: Reason, now: Duration) {
        self.turn(true, reason, now);
        self.nowhere = false;
        self.retry_at = None;
        self.not_connected = 0;
        self.errors = Failures::default();
        self.silences = Failures::default();
        self.failing_until = None;
        self.ramp_from = Some(now);
    }

    fn fall(&mut self, reason: Reason, rules: &Rules, now: Duration) {
        self.turn(false, reason, now);
        self.passed = 0;
        self.ramp_from = None;
        self.retry_at = (!rules.probed).then(|| now + rules.retry_after);
    }

    fn turn(&mut self, up: bool, reason: Reason, now: Duration) {
        self.up = up;
        self.reason = reason;
        self.since = now;
    }
}

impl Failures {
    fn add(&mut self, by: PacketSource) {
        self.count = self.count.saturating_add(1);
        self.by = self.by.and(by.client);
    }

    /// Whether they are enough, and not of one client among others.
    fn suffice(&self, by: PacketSource, rules: &Rules) -> bool {
        let believed = !by.among_others || self.by == Sources::Several;
        believed && rules.passive_errors != 0 && self.count >= rules.passive_errors
    }
}

impl Sources {
    fn and(self, client: Option<ClientKey>) -> Self {
        match self {
            Self::Nobody => Self::One(client),
            Self::One(first) if first == client => self,
            Self::One(_) | Self::Several => Self::Several,
        }
    }
}

impl fmt::Display for ProbeFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => f.write_str("connection refused"),
            Self::Unreachable => f.write_str("not reachable"),
            Self::Timeout => f.write_str("no answer in time"),
            Self::Closed => f.write_str("closed without an answer"),
            Self::Tls => f.write_str("no TLS connection can be made"),
            Self::Garbage => f.write_str("the answer is not HTTP"),
            Self::Status(status) => write!(f, "answered {status}"),
            Self::NoAck(status) => write!(f, "answered {status}, but with no Ack"),
            Self::NoAddress => f.write_str("the name has no address"),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started => f.write_str("not probed yet"),
            Self::ProbesPass => f.write_str("probes pass"),
            Self::ProbesFail(failure) => write!(f, "probes fail: {failure}"),
            Self::NotConnected => f.write_str("requests cannot connect"),
            Self::Connected => f.write_str("a request has connected"),
            Self::TriedAgain => f.write_str("tried again after a while"),
        }
    }
}

#[cfg(test)]
#[path = "health_tests.rs"]
mod tests;
