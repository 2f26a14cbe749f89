//! What an Ack teaches us.

use crate::fault::Fault;
use crate::protocol::{Ack, RequestPacket, SessionId};

use super::pin::{Progress, Timestamp};

/// A packet and the answer that its backend gave.
#[derive(Debug)]
pub struct Observed<'a> {
    pub packet: &'a RequestPacket,
    pub ack: &'a Ack<'a>,
    /// Whether the packet went where a pin said. Without one, an alias chose the backend.
    pub pinned: bool,
    /// The table could not be asked, so another backend may have the session.
    pub doubtful: bool,
    /// The backend came to the address that answered a moment ago. That may be another machine.
    pub moved: bool,
    pub now: Timestamp,
}

/// What is to be done before the answer goes on to the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effects<'a> {
    Nothing,
    /// The backend opened a session: pin it.
    Opened(Opened<'a>),
    /// The session lives: remember how far it is.
    Progress(Progress),
    /// A session without a pin showed that it lives where an alias sent it: pin it there.
    Adopt(Progress),
    /// The session is over: unpin it. An end that was acknowledged is remembered even where there
    /// was no pin, for its client may say it again.
    Ended(EndReason),
    /// The session of a Close is gone: it was lost, or closed by an earlier try. See
    /// [`lost_close`](super::lost_close).
    CloseNotFound,
    /// The answer cannot be passed on; say this instead.
    Refuse(Fault),
}

/// The id by which the backend knows a new session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened<'a> {
    /// As the backend wrote it.
    pub backend_session: &'a str,
    /// The same as an id that may be shown to clients; `None` if the protocol forbids it.
    pub id: Option<SessionId>,
}

/// Why a pin goes. Also a closed set of metric labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EndReason {
    Closed,
    Cancelled,
    /// Silent for longer than the idle timeout.
    Expired,
    /// Its backend forgot it, or was given up.
    Lost,
    /// An operator ended it.
    Admin,
    /// Its pin made room for another one; its upload may go on.
    Evicted,
}

impl EndReason {
    pub const ALL: [Self; 6] =
        [Self::Closed, Self::Cancelled, Self::Expired, Self::Lost, Self::Admin, Self::Evicted];

    pub fn label(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
            Self::Lost => "lost",
            Self::Admin => "admin",
            Self::Evicted => "evicted",
        }
    }
}

/// Reads the effects of an answer off the packet that it answers.
///
/// What is no Ack of the protocol (a login challenge, an error page, a page of another program
/// with status 200) changes nothing: only a backend that speaks the protocol ends a session.
///
/// A redirect ends the client's job for good, and leads past the gateway if it leads anywhere. It
/// is refused, and so is an offset that cannot be.
///
/// # Source
/// MC-BUP 3.2.5.1 for what each success means, 3.1.5.2.1 for "session not found".
pub fn observe<'a>(observed: &Observed<'a>) -> Effects<'a> {
    let Observed { packet, ack, pinned, doubtful, moved, now } = *observed;
    if ack.status.is_redirection() || is_misplaced(packet, ack) {
        return Effects::Refuse(Fault::BackendAnswer);
    }
    if ack.is_session_not_found() {
        return match packet {
            RequestPacket::CreateSession => Effects::Nothing,
            _ if moved => Effects::Refuse(Fault::BackendMoved),
            RequestPacket::CloseSession { .. } if pinned => Effects::CloseNotFound,
            _ if pinned => Effects::Ended(EndReason::Lost),
            // The word of a backend that an alias chose, while the pin may say another.
            _ if doubtful => Effects::Refuse(Fault::StoreDown),
            _ => Effects::Nothing,
        };
    }
    match packet {
        RequestPacket::CreateSession if ack.is_success() => match ack.session_id.as_deref() {
            Some(id) if !id.is_empty() => {
                Effects::Opened(Opened { backend_session: id, id: SessionId::parse(id) })
            }
            // The session exists there, yet nobody can ever name it.
            _ => Effects::Refuse(Fault::BackendAnswer),
        },
        RequestPacket::Fragment { range, .. } if is_position(ack) => {
            // Some lab servers answer words in place of a number. They have stored the bytes.
            let next_offset = ack.next_offset.unwrap_or(range.end());
            // Nobody has agreed to the total of a Fragment that was refused, unless the backend has
            // just so many bytes: then its client sends the Close next.
            let agreed = ack.is_success() || next_offset == range.total();
            let total = if agreed { range.total() } else { 0 };
            let progress = Progress { next_offset, total, seen: now };
            if pinned { Effects::Progress(progress) } else { Effects::Adopt(progress) }
        }
        RequestPacket::CloseSession { .. } if ack.is_success() => Effects::Ended(EndReason::Closed),
        RequestPacket::CancelSession { .. } if ack.is_success() => {
            Effects::Ended(EndReason::Cancelled)
        }
        _ => Effects::Nothing,
    }
}

/// A position that is none: two that differ, or one behind the end of the file. A client that
/// believed it would go on at a place where its server has nothing, or not at all.
fn is_misplaced(packet: &RequestPacket, ack: &Ack<'_>) -> bool {
    let Some(range) = packet.range().filter(|_| is_position(ack)) else { return false };
    // Of a file without a byte some servers say the one behind the 0 of `bytes 0-0/0`.
    let most = range.total().max(1);
    ack.offsets_differ || ack.next_offset.is_some_and(|next| next > most)
}

/// 200 and 416 both tell a position, and both show that the session lives.
fn is_position(ack: &Ack<'_>) -> bool {
    let resync = ack.status == http::StatusCode::RANGE_NOT_SATISFIABLE && ack.is_protocol();
    ack.is_success() || (resync && ack.next_offset.is_some())
}

#[cfg(test)]
#[path = "observe_tests.rs"]
mod tests;
