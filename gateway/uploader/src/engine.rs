//! The client's state machine (MC-BUP 3.1.5): create, ping, fragments, close, and what to do when
//! something goes wrong.

mod packets;
mod session;

use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;

use gateway_core::protocol::{ContentRange, PacketType, headers};

use crate::client::Client;
use crate::clock;
use crate::error::UploadError;
use crate::fallback::{Affinity, NEVER};
use crate::pace::Pacer;
use crate::source::Source;
use crate::state::StateFile;
use crate::target;
use crate::verdict;

/// How an upload is to be done.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Largest body of a Fragment; at least [`SMALLEST_FRAGMENT`].
    pub fragment_bytes: u64,
    /// Pause after an error that may pass.
    pub retry_delay: Duration,
    /// Without progress for so long, the upload ends. Zero: the first error ends it.
    pub give_up: Duration,
    pub bytes_per_second: Option<NonZeroU64>,
    /// Where the reply of the server application goes, if one is wanted.
    pub reply: Option<PathBuf>,
}

/// Windows never goes below (MC-BUP note 16).
pub const SMALLEST_FRAGMENT: u64 = 5 << 10;

/// What happened so far; true also of an upload that was interrupted.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Fragments that the server took.
    pub fragments: u64,
    /// Sessions that the server lost.
    pub restarts: u32,
    /// Pauses after an error.
    pub retries: u32,
    /// Short form of the newest session's id.
    pub session: Option<String>,
    /// Every host id that packets were sent to, in order.
    pub host_ids: Vec<String>,
    /// Where an earlier run had stopped.
    pub resumed_at: Option<u64>,
}

/// News for whoever shows the upload.
#[derive(Debug)]
pub enum Event<'e> {
    Resumed {
        offset: u64,
    },
    Session {
        short: &'e str,
        host_id: Option<&'e str>,
    },
    /// The next packet goes out; until something else happens, its answer is waited for.
    Packet,
    /// So many bytes of the file have been handed to the network, or are known to the server.
    Position(u64),
    /// The server has all bytes before this offset.
    Confirmed(u64),
    SmallerFragments {
        bytes: u64,
    },
    WentBack {
        from: u64,
        to: u64,
    },
    Waiting {
        why: &'e str,
        delay: Duration,
        /// When the server that was named is given up for the host of the URL.
        falls_back_in: Option<Duration>,
    },
    Restarting {
        why: &'e str,
    },
    FellBack {
        from: &'e str,
    },
}

pub type Listener = Box<dyn Fn(&Event<'_>) + Send + Sync>;

/// One upload of one file.
pub struct Upload {
    client: Client,
    source: Source,
    settings: Settings,
    state: Option<StateFile>,
    listener: Listener,
    content_name: Option<String>,
    session: Option<String>,
    affinity: Affinity,
    offset: u64,
    fragment_bytes: u64,
    reply_url: Option<String>,
    pacer: Pacer,
    /// Times that confirmed bytes were lost, by a restart or by an offset that went back.
    setbacks: u32,
    acked_since_restart: bool,
    last_progress: Duration,
    tally: Tally,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Create,
    Ping,
    Fragment,
    Reply,
    Close,
    Done,
}

/// Why a step did not succeed.
pub(super) enum Trouble {
    /// The same again at once: a login, a smaller Fragment, a connection that was too old.
    Again,
    Transient {
        why: String,
        retry_after: Option<Duration>,
    },
    Restart {
        why: String,
    },
    Fatal(UploadError),
}

impl<E: Into<UploadError>> From<E> for Trouble {
    fn from(error: E) -> Self {
        Self::Fatal(error.into())
    }
}

/// A server that loses what it confirmed so often is broken, and the upload would never end.
const MOST_SETBACKS: u32 = 20;
/// A server may ask for patience, but a person is watching.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(60);

impl Upload {
    pub fn new(
        client: Client,
        source: Source,
        settings: Settings,
        state: Option<StateFile>,
        listener: Listener,
    ) -> Self {
        Self {
            content_name: source.content_name(),
            pacer: Pacer::new(settings.bytes_per_second),
            fragment_bytes: settings.fragment_bytes.max(SMALLEST_FRAGMENT),
            client,
            source,
            settings,
            state,
            listener,
            session: None,
            affinity: Affinity::default(),
            offset: 0,
            reply_url: None,
            setbacks: 0,
            acked_since_restart: true,
            last_progress: clock::steady(),
            tally: Tally::default(),
        }
    }

    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Bytes that the server has confirmed.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Whether a later run could go on from here.
    pub fn is_resumable(&self) -> bool {
        self.session.is_some() && self.state.is_some()
    }

    /// Sends the whole file, resuming where an earlier run stopped, and returns its SHA-256.
    ///
    /// Dropping the future interrupts the upload; the state file is then up to date.
    pub async fn run(&mut self) -> Result<String, UploadError> {
        self.resume().await?;
        let mut phase = if self.session.is_some() { Phase::Ping } else { Phase::Create };
        while phase != Phase::Done {
            let step = match phase {
                Phase::Create => self.create().await,
                Phase::Ping => self.ping().await,
                Phase::Fragment => self.fragment().await,
                Phase::Reply => self.reply().await,
                Phase::Close => self.close().await,
                Phase::Done => break,
            };
            phase = match step {
                Ok(next) => next,
                Err(Trouble::Again) => phase,
                Err(Trouble::Transient { why, retry_after }) => {
                    self.wait(&why, retry_after).await?;
                    // An interrupted job resumes with a Ping (MC-BUP note 9).
                    if self.session.is_some() { Phase::Ping } else { Phase::Create }
                }
                Err(Trouble::Restart { why }) => {
                    self.restart(&why).await?;
                    Phase::Create
                }
                Err(Trouble::Fatal(error)) => return Err(error),
            };
        }
        let sha256 = self.source.sha256().await?;
        if let Some(state) = &mut self.state {
            state.remove()?;
        }
        Ok(sha256)
    }

    /// Ends a session that an earlier run left behind. False: there was none.
    pub async fn cancel(&mut self) -> Result<bool, UploadError> {
        let record = self.load()?;
        let known = record.is_some();
        if let Some(record) = record {
            self.adopt(record);
            loop {
                match self.cancel_once().await {
                    Ok(_) | Err(Trouble::Restart { .. }) => break,
                    Err(Trouble::Again) => {}
                    Err(Trouble::Transient { why, retry_after }) => {
                        self.wait(&why, retry_after).await?;
                    }
                    Err(Trouble::Fatal(error)) => return Err(error),
                }
            }
        }
        if let Some(state) = &mut self.state {
            state.remove()?;
        }
        Ok(known)
    }

    /// The server behind the current host, for messages.
    fn host(&self) -> String {
        self.affinity.host().unwrap_or(&self.client.target().host).to_owned()
    }

    fn tell(&self, event: &Event<'_>) {
        (self.listener)(event);
    }

    async fn create(&mut self) -> Result<Phase, Trouble> {
        let head = self.packet(PacketType::CreateSession, None).await?;
        let protocol = verdict::text(&head, &headers::PROTOCOL);
        if protocol.is_some_and(|p| !p.eq_ignore_ascii_case(headers::UPLOAD_PROTOCOL)) {
            return Err(self.fatal("chose a protocol that was not offered").into());
        }
        let id = verdict::text(&head, &headers::SESSION_ID).unwrap_or_default().to_owned();
        let timeout = verdict::text(&head, &headers::HOST_ID_FALLBACK_TIMEOUT);
        // A number too large for the field means what the largest one means.
        let timeout = timeout.map(|text| text.parse().unwrap_or(NEVER));
        let host_id = verdict::text(&head, &headers::HOST_ID).and_then(target::host_id);
        self.affinity = host_id.map(|host| Affinity::name(host, timeout)).unwrap_or_default();
        if !self.name_session(&id) {
            return Err(self.fatal("opened a session without naming it").into());
        }
        self.session = Some(id);
        self.save()?;
        Ok(if self.affinity.host().is_some() { Phase::Ping } else { self.after_ping() })
    }

    async fn ping(&mut self) -> Result<Phase, Trouble> {
        self.packet(PacketType::Ping, None).await?;
        Ok(self.after_ping())
    }

    fn after_ping(&self) -> Phase {
        if self.offset < self.source.size() {
            Phase::Fragment
        } else if self.reply_url.is_some() && self.settings.reply.is_some() {
            Phase::Reply
        } else {
            Phase::Close
        }
    }

    async fn fragment(&mut self) -> Result<Phase, Trouble> {
        self.source.check_unchanged().await?;
        let total = self.source.size();
        let length = self.fragment_bytes.min(total - self.offset);
        let range = ContentRange::new(self.offset, self.offset + length - 1, total)
            .expect("offset < total, so that length is at least 1");
        let head = self.packet(PacketType::Fragment, Some(range)).await?;
        // `packet` lets only answers with an offset pass.
        let next = gateway_core::protocol::read_ack(head.status, &head.headers)
            .next_offset
            .unwrap_or(self.offset);
        if let Some(url) = verdict::text(&head, &headers::REPLY_URL) {
            self.reply_url = Some(url.to_owned());
        }
        self.confirm(next)?;
        Ok(self.after_ping())
    }

    /// Takes the offset from an Ack, be it lower than ours (MC-BUP 3.1.5.1.4).
    fn confirm(&mut self, next: u64) -> Result<(), Trouble> {
        if next > self.source.size() {
            return Err(self.fatal("wants bytes beyond the end of the file").into());
        }
        let before = std::mem::replace(&mut self.offset, next);
        self.affinity.acknowledged();
        self.acked_since_restart = true;
        self.tell(&Event::Confirmed(next));
        if next < before {
            self.tell(&Event::WentBack { from: before, to: next });
            self.setback()?;
        } else if next > before {
            self.tally.fragments += 1;
            self.last_progress = clock::steady();
        }
        self.save()?;
        if next == before {
            let why = format!("{} answers, but takes no bytes", self.host());
            return Err(Trouble::Transient { why, retry_after: None });
        }
        Ok(())
    }

    async fn reply(&mut self) -> Result<Phase, Trouble> {
        let (Some(url), Some(file)) = (&self.reply_url, &self.settings.reply) else {
            return Ok(Phase::Close);
        };
        crate::reply::download(&mut self.client, url, file).await?;
        self.reply_url = None;
        self.last_progress = clock::steady();
        self.save()?;
        Ok(Phase::Close)
    }

    async fn close(&mut self) -> Result<Phase, Trouble> {
        self.source.check_unchanged().await?;
        self.packet(PacketType::CloseSession, None).await?;
        Ok(Phase::Done)
    }

    async fn cancel_once(&mut self) -> Result<Phase, Trouble> {
        self.packet(PacketType::CancelSession, None).await?;
        Ok(Phase::Done)
    }

    fn setback(&mut self) -> Result<(), UploadError> {
        self.setbacks += 1;
        if self.setbacks > MOST_SETBACKS {
            return Err(self.fatal("keeps losing what it had confirmed"));
        }
        Ok(())
    }

    async fn restart(&mut self, why: &str) -> Result<(), UploadError> {
        self.tally.restarts += 1;
        self.setback()?;
        self.tell(&Event::Restarting { why });
        self.forget_session()?;
        // Twice in a row without taking a byte: another try at once would be a busy loop.
        if !std::mem::replace(&mut self.acked_since_restart, false) {
            self.wait(why, None).await?;
        }
        Ok(())
    }

    /// The pause after an error, and the clock that leads back to the host of the URL.
    async fn wait(&mut self, why: &str, retry_after: Option<Duration>) -> Result<(), UploadError> {
        let now = clock::steady();
        self.affinity.error(now);
        self.save()?;
        let asked = retry_after.unwrap_or_default().min(LONGEST_RETRY_AFTER);
        let delay = self.settings.retry_delay.max(asked);
        let stuck = now.saturating_sub(self.last_progress) + delay;
        if stuck > self.settings.give_up {
            return Err(UploadError::GaveUp { why: why.to_owned(), after: self.settings.give_up });
        }
        self.tally.retries += 1;
        let falls_back_in = self.affinity.time_left(now);
        self.tell(&Event::Waiting { why, delay, falls_back_in });
        tokio::time::sleep(delay).await;
        if let Some(from) = self.affinity.expire(clock::steady()) {
            self.tell(&Event::FellBack { from: &from });
            self.save()?;
        }
        self.tell(&Event::Confirmed(self.offset));
        Ok(())
    }
}
