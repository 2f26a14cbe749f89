//! The section `[store]`: what keeps sessions beyond the process.

use std::borrow::Cow;
use std::time::Duration;

use super::StoreKind;
use super::defaults;
use super::keys::{Key, Preset, Section, Shape};
use super::kind::{Kind, Value};
use super::names::Named;
use super::sections::{TIMEOUT, span, word};
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
            preset: Preset::Is(Value::Word("sqlite")),
            about: "Where they are kept.",
        },
        Key {
            name: "path",
            kind: Kind::Path,
            preset: Preset::Is(Value::Text(Cow::Borrowed(defaults::STORE_PATH))),
            about: "A directory of this gateway's own, on a local disk; it is made if it is \
                    missing. The user that runs the gateway must be able to write there, and \
                    nobody else may enter it (mode 0700), because session ids are secrets. \
                    1,000,000 sessions take about 100 MB.",
        },
        Key {
            name: "sync",
            kind: word::<SyncMode>(),
            preset: Preset::Is(Value::Word("power")),
            about: "What a session has to survive from the moment its client knows it.",
        },
        Key {
            name: "names",
            kind: word::<NamesMode>(),
            preset: Preset::Is(Value::Word("off")),
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
            preset: span(defaults::NAMES_KEEP),
            about: "Path and client are dropped so long after they were written, whether the \
                    upload goes on or not. They are dropped with its session as well.",
        },
        Key {
            name: "on_error",
            kind: word::<OnError>(),
            preset: Preset::Is(Value::Word("refuse")),
            about: "What becomes of a new session that cannot be written. With \"accept\" \
                    the gateway also starts with a disk that it cannot write.",
        },
        Key {
            name: "slow",
            kind: TIMEOUT,
            preset: span(defaults::STORE_SLOW),
            about: "A write that takes longer than this is not waited for where the gateway \
                    can do without it: the Close-Session of an upload waits so long until the \
                    size of the file is stored, and then goes to its server. While no write \
                    comes back for so long, new uploads are refused.",
        },
    ],
    later: &[],
};
