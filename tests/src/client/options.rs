//! What a test may turn on a client.

use std::sync::Arc;
use std::time::Duration;

use super::ack::AckRules;
use super::packet::PacketType;
use super::wire::{Answer, Timeouts};
use crate::data::Chance;

/// The smallest fragment to which Windows shrinks after a 413 (MC-BUP note 16).
pub const SMALLEST_FRAGMENT: u64 = 5 * 1024;

/// The largest fragment of Windows since BITS 2.5 (MC-BUP note 10).
pub const LARGEST_FRAGMENT: u64 = 13 * 1024 * 1024;

/// How long a retry delay lasts in reality unless the test brings its own wait.
const REAL_WAIT: Duration = Duration::from_millis(20);

/// Everything that distinguishes one client from another; the default is a current Windows.
#[derive(Clone)]
pub struct Options {
    pub fragments: FragmentSizes,
    /// Goes on at the origin name whatever the Ack says, as clients older than BITS 1.5 and many programs do.
    pub ignore_host_id: bool,
    /// A Ping after a Host-Id and when an interrupted upload resumes. Some programs never ping.
    pub ping: bool,
    pub spelling: Spelling,
    /// Content-Name on every fragment (MC-BUP note 11).
    pub content_name: bool,
    pub user_agent: String,
    /// Added to every packet before Connection.
    pub extra_fields: Vec<(String, String)>,
    /// `BITS_POST http://host/path` instead of `BITS_POST /path`.
    pub absolute_form: bool,
    pub connections: Connections,
    pub credentials: Credentials,
    pub after_restart: AfterRestart,
    pub close_not_found: CloseNotFound,
    pub acks: AckRules,
    pub timeouts: Timeouts,
    /// In client time, see `wait`. Windows: 600 s, at least 5 s.
    pub retry_delay: Duration,
    /// In client time. Windows: 14 days. Zero: every error is fatal.
    pub no_progress_timeout: Duration,
    /// Restarts after which the client gives up; Windows has no such limit, a test must end.
    pub restart_limit: u32,
    /// Called with the retry delay whenever the client waits. The client's timers then advance by that delay, however
    /// long the call took: 14 days pass in seconds, and a test may repair or break something here.
    pub wait: Arc<dyn Fn(Duration) + Send + Sync>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            fragments: FragmentSizes::Fixed(1 << 20),
            ignore_host_id: false,
            ping: true,
            spelling: Spelling::Title,
            content_name: true,
            user_agent: "Microsoft BITS/7.8".to_owned(),
            extra_fields: Vec::new(),
            absolute_form: false,
            connections: Connections::Reuse,
            credentials: Credentials::None,
            after_restart: AfterRestart::KeepOffset,
            close_not_found: CloseNotFound::Restart,
            acks: AckRules::farm(),
            timeouts: Timeouts::default(),
            retry_delay: Duration::from_secs(600),
            no_progress_timeout: Duration::from_secs(1_209_600),
            restart_limit: 10,
            wait: Arc::new(|delay| std::thread::sleep(delay.min(REAL_WAIT))),
        }
    }
}

#[derive(Clone, Debug)]
pub enum FragmentSizes {
    Fixed(u64),
    /// Each fragment drawn anew from `low..=high`.
    Random {
        seed: u64,
        low: u64,
        high: u64,
    },
    /// The rest of the file in one fragment.
    Whole,
}

impl FragmentSizes {
    /// The state from which [`next`](Self::next) draws.
    pub fn chance(&self) -> Chance {
        match self {
            Self::Random { seed, .. } => Chance::new(*seed),
            Self::Fixed(_) | Self::Whole => Chance::new(0),
        }
    }

    pub fn next(&self, chance: &mut Chance) -> u64 {
        match self {
            Self::Fixed(size) => *size,
            Self::Random { low, high, .. } => chance.between(*low, *high),
            Self::Whole => u64::MAX,
        }
    }
}

/// How packet types are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spelling {
    Title,
    Upper,
    Lower,
    Mixed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connections {
    Reuse,
    PerPacket,
}

/// What answers a 401 or 407.
#[derive(Clone)]
pub enum Credentials {
    /// The upload ends with the challenge; the caller decides.
    None,
    /// Sent after the first challenge that offers Basic, then with every packet.
    Basic { user: String, password: String },
    /// From the challenge to the Authorization value of the same packet, resent on the same connection; `None` ends
    /// the upload. For handshakes of several legs.
    Custom(Respond),
}

/// See [`Credentials::Custom`].
pub type Respond = Arc<dyn Fn(PacketType, &Answer) -> Option<String> + Send + Sync>;

/// The offset after a session was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterRestart {
    /// The state machine resets nothing (MC-BUP 3.1.5.1.7): the server's 416 brings the client back to 0.
    KeepOffset,
    FromZero,
}

/// What session-not-found means as the answer to Close-Session, where the two official texts disagree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseNotFound {
    /// MC-BUP: restart, as for any packet but Cancel-Session.
    Restart,
    /// Win32 "Ack for Close-Session": do not resend. The client takes the upload for done.
    Accept,
}
