//! Where the programs under test are.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// `bits-gateway`, from `BITS_GATEWAY_BIN` or the target directory of the running test.
pub fn gateway() -> PathBuf {
    find("bits-gateway", "BITS_GATEWAY_BIN")
}

/// `backend-stub`, from `BACKEND_STUB_BIN` or the target directory of the running test.
pub fn backend_stub() -> PathBuf {
    find("backend-stub", "BACKEND_STUB_BIN")
}

/// A program of another project.
#[track_caller]
pub fn foreign(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Debian keeps servers out of the PATH of users, and `tests/run` unpacks what is not installed.
    let more = ["/usr/sbin", concat!(env!("CARGO_MANIFEST_DIR"), "/../target/tools")];
    std::env::split_paths(&path)
        .chain(more.map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|program| program.is_file())
        .unwrap_or_else(|| panic!("there is no {name}: tests/run and tests/field see to it"))
}

/// A library to be preloaded.
#[track_caller]
pub fn library(name: &str, package: &str) -> String {
    let mut folders = std::fs::read_dir("/usr/lib").expect("a directory");
    let found = folders.find_map(|folder| {
        let library = folder.ok()?.path().join(name);
        library.is_file().then_some(library)
    });
    let found = found.unwrap_or_else(|| panic!("{name} is missing: apt-get install {package}"));
    found.to_str().expect("a plain path").to_owned()
}

fn find(name: &str, variable: &str) -> PathBuf {
    if let Some(path) = std::env::var_os(variable) {
        let path = PathBuf::from(path);
        assert!(path.is_file(), "{variable} points to {}, which does not exist", path.display());
        return path;
    }
    let path = profile_dir().join(name);
    if !path.is_file() {
        build_once();
    }
    assert!(
        path.is_file(),
        "{} does not exist and building it did not help; run `cargo build -p {name}` or set {variable}",
        path.display()
    );
    path
}

/// `target/debug` for a test executable in `target/debug/deps`.
fn profile_dir() -> PathBuf {
    let exe = std::env::current_exe().expect("a running program has a path");
    exe.parent()
        .and_then(Path::parent)
        .expect("cargo puts test executables two levels deep")
        .to_path_buf()
}

/// One build for all tests of this process: parallel ones would only wait for each other's lock.
fn build_once() {
    static BUILT: OnceLock<()> = OnceLock::new();
    BUILT.get_or_init(|| {
        let profile = profile_dir();
        let target = profile.parent().expect("a profile lies in a target dir");
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command
            .args(["build", "-p", "bits-gateway", "-p", "backend-stub"])
            .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
            .env("CARGO_TARGET_DIR", target);
        if profile.ends_with("release") {
            command.arg("--release");
        }
        let status = command.status().expect("cargo can be started");
        assert!(status.success(), "building the programs under test failed: {status}");
    });
}
