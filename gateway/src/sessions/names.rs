//! What uploads are called, beyond the memory of the process: path and client, in the store.
//!
//! Written when a live upload is new, once for each session and process, and read when somebody asks;
//! so no packet waits for it, and it takes no memory. Who is asked for by a digest, has none shown.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use foldhash::quality::RandomState;
use gateway_core::protocol::SessionKey;
use gateway_core::session::Timestamp;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::Sessions;
use super::listing::Filter;
use super::record::NAMED;
use super::store::{Keep, StoredName};
use super::view::Row;
use crate::base::clock;

/// A row from further ahead was written by a clock that was wrong.
const AHEAD: Duration = Duration::from_secs(24 * 60 * 60);

/// What is kept of paths and clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NamesMode {
    Off,
    Hashed,
    On,
}

/// How they are kept.
pub(super) struct Names {
    how: How,
    keep: Duration,
}

enum How {
    Off {
        /// There may be some of before.
        clear: bool,
    },
    Hashed([u8; 32]),
    On,
}

/// What is stored of an upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    pub path: Option<Box<str>>,
    pub client: Option<IpAddr>,
}

/// Sessions whose stored names are what a filter asks for, each with when it was created.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Named {
    paths: HashMap<SessionKey, Timestamp, RandomState>,
    clients: HashMap<SessionKey, Timestamp, RandomState>,
}

impl Named {
    pub(super) fn has_path(&self, key: &SessionKey, created: Timestamp) -> bool {
        self.paths.get(key) == Some(&created)
    }

    pub(super) fn has_client(&self, key: &SessionKey, created: Timestamp) -> bool {
        self.clients.get(key) == Some(&created)
    }

    pub(super) fn by_path(&self) -> impl Iterator<Item = &SessionKey> {
        self.paths.keys()
    }
}

/// Whether a path is meant by what was asked for.
pub(super) fn holds(path: &str, wanted: &str) -> bool {
    path.to_ascii_lowercase().contains(&wanted.to_ascii_lowercase())
}

impl Sessions {
    /// Keeps names from now on, in the store in the directory `folder`. The first call counts. Those
    /// that another setting kept go.
    pub fn keep_names(&self, mode: NamesMode, keep: Duration, folder: &Path) {
        let off = How::Off { clear: self.store.may_have_names() };
        let how = match mode {
            NamesMode::Off => off,
            NamesMode::On => How::On,
            NamesMode::Hashed => match key_in(folder) {
                Ok(key) => How::Hashed(key),
                Err(error) => {
                    let folder = folder.display();
                    tracing::error!(%error, %folder, "names.key cannot be used: no names are kept");
                    off
                }
            },
        };
        let _ = self.names.set(Names { how, keep });
        self.age_names(clock::now());
    }

    pub(super) fn age_names(&self, now: Timestamp) {
        let Some(names) = self.names.get() else { return };
        let hashed = match names.how {
            // A store without any is not written to.
            How::Off { clear: false } => return,
            How::Off { clear: true } => None,
            How::Hashed(_) => Some(true),
            How::On => Some(false),
        };
        let until = Timestamp(now.0.saturating_add(AHEAD.as_millis() as u64));
        self.store.keep_names_soon(Keep { hashed, since: now.before(names.keep), until });
    }

    /// The upload is new among the live ones.
    pub(super) fn keep_name(&self, key: &SessionKey) {
        let Some(names) = self.names.get().filter(|names| names.keeps()) else {
            return;
        };
        let Some(upload) = self.live_uploads.find(key, clock::steady()) else { return };
        let client = upload.client.map(|client| client.to_canonical().to_string());
        let Some(mut session) = self.live.get_mut(key) else { return };
        if session.steady & NAMED == 0 {
            session.steady |= NAMED;
            let (path, client) = (&*upload.path, client.as_deref().unwrap_or_default());
            // Under the lock, so that the end of the session comes behind it.
            self.store.name_soon(key, names.of(session.created, path, client));
        }
    }

    /// A filter that also means sessions by their stored names. Reads all of them, if it asks for a name;
    /// blocks.
    pub fn with_names(&self, filter: Filter) -> Filter {
        let (path, client) = (&filter.path, filter.client.map(|client| client.to_canonical()));
        let Some(names) = self.names.get().filter(|names| names.keeps()) else {
            return filter;
        };
        if path.is_none() && client.is_none() {
            return filter;
        }
        let path = path.as_deref().map(|path| names.text(path));
        let client = client.map(|client| names.text(&client.to_string()));
        let mut named = Named::default();
        let read = self.store.each_name(&mut |key, name| {
            if path.as_ref().is_some_and(|path| names.is_path(name, path)) {
                named.paths.insert(key.clone(), name.created);
            }
            if client.as_ref().is_some_and(|client| names.is_ours(name) && name.client == *client) {
                named.clients.insert(key.clone(), name.created);
            }
        });
        if let Err(error) = read {
            tracing::warn!(%error, "stored names cannot be read");
        }
        Filter { named, ..filter }
    }

    /// Adds what is stored of those that are not live. Blocks.
    pub fn add_names(&self, rows: &mut [Row]) {
        if !self.names.get().is_some_and(|names| matches!(names.how, How::On)) {
            return;
        }
        let asleep: Vec<&mut Row> = rows.iter_mut().filter(|row| row.live.is_none()).collect();
        if asleep.is_empty() {
            return;
        }
        let wanted: Vec<_> = asleep.iter().map(|row| (row.key.clone(), row.pin.created)).collect();
        match self.store.names_of(&wanted) {
            Ok(found) => {
                for (row, name) in asleep.into_iter().zip(found) {
                    row.name = name.filter(|name| !name.hashed).map(|name| Name {
                        path: (!name.path.is_empty()).then(|| name.path.into_boxed_str()),
                        client: name.client.parse().ok(),
                    });
                }
            }
            Err(error) => tracing::warn!(%error, "stored names cannot be read"),
        }
    }
}

impl Names {
    fn keeps(&self) -> bool {
        !matches!(self.how, How::Off { .. })
    }

    fn of(&self, created: Timestamp, path: &str, client: &str) -> StoredName {
        let text = |text: &str| if text.is_empty() { String::new() } else { self.text(text) };
        StoredName {
            created,
            stored: clock::now(),
            hashed: matches!(self.how, How::Hashed(_)),
            path: text(path),
            client: text(client),
        }
    }

    /// What is stored of a text. Of digests, the case of its letters counts for nothing, as nowhere else.
    fn text(&self, text: &str) -> String {
        match &self.how {
            How::Off { .. } | How::On => text.to_owned(),
            How::Hashed(key) => {
                let digest =
                    Sha256::new().chain_update(key).chain_update(text.to_ascii_lowercase());
                digest.finalize()[..16].iter().map(|byte| format!("{byte:02x}")).collect()
            }
        }
    }

    fn is_ours(&self, name: &StoredName) -> bool {
        name.hashed == matches!(self.how, How::Hashed(_))
    }

    fn is_path(&self, name: &StoredName, wanted: &str) -> bool {
        self.is_ours(name)
            && match self.how {
                How::Hashed(_) => name.path == wanted,
                How::Off { .. } | How::On => holds(&name.path, wanted),
            }
    }
}

/// The key of digests. It stands beside the database, so that a copy of that alone tells nobody which
/// paths somebody has guessed.
fn key_in(folder: &Path) -> io::Result<[u8; 32]> {
    let path = folder.join("names.key");
    let new = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
    match new {
        Ok(mut file) => {
            let halves = [Uuid::new_v4(), Uuid::new_v4()].map(Uuid::into_bytes);
            file.write_all(&halves.concat())?;
            file.sync_all()?;
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    let mut key = [0; 32];
    OpenOptions::new().read(true).open(&path)?.read_exact(&mut key)?;
    Ok(key)
}

#[cfg(test)]
#[path = "names_tests.rs"]
mod tests;
