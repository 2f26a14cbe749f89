//! Where a backend listens.

use std::fmt;

/// Where a backend listens: a name to resolve or an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackendAddress {
    /// As in a URL: an IPv6 address has its brackets.
    pub host: String,
    pub port: u16,
}

impl BackendAddress {
    /// As a `Host` field says it: without the port of the scheme.
    pub fn authority(&self, tls: bool) -> String {
        match (self.port, tls) {
            (80, false) | (443, true) => self.host.clone(),
            _ => self.to_string(),
        }
    }
}

impl fmt::Display for BackendAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}
