//! A changed configuration, taken over by a gateway with uploads under way.
//!
//! [`backends`]: servers that leave, come back and move. [`ways`]: signal, file, command, and what each of them says.
//! [`dry_run`]: what is said before it takes place. [`effects`]: what counts from the next request on. [`certificates`]: what is in other files.

mod backends;
mod certificates;
mod dry_run;
mod effects;
mod ways;

use std::process::{Command, Output};

use e2e_tests::binaries;
use e2e_tests::client::FragmentSizes;
use e2e_tests::farm::{Farm, FarmBuilder};
use e2e_tests::temp::TempDir;
use serde_json::Value;

const PIECES: FragmentSizes = FragmentSizes::Fixed(10_000);

/// A farm whose gateway takes commands.
struct Operated {
    farm: Farm,
    socket: String,
    _folder: TempDir,
}

impl Operated {
    fn start(farm: FarmBuilder) -> Self {
        let folder = TempDir::new("reload");
        let socket = folder.path().join("admin.sock").display().to_string();
        let farm = farm.set("admin.socket", &format!("{socket:?}")).start();
        Self { farm, socket, _folder: folder }
    }

    fn type_in(&self, words: &[&str]) -> Output {
        Command::new(binaries::gateway())
            .args(words)
            .args(["--admin", &format!("unix:{}", self.socket)])
            .output()
            .expect("the gateway's binary runs")
    }

    /// What `backends list` says of one; `None` if it does not name it.
    #[track_caller]
    fn backend(&self, name: &str) -> Option<Value> {
        let output = self.type_in(&["backends", "list", "--json"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let answer: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let backends = answer["backends"].as_array().expect("a list");
        backends.iter().find(|backend| backend["name"] == name).cloned()
    }
}
