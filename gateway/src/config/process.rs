//! The section `[process]`: what a process is made of.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::draft::{Broken, SectionValues};
use super::keys::DefaultValue;
use super::kind::{Kind, Value};
use super::names::Choice;
use super::section::section;

const UPGRADE_SOCKET: &[Choice] = &[
    Choice {
        name: "auto",
        about: "`upgrade.sock` in the runtime directory that the service manager has made \
                (`$RUNTIME_DIRECTORY`), or else in the directory of the store, if there is one",
    },
    Choice { name: "off", about: "no such socket: the gateway cannot be upgraded while it runs" },
];

section! {
    pub struct Process in "process";
    about: "The process itself.";
    later: &["user", "group", "pid_file"];

    threads: usize {
        kind: Kind::Integer { min: 1, max: 1024 },
        default: DefaultValue::Depends {
            on: "the number of cores that the process may use",
            sample: "2",
        },
        applies: Restart,
        about: "Threads that carry traffic.",
    }

    upgrade_socket: UpgradeSocket = upgrade_socket {
        kind: Kind::WordOr(UPGRADE_SOCKET, &Kind::Path),
        default: DefaultValue::word("auto"),
        applies: Restart,
        about: "Where a new process (`run --upgrade`) asks the running one for its listening \
                sockets. Not in a directory into which everybody may write. A path has a slash in \
                it and at most 107 bytes.",
    }

    /// Whether a change of the file is a reload.
    watch_config: bool {
        kind: Kind::Bool,
        default: DefaultValue::bool(false),
        applies: Restart,
        about: "Whether a change of the configuration file is taken over at once, as after SIGHUP. \
                A file that cannot be used changes nothing.",
    }
}

fn upgrade_socket(table: &SectionValues, key: &str) -> Result<UpgradeSocket, Broken> {
    Ok(match table.value(key)? {
        Some(Value::Path(path)) => UpgradeSocket::Path(path.clone()),
        Some(Value::Word("off")) => UpgradeSocket::Off,
        _ => UpgradeSocket::Auto,
    })
}

/// Where a successor asks for the listening sockets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UpgradeSocket {
    Auto,
    Off,
    Path(PathBuf),
}

impl UpgradeSocket {
    /// Whether nobody has said where it is to be.
    pub fn is_auto(&self) -> bool {
        *self == Self::Auto
    }

    /// `runtime` is `$RUNTIME_DIRECTORY`, in which systemd separates several by colons; `store` is
    /// the directory of the store.
    pub fn path(&self, runtime: Option<&OsStr>, store: Option<&Path>) -> Option<PathBuf> {
        match self {
            Self::Off => None,
            Self::Path(path) => Some(path.clone()),
            Self::Auto => {
                let first = |list: &OsStr| {
                    let list = list.as_bytes();
                    let end = list.iter().position(|&byte| byte == b':').unwrap_or(list.len());
                    PathBuf::from(OsStr::from_bytes(&list[..end]))
                };
                let runtime = runtime.filter(|list| !list.is_empty()).map(first);
                let directory = runtime.or_else(|| store.map(Path::to_path_buf))?;
                Some(directory.join("upgrade.sock"))
            }
        }
    }
}
