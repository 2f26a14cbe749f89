//! Who may speak for a session, and what becomes of two of its requests at once.
//!
//! A client waits for each Ack before it sends its next packet. A second request of a session
//! therefore means that the connection of the first one is dead, and that the gateway has not
//! noticed. A body that still comes in over a dead connection is worthless and is cut off. A packet
//! that has come in full is not: its server may be closing the session at this moment, and only the
//! answer says so.

use http::StatusCode;

use crate::farm::BackendId;
use crate::protocol::{Ack, ContentRange, PacketType, RequestPacket};
use crate::session::{Pin, Subject, Target, TargetHash};

use super::Lookup;

/// The client of a request, and what it asks for.
#[derive(Debug, Clone, Copy)]
pub struct Asker<'a> {
    pub target: Target,
    /// Who the client is by its certificate.
    pub subject: Option<&'a Subject>,
    /// Sessions are bound to the certificates of their clients.
    pub binds: bool,
}

impl Asker<'_> {
    /// Whether a session that is bound to `subject` belongs to another client.
    pub fn is_foreign(&self, subject: Option<&Subject>) -> bool {
        self.binds && subject.is_some() && subject != self.subject
    }

    /// The certificate to which a session of this client is bound.
    pub fn bound_to(&self) -> Option<Subject> {
        self.subject.filter(|_| self.binds).cloned()
    }
}

/// What the asker may know of what was found in the session table. Another client's session is
/// [`Lookup::Foreign`], whether it lives or has ended.
pub fn visible_to(asker: &Asker<'_>, found: Lookup) -> Lookup {
    match found {
        Lookup::Pinned(pin) if asker.is_foreign(pin.subject.as_ref()) => Lookup::Foreign,
        // A tombstone tells only whether this is the client of the session.
        Lookup::Ended(tombstone) if asker.target.was(tombstone, asker.subject) => {
            Lookup::Ended(asker.target.hash())
        }
        // Another client, or another target: the tombstone does not tell which.
        Lookup::Ended(tombstone) if asker.binds && !asker.target.is(tombstone) => Lookup::Foreign,
        found => found,
    }
}

/// The one backend that may have the packet, if there is one: that of the session's pin, else that of
/// the alias. A Create-Session is not bound to the alias that its client still remembers.
pub fn owner(
    kind: PacketType,
    lookup: &Lookup,
    target: Target,
    alias: Option<BackendId>,
) -> Option<BackendId> {
    match lookup {
        _ if kind == PacketType::CreateSession => None,
        Lookup::Pinned(pin) if target.is(pin.binding.target) => Some(pin.backend),
        _ => alias,
    }
}

/// Whether a packet may take the session's turn, and end the request that has it: only a client
/// that knows the session's destination, or that its backend will judge, may do so. A Ping takes no
/// turn.
pub fn may_speak(
    kind: PacketType,
    lookup: &Lookup,
    target: Target,
    alias: Option<BackendId>,
) -> bool {
    kind != PacketType::Ping
        && match lookup {
            Lookup::Pinned(pin) => target.is(pin.binding.target),
            Lookup::Foreign => false,
            _ => alias.is_some(),
        }
}

/// Whether the id of a packet for the backend of its alias must not be the hidden id of a session:
/// the one that only that backend and the gateway know, because the client was given another. Such a
/// packet is answered as one of an unknown session.
///
/// Where the table itself tells what becomes of the packet, the backend does not get it.
pub fn must_not_be_hidden(kind: PacketType, lookup: &Lookup, target: Target) -> bool {
    kind != PacketType::Ping
        && match lookup {
            Lookup::Ended(ended) => !target.is(*ended),
            Lookup::Unknown | Lookup::StoreDown => true,
            Lookup::NotAsked | Lookup::Pinned(_) | Lookup::Foreign | Lookup::Forgotten => false,
        }
}

/// The session that ends because the file of its first Fragment is too large for the gateway. A
/// session that may have a byte is not ended: a limit that was lowered must not cost what is there.
pub fn ended_by_refusal<'l>(
    range: &ContentRange,
    lookup: &'l Lookup,
    target: Target,
    untouched: bool,
) -> Option<&'l Pin> {
    match lookup {
        Lookup::Pinned(pin) if target.is(pin.binding.target) => {
            (untouched && range.first() == 0).then_some(pin)
        }
        _ => None,
    }
}

/// All that two packets of one session have in common if they are the same packet, sent twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    kind: PacketType,
    range: Option<ContentRange>,
    target: TargetHash,
    subject: Option<Subject>,
    /// Every `Authorization`, in order.
    credentials: Vec<Box<[u8]>>,
    /// The connection to the server, where the server takes that for the client.
    connection: Option<u64>,
}

impl Identity {
    /// Of a packet that must not reach a server twice: Close-Session, Cancel-Session and the final
    /// Fragment. `None` for all others, which are never joined.
    ///
    /// `connection` is a number that the packet has in common only with those that share its login
    /// to a connection (NTLM, Negotiate). The answer to a final Fragment then speaks to these alone.
    /// An end does not: it is remembered for all connections of the client.
    pub fn of<'h>(
        packet: &RequestPacket,
        target: Target,
        subject: Option<&Subject>,
        credentials: impl IntoIterator<Item = &'h [u8]>,
        connection: Option<u64>,
    ) -> Option<Self> {
        let ends = match packet {
            RequestPacket::CloseSession { .. } | RequestPacket::CancelSession { .. } => true,
            RequestPacket::Fragment { range, .. } if range.is_final() => false,
            _ => return None,
        };
        Some(Self {
            kind: packet.packet_type(),
            range: packet.range(),
            target: target.hash(),
            subject: subject.cloned(),
            credentials: credentials.into_iter().map(Box::from).collect(),
            connection: connection.filter(|_| !ends),
        })
    }
}

/// The request that has the session's turn.
#[derive(Debug, Clone, Copy)]
pub struct UnderWay<'a> {
    /// What it is, if it must not reach a server twice.
    pub packet: Option<&'a Identity>,
    /// Its last byte has come from its client, so its server has all of it or is about to.
    pub whole: bool,
}

/// What a newer request of the session does about the one under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Resets it and goes on as soon as it has ended.
    Cancel,
    /// Waits for its answer, which may be this one's too: [`shared`] says so.
    Join,
    /// Waits for its end, and is decided anew then.
    Wait,
    /// The same, for a moment. Then it resets it.
    WaitBriefly,
}

/// `newer` is what the newer packet is, if it must not reach a server twice either.
pub fn order(older: UnderWay<'_>, newer: Option<&Identity>) -> Order {
    match older.packet {
        _ if !older.whole => Order::Cancel,
        // The protocol lets it be sent again, so nothing is lost with its answer.
        None => Order::WaitBriefly,
        Some(packet) if Some(packet) == newer => Order::Join,
        Some(_) => Order::Wait,
    }
}

/// What those that have joined a packet get of its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shared {
    /// The session has ended: an Ack of the gateway's own says so.
    End,
    /// The answer itself: its status and the fields of the protocol.
    Answer,
    /// Nothing. The newest of them goes on by itself.
    Nothing,
}

/// `bound`: the packet went over a connection of its client's own, so its answer speaks to that
/// client connection alone.
///
/// A failure is not shared, because another try may fare better; a challenge is not either, because
/// each connection answers its own.
pub fn shared(packet: &Identity, ack: &Ack<'_>, bound: bool) -> Shared {
    let login = [StatusCode::UNAUTHORIZED, StatusCode::PROXY_AUTHENTICATION_REQUIRED];
    match packet.kind {
        PacketType::CloseSession | PacketType::CancelSession if ack.is_success() => Shared::End,
        PacketType::Fragment
            if !bound && !ack.status.is_server_error() && !login.contains(&ack.status) =>
        {
            Shared::Answer
        }
        _ => Shared::Nothing,
    }
}

#[cfg(test)]
#[path = "ownership_tests.rs"]
mod tests;
