//! Noticing that the configuration file is another.
//!
//! Directories are watched, not the file: editors and deployment tools put a new file in its place,
//! and Kubernetes swaps a symbolic link on the way to it.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;
use std::{fs, io, thread};

use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};

use crate::config::reload::{Reloader, Trigger};

/// Who writes a file in several steps is done with it when nothing has happened for that long.
const QUIET: Duration = Duration::from_millis(200);

/// As many as the kernel follows.
const LINKS: usize = 40;

#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    #[error("changes of files cannot be watched")]
    Notify(#[from] notify::Error),
    #[error("there is no thread to watch the configuration")]
    Thread(#[from] io::Error),
}

/// Reloads whenever the file is another, to the end of the process.
pub fn watch_config(reloader: Reloader) -> Result<(), WatchError> {
    let (sender, events) = channel();
    let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
        if event.as_ref().is_ok_and(|event| matches!(event.kind, EventKind::Access(_))) {
            // Our own reading, too.
            return;
        }
        // Nobody listens any more when the process ends.
        let _ = sender.send(());
    })?;
    let path = std::path::absolute(reloader.path())?;
    let mut watch = Watch { watcher, path, watched: BTreeSet::new() };
    watch.renew();
    thread::Builder::new().name("watch".to_owned()).spawn(move || {
        // It may have changed since it was read.
        reloader.reload_if_changed(Trigger::File);
        while quiet_again(&events) {
            watch.renew();
            reloader.reload_if_changed(Trigger::File);
        }
    })?;
    Ok(())
}

/// Waits for an event and the end of what it is a part of; `false` when none will come any more.
fn quiet_again(events: &Receiver<()>) -> bool {
    if events.recv().is_err() {
        return false;
    }
    loop {
        match events.recv_timeout(QUIET) {
            Ok(()) => {}
            Err(RecvTimeoutError::Timeout) => return true,
            Err(RecvTimeoutError::Disconnected) => return false,
        }
    }
}

struct Watch {
    watcher: RecommendedWatcher,
    path: PathBuf,
    watched: BTreeSet<PathBuf>,
}

impl Watch {
    /// Watches where the file is now. A swapped link leads into another directory, and one that
    /// was removed and made again is another with the same name: all are watched anew.
    fn renew(&mut self) {
        for directory in std::mem::take(&mut self.watched) {
            // Gone with its directory, most likely.
            let _ = self.watcher.unwatch(&directory);
        }
        for directory in directories(&self.path) {
            match self.watcher.watch(&directory, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    self.watched.insert(directory);
                }
                Err(error) => {
                    let directory = directory.display();
                    tracing::warn!(%directory, %error, "changes of the configuration may go unseen");
                }
            }
        }
    }
}

/// The directories in which a change of an entry makes `path` another file: that of the file, and
/// that of every symbolic link on the way.
fn directories(path: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut path = path.to_path_buf();
    for _ in 0..LINKS {
        match first_link(&path) {
            Some((directory, target, rest)) => {
                path = directory.join(target).join(rest);
                found.insert(directory);
            }
            None => {
                found.extend(path.parent().and_then(|parent| fs::canonicalize(parent).ok()));
                break;
            }
        }
    }
    found
}

/// The first symbolic link on an absolute path: the real directory that it is in, what it holds,
/// and what comes after it.
fn first_link(path: &Path) -> Option<(PathBuf, PathBuf, PathBuf)> {
    let mut real = PathBuf::new();
    let mut components = path.components();
    while let Some(component) = components.next() {
        match component {
            // What came before is no link, so this is the directory above.
            Component::ParentDir => {
                real.pop();
            }
            other => {
                let next = real.join(other);
                if let Ok(target) = fs::read_link(&next) {
                    return Some((real, target, components.as_path().to_path_buf()));
                }
                real = next;
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[track_caller]
    fn check(path: &Path, expected: &[&Path]) {
        let expected = expected.iter().map(|path| path.to_path_buf()).collect();
        assert_eq!(directories(path), expected);
    }

    #[test]
    fn every_directory_with_a_link_on_the_way_is_found() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let root = fs::canonicalize(folder.path()).expect("it is there");
        let at = |name: &str| root.join(name);
        for directory in ["mount/..one", "etc", "opt/v1/conf"] {
            fs::create_dir_all(at(directory)).expect("made");
        }
        fs::write(at("etc/plain.toml"), "").expect("written");
        check(&at("etc/plain.toml"), &[&at("etc")]);
        check(&at("etc/missing.toml"), &[&at("etc")]);

        // As Kubernetes does it.
        fs::write(at("mount/..one/gw.toml"), "").expect("written");
        symlink("..one", at("mount/..data")).expect("linked");
        symlink("..data/gw.toml", at("mount/gw.toml")).expect("linked");
        check(&at("mount/gw.toml"), &[&at("mount"), &at("mount/..one")]);

        // A directory that is a link, and a link with an absolute target.
        fs::write(at("opt/v1/conf/gw.toml"), "").expect("written");
        symlink("v1", at("opt/current")).expect("linked");
        symlink(at("opt/current/conf/gw.toml"), at("etc/gw.toml")).expect("linked");
        check(&at("etc/gw.toml"), &[&at("etc"), &at("opt"), &at("opt/v1/conf")]);
        check(&at("etc/../etc/gw.toml"), &[&at("etc"), &at("opt"), &at("opt/v1/conf")]);
    }

    #[test]
    fn links_that_run_in_a_circle_end_the_search() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let root = fs::canonicalize(folder.path()).expect("it is there");
        symlink("b", root.join("a")).expect("linked");
        symlink("a", root.join("b")).expect("linked");
        check(&root.join("a"), &[&root]);
    }
}
