//! Where sessions are kept.

use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

use super::Checked;
use crate::config::draft::Draft;
use crate::config::report::{Finding, Report};
use crate::config::store::StoreKind;

pub fn memory_keeps_nothing(draft: &Draft, report: &mut Report) -> Checked {
    let store = draft.once("store");
    if store.get::<StoreKind>("kind")? == StoreKind::Memory {
        for key in ["path", "sync", "on_error", "slow", "names", "names_keep"] {
            if let Some(place) = store.place_of(key) {
                let finding = Finding::warning(format!("`store.{key}` has no effect"));
                let label = "this is for kind = \"sqlite\", and kind is \"memory\"";
                report.add(finding.at(place, label));
            }
        }
    }
    Ok(())
}

/// Whether this user could keep sessions there. Only a warning: the gateway may run as another one.
pub fn place(draft: &Draft, report: &mut Report) -> Checked {
    let store = draft.once("store");
    if store.get::<StoreKind>("kind")? != StoreKind::Sqlite {
        return Ok(());
    }
    let path: PathBuf = store.get("path")?;
    if let Err(error) = can_write(&path) {
        let message = format!("this user cannot keep sessions in {}: {error}", path.display());
        let place = store.place_of("path").or_else(|| store.near("kind"));
        let finding = Finding::warning(message).at(place, "the gateway would not start");
        report.add(finding.help(how_to_go_on(&path)));
    }
    Ok(())
}

/// For somebody whose gateway may not write to `path`.
pub fn how_to_go_on(path: &Path) -> String {
    format!(
        "make {} a directory that belongs to the user who runs the gateway, or name another one \
         with `path` in [store]; kind = \"memory\" there keeps nothing, and a restart then costs \
         running uploads",
        path.display()
    )
}

/// Looks without making anything.
fn can_write(path: &Path) -> io::Result<()> {
    let mut there = path;
    while !there.exists() {
        there = match there.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
    }
    if !there.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    Ok(access(there, Access::WRITE_OK | Access::EXEC_OK)?)
}
