//! What is running.

pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The revision of the sources, where the build was told (`BITSGW_REVISION`).
pub const REVISION: &str = match option_env!("BITSGW_REVISION") {
    Some(revision) => revision,
    None => "unknown",
};

/// What `rustc --version` said.
pub const RUSTC: &str = env!("BITSGW_RUSTC");
