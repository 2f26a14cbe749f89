//! What is running.

pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The revision of the sources, where the build was told (`BITSGW_REVISION`); else `unknown`.
pub const REVISION: &str = env!("BITSGW_REVISION");

/// Both, for `--version`.
pub const VERSION_AND_REVISION: &str =
    concat!(env!("CARGO_PKG_VERSION"), " (revision ", env!("BITSGW_REVISION"), ")");

/// What `rustc --version` said.
pub const RUSTC: &str = env!("BITSGW_RUSTC");
