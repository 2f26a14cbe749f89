//! Does what a packet asks for.

use std::net::IpAddr;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use crate::ack::Outcome;
use crate::body::{Body, Lost};
use crate::clock;
use crate::conn::{BLOCK, blocking};
use crate::disk::{self, DeliverError, Disk, Found};
use crate::flavour::{Flavour, Overlap};
use crate::http::{Framing, Head};
use crate::notify::{self, NotifyError, Target};
use crate::options::{Delivery, Options};
use crate::packet::{self, Kind, Range};
use crate::paths::{Destination, PathError, is_same_path, split_target};
use crate::refusal::Refusal;
use crate::sessions::{Live, Session, Sessions};
use crate::upload::{Record, Rules, State, Verdict};

/// The upload server behind the connections.
pub struct Uploads {
    options: Arc<Options>,
    pub disk: Arc<Disk>,
    pub sessions: Arc<Sessions>,
    application: Option<Target>,
}

/// One packet, as far as its head tells.
#[derive(Clone, Copy)]
pub struct Packet<'a> {
    pub kind: Kind,
    pub head: &'a Head,
    pub peer: IpAddr,
    pub connection: u64,
    /// An error to answer with in place of the work, for tests.
    pub inject: Option<&'a Refusal>,
    /// Unix milliseconds of the head's arrival.
    pub now: u64,
}

/// Why a packet was not done: refused with an answer, or cut off without one.
enum Stop {
    Refused(Refusal),
    Lost(Lost),
}

impl Uploads {
    /// # Errors
    /// The folder's sessions cannot be read.
    pub fn new(options: Arc<Options>, disk: Disk) -> std::io::Result<Self> {
        let sessions = Arc::new(Sessions::load(&disk)?);
        Ok(Self {
            application: options.notify_url.as_deref().and_then(Target::parse),
            options,
            disk: Arc::new(disk),
            sessions,
        })
    }

    /// Does one packet. The body may be left unread when the packet is refused.
    pub async fn handle(&self, packet: Packet<'_>, body: &mut Body<'_>) -> Result<Outcome, Lost> {
        match self.attempt(packet, body).await {
            Ok(outcome) => Ok(outcome),
            Err(Stop::Refused(refusal)) => Ok(Outcome::Refused(refusal)),
            Err(Stop::Lost(lost)) => Err(lost),
        }
    }

    /// Ends the sessions whose time is over.
    pub async fn sweep(&self, now: u64) {
        self.sessions.sweep(self.timeout_ms(), now).await;
    }

    /// The reply file of a session, if it has one.
    pub fn reply_file(&self, id: &str) -> Option<std::path::PathBuf> {
        let session = self.sessions.find(id)?;
        Some(disk::response(&session.dir))
    }

    async fn attempt(&self, packet: Packet<'_>, body: &mut Body<'_>) -> Result<Outcome, Stop> {
        packet::check_values(packet.head)?;
        self.check_length(packet)?;
        if let Some(refusal) = packet.inject {
            body.drain().await?;
            return Err(refusal.clone().into());
        }
        if packet.kind != Kind::Fragment {
            // Nothing to read, but a fault may be due before the work.
            body.drain().await?;
        }
        match packet.kind {
            Kind::Ping => Ok(Outcome::Pinged),
            Kind::CreateSession => self.create(packet).await,
            Kind::Fragment => self.fragment(packet, body).await,
            Kind::CloseSession => self.close(packet).await,
            Kind::CancelSession => self.cancel(packet).await,
        }
    }

    /// Only fragments have a body, and lengths are told as the flavour wants them.
    fn check_length(&self, packet: Packet<'_>) -> Result<(), Refusal> {
        let flavour = self.options.flavour;
        match packet.head.framing {
            Framing::None if flavour.requires_length() => Err(Refusal::LengthRequired),
            Framing::Chunked if !flavour.takes_chunked() => {
                Err(Refusal::InvalidArgument("a chunked body"))
            }
            Framing::None | Framing::Length(0) => Ok(()),
            _ if packet.kind != Kind::Fragment => {
                Err(Refusal::InvalidArgument("a body where none belongs"))
            }
            _ => Ok(()),
        }
    }

    async fn create(&self, packet: Packet<'_>) -> Result<Outcome, Stop> {
        let flavour = self.options.flavour;
        let offered = packet.head.text("bits-supported-protocols").unwrap_or_default();
        if !packet::offers_upload_protocol(offered, flavour.compares_last_protocol_only()) {
            return Err(Refusal::InvalidArgument("no common protocol").into());
        }
        let target = target_path(packet.head)?;
        let destination = Destination::from_target(&target).map_err(Refusal::from)?;
        let disk = Arc::clone(&self.disk);
        let found = blocking(move || disk.look(&destination)).await?;
        match found {
            Found::Directory => {
                return Err(Refusal::InvalidArgument("the destination is a directory").into());
            }
            Found::Unusable => return Err(Refusal::AccessDenied("no way to it").into()),
            Found::File if !self.options.allow_overwrites => {
                return Err(Refusal::AccessDenied("the file exists").into());
            }
            Found::File | Found::Nothing => {}
        }
        let id = flavour.mint_id(packet.peer, &packet.head.target);
        let (disk, issued) = (Arc::clone(&self.disk), id.clone());
        blocking(move || disk.created.add(&issued)).await?;
        self.start(id.clone(), target, packet).await?;
        Ok(Outcome::Created { id })
    }

    async fn start(&self, id: String, target: String, packet: Packet<'_>) -> Result<(), Stop> {
        let record = Record::new(id, target, packet.now);
        let (disk, fresh) = (Arc::clone(&self.disk), record.clone());
        let dir = blocking(move || disk.create(&fresh)).await?;
        if let Some(replaced) = self.sessions.insert(dir, record, packet.connection) {
            self.sessions.end_soon(replaced);
        }
        if let Some(limit) = self.options.flavour.session_limit() {
            self.sessions.keep_newest(limit);
        }
        Ok(())
    }

    async fn fragment(&self, packet: Packet<'_>, body: &mut Body<'_>) -> Result<Outcome, Stop> {
        let id = self.session_id(packet)?;
        let range = packet::read_range(packet.head)?;
        if let Some(coding) = packet.head.text("content-encoding")
            && !coding.eq_ignore_ascii_case("identity")
        {
            return Err(Refusal::InvalidArgument("an encoding that was not offered").into());
        }
        let session = self.find(&id, packet).await?;
        let mut live = self.lock(&session, packet.now).await?;
        body.yield_to(Arc::clone(&session.waiters));
        let rules = Rules {
            max_upload_size: self.options.max_upload_size,
            max_fragment_size: self.options.max_fragment_size,
            overlap: self.options.overlap(),
            notifies: self.application.is_some(),
        };
        if live.record.learn_total(range) {
            let learnt = live.record.clone();
            live.store(&session.dir, learnt).await?;
        }
        match live.record.judge(range, rules)? {
            Verdict::Repeat => body.drain().await?,
            Verdict::Notify => {
                body.drain().await?;
                self.notify(packet, &session, &mut live).await?;
            }
            Verdict::Write { skip, at } => {
                let keep = self.options.keep_parts;
                if let Err(stop) = receive(&session, body, range.length, (skip, at), keep).await {
                    if keep && matches!(stop, Stop::Lost(_)) {
                        let part = Range { length: body.received.min(range.length), ..range };
                        let after = live.record.after(part, clock::now_ms());
                        live.store(&session.dir, after).await?;
                        return Err(stop);
                    }
                    // Bytes that were not acknowledged do not count, and need not take up space.
                    if rules.overlap != Overlap::AnyOrder {
                        give_back(&session, live.record.next).await;
                    }
                    return Err(stop);
                }
                let after = live.record.after(range, clock::now_ms());
                live.store(&session.dir, after).await?;
                if live.record.state == State::Notify {
                    self.notify(packet, &session, &mut live).await?;
                }
            }
        }
        let last = range.first + range.length;
        Ok(Outcome::Took {
            next: if self.options.flavour.acknowledges_last_byte() {
                last
            } else {
                live.record.next
            },
            reply_url: (last == range.total).then(|| live.record.reply_url.clone()).flatten(),
        })
    }

    async fn close(&self, packet: Packet<'_>) -> Result<Outcome, Stop> {
        let id = self.session_id(packet)?;
        let session = self.find(&id, packet).await?;
        let mut live = self.lock(&session, packet.now).await?;
        if !live.record.is_partial() {
            // An empty file may come without any fragment, but its application wants to know of it too.
            self.notify(packet, &session, &mut live).await?;
            if self.application.is_none() || live.record.copy_to_destination {
                self.deliver(&session, &mut live).await?;
            }
        }
        self.sessions.end(&session, &mut live).await?;
        Ok(Outcome::Closed)
    }

    async fn cancel(&self, packet: Packet<'_>) -> Result<Outcome, Stop> {
        let id = self.session_id(packet)?;
        let session = self.find(&id, packet).await?;
        let mut live = self.lock(&session, packet.now).await?;
        self.sessions.end(&session, &mut live).await?;
        Ok(Outcome::Cancelled)
    }

    async fn deliver(&self, session: &Session, live: &mut Live) -> Result<(), Stop> {
        let before = live.record.state;
        let destination = Destination::from_target(&session.target).map_err(Refusal::from)?;
        let mut moving = live.record.clone();
        moving.state = State::Complete;
        live.store(&session.dir, moving).await?;
        let (disk, dir) = (Arc::clone(&self.disk), session.dir.clone());
        let overwrite = self.options.allow_overwrites;
        let (delivery, now) = (self.options.delivery, clock::now_ms());
        let moved = tokio::task::spawn_blocking(move || {
            if delivery == Delivery::Stamp {
                Disk::stamp(&dir, now).or_else(absent)?;
            }
            let delivered = disk.deliver(&dir, &destination, overwrite);
            if delivery == Delivery::TakeAway {
                disk.take_away(&destination).or_else(absent)?;
            }
            delivered
        })
        .await;
        let refusal = match moved {
            Ok(Ok(())) => return Ok(()),
            // The process died after the rename and before the Ack, which this one now sends.
            Ok(Err(DeliverError::Vanished)) if before == State::Complete => return Ok(()),
            Ok(Err(DeliverError::Vanished)) => Refusal::FileVanished,
            Ok(Err(DeliverError::Exists)) => Refusal::AccessDenied("the file exists"),
            Ok(Err(DeliverError::Unusable)) => Refusal::AccessDenied("no way to it"),
            Ok(Err(DeliverError::Directory)) => {
                Refusal::InvalidArgument("the destination is a directory")
            }
            Ok(Err(DeliverError::Io(error))) => error.into(),
            Err(error) => Refusal::Internal(error.to_string()),
        };
        let mut back = live.record.clone();
        back.state = before;
        live.store(&session.dir, back).await?;
        Err(refusal.into())
    }

    /// STATE_NOTIFY: tells the server application, unless it was told.
    async fn notify(
        &self,
        packet: Packet<'_>,
        session: &Session,
        live: &mut Live,
    ) -> Result<(), Stop> {
        let Some(target) = self.application.as_ref().filter(|_| !live.record.notified) else {
            return Ok(());
        };
        let original_url = original_url(packet.head);
        let told = notify::tell(
            target,
            self.options.notify,
            self.options.notify_timeout,
            notify::Upload {
                original_url: &original_url,
                query: split_target(&packet.head.target).and_then(|(_, query)| query),
                request_file: &disk::part(&session.dir),
                response_file: &disk::response(&session.dir),
            },
        )
        .await
        .map_err(|error| application_error(&error))?;
        let mut record = live.record.clone();
        record.notified = true;
        record.copy_to_destination = told.copy_to_destination;
        record.reply_url = told
            .static_reply_url
            .or_else(|| told.has_reply.then(|| self.reply_url(&record.id, &original_url)));
        live.store(&session.dir, record).await?;
        Ok(())
    }

    /// Relative with backslashes as IIS writes it; usis writes an absolute one.
    fn reply_url(&self, id: &str, original_url: &str) -> String {
        let mut escaped = String::new();
        for byte in id.bytes() {
            match byte {
                b'{' | b'}' | b'-' => escaped.push(char::from(byte)),
                byte if byte.is_ascii_alphanumeric() => escaped.push(char::from(byte)),
                byte => escaped.push_str(&format!("%{byte:02X}")),
            }
        }
        if self.options.flavour == Flavour::Usis {
            let path = original_url.split('?').next().unwrap_or(original_url);
            let folder = path.rfind('/').map_or(path, |at| &path[..at]);
            let id = escaped.replace('{', "%7B").replace('}', "%7D");
            return format!("{folder}/BITS-Sessions/Replies/{id}/responsefile.bin");
        }
        format!("BITS-Sessions\\Replies\\{escaped}\\responsefile.bin")
    }

    fn session_id(&self, packet: Packet<'_>) -> Result<String, Refusal> {
        let id =
            packet::session_id(packet.head).ok_or(Refusal::InvalidArgument("no session id"))?;
        if !self.options.flavour.id_is_wellformed(id) {
            return Err(Refusal::InvalidArgument("a malformed session id"));
        }
        Ok(self.options.flavour.read_id(id))
    }

    async fn find(&self, id: &str, packet: Packet<'_>) -> Result<Arc<Session>, Stop> {
        let flavour = self.options.flavour;
        let target = target_path(packet.head)?;
        let known = self.sessions.find(id).filter(|session| {
            is_same_path(&session.target, &target)
                && (!flavour.binds_sessions_to_connection()
                    || session.connection == packet.connection)
        });
        if known.is_none() && flavour.invents_sessions() {
            Destination::from_target(&target).map_err(Refusal::from)?;
            self.start(id.to_owned(), target, packet).await?;
            return Ok(self.sessions.find(id).ok_or(Refusal::SessionNotFound)?);
        }
        Ok(known.ok_or(Refusal::SessionNotFound)?)
    }

    async fn lock(
        &self,
        session: &Arc<Session>,
        now: u64,
    ) -> Result<tokio::sync::OwnedMutexGuard<Live>, Stop> {
        let mut live = session.lock().await?;
        if live.record.is_expired(self.timeout_ms(), now) {
            self.sessions.end(session, &mut live).await?;
            return Err(Refusal::SessionNotFound.into());
        }
        Ok(live)
    }

    fn timeout_ms(&self) -> u64 {
        u64::try_from(self.options.session_timeout.as_millis()).unwrap_or(u64::MAX)
    }
}

/// Streams a body to the part file, but for the first `skip` bytes, from `at` on. Constant memory, whatever the size of
/// the fragment. With `keep`, every byte that arrived is in the file, also if no more of them come.
async fn receive(
    session: &Session,
    body: &mut Body<'_>,
    length: u64,
    (skip, at): (u64, u64),
    keep: bool,
) -> Result<(), Stop> {
    let dir = session.dir.clone();
    let opened = blocking(move || disk::open_part(&dir)).await;
    let file = match opened {
        Ok(file) => Arc::new(file),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(Refusal::SessionNotFound.into());
        }
        Err(error) => return Err(error.into()),
    };
    let mut block = vec![0; usize::try_from(length).unwrap_or(BLOCK).clamp(1, BLOCK)];
    let (mut seen, mut at) = (0, at);
    loop {
        let got = match keep {
            true => body.read(&mut block).await?,
            false => body.read_full(&mut block).await?,
        };
        if got == 0 {
            break;
        }
        let old = usize::try_from(skip.saturating_sub(seen).min(got as u64)).unwrap_or(got);
        seen += got as u64;
        if seen > length {
            return Err(Refusal::InvalidArgument("a body longer than its range").into());
        }
        if old < got {
            let target = Arc::clone(&file);
            block =
                blocking(move || target.write_all_at(&block[old..got], at).map(|()| block)).await?;
            at += (got - old) as u64;
        }
    }
    if seen < length {
        return Err(Refusal::InvalidArgument("a body shorter than its range").into());
    }
    Ok(())
}

/// What is not there was moved by a process before this one.
fn absent(error: std::io::Error) -> std::io::Result<()> {
    if error.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

/// Cuts the part file back to what was acknowledged. Only saves space, so that a failure does not matter.
async fn give_back(session: &Session, next: u64) {
    let dir = session.dir.clone();
    let _ = blocking(move || disk::open_part(&dir)?.set_len(next)).await;
}

fn target_path(head: &Head) -> Result<String, Refusal> {
    split_target(&head.target)
        .map(|(path, _)| path.to_owned())
        .ok_or_else(|| PathError::NotAPath.into())
}

fn original_url(head: &Head) -> String {
    if head.target.starts_with('/') {
        format!("http://{}{}", head.text("host").unwrap_or_default(), head.target)
    } else {
        head.target.clone()
    }
}

/// The application's own status goes to the client, because clients tell lasting errors from passing ones by it
/// (protocol 3.4). All else is passing, so that the client sends the final fragment again.
fn application_error(error: &NotifyError) -> Refusal {
    let (status, hresult) = match error {
        NotifyError::Status(status @ 400..) => (*status, 0x8019_0000 + u32::from(*status)),
        NotifyError::Status(_) | NotifyError::Unreachable(_) => (502, 0x8019_01F6),
        // As MC-BUP prints it, see the note at the constant for a full disk.
        NotifyError::TimedOut => (408, 0x8007_0112),
        NotifyError::Malformed => (411, crate::refusal::E_INVALIDARG),
    };
    Refusal::Application { status, hresult, why: error.to_string() }
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<std::io::Error> for Stop {
    fn from(error: std::io::Error) -> Self {
        Self::Refused(error.into())
    }
}

impl From<Lost> for Stop {
    fn from(lost: Lost) -> Self {
        match lost {
            Lost::Malformed => Self::Refused(Refusal::InvalidArgument("a malformed chunk")),
            lost => Self::Lost(lost),
        }
    }
}
