//! What is stored, and the seal on every record.
//!
//! SQLite checks the structure of its pages and not their content, and a flipped bit in a pin would
//! send an upload to the wrong backend. So every row carries a hash over all its columns, its row
//! number included; a row whose seal is broken counts as unreadable.

use gateway_core::farm::AdminState;
use gateway_core::protocol::SessionId;
use gateway_core::protocol::ids::SessionKey;
use gateway_core::session::{Subject, TargetHash, Timestamp};

use super::names::StoredName;
use crate::telemetry::events::wire::StoredEvent;

/// Which backend has a session, by the configured name of the backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredPin {
    /// As the client knows it.
    pub id: String,
    pub backend: String,
    /// The backend's own id, where the client was given another.
    pub backend_session: Option<String>,
    pub target: TargetHash,
    /// Together with the id it finds the row again, so it must not change during a session.
    pub created: Timestamp,
    /// Whose it is, where it is bound to a certificate.
    pub subject: Option<Subject>,
    /// What `target` is the hash of, where sessions are met in other spellings too. It is a row of
    /// its own: of pins that are read, this is `None`.
    pub spelling: Option<String>,
}

/// A [`StoredPin`] that belongs to somebody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PinRow<'a> {
    pub id: &'a str,
    pub backend: &'a str,
    pub backend_session: Option<&'a str>,
    pub target: TargetHash,
    pub created: Timestamp,
    pub subject: Option<[u8; 16]>,
    /// As in [`StoredPin`].
    pub spelling: Option<&'a str>,
}

/// A session that has ended with an Ack that may have been lost on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tombstone {
    pub id: String,
    pub kind: EndKind,
    pub backend: String,
    pub target: TargetHash,
    /// What the Ack said.
    pub status: u16,
    pub ended: Timestamp,
}

/// What ended a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EndKind {
    Close,
    Cancel,
    /// An operator did: its client starts over, whatever host id it remembers.
    Forgotten,
}

/// How far a session has come. Only its beginning and its end are stored: a row for each Fragment
/// would be a commit for each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredProgress {
    pub id: String,
    /// That of the pin.
    pub created: Timestamp,
    pub milestone: Milestone,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Milestone {
    /// No packet of it was passed on since it was opened.
    Untouched,
    /// The end of the file, which has so many bytes and at least one, is passed on to its backend. It
    /// is not known whether it has arrived.
    Ending(u64),
    /// Its backend has acknowledged all bytes of the file, which are so many, and at least one.
    Complete(u64),
}

/// The target under which a session was opened, where that is not in normal form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredSpelling {
    pub id: String,
    /// That of the pin.
    pub created: Timestamp,
    pub spelling: String,
}

/// What people decided about a backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackendState {
    pub backend: String,
    pub state: AdminState,
    pub since: Timestamp,
    /// Who decided it, for people.
    pub by: String,
}

/// Anything that is read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record<'a> {
    Pin(PinRow<'a>),
    Tombstone(Tombstone),
    Progress(StoredProgress),
    Spelling(StoredSpelling),
    Backend(BackendState),
    Event(StoredEvent),
}

impl StoredPin {
    pub fn as_row(&self) -> PinRow<'_> {
        PinRow {
            id: &self.id,
            backend: &self.backend,
            backend_session: self.backend_session.as_deref(),
            target: self.target,
            created: self.created,
            subject: self.subject.as_ref().map(|subject| *subject.bytes()),
            spelling: self.spelling.as_deref(),
        }
    }
}

impl PinRow<'_> {
    pub fn to_pin(self) -> StoredPin {
        StoredPin {
            id: self.id.to_owned(),
            backend: self.backend.to_owned(),
            backend_session: self.backend_session.map(str::to_owned),
            target: self.target,
            created: self.created,
            subject: self.subject.map(Subject::new),
            spelling: self.spelling.map(str::to_owned),
        }
    }

    pub(super) fn seal(&self, row: i64) -> i64 {
        let seal = match self.subject {
            None => Seal::new(b'p', row),
            Some(subject) => Seal::new(b'o', row).bytes(&subject),
        };
        seal.text(self.id)
            .text(self.backend)
            .text(self.backend_session.unwrap_or_default())
            .number(self.backend_session.is_some().into())
            .number(self.target.0)
            .number(self.created.0)
            .finish()
    }
}

impl Tombstone {
    pub(super) fn seal(&self, row: i64) -> i64 {
        Seal::new(b't', row)
            .text(&self.id)
            .number(self.kind.number() as u64)
            .text(&self.backend)
            .number(self.target.0)
            .number(self.status.into())
            .number(self.ended.0)
            .finish()
    }
}

impl StoredProgress {
    pub(super) fn seal(&self, row: i64) -> i64 {
        Seal::new(b'm', row)
            .text(&self.id)
            .number(self.created.0)
            .number(self.milestone.number() as u64)
            .finish()
    }
}

impl StoredSpelling {
    pub(super) fn seal(&self, row: i64) -> i64 {
        let seal = Seal::new(b's', row).text(&self.id).number(self.created.0);
        seal.text(&self.spelling).finish()
    }
}

impl StoredName {
    pub(super) fn seal(&self, row: i64, id: &str) -> i64 {
        Seal::new(b'n', row)
            .text(id)
            .number(self.created.0)
            .number(self.stored.0)
            .number(self.hashed.into())
            .text(&self.path)
            .text(&self.client)
            .finish()
    }
}

impl Milestone {
    /// Files of more bytes than this have no row.
    pub(super) const LARGEST: u64 = i64::MAX as u64;

    pub(super) fn number(self) -> i64 {
        match self {
            Self::Untouched => 0,
            Self::Ending(total) => -(total.min(Self::LARGEST) as i64),
            Self::Complete(total) => total.min(Self::LARGEST) as i64,
        }
    }

    pub(super) fn from_number(number: i64) -> Self {
        match number {
            0 => Self::Untouched,
            ..0 => Self::Ending(number.unsigned_abs()),
            1.. => Self::Complete(number.unsigned_abs()),
        }
    }
}

impl BackendState {
    /// `word` is that of the row: a seal is one over what was written.
    pub(super) fn seal(&self, row: i64, word: &str) -> i64 {
        Seal::new(b'b', row)
            .text(&self.backend)
            .text(word)
            .number(self.since.0)
            .text(&self.by)
            .finish()
    }
}

impl StoredEvent {
    pub(super) fn seal(&self, row: i64) -> i64 {
        Seal::new(b'e', row)
            .number(self.at.0)
            .number(self.process)
            .number(self.number)
            .text(&self.kind)
            .text(&self.body)
            .finish()
    }
}

impl EndKind {
    pub(super) fn number(self) -> i64 {
        match self {
            Self::Close => 1,
            Self::Cancel => 2,
            Self::Forgotten => 3,
        }
    }

    pub(super) fn from_number(number: i64) -> Option<Self> {
        match number {
            1 => Some(Self::Close),
            2 => Some(Self::Cancel),
            3 => Some(Self::Forgotten),
            _ => None,
        }
    }
}

/// An id in the form in which a tombstone keeps it: a GUID as IIS writes it, anything else as is.
pub fn text_of(key: &SessionKey) -> String {
    key.text().into_owned()
}

pub(super) fn subject_text(subject: [u8; 16]) -> String {
    format!("{:032x}", u128::from_be_bytes(subject))
}

/// `None` for what [`subject_text`] never writes.
pub(super) fn subject_from_text(text: &str) -> Option<[u8; 16]> {
    let digits = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let number = digits.then(|| u128::from_str_radix(text, 16).ok())??;
    Some(number.to_be_bytes())
}

/// Whether a stored id is that of the session.
pub(super) fn is_of(id: &str, key: &SessionKey) -> bool {
    SessionId::parse(id).is_some_and(|id| id.key() == key)
}

/// FNV-1a over columns, each text with its length, folded to 32 bits.
///
/// It is to find accidents, not attacks: who may write the file may seal it too.
struct Seal(u64);

impl Seal {
    fn new(table: u8, row: i64) -> Self {
        Self(0xcbf2_9ce4_8422_2325).bytes(&[table]).number(row as u64)
    }

    fn bytes(self, bytes: &[u8]) -> Self {
        Self(bytes.iter().fold(self.0, |hash, &byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        }))
    }

    fn text(self, text: &str) -> Self {
        self.bytes(text.as_bytes()).number(text.len() as u64)
    }

    fn number(self, number: u64) -> Self {
        let product = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        // Lets the upper bits reach the lower ones.
        Self(product ^ (product >> 32))
    }

    /// The finalizer of splitmix64: every bit of the sum reaches every bit of the seal. To fold the
    /// halves would not do, it undoes the last step above.
    fn finish(self) -> i64 {
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        i64::from((mixed >> 32) as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pin() -> StoredPin {
        StoredPin {
            id: "{3F9C1E52-7B0D-4E7A-9C44-0D5B6A1E8F21}".into(),
            backend: "up01".into(),
            backend_session: None,
            target: TargetHash(0xdead_beef),
            created: Timestamp(1_700_000_000_000),
            subject: None,
            spelling: None,
        }
    }

    fn bound(last: u8) -> StoredPin {
        let mut digest = [7; 16];
        digest[15] = last;
        StoredPin { subject: Some(Subject::new(digest)), ..pin() }
    }

    #[test]
    fn a_subject_is_read_as_it_was_written() {
        for subject in [[0; 16], [255; 16], [7; 16]] {
            assert_eq!(subject_from_text(&subject_text(subject)), Some(subject));
        }
        for none in ["", "07", "+7070707070707070707070707070707", &"x".repeat(32)] {
            assert_eq!(subject_from_text(none), None, "{none:?}");
        }
    }

    #[test]
    fn every_column_is_under_the_seal() {
        let seal = pin().as_row().seal(7);
        let others = [
            StoredPin { id: "{3F9C1E52-7B0D-4E7A-9C44-0D5B6A1E8F20}".into(), ..pin() },
            StoredPin { backend: "up02".into(), ..pin() },
            StoredPin { backend_session: Some(String::new()), ..pin() },
            StoredPin { backend_session: Some("x".into()), ..pin() },
            StoredPin { target: TargetHash(0xdead_beee), ..pin() },
            StoredPin { created: Timestamp(1_700_000_000_001), ..pin() },
            bound(0),
            bound(1),
        ];
        for other in others {
            assert_ne!(other.as_row().seal(7), seal, "{other:?}");
        }
        assert_ne!(bound(0).as_row().seal(7), bound(1).as_row().seal(7));
        assert_ne!(pin().as_row().seal(8), seal);
        assert_eq!(pin().as_row().seal(7), seal);
    }

    #[test]
    fn every_bit_of_a_number_is_under_the_seal() {
        let seal = pin().as_row().seal(7);
        for bit in 0..64 {
            let target = StoredPin { target: TargetHash(0xdead_beef ^ (1 << bit)), ..pin() };
            let created = StoredPin { created: Timestamp(1_700_000_000_000 ^ (1 << bit)), ..pin() };
            assert_ne!(target.as_row().seal(7), seal, "bit {bit}");
            assert_ne!(created.as_row().seal(7), seal, "bit {bit}");
            assert_ne!(pin().as_row().seal(7 ^ (1 << bit)), seal, "bit {bit}");
        }
    }

    #[test]
    fn every_column_of_progress_is_under_the_seal() {
        let progress = |id: &str, created, milestone| StoredProgress {
            id: id.to_owned(),
            created: Timestamp(created),
            milestone,
        };
        let seal = progress("a", 5, Milestone::Complete(9)).seal(7);
        for other in [
            progress("b", 5, Milestone::Complete(9)),
            progress("a", 6, Milestone::Complete(9)),
            progress("a", 5, Milestone::Complete(8)),
            progress("a", 5, Milestone::Ending(9)),
            progress("a", 5, Milestone::Untouched),
        ] {
            assert_ne!(other.seal(7), seal, "{other:?}");
        }
        assert_ne!(progress("a", 5, Milestone::Complete(9)).seal(8), seal);
        let largest = Milestone::LARGEST;
        for milestone in [
            Milestone::Untouched,
            Milestone::Ending(1),
            Milestone::Ending(largest),
            Milestone::Complete(1),
            Milestone::Complete(largest),
        ] {
            assert_eq!(Milestone::from_number(milestone.number()), milestone);
        }
        // No number that somebody wrote makes it panic.
        assert_eq!(Milestone::from_number(i64::MIN), Milestone::Ending(1 << 63));
    }

    #[test]
    fn every_column_of_a_spelling_is_under_the_seal() {
        let spelled = |id: &str, created, spelling: &str| {
            let (id, created) = (id.to_owned(), Timestamp(created));
            StoredSpelling { id, created, spelling: spelling.to_owned() }
        };
        let seal = spelled("a", 5, "/%61").seal(7);
        for other in [spelled("b", 5, "/%61"), spelled("a", 6, "/%61"), spelled("a", 5, "/%62")] {
            assert_ne!(other.seal(7), seal, "{other:?}");
        }
        assert_ne!(spelled("a", 5, "/%61").seal(8), seal);
    }

    #[test]
    fn every_column_of_an_event_is_under_the_seal() {
        let event = |at, process, number, kind: &str, body: &str| {
            let (kind, body) = (kind.to_owned(), body.to_owned());
            StoredEvent { at: Timestamp(at), process, number, kind, body }
        };
        let seal = event(1, 2, 3, "store", "{}").seal(7);
        for other in [
            event(2, 2, 3, "store", "{}"),
            event(1, 3, 3, "store", "{}"),
            event(1, 2, 4, "store", "{}"),
            event(1, 2, 3, "storm", "{}"),
            event(1, 2, 3, "store", "[]"),
        ] {
            assert_ne!(other.seal(7), seal, "{other:?}");
        }
        assert_ne!(event(1, 2, 3, "store", "{}").seal(8), seal);
    }

    #[test]
    fn columns_do_not_run_into_each_other() {
        let one = StoredPin { id: "ab".into(), backend: "c".into(), ..pin() };
        let other = StoredPin { id: "a".into(), backend: "bc".into(), ..pin() };
        assert_ne!(one.as_row().seal(1), other.as_row().seal(1));
    }

    #[test]
    fn an_id_is_found_again_in_every_spelling() {
        let id = SessionId::parse("3f9c1e52-7b0d-4e7a-9c44-0d5b6a1e8f21").unwrap();
        assert!(is_of(&pin().id, id.key()));
        assert_eq!(text_of(id.key()), pin().id);
        let own = SessionId::parse("own-Id").unwrap();
        assert!(is_of("own-Id", own.key()) && !is_of("own-id", own.key()));
        assert_eq!(text_of(own.key()), "own-Id");
    }
}
