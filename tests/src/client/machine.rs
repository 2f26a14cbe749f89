//! The upload state machine of the Windows client: MC-BUP 3.1 and the Win32 pages on BITS uploads.
//!
//! Create-Session, the switch to the Host-Id, Ping, Fragments, Close-Session; and what each answer does to that path.

use std::time::{Duration, Instant};

use super::ack::Ack;
use super::options::{AfterRestart, CloseNotFound, Options};
use super::options::{LARGEST_FRAGMENT, SMALLEST_FRAGMENT};
use super::packet::{PacketType, Range, Url};
use super::report::{End, Event, Fatal, Report};
use super::resolver::Resolver;
use super::verdict::{Verdict, judge};
use super::wire::{Answer, Connection};
use crate::clock;
use crate::data::{Chance, Content};

/// Acks without any movement after which the server counts as stuck (0x80200024, transient).
const STUCK: u32 = 3;

/// No honest server moves a client about so often.
const RESYNC_LIMIT: u32 = 10_000;

/// Makes uploads that share names and options.
#[derive(Clone)]
pub struct Client {
    resolver: Resolver,
    options: Options,
}

impl Client {
    pub fn new(resolver: Resolver) -> Self {
        Self { resolver, options: Options::default() }
    }

    /// Changes options, in the middle of a sentence: `client.with(|o| o.ignore_host_id = true)`.
    pub fn with(mut self, change: impl FnOnce(&mut Options)) -> Self {
        change(&mut self.options);
        self
    }

    /// Uploads to the end, whatever that is.
    pub fn upload(&self, url: &str, content: &Content) -> Report {
        self.begin(url, content).run()
    }

    /// An upload that the test moves forward itself. Nothing has been sent yet.
    pub fn begin(&self, url: &str, content: &Content) -> Upload {
        Upload::new(self.clone(), Url::parse(url), content.clone())
    }
}

/// One upload under way.
pub struct Upload {
    pub(super) resolver: Resolver,
    pub(super) options: Options,
    pub(super) url: Url,
    pub(super) content: Content,
    pub(super) next: Next,
    pub(super) session: Option<String>,
    pub(super) position: u64,
    /// The largest offset that a server can know of this session.
    pub(super) highest_sent: u64,
    pub(super) host_id: Option<String>,
    pub(super) fallback: Fallback,
    /// Lowered by a 413, for the rest of the upload.
    pub(super) fragment_limit: u64,
    pub(super) chance: Chance,
    pub(super) authorization: Option<String>,
    pub(super) link: Option<(String, Connection)>,
    pub(super) time: ClientTime,
    /// Client time of the last progress.
    pub(super) progressed: Duration,
    pub(super) stuck: u32,
    pub(super) report: Report,
}

/// What the client does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    Send(PacketType),
    /// The same after a Ping, for a new host or an interrupted upload.
    PingThen(PacketType),
    Nothing,
}

/// The timer that leads from the Host-Id back to the origin name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fallback {
    /// `None` is the 0xFFFFFFFF of MC-BUP 3.1.2.3: never.
    pub(super) timeout: Option<Duration>,
    /// Client time.
    pub(super) started: Option<Duration>,
}

/// Real time plus all the delays that the client has slept through in its own reckoning.
pub(super) struct ClientTime {
    start: Instant,
    skipped: Duration,
}

impl ClientTime {
    pub(super) fn now(&self) -> Duration {
        (clock::now() - self.start) + self.skipped
    }
}

impl Upload {
    fn new(client: Client, url: Url, content: Content) -> Self {
        let Client { resolver, options } = client;
        let chance = options.fragments.chance();
        Self {
            resolver,
            options,
            url,
            content,
            next: Next::Send(PacketType::CreateSession),
            session: None,
            position: 0,
            highest_sent: 0,
            host_id: None,
            fallback: Fallback { timeout: None, started: None },
            fragment_limit: u64::MAX,
            chance,
            authorization: None,
            link: None,
            time: ClientTime { start: clock::now(), skipped: Duration::ZERO },
            progressed: Duration::ZERO,
            stuck: 0,
            report: Report::new(),
        }
    }

    /// To the end.
    pub fn run(mut self) -> Report {
        while self.step() {}
        self.report
    }

    /// Until `reached` holds; false when the upload ended before.
    pub fn run_until(&mut self, mut reached: impl FnMut(&Self) -> bool) -> bool {
        loop {
            if reached(self) {
                return true;
            }
            if !self.step() {
                return false;
            }
        }
    }

    /// One packet and what follows from its answer, retry delay included. False when the upload has ended.
    pub fn step(&mut self) -> bool {
        match self.next {
            Next::Nothing => return false,
            Next::PingThen(then) if self.options.ping => self.ping_then(then),
            Next::PingThen(then) | Next::Send(then) => self.send_and_react(then),
        }
        self.next != Next::Nothing
    }

    /// Cancels instead of going on; the answer's errors count as for any packet.
    pub fn cancel(mut self) -> Report {
        self.next = Next::Send(PacketType::CancelSession);
        self.run()
    }

    pub fn report(&self) -> &Report {
        &self.report
    }

    pub fn session(&self) -> Option<&str> {
        self.session.as_deref()
    }

    /// The next offset as the server last said it.
    pub fn position(&self) -> u64 {
        self.position
    }

    pub fn host_id(&self) -> Option<&str> {
        self.host_id.as_deref()
    }

    /// Drops the connection as a roaming laptop does: the next step starts with a new connection and a Ping.
    pub fn interrupt(&mut self) {
        self.link = None;
        if let Next::Send(packet) = self.next
            && self.session.is_some()
        {
            self.next = Next::PingThen(packet);
        }
    }

    fn ping_then(&mut self, then: PacketType) {
        if let Some(answer) = self.exchange(PacketType::Ping, None, Next::PingThen(then)) {
            match judge(PacketType::Ping, &answer, 0, 0) {
                Verdict::Success => self.next = Next::Send(then),
                verdict => self.react(PacketType::Ping, &answer, verdict, Next::PingThen(then), 0),
            }
        }
    }

    fn send_and_react(&mut self, packet: PacketType) {
        let range = (packet == PacketType::Fragment).then(|| self.next_range());
        let length = range.map_or(0, |range| range.length);
        let again = Next::Send(packet);
        let Some(answer) = self.exchange(packet, range, again) else {
            return;
        };
        let end = range.map_or(0, |range| range.first + range.length);
        match judge(packet, &answer, end, self.highest_sent) {
            Verdict::Success => self.succeed(packet, &answer),
            verdict => self.react(packet, &answer, verdict, again, length),
        }
    }

    fn next_range(&mut self) -> Range {
        let total = self.content.len();
        let wanted = self.options.fragments.next(&mut self.chance);
        let length = wanted.min(self.fragment_limit).min(total - self.position).max(1);
        Range { first: self.position, length, total }
    }

    fn succeed(&mut self, packet: PacketType, answer: &Answer) {
        let ack = Ack::read(answer);
        match packet {
            PacketType::CreateSession => self.created(&ack),
            PacketType::Fragment => {
                self.acknowledged(&ack);
                self.move_to(ack.received.unwrap_or(self.position));
            }
            PacketType::CloseSession => self.finish(End::Complete),
            PacketType::CancelSession => self.finish(End::Cancelled),
            PacketType::Ping => {}
        }
    }

    fn created(&mut self, ack: &Ack) {
        if let Some(id) = &ack.session {
            self.report.sessions.push(id.clone());
        }
        self.session = ack.session.clone();
        self.highest_sent = self.position;
        self.progressed = self.time.now();
        let packet = self.data_or_close();
        self.next = Next::Send(packet);
        let Some(host_id) = ack.host_id.clone() else {
            return;
        };
        self.report.host_ids.push(host_id.clone());
        if !self.options.ignore_host_id {
            self.host_id = Some(host_id);
            // 0xFFFFFFFF and a missing field both mean: never (MC-BUP 3.1.2.3).
            let finite = ack.fallback_timeout.filter(|&t| t < 0xFFFF_FFFF);
            self.fallback = Fallback { timeout: finite.map(Duration::from_secs), started: None };
            self.next = Next::PingThen(packet);
        }
    }

    /// What any Ack of a Fragment brings, 200 or 416.
    fn acknowledged(&mut self, ack: &Ack) {
        self.fallback.started = None;
        if let Some(url) = &ack.reply_url {
            self.report.reply_url = Some(url.clone());
        }
    }

    fn move_to(&mut self, offset: u64) {
        if offset == self.position {
            self.stuck += 1;
        } else {
            self.stuck = 0;
            self.progressed = self.time.now();
        }
        self.position = offset;
        self.next = Next::Send(self.data_or_close());
    }

    fn data_or_close(&self) -> PacketType {
        match self.position < self.content.len() {
            true => PacketType::Fragment,
            false => PacketType::CloseSession,
        }
    }

    fn react(
        &mut self,
        packet: PacketType,
        answer: &Answer,
        verdict: Verdict,
        again: Next,
        length: u64,
    ) {
        match verdict {
            Verdict::Success => {}
            Verdict::SessionNotFound => self.session_not_found(packet, answer),
            Verdict::Resync(offset) => self.resync(answer, offset),
            Verdict::TooLarge => self.shrink(length, again),
            Verdict::Challenge => self.finish(End::Challenged(Box::new(answer.clone()))),
            Verdict::Transient => self.transient(again),
            Verdict::Fatal(reason) => self.fatal(packet, Some(answer), reason),
        }
    }

    /// Neither Host-Id nor offset is reset (MC-BUP 3.1.5.1.7); the new session's 416 corrects the offset.
    fn session_not_found(&mut self, packet: PacketType, answer: &Answer) {
        if packet == PacketType::CloseSession
            && self.options.close_not_found == CloseNotFound::Accept
        {
            return self.finish(End::Complete);
        }
        if self.report.restarts >= self.options.restart_limit {
            return self.fatal(packet, Some(answer), "too many restarts".to_owned());
        }
        self.report.restarts += 1;
        self.report.events.push(Event::Restarted);
        self.session = None;
        // With every byte acknowledged there is no fragment left that a 416 could correct.
        if self.options.after_restart == AfterRestart::FromZero
            || self.position == self.content.len()
        {
            self.position = 0;
        }
        self.next = Next::Send(PacketType::CreateSession);
    }

    fn resync(&mut self, answer: &Answer, offset: u64) {
        self.acknowledged(&Ack::read(answer));
        self.report.resyncs += 1;
        self.report.events.push(Event::Resynced { to: offset });
        self.move_to(offset);
        if self.report.resyncs >= RESYNC_LIMIT {
            self.finish(End::GaveUp);
        } else if self.stuck >= STUCK {
            self.stuck = 0;
            self.transient(self.next);
        }
    }

    /// Halves the fragment, never below 5 KiB (MC-BUP note 16); there a 413 is an error like any other, but not one
    /// that starts the fallback timer.
    fn shrink(&mut self, length: u64, again: Next) {
        if length <= SMALLEST_FRAGMENT {
            return self.wait_and_retry(again);
        }
        // A fragment of the size of the whole file first comes down to what Windows would send.
        let size = (length / 2).clamp(SMALLEST_FRAGMENT, LARGEST_FRAGMENT);
        self.fragment_limit = size;
        self.report.events.push(Event::Shrunk { to: size });
        self.next = again;
    }

    /// A transient error: it starts the fallback timer, then the client waits.
    pub(super) fn transient(&mut self, again: Next) {
        if self.host_id.is_some() && self.fallback.started.is_none() {
            self.fallback.started = Some(self.time.now());
        }
        self.wait_and_retry(again);
    }

    fn wait_and_retry(&mut self, again: Next) {
        self.link = None;
        let without_progress = self.time.now() - self.progressed;
        if without_progress >= self.options.no_progress_timeout {
            return self.finish(End::GaveUp);
        }
        self.report.retries += 1;
        self.report.events.push(Event::Waited);
        let wait = self.options.wait.clone();
        wait(self.options.retry_delay);
        self.time.skipped += self.options.retry_delay;
        self.next = match again {
            // Nothing to ping for: no server holds anything of this upload yet.
            Next::Send(packet) if self.session.is_some() => Next::PingThen(packet),
            other => other,
        };
    }

    pub(super) fn fatal(&mut self, packet: PacketType, answer: Option<&Answer>, reason: String) {
        self.finish(End::Fatal(Fatal {
            packet,
            status: answer.map(|answer| answer.status),
            hresult: answer.and_then(|answer| Ack::read(answer).hresult),
            reason,
        }));
    }

    fn finish(&mut self, end: End) {
        self.report.end = end;
        self.next = Next::Nothing;
        self.link = None;
    }
}
