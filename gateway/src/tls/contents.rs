//! What was in the files that something is made of.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use sha2::{Digest, Sha256};
use tokio_rustls::rustls::RootCertStore;

use super::identity::Identity;

/// What changes when a file does: device, inode, size, and both times in nanoseconds.
pub type Stamp = Option<(u64, u64, u64, i128, i128)>;

/// What was read, and what is to be known of it afterwards.
#[derive(Debug, Clone, Default)]
pub struct Contents {
    /// What the files were like just before they were read.
    pub stamps: Vec<Stamp>,
    /// The certificates with a key.
    pub identities: Vec<Identity>,
    /// Of everything that counts for a handshake.
    pub digest: [u8; 32],
}

/// When a certificate ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expiry {
    pub path: PathBuf,
    /// Unix time, in seconds.
    pub at: i64,
}

impl Contents {
    pub fn new(stamps: Vec<Stamp>, identities: Vec<Identity>, roots: &RootCertStore) -> Self {
        let mut digest = Sha256::new();
        let mut add = |bytes: &[u8]| {
            digest.update(bytes.len().to_be_bytes());
            digest.update(bytes);
        };
        // Not the keys: a certificate is for one only.
        for identity in &identities {
            add(b"certificate");
            identity.certified.cert.iter().for_each(|der| add(der));
        }
        for root in &roots.roots {
            add(b"authority");
            add(&root.subject);
            add(&root.subject_public_key_info);
            add(root.name_constraints.as_deref().unwrap_or_default());
        }
        Self { digest: digest.finalize().into(), stamps, identities }
    }

    /// When the files end to be of use. Authorities have no end: who is trusted is so until it is
    /// taken out of its file (RFC 5280 6.1.1 d).
    pub fn expiries(&self) -> Vec<Expiry> {
        let one =
            |identity: &Identity| Expiry { path: identity.path.clone(), at: identity.expires() };
        self.identities.iter().map(one).collect()
    }
}

/// What the files are like now.
pub fn stamps(files: &[PathBuf]) -> Vec<Stamp> {
    let nanos = |seconds: i64, nanos: i64| i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
    let stamp = |path: &PathBuf| {
        // Through links: that is how whole directories of secrets are replaced at once.
        let file = std::fs::metadata(path).ok()?;
        let modified = nanos(file.mtime(), file.mtime_nsec());
        let changed = nanos(file.ctime(), file.ctime_nsec());
        Some((file.dev(), file.ino(), file.size(), modified, changed))
    };
    files.iter().map(stamp).collect()
}
