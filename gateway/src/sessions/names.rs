//! Backends by the names under which sessions are stored.
//!
//! Ids are numbers of one process; on disk there are names only. A stored session may belong to a
//! backend that the configuration does not name any more: it gets an id behind those of the
//! configured ones, which no picture of the farm knows.

use std::sync::Arc;

use gateway_core::farm::BackendId;

pub struct Names {
    /// By backend id.
    all: Vec<Arc<str>>,
    configured: usize,
}

impl Names {
    /// `configured` are those of the configuration, by id.
    pub fn new(configured: impl IntoIterator<Item = Arc<str>>) -> Self {
        let all: Vec<_> = configured.into_iter().collect();
        Self { configured: all.len(), all }
    }

    /// The id of a backend, new if nobody has asked for it yet.
    pub fn intern(&mut self, name: &str) -> BackendId {
        let known = self.all.iter().position(|known| known.eq_ignore_ascii_case(name));
        let at = known.unwrap_or_else(|| {
            self.all.push(name.into());
            self.all.len() - 1
        });
        BackendId(u32::try_from(at).unwrap_or(u32::MAX))
    }

    /// Empty for an id that nobody was given.
    pub fn of(&self, id: BackendId) -> &str {
        self.all.get(id.0 as usize).map_or("", |name| name)
    }

    pub fn len(&self) -> usize {
        self.all.len()
    }

    pub fn all(&self) -> &[Arc<str>] {
        &self.all
    }

    pub fn is_configured(&self, id: BackendId) -> bool {
        (id.0 as usize) < self.configured
    }
}
