//! The section `[store]`: what keeps sessions beyond the process.

use std::path::PathBuf;
use std::time::Duration;

use super::draft::{Broken, SectionValues};
use super::keys::{Applies, DefaultValue, Key, Section, Shape, TIMEOUT, word};
use super::kind::Kind;
use super::names::{Named, named};
use crate::sessions::names::NamesMode;
use crate::sessions::store::{OnError, SyncMode};

pub const SECTION: Section = Section {
    name: "store",
    shape: Shape::Once,
    about: "What keeps sessions, and what operators decided about backends, when the gateway \
            is restarted or dies. It is written at the start and at the end of an upload, and \
            no Fragment waits for it.",
    keys: &[
        Key {
            name: "kind",
            kind: Kind::Word { choices: StoreKind::CHOICES, later: &["redis"] },
            default: DefaultValue::word("sqlite"),
            applies: Applies::Restart,
            about: "Where they are kept.",
        },
        Key {
            name: "path",
            kind: Kind::Path,
            // Where a service keeps its state (FHS 3.0, 5.8).
            default: DefaultValue::text("/var/lib/bits-gateway"),
            applies: Applies::Restart,
            about: "A directory of this gateway's own, on a local disk; it is made if it is \
                    missing. The user that runs the gateway must be able to write there, and \
                    nobody else may enter it (mode 0700), because session ids are secrets. \
                    1,000,000 sessions take about 100 MB.",
        },
        Key {
            name: "sync",
            kind: word::<SyncMode>(),
            default: DefaultValue::word("power"),
            applies: Applies::Restart,
            about: "What a session has to survive from the moment its client knows it.",
        },
        Key {
            name: "names",
            kind: word::<NamesMode>(),
            default: DefaultValue::word("off"),
            applies: Applies::Restart,
            about: "Whether path and client of an upload are kept beside its session, so that \
                    `sessions list` and `sessions show` have them after a restart too. They are \
                    personal data where users' names stand in them.",
        },
        Key {
            name: "names_keep",
            kind: Kind::Duration {
                min: Duration::from_secs(60),
                max: Duration::from_secs(365 * 24 * 60 * 60),
                whole_seconds: false,
            },
            // What an operator may still ask about at the end of a month, and no longer.
            default: DefaultValue::days(30),
            applies: Applies::Restart,
            about: "Path and client are dropped so long after they were written, whether the \
                    upload goes on or not. They are dropped with its session as well.",
        },
        Key {
            name: "on_error",
            kind: word::<OnError>(),
            default: DefaultValue::word("refuse"),
            applies: Applies::Restart,
            about: "What becomes of a new session that cannot be written. With \"accept\" \
                    the gateway also starts with a disk that it cannot write.",
        },
        Key {
            name: "slow",
            kind: TIMEOUT,
            // A busy disk takes some hundred milliseconds. What has taken so long may take minutes, and no
            // client shall wait for those.
            default: DefaultValue::seconds(2),
            applies: Applies::Restart,
            about: "A write that takes longer than this is not waited for where the gateway \
                    can do without it: the Close-Session of an upload waits so long until the \
                    size of the file is stored, and then goes to its server. While no write \
                    comes back for so long, new uploads are refused.",
        },
    ],
    later: &[],
};

/// What keeps sessions beyond the process.
#[derive(Debug, Clone, PartialEq)]
pub enum Store {
    /// Nothing does.
    Memory,
    Sqlite(SqliteStore),
}

#[derive(Debug, Clone, PartialEq)]
pub struct SqliteStore {
    /// A directory.
    pub path: PathBuf,
    pub sync: SyncMode,
    pub on_error: OnError,
    /// How long a commit may take before what can do without it does.
    pub slow: Duration,
    /// What is kept of paths and clients.
    pub names: NamesMode,
    pub names_keep: Duration,
}

/// The words for the variants of [`Store`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreKind {
    Sqlite,
    Memory,
}

pub(super) fn build(table: &SectionValues) -> Result<Store, Broken> {
    Ok(match table.get("kind")? {
        StoreKind::Memory => Store::Memory,
        StoreKind::Sqlite => Store::Sqlite(SqliteStore {
            path: table.get("path")?,
            sync: table.get("sync")?,
            on_error: table.get("on_error")?,
            slow: table.get("slow")?,
            names: table.get("names")?,
            names_keep: table.get("names_keep")?,
        }),
    })
}

named!(StoreKind {
    Sqlite = "sqlite": "a database in the directory `path`, for one gateway; it can be read with `sqlite3`",
    Memory = "memory": "nowhere else: a restart forgets every session",
});

named!(NamesMode {
    Off = "off": "nothing: paths and clients are in memory, and those that an earlier setting kept are deleted at the start",
    Hashed = "hashed": "a keyed digest of each: `--path` and `--client` find an upload by the exact value, and nothing of it is shown; the key is in `names.key` beside the database, and in no copy that `store backup` makes",
    On = "on": "as they are",
});

named!(SyncMode {
    Power = "power": "on the disk before the client gets the session id: survives a power cut",
    Crash = "crash": "with the system before the client gets it: survives the death of the gateway, and a power cut may take the last moment",
});

named!(OnError {
    Refuse = "refuse": "503: the client tries again later; sessions that are known go on",
    Accept = "accept": "it goes on, and a restart before the disk is back forgets it",
});
