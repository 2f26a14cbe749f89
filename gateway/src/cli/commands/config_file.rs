//! Which file is the configuration.

use std::path::{Path, PathBuf};

/// What names it where the command line does not.
pub const VARIABLE: &str = "BITSGW_CONFIG";

/// Where packages put it.
pub const DEFAULT: &str = "/etc/bits-gateway/config.toml";

/// The file of a command that works with a configuration.
#[derive(Debug, Clone, clap::Args)]
pub struct ConfigFile {
    /// The configuration [default: $BITSGW_CONFIG, or /etc/bits-gateway/config.toml]
    #[arg(value_name = "FILE")]
    bare: Option<PathBuf>,
    /// The same, by name
    #[arg(long, value_name = "FILE", conflicts_with = "bare")]
    config: Option<PathBuf>,
}

impl ConfigFile {
    pub fn path(&self) -> PathBuf {
        let named = self.bare.clone().or_else(|| self.config.clone());
        named.or_else(from_environment).unwrap_or_else(|| DEFAULT.into())
    }
}

/// What the environment names.
pub fn from_environment() -> Option<PathBuf> {
    std::env::var_os(VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// Whether nobody has named this file.
pub fn is_default(path: &Path) -> bool {
    path == Path::new(DEFAULT)
}
