//! The life of one request: head, fault, work, rest of the body, answer.

use std::net::IpAddr;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::sync::watch;

use crate::ack::{self, Outcome};
use crate::body::{Body, Lost, Trip};
use crate::clock;
use crate::conn::{Conn, Pace};
use crate::faults::{Action, Canned};
use crate::files;
use crate::http::{Answer, Head, Segment};
use crate::log::{self, Level};
use crate::packet::{self, Class, Kind};
use crate::refusal::Refusal;
use crate::server::{Next, Server};
use crate::uploads::Packet;

/// A refused body of at most so many bytes is swallowed, to keep the connection; a longer one ends it.
const MAX_DRAIN: u64 = 64 * 1024 * 1024;

/// What a request needs to know about where it came from.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    pub server: &'a Server,
    pub peer: IpAddr,
    pub connection: u64,
    pub stop: &'a watch::Receiver<bool>,
}

/// What a fault changes in the course of its request.
#[derive(Default)]
struct Twist {
    lose_sessions: bool,
    interim: bool,
    early: Option<Canned>,
    trip: Option<(u64, Trip)>,
    pace: Option<Pace>,
    inject: Option<Refusal>,
    /// Reads the body and does nothing with it.
    discard: bool,
    canned: Option<Canned>,
    raw: Option<String>,
    delay: Option<Duration>,
    ending: Ending,
    without_length: bool,
    old_version: bool,
    close: bool,
}

/// How a request ends once its work is done.
#[derive(Default, PartialEq, Eq)]
enum Ending {
    #[default]
    Answer,
    /// FIN without an answer.
    HangUp,
    Die,
}

/// What the work gave: an answer, if there is to be one, and whether the connection ends with it.
struct Worked {
    answer: Option<Answer>,
    last: bool,
}

impl Request<'_> {
    /// Serves the request whose head is `raw`.
    pub async fn serve(&self, conn: &mut Conn, raw: Vec<u8>) -> Next {
        let server = self.server;
        let record = server.requests.begin(self.connection, &raw);
        let is_bits = raw.starts_with(b"BITS_POST ");
        let Ok(head) = Head::parse(raw) else {
            let answer = self.unreadable(is_bits);
            return self.respond(conn, record, answer, true, None).await;
        };
        let class = packet::classify(&head, server.options.flavour.takes_method_override());
        server.stats.count(class);
        self.note_foreign(class, &head);
        let action = server.faults.take(class.name());
        self.log_fault(class, action.as_ref());
        let twist = match Twist::of(action) {
            Ok(twist) => twist,
            Err(next) => return next,
        };

        let mut body = Body::new(conn, &head, server.requests.are_kept());
        body.trip = twist.trip;
        body.pace = twist.pace;
        let worked = self.work(&head, class, &twist, &mut body, record).await;
        let (received, complete, digest) = (body.received, body.is_done(), body.digest());
        server.stats.body_bytes.fetch_add(received, Relaxed);
        server.requests.update(record, |r| {
            r.body_bytes = received;
            r.body_sha256 = digest;
            r.complete = complete;
        });

        match worked {
            Ok(worked) => self.finish(conn, &head, record, twist, worked).await,
            Err(Lost::Fault(Trip::Die)) => die(),
            Err(Lost::Fault(Trip::Reset)) => Next::Reset,
            Err(Lost::Fault(Trip::Stall)) => Next::Stall,
            Err(lost) => {
                log::line(
                    Level::Warn,
                    "request_lost",
                    format_args!(
                        "connection={} packet={} body_bytes={received} error={:?}",
                        self.connection,
                        class.name(),
                        lost.to_string()
                    ),
                );
                Next::Finish
            }
        }
    }

    /// Everything up to the last byte of the body.
    async fn work(
        &self,
        head: &Head,
        class: Class,
        twist: &Twist,
        body: &mut Body<'_>,
        record: u64,
    ) -> Result<Worked, Lost> {
        if twist.lose_sessions {
            self.server.uploads.sessions.forget_all().await;
        }
        if twist.interim {
            body.send_continue().await?;
        }
        if let Some(canned) = &twist.early {
            let answer = made_up(canned);
            body.write_early(&answer).await?;
            self.note_status(record, answer.status);
            // With `Expect` it is the client's choice whether the body comes now, so that nobody can tell what follows.
            let last = says_close(&answer) || head.expects_continue();
            if !last {
                body.drain().await?;
            }
            return Ok(Worked { answer: None, last });
        }
        let mut worked = Worked { answer: None, last: false };
        if !twist.discard {
            worked = self.do_it(head, class, twist, body).await?;
        }
        // A refused body is swallowed first: an answer in front of unread bytes may be lost to the reset that follows
        // them. For a body that is done, a fault beyond its end is still due.
        let too_much = body.continue_is_due() || body.left().is_none_or(|left| left > MAX_DRAIN);
        if too_much && !body.is_done() && !twist.discard {
            worked.last = true;
        } else {
            body.drain().await?;
        }
        Ok(worked)
    }

    async fn do_it(
        &self,
        head: &Head,
        class: Class,
        twist: &Twist,
        body: &mut Body<'_>,
    ) -> Result<Worked, Lost> {
        let options = &self.server.options;
        let mut last = false;
        let answer = match class {
            Class::Packet(kind) => self.packet(head, kind, twist, body).await?,
            Class::Unknown { typed } => {
                last = !typed && options.flavour.hangs_up_without_type();
                let refused = Refusal::InvalidArgument("an unknown packet type");
                let sent = packet::session_id(head);
                ack::compose(options, None, sent, &Outcome::Refused(refused)).filter(|_| !last)
            }
            Class::Download if head.method == "HEAD" && options.refuse_head => {
                Some(Answer::new(405).header("Allow", "BITS_POST"))
            }
            Class::Download => Some(files::serve(&self.server.uploads, head).await),
            Class::Other => Some(Answer::new(405).header("Allow", "GET, HEAD, BITS_POST")),
        };
        Ok(Worked { answer, last })
    }

    async fn packet(
        &self,
        head: &Head,
        kind: Kind,
        twist: &Twist,
        body: &mut Body<'_>,
    ) -> Result<Option<Answer>, Lost> {
        let packet = Packet {
            kind,
            head,
            peer: self.peer,
            connection: self.connection,
            inject: twist.inject.as_ref(),
            now: clock::now_ms(),
        };
        let outcome = self.server.uploads.handle(packet, body).await?;
        self.log_packet(kind, head, &outcome);
        let sent = packet::session_id(head);
        Ok(ack::compose(&self.server.options, Some(kind), sent, &outcome))
    }

    /// Everything after the last byte of the body.
    async fn finish(
        &self,
        conn: &mut Conn,
        head: &Head,
        record: u64,
        twist: Twist,
        worked: Worked,
    ) -> Next {
        if let Some(delay) = twist.delay {
            tokio::time::sleep(delay).await;
        }
        match twist.ending {
            Ending::Answer => {}
            Ending::HangUp => return Next::Finish,
            Ending::Die => die(),
        }
        let last = worked.last || twist.close || twist.old_version || head.wants_close();
        if let Some(latin1) = twist.raw {
            return match conn.write_all(&latin1_bytes(&latin1), twist.pace).await {
                Ok(()) if !last => Next::KeepAlive,
                _ => Next::Finish,
            };
        }
        let made_up = twist.canned.as_ref().map(made_up);
        let Some(mut answer) = made_up.or(worked.answer) else {
            return if last { Next::Finish } else { Next::KeepAlive };
        };
        answer.with_length &= !twist.without_length;
        answer.old_version = twist.old_version;
        self.respond(conn, record, answer, last, twist.pace).await
    }

    async fn respond(
        &self,
        conn: &mut Conn,
        record: u64,
        mut answer: Answer,
        last: bool,
        pace: Option<Pace>,
    ) -> Next {
        let last = last || *self.stop.borrow();
        if last && !says_close(&answer) {
            answer.close = Some("close");
        }
        self.note_status(record, answer.status);
        match conn.write_answer(&answer, pace).await {
            Ok(()) if !says_close(&answer) => Next::KeepAlive,
            _ => Next::Finish,
        }
    }

    /// The answer to a head that no rule can be applied to.
    fn unreadable(&self, is_bits: bool) -> Answer {
        let refused = Outcome::Refused(Refusal::InvalidArgument("a malformed head"));
        is_bits
            .then(|| ack::compose(&self.server.options, None, None, &refused))
            .flatten()
            .unwrap_or_else(|| Answer::new(400))
    }

    fn note_status(&self, record: u64, status: u16) {
        self.server.requests.update(record, |r| r.status = Some(status));
    }

    fn note_foreign(&self, class: Class, head: &Head) {
        let server = self.server;
        if let Class::Packet(_) = class
            && let Some(id) = packet::session_id(head)
        {
            let id = server.options.flavour.read_id(id);
            if !server.uploads.disk.created.contains(&id) {
                server.stats.foreign.fetch_add(1, Relaxed);
                let agent = head.text("user-agent").unwrap_or_default();
                let agent: String = agent.chars().take(20).collect();
                // The count ends with the process; what was seen must not.
                log::line(
                    Level::Error,
                    "foreign_packet",
                    format_args!(
                        "packet={} length={} agent={:?} session={:?}",
                        class.name(),
                        head.text("content-length").unwrap_or("-"),
                        agent,
                        log::short(&id)
                    ),
                );
            }
        }
    }

    fn log_fault(&self, class: Class, action: Option<&Action>) {
        if let Some(action) = action {
            log::line(
                Level::Info,
                "fault",
                format_args!(
                    "connection={} packet={} action={action:?}",
                    self.connection,
                    class.name()
                ),
            );
        }
    }

    fn log_packet(&self, kind: Kind, head: &Head, outcome: &Outcome) {
        let (level, result) = match outcome {
            Outcome::Refused(refusal) => {
                (Level::Warn, format!("refused reason={:?}", refusal.to_string()))
            }
            Outcome::Took { next, .. } => (Level::Info, format!("took next={next}")),
            Outcome::Created { id } => {
                (Level::Info, format!("created new_session={:?}", log::short(id)))
            }
            Outcome::Pinged => (Level::Info, "pinged".to_owned()),
            Outcome::Closed => (Level::Info, "closed".to_owned()),
            Outcome::Cancelled => (Level::Info, "cancelled".to_owned()),
        };
        if level == Level::Info && self.server.options.quiet {
            return;
        }
        let id = packet::session_id(head).map(log::short).unwrap_or_default();
        log::line(
            level,
            "packet",
            format_args!(
                "connection={} packet={} session={id:?} target={:?} outcome={result}",
                self.connection,
                kind.name(),
                head.target
            ),
        );
    }
}

impl Twist {
    /// Translates a fault; some end the request before it begins.
    fn of(action: Option<Action>) -> Result<Self, Next> {
        let mut twist = Self::default();
        let Some(action) = action else {
            return Ok(twist);
        };
        match action {
            Action::Die => die(),
            Action::Reset => return Err(Next::Reset),
            Action::Close => return Err(Next::Finish),
            Action::Stall => return Err(Next::Stall),
            Action::DieAfterBytes { n } => twist.trip = Some((n, Trip::Die)),
            Action::ResetAfterBytes { n } => twist.trip = Some((n, Trip::Reset)),
            Action::StallAfterBytes { n } => twist.trip = Some((n, Trip::Stall)),
            Action::Slow { bytes_per_second } => twist.pace = Some(Pace(bytes_per_second)),
            Action::EarlyAnswer(canned) => twist.early = Some(canned),
            Action::Continue100 => twist.interim = true,
            Action::LoseSessions => twist.lose_sessions = true,
            Action::CloseAfterBody => {
                twist.discard = true;
                twist.ending = Ending::HangUp;
            }
            Action::Answer(canned) => {
                twist.discard = true;
                twist.canned = Some(canned);
            }
            Action::Raw { latin1 } => {
                twist.discard = true;
                twist.raw = Some(latin1);
            }
            Action::ApplyThenClose => twist.ending = Ending::HangUp,
            Action::ApplyThenDie => twist.ending = Ending::Die,
            Action::NoContentLength => twist.without_length = true,
            Action::Http10 => twist.old_version = true,
            Action::ConnectionClose => twist.close = true,
            Action::DiskFull => twist.inject = Some(Refusal::DiskFull),
            Action::TooLarge => twist.inject = Some(Refusal::TooLarge),
            Action::Delay { ms } => twist.delay = Some(Duration::from_millis(ms)),
        }
        Ok(twist)
    }
}

/// Ends the process as `kill -9` does: nothing is flushed, nobody is told.
fn die() -> ! {
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    std::process::abort()
}

fn made_up(canned: &Canned) -> Answer {
    let mut answer = Answer::new(canned.status);
    answer.headers =
        canned.headers.iter().map(|(name, value)| (name.clone().into(), value.clone())).collect();
    if !canned.body.is_empty() {
        let bytes = canned.body.clone().into_bytes();
        answer.body.push(Segment::Bytes(bytes));
    }
    answer
}

fn says_close(answer: &Answer) -> bool {
    answer.close.is_some()
        || answer.headers.iter().any(|(name, value)| {
            name.eq_ignore_ascii_case("connection") && value.eq_ignore_ascii_case("close")
        })
}

/// Characters beyond Latin-1 have no byte of their own.
fn latin1_bytes(text: &str) -> Vec<u8> {
    text.chars().map(|c| u8::try_from(u32::from(c)).unwrap_or(b'?')).collect()
}
