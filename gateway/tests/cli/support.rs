//! Runs the binary with a file and nothing of our environment.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// A listener and a backend, to which tests add what they are about. It ends in the section
/// `[[backends]]`, so that keys of a backend can follow.
pub const SMALLEST: &str = r#"[listeners.public]
address = "127.0.0.1:0"
[[backends]]
name = "up01"
address = "10.0.0.11:80"
"#;

pub struct Output {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

/// A file called `gw.toml` in a directory of its own, so that pictures are the same everywhere.
pub struct Place {
    directory: TempDir,
}

impl Place {
    pub fn with(text: impl AsRef<[u8]>) -> Self {
        let directory = TempDir::new().unwrap();
        std::fs::write(directory.path().join("gw.toml"), text).unwrap();
        Self { directory }
    }

    pub fn empty() -> Self {
        Self { directory: TempDir::new().unwrap() }
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        self.run_with(arguments, &[])
    }

    pub fn run_with(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bits-gateway"));
        command.args(arguments).current_dir(self.directory.path()).env_clear();
        let text = std::fs::read_to_string(self.directory.path().join("gw.toml"));
        if !text.is_ok_and(|text| text.contains("[store]")) {
            // Whether the tests may write to the default is not what they ask.
            command.env("BITSGW__STORE__PATH", "./store");
        }
        let output = command.envs(environment.iter().copied()).output().unwrap();
        Output {
            code: output.status.code().unwrap(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    pub fn check(&self) -> Output {
        self.run(&["check", "--portable", "--config", "gw.toml"])
    }
}

/// The repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Compares without regard to white space at line ends.
#[track_caller]
pub fn assert_text(actual: &str, expected: &str) {
    let plain = |text: &str| {
        let lines: Vec<String> = text.trim().lines().map(|line| line.trim_end().into()).collect();
        lines.join("\n")
    };
    let (actual, expected) = (plain(actual), plain(expected));
    assert_eq!(actual, expected, "\n--- it printed ---\n{actual}\n------------------");
}
