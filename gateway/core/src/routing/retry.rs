//! Whether the gateway itself may send a request again.

use crate::protocol::RequestPacket;

/// How often a packet goes again over new connections after pooled ones turned out to be dead.
pub const MAX_REPEATS: u32 = 3;

/// What is known about a request that failed after a connection was there. Before that the
/// backend has seen nothing, so there is nothing to decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failure {
    /// The connection came from the pool: its other end may have closed it just then.
    pub reused: bool,
    /// A byte of an answer has arrived.
    pub answered: bool,
    /// The body is still there to be sent once more.
    pub body_whole: bool,
}

/// Once bytes have left, only a packet that the protocol lets a client repeat (see
/// [`is_repeatable`]) may go again, and only where it died of the pool's connection, not of its
/// own content.
///
/// Not Create-Session (it would leave an orphan), not Close-Session and not the final Fragment
/// (the server may already have delivered the file to an application).
///
/// # Source
/// MC-BUP 2.2.6 (repeated Fragments), 2.2.10 (repeated Cancel).
pub fn may_retry(repeatable: bool, failure: Failure) -> bool {
    repeatable && failure.reused && !failure.answered && failure.body_whole
}

/// Packets that may reach a backend twice without harm.
pub fn is_repeatable(packet: &RequestPacket) -> bool {
    match packet {
        RequestPacket::Ping { .. } | RequestPacket::CancelSession { .. } => true,
        RequestPacket::Fragment { range, .. } => !range.is_final(),
        RequestPacket::CreateSession | RequestPacket::CloseSession { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{ContentRange, SessionId};

    const STALE: Failure = Failure { reused: true, answered: false, body_whole: true };

    fn fragment(range: &str) -> RequestPacket {
        let session = SessionId::parse("x").unwrap();
        RequestPacket::Fragment { session, range: ContentRange::parse(range).unwrap() }
    }

    #[test]
    fn only_packets_that_may_arrive_twice_are_repeatable() {
        let session = SessionId::parse("x").unwrap();
        assert!(is_repeatable(&RequestPacket::Ping { session: None }));
        assert!(is_repeatable(&RequestPacket::CancelSession { session: session.clone() }));
        assert!(is_repeatable(&fragment("bytes 0-4/10")));
        assert!(!is_repeatable(&fragment("bytes 5-9/10")));
        assert!(!is_repeatable(&fragment("bytes 0-0/0")));
        assert!(!is_repeatable(&RequestPacket::CloseSession { session }));
        assert!(!is_repeatable(&RequestPacket::CreateSession));
    }

    #[test]
    fn nothing_goes_twice_that_may_have_been_read() {
        assert!(may_retry(true, STALE));
        assert!(!may_retry(false, STALE));
        assert!(!may_retry(true, Failure { reused: false, ..STALE }));
        assert!(!may_retry(true, Failure { answered: true, ..STALE }));
        assert!(!may_retry(true, Failure { body_whole: false, ..STALE }));
    }
}
