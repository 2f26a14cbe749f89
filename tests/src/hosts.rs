//! A file of hosts of a program's own, for names that lead where a test says. It needs no root: the program resolves
//! names by `libnss_wrapper.so`.

use std::fs;
use std::net::Ipv4Addr;
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use crate::binaries::library;
use crate::farm::FarmBuilder;
use crate::temp::TempDir;

/// Deleted when it is dropped.
pub struct Hosts {
    folder: TempDir,
    written: Mutex<SystemTime>,
}

impl Default for Hosts {
    fn default() -> Self {
        Self { folder: TempDir::new("hosts"), written: Mutex::new(SystemTime::UNIX_EPOCH) }
    }
}

impl Hosts {
    /// From now on these are all the names, with all their addresses.
    pub fn set(&self, names: &[(&str, &[Ipv4Addr])]) {
        let line = |name: &str, address: &Ipv4Addr| format!("{address} {name}\n");
        let lines = names.iter().flat_map(|(name, all)| all.iter().map(move |at| line(name, at)));
        let new = self.folder.join("hosts.new");
        fs::write(&new, lines.collect::<String>()).expect("a file can be written");
        // Its reader looks at whole seconds, and must not find half a file.
        let mut written = self.written.lock().expect("no test panics here");
        *written += Duration::from_secs(2);
        let file = fs::File::options().write(true).open(&new).expect("it is there");
        file.set_modified(*written).expect("it is ours");
        fs::rename(&new, self.folder.join("hosts")).expect("it can be replaced");
    }

    /// The gateway resolves by it.
    pub fn obeyed_by(&self, farm: FarmBuilder) -> FarmBuilder {
        let (name, value) = self.variable();
        farm.env("LD_PRELOAD", &preloaded()).env(name, &value)
    }

    /// What a program needs in its environment besides [`preloaded`].
    pub fn variable(&self) -> (&'static str, String) {
        let file = self.folder.join("hosts");
        ("NSS_WRAPPER_HOSTS", file.to_str().expect("a plain path").to_owned())
    }
}

/// What a program has to preload.
#[track_caller]
pub fn preloaded() -> String {
    library("libnss_wrapper.so", "libnss-wrapper")
}
