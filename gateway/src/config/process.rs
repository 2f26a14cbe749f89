//! `[process]`: what a process is made of.

use super::keys::{Key, Preset, Section, Shape};
use super::kind::{Kind, Value};
use super::names::Choice;

const UPGRADE_SOCKET: &[Choice] = &[
    Choice {
        name: "auto",
        about: "`upgrade.sock` in the runtime directory that the service manager has made \
                (`$RUNTIME_DIRECTORY`), or else in the directory of the store, if there is one",
    },
    Choice { name: "off", about: "no such socket: the gateway cannot be upgraded while it runs" },
];

pub(super) const SECTION: Section = Section {
    name: "process",
    shape: Shape::Once,
    about: "The process itself.",
    keys: &[
        Key {
            name: "threads",
            kind: Kind::Integer { min: 1, max: 1024 },
            preset: Preset::Depends {
                on: "the number of cores that the process may use",
                sample: "2",
            },
            about: "Threads that carry traffic.",
        },
        Key {
            name: "upgrade_socket",
            kind: Kind::WordOr(UPGRADE_SOCKET, &Kind::Path),
            preset: Preset::Is(Value::Word("auto")),
            about: "Where a new process (`run --upgrade`) asks the running one for its \
                    listening sockets. Not in a directory into which everybody may write. \
                    A path has a slash in it and at most 107 bytes.",
        },
        Key {
            name: "watch_config",
            kind: Kind::Bool,
            preset: Preset::Is(Value::Bool(false)),
            about: "Whether a change of the configuration file is taken over at once, as \
                    after SIGHUP. A file that cannot be used changes nothing.",
        },
    ],
    later: &["user", "group", "pid_file"],
};
