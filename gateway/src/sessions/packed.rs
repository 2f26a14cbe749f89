//! A session without anything rare, in 47 bytes.
//!
//! What does not fit is kept as it is, in a box of its own: a session of a client with a certificate
//! or under an id of the gateway's own, a file of 256 TiB, the year 10889.

use gateway_core::farm::BackendId;
use gateway_core::protocol::client::ClientKey;
use gateway_core::session::{Progress, TargetHash, Timestamp};

use super::Session;

/// In bytes: nothing of it is aligned, so nothing is lost between them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Packed {
    target: [u8; 8],
    client: [u8; 8],
    created: [u8; 6],
    seen: [u8; 6],
    next_offset: [u8; 6],
    total: [u8; 6],
    steady: [u8; 4],
    backend: [u8; 3],
}

const _: () = assert!(size_of::<Packed>() == 47 && align_of::<Packed>() == 1);

/// A session as the table keeps it.
#[derive(Debug)]
pub(super) enum Body {
    Packed(Packed),
    Full(Box<Session>),
}

const _: () = assert!(size_of::<Body>() == 48);

impl Body {
    pub const EMPTY: Self = Self::Packed(Packed::EMPTY);
}

impl Packed {
    const EMPTY: Self = Self {
        target: [0; 8],
        client: [0; 8],
        created: [0; 6],
        seen: [0; 6],
        next_offset: [0; 6],
        total: [0; 6],
        steady: [0; 4],
        backend: [0; 3],
    };

    /// `None` if something is rare or too large.
    fn of(session: &Session) -> Option<Self> {
        let Session { backend, steady, target, created, client, progress, rare: None } = session
        else {
            return None;
        };
        Some(Self {
            target: target.0.to_le_bytes(),
            client: client.to_bits().to_le_bytes(),
            created: narrow(created.0)?,
            seen: narrow(progress.seen.0)?,
            next_offset: narrow(progress.next_offset)?,
            total: narrow(progress.total)?,
            steady: steady.to_le_bytes(),
            backend: narrow(backend.0.into())?,
        })
    }

    pub fn session(self) -> Session {
        Session {
            backend: BackendId(wide(self.backend) as u32),
            steady: u32::from_le_bytes(self.steady),
            target: TargetHash(wide(self.target)),
            created: Timestamp(wide(self.created)),
            client: ClientKey::from_bits(wide(self.client)),
            progress: Progress {
                next_offset: wide(self.next_offset),
                total: wide(self.total),
                seen: Timestamp(wide(self.seen)),
            },
            rare: None,
        }
    }
}

impl From<Session> for Body {
    fn from(session: Session) -> Self {
        match Packed::of(&session) {
            Some(packed) => Self::Packed(packed),
            None => Self::Full(Box::new(session)),
        }
    }
}

impl From<Body> for Session {
    fn from(body: Body) -> Self {
        match body {
            Body::Packed(packed) => packed.session(),
            Body::Full(session) => *session,
        }
    }
}

/// The lowest `N` bytes of a number that has no others.
fn narrow<const N: usize>(number: u64) -> Option<[u8; N]> {
    let bytes = number.to_le_bytes();
    let (low, high) = bytes.split_first_chunk()?;
    high.iter().all(|&byte| byte == 0).then_some(*low)
}

fn wide<const N: usize>(low: [u8; N]) -> u64 {
    let mut bytes = [0; 8];
    bytes[..N].copy_from_slice(&low);
    u64::from_le_bytes(bytes)
}

#[cfg(test)]
#[path = "packed_tests.rs"]
mod tests;
