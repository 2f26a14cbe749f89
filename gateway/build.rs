//! Tells the program of which revision it is and which compiler built it, for `version`, `/version` and
//! `bitsgw_build_info`.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // Set by packaging. Asking git here would rebuild the program after every commit and would
    // say nothing in a source archive.
    println!("cargo::rerun-if-env-changed=BITSGW_REVISION");
    let revision = std::env::var("BITSGW_REVISION").unwrap_or_default();
    let revision = if revision.is_empty() { "unknown" } else { &revision };
    println!("cargo::rustc-env=BITSGW_REVISION={revision}");
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = Command::new(rustc).arg("--version").output().ok();
    let version = version.and_then(|output| String::from_utf8(output.stdout).ok());
    let version = version.as_deref().unwrap_or_default().trim();
    println!("cargo::rustc-env=BITSGW_RUSTC={version}");
}
