//! What became of an upload.

use std::collections::BTreeMap;
use std::fmt;

use super::packet::{PacketType, Range};
use super::wire::Answer;

/// Counts and a history of one upload.
#[derive(Clone, Debug)]
pub struct Report {
    pub end: End,
    /// Sessions begun anew because the server had lost the old one.
    pub restarts: u32,
    /// Waits of one retry delay after a transient error.
    pub retries: u32,
    /// Acks that moved the offset to another place than the end of the fragment sent.
    pub resyncs: u32,
    /// Changes from the Host-Id back to the origin name.
    pub fallbacks: u32,
    pub connections: u32,
    /// Fragment body bytes handed to the socket, repeats included.
    pub bytes_sent: u64,
    /// Packets put on the wire, repeats included.
    pub packets: BTreeMap<PacketType, u64>,
    /// Rules of [`AckRules`](super::AckRules) that answers broke. [`expect_complete`](Self::expect_complete) wants none.
    pub violations: Vec<String>,
    /// The session ids in the order the server gave them.
    pub sessions: Vec<String>,
    /// The Host-Ids in the order the server gave them.
    pub host_ids: Vec<String>,
    pub reply_url: Option<String>,
    pub events: Vec<Event>,
}

#[derive(Clone, Debug)]
pub enum End {
    /// Not over yet.
    Running,
    /// Close-Session was acknowledged.
    Complete,
    /// Cancel-Session was acknowledged.
    Cancelled,
    /// An answer that stops the job until its program resumes it.
    Fatal(Fatal),
    /// A 401 or 407 that the credentials did not satisfy.
    Challenged(Box<Answer>),
    /// No progress for as long as the job may wait.
    GaveUp,
}

/// The answer that ended an upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fatal {
    pub packet: PacketType,
    /// `None` when no answer could be read.
    pub status: Option<u16>,
    pub hresult: Option<u32>,
    pub reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Connected {
        host: String,
    },
    Sent {
        packet: PacketType,
        host: String,
        range: Option<Range>,
    },
    Answered {
        status: u16,
        hresult: Option<u32>,
        received: Option<u64>,
    },
    Lost {
        error: String,
    },
    /// The server had closed an idle connection; noticed before anything was sent on it.
    FoundClosed,
    Waited,
    Restarted,
    FellBack,
    Resynced {
        to: u64,
    },
    Shrunk {
        to: u64,
    },
    Challenged,
}

impl Report {
    pub(super) fn new() -> Self {
        Self {
            end: End::Running,
            restarts: 0,
            retries: 0,
            resyncs: 0,
            fallbacks: 0,
            connections: 0,
            bytes_sent: 0,
            packets: BTreeMap::new(),
            violations: Vec::new(),
            sessions: Vec::new(),
            host_ids: Vec::new(),
            reply_url: None,
            events: Vec::new(),
        }
    }

    pub fn is_complete(&self) -> bool {
        matches!(self.end, End::Complete)
    }

    pub fn fatal(&self) -> Option<&Fatal> {
        match &self.end {
            End::Fatal(fatal) => Some(fatal),
            _ => None,
        }
    }

    pub fn sent(&self, packet: PacketType) -> u64 {
        self.packets.get(&packet).copied().unwrap_or(0)
    }

    /// # Panics
    /// With the history, unless the upload is complete and every Ack kept the rules.
    #[track_caller]
    pub fn expect_complete(&self) -> &Self {
        assert!(
            self.is_complete() && self.violations.is_empty(),
            "the upload did not end well\n{self}"
        );
        self
    }

    /// [`expect_complete`](Self::expect_complete), and the way there was straight: nothing repeated, no wait.
    #[track_caller]
    pub fn expect_smooth(&self) -> &Self {
        self.expect_complete();
        assert!(
            self.restarts == 0 && self.retries == 0 && self.resyncs == 0,
            "the upload had to repeat something\n{self}"
        );
        self
    }

    /// # Panics
    /// With the history, unless a fatal answer ended the upload.
    #[track_caller]
    pub fn expect_fatal(&self) -> &Fatal {
        self.fatal().unwrap_or_else(|| panic!("no fatal answer\n{self}"))
    }
}

/// The counts and the last events: enough to see what went wrong, short enough to read.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LAST: usize = 40;
        writeln!(f, "end: {:?}", self.end)?;
        writeln!(
            f,
            "restarts {}, retries {}, resyncs {}, fallbacks {}, connections {}, body bytes {}, packets {:?}",
            self.restarts,
            self.retries,
            self.resyncs,
            self.fallbacks,
            self.connections,
            self.bytes_sent,
            self.packets
        )?;
        writeln!(f, "sessions {:?}, host ids {:?}", self.sessions, self.host_ids)?;
        for violation in &self.violations {
            writeln!(f, "broken rule: {violation}")?;
        }
        let skipped = self.events.len().saturating_sub(LAST);
        if skipped > 0 {
            writeln!(f, "({skipped} earlier events)")?;
        }
        for event in &self.events[skipped..] {
            writeln!(f, "  {event:?}")?;
        }
        Ok(())
    }
}
