//! Which id stands for which backend.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use gateway_core::farm::BackendId;
use parking_lot::Mutex;

use crate::base::by_id::ById;

/// Gives every name of a backend an id that never changes for the life of the process. A name comes
/// from a configuration, or from a stored session whose backend no configuration names any more.
/// Case does not matter, as in host names.
#[derive(Debug, Default)]
pub struct BackendIds {
    names: ById<OnceLock<Arc<str>>>,
    /// By name in small letters.
    ids: Mutex<HashMap<String, BackendId>>,
}

impl BackendIds {
    /// In this order.
    pub fn of<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let ids = Self::default();
        for name in names {
            ids.intern(name);
        }
        ids
    }

    /// The id of a name, a new one if it has none.
    pub fn intern(&self, name: &str) -> BackendId {
        let mut ids = self.ids.lock();
        let key = name.to_ascii_lowercase();
        if let Some(id) = ids.get(&key) {
            return *id;
        }
        // Four billion names are more than fit into any file.
        let id = BackendId(u32::try_from(ids.len()).unwrap_or(u32::MAX));
        // Before anybody can learn the id.
        let _ = self.names.at(id).set(name.into());
        ids.insert(key, id);
        id
    }

    pub fn find(&self, name: &str) -> Option<BackendId> {
        self.ids.lock().get(&name.to_ascii_lowercase()).copied()
    }

    /// Takes no lock. Empty for an id that is none of ours.
    pub fn name(&self, id: BackendId) -> &str {
        self.names.get(id).and_then(OnceLock::get).map_or("", |name| name)
    }

    /// All names, in the order of the ids.
    pub fn iter(&self) -> impl Iterator<Item = (BackendId, &Arc<str>)> {
        self.names.iter().map_while(|(id, name)| Some((id, name.get()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_its_id_whoever_comes_after_it() {
        let ids = BackendIds::of(["b", "a"]);
        assert_eq!((ids.find("b"), ids.find("a")), (Some(BackendId(0)), Some(BackendId(1))));
        for n in 0..200 {
            ids.intern(&format!("more{n}"));
        }
        assert_eq!((ids.intern("a"), ids.find("A")), (BackendId(1), Some(BackendId(1))));
        assert_eq!(ids.name(BackendId(1)), "a");
        assert_eq!(ids.name(BackendId(201)), "more199");
        assert_eq!((ids.name(BackendId(202)), ids.find("none")), ("", None));
        let names: Vec<_> = ids.iter().take(2).map(|(_, name)| &**name).collect();
        assert_eq!((names, ids.iter().count()), (vec!["b", "a"], 202));
    }
}
